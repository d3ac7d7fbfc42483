"""Puts the API onto the application: every route behind its scope, and the document of them all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from hub.api.access import ACCESS, ANYBODY, PUBLIC, Access
from hub.api.account_life import AccountLife
from hub.api.accounts import Accounts
from hub.api.attachments import Attachments
from hub.api.codes import Codes
from hub.api.consents import Consents
from hub.api.conversations import Conversations
from hub.api.cursors import Cursors
from hub.api.customers import Customers
from hub.api.dead_letters import DeadLetters
from hub.api.identity import Identity
from hub.api.imports import Imports
from hub.api.key_routes import KeyRoutes
from hub.api.keys import ApiKeyDoc
from hub.api.notifications import Notifications
from hub.api.openapi import document
from hub.api.operations import Commands, Operations
from hub.api.people import People
from hub.api.problems import refused
from hub.api.replies import Replies
from hub.api.sessions import (
    SessionDoc,
    SigninLink,
    set_cookie,
    sorry_page,
    welcome_page,
)
from hub.api.stories import Trace
from hub.api.tickets import Tickets
from hub.api.timelines import Latest, Timelines
from hub.api.uploads import UploadDoc, Uploads
from hub.feed.routes import end_with, feed_routes
from hub.planning.rules import Refusal
from hub.plugin_context import PluginRoute

if TYPE_CHECKING:
    from hub.running import Running

ROUTES = web.AppKey("routes", tuple[PluginRoute, ...])
PLUGINS = "/api/v1/x"


async def add_api(app: web.Application, hub: Running) -> None:
    """Add all routes below /api, /feed and /console, and /openapi.json."""
    await hub.store.prepare([ApiKeyDoc, SessionDoc, SigninLink, UploadDoc])
    access = Access(hub.store, hub.clock, hub.web.remote, lambda: hub.web.public_url)
    app[ACCESS] = access
    routes = (*core_routes(hub, access), *plugin_routes(hub), *feed_routes(hub))
    app[ROUTES] = routes
    end_with(app, hub)
    mount(app, access, routes)
    _add_document(app, hub, routes)
    _add_sign_in(app, hub, access)
    await _add_console(app, hub)


def core_routes(hub: Running, access: Access) -> list[PluginRoute]:
    """Return the hub's own routes."""
    people = People(hub.store)
    cursors = Cursors(hub.key.derive("api/cursors"))
    commands = Commands(hub)
    latest = Latest(hub.store, cursors)
    uploads = Uploads(hub)
    scopes = {route.scope for _, route in hub.services.routes}
    return [
        *Customers(hub, people, cursors).routes(),
        *Timelines(hub, people, cursors, latest).routes(),
        *Replies(hub, people, commands, latest, uploads).routes(),
        *Notifications(hub, people, commands, uploads).routes(),
        *Consents(hub, people, commands).routes(),
        *Identity(hub, people, commands).routes(),
        *Codes(hub, people, commands).routes(),
        *Conversations(hub, people, cursors, commands).routes(),
        *Tickets(hub, people).routes(),
        *Attachments(hub, people, uploads).routes(),
        *Accounts(hub).routes(),
        *AccountLife(hub).routes(),
        *Operations(hub).routes(),
        *DeadLetters(hub, cursors, commands).routes(),
        *Imports(hub, cursors).routes(),
        *Trace(hub, people).routes(),
        *KeyRoutes(hub, access, scopes).routes(),
    ]


def plugin_routes(hub: Running) -> list[PluginRoute]:
    """Return the plugins' routes where they are mounted.

    Raises ``ValueError`` for one that asks for no scope: plugins are behind keys.
    """
    routes = []
    for plugin, route in hub.services.routes:
        if route.scope in ("", PUBLIC, ANYBODY):
            raise ValueError(
                f"the plugin {plugin} registers {route.path} without a scope: name one, such as"
                f" {plugin}:read"
            )
        routes.append(msgspec.structs.replace(route, path=f"{PLUGINS}/{plugin}{route.path}"))
    return routes


def mount(app: web.Application, access: Access, routes: Iterable[PluginRoute]) -> None:
    for route in routes:
        app.router.add_route(route.method, route.path, access.guard(route))


# --- the document --------------------------------------------------------------------------------


def _add_document(app: web.Application, hub: Running, routes: Iterable[PluginRoute]) -> None:
    described = list(routes)
    made: dict[str, bytes] = {}  # by public URL, which is known once the port is

    async def show(request: web.Request) -> web.Response:
        server = hub.web.public_url or "/"
        if server not in made:
            made[server] = msgspec.json.encode(document(described, server))
        return web.Response(body=made[server], content_type="application/json")

    app.router.add_get("/openapi.json", show)


# --- people --------------------------------------------------------------------------------------


def _add_sign_in(app: web.Application, hub: Running, access: Access) -> None:
    async def sign_in(request: web.Request) -> web.Response:
        try:
            cookie = await access.sign_in(request, request.query.get("token", ""))
        except Refusal as refusal:
            return refused(refusal)
        if cookie is None:
            return sorry_page()
        response = welcome_page(f"{urlsplit(hub.web.public_url).path}/console/")
        set_cookie(response, cookie, hub.web.public_url)
        return response

    app.router.add_get("/console/signin", sign_in, allow_head=False)


# --- what others bring ---------------------------------------------------------------------------


async def _add_console(app: web.Application, hub: Running) -> None:
    from hub.console import add_console  # its pages ask the routes of this module

    await add_console(app, hub)
