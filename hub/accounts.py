"""Accounts, backends and components at run time: their states and their switches."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from hub.clock import Clock
from hub.documents import State
from hub.metrics import Metrics
from hub.store.interface import Store

StateName = Literal["starting", "ok", "degraded", "down", "paused", "misconfigured"]
SWITCHES = "switches"
REFRESH_S = 2.0


class AccountState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How one account, backend or component does, and what it waits for."""

    kind: str  # account, backend, component
    name: str
    label: str = ""
    state: StateName = "starting"
    reason: str = ""
    since: datetime
    last_message_at: datetime | None = None
    next_try_at: datetime | None = None


class States:
    """This process' view of everything that can be up or down."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._states: dict[tuple[str, str], AccountState] = {}

    def add(self, kind: str, name: str, label: str = "", *, state: StateName = "starting") -> None:
        self._states[(kind, name)] = AccountState(
            kind=kind, name=name, label=label, state=state, since=self._clock.now()
        )

    def set(
        self,
        kind: str,
        name: str,
        state: StateName,
        reason: str = "",
        *,
        next_try_s: float | None = None,
    ) -> None:
        held = self._states[(kind, name)]
        now = self._clock.now()
        if held.state != state:
            held.state, held.since = state, now
        held.reason = reason
        held.next_try_at = now + timedelta(seconds=next_try_s) if next_try_s is not None else None
        if kind == "account":
            channel, _, account = name.partition(":")
            self._metrics.account_up.labels(channel, account).set(state == "ok")

    def heard(self, name: str) -> None:
        """An account brought something."""
        held = self._states.get(("account", name))
        if held is not None:
            held.last_message_at = self._clock.now()

    def all(self) -> list[AccountState]:
        return list(self._states.values())

    def get(self, kind: str, name: str) -> AccountState | None:
        return self._states.get((kind, name))


class Switches:
    """``inbound`` and ``outbound`` of each account, and all sends: kept in the database.

    A switch that nobody set has the value of the configuration. Each process reads them anew
    every two seconds.
    """

    def __init__(self, store: Store, configured: Mapping[str, Mapping[str, str]]) -> None:
        self._store = store
        self._table = store.table(State)
        self._configured = {name: dict(values) for name, values in configured.items()}
        self._set: dict[str, dict[str, str]] = {}

    async def refresh(self) -> None:
        found = await self._table.get(SWITCHES)
        self._set = {name: dict(values) for name, values in found.value.items()} if found else {}

    def value(self, name: str, switch: str) -> str:
        """Return a switch: ``name`` is ``channel:account`` or ``all``."""
        return (
            self._set.get(name, {}).get(switch)
            or self._configured.get(name, {}).get(switch)
            or "on"
        )

    def outbound_on(self, channel: str, account: str) -> bool:
        everything = self.value("all", "outbound") == "on"
        return everything and self.value(f"{channel}:{account}", "outbound") == "on"

    def inbound(self, channel: str, account: str) -> str:
        return self.value(f"{channel}:{account}", "inbound")

    def all(self) -> dict[str, dict[str, str]]:
        names = dict.fromkeys(["all", *self._configured, *self._set])
        return {
            name: {switch: self.value(name, switch) for switch in ("inbound", "outbound")}
            for name in names
        }

    async def set(self, name: str, switch: str, value: str) -> None:
        """Set one switch for every process. Raises ValueError for an unknown name or value."""
        allowed = {"inbound": ("on", "store-only", "off"), "outbound": ("on", "off")}
        if name != "all" and name not in self._configured:
            raise ValueError(f"there is no account {name}")
        if value not in allowed.get(switch, ()):
            raise ValueError(f"{switch} is one of {', '.join(allowed.get(switch, ()))}")
        while True:
            held = await self._table.get(SWITCHES)
            values: dict[str, Any] = {**held.value} if held else {}
            values[name] = {**values.get(name, {}), switch: value}
            rev = held.rev if held else 0
            doc = State(id=SWITCHES, value=values, rev=rev + 1)
            if held is None:
                stored = not await self._table.insert([doc])
            else:
                stored = await self._table.swap(doc, {"rev": rev})
            if stored:
                break
        await self.refresh()
        if switch == "inbound" and value == "on" and name != "all":
            await self._release(name)

    async def release_held(self) -> int:
        """Let the router have what is still held of accounts that are on; return how many.

        Other processes go on holding items until they have seen the switch, a spool may bring
        some later still, and the configuration may have changed since the last start.
        """
        names = [name for name in self._configured if self.value(name, "inbound") == "on"]
        return sum([await self._release(name) for name in names if name != "all"])

    async def _release(self, name: str) -> int:
        channel, _, account = name.partition(":")
        return await self._store.inbox.release(channel, account)
