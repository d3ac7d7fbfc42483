"""What is said: messages and what happens to them, for clients without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta
from msgspec.structs import replace

from connectors.site.assembly import Site
from connectors.site.frames import (
    MAX_FRAME_BYTES,
    Ack,
    Edit,
    Frame,
    Place,
    Rate,
    Recall,
    ReceiptIn,
    TypingIn,
    decode_body,
    rfc3339,
)
from connectors.site.longpoll import MAX_WAIT_S, LongPoll
from connectors.site.rest.callers import Callers
from connectors.site.rest.wire import (
    PAGE_LIMIT,
    Routes,
    hub_request,
    json_response,
    number,
    place,
    refused_as_error,
)
from connectors.site.uploads import read_capped
from connectors.site.visitors import Session
from hub import Refused, Request, Verified
from normalizer.drafts import Message

ENTRY_WAIT_S = 2.0
Verify = Callable[[Request], Verified]
Parse = Callable[[Verified], Message]


class SetReceipt(msgspec.Struct, frozen=True, kw_only=True):
    delivered_seq: Place | None = None
    read_seq: Place | None = None


class SetTyping(msgspec.Struct, frozen=True, kw_only=True):
    on: bool


class NewParts(msgspec.Struct, frozen=True, kw_only=True):
    parts: list[dict[str, Any]]


class NewRating(msgspec.Struct, frozen=True, kw_only=True):
    score: Annotated[int, Meta(ge=1, le=5)]
    comment: Annotated[str, Meta(max_length=2000)] = ""


class Conversations:
    """``/conversations`` and ``/events``."""

    def __init__(self, site: Site, callers: Callers, verify: Verify, parse: Parse) -> None:
        self._site = site
        self._callers = callers
        self._verify = verify
        self._parse = parse

    def routes(self) -> Routes:
        conversation = "/conversations/{id}"
        return [
            ("GET", "/conversations", self._conversations),
            ("GET", f"{conversation}/messages", self._messages),
            ("POST", f"{conversation}/messages", self._send),
            ("POST", f"{conversation}/messages/{{seq}}/edit", self._edit),
            ("POST", f"{conversation}/messages/{{seq}}/recall", self._recall),
            ("POST", f"{conversation}/receipts", self._receipt),
            ("POST", f"{conversation}/typing", self._typing),
            ("POST", f"{conversation}/rating", self._rate),
            ("GET", "/events", self._events),
        ]

    async def _conversations(self, request: web.Request) -> web.StreamResponse:
        session = await self._callers.session(request)
        audience = await self._site.audiences.of(session)
        return json_response({"conversations": await self._site.audiences.conversations(audience)})

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        site, session = self._site, await self._callers.session(request)
        thread = request.match_info["id"]
        audience = await site.audiences.of(session)
        await site.audiences.with_thread(session, audience, thread)
        after, limit = number(request, "after_seq", 0), number(request, "limit", PAGE_LIMIT)
        limit = max(1, min(limit, PAGE_LIMIT))
        found = await site.audiences.entries(audience, thread, after, limit + 1)
        renderer = site.renderer(session, audience, self._callers.base(request))
        return json_response(
            {
                "messages": [renderer.listed(entry) for entry in found[:limit]],
                "more": len(found) > limit,
            }
        )

    async def _send(self, request: web.Request) -> web.StreamResponse:
        """1 verify and 2 parse as the connector does, 3 store, 4 wait a moment for its place."""
        site = self._site
        asked = hub_request(request, await read_capped(request, MAX_FRAME_BYTES), site.clock.now())
        try:
            verified = self._verify(asked)
        except Refused as refused:
            raise refused_as_error(refused) from refused
        session = await self._callers.session(request)
        draft = self._parse(verified)
        if session.user is not None and session.user.profile is not None:
            draft = replace(draft, profile=session.user.profile)
        audience = await site.audiences.of(session)
        position = await site.context.position()
        ident = await site.desk.send(session, audience, draft, raw=asked.body, door="rest")
        shown = await self._shown(session, ident, position, self._callers.base(request))
        if shown is not None:
            return json_response(shown, status=201)
        ack = Ack(re=draft.key, server_msg_id=ident, ts=rfc3339(site.clock.now()))
        return json_response(ack, status=202)

    async def _shown(self, session: Session, ident: str, position: int, base: str) -> Frame | None:
        """Return the message once it is in the timeline, or None when that takes too long."""
        site = self._site
        audience = await site.audiences.of(session)
        changes = site.context.follow(audience.ids, position)
        try:
            async with asyncio.timeout(ENTRY_WAIT_S):
                entry = await site.context.entry(ident)
                while entry is None:
                    seen = await anext(changes)
                    if seen.entry is not None and seen.entry.id == ident:
                        entry = seen.entry
        except TimeoutError:
            return None
        finally:
            if isinstance(changes, AsyncGenerator):
                await changes.aclose()
        return site.renderer(session, audience, base).listed(entry)

    async def _edit(self, request: web.Request) -> web.StreamResponse:
        session, body = (
            await self._callers.session(request),
            await read_capped(request, MAX_FRAME_BYTES),
        )
        asked = decode_body(body, NewParts)
        thread, seq = place(request)
        audience = await self._site.audiences.of(session)
        frame = Edit(conversation_id=thread, seq=seq, parts=asked.parts)
        await self._site.desk.edit(session, audience, frame, body)
        return web.Response(status=204)

    async def _recall(self, request: web.Request) -> web.StreamResponse:
        session = await self._callers.session(request)
        thread, seq = place(request)
        audience = await self._site.audiences.of(session)
        await self._site.desk.recall(
            session, audience, Recall(conversation_id=thread, seq=seq), b""
        )
        return web.Response(status=204)

    async def _receipt(self, request: web.Request) -> web.StreamResponse:
        session = await self._callers.session(request)
        asked = decode_body(await read_capped(request, MAX_FRAME_BYTES), SetReceipt)
        self._site.limiter.take(session.id, "receipt")
        frame = ReceiptIn(
            conversation_id=request.match_info["id"],
            delivered_seq=asked.delivered_seq,
            read_seq=asked.read_seq,
        )
        await self._site.desk.receipt(session, await self._site.audiences.of(session), frame)
        return web.Response(status=204)

    async def _typing(self, request: web.Request) -> web.StreamResponse:
        session = await self._callers.session(request)
        asked = decode_body(await read_capped(request, MAX_FRAME_BYTES), SetTyping)
        frame = TypingIn(conversation_id=request.match_info["id"], on=asked.on)
        await self._site.desk.typing(session, await self._site.audiences.of(session), frame)
        return web.Response(status=204)

    async def _rate(self, request: web.Request) -> web.StreamResponse:
        session, body = (
            await self._callers.session(request),
            await read_capped(request, MAX_FRAME_BYTES),
        )
        asked = decode_body(body, NewRating)
        frame = Rate(
            conversation_id=request.match_info["id"], score=asked.score, comment=asked.comment
        )
        audience = await self._site.audiences.of(session)
        await self._site.desk.rate(session, audience, frame, body)
        return web.Response(status=204)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        session = await self._callers.session(request)
        wait_s = min(max(number(request, "wait", int(MAX_WAIT_S)), 0), MAX_WAIT_S)
        audience = await self._site.audiences.of(session)
        poll = LongPoll(self._site, session, audience, self._callers.base(request))
        return json_response(await poll.run(request.query.get("cursor", ""), wait_s))
