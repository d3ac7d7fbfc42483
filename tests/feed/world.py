"""A hub with its feed served beside it, so that a test can set the feed's times.

Nothing is faked: keys are real keys, checked by the API's own guard.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from hub.api.access import ACCESS, Access
from hub.api.keys import ApiKeyDoc, digest
from hub.app import Hub
from hub.config import load_text
from hub.feed.routes import Feed
from hub.feed.stream import Timing
from hub.ids import new_id
from hub.testing.samples.webhook import signed_headers

ACCOUNTS = ("main", "other")
WITHIN_S = 20.0


class World:
    """One hub, its feed on a port of its own, and somebody who writes to it."""

    def __init__(self, hub: Hub, feed: Feed, url: str, session: aiohttp.ClientSession) -> None:
        self.hub = hub
        self.feed = feed
        self.url = url
        self.session = session
        self._numbers = itertools.count(1)
        self.stop: Callable[[], Awaitable[None]]

    # --- writing ---------------------------------------------------------------------------------

    async def say(
        self, sender: str, text: str = "hello", *, account: str = "main", **more: Any
    ) -> None:
        """Let a customer send a message; return when it is acknowledged."""
        number = next(self._numbers)
        body = json.dumps(
            {
                "id": f"m{number}",
                "sender": sender,
                "at": int(time.time() * 1000),
                "text": text,
                **more,
            }
        ).encode()
        async with self.session.post(
            f"{self.hub.url}/in/sample/{account}",
            data=body,
            headers=signed_headers(b"k1", int(time.time()), body),
        ) as answer:
            assert answer.status == 200

    async def routed(self) -> int:
        """Wait until everything is routed and this process' tail has it; return the position."""
        async with asyncio.timeout(WITHIN_S):
            while (await self.hub.store.inbox.backlog())[0]:
                await _turn()
            _, end = await self.hub.store.router.position()
            while self.hub.tail.position < end:
                await _turn()
        return end

    async def command(self, name: str, **args: Any) -> dict[str, Any]:
        """Run a command and return its result."""
        told = await self.hub.services.run_command(
            name, args, key=new_id("key"), actor="agent:7", wait_s=WITHIN_S
        )
        assert told["state"] == "done", told
        return dict(told["result"])

    async def key(self, *scopes: str, accounts: Sequence[str] = ()) -> dict[str, str]:
        """Make an API key and return the header that shows it."""
        ident = new_id("key")
        plaintext = f"omk_{ident.removeprefix('key_')}_{'s' * 43}"
        doc = ApiKeyDoc(
            id=ident,
            name="test",
            digest=digest(plaintext),
            scopes=scopes or ("feed:read",),
            accounts=tuple(accounts),
            created_at=self.hub.clock.now(),
        )
        await self.hub.store.table(ApiKeyDoc).insert([doc])
        return {"Authorization": f"Bearer {plaintext}"}

    # --- reading ---------------------------------------------------------------------------------

    async def page(
        self,
        key: dict[str, str],
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> Any:
        """Read one page, as JSON."""
        async with self.session.get(
            f"{self.url}/feed/v1/events", params=query, headers={**key, **(headers or {})}
        ) as answer:
            body = await answer.read()
            assert answer.status == status, body
            return msgspec.json.decode(body)

    async def all(self, key: dict[str, str], **query: Any) -> list[dict[str, Any]]:
        """Read page after page until there is no more."""
        found: list[dict[str, Any]] = []
        while True:
            page = await self.page(key, **query)
            found += page["events"]
            query["cursor"] = page["next_cursor"]
            if not page["has_more"]:
                return found

    async def request(
        self, method: str, path: str, key: dict[str, str], **options: Any
    ) -> tuple[int, Any]:
        async with self.session.request(method, self.url + path, headers=key, **options) as answer:
            body = await answer.read()
            return answer.status, msgspec.json.decode(body) if body else None

    @asynccontextmanager
    async def stream(
        self, key: dict[str, str], *, last: str = "", **query: Any
    ) -> AsyncIterator[Events]:
        headers = {**key, **({"Last-Event-ID": last} if last else {})}
        async with self.session.get(
            f"{self.url}/feed/v1/stream",
            params=query,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_read=WITHIN_S),
        ) as answer:
            assert answer.status == 200, await answer.text()
            yield Events(answer)


class Block(msgspec.Struct, frozen=True):
    """One block of a stream, as a browser takes it apart."""

    id: str = ""
    event: str = ""
    data: str = ""
    comment: str = ""
    retry: str = ""

    @property
    def position(self) -> int:
        return int(msgspec.json.decode(self.data)["sequence"])


class Events:
    """Takes a stream of server-sent events apart, by the rules of the HTML standard."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self._blocks = self._read()

    async def _read(self) -> AsyncIterator[Block]:
        told: dict[str, str] = {}
        buffer = b""
        async for chunk in self.answer.content.iter_any():
            buffer += chunk
            *lines, buffer = buffer.split(b"\n")
            for raw in lines:
                line = raw.decode()
                assert "\r" not in line
                if not line:
                    yield Block(**told)
                    told = {}
                elif line.startswith(":"):
                    told["comment"] = line[1:].strip()
                else:
                    name, _, value = line.partition(": ")
                    assert name not in told, "data is one line"
                    told[name] = value
        assert not buffer
        assert not told

    async def block(self) -> Block | None:
        """Return the next block of any kind, None at the end."""
        async with asyncio.timeout(WITHIN_S):
            return await anext(self._blocks, None)

    async def take(self, count: int) -> list[Block]:
        """Return the next events, without heartbeats and the like."""
        found: list[Block] = []
        while len(found) < count:
            block = await self.block()
            assert block is not None, f"the stream ended after {len(found)} of {count} events"
            if block.data:
                found.append(block)
        return found


@asynccontextmanager
async def world(mongo_url: str, database: str, path: Path, timing: Timing) -> AsyncIterator[World]:
    accounts = "".join(
        f'[[accounts]]\nchannel = "sample"\nkey = "{key}"\nsecrets = ["k1"]\n' for key in ACCOUNTS
    )
    config = load_text(
        f"""
[hub]
data_dir = "{path}"
mongo_url = "{mongo_url}"
database = "{database}"
port = 0
public_url = "https://hub.example"
plugin_modules = ["hub.testing.samples.webhook"]
disk_reserve_bytes = 0
{accounts}""",
        {},
    )
    async with Hub(config) as hub, aiohttp.ClientSession() as session:
        feed = Feed(
            hub.store,
            hub.key,
            hub.tail,
            hub.clock,
            space=database,
            base_url=lambda: hub.web.public_url,
            timing=timing,
        )
        async with served(hub, feed) as (url, stop):
            made = World(hub, feed, url, session)
            made.stop = stop
            yield made


@asynccontextmanager
async def served(hub: Hub, feed: Feed) -> AsyncIterator[tuple[str, Callable[[], Awaitable[None]]]]:
    """Serve a feed as hub/api/routes.py does; give its URL and what stops it."""
    app = web.Application()
    access = Access(
        hub.store, hub.clock, lambda request: request.remote or "", lambda: hub.web.public_url
    )
    app[ACCESS] = access
    for route in feed.routes():
        app.router.add_route(route.method, route.path, access.guard(route))
    app.on_shutdown.append(feed.close)
    runner = web.AppRunner(app, shutdown_timeout=30.0, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}", runner.cleanup
    finally:
        await runner.cleanup()


async def until(reached: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(WITHIN_S):
        while not await reached():
            await _turn()


async def _turn() -> None:
    """Let others run; a database call apart from that paces whoever waits."""
    await asyncio.sleep(0.01)
