"""``GET /feed/v1/events``: the feed page by page, with long polling."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
from aiohttp import web

from hub.documents import FeedRow
from hub.feed.access import Rights, Selection
from hub.feed.asking import Asked, asked, whole_number
from hub.feed.cursors import TAIL, CursorExpired, Cursors
from hub.feed.events import Rendered
from hub.feed.reader import Reader
from hub.feed.tail import FeedTail

MAX_LIMIT = 1000
MAX_WAIT_S = 25
MAX_PAGE_BYTES = 1024 * 1024
BATCH = "application/cloudevents-batch+json"
PARAMETERS = ("limit", "wait")


class Page(msgspec.Struct, frozen=True):
    """Some events, the position they reach to, and whether more are there already."""

    events: list[Rendered]
    position: int
    more: bool


class Pages:
    """Serves pages; a reader keeps the cursor of the last one and asks again."""

    def __init__(self, reader: Reader, cursors: Cursors, tail: FeedTail) -> None:
        self._reader = reader
        self._cursors = cursors
        self._tail = tail
        self._closing = False
        self._waiting: set[asyncio.Event] = set()

    def close(self) -> None:
        """Answer everybody who waits: the hub goes down."""
        self._closing = True
        for event in self._waiting:
            event.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        question = asked(request, *PARAMETERS)
        limit = whole_number(request, "limit", 100, 1, MAX_LIMIT)
        wait_s = whole_number(request, "wait", 0, 0, MAX_WAIT_S)
        try:
            after = await start(question, self._reader, self._cursors)
            page = await self._page(question, after, limit, wait_s)
        except CursorExpired as error:
            generation = self._reader.generation
            raise self._cursors.expired(error, generation, question.selection) from error
        following = self._cursors.text(self._reader.generation, page.position, question.selection)
        if BATCH in request.headers.get("Accept", ""):
            return _batch(request, page, following)
        return _answer(page, following)

    async def _page(self, question: Asked, after: int, limit: int, wait_s: int) -> Page:
        """Return the next page; if it would be empty, wait for the first event."""
        if not wait_s:
            return await self.read(question.selection, question.rights, after, limit)
        woken = asyncio.Event()
        customers = await self._reader.customers(question.selection)

        def listener(rows: object) -> None:
            assert isinstance(rows, list)
            if any(_wanted(row, question, customers) for row in rows):
                woken.set()

        unlisten = self._tail.listen(listener)
        self._waiting.add(woken)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    while True:
                        page = await self.read(question.selection, question.rights, after, limit)
                        if page.events or self._closing:
                            return page
                        after = page.position
                        if not page.more:
                            await woken.wait()
                            woken.clear()
            return await self.read(question.selection, question.rights, after, limit)
        finally:
            unlisten()
            self._waiting.discard(woken)

    async def read(self, selection: Selection, rights: Rights, after: int, limit: int) -> Page:
        """Return one page behind a position: as many events as fit into a MiB."""
        read = await self._reader.read(selection, rights, after, limit)
        events = await self._reader.events(read.rows, rights)
        size = 0
        for number, event in enumerate(events):
            size += len(event.body) + 1
            if size > MAX_PAGE_BYTES and number:
                return Page(events[:number], events[number - 1].position, True)
        return Page(events, read.position, read.more)


async def start(question: Asked, reader: Reader, cursors: Cursors) -> int:
    """Return the position behind which to read. Raises CursorExpired, Refusal(cursor-invalid)."""
    if question.cursor == TAIL:
        _, position = await reader.end()
        return position
    if not question.cursor:
        return await reader.start(None)
    return await reader.start(cursors.read_for(question.cursor, question.selection))


def _wanted(row: FeedRow, question: Asked, customers: frozenset[str]) -> bool:
    return question.rights.may_be_seen(row) and question.selection.admits(row, customers)


def _answer(page: Page, following: str) -> web.Response:
    body = b'{"events":[%b],"next_cursor":"%b","has_more":%b}' % (
        b",".join(event.body for event in page.events),
        following.encode(),
        b"true" if page.more else b"false",
    )
    return web.Response(
        body=body,
        content_type="application/json",
        charset="utf-8",
        headers={"Cache-Control": "no-store"},
    )


def _batch(request: web.Request, page: Page, following: str) -> web.Response:
    link = request.rel_url.update_query(cursor=following)
    return web.Response(
        body=b"[%b]" % b",".join(event.body for event in page.events),
        headers={
            "Content-Type": f"{BATCH}; charset=UTF-8",
            "Cache-Control": "no-store",
            "Link": f'<{link}>; rel="next"',
            "Hub-Next-Cursor": following,
        },
    )
