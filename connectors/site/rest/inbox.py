"""In-app messages as the user who is logged in sees them."""

from __future__ import annotations

import msgspec
from aiohttp import web

from connectors.site.assembly import Site
from connectors.site.frames import MAX_FRAME_BYTES, Ident, decode_body
from connectors.site.inapp import PAGE
from connectors.site.rest.callers import Callers
from connectors.site.rest.wire import PAGE_LIMIT, Handler, Routes, json_response, number
from connectors.site.uploads import read_capped


class ReadAll(msgspec.Struct, frozen=True, kw_only=True):
    up_to_id: Ident


class Inbox:
    """``/inbox``, read and put away."""

    def __init__(self, site: Site, callers: Callers) -> None:
        self._site = site
        self._callers = callers

    def routes(self) -> Routes:
        return [
            ("GET", "/inbox", self._inbox),
            ("GET", "/inbox/count", self._inbox_count),
            ("POST", "/inbox/read-all", self._inbox_read_all),
            ("POST", "/inbox/{id}/read", self._inbox_moves("read")),
            ("POST", "/inbox/{id}/archive", self._inbox_moves("archived")),
            ("POST", "/inbox/{id}/delete", self._inbox_moves("deleted")),
        ]

    async def _inbox(self, request: web.Request) -> web.StreamResponse:
        owner = await self._callers.user(request)
        limit = max(1, min(number(request, "limit", PAGE), PAGE_LIMIT))
        cursor = request.query.get("cursor", "")
        return json_response(await self._site.inapp.page(owner, cursor, limit))

    async def _inbox_count(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._site.inapp.count(await self._callers.user(request)))

    async def _inbox_read_all(self, request: web.Request) -> web.StreamResponse:
        owner = await self._callers.user(request)
        asked = decode_body(await read_capped(request, MAX_FRAME_BYTES), ReadAll)
        moved = await self._site.inapp.read_all(owner, asked.up_to_id)
        await self._site.tell_inbox_changed(owner)
        return json_response({"read": moved})

    def _inbox_moves(self, state: str) -> Handler:
        async def move(request: web.Request) -> web.StreamResponse:
            owner = await self._callers.user(request)
            ident = request.match_info["id"]
            after = await self._site.inapp.move(owner, ident, state)
            await self._site.tell_inbox_changed(owner)
            return json_response({"id": ident, "state": after})

        return move
