"""All paths of one site account, each behind the same guard."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import structlog
from aiohttp import web

from connectors.site.assembly import Site
from connectors.site.errors import SiteError
from connectors.site.frames import SUBPROTOCOL
from connectors.site.rest.callers import Callers
from connectors.site.rest.conversations import Conversations, Parse, Verify
from connectors.site.rest.files import Files
from connectors.site.rest.inbox import Inbox
from connectors.site.rest.public import Public
from connectors.site.rest.server import Server
from connectors.site.rest.sessions import Sessions
from connectors.site.rest.wire import Handler, Routes, cors, error_response, lower
from connectors.site.sockets import Socket
from hub import HttpRoute, Overloaded

log = structlog.get_logger(__name__)

_CORS = {
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key",
    "Access-Control-Allow-Methods": "GET, POST, PUT, OPTIONS",
    "Access-Control-Max-Age": "600",
}


class Rest:
    """The handlers of one site account."""

    def __init__(self, site: Site, verify: Verify, parse: Parse) -> None:
        self._site = site
        self._callers = callers = Callers(site)
        self._sessions = Sessions(site, callers)
        self._conversations = Conversations(site, callers, verify, parse)
        self._files = Files(site, callers)
        self._inbox = Inbox(site, callers)
        self._public = Public(site)
        self._server = Server(site, callers)

    def routes(self) -> list[HttpRoute]:
        browser: Routes = [
            *self._sessions.routes(),
            *self._conversations.routes(),
            *self._files.routes(),
            *self._inbox.routes(),
        ]
        public, server = self._public.routes(), self._server.routes()
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

    async def _ws(self, request: web.Request) -> web.StreamResponse:
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        if offered and SUBPROTOCOL not in [each.strip() for each in offered.split(",")]:
            raise SiteError("bad_frame", f"the subprotocol is {SUBPROTOCOL}")
        return await Socket(self._site, self._callers.base(request)).run(request)
