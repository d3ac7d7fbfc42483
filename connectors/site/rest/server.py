"""What the site's own server asks, with its server key: in-app messages, sign-outs, blocks."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from connectors.site.assembly import Site
from connectors.site.errors import SiteError
from connectors.site.frames import MAX_FRAME_BYTES, Ident, decode_body
from connectors.site.inapp import NewItem
from connectors.site.rest.callers import Callers
from connectors.site.rest.wire import Routes, json_response
from connectors.site.tokens import MAX_SUBJECT_CHARS
from connectors.site.uploads import read_capped

UserId = Annotated[str, Meta(min_length=1, max_length=MAX_SUBJECT_CHARS)]


class SignOut(msgspec.Struct, frozen=True, kw_only=True):
    user_id: UserId


class Block(msgspec.Struct, frozen=True, kw_only=True):
    user_ids: Annotated[list[UserId], Meta(max_length=100)] = []
    visitor_ids: Annotated[list[Ident], Meta(max_length=100)] = []
    blocked: bool = True


class Server:
    """``POST /inbox`` and ``/server``."""

    def __init__(self, site: Site, callers: Callers) -> None:
        self._site = site
        self._callers = callers

    def routes(self) -> Routes:
        return [
            ("POST", "/inbox", self._order),
            ("POST", "/server/sign-out", self._sign_out),
            ("POST", "/server/block", self._block),
        ]

    async def _order(self, request: web.Request) -> web.StreamResponse:
        self._callers.check_server(request)
        key = request.headers.get("Idempotency-Key", "")
        if not 1 <= len(key) <= 200:
            raise SiteError("bad_frame", "an Idempotency-Key of at most 200 characters is needed")
        asked = decode_body(await read_capped(request, MAX_FRAME_BYTES * 4), NewItem)
        return json_response(await self._site.inapp.order(asked, key), status=202)

    async def _sign_out(self, request: web.Request) -> web.StreamResponse:
        self._callers.check_server(request)
        asked = decode_body(await read_capped(request, MAX_FRAME_BYTES), SignOut)
        await self._site.visitors.sign_out(asked.user_id)
        await self._end_user(asked.user_id, "auth_required")
        return web.Response(status=204)

    async def _block(self, request: web.Request) -> web.StreamResponse:
        self._callers.check_server(request)
        asked = decode_body(await read_capped(request, MAX_FRAME_BYTES), Block)
        await self._site.visitors.block(
            users=asked.user_ids, visitors=asked.visitor_ids, blocked=asked.blocked
        )
        if asked.blocked:
            for user in asked.user_ids:
                await self._end_user(user, "visitor_blocked")
            for visitor in asked.visitor_ids:
                await self._site.tell_ended(visitor=visitor, code="visitor_blocked")
        return web.Response(status=204)

    async def _end_user(self, user: str, code: str) -> None:
        site = self._site
        address = site.context.address_id(site.visitors.user_address(user))
        await site.tell_ended(address=address, code=code)
