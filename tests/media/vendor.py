"""A vendor that keeps files and misbehaves: what a file's name begins with says how.

It checks the key it is sent. ``gate`` holds back what begins with ``held``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tests.media.pictures import photo

TEXT = "什么都有 " * 200
HUGE = 4 * 1024 * 1024


class FileVendor:
    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.healthy = False  # with it every mood ends and files are given as they are
        self.files: dict[str, tuple[bytes, str]] = {}
        self.url = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        self.asked[name] += 1
        if request.headers.get("Authorization") != "Bearer key":
            return web.Response(status=401)
        mood = "" if self.healthy else name.partition("-")[0]
        match mood:
            case "gone":
                return web.Response(status=404)
            case "forbidden":
                return web.Response(status=451)
            case "busy" if self.asked[name] == 1:
                return web.Response(status=429, headers={"Retry-After": "1"})
            case "flaky" if self.asked[name] <= 2:
                return web.Response(status=503)
            case "never":
                await asyncio.sleep(3600)
            case "held":
                await self.gate.wait()
            case "cut" if self.asked[name] == 1:
                return await self._cut(request)
            case "huge":
                return await self._huge(request)
            case "slow":
                return await self._slow(request, name)
        body, mime = self._file(name)
        return web.Response(body=body, content_type=mime)

    def _file(self, name: str) -> tuple[bytes, str]:
        if name in self.files:
            return self.files[name]
        if "lying" in name:
            return b"<html><script>alert(1)</script></html>", "image/jpeg"
        if "program" in name:
            return b"MZ\x90\0" + b"\0" * 300, "application/pdf"
        if "photo" in name:
            return photo(), "image/jpeg"
        return f"{name} {TEXT}".encode(), "text/plain"

    async def _cut(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100000"})
        await response.prepare(request)
        await response.write(b"x" * 500)
        assert request.transport is not None
        request.transport.close()
        return response

    async def _huge(self, request: web.Request) -> web.StreamResponse:
        """More than it says: nothing, in chunks."""
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for _ in range(HUGE // 65536):
            await response.write(b"y" * 65536)
        return response

    async def _slow(self, request: web.Request, name: str) -> web.StreamResponse:
        body, mime = self._file(name)
        response = web.StreamResponse(headers={"Content-Type": mime})
        await response.prepare(request)
        for start in range(0, len(body), 512):
            await response.write(body[start : start + 512])
            await asyncio.sleep(0.02)
        return response


@asynccontextmanager
async def file_vendor() -> AsyncIterator[FileVendor]:
    vendor = FileVendor()
    app = web.Application()
    app.router.add_get("/{name}", vendor.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        vendor.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield vendor
    finally:
        vendor.gate.set()
        await runner.cleanup()
