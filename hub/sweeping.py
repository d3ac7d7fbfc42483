"""Takes away blobs that nothing names: uploads nobody sent, what a crash left, raw requests' ends.

It goes by the rows of :mod:`hub.strays` and by nothing else: what has no row stays. A blob is
doomed by a compare-and-swap that whoever names it would lose as well, so that no message can
name bytes that go. Every step may be done twice.
"""

from __future__ import annotations

from collections import Counter

import structlog
from msgspec.structs import replace

from hub.clock import Clock
from hub.documents import DeadLetter, InboxItem, Operation, StrayBlob
from hub.metrics import Metrics
from hub.steps import reached
from hub.store.interface import Store
from hub.strays import COPY_LOOK, RAW_LOOK, UNNAMED_FOR

log = structlog.get_logger(__name__)

EVERY_S = 3600.0
AT_ONCE = 200
ROUNDS = 25  # so one run takes at most 5 000


class Sweeper:
    """Run by one process at a time, now and then (hub/housekeeping.py)."""

    def __init__(self, store: Store, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._rows = store.table(StrayBlob)
        self._clock = clock
        self._metrics = metrics

    async def sweep(self) -> Counter[str]:
        """Look at everything that is due; return how many were taken away, by kind."""
        swept: Counter[str] = Counter()
        for _ in range(ROUNDS):
            due = await self._rows.find(
                {"due_at": {"$lt": self._clock.now()}}, sort=[("due_at", 1)], limit=AT_ONCE
            )
            for row in due:
                if await self._needed(row):
                    continue
                if await self._taken_away(row):
                    kind = "raw" if row.item else "copy" if row.source else "unnamed"
                    swept[kind] += 1
                    self._metrics.blobs_swept.labels(kind).inc()
            if len(due) < AT_ONCE:
                break
        if swept:
            log.info("blobs_swept", **swept)
        return swept

    async def _needed(self, row: StrayBlob) -> bool:
        """Whether what it lives with is still there; then it is looked at again later."""
        if row.state == "owned":
            await self._look_at_owner(row)
            return True
        if row.state != "with":
            return False
        if row.item:
            look = RAW_LOOK
            inbox, letters = self._store.table(InboxItem), self._store.table(DeadLetter)
            here = await inbox.count({"_id": row.item, "raw_blob": row.id}, limit=1)
            # A dead letter holds its item whole, and brings it back when it is redriven.
            here = here or await letters.count({"ref": row.item}, limit=1)
        else:
            look = COPY_LOOK
            here = await self._store.blobs.metadata(row.source) is not None
        if here:
            later = replace(row, due_at=self._clock.now() + look)
            await self._rows.swap(later, {"state": "with", "due_at": row.due_at})
        return bool(here)

    async def _look_at_owner(self, row: StrayBlob) -> None:
        """What was done names the blob, for good; what was refused never will."""
        known = await self._store.table(Operation).get(row.owner)
        if known is None:  # on its way, a dead letter, or done so long ago that nobody knows
            after = replace(row, due_at=self._clock.now() + UNNAMED_FOR)
        elif known.state == "refused":
            after = replace(row, state="unnamed", owner="", due_at=self._clock.now() + UNNAMED_FOR)
        else:
            after = replace(row, due_at=None)
        await self._rows.swap(after, {"state": "owned", "owner": row.owner})

    async def _taken_away(self, row: StrayBlob) -> bool:
        if row.state != "doomed":
            expected = {"state": row.state, "due_at": row.due_at}
            if not await self._rows.swap(replace(row, state="doomed"), expected):
                return False  # somebody named it a moment ago
        reached("sweep.1")
        await self._store.blobs.delete(row.id)
        reached("sweep.2")
        await self._rows.delete({"_id": row.id, "state": "doomed"})
        return True
