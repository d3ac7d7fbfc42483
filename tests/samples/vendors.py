"""The made-up vendors of the sample connectors, as servers that check what they are sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from hub.testing.fake_vendor import FakeVendor, Got, Mood
from hub.testing.samples.held import Line
from hub.testing.samples.poll import Said

TOKEN = "the-token-of-main"
AT = 1_772_442_000_000  # every message's time, in milliseconds: only the order tells them apart


class HttpVendor(FakeVendor):
    """What the poll and hint samples speak to: ``async with HttpVendor() as vendor:``."""

    def __init__(self) -> None:
        self.messages: list[Said] = []
        self.calls: list[str] = []  # the cursor of each page that was asked for, or "position"
        self.asked = asyncio.Condition()
        self.gate = asyncio.Event()  # cleared: pages wait
        self.gate.set()
        self._got: dict[str, Got] = {}
        self._url = ""
        self._runner: web.AppRunner | None = None

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"url": self._url, "token": TOKEN, "page": 7}

    async def says(self, text: str, *, who: str = "ann") -> None:
        number = len(self.messages) + 1
        self.messages.append(Said(id=f"m{number}", sender=who, at=AT, text=text))

    def got(self) -> Sequence[Got]:
        return list(self._got.values())

    async def __aenter__(self) -> HttpVendor:
        app = web.Application(middlewares=[self._checked])
        app.router.add_get("/api/position", self._position)
        app.router.add_get("/api/messages", self._page)
        app.router.add_post("/api/messages", self._send)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/api"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.gate.set()
        assert self._runner is not None
        await self._runner.cleanup()

    # --- the API -------------------------------------------------------------------------------

    @web.middleware
    async def _checked(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.mood is Mood.AWAY:
            return web.Response(status=503)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401)
        if self.mood is Mood.REFUSES:
            return web.Response(status=422)
        response: web.StreamResponse = await handler(request)
        if self.mood is Mood.SWALLOWS:
            assert request.transport is not None
            request.transport.abort()
        return response

    async def _position(self, request: web.Request) -> web.Response:
        await self._count("position")
        return _json({"next": str(len(self.messages))})

    async def _page(self, request: web.Request) -> web.Response:
        after, limit = int(request.query["after"]), int(request.query["limit"])
        page = self.messages[after : after + limit]
        upto = after + len(page)
        answer = _json({"messages": page, "next": str(upto), "more": upto < len(self.messages)})
        await self._count(str(after))
        await self.gate.wait()  # what is said meanwhile is not in this answer
        return answer

    async def _count(self, call: str) -> None:
        async with self.asked:
            self.calls.append(call)
            self.asked.notify_all()

    async def _send(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert set(body) == {"to", "text", "key"}, body
        self._got.setdefault(body["key"], Got(to=body["to"], text=body["text"]))
        return _json({"id": f"s{list(self._got).index(body['key']) + 1}"}, status=201)


class LineVendor(FakeVendor):
    """What the held sample connects to."""

    moods = frozenset({Mood.WELL, Mood.REFUSES, Mood.SWALLOWS})

    def __init__(self) -> None:
        self.messages: list[Line] = []
        self.hellos: list[str] = []  # the cursor of each connection
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.most_connections = 0
        self._news = asyncio.Condition()
        self._port = 0

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"host": "127.0.0.1", "port": self._port, "token": TOKEN}

    @property
    def connections(self) -> int:
        return len(self._writers)

    async def says(self, text: str, *, who: str = "ann") -> None:
        seq = len(self.messages) + 1
        async with self._news:
            self.messages.append(Line(seq=seq, id=f"m{seq}", sender=who, at=AT, text=text))
            self._news.notify_all()

    async def hang_up(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def __aenter__(self) -> LineVendor:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        await self.hang_up()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.most_connections = max(self.most_connections, len(self._writers))
        feeding = None
        try:
            hello, token, after = (await reader.readline()).decode().split()
            if self.mood is Mood.SWALLOWS:
                return
            if self.mood is Mood.REFUSES or (hello, token) != ("HELLO", TOKEN):
                writer.write(b"NO\n")
                return
            self.hellos.append(after)
            position = len(self.messages) if after == "end" else int(after)
            writer.write(f"OK {position}\nPING\n".encode())
            feeding = asyncio.ensure_future(self._feed(writer, position))
            await reader.read()  # until the other side goes away
        except ConnectionError:
            return
        finally:
            if feeding is not None:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _feed(self, writer: asyncio.StreamWriter, position: int) -> None:
        while True:
            async with self._news:
                while len(self.messages) <= position:
                    await self._news.wait()
            for line in self.messages[position:]:
                writer.write(msgspec.json.encode(line) + b"\n")
                position += 1
            await writer.drain()


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json"
    )
