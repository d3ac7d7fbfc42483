"""A live process can be told from a dead one, sooner than its router's lease ends.

Faked: time. Real: the in-memory store's lanes (``tests/store`` holds MongoDB's to the same).
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hub import presence
from hub.presence import LASTS, RENEWED, Presence, presence_lane
from hub.store.interface import Unavailable
from hub.store.memory import MemoryStore
from hub.testing.clock import FakeClock

LEASE_S = 5.0
LANE = presence_lane("one")


class Alive:
    """A process whose sign of life is renewed when the test lets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(clock=self.clock)
        self.rested: list[float] = []
        self._turns = asyncio.Semaphore(0)
        self._resting = asyncio.Event()
        monkeypatch.setattr(presence.asyncio, "sleep", self._sleep)
        self.task = asyncio.create_task(Presence(self.store, "one", LEASE_S).keep())

    async def _sleep(self, seconds: float) -> None:
        self.rested.append(seconds)
        self._resting.set()
        await self._turns.acquire()

    async def at_rest(self) -> None:
        async with asyncio.timeout(5):
            await self._resting.wait()

    async def turn(self) -> None:
        """Let it renew once more."""
        self._resting.clear()
        self._turns.release()
        await self.at_rest()

    async def seen(self) -> bool:
        return LANE in await self.store.lanes.parked()


@pytest.fixture
async def alive(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Alive(monkeypatch)
    await made.at_rest()
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def test_a_process_is_seen_as_long_as_it_renews(alive: Alive) -> None:
    for _ in range(5):
        assert await alive.seen()
        alive.clock.advance(LEASE_S * LASTS - 0.1)
        await alive.turn()
    assert set(alive.rested) == {LEASE_S * RENEWED}


async def test_a_dead_process_is_known_to_be_dead_before_its_lease_can_be_taken(
    alive: Alive,
) -> None:
    alive.clock.advance(LEASE_S * LASTS + 0.1)
    assert not await alive.seen()
    assert LASTS < 1
    assert RENEWED < LASTS / 2


async def test_a_process_that_ends_in_order_is_gone_at_once(alive: Alive) -> None:
    alive.task.cancel()
    await asyncio.gather(alive.task, return_exceptions=True)
    assert not await alive.seen()


async def test_a_sign_that_somebody_else_took_is_taken_again(alive: Alive) -> None:
    alive.clock.advance(LEASE_S)
    await alive.store.lanes.claim([LANE], "a twin", 1.0)
    await alive.turn()
    alive.clock.advance(1.1)
    assert not await alive.seen()
    await alive.turn()
    assert await alive.seen()


async def test_trouble_with_the_database_ends_nothing(
    alive: Alive, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*args: Any) -> Any:
        raise Unavailable("an election")

    with monkeypatch.context() as during:
        during.setattr(alive.store.lanes, "renew", away)
        during.setattr(alive.store.lanes, "claim", away)
        await alive.turn()
        alive.clock.advance(LEASE_S)
        await alive.turn()
        assert not await alive.seen()
    await alive.turn()
    assert await alive.seen()
    monkeypatch.setattr(alive.store.lanes, "release", away)
    alive.task.cancel()
    (end,) = await asyncio.gather(alive.task, return_exceptions=True)
    assert isinstance(end, asyncio.CancelledError), "what could not be given back ends by itself"
