"""A system that an account's pushes are relayed to: it notes them, and misbehaves on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web


class Pushed(msgspec.Struct, frozen=True):
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


class Target:
    def __init__(self) -> None:
        self.got: list[Pushed] = []  # what it took
        self.asked = 0
        self.status = 200
        self.headers: dict[str, str] = {}
        self.aborts = False  # it takes the push, and the answer is lost
        self.url = ""
        self.port = 0

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        body = await request.read()
        if self.status < 300:
            named = {name.lower(): value for name, value in request.headers.items()}
            path, _, query = request.raw_path.partition("?")
            self.got.append(Pushed(request.method, path, query, named, body))
        if self.aborts and request.transport is not None:
            self.aborts = False
            request.transport.abort()
        return web.Response(status=self.status, headers=self.headers)


@asynccontextmanager
async def target() -> AsyncIterator[Target]:
    served = Target()
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_route("*", "/{tail:.*}", served._take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        served.port = runner.addresses[0][1]
        served.url = f"http://127.0.0.1:{served.port}/from-omniline"
        yield served
    finally:
        await runner.cleanup()
