"""Making and revoking keys through the API, and who one is."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from aiohttp import web
from msgspec import Meta

from hub.api.access import ANYBODY, Access, unlimited
from hub.api.bodies import Input, answer, moment, path_id, read_json
from hub.api.keys import ApiKey, ApiKeyDoc, create_key, list_keys, revoke_key
from hub.api.openapi import operation
from hub.api.sessions import COOKIE
from hub.api.views import View
from hub.planning.rules import Refusal
from hub.plugin_context import PluginRoute

if TYPE_CHECKING:
    from hub.running import Running


class KeyInput(Input, frozen=True, kw_only=True):
    """A key gives at most what its maker has."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    scopes: Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(min_length=1, max_length=50)]
    accounts: Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=200)] = []
    expires_at: datetime | None = None


class KeyView(View, frozen=True, kw_only=True):
    id: str
    name: str
    scopes: list[str]
    accounts: list[str]
    created_at: datetime
    created_by: str
    last_used_at: datetime | None
    revoked_at: datetime | None
    expires_at: datetime | None


class KeyMade(View, frozen=True, kw_only=True):
    """``secret`` is the whole key. It is shown this once and kept nowhere."""

    key: KeyView
    secret: str


class KeyList(View, frozen=True, kw_only=True):
    keys: list[KeyView]


class Caller(View, frozen=True, kw_only=True):
    """``kind`` is key or session; no accounts = all of them."""

    id: str
    kind: str
    name: str
    scopes: list[str]
    accounts: list[str]


class KeyRoutes:
    """``scopes`` answers which scopes there are, plugins' ones included."""

    def __init__(self, hub: Running, access: Access, scopes: Collection[str]) -> None:
        self._hub = hub
        self._access = access
        self._scopes = scopes

    def routes(self) -> list[PluginRoute]:
        return [
            PluginRoute(
                method="GET",
                path="/api/v1/keys",
                handler=self.listed,
                scope="keys:read",
                operation=operation("All API keys", tag="keys", answer=KeyList),
            ),
            PluginRoute(
                method="POST",
                path="/api/v1/keys",
                handler=self.make,
                scope="keys:write",
                operation=operation(
                    "Make an API key",
                    tag="keys",
                    answer=KeyMade,
                    status=201,
                    body=KeyInput,
                    description="The key is answered once; a repeated request makes another one.",
                ),
            ),
            PluginRoute(
                method="DELETE",
                path="/api/v1/keys/{key}",
                handler=self.revoke,
                scope="keys:write",
                operation=operation(
                    "Revoke an API key; it stops working within seconds", tag="keys", status=204
                ),
            ),
            PluginRoute(
                method="GET",
                path="/api/v1/session",
                handler=self.who,
                scope=ANYBODY,
                operation=operation("Who is calling", tag="keys", answer=Caller),
            ),
            PluginRoute(
                method="DELETE",
                path="/api/v1/session",
                handler=self.sign_out,
                scope=ANYBODY,
                operation=operation("Sign out", tag="keys", status=204),
            ),
        ]

    async def listed(self, request: web.Request) -> web.Response:
        unlimited(request)
        return answer(KeyList(keys=[_view(doc) for doc in await list_keys(self._hub.store)]))

    async def make(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        wanted = await read_json(request, KeyInput)
        expires_at = wanted.expires_at and moment(wanted.expires_at, "expires_at")
        if not all(_may_give(caller, scope) for scope in wanted.scopes):
            raise Refusal("forbidden", "a key cannot give scopes that it lacks itself", 403)
        if caller.limited and not (wanted.accounts and set(wanted.accounts) <= caller.accounts):
            raise Refusal("forbidden", "a limited key makes keys for its own accounts only", 403)
        try:
            doc, secret = await create_key(
                self._hub.store,
                self._hub.clock,
                wanted.name,
                wanted.scopes,
                wanted.accounts,
                expires_at=expires_at,
                created_by=caller.actor,
                more_scopes=self._scopes,
            )
        except ValueError as error:
            raise Refusal("bad-request", str(error), 422) from error
        return answer(KeyMade(key=_view(doc), secret=secret), 201)

    async def revoke(self, request: web.Request) -> web.Response:
        unlimited(request)
        ident = path_id(request, "key")
        if not await revoke_key(self._hub.store, self._hub.clock, ident):
            raise Refusal("not-found", f"there is no key {ident}", 404)
        return web.Response(status=204)

    async def who(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        return answer(
            Caller(
                id=caller.id,
                kind=caller.kind,
                name=caller.name,
                scopes=sorted(caller.scopes),
                accounts=sorted(caller.accounts),
            )
        )

    async def sign_out(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        response = web.Response(status=204)
        if caller.kind == "session":
            await self._access.sessions.sign_out(request.cookies[COOKIE])
            response.del_cookie(COOKIE, path="/")
        return response


def _may_give(caller: ApiKey, scope: str) -> bool:
    whole, _, types = scope.rpartition(":")  # feed:read:message.* is a part of feed:read
    return caller.allows(scope) or (bool(types) and caller.allows(whole))


def _view(doc: ApiKeyDoc) -> KeyView:
    return KeyView(
        id=doc.id,
        name=doc.name,
        scopes=list(doc.scopes),
        accounts=list(doc.accounts),
        created_at=doc.created_at,
        created_by=doc.created_by,
        last_used_at=doc.last_used_at,
        revoked_at=doc.revoked_at,
        expires_at=doc.expires_at,
    )
