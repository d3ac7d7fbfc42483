"""One process of the space tells changes of accounts to the feed and watches for silences."""

from __future__ import annotations

import asyncio

import structlog

from hub.accounts.overview import Overview
from hub.accounts.silence import SilenceWatch
from hub.accounts.switches import Switches
from hub.accounts.telling import RunCommand, Teller
from hub.clock import Clock
from hub.inbox_writer import Overloaded
from hub.store.interface import LaneLease, Store, StoreError

log = structlog.get_logger(__name__)

LANE = "accounts"
EVERY_S = 2.0
LASTS_S = 15.0
SILENCE_EVERY_S = 60.0


class AccountKeeper:
    """Runs in every process with workers; a lease lets one of them do it."""

    def __init__(
        self,
        store: Store,
        overview: Overview,
        switches: Switches,
        run_command: RunCommand,
        clock: Clock,
        *,
        owner: str,
    ) -> None:
        self._store = store
        self._overview = overview
        self._clock = clock
        self._owner = owner
        self._teller = Teller(store, run_command, clock)
        self._silence = SilenceWatch(store, overview, switches, clock)
        self._lease: LaneLease | None = None
        self._listened_at = float("-inf")

    async def run(self) -> None:
        """Keep for ever; give the lease back when cancelled."""
        try:
            while True:
                try:
                    await self.look()
                except (StoreError, Overloaded) as error:
                    log.debug("accounts_wait", reason=str(error))
                except Exception:
                    log.exception("accounts_not_kept")
                await asyncio.sleep(EVERY_S)
        finally:
            await self._let_go()

    async def look(self) -> None:
        """Do what is due, if this process is the one. Raises StoreError, Overloaded."""
        if not await self._leads():
            return
        if self._clock.monotonic() - self._listened_at >= SILENCE_EVERY_S:
            self._listened_at = self._clock.monotonic()
            await self._silence.look()
            await self._overview.keep_heard()
        await self._teller.look(await self._overview.read())

    async def _leads(self) -> bool:
        if self._lease is not None and await self._store.lanes.renew(self._lease, LASTS_S):
            return True
        leases = await self._store.lanes.claim([LANE], self._owner, LASTS_S)
        self._lease = leases[0] if leases else None
        return self._lease is not None

    async def _let_go(self) -> None:
        if self._lease is None:
            return
        try:
            async with asyncio.timeout(LASTS_S / 3):
                await self._store.lanes.release(self._lease)
        except (StoreError, TimeoutError) as error:
            log.debug("accounts_lease_not_given_back", reason=str(error))
