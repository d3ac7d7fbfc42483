"""From sending to seeing, at half of the sustained load: over SSE, and from tab to tab of a site.

Times start when the message is sent, so they hold the acknowledgement, the routing and the way
out. The background is made by wrk, the messages that are timed come from here.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Any

import aiohttp

from hub.api.keys import create_key
from hub.clock import SystemClock
from tests.bench.load import run_wrk
from tests.bench.report import BenchError, Result
from tests.bench.stage import HubSide, Stage
from tests.bench.throughput import KNOWN, sustained_rate
from tests.support.load import message, percentile, post
from tests.support.truth import store_of

CONNECTIONS = 32
EVERY_S = 0.1
LATE_S = 10.0
ORIGIN = "https://shop.example"
SITE = f"""
[[accounts]]
channel = "site"
key = "shop"
origins = ["{ORIGIN}"]

[accounts.limits]
messages_per_minute = 100000
messages_per_hour = 100000
message_burst = 1000
"""


class Sightings:
    """When each probe was sent and when it was seen. Times are monotonic seconds.

    ``name`` stands in its text: the feed shows the site's probes too, and they are others.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._pattern = re.compile(rf"{name}-(\d{{6}})".encode())
        self.sent: dict[int, float] = {}
        self.seen: dict[int, float] = {}

    def send(self, number: int) -> str:
        """Note that a probe is sent now; return its text."""
        self.sent[number] = time.monotonic()
        return f"{self.name}-{number:06d}"

    def look(self, data: bytes) -> None:
        """Note every probe that is in what has just arrived."""
        for found in self._pattern.finditer(data):
            self.seen.setdefault(int(found[1]), time.monotonic())

    async def all_seen(self, what: str) -> None:
        deadline = time.monotonic() + LATE_S
        while missing := self.sent.keys() - self.seen.keys():
            if time.monotonic() > deadline:
                raise BenchError(f"{what}: {len(missing)} of {len(self.sent)} were never seen")
            await asyncio.sleep(0.02)

    @property
    def ms(self) -> list[float]:
        return [(self.seen[number] - sent) * 1000 for number, sent in self.sent.items()]


async def visible(stage: Stage, row: str, seconds: int) -> list[Result]:
    async with stage.hub(more=SITE) as hub, aiohttp.ClientSession() as http:
        await stage.make_known(hub, KNOWN)
        rate = await sustained_rate(stage, hub) / 2
        sse, site = Sightings("vendor"), Sightings("site")
        readers = [
            asyncio.create_task(_read_stream(http, hub, sse, await _feed_key(stage, hub))),
        ]
        try:
            sender, reader = await _tabs(http, hub)
            readers.append(asyncio.create_task(_read_tab(reader, site)))
            readers.append(asyncio.create_task(_read_tab(sender, Sightings("own"))))
            background = asyncio.create_task(_background(stage, hub, rate, seconds + 2))
            await asyncio.sleep(1.0)  # until the background is at its speed
            ends = time.monotonic() + seconds
            await asyncio.gather(_send_vendor(http, hub, sse, ends), _send_site(sender, site, ends))
            await asyncio.gather(sse.all_seen("SSE"), site.all_seen("the other tab"))
            actual, p99_ms = await background
        finally:
            for task in readers:
                task.cancel()
            gone = await asyncio.gather(*readers, return_exceptions=True)
        for error in gone:
            if isinstance(error, BenchError):
                raise error
    load = f"{actual:.0f} messages/s beside it, {len(sse.sent)} timed"
    return [
        _seen(row, "vendor message → SSE, p99 at half load", sse.ms, 500, load),
        _seen(row, "site message → another browser, p99 at half load", site.ms, 300, load),
        Result(
            row=row,
            what="acknowledgement, p99 at half load",
            values=[p99_ms],
            unit="ms",
            at_most=100,
            absolute=f"{actual:.0f} messages/s",
        ),
    ]


def _seen(row: str, what: str, ms: Sequence[float], bar: float, load: str) -> Result:
    shown = f"p50 {percentile(ms, 0.5):.0f} ms, max {max(ms):.0f} ms; {load}"
    return Result(
        row=row, what=what, values=[percentile(ms, 0.99)], unit="ms", at_most=bar, absolute=shown
    )


async def _background(stage: Stage, hub: HubSide, rate: float, seconds: int) -> tuple[float, float]:
    """Send about ``rate`` messages a second; return the true rate and the p99 in milliseconds."""
    records = stage.records(hub, int(rate * seconds * 2) + 1000, senders=KNOWN)
    pause_ms = max(1, round(CONNECTIONS / rate * 1000) - 5)  # an answer takes some of the time
    load = await run_wrk(
        hub.url, records, connections=CONNECTIONS, seconds=seconds, pause_ms=pause_ms
    )
    return load.rate, load.p99_ms


# --- vendor to SSE -------------------------------------------------------------------------------


async def _feed_key(stage: Stage, hub: HubSide) -> str:
    async with store_of(stage.mongod.url, hub.database) as store:
        _, key = await create_key(store, SystemClock(), "bench", ["feed:read"])
    return key


async def _send_vendor(
    http: aiohttp.ClientSession, hub: HubSide, sightings: Sightings, ends: float
) -> None:
    number = 0
    while time.monotonic() < ends:
        number += 1
        body = message(f"timed{number}", "s00000001", sightings.send(number))
        if await post(http, hub.url, body) != 200:
            raise BenchError("a timed message was refused")
        await asyncio.sleep(EVERY_S)


async def _read_stream(
    http: aiohttp.ClientSession, hub: HubSide, sightings: Sightings, key: str
) -> None:
    """Follow the whole feed as a consumer does, and note when each probe comes by."""
    headers = {"Authorization": f"Bearer {key}"}
    url = f"{hub.url}/feed/v1/stream?cursor=tail"
    timeout = aiohttp.ClientTimeout(total=None)
    async with http.get(url, headers=headers, timeout=timeout) as stream:
        if stream.status != 200:
            raise BenchError(f"the feed answered {stream.status}: {await stream.text()}")
        tail = b""
        async for chunk in stream.content.iter_any():
            data = tail + chunk
            sightings.look(data)
            tail = data[-16:]


# --- tab to tab ----------------------------------------------------------------------------------


async def _tabs(
    http: aiohttp.ClientSession, hub: HubSide
) -> tuple[aiohttp.ClientWebSocketResponse, aiohttp.ClientWebSocketResponse]:
    """Return two open sockets of one visitor."""
    base = f"{hub.url}/site/shop"
    async with http.post(f"{base}/sessions", json={}, headers={"Origin": ORIGIN}) as answer:
        if answer.status != 201:
            raise BenchError(f"the site opened no session: {answer.status} {await answer.text()}")
        token = (await answer.json())["access_token"]
    return await _socket(http, base, token), await _socket(http, base, token)


async def _socket(
    http: aiohttp.ClientSession, base: str, token: str
) -> aiohttp.ClientWebSocketResponse:
    socket = await http.ws_connect(
        base.replace("http", "ws", 1) + "/ws",
        protocols=("omniline.v1",),
        headers={"Origin": ORIGIN},
    )
    await socket.send_json({"v": 1, "t": "hello", "id": "hello", "access_token": token})
    welcome: dict[str, Any] = await socket.receive_json(timeout=LATE_S)
    if welcome["t"] != "welcome":
        raise BenchError(f"the site did not welcome the visitor: {welcome}")
    return socket


async def _send_site(
    socket: aiohttp.ClientWebSocketResponse, sightings: Sightings, ends: float
) -> None:
    number = 0
    while time.monotonic() < ends:
        number += 1
        text = sightings.send(number)
        await socket.send_json(
            {
                "v": 1,
                "t": "msg.send",
                "id": text,
                "client_msg_id": f"00000000-0000-4000-8000-{number:012d}",
                "parts": [{"type": "text", "text": text}],
            }
        )
        await asyncio.sleep(EVERY_S)


async def _read_tab(socket: aiohttp.ClientWebSocketResponse, sightings: Sightings) -> None:
    async for frame in socket:
        read = frame.json()
        if read["t"] == "error":
            raise BenchError(f"the site refused a message: {read}")
        if read["t"] == "msg.new":
            sightings.look(frame.data.encode())
