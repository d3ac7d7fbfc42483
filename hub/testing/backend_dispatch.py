"""What the hub makes of a backend whose server misbehaves: a part of the contract suite.

Real: the dispatcher, the lanes' workers, the store, the backend. The server loses answers, answers
late, limits, refuses, resets, and is away, and a worker dies at every step. Whatever happens,
each entry is on its ticket once, in order, and there is one ticket.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable, Sequence

import pytest

from hub.backend_contract import TicketBackend
from hub.store.interface import Store
from hub.store.memory import MemoryStore
from hub.testing.backend_faults import Fault, FaultyBackend, Outside
from hub.testing.backend_world import TicketWorld
from hub.testing.clock import FakeClock
from normalizer.tickets import Requester, TicketEntry, TicketRef

DOUBTS = (Fault.LOSES, Fault.LATE, Fault.RESETS, Fault.FAILS)
CALLS = ("ensure_requester", "find_ticket", "create_ticket", "find_entry", "append", "read")
SEEDS = (1, 2, 3) if os.environ.get("OMNILINE_SCALE") == "full" else (1,)
Later = Callable[[float], Awaitable[None]]


class DispatchChecks:
    """Tests of a backend within the hub. Override ``outside`` where your fake server misbehaves."""

    conversations: int = 4
    """How many conversations are written to side by side, beside many faults."""
    written: int = 6
    """How many messages each of them gets."""

    # --- what a subclass may fill in -------------------------------------------------------------

    def outside(self, backend: TicketBackend) -> Outside:
        """Return the backend with the faults its server can play; better than these here."""
        return FaultyBackend(backend)

    @pytest.fixture
    def hub_clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def hub_store(self, hub_clock: FakeClock) -> Store:
        """Return the hub's own store; let a fixture of your own bring MongoDB."""
        return MemoryStore(clock=hub_clock)

    @pytest.fixture
    def later(self, hub_clock: FakeClock) -> Later:
        """Return what lets time pass, for the clock and for every lease in ``hub_store``."""

        async def pass_by(seconds: float) -> None:
            hub_clock.advance(seconds)

        return pass_by

    @pytest.fixture
    def world(
        self, backend: TicketBackend, hub_store: Store, hub_clock: FakeClock, later: Later
    ) -> TicketWorld:
        return TicketWorld(hub_store, hub_clock, self.outside(backend), later)

    async def entries_of(self, backend: TicketBackend, ticket: TicketRef) -> Sequence[TicketEntry]:
        raise NotImplementedError("say how to read a ticket's entries as an agent would")

    async def tickets_with(self, backend: TicketBackend, key: str) -> Sequence[TicketRef]:
        raise NotImplementedError("say how to find all tickets that carry a key")

    # --- faults ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("call", ["create_ticket", "append"])
    @pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name.lower())
    async def test_a_write_that_goes_wrong_doubles_and_loses_nothing(
        self, world: TicketWorld, backend: TicketBackend, call: str, fault: Fault
    ) -> None:
        """What was refused is the one thing missing, and a person is shown it."""
        world.outside.plan(call, fault)
        jobs = await world.written(1, range(1, 4))
        await world.finish(jobs)
        lost = [0 if call == "create_ticket" else 1] if fault is Fault.REFUSES else []
        await self._is_once_and_in_order(world, backend, 1, range(1, 4), lost=lost)
        letters = await world.letters()
        assert [letter.ref for letter in letters] == [jobs[each] for each in lost]
        if fault is Fault.LIMITS:
            tried = [(await world.job(job)).attempts for job in jobs]
            assert tried == [1, 1, 1], "a limit costs no attempt"

    @pytest.mark.parametrize("fault", DOUBTS, ids=lambda fault: fault.name.lower())
    async def test_a_doubt_that_comes_again_and_again_still_doubles_nothing(
        self, world: TicketWorld, backend: TicketBackend, fault: Fault
    ) -> None:
        for call in ("create_ticket", "append", "read"):
            world.outside.plan(call, fault, fault, None, fault)
        await world.finish(await world.written(1, range(1, 5)))
        await self._is_once_and_in_order(world, backend, 1, range(1, 5))
        assert await world.letters() == []

    @pytest.mark.parametrize("call", CALLS)
    async def test_a_server_that_is_away_or_limits_for_a_while_is_waited_for(
        self, world: TicketWorld, backend: TicketBackend, call: str
    ) -> None:
        world.outside.plan("create_ticket", Fault.LOSES)
        world.outside.plan("append", Fault.LOSES)
        world.outside.plan(call, Fault.AWAY, Fault.LIMITS, Fault.AWAY)
        await world.finish(await world.written(1, range(1, 4)))
        await self._is_once_and_in_order(world, backend, 1, range(1, 4))
        assert await world.letters() == []

    @pytest.mark.parametrize("seed", SEEDS)
    async def test_many_conversations_and_faults_side_by_side_keep_each_ticket_in_order(
        self, world: TicketWorld, backend: TicketBackend, seed: int
    ) -> None:
        chance = random.Random(seed)
        faults = [None, None, None, Fault.AWAY, Fault.LIMITS, *DOUBTS]
        for call in CALLS:
            count = 3 * self.conversations
            world.outside.plan(call, *(chance.choice(faults) for _ in range(count)))
        jobs = []
        for number in range(1, self.conversations + 1):
            jobs += await world.written(number, range(1, self.written + 1))
        await world.finish(jobs)
        for number in range(1, self.conversations + 1):
            await self._is_once_and_in_order(world, backend, number, range(1, self.written + 1))
        assert await world.letters() == []
        assert {told.job for told in world.told} >= {job for job in jobs if job.endswith("01")}

    @pytest.mark.parametrize("nth", [1, 2])
    @pytest.mark.parametrize("step", ["jobs.2", "jobs.3", "jobs.4", "jobs.5", "jobs.6"])
    async def test_a_worker_that_dies_at_a_step_writes_each_entry_once(
        self, world: TicketWorld, backend: TicketBackend, step: str, nth: int
    ) -> None:
        jobs = await world.written(1, range(1, 4))
        await world.crash(step, nth)
        await world.finish(jobs, owner="two")
        await self._is_once_and_in_order(world, backend, 1, range(1, 4))
        assert await world.letters() == []

    async def _is_once_and_in_order(
        self,
        world: TicketWorld,
        backend: TicketBackend,
        conversation: int,
        numbers: Sequence[int],
        *,
        lost: Sequence[int] = (),
    ) -> None:
        key = world.conversation(conversation)
        tickets = await self.tickets_with(backend, key)
        assert len(tickets) == 1, f"{key} has {len(tickets)} tickets"
        seen = [entry.text for entry in await self.entries_of(backend, tickets[0])]
        said = [world.text(conversation, number) for number in numbers]
        assert seen == [text for place, text in enumerate(said) if place not in lost]
        requester = Requester(hub_id=f"cus_{conversation:026d}", display_name="the same")
        found = await backend.find_ticket(key, requester)
        assert found is not None
        assert found.id == tickets[0].id
        known = await world.map_of(conversation)
        assert known is not None
        assert known.ticket == found.id, "the hub goes on with the ticket that is there"
