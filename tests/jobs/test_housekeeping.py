"""Because time passes, silent conversations close, held items go on and old documents go.

Faked: time, and the commands (they are kept). Real: both stores.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, cast

import pytest

from hub.accounts import Switches
from hub.documents import Conversation, FeedRow, InboxItem
from hub.housekeeping import AT_ONCE, Housekeeping
from hub.ids import earliest_id
from hub.services import HubServices
from hub.store.interface import Unavailable
from hub.sweeping import EVERY_S, Sweeper
from hub.testing.clock import START
from hub.testing.services import FakeServices
from tests.jobs.world import World
from tests.store.spaces import item

SILENCE = timedelta(hours=72)
CONFIGURED = {"chat:main": {"inbound": "on", "outbound": "on"}}


class House:
    def __init__(self, world: World, owner: str = "one") -> None:
        self.services = FakeServices(store=world.store, clock=world.clock)
        self.switches = Switches(world.store, CONFIGURED)
        self.keeping = Housekeeping(
            world.store,
            cast(HubServices, self.services),
            self.switches,
            world.clock,
            owner=owner,
            silence=SILENCE,
        )

    @property
    def closed(self) -> list[str]:
        return [each.args["conversation"] for each in self.services.commands]


@pytest.fixture
def house(world: World) -> House:
    return House(world)


async def give(world: World, *silent_hours: float, state: str = "open") -> None:
    await world.store.table(Conversation).insert(
        [
            Conversation(
                id=f"cnv_{hours:g}_{state}",
                customer="cus_1",
                root="adr_1",
                policy="customer",
                state=state,
                opened_at=START,
                active_at=world.clock.now() - timedelta(hours=hours),
            )
            for hours in silent_hours
        ]
    )


async def test_only_what_is_open_and_silent_for_too_long_is_closed(
    world: World, house: House
) -> None:
    await give(world, 1, 71.9, 73, 200)
    await give(world, 300, state="closed")
    assert await house.keeping.close_silent() == 2
    assert house.closed == ["cnv_200_open", "cnv_73_open"], "the longest silence first"
    asked = house.services.commands[0]
    assert (asked.name, asked.actor) == ("close", "hub:silence")
    assert asked.args["reason"] == "silence"
    assert asked.args["idle_since"] == (world.clock.now() - SILENCE).isoformat()
    await house.keeping.close_silent()
    assert len(house.services.commands) == 2, "its key is the conversation's last activity"


async def test_a_great_many_are_closed_some_at_a_time(world: World, house: House) -> None:
    await give(world, *(100 + n for n in range(AT_ONCE + 5)))
    assert await house.keeping.close_silent() == AT_ONCE


async def test_one_process_a_minute_does_it(world: World, house: House) -> None:
    await give(world, 100)
    other = House(world, "two")
    await house.keeping.look()
    await other.keeping.look()
    assert (house.closed, other.closed) == (["cnv_100_open"], [])
    await world.later(60)
    await other.keeping.look()
    assert other.closed == ["cnv_100_open"]


class CountingSweeper:
    def __init__(self) -> None:
        self.sweeps = 0

    async def sweep(self) -> None:
        self.sweeps += 1


async def test_what_is_left_behind_is_swept_once_an_hour(world: World, house: House) -> None:
    """By one process; off without a sweeper (``media.unnamed_days = 0``)."""
    sweepers = [CountingSweeper(), CountingSweeper()]
    other = House(world, "two")
    await House(world, "off").keeping.look()
    for each, sweeper in zip((house, other), sweepers, strict=True):
        each.keeping._sweeper = cast(Sweeper, sweeper)
        for _ in range(2):
            await each.keeping.look()
    assert [sweeper.sweeps for sweeper in sweepers] == [1, 0]
    await world.later(EVERY_S)
    await other.keeping.look()
    assert [sweeper.sweeps for sweeper in sweepers] == [1, 1]


async def test_items_that_another_process_held_too_long_go_on_by_themselves(
    world: World, house: House
) -> None:
    """It had not seen yet that the account was switched on; nobody else would wake them up."""
    await world.store.inbox.put(
        [item(open=False, held=True), item(account="unknown", open=False, held=True)]
    )
    await house.keeping.look()
    (released,) = await world.store.inbox.unrouted(10, 1000)
    assert (released.account, released.held) == ("main", False)


async def test_old_items_and_old_feed_rows_go_and_nothing_that_waits(
    world: World, house: House
) -> None:
    now = world.clock.now()
    long_ago, lately = now - timedelta(days=31), now - timedelta(days=29)
    for name, moment in (("old", long_ago), ("new", lately)):
        await world.store.inbox.put(
            [
                item(id=f"{earliest_id('in', moment)}{name}{n}", open=n == 1, held=n == 2)
                for n in range(3)
            ]
        )
    rows = [
        FeedRow(id=n, type="t", at=now, recorded_at=now, expire_at=now + timedelta(days=n - 2500))
        for n in range(1, 2502)
    ]
    await world.store.table(FeedRow).insert(rows)
    await house.keeping.look()
    left = await world.store.table(InboxItem).find({})
    assert sorted(each.id[-4:] for each in left) == ["new0", "new1", "new2", "old1", "old2"]
    assert [row.id for row in await world.store.table(FeedRow).find({})] == [2500, 2501]


async def test_it_runs_by_itself_and_goes_on_when_the_database_is_back(
    world: World, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hub.housekeeping

    monkeypatch.setattr(hub.housekeeping, "EVERY_S", 0.001)
    real = house.switches.refresh
    away = [Unavailable("an election")]

    async def refresh() -> None:
        if away:
            raise away.pop()
        await real()

    monkeypatch.setattr(house.switches, "refresh", refresh)
    await give(world, 100)
    running = asyncio.create_task(house.keeping.run())
    await world.until("the silent one", lambda: house.closed == ["cnv_100_open"])
    await Switches(world.store, CONFIGURED).set("chat:main", "outbound", "off")
    await world.until("the switch", lambda: not house.switches.outbound_on("chat", "main"))
    await give(world, 200)
    await world.until("the next minute", lambda: len(house.closed) == 2, tick_s=5.0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not away


async def test_nothing_is_asked_for_while_nothing_can_be_stored(
    world: World, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hub.housekeeping

    monkeypatch.setattr(hub.housekeeping, "EVERY_S", 0.001)
    refused: list[Any] = []
    run_command = house.services.run_command

    async def counted(*args: Any, **options: Any) -> Any:
        refused.append(args)
        return await run_command(*args, **options)

    monkeypatch.setattr(house.services, "run_command", counted)
    house.services.overloaded = True
    await give(world, 100)
    running = asyncio.create_task(house.keeping.run())
    await world.until("a first try", lambda: refused)
    house.services.overloaded = False
    await world.until("another minute", lambda: house.closed == ["cnv_100_open"], tick_s=5.0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
