"""``GET /feed/v1/stream``: the feed as server-sent events.

A stream listens first, then reads the log up to its end, then goes on with what it heard, without
what it sent already: no gap and no event twice at the seam. What it hears waits in a small buffer;
when that runs over, the stream reads the log again. Only who does not take what was sent for 20
seconds is disconnected.

aiohttp-sse is not used here: it writes events one by one, cannot tell a slow reader why it is
disconnected, and its heartbeats are a task of their own for each stream.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress

import msgspec
import structlog
from aiohttp import web

from hub.documents import FeedRow
from hub.feed.asking import Asked
from hub.feed.cursors import CursorExpired, Cursors
from hub.feed.events import Rendered
from hub.feed.pages import Pages, start
from hub.feed.reader import Reader
from hub.feed.tail import FeedTail
from hub.planning.rules import Refusal
from hub.store.interface import StoreError

log = structlog.get_logger(__name__)

BUFFER = 256  # rows heard and not sent
GROUP_BYTES = 1024 * 1024  # at most so much is rendered and not taken by the reader
PER_KEY = 20  # streams that one key may have open in one process
HEARTBEAT = b": hb\n\n"
OVERFLOW = b"event: overflow\ndata: {}\n\n"


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """In seconds. ``life_s`` varies by a tenth, so that streams do not all come back at once."""

    heartbeat_s: float = 15.0
    skipped_s: float = 5.0
    send_s: float = 20.0
    goodbye_s: float = 1.0
    life_s: float = 1800.0
    retry_ms: int = 3000


class Streams:
    """All open streams of this process."""

    def __init__(
        self,
        reader: Reader,
        pages: Pages,
        cursors: Cursors,
        tail: FeedTail,
        timing: Timing,
    ) -> None:
        self._reader = reader
        self._pages = pages
        self._cursors = cursors
        self._tail = tail
        self._timing = timing
        self._open: set[_Stream] = set()
        self._closing = False

    @property
    def count(self) -> int:
        return len(self._open)

    def close(self) -> None:
        """End every stream now: the hub goes down, and clients come back elsewhere."""
        self._closing = True
        for stream in list(self._open):
            stream.close()

    async def serve(self, request: web.Request, question: Asked) -> web.StreamResponse:
        """Stream until the client goes, the stream is old, or the hub stops.

        Raises Refusal before the stream starts: for a bad cursor, or too many streams.
        """
        key = question.rights.caller.id
        if self._closing:
            raise Refusal("unavailable", "the hub is going down: connect again", 503)
        mine = [stream for stream in self._open if stream.key == key]
        for stream in mine:
            if stream.left:
                stream.close()
        if sum(not stream.left for stream in mine) >= PER_KEY:
            raise Refusal(
                "rate-limited",
                f"this key has {PER_KEY} open streams: close one of them",
                429,
                retry_after=30,
            )
        customers = await self._reader.customers(question.selection)
        stream = _Stream(
            request, question, customers, self._reader, self._pages, self._cursors, self._timing
        )
        unlisten = self._tail.listen(stream.hear)
        self._open.add(stream)
        try:
            return await stream.run()
        except CursorExpired as error:
            generation = self._reader.generation
            raise self._cursors.expired(error, generation, question.selection) from error
        finally:
            unlisten()
            self._open.discard(stream)


class _Closing(Exception):
    """The stream was told to end."""


class _Stream:
    """One reader's stream."""

    def __init__(
        self,
        request: web.Request,
        question: Asked,
        customers: frozenset[str],
        reader: Reader,
        pages: Pages,
        cursors: Cursors,
        timing: Timing,
    ) -> None:
        self._request = request
        self._question = question
        self._customers = customers
        self._reader = reader
        self._pages = pages
        self._cursors = cursors
        self._timing = timing
        self._heard: list[FeedRow] = []
        self._heard_to = 0  # everything up to here was heard and is in the buffer, if asked for
        self._ran_over = False
        self._woken = asyncio.Event()
        self._closing = False
        self._sent_at = 0.0
        self._told = 0  # the position of the last id that was sent

    @property
    def key(self) -> str:
        return self._question.rights.caller.id

    @property
    def left(self) -> bool:
        """Whether the client is gone, which a write would only notice later."""
        transport = self._request.transport
        return transport is None or transport.is_closing()

    # --- what comes in ---------------------------------------------------------------------------

    def hear(self, rows: Sequence[FeedRow]) -> None:
        """Keep what is asked for; called by the tail with every new row."""
        if not self._ran_over:
            self._heard += [
                row
                for row in rows
                if self._question.rights.may_be_seen(row)
                and self._question.selection.admits(row, self._customers)
            ]
            if len(self._heard) > BUFFER:
                self._ran_over = True
                self._heard = []
        self._heard_to = int(rows[-1].id)
        self._woken.set()

    def close(self) -> None:
        self._closing = True
        self._woken.set()
        # A reader that takes nothing would keep the hub waiting.
        if (transport := self._request.transport) is not None and transport.get_write_buffer_size():
            transport.abort()

    # --- what goes out ---------------------------------------------------------------------------

    async def run(self) -> web.StreamResponse:
        position = await start(self._question, self._reader, self._cursors)
        first = await self._read(position)  # an expired cursor has to be refused before the start
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
                "X-Content-Type-Options": "nosniff",
            }
        )
        loop = asyncio.get_running_loop()
        dies_at = loop.time() + self._timing.life_s * random.uniform(0.9, 1.1)
        self._told = position
        try:
            await response.prepare(self._request)
            await self._write(response, b"retry: %d\n\n" % self._timing.retry_ms)
            await self._follow(response, position, first, dies_at)
        except TimeoutError:
            await self._overflow(response)
        except _Closing:
            log.debug("feed_stream_closed", key=self.key)
        except CursorExpired:
            log.info("feed_stream_fell_behind", key=self.key)
        except StoreError as error:
            log.info("feed_stream_without_database", key=self.key, reason=str(error))
        except ConnectionResetError:
            log.debug("feed_stream_left", key=self.key)
        return response

    async def _follow(
        self,
        response: web.StreamResponse,
        position: int,
        first: tuple[list[Rendered], int, bool],
        dies_at: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        events, position, more = first
        while True:
            await self._send(response, events, position)
            if self._closing or loop.time() >= dies_at:
                return
            if more or self._ran_over:
                self._ran_over = False
                events, position, more = await self._read(position)
                continue
            if not self._heard and self._heard_to <= position:
                await self._rest(response, position, dies_at)
            events, position = await self._take_heard(position)

    async def _read(self, position: int) -> tuple[list[Rendered], int, bool]:
        question = self._question
        page = await self._pages.read(question.selection, question.rights, position, BUFFER)
        return page.events, page.position, page.more

    async def _take_heard(self, position: int) -> tuple[list[Rendered], int]:
        """Render what was heard behind the position, and return how far that goes."""
        if self._ran_over:
            return [], position
        rows, self._heard = self._heard, []
        reached = max(position, self._heard_to)
        fresh = [row for row in rows if int(row.id) > position]
        return await self._reader.events(fresh, self._question.rights), reached

    async def _rest(self, response: web.StreamResponse, position: int, dies_at: float) -> None:
        """Wait for something to be heard; keep the connection alive meanwhile."""
        loop = asyncio.get_running_loop()
        while not self._closing:
            self._woken.clear()
            skipped = position > self._told
            idle_s = self._timing.skipped_s if skipped else self._timing.heartbeat_s
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(self._sent_at + idle_s, dies_at)):
                    await self._woken.wait()
                    return
            if loop.time() >= dies_at:
                return
            if skipped:
                await self._move_on(response, position)
            else:
                await self._write(response, HEARTBEAT)

    async def _send(
        self, response: web.StreamResponse, events: Sequence[Rendered], position: int
    ) -> None:
        group = bytearray()
        for event in events:
            block = self._block(event)
            if group and len(group) + len(block) > GROUP_BYTES:
                await self._write(response, bytes(group))
                group.clear()
            group += block
            self._told = event.position
        if group:
            await self._write(response, bytes(group))
        idle_s = asyncio.get_running_loop().time() - self._sent_at
        if position > self._told and idle_s >= self._timing.skipped_s:
            await self._move_on(response, position)

    async def _move_on(self, response: web.StreamResponse, position: int) -> None:
        """Move the client's last id past rows that it did not ask for; no handler fires."""
        self._told = position
        await self._write(response, b"id: %b\n\n" % self._cursor(position))

    def _block(self, event: Rendered) -> bytes:
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (
            self._cursor(event.position),
            event.type.encode(),
            event.body,
        )

    def _cursor(self, position: int) -> bytes:
        text = self._cursors.text(self._reader.generation, position, self._question.selection)
        return text.encode()

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        """Send some bytes.

        Raises TimeoutError when the reader does not take them, ConnectionResetError if it left,
        _Closing instead of beginning something that could keep the hub waiting.
        """
        if self._closing:
            raise _Closing
        async with asyncio.timeout(self._timing.send_s):
            await response.write(data)
        self._sent_at = asyncio.get_running_loop().time()

    async def _overflow(self, response: web.StreamResponse) -> None:
        """Tell a reader that was too slow, if it wakes up soon; then cut the connection."""
        log.info("feed_stream_too_slow", key=self.key, send_s=self._timing.send_s)
        transport = self._request.transport
        if transport is None:
            return
        transport.set_write_buffer_limits(high=0)  # so that the end of the write is the end of it
        try:
            async with asyncio.timeout(self._timing.goodbye_s):
                await response.write(OVERFLOW)
                await response.write_eof()
        except (TimeoutError, ConnectionResetError):
            transport.abort()
