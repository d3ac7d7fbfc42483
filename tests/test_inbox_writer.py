"""What a writer says is stored is in the inbox or the spool, in order, each with its own outcome.

Faked: an inbox that is slow, away or picky when a test says so. Real: the spool with its files,
the in-memory inbox behind the faked one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from hub import steps
from hub.documents import InboxItem
from hub.inbox_writer import GROUP_BYTES, GROUP_ITEMS, InboxWriter, Overloaded
from hub.spool import Spool
from hub.store.codec import MAX_ITEM_BYTES
from hub.store.interface import InboxStore, NotStorable, StoreError, Unavailable
from hub.store.memory import MemoryStore
from tests.store.spaces import item

WITHIN_S = 20.0


class Inbox:
    """``gate`` holds groups up; ``away`` refuses them; ``errors`` are items' own."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.groups: list[list[str]] = []  # what arrived here, whatever became of it
        self.order: list[str] = []  # what was stored, in order
        self.gate = asyncio.Event()
        self.gate.set()
        self.away: Exception | None = None
        self.errors: dict[str, StoreError] = {}

    async def put(self, items: Sequence[InboxItem]) -> list[StoreError | None]:
        self.groups.append([each.id for each in items])
        await self.gate.wait()
        if self.away is not None:
            raise self.away
        fine = [each for each in items if each.id not in self.errors]
        await self.store.inbox.put(fine)
        self.order += [each.id for each in fine if each.id not in self.order]
        return [self.errors.get(each.id) for each in items]


class World:
    def __init__(self, inbox: Inbox, spool: Spool | None, writer: InboxWriter) -> None:
        self.inbox = inbox
        self.spool = spool
        self.writer = writer

    def put(self, ident: str, **fields: Any) -> asyncio.Task[None]:
        may_spool = fields.pop("may_spool", True)
        return asyncio.create_task(
            self.writer.put(item(id=ident, **fields), may_spool=may_spool), name=ident
        )

    async def until(self, goal: str, reached: Callable[[], bool]) -> None:
        ends = time.monotonic() + WITHIN_S
        while not reached():
            assert time.monotonic() < ends, f"waited for {goal}"
            await asyncio.sleep(0.001)


@asynccontextmanager
async def opened(
    folder: Path, inbox: Inbox, *, spool: bool = True, budget_s: float = 5.0, **limits: Any
) -> AsyncIterator[World]:
    journal = None
    if spool:
        given = {"max_bytes": 1 << 24, "reserve_bytes": 0, **limits}
        journal = Spool.open(folder / "spool", **given)
        await journal.adopt_dead()
    writer = InboxWriter(cast(InboxStore, inbox), journal, budget_s=budget_s)
    await writer.start()
    try:
        yield World(inbox, journal, writer)
    finally:
        inbox.gate.set()
        await writer.close()
        if journal is not None:
            await journal.close()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
async def world(tmp_path: Path, inbox: Inbox) -> AsyncIterator[World]:
    async with opened(tmp_path, inbox) as made:
        yield made


async def settled(*tasks: Awaitable[None]) -> list[BaseException | None]:
    async with asyncio.timeout(WITHIN_S):
        return await asyncio.gather(*tasks, return_exceptions=True)


def names(count: int, start: int = 0) -> list[str]:
    return [f"in_{n:05}" for n in range(start, start + count)]


# --- groups --------------------------------------------------------------------------------------


async def test_a_lone_item_is_a_group_of_its_own_at_once(world: World, inbox: Inbox) -> None:
    for ident in names(3):
        await world.put(ident)
    assert inbox.groups == [["in_00000"], ["in_00001"], ["in_00002"]]
    assert inbox.order == names(3)


async def test_what_comes_while_a_group_is_on_its_way_goes_together_and_in_order(
    world: World, inbox: Inbox
) -> None:
    inbox.gate.clear()
    first = world.put("in_first")
    await world.until("the first group", lambda: len(inbox.groups) == 1)
    others = [world.put(ident) for ident in names(50)]
    await asyncio.sleep(0)
    assert not first.done(), "nothing is acknowledged before it is durable"
    inbox.gate.set()
    assert await settled(first, *others) == [None] * 51
    assert inbox.groups == [["in_first"], names(50)]


async def test_a_group_is_bounded_by_count(world: World, inbox: Inbox) -> None:
    inbox.gate.clear()
    tasks = [world.put(ident) for ident in names(2 * GROUP_ITEMS + 1)]
    await world.until("the first group", lambda: len(inbox.groups) == 1)
    inbox.gate.set()
    await settled(*tasks)
    assert max(map(len, inbox.groups)) == GROUP_ITEMS
    assert inbox.order == names(2 * GROUP_ITEMS + 1)


async def test_a_group_is_bounded_by_bytes_and_never_empty(world: World, inbox: Inbox) -> None:
    inbox.gate.clear()
    tasks = [world.put("in_first")]
    await world.until("the first group", lambda: len(inbox.groups) == 1)
    large = {"raw": b"x" * (GROUP_BYTES // 2), "drafts": b"y"}
    tasks += [world.put(ident, **large) for ident in names(2)]
    tasks += [world.put("in_huge", raw=b"x" * (GROUP_BYTES + 1)), world.put("in_small")]
    inbox.gate.set()
    await settled(*tasks)
    assert inbox.groups[1:] == [["in_00000"], ["in_00001"], ["in_huge"], ["in_small"]]


async def test_every_waiter_has_its_own_outcome(world: World, inbox: Inbox) -> None:
    inbox.errors["in_00001"] = NotStorable("this one")
    inbox.gate.clear()
    first = world.put("in_first")
    await world.until("the first group", lambda: len(inbox.groups) == 1)
    tasks = [world.put(ident) for ident in names(3)]
    inbox.gate.set()
    assert await settled(first, *tasks) == [None, None, inbox.errors["in_00001"], None]


@pytest.mark.parametrize(
    "bad",
    [{"raw": b"x" * (MAX_ITEM_BYTES + 1)}, {"failed": "ValueError: \ud800"}],
    ids=["too large", "no Unicode"],
)
async def test_what_can_never_be_stored_is_refused_at_the_door(
    world: World, inbox: Inbox, bad: dict[str, Any]
) -> None:
    """In the spool it would be acknowledged, and then lost."""
    inbox.away = Unavailable("away")
    assert await settled(world.put("in_1")) == [None]
    assert world.writer.spooling
    refused, fine = await settled(world.put("in_2", **bad), world.put("in_3"))
    assert isinstance(refused, NotStorable)
    assert fine is None
    inbox.away = None
    assert await world.writer.drained(WITHIN_S)
    assert inbox.order == ["in_1", "in_3"]


async def test_a_caller_that_goes_away_takes_nobody_with_it_and_its_item_is_stored(
    world: World, inbox: Inbox
) -> None:
    inbox.gate.clear()
    tasks = [world.put(ident) for ident in names(3)]
    await world.until("the group", lambda: len(inbox.groups) == 1)
    late = world.put("in_late")
    await asyncio.sleep(0)
    for task in (tasks[1], late):
        task.cancel()
    inbox.gate.set()
    outcomes = await settled(*tasks, late)
    assert [type(each) for each in outcomes] == [
        type(None),
        asyncio.CancelledError,
        type(None),
        asyncio.CancelledError,
    ]
    await world.put("in_next")
    assert inbox.order == [*names(3), "in_late", "in_next"]


async def test_a_bug_in_the_store_is_refused_and_the_next_group_is_tried(
    world: World, inbox: Inbox
) -> None:
    inbox.away = ZeroDivisionError("a bug")
    (refused,) = await settled(world.put("in_1"))
    assert isinstance(refused, Overloaded)
    inbox.away = None
    await world.put("in_2")
    assert inbox.order == ["in_2"]


async def test_the_router_is_woken_after_every_group(world: World) -> None:
    assert not world.writer.stored.is_set()
    await world.put("in_1")
    assert world.writer.stored.is_set()


# --- the spool -----------------------------------------------------------------------------------


async def test_what_the_database_does_not_take_goes_to_the_spool_and_back_in_order(
    world: World, inbox: Inbox
) -> None:
    await world.put("in_0")
    inbox.away = Unavailable("an election")
    assert await settled(*(world.put(f"in_{n}") for n in range(1, 5))) == [None] * 4
    assert world.writer.spooling
    assert world.spool is not None
    assert world.spool.pending == 4
    assert inbox.order == ["in_0"]
    inbox.away = None
    assert await world.writer.drained(WITHIN_S)
    assert not world.writer.spooling
    assert world.spool.pending == 0
    groups = len(inbox.groups)
    await world.put("in_5")
    assert inbox.groups[groups:] == [["in_5"]], "directly again"
    assert inbox.order == [f"in_{n}" for n in range(6)]


async def test_the_first_group_waits_for_its_budget_and_the_next_ones_not_at_all(
    tmp_path: Path, inbox: Inbox
) -> None:
    async with opened(tmp_path, inbox, budget_s=0.2) as world:
        inbox.gate.clear()  # frozen: neither an answer nor an error
        began = time.monotonic()
        await world.put("in_1")
        assert time.monotonic() - began >= 0.2
        assert world.writer.spooling
        for n in range(2, 12):
            await world.put(f"in_{n}")
        # The drain tries what is spooled, from the first one on; nothing else was tried.
        assert {group[0] for group in inbox.groups} == {"in_1"}, "only it was tried directly"
        inbox.gate.set()
        assert await world.writer.drained(WITHIN_S)
        assert inbox.order == [f"in_{n}" for n in range(1, 12)]


async def test_a_group_in_doubt_is_stored_once(tmp_path: Path, inbox: Inbox) -> None:
    """The database took it after the budget was over: the spool brings it again."""
    async with opened(tmp_path, inbox, budget_s=0.05) as world:
        put = inbox.put

        async def slow(items: Sequence[InboxItem]) -> list[StoreError | None]:
            inbox.put = put  # type: ignore[method-assign]
            await put(items)
            await asyncio.Event().wait()
            raise AssertionError

        inbox.put = slow  # type: ignore[method-assign]
        await world.put("in_1")
        assert await world.writer.drained(WITHIN_S)
        assert inbox.groups == [["in_1"], ["in_1"]]
        assert await inbox.store.table(InboxItem).count({}) == 1


async def test_while_the_spool_drains_everything_new_goes_behind_it(
    world: World, inbox: Inbox
) -> None:
    inbox.away = Unavailable("away")
    await settled(*(world.put(f"in_{n}") for n in range(3)))
    inbox.gate.clear()
    inbox.away = None
    before = len(inbox.groups)
    await world.until("the drain", lambda: len(inbox.groups) > before)
    await world.put("in_3")
    assert world.writer.spooling
    inbox.gate.set()
    assert await world.writer.drained(WITHIN_S)
    assert inbox.order == ["in_0", "in_1", "in_2", "in_3"]


async def test_who_can_come_again_is_refused_while_spooling(world: World, inbox: Inbox) -> None:
    inbox.away = Unavailable("away")
    await world.put("in_1")
    (refused,) = await settled(world.put("in_2", may_spool=False))
    assert isinstance(refused, Overloaded)
    inbox.away = None
    assert await world.writer.drained(WITHIN_S)
    await world.put("in_3", may_spool=False)
    assert inbox.order == ["in_1", "in_3"]


async def test_a_full_spool_acknowledges_nothing(tmp_path: Path, inbox: Inbox) -> None:
    async with opened(tmp_path, inbox, max_bytes=40_000) as world:
        inbox.away = Unavailable("away")
        outcomes = [(await settled(world.put(f"in_{n}", raw=b"x" * 3000)))[0] for n in range(20)]
        stored = [n for n, outcome in enumerate(outcomes) if outcome is None]
        assert 0 < len(stored) < 20
        refused = [outcome for outcome in outcomes if outcome is not None]
        assert all(isinstance(each, Overloaded) for each in refused)
        inbox.away = None
        assert await world.writer.drained(WITHIN_S)
        assert inbox.order == [f"in_{n}" for n in stored]


async def test_without_a_spool_nothing_is_acknowledged_and_the_database_is_tried_again(
    tmp_path: Path, inbox: Inbox
) -> None:
    async with opened(tmp_path, inbox, spool=False) as world:
        inbox.away = Unavailable("away")
        (refused,) = await settled(world.put("in_1"))
        assert isinstance(refused, Overloaded)
        assert not world.writer.spooling
        inbox.away = None
        await world.put("in_2")
        assert inbox.order == ["in_2"]
        assert await world.writer.drained(1)


async def test_what_the_last_start_left_is_drained_before_anything_new(
    tmp_path: Path, inbox: Inbox
) -> None:
    inbox.away = Unavailable("away")
    async with opened(tmp_path, inbox) as world:
        await settled(*(world.put(f"in_{n}") for n in range(3)))
        assert not await world.writer.drained(0.01)
    inbox.away = None
    inbox.gate.clear()
    async with opened(tmp_path, inbox) as again:
        assert again.writer.spooling
        await again.put("in_3")
        inbox.gate.set()
        assert await again.writer.drained(WITHIN_S)
    assert inbox.order == ["in_0", "in_1", "in_2", "in_3"]


async def test_an_acknowledged_item_stays_in_the_spool_until_the_inbox_takes_it(
    world: World, inbox: Inbox
) -> None:
    """Its own error of the moment (a full disk) is no reason to drop what was acknowledged."""
    inbox.away = Unavailable("away")
    await settled(*(world.put(f"in_{n}") for n in range(3)))
    inbox.errors["in_1"] = StoreError("no disk space")
    inbox.away = None
    before = len(inbox.groups)
    await world.until("two tries", lambda: len(inbox.groups) >= before + 2)
    assert world.writer.spooling
    inbox.errors.clear()
    assert await world.writer.drained(WITHIN_S)
    assert sorted(inbox.order) == ["in_0", "in_1", "in_2"]


async def test_what_the_inbox_can_never_take_is_reported_and_holds_nothing_up(
    world: World, inbox: Inbox
) -> None:
    inbox.away = Unavailable("away")
    await settled(world.put("in_1"), world.put("in_2"))
    inbox.errors["in_1"] = NotStorable("written by another release")
    with capture_logs() as logs:
        inbox.away = None
        assert await world.writer.drained(WITHIN_S)
    assert inbox.order == ["in_2"]
    assert [each["item"] for each in logs if each["event"] == "spooled_item_refused"] == ["in_1"]


async def test_a_drain_that_fails_in_an_unforeseen_way_goes_on(world: World, inbox: Inbox) -> None:
    inbox.away = Unavailable("away")
    await world.put("in_1")
    before = len(inbox.groups)
    inbox.away = ZeroDivisionError("a bug")
    await world.until("a failing drain", lambda: len(inbox.groups) > before)
    inbox.away = None
    assert await world.writer.drained(WITHIN_S)
    assert inbox.order == ["in_1"]


# --- the end -------------------------------------------------------------------------------------


async def test_closing_stores_what_is_waiting_and_takes_nothing_new(
    tmp_path: Path, inbox: Inbox
) -> None:
    async with opened(tmp_path, inbox) as world:
        inbox.gate.clear()
        tasks = [world.put(ident) for ident in names(GROUP_ITEMS + 5)]
        await world.until("the first group", lambda: len(inbox.groups) == 1)
        closing = asyncio.create_task(world.writer.close())
        await asyncio.sleep(0)
        (refused,) = await settled(world.put("in_late"))
        assert isinstance(refused, Overloaded)
        assert not closing.done()
        inbox.gate.set()
        assert await settled(*tasks) == [None] * (GROUP_ITEMS + 5)
        await settled(closing)
    assert inbox.order == names(GROUP_ITEMS + 5)


async def test_closing_while_spooling_leaves_the_rest_in_the_spool(
    tmp_path: Path, inbox: Inbox
) -> None:
    inbox.away = Unavailable("away")
    async with opened(tmp_path, inbox) as world:
        tasks = [world.put(ident) for ident in names(3)]
        await asyncio.sleep(0)
        await settled(world.writer.close())
        assert await settled(*tasks) == [None] * 3
        assert world.spool is not None
        assert world.spool.pending == 3
    assert inbox.order == []


async def test_the_steps_of_the_spool_can_be_watched(world: World, inbox: Inbox) -> None:
    """Where the fault tests kill the process."""
    seen: list[str] = []
    for step in ("spool.1", "spool.2"):
        steps.watchers[step] = lambda step=step: seen.append(step)
    try:
        inbox.away = Unavailable("away")
        await world.put("in_1")
        assert seen == ["spool.1"]
        inbox.away = None
        assert await world.writer.drained(WITHIN_S)
        assert seen == ["spool.1", "spool.2"]
    finally:
        steps.watchers.clear()


async def test_what_is_spooled_carries_its_raw_request_and_names_no_blob(
    world: World, inbox: Inbox
) -> None:
    """The sweep knows what the inbox names, and not what a spool does; too large is not taken."""
    inbox.away = Unavailable("away")
    small, huge = item(id="in_small", raw_blob="blb_1"), item(id="in_huge", raw_blob="blb_2")
    await world.writer.put(small, whole=b"raw")
    with pytest.raises(Overloaded, match="too large for the spool"):
        await world.writer.put(huge, whole=b"x" * (MAX_ITEM_BYTES + 1))
    inbox.away = None
    await world.until("the spool to be drained", lambda: inbox.order == ["in_small"])
    stored = await inbox.store.table(InboxItem).get("in_small")
    assert stored is not None
    assert (stored.raw, stored.raw_blob) == (b"raw", None)
