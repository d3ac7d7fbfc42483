"""Making items durable: the group commit at the inbox, and the spool while MongoDB cannot.

Whatever is waiting goes into one durable insert, one group in flight. The first group that
MongoDB does not take within the budget goes to the spool, and so does everything after it
until the spool is drained, so that the order of arrival is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import msgspec
import structlog

from hub.documents import InboxItem
from hub.spool import Record, Spool, SpoolError
from hub.steps import reached
from hub.store.codec import unstorable
from hub.store.interface import InboxStore, NotStorable, StoreError, Unavailable

log = structlog.get_logger(__name__)

GROUP_ITEMS = 200
GROUP_BYTES = 4 * 1024 * 1024
DRAIN_DEADLINE_S = 10.0
DRAIN_RETRY_S = 0.25


class Overloaded(Exception):
    """Nothing was stored and nothing may be acknowledged: the caller has to come again."""


class _Waiting:
    __slots__ = ("done", "item", "whole")

    def __init__(self, item: InboxItem, done: asyncio.Future[None], whole: bytes) -> None:
        self.item = item
        self.done = done
        self.whole = whole

    def for_the_spool(self) -> InboxItem:
        """Return the item with its raw request in it: what is in a spool names no raw blob.

        A spool may be drained after any time, and the sweep could not know of the name.
        """
        if self.item.raw_blob is None:
            return self.item
        return msgspec.structs.replace(self.item, raw=self.whole, raw_blob=None)


class InboxWriter:
    """The one way into the inbox for a process."""

    def __init__(self, inbox: InboxStore, spool: Spool | None, *, budget_s: float = 0.5) -> None:
        self._inbox = inbox
        self._spool = spool
        self._budget_s = budget_s
        self._waiting: list[_Waiting] = []
        self._work = asyncio.Event()
        self._flip = asyncio.Lock()
        self._spooling = False
        self._direct = asyncio.Event()
        self._direct.set()
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        self.stored = asyncio.Event()  # set after every group: the router's wake-up

    @property
    def spooling(self) -> bool:
        """Whether MongoDB is passed by at the moment."""
        return self._spooling

    async def start(self) -> None:
        """Drain what dead processes and this one's past left, then take new items."""
        if self._spool is not None and self._spool.pending:
            self._begin_spooling("there was something in the spool at start")
        self._tasks = [asyncio.create_task(self._commit_groups(), name="inbox-writer")]
        if self._spool is not None:
            self._tasks.append(asyncio.create_task(self._drain_when_needed(), name="spool-drain"))

    async def drained(self, within_s: float) -> bool:
        """Wait until the spool is empty; say whether it became so in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._direct.wait()
        return not self._spooling

    async def close(self) -> None:
        """Store what is waiting, then stop. What is in the spool stays there for the next start."""
        self._closing = True
        self._work.set()
        if self._tasks:
            await self._tasks[0]
        for task in self._tasks[1:]:
            task.cancel()
        await asyncio.gather(*self._tasks[1:], return_exceptions=True)
        self._tasks = []

    async def put(self, item: InboxItem, *, may_spool: bool = True, whole: bytes = b"") -> None:
        """Return when the item is durable. Raises Overloaded, or StoreError for a bad item.

        ``whole`` is the raw request of an item that has it in a blob, for the spool.

        ``may_spool=False`` is for callers that can come again by themselves (API writes, polls,
        outcomes): while MongoDB is away they are refused at once.
        """
        if self._closing:
            raise Overloaded("the hub is stopping")
        if not may_spool and self._spooling:
            raise Overloaded("the database cannot be reached: try again in a few seconds")
        if (refused := unstorable(item)) is not None:
            raise refused  # the spool would take it, and the inbox never
        waiting = _Waiting(item, asyncio.get_running_loop().create_future(), whole)
        self._waiting.append(waiting)
        self._work.set()
        await waiting.done

    # --- the committer -------------------------------------------------------------------------

    async def _commit_groups(self) -> None:
        while True:
            await self._work.wait()
            group = self._next_group()
            if not group:
                if self._closing:
                    return
                self._work.clear()
                continue
            try:
                await self._commit(group)
            except Exception:
                log.exception("inbox_group_failed", items=len(group))
                _fail(group, Overloaded("the inbox failed: try again in a few seconds"))

    def _next_group(self) -> list[_Waiting]:
        size = 0
        for count, waiting in enumerate(self._waiting):
            size += len(waiting.item.raw) + len(waiting.item.drafts)
            if count and (count >= GROUP_ITEMS or size > GROUP_BYTES):
                break
        else:
            count = len(self._waiting)
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    async def _commit(self, group: list[_Waiting]) -> None:
        if not self._spooling:
            try:
                async with asyncio.timeout(self._budget_s):
                    results = await self._inbox.put([waiting.item for waiting in group])
            except (Unavailable, TimeoutError) as error:
                if self._spool is not None:
                    self._begin_spooling(str(error) or f"no commit within {self._budget_s} s")
            else:
                self.stored.set()
                _settle(group, results)
                return
        await self._commit_to_spool(group)

    async def _commit_to_spool(self, group: list[_Waiting]) -> None:
        if self._spool is None:
            _fail(group, Overloaded("the database cannot be reached and there is no spool"))
            return
        items = [waiting.for_the_spool() for waiting in group]
        if large := [one for one, item in zip(group, items, strict=True) if unstorable(item)]:
            _fail(large, Overloaded("the database is away, and this is too large for the spool"))
            group = [waiting for waiting in group if waiting not in large]
            items = [item for item in items if not unstorable(item)]
        records = [Record(id=item.id, payload=msgspec.msgpack.encode(item)) for item in items]
        async with self._flip:
            try:
                await self._spool.append(records)
            except SpoolError as error:
                log.error("spool_refused", reason=str(error), items=len(group))
                # The log says why; whoever called learns nothing of the disk.
                _fail(group, Overloaded("the database is away, and nothing more can be kept"))
                return
            self._begin_spooling("the spool is in use")
        reached("spool.1")
        _settle(group, [None] * len(group))

    # --- the spool -----------------------------------------------------------------------------

    def _begin_spooling(self, reason: str) -> None:
        if not self._spooling:
            log.warning("spooling_began", reason=reason)
            self._spooling = True
            self._direct.clear()

    async def _drain_when_needed(self) -> None:
        assert self._spool is not None
        while True:
            await asyncio.sleep(0.02 if self._spooling else DRAIN_RETRY_S)
            if not self._spooling:
                continue
            try:
                await self._spool.drain(self._deliver)
            except (StoreError, TimeoutError) as error:
                log.debug("spool_not_drained_yet", reason=str(error))
                await asyncio.sleep(DRAIN_RETRY_S)
                continue
            except Exception:
                log.exception("spool_drain_failed")
                await asyncio.sleep(DRAIN_RETRY_S)
                continue
            async with self._flip:
                if self._spool.pending == 0:
                    self._spooling = False
                    self._direct.set()
                    log.info("spooling_ended")

    async def _deliver(self, records: Sequence[Record]) -> None:
        items = [msgspec.msgpack.decode(record.payload, type=InboxItem) for record in records]
        async with asyncio.timeout(DRAIN_DEADLINE_S):
            results = await self._inbox.put(items)
        for item, error in zip(items, results, strict=True):
            if isinstance(error, NotStorable):
                log.error("spooled_item_refused", item=item.id, reason=str(error))
            elif error is not None:
                log.warning("spooled_item_not_taken", item=item.id, reason=str(error))
                raise error  # it was acknowledged: it stays in the spool until it is taken
        reached("spool.2")
        self.stored.set()


def _settle(group: list[_Waiting], results: Sequence[StoreError | None]) -> None:
    for waiting, error in zip(group, results, strict=True):
        if waiting.done.done():
            continue  # the caller went away; the item is stored all the same
        if error is None:
            waiting.done.set_result(None)
        else:
            waiting.done.set_exception(error)


def _fail(group: list[_Waiting], error: Exception) -> None:
    for waiting in group:
        if not waiting.done.done():
            waiting.done.set_exception(error)
