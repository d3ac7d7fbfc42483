"""Each process tells the others how its accounts do; a process that died does not count.

A report is one document per process. It counts as long as the process renews its lease, whose
times are the server's: no clock of another host is believed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar

import msgspec
import structlog

from hub.accounts.states import AccountState, States, hour_of
from hub.clock import Clock
from hub.documents import Doc, Index
from hub.store.interface import LaneLease, Store, StoreError

log = structlog.get_logger(__name__)

LOOK_S = 1.0  # how soon a change is told
BEAT_S = 5.0  # how often it is told that nothing changed
LASTS_S = 15.0  # how long a process is believed that tells nothing more
KEPT = timedelta(hours=3)  # what a dead process counted is still needed for the hour it died in
_LANE = "report:"


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """How often a process heard of an account in one hour."""

    name: str
    hour: datetime
    count: int


class Report(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """One process' view. The id is the process' name, as in its leases."""

    collection: ClassVar[str] = "account_reports"
    indexes: ClassVar[tuple[Index, ...]] = (Index((("expire_at", 1),), expires=True),)

    role: str
    began_at: datetime
    at: datetime
    states: tuple[AccountState, ...] = ()
    heard: tuple[Heard, ...] = ()
    expire_at: datetime


def report_lane(owner: str) -> str:
    return f"{_LANE}{owner}"


async def living_reports(store: Store) -> list[Report]:
    """Return the reports of the processes that are alive."""
    owners = [
        lane.removeprefix(_LANE) for lane in await store.lanes.parked() if lane.startswith(_LANE)
    ]
    found = await store.table(Report).get_many(owners)
    return [found[owner] for owner in sorted(found)]


class Reporter:
    """Keeps this process' report."""

    def __init__(
        self,
        store: Store,
        states: States,
        clock: Clock,
        *,
        owner: str,
        role: str,
    ) -> None:
        self._store = store
        self._table = store.table(Report)
        self._states = states
        self._clock = clock
        self._owner = owner
        self._role = role
        self._began_at = clock.now()
        self._lease: LaneLease | None = None
        self._last: Sequence[AccountState] = ()
        self._beat_at = float("-inf")

    async def run(self) -> None:
        """Report for ever; say goodbye when cancelled."""
        try:
            while True:
                try:
                    await self.look()
                except StoreError as error:
                    log.debug("accounts_not_reported", reason=str(error))
                await asyncio.sleep(LOOK_S)
        finally:
            await self._leave()

    async def look(self) -> None:
        """Report if there is something new, or if it is time for a sign of life."""
        now = self._clock.monotonic()
        if now - self._beat_at >= BEAT_S or self._news():
            await self.report()
            self._beat_at = now

    def _news(self) -> bool:
        def told(states: Sequence[AccountState]) -> list[tuple[object, ...]]:
            return [(each.kind, each.name, each.state, each.reason) for each in states]

        return told(self._states.all()) != told(self._last)

    async def report(self) -> None:
        """Tell the others now."""
        now = self._clock.now()
        before = hour_of(now) - KEPT
        heard = self._states.counted(before=before)
        states = tuple(msgspec.structs.replace(each) for each in self._states.all())
        await self._table.put(
            [
                Report(
                    id=self._owner,
                    role=self._role,
                    began_at=self._began_at,
                    at=now,
                    states=states,
                    heard=tuple(
                        Heard(name=name, hour=hour, count=count)
                        for (name, hour), count in sorted(heard.items())
                    ),
                    expire_at=now + KEPT,
                )
            ]
        )
        self._last = states
        lane = report_lane(self._owner)
        if self._lease is None or not await self._store.lanes.renew(self._lease, LASTS_S):
            leases = await self._store.lanes.claim([lane], self._owner, LASTS_S)
            self._lease = leases[0] if leases else None

    async def _leave(self) -> None:
        """Leave what was counted behind, and count no more."""
        try:
            async with asyncio.timeout(LASTS_S / 3):
                await self.report()
                if self._lease is not None:
                    await self._store.lanes.release(self._lease)
        except (StoreError, TimeoutError) as error:
            log.debug("accounts_report_not_given_back", reason=str(error))
