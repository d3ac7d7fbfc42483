"""Signing in with a browser: links that work once, and the session cookie they lead to.

    create_signin_link -> GET /console/signin?token=... -> a cookie -> console and API

The cookie is HttpOnly and SameSite=Strict; a request that changes something has to come from
our own pages as well (:func:`same_origin`). Tokens are kept hashed only.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar, TypeVar
from urllib.parse import quote, urlsplit

import structlog
from aiohttp import web
from msgspec.structs import replace

from hub.api.keys import ADMIN, CACHE_SIZE, CACHED_S, ApiKey
from hub.clock import Clock
from hub.documents import Doc, Index
from hub.store.interface import Store

log = structlog.get_logger(__name__)

COOKIE = "omniline_session"
CSRF_HEADER = "X-Omniline-Request"  # any value: other origins cannot send it without our consent
LINK_LIFE = timedelta(minutes=15)
SESSION_LIFE = timedelta(hours=12)
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_TOKEN_CHARS = 200

D = TypeVar("D", bound=Doc)


class SigninLink(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """A link that signs somebody in once. The id is the hash of its token."""

    collection: ClassVar[str] = "signin_links"
    indexes: ClassVar[tuple[Index, ...]] = (Index((("expires_at", 1),), expires=True),)

    name: str
    scopes: tuple[str, ...]
    accounts: tuple[str, ...] = ()
    expires_at: datetime
    used_at: datetime | None = None


class SessionDoc(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """Somebody who is signed in. The id is the hash of the cookie."""

    collection: ClassVar[str] = "sessions"
    indexes: ClassVar[tuple[Index, ...]] = (Index((("expires_at", 1),), expires=True),)

    name: str
    scopes: tuple[str, ...]
    accounts: tuple[str, ...] = ()
    created_at: datetime
    expires_at: datetime


async def create_signin_link(
    store: Store,
    clock: Clock,
    base_url: str,
    *,
    name: str = "operator",
    scopes: Sequence[str] = (ADMIN,),
    accounts: Sequence[str] = (),
    life: timedelta = LINK_LIFE,
) -> str:
    """Make a link that signs ``name`` in once; it is good for 15 minutes.

    ``base_url`` is where people reach the hub (``public_url``).
    """
    token = secrets.token_urlsafe(32)
    await store.table(SigninLink).insert(
        [
            SigninLink(
                id=_hashed(token),
                name=name,
                scopes=tuple(scopes),
                accounts=tuple(accounts),
                expires_at=clock.now() + life,
            )
        ]
    )
    log.info("signin_link_made", scopes=tuple(scopes))
    return f"{base_url.rstrip('/')}/console/signin?token={quote(token)}"


class Sessions:
    """Opens, recognizes and ends sessions; what it read stays good for three seconds."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._links = store.table(SigninLink)
        self._sessions = store.table(SessionDoc)
        self._clock = clock
        self._read: dict[str, tuple[float, SessionDoc | None]] = {}

    async def sign_in(self, token: str) -> tuple[str, SessionDoc] | None:
        """Use a link up; return the cookie's value and the session, or None if it is not good."""
        if not token or len(token) > _TOKEN_CHARS:
            return None
        now = self._clock.now()
        link = await self._links.get(_hashed(token))
        if link is None or link.used_at is not None or link.expires_at <= now:
            return None
        if not await self._links.swap(replace(link, used_at=now), {"used_at": None}):
            return None  # somebody else was faster
        cookie = secrets.token_urlsafe(32)
        session = SessionDoc(
            id=_hashed(cookie),
            name=link.name,
            scopes=link.scopes,
            accounts=link.accounts,
            created_at=now,
            expires_at=now + SESSION_LIFE,
        )
        await self._sessions.insert([session])
        log.info("signed_in", session=session.id[:12])
        return cookie, session

    def remembers(self, cookie: str) -> bool:
        held = self._read.get(_hashed(cookie))
        return held is not None and held[1] is not None

    async def find(self, cookie: str) -> ApiKey | None:
        """Return who is signed in with this cookie."""
        if not cookie or len(cookie) > _TOKEN_CHARS:
            return None
        doc = await self._load(_hashed(cookie))
        if doc is None or doc.expires_at <= self._clock.now():
            return None
        return ApiKey(
            id=f"ses_{doc.id[:26]}",
            name=doc.name,
            scopes=frozenset(doc.scopes),
            accounts=frozenset(doc.accounts),
            kind="session",
        )

    async def sign_out(self, cookie: str) -> None:
        ident = _hashed(cookie)
        await self._sessions.delete({"_id": ident})
        self._read.pop(ident, None)

    async def _load(self, ident: str) -> SessionDoc | None:
        held = self._read.get(ident)
        now = self._clock.monotonic()
        if held is not None and now - held[0] < CACHED_S:
            return held[1]
        doc = await self._sessions.get(ident)
        self._read.pop(ident, None)
        self._read[ident] = (now, doc)
        while len(self._read) > CACHE_SIZE:
            del self._read[next(iter(self._read))]
        return doc


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def same_origin(request: web.Request, public_url: str) -> bool:
    """Say whether a request that carries our cookie was made by one of our own pages.

    Browsers send ``Origin`` with every request that may change something. Where it is missing,
    a header that other sites cannot set without our consent has to be there.
    """
    origin = request.headers.get("Origin")
    if origin is None:
        return CSRF_HEADER in request.headers
    given = urlsplit(origin)
    ours = urlsplit(public_url)
    return (given.scheme, given.netloc) == (ours.scheme, ours.netloc) or (
        given.netloc == request.host and given.scheme == request.scheme
    )


def set_cookie(response: web.StreamResponse, cookie: str, public_url: str) -> None:
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=int(SESSION_LIFE.total_seconds()),
        httponly=True,
        samesite="Strict",
        secure=public_url.startswith("https://"),
        path="/",
    )


# The cookie is SameSite=Strict: a redirect that began on another site (a link in a mail) would
# not carry it, a page of ours that goes on by itself does.
_WELCOME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Omniline</title>
<meta http-equiv="refresh" content="0;url={to}"></head>
<body><p>You are signed in. <a href="{to}">Go on</a></p></body></html>
"""
_SORRY = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Omniline</title></head>
<body><h1>This link does not work any more</h1>
<p>A sign-in link works once, for 15 minutes. Make a new one: <code>omniline signin</code></p>
</body></html>
"""
_PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
}


def welcome_page(to: str) -> web.Response:
    return web.Response(
        text=_WELCOME.format(to=to), content_type="text/html", headers=_PAGE_HEADERS
    )


def sorry_page() -> web.Response:
    return web.Response(text=_SORRY, content_type="text/html", status=401, headers=_PAGE_HEADERS)
