"""Sessions: opened for a visitor or a user of the site, and left again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta

from connectors.site.assembly import Site
from connectors.site.errors import SiteError
from connectors.site.frames import MAX_FRAME_BYTES, Ident, Token, decode_body, rfc3339
from connectors.site.limits import network_of
from connectors.site.messages import clean_page
from connectors.site.rest.callers import Callers
from connectors.site.rest.wire import Routes, json_response
from connectors.site.uploads import read_capped
from connectors.site.visitors import Opened


class Page(msgspec.Struct, frozen=True, kw_only=True):
    url: Annotated[str, Meta(max_length=8000)] = ""
    title: Annotated[str, Meta(max_length=2000)] = ""
    referrer: Annotated[str, Meta(max_length=8000)] = ""


class OpenSession(msgspec.Struct, frozen=True, kw_only=True):
    visitor_token: Token = ""
    identity_token: Token = ""
    user_id: Ident = ""
    user_hash: Ident = ""
    page: Page = Page()
    locale: Annotated[str, Meta(max_length=35)] = ""
    tz: Annotated[str, Meta(max_length=64)] = ""
    consent_version: Annotated[str, Meta(max_length=100)] = ""


class Sessions:
    """``/sessions`` and ``/logout``."""

    def __init__(self, site: Site, callers: Callers) -> None:
        self._site = site
        self._callers = callers

    def routes(self) -> Routes:
        return [
            ("POST", "/sessions", self._open),
            ("POST", "/logout", self._logout),
        ]

    async def _open(self, request: web.Request) -> web.StreamResponse:
        site = self._site
        asked = decode_body(await read_capped(request, MAX_FRAME_BYTES), OpenSession)
        wanted = site.settings.consent_version
        if wanted and asked.consent_version != wanted:
            raise SiteError("consent_required", f"ask for consent to version {wanted}")
        token = await site.visitors.known(asked.visitor_token) if asked.visitor_token else None
        if token is not None:
            site.limiter.take(token.visitor, "refresh")
        network = network_of(request.remote or "")
        named = asked.identity_token or asked.user_hash
        if not named and token is None:
            site.limiter.take(network, "session")
        claims = site.claims_of(network, asked.identity_token, asked.user_id, asked.user_hash)
        if claims is not None:  # many people are behind one address, and each logs in
            site.limiter.take(token.visitor if token else f"user:{claims.sub}", "identify")
        opened = await site.visitors.open(
            token,
            claims,
            page=clean_page(msgspec.to_builtins(asked.page), site.settings.page_query_allow),
            locale=asked.locale,
        )
        return json_response(await self._opened(opened), status=201)

    async def _opened(self, opened: Opened) -> dict[str, Any]:
        site, session = self._site, opened.session
        audience = await site.audiences.of(session)
        told: dict[str, Any] = {
            "session_id": session.access.sid,
            "access_token": opened.access_token,
            "expires_at": rfc3339_of(session.access.exp),
            "visitor_id": session.id,
            "conversations": await site.audiences.conversations(audience),
            "cursor": site.cursor(session, await site.context.position()),
            "server_time": rfc3339(site.clock.now()),
            "limits": site.limits_told(),
            "availability": site.settings.availability,
        }
        if opened.visitor_token:
            told["visitor_token"] = opened.visitor_token
        if session.verified:
            told["user"] = site.user_told(session)
            told["inbox"] = msgspec.to_builtins(await site.inapp.count(audience.ids[0]))
        return told

    async def _logout(self, request: web.Request) -> web.StreamResponse:
        session = await self._callers.session(request)
        opened = await self._site.visitors.logout(session)
        await self._site.tell_ended(visitor=session.id)
        return json_response(await self._opened(opened), status=201)


def rfc3339_of(seconds: float) -> str:
    return rfc3339(datetime.fromtimestamp(seconds, UTC))
