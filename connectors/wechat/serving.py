"""The access token for other systems of the account's owner: ``/api/v1/x/wechat/{account}/token``.

With an API key of the scope ``wechat:token``. GET gives the token that the hub uses itself; POST
tells of one that WeChat refused, and gives another. So there is one system only that fetches.
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from connectors.wechat.common import CHANNEL
from connectors.wechat.token_state import Token
from connectors.wechat.tokens import Tokens
from hub import ConnectorContext, PluginRoute, Refusal
from normalizer.outcomes import Failure

SCOPE = "wechat:token"
MAX_BODY_BYTES = 8192

_ANSWER: dict[str, Any] = {
    "type": "object",
    "required": ["access_token", "expires_in"],
    "properties": {
        "access_token": {"type": "string"},
        "expires_in": {"type": "integer", "description": "Seconds, at most."},
    },
}
_REFUSED: dict[str, Any] = {
    "type": "object",
    "required": ["refused"],
    "properties": {"refused": {"type": "string", "maxLength": 4096}},
}


class RefusedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token with which WeChat answered 40001, 40014 or 42001."""

    refused: str


class TokenRoutes:
    def __init__(self, account: str, context: ConnectorContext, tokens: Tokens) -> None:
        self._account = account
        self._context = context
        self._tokens = tokens

    def register(self) -> None:
        path = f"/{self._account}/token"
        for method, handler, summary, body in (
            ("GET", self._get, "The account's access token", None),
            ("POST", self._post, "Tell that WeChat refused a token, and get another", _REFUSED),
        ):
            self._context.register_route(
                PluginRoute(
                    method=method,
                    path=path,
                    handler=handler,
                    scope=SCOPE,
                    operation=_operation(summary, body),
                )
            )

    async def _get(self, request: web.Request) -> web.StreamResponse:
        self._allow(request)
        try:
            return self._told(await self._tokens.held())
        except Failure as failure:
            raise Refusal("unavailable", failure.reason, 503) from failure

    async def _post(self, request: web.Request) -> web.StreamResponse:
        self._allow(request)
        body = await request.content.read(MAX_BODY_BYTES)
        try:
            said = msgspec.json.decode(body, type=RefusedToken)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Refusal("bad-request", 'say which: {"refused": "..."}', 422) from None
        try:
            await self._tokens.replaced(said.refused)
            return self._told(await self._tokens.held())
        except Failure as failure:
            raise Refusal("unavailable", failure.reason, 503) from failure

    def _allow(self, request: web.Request) -> None:
        accounts = request["api_key"].accounts
        if accounts and f"{CHANNEL}:{self._account}" not in accounts:
            raise Refusal("forbidden", "this key is not for this account", 403)

    def _told(self, token: Token) -> web.Response:
        left = (token.expires_at - self._context.clock.now()).total_seconds()
        said = {"access_token": token.value, "expires_in": max(0, int(left))}
        return web.json_response(said, headers={"Cache-Control": "no-store"})


def _operation(summary: str, body: dict[str, Any] | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "summary": summary,
        "tags": ["wechat"],
        "responses": {
            "200": {
                "description": summary,
                "content": {"application/json": {"schema": _ANSWER}},
            }
        },
    }
    if body is not None:
        told["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": body}},
        }
    return told
