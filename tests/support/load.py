"""Writers: connections that post signed messages and remember what was acknowledged, and when."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Callable, Sequence

import aiohttp
import msgspec

from hub.testing.samples.webhook import signed_headers
from tests.support.processes import SECRET

PATH = "/in/sample/main"


class Acknowledged(msgspec.Struct, frozen=True):
    """One message that a hub said it has. Times are monotonic seconds."""

    id: str
    sender: str
    sent_at: float
    acked_at: float
    url: str


def message(ident: str, sender: str, text: str = "", **more: object) -> bytes:
    """Return the body that the sample vendor would send."""
    return json.dumps(
        {
            "id": ident,
            "sender": sender,
            "at": int(time.time() * 1000),
            "text": text or f"text of {ident} 你好",
            **more,
        },
        ensure_ascii=False,
    ).encode()


async def post(session: aiohttp.ClientSession, url: str, body: bytes) -> int:
    """Post one signed body; return the HTTP status."""
    headers = signed_headers(SECRET.encode(), int(time.time()), body)
    async with session.post(url + PATH, data=body, headers=headers) as answer:
        await answer.read()
        return answer.status


class Writers:
    """Some connections writing one after the other until stopped.

    A message that is not acknowledged is sent again under the same id, as a vendor would. Each
    connection writes for its own senders, so that their order is known.
    """

    def __init__(
        self,
        urls: Callable[[], Sequence[str]],
        *,
        connections: int = 4,
        senders: int = 10,
        pause_s: float = 0.0,
    ) -> None:
        self._urls = urls
        self._connections = connections
        self._senders = senders
        self._pause_s = pause_s  # between two messages of a connection, where speed is no matter
        self._count = itertools.count()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.acknowledged: list[Acknowledged] = []
        self.attempted: set[str] = set()
        self.refused = 0

    async def __aenter__(self) -> Writers:
        self._tasks = [
            asyncio.create_task(self._write(number)) for number in range(self._connections)
        ]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Finish the message at hand of each connection, if it still can be, and end."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.gather(*self._tasks)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def reached(self, count: int, within_s: float = 60.0) -> None:
        """Wait until so many messages were acknowledged."""
        async with asyncio.timeout(within_s):
            while len(self.acknowledged) < count:
                await asyncio.sleep(0.01)

    async def _write(self, number: int) -> None:
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for step in itertools.count():
                if self._stopping:
                    return
                sender = f"c{number}s{step % self._senders}"
                await self._deliver(session, f"m{next(self._count)}", sender, number)
                if self._pause_s:
                    await asyncio.sleep(self._pause_s)

    async def _deliver(
        self, session: aiohttp.ClientSession, ident: str, sender: str, number: int
    ) -> None:
        body = message(ident, sender)
        self.attempted.add(ident)
        while not self._stopping:
            urls = self._urls()
            url = urls[number % len(urls)]
            sent_at = time.monotonic()
            try:
                status = await post(session, url, body)
            except (aiohttp.ClientError, TimeoutError, OSError):
                status = 0
            if status == 200:
                self.acknowledged.append(
                    Acknowledged(ident, sender, sent_at, time.monotonic(), url)
                )
                return
            self.refused += 1
            await asyncio.sleep(0.02)


def longest_pause(acknowledged: Sequence[Acknowledged], url: str, since: float) -> float:
    """Return the longest time in which a hub acknowledged nothing, from a moment on."""
    times = sorted(each.acked_at for each in acknowledged if each.url == url)
    moments = [since, *(each for each in times if each >= since)]
    return max((after - before for before, after in itertools.pairwise(moments)), default=0.0)


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
