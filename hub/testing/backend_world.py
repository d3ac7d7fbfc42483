"""The hub's real dispatcher and workers around one backend, with a clock that a test moves.

The store is a real one, in memory or MongoDB; what would come from the router (conversations,
entries, jobs) is put there directly, and what would go back to it is kept in ``told``.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from hub.dispatch import Dispatcher
from hub.documents import AddressDoc, Conversation, Customer, DeadLetter, Entry, Job, TicketMap
from hub.ids import SpaceKey
from hub.jobs import LaneWorkers
from hub.plugin_host import PluginHost
from hub.steps import watchers
from hub.store.interface import Store
from hub.testing.backend_faults import Outside
from hub.testing.clock import FakeClock
from normalizer.addresses import Address, canonical
from normalizer.drafts import Outcome
from normalizer.parts import Text

WITHIN_S = 600.0 if os.environ.get("OMNILINE_SCALE") == "full" else 60.0
TICK_S = 1.0
LEASE_S = 30.0
KEY = SpaceKey(b"the key of a space in a contract" * 2)


class Crash(BaseException):
    """The process dies here: nothing of it gets to say a last word."""


class _Workers(LaneWorkers):
    """Remembers how its lanes ended, and whether any is at work."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.ended: list[asyncio.Task[None]] = []

    @property
    def busy(self) -> bool:
        return bool(self._running)

    @property
    def lanes(self) -> list[asyncio.Task[None]]:
        return [place.task for place in self._running.values()]

    def _left(self, task: asyncio.Task[None]) -> None:
        self.ended.append(task)
        super()._left(task)


class TicketWorld:
    """Conversations whose entries are to become tickets. ``later`` lets time pass everywhere."""

    def __init__(
        self,
        store: Store,
        clock: FakeClock,
        outside: Outside,
        later: Callable[[float], Awaitable[None]],
    ) -> None:
        self.store = store
        self.clock = clock
        self.outside = outside
        self.told: list[Outcome] = []
        self._later = later
        self._position = 0
        self.dispatcher = Dispatcher(
            store,
            {outside.backend.name: outside.backend},
            PluginHost(clock=clock),
            KEY,
            owner="one",
        )

    # --- what the router would have made -------------------------------------------------------

    def conversation(self, number: int) -> str:
        return f"cnv_{number:026d}"

    def text(self, conversation: int, number: int) -> str:
        return f"message {number} of conversation {conversation}"

    async def written(self, conversation: int, numbers: Iterable[int]) -> list[str]:
        """Let a customer write; return the ids of the jobs that this makes."""
        ident, address = self.conversation(conversation), f"adr_{conversation:026d}"
        now = self.clock.now()
        mailbox = Address(
            scheme="mail", account="", kind="mailbox", id=f"customer{conversation}@example.com"
        )
        await self.store.table(AddressDoc).insert(
            [AddressDoc(id=address, scheme="mail", address=canonical(mailbox))]
        )
        customer = f"cus_{conversation:026d}"
        await self.store.table(Customer).insert(
            [Customer(id=customer, addresses=(address,), created_at=now, seen_at=now)]
        )
        await self.store.table(Conversation).insert(
            [
                Conversation(
                    id=ident,
                    customer=customer,
                    root=address,
                    policy="customer",
                    state="open",
                    opened_at=now,
                    active_at=now,
                    backends=(self.outside.backend.name,),
                )
            ]
        )
        jobs = []
        for number in numbers:
            self._position += 1
            entry = f"ent_{conversation:012d}{number:014d}"
            await self.store.table(Entry).insert(
                [
                    Entry(
                        id=entry,
                        address=address,
                        position=self._position,
                        at=now,
                        received_at=now,
                        channel="mail",
                        account="main",
                        parts=(Text(text=self.text(conversation, number)),),
                        conversation=ident,
                    )
                ]
            )
            jobs.append(
                Job(
                    id=f"job_{conversation:012d}{number:014d}",
                    lane=f"ticket:{self.outside.backend.name}:{address}",
                    kind="ticket",
                    task="append",
                    position=self._position,
                    due_at=now,
                    live=True,
                    state="ready",
                    entry=entry,
                    conversation=ident,
                    customer=customer,
                    backend=self.outside.backend.name,
                )
            )
        await self.store.table(Job).insert(jobs)
        return [job.id for job in jobs]

    async def job(self, ident: str) -> Job:
        found = await self.store.table(Job).get(ident)
        assert found is not None, ident
        return found

    async def map_of(self, conversation: int) -> TicketMap | None:
        """Return which ticket the hub holds to be a conversation's."""
        where = {"conversation": self.conversation(conversation)}
        found = await self.store.table(TicketMap).find(where)
        assert len(found) <= 1
        return found[0] if found else None

    async def letters(self) -> list[DeadLetter]:
        """Return what was given up, and is shown to a person."""
        return await self.store.table(DeadLetter).find({}, sort=[("_id", 1)])

    # --- workers -------------------------------------------------------------------------------

    async def _take_in(self, channel: str, account: str, draft: Outcome) -> None:
        self.told.append(draft)

    def _workers(self, owner: str) -> _Workers:
        return _Workers(
            self.store,
            {"ticket": self.dispatcher},
            self._take_in,
            self.clock,
            owner=owner,
            lease_s=LEASE_S,
        )

    @asynccontextmanager
    async def working(self, owner: str = "one") -> AsyncIterator[_Workers]:
        workers = self._workers(owner)
        task = asyncio.create_task(workers.run())
        try:
            yield workers
        finally:
            workers.stop()
            async with asyncio.timeout(WITHIN_S):
                await asyncio.gather(task, return_exceptions=True)

    async def finish(self, jobs: Iterable[str], owner: str = "one") -> None:
        """Work until all these jobs are over; time passes whenever nothing else can happen."""
        wanted = list(jobs)

        async def over() -> bool:
            found = await self.store.table(Job).get_many(wanted)
            return not any(job.live for job in found.values())

        async with self.working(owner) as workers:
            await self.until("the end of all jobs", over, workers)

    async def held(self, job: str, owner: str = "one") -> Job:
        """Work until nobody can say what became of a job any more, and return it."""

        async def doubtful() -> bool:
            found = await self.job(job)
            return found.state == "settling" and found.reason == "nobody can say what became of it"

        async with self.working(owner) as workers:
            await self.until("a doubt that nobody can end", doubtful, workers)
        return await self.job(job)

    async def crash(self, step: str, nth: int, owner: str = "one") -> None:
        """Work until a step is reached for the nth time, and die there."""
        left = nth

        def die() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Crash(step)

        watchers[step] = die
        workers = self._workers(owner)
        run = asyncio.create_task(workers.run())
        try:
            await self.until(
                f"a crash at {step}", lambda: any(map(_crashed, [run, *workers.ended])), workers
            )
        finally:
            watchers.pop(step, None)
            tasks = [run, *workers.lanes]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._later(LEASE_S + 1)

    async def until(
        self,
        goal: str,
        reached: Callable[[], Awaitable[bool] | bool],
        workers: _Workers,
    ) -> None:
        ends = time.monotonic() + WITHIN_S
        while True:
            found = reached()
            if await found if isinstance(found, Awaitable) else found:
                return
            assert time.monotonic() < ends, f"waited {WITHIN_S:.0f} s for {goal}"
            if not workers.busy and not await self._due():
                await self._later(await self._next_s())
                workers.wake.set()
            await asyncio.sleep(0.003)

    async def _next_s(self) -> float:
        """Return how long it is until something is due; a moment where a lane only rests."""
        jobs = self.store.table(Job)
        first = await jobs.find({"live": True}, sort=[("due_at", 1)], limit=1)
        wait_s = (first[0].due_at - self.clock.now()).total_seconds() if first else 0.0
        return max(TICK_S, wait_s)

    async def _due(self) -> bool:
        held = sorted(await self.store.lanes.parked())
        due = {"live": True, "due_at": {"$lte": self.clock.now()}, "lane": {"$nin": held}}
        return bool(await self.store.table(Job).count(due, limit=1))


def _crashed(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and isinstance(task.exception(), Crash)
