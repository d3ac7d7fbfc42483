"""Two hubs, and the one that routes is killed under load: who goes on, and how soon."""

from __future__ import annotations

import asyncio
import time

from hub.store.mongo import MongoStore
from tests.bench.report import BenchError, Result
from tests.bench.stage import Stage
from tests.support.load import Writers, longest_pause
from tests.support.processes import HubProcess
from tests.support.truth import assert_nothing_lost_or_doubled, routed, store_of

CONNECTIONS = 16
MESSAGES_BEFORE = 300
MESSAGES_AFTER = 200
MARGIN_S = 1.0
PAUSE_S = 0.5
POLL_S = 0.01


async def takeover(stage: Stage, row: str, rounds: int, lease_s: float) -> list[Result]:
    took: list[float] = []
    pauses: list[float] = []
    async with stage.database() as database:
        hubs = [stage.hub_beside(database, name, lease_s) for name in ("one", "two")]
        try:
            for hub in hubs:
                await hub.start()
            async with store_of(stage.mongod.url, database) as store:
                async with Writers(
                    lambda: [hub.url for hub in hubs if hub.running], connections=CONNECTIONS
                ) as writers:
                    for _ in range(rounds):
                        await writers.reached(len(writers.acknowledged) + MESSAGES_BEFORE)
                        victim = await _holder(store, hubs)
                        other = next(hub for hub in hubs if hub is not victim)
                        killed_at = time.monotonic()
                        victim.kill()
                        await victim.died()
                        took.append(await _routes_again(store, killed_at, lease_s))
                        await writers.reached(len(writers.acknowledged) + MESSAGES_AFTER)
                        pauses.append(longest_pause(writers.acknowledged, other.url, killed_at))
                        await victim.start()
                await routed(store)
                await assert_nothing_lost_or_doubled(store, writers.acknowledged, writers.attempted)
        finally:
            for hub in hubs:
                await hub.close()
    return [
        Result(
            row=row,
            what=f"the routing hub is killed: until another routes (lease {lease_s:g} s)",
            values=took,
            unit="s",
            at_most=lease_s + MARGIN_S,
            worst=True,
            absolute=f"{len(writers.acknowledged)} acknowledged, 0 lost, 0 doubled",
        ),
        Result(
            row=row,
            what="... longest pause in the other's acknowledgements",
            values=pauses,
            unit="s",
            at_most=PAUSE_S,
            worst=True,
        ),
    ]


async def _holder(store: MongoStore, hubs: list[HubProcess]) -> HubProcess:
    async with asyncio.timeout(30):
        while True:
            owner, alive = await store.router.holder()
            for hub in hubs:
                if alive and hub.running and f":{hub.pid}:" in owner:
                    return hub
            await asyncio.sleep(POLL_S)


async def _routes_again(store: MongoStore, killed_at: float, lease_s: float) -> float:
    """Return how long after the kill the router's position grew again."""
    _, before = await store.router.position()
    try:
        async with asyncio.timeout(lease_s + 20):
            while (await store.router.position())[1] <= before:
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise BenchError(f"nobody routed within {lease_s + 20:g} s after the kill") from None
    return time.monotonic() - killed_at
