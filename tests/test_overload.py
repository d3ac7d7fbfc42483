"""When the hub says no: vendors at the bounds only, everybody else earlier, never without a reason.

Faked: time, the disk's size, the writer's state. Real: the in-memory store.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from hub import overload as module
from hub.inbox_writer import InboxWriter, Overloaded
from hub.metrics import Metrics
from hub.overload import Overload
from hub.store.interface import Unavailable
from hub.store.memory import MemoryStore
from hub.testing.clock import FakeClock
from tests.store.spaces import item

Usage = namedtuple("Usage", "total used free")
GIB = 1 << 30


class World:
    def __init__(self, folder: Path, **bounds: Any) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(clock=self.clock)
        self.writer = SimpleNamespace(spooling=False)
        self.metrics = Metrics()
        self.overload = Overload(
            self.store,
            cast(InboxWriter, self.writer),
            self.clock,
            self.metrics,
            folder,
            **{
                "lag_limit_s": 10.0,
                "max_items": 5,
                "max_bytes": 1000,
                "disk_reserve": GIB,
                **bounds,
            },
        )

    async def arrives(self, count: int = 1, raw: bytes = b"") -> None:
        items = [item(received_at=self.clock.now(), raw=raw) for _ in range(count)]
        await self.store.inbox.put(items)

    async def routed(self) -> None:
        for each in await self.store.inbox.unrouted(100, GIB):
            await self.store.inbox.redact({"_id": each.id})
            self.store._collections["inbox"].pop(each.id)

    def sample(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(name)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes that are free on the disk."""
    held = [100 * GIB]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, held[0]))
    return held


@pytest.fixture
def world(tmp_path: Path, free: list[int]) -> World:
    return World(tmp_path)


async def test_a_hub_with_nothing_to_do_admits_everything(world: World) -> None:
    await world.overload.look()
    world.overload.admit_webhook()
    world.overload.admit_write()
    assert (world.overload.busy, world.overload.lagging) == (False, False)
    assert (world.overload.backlog, world.overload.lag_s) == (0, 0.0)


async def test_lag_refuses_writes_and_pauses_polls_and_never_refuses_a_vendor(
    world: World,
) -> None:
    await world.store.router.take("router", 3600)
    await world.arrives()
    world.clock.advance(10)
    await world.overload.look()
    world.overload.admit_write()
    world.clock.advance(1)
    await world.overload.look()
    assert world.overload.busy
    with pytest.raises(Overloaded, match="routing is 11 s behind"):
        world.overload.admit_write()
    world.overload.admit_webhook()
    await world.routed()
    await world.overload.look()
    world.overload.admit_write()
    assert not world.overload.busy


async def test_lag_without_any_router_does_not_count(world: World) -> None:
    await world.arrives()
    world.clock.advance(3600)
    await world.overload.look()
    assert (world.overload.lag_s, world.overload.router_alive) == (3600, False)
    assert not world.overload.busy
    world.overload.admit_write()
    await world.store.router.take("router", 5.0)
    await world.overload.look()
    assert world.overload.lagging


async def test_while_spooling_only_who_cannot_come_again_is_admitted(world: World) -> None:
    world.writer.spooling = True
    await world.overload.look()
    world.overload.admit_webhook()
    assert world.overload.busy
    with pytest.raises(Overloaded, match="cannot be reached: try again"):
        world.overload.admit_write()
    assert world.sample("omniline_spooling") == 1


@pytest.mark.parametrize(
    "fill",
    [
        lambda world, free: world.arrives(5),
        lambda world, free: world.arrives(2, b"x" * 600),
    ],
    ids=["items", "bytes"],
)
async def test_a_full_inbox_refuses_even_vendors_and_raises_one_alarm(
    world: World, free: list[int], fill: Callable[..., Any]
) -> None:
    await fill(world, free)
    with capture_logs() as logs:
        await world.overload.look()
        await world.overload.look()
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["intake_full"]
    for admit in (world.overload.admit_webhook, world.overload.admit_write):
        with pytest.raises(Overloaded, match="nothing more can be kept now"):
            admit()
    assert world.overload.full is not None
    assert "items wait for the router" in world.overload.full
    assert world.overload.busy
    await world.routed()
    await world.overload.look()
    world.overload.admit_webhook()


async def test_the_disks_reserve_is_kept(world: World, free: list[int], tmp_path: Path) -> None:
    """The operator is told which disk and how much; whoever is refused is not."""
    free[0] = GIB - 1
    await world.overload.look()
    assert world.overload.full is not None
    assert f"only {GIB - 1} bytes are free on the disk of {tmp_path}" in world.overload.full
    assert f"hub.disk_reserve_bytes ({GIB})" in world.overload.full
    with pytest.raises(Overloaded, match="nothing more can be kept now") as refusal:
        world.overload.admit_webhook()
    assert str(tmp_path) not in str(refusal.value)
    free[0] = GIB
    await world.overload.look()
    world.overload.admit_webhook()


async def test_an_item_from_the_future_is_no_negative_lag(world: World) -> None:
    await world.store.inbox.put([item(received_at=world.clock.now().replace(year=2099))])
    await world.overload.look()
    assert world.overload.lag_s == 0.0


async def test_the_figures_are_measured(world: World) -> None:
    await world.arrives(3)
    world.clock.advance(4)
    await world.overload.look()
    assert world.sample("omniline_router_lag_seconds") == 4
    assert world.sample("omniline_inbox_backlog") == 3
    assert world.sample("omniline_spooling") == 0


async def test_watching_goes_on_through_trouble(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REFRESH_S", 0)
    trouble: list[Exception] = [Unavailable("an election"), OSError("a disk")]
    looked = asyncio.Event()
    real = world.overload.look

    async def look() -> None:
        if trouble:
            raise trouble.pop()
        await real()
        looked.set()

    monkeypatch.setattr(world.overload, "look", look)
    await world.arrives(2)
    watching = asyncio.create_task(world.overload.watch())
    async with asyncio.timeout(10):
        await looked.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert world.overload.backlog == 2
