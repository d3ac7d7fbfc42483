"""A token endpoint that checks what it is sent, rotates refresh tokens, and misbehaves on demand.

A refresh token works once, as at strict providers: its use is answered with the next one, and a
second use is ``invalid_grant``. ``answer`` stands in for the usual answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

CLIENT, SECRET, CONSENT = "app-1", "the-secret-of-the-app", "consent-0"
Misanswer = Callable[[web.Request], Awaitable[web.Response]]


class FakeOAuth:
    """``async with FakeOAuth() as oauth:``"""

    def __init__(self, *, rotates: bool = True, life_s: float = 3600.0) -> None:
        self.rotates = rotates
        self.life_s: float | None = life_s
        self.client_secret: str | None = SECRET
        self.refresh = CONSENT
        self.issued: list[str] = []  # access tokens, the last one is the one that mail servers take
        self.asked: list[Mapping[str, str]] = []
        self.answer: Misanswer | None = None
        self.scheme = "http"
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def token(self) -> str:
        return self.issued[-1] if self.issued else ""

    @property
    def settings(self) -> dict[str, Any]:
        """The table ``oauth`` of an account."""
        return {
            "token_url": f"{self.scheme}://127.0.0.1:{self.port}/token",
            "client_id": CLIENT,
            "client_secret": SECRET,
            "refresh_token": CONSENT,
            "scope": "mail offline_access",
        }

    async def __aenter__(self) -> FakeOAuth:
        app = web.Application()
        app.router.add_post("/token", self._post)
        app.router.add_get("/elsewhere", self._elsewhere)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _elsewhere(self, request: web.Request) -> web.Response:
        raise AssertionError("a redirect was followed, with a secret in the body or not")

    async def _post(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-www-form-urlencoded"
        assert not request.query_string, "nothing secret stands in a URL"
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append(form)
        if self.answer is not None:
            return await self.answer(request)
        if form.get("client_id") != CLIENT or form.get("client_secret") != self.client_secret:
            return refusal("invalid_client", f"no such client: {form.get('client_secret')}", 401)
        granted: dict[str, Any] = {"token_type": "Bearer"}
        if form["grant_type"] == "refresh_token":
            if form.get("refresh_token") != self.refresh:
                return refusal("invalid_grant", f"reused or revoked: {form.get('refresh_token')}")
            if self.rotates:
                self.refresh = f"consent-{len(self.issued) + 1}"
                granted["refresh_token"] = self.refresh
        else:
            assert form["grant_type"] == "client_credentials"
            assert "refresh_token" not in form
        self.issued.append(f"access-{len(self.issued) + 1}")
        if self.life_s is not None:
            granted["expires_in"] = self.life_s
        return web.json_response({**granted, "access_token": self.token})


def refusal(error: str, description: str = "", status: int = 400) -> web.Response:
    return web.json_response({"error": error, "error_description": description}, status=status)


def says(
    status: int, body: Any = None, *, text: str = "", headers: Mapping[str, str] | None = None
) -> Misanswer:
    """Answer always this."""

    async def answer(request: web.Request) -> web.Response:
        if body is not None:
            return web.json_response(body, status=status, headers=headers)
        return web.Response(status=status, text=text, headers=headers)

    return answer


def held_back(released: asyncio.Event, then: FakeOAuth) -> Misanswer:
    """Answer as usual once ``released`` is set, and from then on."""

    async def answer(request: web.Request) -> web.Response:
        await released.wait()
        then.answer = None
        then.asked.pop()
        return await then._post(request)

    return answer
