"""Lane workers over a real MongoDB, and an outside with one account that swallows every call."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count

from msgspec.structs import replace

from hub.clock import SystemClock
from hub.documents import InboxItem, Job
from hub.jobs import LaneWorkers, Result
from hub.outbound import AccountGate
from hub.store.mongo import MongoStore
from normalizer.drafts import Outcome
from normalizer.outcomes import Failure, OutcomeUnknown

HOLE = "chat:hole"
ANSWERS_S = 0.08
AT_ONCE = 8
EVERY_S = 0.03


async def never() -> None:
    """Wait until somebody gives up."""
    await asyncio.Event().wait()


class Outside:
    """Answers after a while; the hole never does."""

    def __init__(self, gate: AccountGate) -> None:
        self._gate = gate
        self.done: dict[str, float] = {}
        self.in_hole = 0
        self.most_in_hole = 0
        self.calls_of_hole = 0

    async def run(self, job: Job) -> Result | None:
        if job.account == HOLE:
            self.calls_of_hole += 1
            self.in_hole += 1
            self.most_in_hole = max(self.most_in_hole, self.in_hole)
            try:
                await never()
            except asyncio.CancelledError:
                self._gate.failed(job.account, None, "no answer in time")
                raise
            finally:
                self.in_hole -= 1
        await asyncio.sleep(ANSWERS_S)
        self._gate.worked(job.account)
        self.done[job.id] = time.monotonic()
        return None

    async def look_up(self, job: Job) -> Result | None:
        raise OutcomeUnknown("no answer either")

    def settle_s(self, job: Job) -> float:
        return 0.0

    def failed(self, job: Job, failure: Failure) -> Result | None:
        return None

    def holds_lane(self, job: Job) -> bool:
        return False

    async def address_of(self, job: Job) -> tuple[str, str]:
        return "chat", "main"


class Running:
    def __init__(self, store: MongoStore, outside: Outside, workers: LaneWorkers) -> None:
        self.store = store
        self.outside = outside
        self.workers = workers
        self._numbers = count(1)

    async def give(self, account: str, lanes: int = 1) -> list[str]:
        now = SystemClock().now()
        jobs = []
        for _ in range(lanes):
            number = next(self._numbers)
            jobs.append(
                Job(
                    id=f"job_{number}",
                    lane=f"send:adr_{number}",
                    kind="send",
                    position=number,
                    due_at=now,
                    live=True,
                    state="ready",
                    account=account,
                )
            )
        await self.store.table(Job).insert(jobs)
        self.workers.wake.set()
        return [job.id for job in jobs]

    async def until(self, goal: str, ids: list[str], within_s: float = 30.0) -> None:
        ends = time.monotonic() + within_s
        while not all(ident in self.outside.done for ident in ids):
            assert time.monotonic() < ends, f"waited for {goal}"
            await asyncio.sleep(0.01)

    async def p99_s(self, jobs: int) -> float:
        """Give jobs of three healthy accounts at a steady pace; return the p99 to their answer."""
        given: dict[str, float] = {}
        for n in range(jobs):
            began = time.monotonic()
            (ident,) = await self.give(f"chat:well{n % 3}")
            given[ident] = began
            await asyncio.sleep(max(0.0, EVERY_S - (time.monotonic() - began)))
        await self.until("all answers", list(given))
        took = [self.outside.done[ident] - began for ident, began in given.items()]
        return statistics.quantiles(took, n=100, method="inclusive")[98]

    async def forget(self, idents: Sequence[str]) -> None:
        """Take jobs out of their lanes."""
        jobs = await self.store.table(Job).get_many(idents)
        await self.store.table(Job).put([replace(job, live=False) for job in jobs.values()])


@asynccontextmanager
async def running(store: MongoStore, *, lease_s: float) -> AsyncIterator[Running]:
    clock = SystemClock()

    async def told(channel: str, account: str, draft: Outcome) -> None:
        return

    await store.prepare([InboxItem])
    gate = AccountGate(clock)
    outside = Outside(gate)
    workers = LaneWorkers(
        store,
        {"send": outside},
        told,
        clock,
        owner="one",
        lease_s=lease_s,
        at_once=AT_ONCE,
        gate=gate,
    )
    task = asyncio.create_task(workers.run())
    try:
        yield Running(store, outside, workers)
    finally:
        workers.stop()
        async with asyncio.timeout(lease_s + 10):
            await task
