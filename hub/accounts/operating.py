"""What a person does to an account: pause it, resume it, let a stuck door pass one thing.

The API and the command line ask the same things here; what they say is kept with who and why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import structlog

from hub.accounts.overview import Overview
from hub.accounts.skipping import NUDGE, DoorName, NothingToSkip, Skip, Skips
from hub.accounts.states import AccountState
from hub.accounts.switches import Switches
from hub.clock import Clock
from hub.contract import Connector
from hub.store.interface import Store, StoreError

log = structlog.get_logger(__name__)

STUCK = ("degraded", "down", "misconfigured")
LOOK_S = 0.1

Inbound = Literal["store-only", "off"]
KindOf = Callable[[str], type[Connector[Any]] | None]


class CannotBeDone(Exception):
    """The account cannot be treated so; the message says why and what to do instead."""


class Operating:
    """Operates accounts for every process of the space."""

    def __init__(
        self,
        store: Store,
        switches: Switches,
        overview: Overview,
        clock: Clock,
        kind_of: KindOf,
    ) -> None:
        self._store = store
        self._switches = switches
        self._overview = overview
        self._clock = clock
        self._kind_of = kind_of
        self._skips = Skips(store)

    async def state(self, name: str) -> AccountState | None:
        """Return how an account does, or None if there is no such account."""
        for each in await self._overview.read():
            if (each.kind, each.name) == ("account", name):
                return each
        return None

    async def pause(
        self, name: str, *, by: str, why: str = "", inbound: Inbound | None = None
    ) -> None:
        """Pause an account. Raises ValueError for an unknown one.

        Unless told otherwise, what vendors push is kept (they would not come again), and doors
        that keep a place themselves stand still: what waits there waits.
        """
        kind = self._kind_of(name.partition(":")[0])
        if inbound is None:
            inbound = "off" if kind is not None and _only_fetches(kind) else "store-only"
        if await self._switches.pause(name, inbound=inbound, by=by, at=self._clock.now(), why=why):
            log.warning("account_paused", account=name, by=by, why=why, inbound=inbound)

    async def resume(self, name: str, *, by: str) -> bool:
        """Resume an account; say whether it was paused. Raises ValueError for an unknown one."""
        was_paused = await self._switches.resume(name)
        if was_paused:
            log.warning("account_resumed", account=name, by=by)
        return was_paused

    async def skip(self, name: str, *, by: str, why: str, wait_s: float) -> Skip:
        """Let the stuck door of an account pass the one thing it is stuck on.

        Waits up to ``wait_s`` for the process that holds the door. Raises CannotBeDone.
        """
        kind = self._kind_of(name.partition(":")[0])
        if kind is None or not kind.skips():
            raise CannotBeDone("this channel cannot skip: its connector does not know how")
        state = await self.state(name)
        if state is None or state.state not in STUCK:
            shown = state.state if state is not None else "unknown to every running process"
            raise CannotBeDone(
                f"{name} is {shown}, so it is not stuck: a skip would pass something healthy"
            )
        doors: list[DoorName] = []
        if kind.polls():
            doors.append("poll")
        if kind.holds():
            doors.append("hold")
        try:
            skip = await self._skips.ask(name, tuple(doors), by=by, why=why, clock=self._clock)
        except NothingToSkip as error:
            raise CannotBeDone(str(error)) from error
        with suppress(StoreError):  # a lost nudge costs time only: the door looks when it tries
            await self._store.signals.publish(NUDGE, {"name": name})
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while skip.state == "asked":
                    await asyncio.sleep(LOOK_S)
                    skip = await self._skips.read(skip)
        return skip


def _only_fetches(kind: type[Connector[Any]]) -> bool:
    """Whether an account brings only what it fetches itself, and so misses nothing by waiting."""
    return (kind.polls() or kind.holds()) and kind.hint is Connector.hint
