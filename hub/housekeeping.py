"""What has to happen because time passes: silent conversations, old feed rows, switches."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from hub.accounts import Switches
from hub.clock import Clock
from hub.documents import Conversation, FeedRow, InboxItem
from hub.ids import earliest_id
from hub.inbox_writer import Overloaded
from hub.services import HubServices
from hub.store.interface import Store, StoreError
from hub.sweeping import EVERY_S as SWEEP_EVERY_S
from hub.sweeping import Sweeper

log = structlog.get_logger(__name__)

EVERY_S = 2.0
SILENCE_EVERY_S = 60.0
AT_ONCE = 100
TRIM_AT_ONCE = 2000


class Housekeeping:
    """Runs in every process with workers; a lease lets one of them close conversations."""

    def __init__(
        self,
        store: Store,
        services: HubServices,
        switches: Switches,
        clock: Clock,
        *,
        owner: str,
        silence: timedelta,
        inbox_kept: timedelta = timedelta(days=30),
        sweeper: Sweeper | None = None,
    ) -> None:
        self._store = store
        self._services = services
        self._switches = switches
        self._clock = clock
        self._owner = owner
        self._silence = silence
        self._inbox_kept = inbox_kept
        self._sweeper = sweeper

    async def run(self) -> None:
        looked_at = self._clock.monotonic() - SILENCE_EVERY_S
        while True:
            try:
                await self._switches.refresh()
                if self._clock.monotonic() - looked_at >= SILENCE_EVERY_S:
                    looked_at = self._clock.monotonic()
                    await self.look()
            except (StoreError, Overloaded) as error:
                log.info("housekeeping_waits", reason=str(error))
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Do what is due, unless another process has done it a moment ago."""
        leases = await self._store.lanes.claim(
            ["housekeeping"], self._owner, SILENCE_EVERY_S - EVERY_S
        )
        if leases:
            await self._switches.release_held()
            await self.close_silent()
            await self.trim_feed()
            await self.trim_inbox()
        # The lease is not given back: so it is done now and then, by whoever comes first.
        if self._sweeper is not None and await self._store.lanes.claim(
            ["sweep"], self._owner, SWEEP_EVERY_S
        ):
            await self._sweeper.sweep()

    async def trim_inbox(self) -> int:
        """Take away routed items that arrived longer ago than raw requests are kept."""
        oldest = earliest_id("in", self._clock.now() - self._inbox_kept)
        return await self._store.table(InboxItem).delete(
            {"_id": {"$lt": oldest}, "open": {"$exists": False}, "held": {"$exists": False}}
        )

    async def trim_feed(self) -> int:
        """Take away feed rows older than what is kept; they are all at its start."""
        rows = self._store.table(FeedRow)
        gone = 0
        while True:
            oldest = await rows.find({}, sort=[("_id", 1)], limit=TRIM_AT_ONCE)
            now = self._clock.now()
            old = [int(row.id) for row in oldest if row.expire_at and row.expire_at < now]
            if old:
                gone += await rows.delete({"_id": {"$lte": old[-1]}})
            if len(old) < TRIM_AT_ONCE:
                return gone

    async def close_silent(self) -> int:
        """Close conversations nobody spoke in for too long; return how many."""
        before = self._clock.now() - self._silence
        silent = await self._store.table(Conversation).find(
            {"state": "open", "active_at": {"$lt": before}},
            sort=[("active_at", 1)],
            limit=AT_ONCE,
        )
        for conversation in silent:
            await self._services.run_command(
                "close",
                {
                    "conversation": conversation.id,
                    "reason": "silence",
                    "idle_since": before.isoformat(),
                },
                key=f"silence|{conversation.id}|{conversation.active_at.isoformat()}",
                actor="hub:silence",
                wait_s=0.0,
            )
        return len(silent)
