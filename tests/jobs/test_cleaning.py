"""After an erasure nothing readable is left behind, however often the job runs.

Faked: the commands (they are kept) and plugins that may fail. Real: both stores, the plugin host.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

import pluggy
import pytest

from hub.cleaning import CHUNK, Cleaner
from hub.documents import Conversation, InboxItem, Job
from hub.planning.rules import Refusal
from hub.plugin_context import PluginContext
from hub.plugin_host import PluginHost
from hub.services import HubServices
from hub.store.interface import StoreError
from hub.testing.clock import START
from hub.testing.services import FakeServices
from normalizer.outcomes import Rejected, Temporary
from tests.jobs.world import World, job
from tests.store.spaces import NOW, item

LATER = NOW + timedelta(milliseconds=1)
hookimpl = pluggy.HookimplMarker("omniline")


def erase_job(ident: str = "job_1", **args: Any) -> Job:
    given = {"addresses": [], "asked_at": NOW.isoformat(), "up_to": 9, **args}
    return job(ident, "erase:cus_1", kind="erase", customer="cus_1", args=given)


class Copies:
    """A plugin that keeps copies of its own, and may be unable to erase them for a while."""

    def __init__(self) -> None:
        self.failing = 0
        self.erased: list[tuple[tuple[str, ...], tuple[str, ...]]] = []

    @hookimpl
    async def customer_erased(
        self, context: Any, addresses: list[str], conversations: list[str]
    ) -> None:
        if self.failing:
            self.failing -= 1
            raise ConnectionError("my database is away")
        self.erased.append((tuple(addresses), tuple(conversations)))


class Silent:
    """A plugin without copies."""


class Cleaning:
    def __init__(self, world: World) -> None:
        self.world = world
        self.refuse = False
        self.services = FakeServices(
            store=world.store, clock=world.clock, on_command=self._on_command
        )
        self.copies = Copies()
        host = PluginHost(clock=world.clock)
        host._manager.register(self.copies, "copies")
        host._manager.register(Silent(), "silent")
        contexts = {name: cast(PluginContext, object()) for name in ("copies", "silent")}
        self.cleaner = Cleaner(world.store, host, cast(HubServices, self.services), contexts)

    def _on_command(self, name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.refuse:
            raise Refusal("conflict", "not now")
        return {}

    async def run(self, **args: Any) -> None:
        assert await self.cleaner.run(erase_job(**args)) is None


@pytest.fixture
def cleaning(world: World) -> Cleaning:
    return Cleaning(world)


async def readable(world: World) -> list[str]:
    """Return the ids of items that still hold something."""
    items = await world.store.table(InboxItem).find({}, sort=[("_id", 1)])
    return [each.id for each in items if each.raw or each.drafts or each.raw_blob]


async def test_raw_requests_blobs_and_copies_go(world: World, cleaning: Cleaning) -> None:
    blobs = world.store.blobs
    large, picture, others = [await blobs.put(data) for data in (b"raw", b"picture", b"other")]
    closed = {"open": False, "raw": b"r", "drafts": b"d"}
    await world.store.inbox.put(
        [
            item(id="in_1", **closed),
            item(id="in_2", open=False, raw_blob=large),
            item(id="in_3", **closed, addresses=("adr_1", "adr_9")),  # a repeated delivery
            item(id="in_4", raw=b"r", addresses=("adr_1",)),  # not routed: it may be new
            item(id="in_5", **closed, raw_blob=others, addresses=("adr_2",)),
            item(id="in_6", **closed, addresses=("adr_1",), received_at=LATER),  # a new life
        ]
    )
    await world.store.table(Conversation).insert(
        [
            Conversation(
                id=f"cnv_{n}",
                customer=f"cus_{n}",
                root="adr_1",
                policy="customer",
                state="closed",
                opened_at=START,
                active_at=START,
            )
            for n in (1, 2)
        ]
    )
    for _ in range(2):
        await cleaning.run(sources=["in_1", "in_2"], blobs=[picture], addresses=["adr_1"])
        assert await readable(world) == ["in_4", "in_5", "in_6"]
    assert await blobs.read(others) == b"other"
    for gone in (large, picture):
        with pytest.raises(StoreError):
            await blobs.read(gone)
    assert await world.store.table(InboxItem).count({}) == 6, "that they were there is kept"
    assert cleaning.copies.erased == [(("adr_1",), ("cnv_1",))] * 2
    assert cleaning.services.commands == []


async def test_many_sources_are_taken_in_pieces(world: World, cleaning: Cleaning) -> None:
    sources = [f"in_{n:05}" for n in range(CHUNK + 3)]
    await world.store.inbox.put([item(id=ident, open=False, raw=b"r") for ident in sources])
    await cleaning.run(sources=sources)
    assert await readable(world) == []


async def test_what_is_left_is_asked_for_in_another_round(cleaning: Cleaning) -> None:
    await cleaning.run(sources=[], left=True, addresses=["adr_1"], up_to=77)
    await cleaning.run(sources=[], left=True, addresses=["adr_1"], up_to=77)
    (asked,) = cleaning.services.commands
    assert (asked.name, asked.actor) == ("erase", "hub:erase")
    assert asked.args == {
        "customer": "cus_1",
        "addresses": ["adr_1"],
        "up_to": 77,
        "asked_at": NOW.isoformat(),
    }
    assert cleaning.copies.erased == [], "plugins are told once, in the last round"
    cleaning.refuse = True
    with pytest.raises(Temporary, match="not now"):
        await cleaning.cleaner.run(erase_job("job_2", left=True))


async def test_a_plugin_that_fails_is_asked_again_until_its_copies_are_gone(
    world: World, cleaning: Cleaning
) -> None:
    cleaning.copies.failing = 2
    world.handlers["erase"] = cleaning.cleaner
    await world.give(erase_job())
    async with world.working():
        await world.finished("job_1", tick_s=2.0)
    assert len(cleaning.copies.erased) == 1
    done = await world.job("job_1")
    assert (done.state, done.attempts) == ("done", 3)
    assert world.told == []


async def test_cleaning_may_always_be_done_again(cleaning: Cleaning) -> None:
    erase = erase_job()
    assert await cleaning.cleaner.look_up(erase) is None
    assert cleaning.cleaner.settle_s(erase) == 0
    assert cleaning.cleaner.failed(erase, Rejected("r")) is None
    assert cleaning.cleaner.holds_lane(erase)
    assert await cleaning.cleaner.address_of(erase) == ("hub", "erase")
