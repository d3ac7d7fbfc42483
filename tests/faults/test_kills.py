"""Two hubs on one database, killed at random under load: nothing lost, nothing doubled, no pause.

Real: hubs, MongoDB, HTTP, kill -9. CI kills 4 times, ``make soak`` 100 times.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from hub.store.mongo import MongoStore
from tests.support.load import Writers, longest_pause
from tests.support.mongo import OwnMongod
from tests.support.processes import HubProcess
from tests.support.scale import scaled
from tests.support.truth import (
    assert_in_order,
    assert_nothing_lost_or_doubled,
    routed,
    store_of,
)

DATABASE = "kills"
LEASE_S = 1.0
PAUSE_S = 0.5
SLACK = scaled(3.0, 1.0)  # beside other tests on few cores the bars are looser


async def _grown(store: MongoStore, seconds: float) -> float:
    """Wait until the router's position has grown; return how long that took."""
    began = time.monotonic()
    _, before = await store.router.position()
    async with asyncio.timeout(seconds + 10):
        while (await store.router.position())[1] <= before:
            await asyncio.sleep(0.02)
    return time.monotonic() - began


async def _holder(store: MongoStore, hubs: list[HubProcess]) -> HubProcess:
    """Return the hub that routes."""
    async with asyncio.timeout(20):
        while True:
            owner, alive = await store.router.holder()
            for hub in hubs:
                if alive and f":{hub.pid}:" in owner:
                    return hub
            await asyncio.sleep(0.02)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_random_kills_of_hubs_lose_nothing_and_the_other_hub_goes_on(tmp_path: Path) -> None:
    kills = scaled(3, 70)
    chance = random.Random(20261121)
    with OwnMongod() as mongod:
        hubs = [
            HubProcess(tmp_path / name, mongod.url, DATABASE, name=name, lease_s=LEASE_S)
            for name in ("one", "two")
        ]
        try:
            for hub in hubs:
                await hub.start()
            async with (
                store_of(mongod.url, DATABASE) as store,
                Writers(lambda: [hub.url for hub in hubs if hub.running], connections=4) as writers,
            ):
                await writers.reached(100)
                for number in range(kills):
                    victim = await _holder(store, hubs)
                    if number % 3 == 2:
                        victim = next(hub for hub in hubs if hub is not victim)
                    other = next(hub for hub in hubs if hub is not victim)
                    before = len(writers.acknowledged)
                    killed_at = time.monotonic()
                    victim.kill()
                    await victim.died()
                    took = await _grown(store, LEASE_S)
                    assert took <= (LEASE_S + 1) * SLACK, f"routing stood still for {took:.2f} s"
                    await writers.reached(before + 50)
                    pause = longest_pause(writers.acknowledged, other.url, killed_at)
                    assert pause <= PAUSE_S * SLACK, f"the other hub paused for {pause:.2f} s"
                    await victim.start()
                    await asyncio.sleep(chance.uniform(0.1, 0.8))
            async with store_of(mongod.url, DATABASE) as store:
                for hub in hubs:
                    await hub.drained()
                await routed(store)
                await assert_nothing_lost_or_doubled(store, writers.acknowledged, writers.attempted)
                await assert_in_order(store, writers.acknowledged)
        finally:
            for hub in hubs:
                await hub.close()


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_random_kills_of_mongod_lose_nothing(tmp_path: Path) -> None:
    kills = scaled(1, 30)
    chance = random.Random(20261122)
    with OwnMongod() as mongod:
        hub = HubProcess(tmp_path, mongod.url, DATABASE, lease_s=LEASE_S)
        try:
            await hub.start()
            async with Writers(lambda: [hub.url], connections=4) as writers:
                for _ in range(kills):
                    await writers.reached(len(writers.acknowledged) + chance.randint(20, 200))
                    mongod.kill()
                    before = len(writers.acknowledged)
                    await writers.reached(before + 20)  # through the spool
                    await asyncio.to_thread(mongod.start)
            async with store_of(mongod.url, DATABASE) as store:
                await hub.drained()
                await routed(store)
                await assert_nothing_lost_or_doubled(store, writers.acknowledged, writers.attempted)
                await assert_in_order(store, writers.acknowledged)
            assert await hub.stop() == 0
        finally:
            await hub.close()
