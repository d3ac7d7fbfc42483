"""Who asks: a visitor by their session, a user who is logged in, or the site's own server."""

from __future__ import annotations

from aiohttp import web

from connectors.site.assembly import Site
from connectors.site.errors import SiteError
from connectors.site.rest.wire import bearer, lower
from connectors.site.visitors import Session


class Callers:
    """Tells who a request of one site account is from, and where they reach it."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def session(self, request: web.Request) -> Session:
        """Return the caller's session. Raises :class:`SiteError`."""
        session = await self._site.session(bearer(lower(request.headers)))
        self._site.limiter.take(f"rest:{session.id}", "frame")
        return session

    async def user(self, request: web.Request) -> str:
        """Return the address (``adr_``) of the caller, who has to be logged in."""
        session = await self.session(request)
        if not session.verified:
            raise SiteError("auth_required", "in-app messages are for users who are logged in")
        return self._site.context.address_id(self._site.visitors.speaks_as(session.access))

    def check_server(self, request: web.Request) -> None:
        """Raises :class:`SiteError` (auth_required) for who has none of the site's server keys."""
        shown = bearer(lower(request.headers))
        keys = self._site.settings.server_keys
        if not sum([key.matches(shown) for key in keys]):
            raise SiteError("auth_required", "this is not a server key of the site")

    def base(self, request: web.Request) -> str:
        """Return where this client reaches the account, for links."""
        path = f"/site/{self._site.key}"
        public = self._site.settings.public_url
        return (public.rstrip("/") if public else str(request.url.origin())) + path
