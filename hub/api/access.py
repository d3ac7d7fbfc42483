"""Who is calling, and may they? Every route of the API, the feed and plugins goes through here.

A caller shows an API key (``Authorization: Bearer omk_...``) or the cookie of a signed-in
browser, never anything in the URL. Handlers find the caller under ``request["api_key"]``.
"""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from hub.api.keys import ApiKey, Keys
from hub.api.problems import refused
from hub.api.sessions import COOKIE, SAFE_METHODS, Sessions, same_origin
from hub.clock import Clock
from hub.planning.rules import Refusal
from hub.plugin_context import PluginRoute
from hub.store.interface import Store

log = structlog.get_logger(__name__)

PUBLIC = "public"  # no key at all: the route checks a signature of its own
ANYBODY = "anybody"  # any valid key, whatever its scopes

FAILURES = 20  # wrong keys that one remote may try before it has to wait
REFILL_S = 3.0  # one more every so many seconds
REMOTES = 10_000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Access:
    """One per process. ``remote`` and ``public_url`` are the web server's."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        remote: Callable[[web.Request], str],
        public_url: Callable[[], str],
    ) -> None:
        self.keys = Keys(store, clock)
        self.sessions = Sessions(store, clock)
        self._remote = remote
        self._public_url = public_url
        self._failures = Failures(clock)

    def guard(self, route: PluginRoute) -> Handler:
        """Return the route's handler behind its scope; refusals become problem documents."""

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                if route.scope != PUBLIC:
                    caller = await self.authenticate(request)
                    authorize(caller, route.scope)
                    hand_over(request, caller)
                response = await route.handler(request)
            except Refusal as refusal:
                response = refused(refusal)
                if refusal.status in (401, 403):
                    response.headers["WWW-Authenticate"] = _challenge(request, refusal, route.scope)
            if not response.prepared:
                response.headers.setdefault("Cache-Control", "no-store")
                response.headers.setdefault("X-Content-Type-Options", "nosniff")
            return response

        return handle

    async def authenticate(self, request: web.Request) -> ApiKey:
        """Return who is calling. Raises Refusal: 401, 403 for a foreign page, 429."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        cookie = request.cookies.get(COOKIE, "")
        if scheme:
            return await self._by_key(request, token.strip() if scheme.lower() == "bearer" else "")
        if cookie:
            return await self._by_cookie(request, cookie)
        raise Refusal("unauthorized", "send an API key: Authorization: Bearer omk_...", 401)

    async def _by_key(self, request: web.Request, token: str) -> ApiKey:
        remote = self._remote(request)
        if not self.keys.remembers(token):
            self._failures.refuse_if_too_many(remote)
        caller = await self.keys.find(token)
        if caller is None:
            self._failed(remote, "key")
            raise Refusal("unauthorized", "this API key is not valid, or not any more", 401)
        return caller

    async def _by_cookie(self, request: web.Request, cookie: str) -> ApiKey:
        remote = self._remote(request)
        if not self.sessions.remembers(cookie):
            self._failures.refuse_if_too_many(remote)
        caller = await self.sessions.find(cookie)
        if caller is None:
            self._failed(remote, "session")
            raise Refusal("unauthorized", "this session has ended: sign in again", 401)
        if request.method not in SAFE_METHODS and not same_origin(request, self._public_url()):
            raise Refusal("forbidden", "this request does not come from one of our pages", 403)
        return caller

    async def sign_in(self, request: web.Request, token: str) -> str | None:
        """Use a sign-in link up; return the cookie's value, or None if the link is not good."""
        remote = self._remote(request)
        self._failures.refuse_if_too_many(remote)
        opened = await self.sessions.sign_in(token)
        if opened is None:
            self._failed(remote, "link")
            return None
        return opened[0]

    def _failed(self, remote: str, what: str) -> None:
        self._failures.count(remote)
        log.info("authentication_failed", what=what)


ACCESS = web.AppKey("access", Access)


def hand_over(request: web.Request, caller: ApiKey) -> None:
    """Put the caller where handlers look for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", web.NotAppKeyWarning)  # plugins know it by this name
        request["api_key"] = caller


def authorize(caller: ApiKey, scope: str) -> None:
    """Raise Refusal(forbidden) when the caller lacks the scope."""
    if scope != ANYBODY and not caller.allows(scope):
        raise Refusal("forbidden", f"this needs the scope {scope}, which {caller.name} lacks", 403)


def unlimited(request: web.Request) -> ApiKey:
    """Return the caller, who must not be limited to accounts: this concerns all of them."""
    caller: ApiKey = request["api_key"]
    if caller.limited:
        raise Refusal("forbidden", "a key that is limited to accounts may not do this", 403)
    return caller


def _challenge(request: web.Request, refusal: Refusal, scope: str) -> str:
    challenge = 'Bearer realm="omniline"'
    if refusal.status == 403:
        return f'{challenge}, error="insufficient_scope", scope="{scope}"'
    if "Authorization" in request.headers:
        return f'{challenge}, error="invalid_token"'
    return challenge


class Failures:
    """How often each remote failed: a bucket of 20, refilled by one every three seconds.

    Whoever shows a key that was recognized just now is not kept out by what others try from
    the same address.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._used: dict[str, tuple[float, float]] = {}

    def _now(self, remote: str) -> float:
        used, since = self._used.get(remote, (0.0, 0.0))
        return max(0.0, used - (self._clock.monotonic() - since) / REFILL_S)

    def count(self, remote: str) -> None:
        used = self._now(remote) + 1
        self._used.pop(remote, None)
        self._used[remote] = (used, self._clock.monotonic())
        while len(self._used) > REMOTES:
            del self._used[next(iter(self._used))]

    def refuse_if_too_many(self, remote: str) -> None:
        over = self._now(remote) - (FAILURES - 1)
        if over > 0:
            seconds = max(1, round(over * REFILL_S))
            raise Refusal(
                "rate-limited",
                f"too many wrong keys from here: try again in {seconds} s",
                429,
                retry_after=seconds,
            )
