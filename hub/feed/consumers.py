"""Named consumers: the hub keeps a reader's cursor, and says how far behind it is.

The cursor is the consumer's word that it has processed everything up to there; reading never
moves it. Setting it is compare-and-set, so that two workers cannot move it past each other.
"""

from __future__ import annotations

import re
from datetime import datetime

import msgspec
from aiohttp import web

from hub.api.bodies import Input, answer, read_json
from hub.clock import Clock
from hub.documents import FeedRow, State
from hub.feed.access import Selection, rights_of
from hub.feed.cursors import TAIL, Cursor, Cursors
from hub.feed.reader import Reader
from hub.planning.rules import Refusal
from hub.store.interface import Store

MAX_CONSUMERS = 200
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PREFIX = "feed/consumer/"
_BEHIND_PREFIX = "feed/consumer0"
_UNTOLD = msgspec.UNSET


class Put(Input, frozen=True, kw_only=True):
    """``if_cursor``: the cursor that must be there now; null: the consumer must be new."""

    cursor: str
    if_cursor: str | msgspec.UnsetType | None = _UNTOLD


class Consumer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A consumer as it is shown. ``lag_events`` counts those that its filters leave out, too.

    ``lag_seconds``: how long ago the hub stored the first event that it has not processed.
    ``expired``: events it has not processed are no longer kept.
    """

    name: str
    cursor: str
    seen_at: datetime
    seen_by: str
    lag_events: int
    lag_seconds: float
    expired: bool


class Consumers:
    def __init__(self, store: Store, reader: Reader, cursors: Cursors, clock: Clock) -> None:
        self._table = store.table(State)
        self._rows = store.table(FeedRow)
        self._reader = reader
        self._cursors = cursors
        self._clock = clock

    # --- requests --------------------------------------------------------------------------------

    async def list_all(self, request: web.Request) -> web.StreamResponse:
        rights_of(request["api_key"])
        held = await self._table.find(
            {"_id": {"$gte": _PREFIX, "$lt": _BEHIND_PREFIX}}, sort=[("_id", 1)]
        )
        return answer({"consumers": [await self._shown(each) for each in held]})

    async def show(self, request: web.Request) -> web.StreamResponse:
        rights_of(request["api_key"])
        held = await self._table.get(_ident(request))
        if held is None:
            raise _nobody(request)
        return answer(await self._shown(held))

    async def set(self, request: web.Request) -> web.StreamResponse:
        """Store the cursor if ``if_cursor`` is what is there; else 409 with what is there."""
        caller = rights_of(request["api_key"]).caller
        told = await read_json(request, Put)
        cursor = await self._resolved(told.cursor)
        ident = _ident(request)
        held = await self._table.get(ident)
        current = held.value["cursor"] if held else None
        if told.if_cursor is not _UNTOLD and current not in (told.if_cursor, cursor):
            raise _moved(current)
        if held is None and await self._full():
            raise Refusal(
                "conflict", f"there are {MAX_CONSUMERS} consumers: delete one that is not used"
            )
        value = {"cursor": cursor, "seen_at": self._clock.now(), "seen_by": caller.id}
        doc = State(id=ident, value=value, rev=held.rev + 1 if held else 1)
        if held is None:
            stored = not await self._table.insert([doc])
        else:
            stored = await self._table.swap(doc, {"rev": held.rev})
        if not stored:
            now_held = await self._table.get(ident)
            raise _moved(now_held.value["cursor"] if now_held else None)
        return answer(await self._shown(doc))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        rights_of(request["api_key"])
        if not await self._table.delete({"_id": _ident(request)}):
            raise _nobody(request)
        return web.Response(status=204)

    # ---------------------------------------------------------------------------------------------

    async def _resolved(self, text: str) -> str:
        """Check a cursor, of whatever filters; ``tail`` becomes one of everything."""
        if text == TAIL:
            generation, end = await self._reader.end()
            return self._cursors.text(generation, end, Selection())
        self._cursors.read(text)
        return text

    async def _full(self) -> bool:
        where = {"_id": {"$gte": _PREFIX, "$lt": _BEHIND_PREFIX}}
        return await self._table.count(where, limit=MAX_CONSUMERS) >= MAX_CONSUMERS

    async def _shown(self, held: State) -> Consumer:
        cursor = self._cursors.read(held.value["cursor"])
        generation, end = await self._reader.end()
        lag_s, expired = await self._behind(cursor, generation, end)
        return Consumer(
            name=held.id.removeprefix(_PREFIX),
            cursor=held.value["cursor"],
            seen_at=held.value["seen_at"],
            seen_by=held.value["seen_by"],
            lag_events=max(0, end - cursor.position),
            lag_seconds=lag_s,
            expired=expired,
        )

    async def _behind(self, cursor: Cursor, generation: int, end: int) -> tuple[float, bool]:
        if cursor.generation != generation or cursor.position > end:
            return 0.0, True
        following = await self._rows.find(
            {"_id": {"$gt": cursor.position}}, sort=[("_id", 1)], limit=1
        )
        if not following:
            return 0.0, cursor.position < end
        age = (self._clock.now() - following[0].recorded_at).total_seconds()
        return round(max(0.0, age), 3), int(following[0].id) > cursor.position + 1


def _ident(request: web.Request) -> str:
    name = request.match_info["name"]
    if not _NAME.fullmatch(name):
        raise Refusal(
            "bad-request", "a consumer's name is 1 to 64 of A-Z a-z 0-9 _ . -, no sign first", 400
        )
    return _PREFIX + name


def _nobody(request: web.Request) -> Refusal:
    return Refusal("not-found", f"there is no consumer {request.match_info['name']}", 404)


def _moved(current: str | None) -> Refusal:
    return Refusal(
        "conflict",
        "the consumer's cursor is not if_cursor: another worker moved it; read it and go on there",
        409,
        cursor=current,
    )
