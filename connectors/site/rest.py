"""The REST paths: sessions, the fallback for messages, uploads, in-app messages, server calls.

Every answer is JSON and carries the caller's origin; errors are the ``error`` frame. The body of
an error is the same whether a socket or a request is told.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Annotated, Any

import msgspec
import structlog
from aiohttp import web
from msgspec import Meta
from msgspec.structs import replace

from connectors.site.assembly import Site
from connectors.site.errors import SiteError
from connectors.site.frames import (
    MAX_FRAME_BYTES,
    SUBPROTOCOL,
    Ack,
    Edit,
    Frame,
    Ident,
    Place,
    Rate,
    Recall,
    ReceiptIn,
    Token,
    TypingIn,
    decode_body,
    error_frame,
    rfc3339,
)
from connectors.site.inapp import PAGE, NewItem
from connectors.site.limits import network_of
from connectors.site.longpoll import MAX_WAIT_S, LongPoll
from connectors.site.messages import clean_page
from connectors.site.sockets import Socket
from connectors.site.tokens import MAX_SUBJECT_CHARS
from connectors.site.uploads import NewUpload, UploadDoc, read_capped
from connectors.site.visitors import Opened, Session
from hub import HttpRoute, Overloaded, Refused, Request, Verified
from normalizer.drafts import Message

log = structlog.get_logger(__name__)

ENTRY_WAIT_S = 2.0
PAGE_LIMIT = 100
_CORS = {
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key",
    "Access-Control-Allow-Methods": "GET, POST, PUT, OPTIONS",
    "Access-Control-Max-Age": "600",
}
_encode = msgspec.json.Encoder().encode
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Verify = Callable[[Request], Verified]
Parse = Callable[[Verified], Message]


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


class ReadAll(msgspec.Struct, frozen=True, kw_only=True):
    up_to_id: Ident


UserId = Annotated[str, Meta(min_length=1, max_length=MAX_SUBJECT_CHARS)]


class SignOut(msgspec.Struct, frozen=True, kw_only=True):
    user_id: UserId


class Block(msgspec.Struct, frozen=True, kw_only=True):
    user_ids: Annotated[list[UserId], Meta(max_length=100)] = []
    visitor_ids: Annotated[list[Ident], Meta(max_length=100)] = []
    blocked: bool = True


class Rest:
    """The handlers of one site account."""

    def __init__(self, site: Site, verify: Verify, parse: Parse) -> None:
        self._site = site
        self._verify = verify
        self._parse = parse

    def routes(self) -> list[HttpRoute]:
        conversation = "/conversations/{id}"
        browser: list[tuple[str, str, Handler]] = [
            ("POST", "/sessions", self._open),
            ("POST", "/logout", self._logout),
            ("GET", "/conversations", self._conversations),
            ("GET", f"{conversation}/messages", self._messages),
            ("POST", f"{conversation}/messages", self._send),
            ("POST", f"{conversation}/messages/{{seq}}/edit", self._edit),
            ("POST", f"{conversation}/messages/{{seq}}/recall", self._recall),
            ("POST", f"{conversation}/receipts", self._receipt),
            ("POST", f"{conversation}/typing", self._typing),
            ("POST", f"{conversation}/rating", self._rate),
            ("GET", "/events", self._events),
            ("POST", "/uploads", self._upload),
            ("GET", "/uploads/{id}", self._upload_state),
            ("PUT", "/uploads/{id}", self._upload_bytes),
            ("GET", "/inbox", self._inbox),
            ("GET", "/inbox/count", self._inbox_count),
            ("POST", "/inbox/read-all", self._inbox_read_all),
            ("POST", "/inbox/{id}/read", self._inbox_moves("read")),
            ("POST", "/inbox/{id}/archive", self._inbox_moves("archived")),
            ("POST", "/inbox/{id}/delete", self._inbox_moves("deleted")),
        ]
        public: list[tuple[str, str, Handler]] = [
            ("GET", "/config", self._config),
            ("GET", "/widget.js", self._widget),
            ("GET", "/files/{entry}/{index:[0-9]{1,4}}", self._file),
        ]
        server: list[tuple[str, str, Handler]] = [
            ("POST", "/inbox", self._order),
            ("POST", "/server/sign-out", self._sign_out),
            ("POST", "/server/block", self._block),
        ]
        if self._site.settings.demo_page:
            public.append(("GET", "/demo", self._demo))
        routes = [
            HttpRoute(method=method, path=path, handler=self._guarded(handler, gate))
            for group, gate in ((browser, True), (public, False), (server, False))
            for method, path, handler in group
        ]
        routes.append(HttpRoute(method="GET", path="/ws", handler=self._guarded(self._ws, True)))
        paths = dict.fromkeys(path for _, path, _ in browser)
        return routes + [
            HttpRoute(method="OPTIONS", path=path, handler=self._preflight) for path in paths
        ]

    # --- around every handler ------------------------------------------------------------------

    def _guarded(self, handler: Handler, gate: bool) -> Handler:
        """Let listed origins in, answer errors as frames, and let the browser read both."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            headers = lower(request.headers)
            origin = None if gate else self._readable_by(headers)
            try:
                if gate:
                    origin = self._site.origins.check(headers)
                    self._site.admit()
                response = await handler(request)
            except SiteError as error:
                response = error_response(error)
            except Overloaded as error:
                unavailable = SiteError("unavailable", str(error), retry_after_s=5)
                response = error_response(unavailable)
            except (web.HTTPException, ConnectionResetError):
                raise
            except Exception:
                log.exception("site_request_failed", account=self._site.key)
                internal = SiteError("internal", "something went wrong on our side")
                response = error_response(internal)
            if not response.prepared:
                response.headers.update(cors(origin))
            return response

        return guarded

    def _readable_by(self, headers: Mapping[str, str]) -> str | None:
        """Return the origin to reflect on public paths, which everybody may call."""
        with suppress(SiteError):
            return self._site.origins.check(headers)
        return None

    async def _preflight(self, request: web.Request) -> web.StreamResponse:
        try:
            origin = self._site.origins.check(lower(request.headers))
        except SiteError as error:
            return error_response(error)
        return web.Response(status=204, headers={**cors(origin), **_CORS})

    async def _session(self, request: web.Request) -> Session:
        """Return the caller's session. Raises :class:`SiteError`."""
        session = await self._site.session(bearer(lower(request.headers)))
        self._site.limiter.take(f"rest:{session.id}", "frame")
        return session

    def base(self, request: web.Request) -> str:
        """Return where this client reaches the account, for links."""
        path = f"/site/{self._site.key}"
        public = self._site.settings.public_url
        return (public.rstrip("/") if public else str(request.url.origin())) + path

    # --- public --------------------------------------------------------------------------------

    async def _config(self, request: web.Request) -> web.StreamResponse:
        settings = self._site.settings
        told = {
            "site": self._site.key,
            "enabled": settings.enabled,
            "theme": msgspec.to_builtins(settings.theme),
            "features": {
                "uploads": True,
                "inbox": bool(settings.identity_keys or settings.user_hash_secret),
                "recall": settings.visitor_recall_s > 0,
                "edit": settings.visitor_edit_s > 0,
            },
            "limits": self._site.limits_told(),
            "availability": {"state": settings.availability, "next_open": settings.next_open},
            "locales": ["zh-CN", "en"],
            "consent": {"version": settings.consent_version, "text": settings.consent_text},
            "heartbeat_s": settings.heartbeat_s,
        }
        response = json_response(told)
        response.headers["Cache-Control"] = "public, max-age=60"
        # It holds nothing of anybody, and a page that is not listed should learn why.
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    async def _widget(self, request: web.Request) -> web.StreamResponse:
        script = asset("widget.js")
        etag = hashlib.sha256(script).hexdigest()[:32]
        headers = {
            "Content-Type": "text/javascript; charset=utf-8",
            "Cache-Control": "public, max-age=300",
            "ETag": f'"{etag}"',
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "cross-origin",
        }
        if any(each.value == etag for each in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=script, headers=headers)

    async def _demo(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=asset("demo.html"), content_type="text/html", charset="utf-8")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return await self._site.uploads.serve(request)

    # --- sessions ------------------------------------------------------------------------------

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
        session = await self._session(request)
        opened = await self._site.visitors.logout(session)
        await self._site.tell_ended(visitor=session.id)
        return json_response(await self._opened(opened), status=201)

    # --- messages ------------------------------------------------------------------------------

    async def _conversations(self, request: web.Request) -> web.StreamResponse:
        session = await self._session(request)
        audience = await self._site.audiences.of(session)
        return json_response({"conversations": await self._site.audiences.conversations(audience)})

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        site, session = self._site, await self._session(request)
        thread = request.match_info["id"]
        audience = await site.audiences.of(session)
        await site.audiences.with_thread(session, audience, thread)
        after, limit = number(request, "after_seq", 0), number(request, "limit", PAGE_LIMIT)
        limit = max(1, min(limit, PAGE_LIMIT))
        found = await site.audiences.entries(audience, thread, after, limit + 1)
        renderer = site.renderer(session, audience, self.base(request))
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
        session = await self._session(request)
        draft = self._parse(verified)
        if session.user is not None and session.user.profile is not None:
            draft = replace(draft, profile=session.user.profile)
        audience = await site.audiences.of(session)
        position = await site.context.position()
        ident = await site.desk.send(session, audience, draft, raw=asked.body, door="rest")
        shown = await self._shown(session, ident, position, self.base(request))
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
        session, body = await self._session(request), await read_capped(request, MAX_FRAME_BYTES)
        asked = decode_body(body, NewParts)
        thread, seq = place(request)
        audience = await self._site.audiences.of(session)
        frame = Edit(conversation_id=thread, seq=seq, parts=asked.parts)
        await self._site.desk.edit(session, audience, frame, body)
        return web.Response(status=204)

    async def _recall(self, request: web.Request) -> web.StreamResponse:
        session = await self._session(request)
        thread, seq = place(request)
        audience = await self._site.audiences.of(session)
        await self._site.desk.recall(
            session, audience, Recall(conversation_id=thread, seq=seq), b""
        )
        return web.Response(status=204)

    async def _receipt(self, request: web.Request) -> web.StreamResponse:
        session = await self._session(request)
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
        session = await self._session(request)
        asked = decode_body(await read_capped(request, MAX_FRAME_BYTES), SetTyping)
        frame = TypingIn(conversation_id=request.match_info["id"], on=asked.on)
        await self._site.desk.typing(session, await self._site.audiences.of(session), frame)
        return web.Response(status=204)

    async def _rate(self, request: web.Request) -> web.StreamResponse:
        session, body = await self._session(request), await read_capped(request, MAX_FRAME_BYTES)
        asked = decode_body(body, NewRating)
        frame = Rate(
            conversation_id=request.match_info["id"], score=asked.score, comment=asked.comment
        )
        audience = await self._site.audiences.of(session)
        await self._site.desk.rate(session, audience, frame, body)
        return web.Response(status=204)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        session = await self._session(request)
        wait_s = min(max(number(request, "wait", int(MAX_WAIT_S)), 0), MAX_WAIT_S)
        audience = await self._site.audiences.of(session)
        poll = LongPoll(self._site, session, audience, self.base(request))
        return json_response(await poll.run(request.query.get("cursor", ""), wait_s))

    async def _ws(self, request: web.Request) -> web.StreamResponse:
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        if offered and SUBPROTOCOL not in [each.strip() for each in offered.split(",")]:
            raise SiteError("bad_frame", f"the subprotocol is {SUBPROTOCOL}")
        return await Socket(self._site, self.base(request)).run(request)

    # --- uploads -------------------------------------------------------------------------------

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        site, session = self._site, await self._session(request)
        asked = decode_body(await read_capped(request, MAX_FRAME_BYTES), NewUpload)
        if asked.conversation_id:
            audience = await site.audiences.of(session)
            await site.audiences.with_thread(session, audience, asked.conversation_id)
        doc, query = await site.uploads.begin(session, asked)
        told = {
            **upload_out(doc),
            "put_url": f"{self.base(request)}/uploads/{doc.id}?{query}",
            "headers": {},
            "expires_in_s": 600,
        }
        return json_response(told, status=201)

    async def _upload_bytes(self, request: web.Request) -> web.StreamResponse:
        exp, sig = request.query.get("exp", ""), request.query.get("sig", "")
        doc = await self._site.uploads.receive(request.match_info["id"], exp, sig, request)
        return json_response(upload_out(doc))

    async def _upload_state(self, request: web.Request) -> web.StreamResponse:
        session = await self._session(request)
        doc = await self._site.uploads.state(session, request.match_info["id"])
        return json_response(upload_out(doc))

    # --- in-app messages -----------------------------------------------------------------------

    async def _user(self, request: web.Request) -> str:
        """Return the address (``adr_``) of the caller, who has to be logged in."""
        session = await self._session(request)
        if not session.verified:
            raise SiteError("auth_required", "in-app messages are for users who are logged in")
        return self._site.context.address_id(self._site.visitors.speaks_as(session.access))

    async def _inbox(self, request: web.Request) -> web.StreamResponse:
        owner = await self._user(request)
        limit = max(1, min(number(request, "limit", PAGE), PAGE_LIMIT))
        cursor = request.query.get("cursor", "")
        return json_response(await self._site.inapp.page(owner, cursor, limit))

    async def _inbox_count(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._site.inapp.count(await self._user(request)))

    async def _inbox_read_all(self, request: web.Request) -> web.StreamResponse:
        owner = await self._user(request)
        asked = decode_body(await read_capped(request, MAX_FRAME_BYTES), ReadAll)
        moved = await self._site.inapp.read_all(owner, asked.up_to_id)
        await self._site.tell_inbox_changed(owner)
        return json_response({"read": moved})

    def _inbox_moves(self, state: str) -> Handler:
        async def move(request: web.Request) -> web.StreamResponse:
            owner = await self._user(request)
            ident = request.match_info["id"]
            after = await self._site.inapp.move(owner, ident, state)
            await self._site.tell_inbox_changed(owner)
            return json_response({"id": ident, "state": after})

        return move

    # --- the site's server ---------------------------------------------------------------------

    def _check_server(self, request: web.Request) -> None:
        shown = bearer(lower(request.headers))
        keys = self._site.settings.server_keys
        if not sum([key.matches(shown) for key in keys]):
            raise SiteError("auth_required", "this is not a server key of the site")

    async def _order(self, request: web.Request) -> web.StreamResponse:
        self._check_server(request)
        key = request.headers.get("Idempotency-Key", "")
        if not 1 <= len(key) <= 200:
            raise SiteError("bad_frame", "an Idempotency-Key of at most 200 characters is needed")
        asked = decode_body(await read_capped(request, MAX_FRAME_BYTES * 4), NewItem)
        return json_response(await self._site.inapp.order(asked, key), status=202)

    async def _sign_out(self, request: web.Request) -> web.StreamResponse:
        self._check_server(request)
        asked = decode_body(await read_capped(request, MAX_FRAME_BYTES), SignOut)
        await self._site.visitors.sign_out(asked.user_id)
        await self._end_user(asked.user_id, "auth_required")
        return web.Response(status=204)

    async def _block(self, request: web.Request) -> web.StreamResponse:
        self._check_server(request)
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


# --- small things ------------------------------------------------------------------------------


def json_response(told: Any, *, status: int = 200) -> web.Response:
    return web.Response(
        body=_encode(told),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def error_response(error: SiteError) -> web.Response:
    response = json_response(error_frame(error), status=error.status)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    return response


def cors(origin: str | None) -> dict[str, str]:
    if origin is None:
        return {"Vary": "Origin"}
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def bearer(headers: Mapping[str, str]) -> str:
    """Return the bearer token. Raises :class:`SiteError` (auth_required)."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise SiteError("auth_required", "an Authorization header with a bearer token is needed")
    return token.strip()


def refused_as_error(refused: Refused) -> SiteError:
    cause = refused.__cause__
    return cause if isinstance(cause, SiteError) else SiteError("auth_required", refused.reason)


def hub_request(request: web.Request, body: bytes, now: datetime) -> Request:
    """Return the request as connectors see vendors' requests."""
    prefix, sep, rest = request.path.partition("/conversations/")
    return Request(
        method=request.method,
        url=str(request.url),
        path=sep + rest if sep else prefix,
        query_string=request.rel_url.raw_query_string,
        headers=lower(request.headers),
        body=body,
        remote=request.remote or "",
        received_at=now,
    )


def number(request: web.Request, name: str, otherwise: int) -> int:
    text = request.query.get(name, "")
    if not text:
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise SiteError("bad_frame", f"{name} is a whole number")
    return int(text)


def place(request: web.Request) -> tuple[str, str]:
    seq = request.match_info["seq"]
    if not (seq.isascii() and seq.isdigit() and len(seq) <= 15):
        raise SiteError("conversation_not_found", "there is no such message")
    return request.match_info["id"], seq


def upload_out(doc: UploadDoc) -> dict[str, Any]:
    told: dict[str, Any] = {
        "upload_id": doc.id,
        "state": doc.state,
        "kind": doc.kind,
        "mime": doc.mime,
        "bytes": doc.size,
        "name": doc.name,
        "reason": doc.reason,
    }
    return {name: value for name, value in told.items() if value != ""}


def rfc3339_of(seconds: float) -> str:
    return rfc3339(datetime.fromtimestamp(seconds, UTC))


@cache
def asset(name: str) -> bytes:
    return resources.files("connectors.site").joinpath(name).read_bytes()
