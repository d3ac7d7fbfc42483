"""What stands on the stage: one MongoDB, and for each row a fresh hub and a fresh naive handler."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from pymongo import AsyncMongoClient

from tests.bench.load import write_records
from tests.bench.report import BenchError
from tests.support.load import message, post
from tests.support.mongo import OwnMongod
from tests.support.processes import ROOT, HubProcess, hub_process

LEASE_S = 5.0  # the product's default
START_S = 30.0
DRAIN_S = 120.0
POLL_S = 0.005
REST_S = 60.0
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Others:
    """How much of the machine others use while a row is measured: it must be little."""

    def __init__(self, mongod: OwnMongod) -> None:
        self._mongod = mongod
        self._began = time.monotonic()
        self._before = self._used()

    def _used(self) -> float:
        """CPU seconds of the whole machine, without our own. Between rows only MongoDB runs."""
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        user, nice, system, _idle, _iowait, irq, softirq, steal = (int(each) for each in fields)
        busy = (user + nice + system + irq + softirq + steal) / TICKS
        return busy - sum(os.times()[:4]) - cpu_seconds(self._mongod.pid)

    def share(self) -> float:
        """Return the part of all cores that others have used since this was made."""
        cores = os.cpu_count() or 1
        return (self._used() - self._before) / (time.monotonic() - self._began) / cores


class Side:
    """A process that takes messages: its URL, and what it and MongoDB have cost."""

    def __init__(self, name: str, url: str, pid: int, database: str, stage: Stage) -> None:
        self.name = name
        self.url = url
        self.pid = pid
        self.database = database
        self.stage = stage
        self.per_second = 0  # requests that are written for each second of a window
        self._cpu_before = 0.0
        self._count_before = 0

    async def start(self) -> None:
        """Begin to count what the side stores and costs."""
        self._count_before = await self._count()
        self._cpu_before = self._cpu()

    def cpu(self) -> float:
        """Return the CPU seconds since the start, the process' and MongoDB's.

        Only one side is under load at a time, so MongoDB works for that one.
        """
        return self._cpu() - self._cpu_before

    def _cpu(self) -> float:
        return cpu_seconds(self.pid) + cpu_seconds(self.stage.mongod.pid)

    async def drained(self) -> None:
        """Return when everything it acknowledged is done; the naive one is done at once."""

    async def at_rest(self) -> None:
        """Return when it does nothing any more, so that the other side can be measured."""

    async def stored(self) -> int:
        """Return how many messages came to stand where readers find them since the start."""
        return await self._count() - self._count_before

    async def _count(self) -> int:
        return await self.stage.mongo[self.database]["messages"].count_documents({})


class HubSide(Side):
    async def drained(self) -> None:
        deadline = time.monotonic() + DRAIN_S
        while await self.oldest_waiting() is not None:
            if time.monotonic() > deadline:
                raise BenchError(f"the router was not done after {DRAIN_S:g} s")
            await asyncio.sleep(POLL_S)

    async def at_rest(self) -> None:
        """Return when no ticket is left to make or to change, or after a minute of that."""
        jobs = self.stage.mongo[self.database]["jobs"]
        deadline = time.monotonic() + REST_S
        while time.monotonic() < deadline and await jobs.find_one({"live": True}) is not None:
            await asyncio.sleep(0.1)

    async def oldest_waiting(self) -> float | None:
        """Return for how many seconds the oldest message waits for the router; None: none does."""
        inbox = self.stage.mongo[self.database]["inbox"]
        oldest = await inbox.find_one({"open": True}, {"received_at": 1}, sort=[("_id", 1)])
        if oldest is None:
            return None
        return (datetime.now(UTC) - oldest["received_at"].replace(tzinfo=UTC)).total_seconds()

    async def _count(self) -> int:
        return await self.stage.mongo[self.database]["entries"].count_documents({})


class Stage:
    """The MongoDB of a run, a folder, and the rounds that were asked for."""

    def __init__(self, mongod: OwnMongod, folder: Path, *, quick: bool) -> None:
        self.mongod = mongod
        self.folder = folder
        self.quick = quick
        self.mongo: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongod.url)
        self.sustained_rate = 0.0  # messages a second, once it was measured
        self._count = 0

    def unused(self, prefix: str) -> str:
        """Return a name that nothing on the stage has yet."""
        self._count += 1
        return f"{prefix}{self._count:03d}"

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """A database that is dropped at the end."""
        name = self.unused("bench")
        try:
            yield name
        finally:
            await self.mongo.drop_database(name)

    @contextlib.asynccontextmanager
    async def naive(self, loop: str = "asyncio") -> AsyncIterator[Side]:
        async with self.database() as database:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.bench.naive", self.mongod.url, database, loop),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
            )
            try:
                assert process.stdout is not None
                async with asyncio.timeout(START_S):
                    line = (await process.stdout.readline()).decode().strip()
                if not line.startswith("ready url="):
                    raise BenchError("the naive handler did not start")
                url = line.removeprefix("ready url=")
                yield Side("naive", url, process.pid, database, self)
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    @contextlib.asynccontextmanager
    async def hub(self, *, extra: str = "", more: str = "") -> AsyncIterator[HubSide]:
        """A hub of its own: no ticket backend, unless ``more`` configures one."""
        async with self.database() as database:
            folder = self.folder / database
            started = hub_process(
                folder, self.mongod.url, database, lease_s=LEASE_S, extra=extra, more=more
            )
            async with started as process:
                yield HubSide("hub", process.url, process.pid, database, self)

    def hub_beside(self, database: str, name: str, lease_s: float) -> HubProcess:
        """Return one of several hubs on a database, not started."""
        return HubProcess(
            self.folder / database / name, self.mongod.url, database, name=name, lease_s=lease_s
        )

    def records(self, side: Side, count: int, *, senders: int = 0) -> Any:
        """Write signed requests for a side, unlike all before."""
        name = self.unused("m")
        path = self.folder / f"{side.name}.requests"
        return write_records(path, side.url, name, count, senders=senders)

    async def make_known(self, side: HubSide, senders: int) -> None:
        """Let every one of the senders say something, and wait until they are customers."""
        waiting = [f"s{number:08d}" for number in range(senders)]

        async def say() -> None:
            while waiting:
                sender = waiting.pop()
                status = await post(session, side.url, message(f"first-{sender}", sender))
                if status != 200:
                    raise BenchError(f"the hub answered {status} to a first message")

        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(say() for _ in range(32)))
        await side.drained()
