"""The ledger gives each place once, whoever asks and however often."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from hub.documents import Reservation
from hub.outbound import ledger as ledger_module
from hub.outbound.ledger import Counter, Ledger, Spent
from hub.store.interface import Unavailable
from hub.testing.clock import START
from tests.jobs.world import World
from tests.support.scale import scaled

TEN = Counter(
    id="quota|a", places=10, ends=START + timedelta(days=1), kept_until=START + timedelta(days=2)
)


async def attempt(ledger: Ledger, holder: str, counter: Counter) -> bool:
    try:
        await ledger.take(holder, counter)
    except Spent:
        return False
    return True


async def test_many_who_ask_at_once_get_exactly_the_places_there_are(world: World) -> None:
    ledgers = [Ledger(world.store) for _ in range(2)]
    asked = scaled(40, 400)
    got = await asyncio.gather(*(attempt(ledgers[n % 2], f"job_{n}|0", TEN) for n in range(asked)))
    assert sum(got) == 10
    places = [each.place for each in await world.store.table(Reservation).find({})]
    assert sorted(places) == list(range(10))


async def test_what_is_given_back_can_be_taken_by_somebody_else(world: World) -> None:
    ledger = Ledger(world.store)
    for n in range(10):
        await ledger.take(f"job_{n}|0", TEN)
    for n in (3, 7):
        await ledger.give_back(f"job_{n}|0")
    assert await ledger.used(TEN) == 8
    await ledger.take("job_x|0", TEN)
    await ledger.take("job_y|0", TEN)
    with pytest.raises(Spent):
        await ledger.take("job_z|0", TEN)
    assert await ledger.used(TEN) == 10


async def test_giving_back_touches_nobody_else_and_can_spare_a_counter(world: World) -> None:
    ledger = Ledger(world.store)
    other = Counter(id="window|b", places=1, ends=TEN.ends, kept_until=TEN.kept_until)
    await ledger.take("job_1|0", TEN)
    await ledger.take("job_1|0", other)
    await ledger.take("job_2|0", TEN)
    await ledger.give_back("job_1|0", but=[TEN.id])
    assert await ledger.taken_by("job_1|0") == {TEN.id: 1}
    await ledger.give_back("job_1|0")
    assert await ledger.taken_by("job_2|0") == {TEN.id: 1}
    assert await ledger.used(TEN) == 1


async def test_a_database_that_is_away_keeps_places_taken_and_raises_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(world.store)
    await ledger.take("job_1|0", TEN)
    asked = 0

    async def away(where: object) -> int:
        nonlocal asked
        asked += 1
        raise Unavailable("an election")

    monkeypatch.setattr(ledger_module, "GIVE_BACK_WAIT_S", 0.0)
    monkeypatch.setattr(ledger._taken, "delete", away)
    await ledger.give_back("job_1|0")
    assert asked == ledger_module.GIVE_BACK_TRIES
    assert await ledger.used(TEN) == 1
