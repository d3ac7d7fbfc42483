"""``inbound`` and ``outbound`` of every account, kept in the database; pause and resume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from hub.documents import State
from hub.store.interface import Store

SWITCHES = "switches"
PAUSE = "pause"
REFRESH_S = 2.0


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Who has paused an account, when and why, and what its switches were before."""

    by: str
    at: datetime
    why: str = ""
    before: dict[str, str] = {}

    def __str__(self) -> str:
        told = f"paused by {self.by} at {self.at:%Y-%m-%d %H:%M} UTC"
        return f"{told}: {self.why}" if self.why else told


class Switches:
    """``inbound`` and ``outbound`` of each account, and all sends: kept in the database.

    A switch that nobody set has the value of the configuration. Each process reads them anew
    every two seconds.
    """

    def __init__(self, store: Store, configured: Mapping[str, Mapping[str, str]]) -> None:
        self._store = store
        self._table = store.table(State)
        self._configured = {name: dict(values) for name, values in configured.items()}
        self._set: dict[str, dict[str, Any]] = {}

    async def refresh(self) -> None:
        found = await self._table.get(SWITCHES)
        self._set = {name: dict(values) for name, values in found.value.items()} if found else {}

    def value(self, name: str, switch: str) -> str:
        """Return a switch: ``name`` is ``channel:account`` or ``all``."""
        return str(
            self._set.get(name, {}).get(switch)
            or self._configured.get(name, {}).get(switch)
            or "on"
        )

    def outbound_on(self, channel: str, account: str) -> bool:
        everything = self.value("all", "outbound") == "on"
        return everything and self.value(f"{channel}:{account}", "outbound") == "on"

    def outbound_off(self) -> list[str]:
        """Return the accounts by which nothing may leave."""
        names = [name for name in {**self._configured, **self._set} if name != "all"]
        return [name for name in names if not self.outbound_on(*name.split(":", 1))]

    def inbound(self, channel: str, account: str) -> str:
        return self.value(f"{channel}:{account}", "inbound")

    def all(self) -> dict[str, dict[str, str]]:
        names = dict.fromkeys(["all", *self._configured, *self._set])
        return {
            name: {switch: self.value(name, switch) for switch in ("inbound", "outbound")}
            for name in names
        }

    async def set(self, name: str, switch: str, value: str) -> None:
        """Set one switch for every process. Raises ValueError for an unknown name or value.

        Whoever sets a switch by hand has taken the account over: it is not paused any more.
        """
        allowed = {"inbound": ("on", "store-only", "off"), "outbound": ("on", "off")}
        if name != "all" and name not in self._configured:
            raise ValueError(f"there is no account {name}")
        if value not in allowed.get(switch, ()):
            raise ValueError(f"{switch} is one of {', '.join(allowed.get(switch, ()))}")
        await self._change(name, lambda before: _without_pause({**before, switch: value}))
        if switch == "inbound" and value == "on" and name != "all":
            await self._release(name)

    # --- pause and resume ----------------------------------------------------------------------

    def pause_of(self, name: str) -> Pause | None:
        """Return who has paused an account, as this process knows."""
        found = self._set.get(name, {}).get(PAUSE)
        return msgspec.convert(found, Pause) if found is not None else None

    async def pause(self, name: str, *, inbound: str, by: str, at: datetime, why: str = "") -> bool:
        """Stop an account: nothing leaves, and ``inbound`` is ``off``, or ``store-only`` where
        what arrives is to be kept for later. A paused account stays paused as it was; say
        whether this call has paused it.

        Raises ValueError for an unknown account.
        """
        if name not in self._configured:
            raise ValueError(f"there is no account {name}")
        if inbound not in ("store-only", "off"):
            raise ValueError("a paused account is store-only or off")

        is_new = False

        def paused(held: Mapping[str, Any]) -> dict[str, Any]:
            nonlocal is_new
            is_new = PAUSE not in held
            if not is_new:
                return dict(held)
            before = {switch: held[switch] for switch in ("inbound", "outbound") if switch in held}
            pause = msgspec.to_builtins(
                Pause(by=by, at=at, why=why, before=before), builtin_types=(datetime,)
            )
            return {**held, "inbound": inbound, "outbound": "off", PAUSE: pause}

        await self._change(name, paused)
        return is_new

    async def resume(self, name: str) -> bool:
        """Give a paused account the switches it had before; say whether it was paused."""
        if name not in self._configured:
            raise ValueError(f"there is no account {name}")
        was_paused = False

        def resumed(held: Mapping[str, Any]) -> dict[str, Any]:
            nonlocal was_paused
            was_paused = PAUSE in held
            if not was_paused:
                return dict(held)
            kept = {each: held[each] for each in held if each not in ("inbound", "outbound", PAUSE)}
            return {**kept, **held[PAUSE].get("before", {})}

        await self._change(name, resumed)
        if was_paused and self.value(name, "inbound") == "on":
            await self._release(name)
        return was_paused

    async def _change(
        self, name: str, change: Callable[[Mapping[str, Any]], dict[str, Any]]
    ) -> None:
        """Change an account's part of the document, whoever else changes it at the same time."""
        while True:
            held = await self._table.get(SWITCHES)
            values: dict[str, Any] = {**held.value} if held else {}
            values[name] = change(values.get(name, {}))
            rev = held.rev if held else 0
            doc = State(id=SWITCHES, value=values, rev=rev + 1)
            if held is None:
                stored = not await self._table.insert([doc])
            else:
                stored = await self._table.swap(doc, {"rev": rev})
            if stored:
                break
        await self.refresh()

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


def _without_pause(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != PAUSE}
