"""A lone request: one every 100 ms, nothing else going on."""

from __future__ import annotations

import asyncio
import socket
import statistics
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from tests.bench.load import Records
from tests.bench.report import BenchError, Result, middle, ratios
from tests.bench.stage import Side, Stage
from tests.bench.throughput import KNOWN
from tests.support.load import percentile

EVERY_S = 0.1


async def lone(stage: Stage, row: str, rounds: int, requests: int) -> list[Result]:
    async with stage.naive() as naive, stage.hub() as hub:
        await stage.make_known(hub, KNOWN)
        medians: dict[str, list[float]] = {naive.name: [], hub.name: []}
        times: dict[str, list[float]] = {naive.name: [], hub.name: []}
        for number in range(rounds + 1):
            for side in (naive, hub):
                took = await _series(stage, side, requests if number else 5)
                if number:  # the first ones only warm up
                    times[side.name] += took
                    medians[side.name].append(statistics.median(took))
    shown = "; ".join(
        f"{name} p50 {middle(values)}, p99 {percentile(values, 0.99):.1f} ms"
        for name, values in sorted(times.items())
    )
    return [
        Result(
            row=row,
            what="latency of a lone request, one every 100 ms",
            values=ratios(medians["hub"], medians["naive"]),
            at_most=1.3,
            absolute=shown,
        )
    ]


async def _series(stage: Stage, side: Side, count: int) -> list[float]:
    records = stage.records(side, count, senders=KNOWN)
    took = await asyncio.to_thread(lambda: list(_ask(side.url, records)))
    await side.drained()
    return took


def _ask(url: str, records: Records) -> Iterator[float]:
    """Yield how many milliseconds each answer took. A bare socket: a client costs time itself."""
    parts = urlsplit(url)
    with (
        records.path.open("rb") as file,
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as sock,
    ):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while record := file.read(records.length):
            began = time.perf_counter()
            sock.sendall(record)
            status = _answer(sock)
            took_s = time.perf_counter() - began
            if status != 200:
                raise BenchError(f"{url} answered {status} to a lone request")
            yield took_s * 1000
            time.sleep(max(0.0, EVERY_S - took_s))


def _answer(sock: socket.socket) -> int:
    """Read one answer to its end; return its status."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    missing = int(fields.get(b"content-length", b"0")) - len(body)
    while missing > 0:
        missing -= len(_some(sock))
    return int(head.split(b" ", 2)[1])


def _some(sock: socket.socket) -> bytes:
    data = sock.recv(4096)
    if not data:
        raise BenchError("the connection was closed before the answer")
    return data
