"""The feed: every committed change has a position; readers keep a cursor and miss nothing.

Positions are given by the router inside its transaction, so they are gap-free and become
visible in order. :class:`FeedTail` reads new rows once for a process and wakes everybody who
waits; :class:`Follower` gives one reader its rows, from the log first and then live.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

import structlog

from hub.documents import Entry, FeedRow
from hub.plugin_context import Seen
from hub.store.interface import Store, StoreError

log = structlog.get_logger(__name__)

PAGE = 500
IDLE_POLL_S = 0.1  # another process' commits are seen this fast
BUFFER = 1000  # rows a follower may be behind before it reads the log again

Listener = Callable[[Sequence[FeedRow]], None]


class FeedTail:
    """One reader of new rows for the whole process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows = store.table(FeedRow)
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self.position = 0
        self.generation = 0
        self.wake = asyncio.Event()

    async def start(self) -> None:
        self.generation, self.position = await self._store.router.position()
        self._task = asyncio.create_task(self._run(), name="feed-tail")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with each group of new rows, in order; return what ends it."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    async def _run(self) -> None:
        while True:
            try:
                rows = await self._new_rows()
            except StoreError as error:
                log.warning("feed_not_readable", reason=str(error))
                await asyncio.sleep(0.5)
                continue
            except Exception:
                log.exception("feed_not_readable")  # every reader waits for this task
                await asyncio.sleep(0.5)
                continue
            if rows:
                self._publish(rows)
            if len(rows) < PAGE:
                with suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_POLL_S):
                        await self.wake.wait()
                self.wake.clear()

    async def _new_rows(self) -> list[FeedRow]:
        """Read what is new; while nobody listens the position is enough, and far cheaper."""
        if not self._listeners:
            _, last = await self._store.router.position()
            if not self._listeners:  # whoever came meanwhile must not miss what was passed by
                self.position = last
                return []
        return await self._rows.find({"_id": {"$gt": self.position}}, sort=[("_id", 1)], limit=PAGE)

    def _publish(self, rows: Sequence[FeedRow]) -> None:
        if int(rows[-1].id) - self.position != len(rows):
            log.error(
                "feed_has_a_gap",
                behind=self.position,
                last=rows[-1].id,
                rows=len(rows),
                advice="readers may have missed events: compare the feed with the entries",
            )
        self.position = int(rows[-1].id)
        for listener in list(self._listeners):
            try:
                listener(rows)
            except Exception:
                log.exception("feed_listener_failed")


class Timelines:
    """Changes of some addresses' timelines, for connectors whose people watch them."""

    def __init__(self, store: Store, tail: FeedTail) -> None:
        self._store = store
        self._rows = store.table(FeedRow)
        self._tail = tail

    async def changes(self, addresses: Sequence[str], after: int, limit: int) -> list[Seen]:
        """Return at most ``limit`` changes behind a position, oldest first."""
        rows = await self._rows.find(
            {"address": {"$in": list(addresses)}, "followed": True, "_id": {"$gt": after}},
            sort=[("_id", 1)],
            limit=limit,
        )
        return await self._seen(rows)

    async def follow(self, addresses: Sequence[str], after: int) -> AsyncIterator[Seen]:
        """Yield changes behind a position, for ever: the log first, then live, without a seam."""
        wanted = frozenset(addresses)
        waiting: asyncio.Queue[FeedRow | None] = asyncio.Queue(BUFFER)

        def listener(rows: Sequence[FeedRow]) -> None:
            for row in rows:
                if row.address in wanted:
                    if waiting.full():
                        waiting.get_nowait()
                        waiting.put_nowait(None)  # too slow: read the log again
                        return
                    waiting.put_nowait(row)

        unlisten = self._tail.listen(listener)
        try:
            while True:
                async for seen in self._catch_up(wanted, after):
                    after = seen.position
                    yield seen
                async for seen in self._live(waiting, after):
                    after = seen.position
                    yield seen
        finally:
            unlisten()

    async def _catch_up(self, wanted: frozenset[str], after: int) -> AsyncIterator[Seen]:
        while page := await self.changes(sorted(wanted), after, PAGE):
            for seen in page:
                after = seen.position
                yield seen

    async def _live(
        self, waiting: asyncio.Queue[FeedRow | None], after: int
    ) -> AsyncIterator[Seen]:
        """Yield until rows were dropped, then return so that the caller reads the log."""
        while True:
            rows = [await waiting.get()]
            while not waiting.empty():
                rows.append(waiting.get_nowait())
            known = [row for row in rows if row is not None and int(row.id) > after]
            for seen in await self._seen(known):
                after = seen.position
                yield seen
            if None in rows:
                return

    async def _seen(self, rows: Sequence[FeedRow]) -> list[Seen]:
        refs = {row.ref for row in rows if row.ref.startswith("ent_")}
        entries = await self._store.table(Entry).get_many(refs)
        return [
            Seen(
                position=int(row.id),
                type=row.type,
                entry=entries.get(row.ref),
                address=row.address or "",
                conversation=row.conversation or "",
                data=row.data,
            )
            for row in rows
        ]
