"""Workers on a store, an outside that can be told how to behave, and a clock that stands still.

The outside counts what really happened to it, whatever its answers say.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from hub.documents import DeadLetter, Job
from hub.inbox_writer import Overloaded
from hub.jobs import Handler, LaneWorkers, Result
from hub.store.interface import Store
from hub.testing.clock import START, FakeClock
from normalizer.drafts import Outcome
from normalizer.outcomes import Failure, OutcomeUnknown, Unsupported
from tests.store.spaces import Space

WITHIN_S = 45.0  # a database under load may take 20 s for one write
DONE: Result = {"state": "accepted"}


class Crash(BaseException):
    """The process dies here: nothing of it gets to say a last word."""


def job(ident: str, lane: str = "send:a", position: int = 0, **fields: Any) -> Job:
    """Return a job that is due. Without a position the digits of its id count."""
    position = position or int("".join(c for c in ident if c.isdigit()) or 0)
    given: dict[str, Any] = {
        "id": ident,
        "lane": lane,
        "kind": "send",
        "position": position,
        "due_at": START,
        "live": True,
        "state": "ready",
    }
    return Job(**{**given, **fields})


class Outside:
    """A handler. ``plan[job]`` are its next answers: a failure is raised *before* anything is
    done; ``lost`` does it and gives no answer. Nothing planned: it is done."""

    def __init__(self) -> None:
        self.plan: dict[str, list[Any]] = defaultdict(list)
        self.looks: dict[str, list[Any]] = defaultdict(list)  # the same for look-ups
        self.started: list[str] = []
        self.done: list[str] = []  # what really happened, in order
        self.looked_up: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}  # a run waits for its gate first
        self.can_look = True
        self.hides: Callable[[], bool] = lambda: False  # its look-ups lag behind what was done
        self.holds = False
        self.settles_s = 0.0

    async def run(self, job: Job) -> Result | None:
        self.started.append(job.id)
        if job.id in self.gates:
            await self.gates[job.id].wait()
        answer = self.plan[job.id].pop(0) if self.plan[job.id] else DONE
        if isinstance(answer, BaseException) and answer is not LOST:
            raise answer
        self.done.append(job.id)
        if answer is LOST:
            raise LOST
        result: Result | None = answer
        return result

    async def look_up(self, job: Job) -> Result | None:
        self.looked_up.append(job.id)
        if self.looks[job.id]:
            answer = self.looks[job.id].pop(0)
            if isinstance(answer, BaseException):
                raise answer
            planned: Result | None = answer
            return planned
        if not self.can_look:
            raise Unsupported("nobody can say")
        return DONE if job.id in self.done and not self.hides() else None

    def settle_s(self, job: Job) -> float:
        return self.settles_s

    def failed(self, job: Job, failure: Failure) -> Result | None:
        state = "unknown" if isinstance(failure, OutcomeUnknown) else "failed"
        return {"state": state, "reason": failure.reason}

    def holds_lane(self, job: Job) -> bool:
        return self.holds

    async def address_of(self, job: Job) -> tuple[str, str]:
        return "chat", "main"


LOST = OutcomeUnknown("no answer")


class Workers(LaneWorkers):
    """Remembers the lanes that ended."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.ended: list[asyncio.Task[None]] = []

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def _left(self, task: asyncio.Task[None]) -> None:
        self.ended.append(task)
        super()._left(task)


class World:
    """A space, its outside, and what was told to the router."""

    def __init__(self, space: Space, clock: FakeClock) -> None:
        self.space = space
        self.store: Store = space.store
        self.clock = clock
        self.outside = Outside()
        self.handlers: dict[str, Handler] = {"send": self.outside}
        self.told: list[Outcome] = []
        self.told_as: list[tuple[str, str]] = []  # channel and account of each
        self.overloaded = 0  # how often the inbox refuses before it takes an outcome
        self._alive: list[Workers] = []

    # --- jobs ----------------------------------------------------------------------------------

    async def give(self, *jobs: Job) -> None:
        await self.store.table(Job).insert(jobs)

    async def job(self, ident: str) -> Job:
        found = await self.store.table(Job).get(ident)
        assert found is not None, ident
        return found

    async def letters(self) -> list[DeadLetter]:
        return await self.store.table(DeadLetter).find({}, sort=[("_id", 1)])

    @property
    def states(self) -> dict[str, str]:
        """What the router would know of each job; a repeated outcome changes nothing."""
        return {told.job: told.result.get("state", "") for told in self.told}

    @property
    def told_keys(self) -> Counter[str]:
        return Counter(told.key for told in self.told)

    # --- workers -------------------------------------------------------------------------------

    async def take_in(self, channel: str, account: str, draft: Outcome) -> None:
        if self.overloaded:
            self.overloaded -= 1
            raise Overloaded("not now")
        self.told.append(draft)
        self.told_as.append((channel, account))

    def workers(self, owner: str = "one", **options: Any) -> Workers:
        return Workers(
            self.store,
            self.handlers,
            self.take_in,
            self.clock,
            owner=owner,
            **options,
        )

    @asynccontextmanager
    async def working(self, owner: str = "one", **options: Any) -> AsyncIterator[Workers]:
        """Let a process' workers run; in the end they are stopped in good order."""
        workers = self.workers(owner, **options)
        task = asyncio.create_task(workers.run())
        self._alive.append(workers)
        try:
            yield workers
        finally:
            self._alive.remove(workers)
            workers.stop()
            async with asyncio.timeout(WITHIN_S):
                await asyncio.gather(task, return_exceptions=True)

    async def work_until_it_crashes(self, owner: str = "one", **options: Any) -> None:
        """Run workers until :class:`Crash` is raised anywhere in them, and end them right there."""
        workers = self.workers(owner, **options)
        run = asyncio.create_task(workers.run())
        await self.until("a crash", lambda: any(map(_crashed, [run, *workers.ended])))
        tasks = [run, *(place.task for place in workers._running.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def later(self, seconds: float) -> None:
        """Let time pass, for the clock and for every lease."""
        await self.space.later(seconds)
        for workers in self._alive:
            workers.wake.set()

    async def until(
        self, goal: str, reached: Callable[[], Awaitable[Any] | Any], *, tick_s: float = 0.0
    ) -> None:
        """Wait for a condition; ``tick_s`` passes between one look and the next."""
        ends = time.monotonic() + WITHIN_S
        while True:
            found = reached()
            if await found if isinstance(found, Awaitable) else found:
                return
            assert time.monotonic() < ends, f"waited for {goal}"
            if tick_s and await self._all_wait():
                await self.later(tick_s)
            await asyncio.sleep(0.003)

    async def _all_wait(self) -> bool:
        """Whether nothing can go on before time passes: so ticks do not depend on the machine."""
        if any(workers.busy for workers in self._alive):
            return False
        held = sorted(await self.store.lanes.parked())
        shut = sorted({name for workers in self._alive for name in workers.gate.shut()})
        due = {
            "live": True,
            "due_at": {"$lte": self.clock.now()},
            "lane": {"$nin": held},
            "account": {"$nin": shut},
        }
        return not await self.store.table(Job).count(due, limit=1)

    async def finished(self, *idents: str, tick_s: float = 0.0) -> None:
        """Wait until these jobs are over."""

        async def over() -> bool:
            found = await self.store.table(Job).get_many(idents)
            return all(not found[ident].live for ident in idents)

        await self.until(f"the end of {idents}", over, tick_s=tick_s)

    async def in_state_of(self, ident: str, wanted: Callable[[Job], bool]) -> Job:
        """Wait until a job is as wanted and no lane is at work."""

        async def there() -> bool:
            at_rest = not any(workers.busy for workers in self._alive)
            return at_rest and wanted(await self.job(ident))

        await self.until(f"{ident} to be as wanted", there)
        return await self.job(ident)

    async def in_state(self, ident: str, state: str, *, tries: int = 1) -> Job:
        """Wait until a job, tried so often, is in a state and its lane was given back."""

        async def there() -> bool:
            tried = self.outside.started.count(ident) >= tries
            at_rest = not any(workers.busy for workers in self._alive)
            return tried and at_rest and (await self.job(ident)).state == state

        await self.until(f"{ident} to be {state}", there)
        return await self.job(ident)


def _crashed(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and isinstance(task.exception(), Crash)
