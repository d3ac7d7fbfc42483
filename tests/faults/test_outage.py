"""MongoDB stops under load: acknowledgements go on through the spool, in time and in order.

Real: hub, MongoDB (killed, or frozen so that it answers nothing), HTTP. CI stops it for 10 s,
``make soak`` for 60 s.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.support.load import Acknowledged, Writers, percentile
from tests.support.mongo import OwnMongod
from tests.support.processes import HubProcess
from tests.support.scale import scaled
from tests.support.truth import (
    assert_in_order,
    assert_nothing_lost_or_doubled,
    routed,
    store_of,
)

DATABASE = "outage"
OUTAGE_S = scaled(10.0, 60.0)
SLACK = scaled(2.0, 1.0)  # beside other tests on few cores the bar is looser


def _took(acknowledged: list[Acknowledged], since: float, until: float) -> list[float]:
    """Latencies of what was sent in an outage; the first request of each connection is free."""
    took = [
        each.acked_at - each.sent_at
        for each in sorted(acknowledged, key=lambda each: each.sent_at)
        if since <= each.sent_at and each.acked_at <= until
    ]
    return took[1:]


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_acknowledgements_go_on_while_mongodb_is(how: str, tmp_path: Path) -> None:
    with OwnMongod() as mongod:
        hub = HubProcess(tmp_path, mongod.url, DATABASE)
        try:
            await hub.start()
            async with Writers(lambda: [hub.url], connections=4) as writers:
                await writers.reached(100)
                stopped_at = time.monotonic()
                mongod.kill() if how == "killed" else mongod.freeze()
                before = len(writers.acknowledged)
                await asyncio.sleep(OUTAGE_S)
                back_at = time.monotonic()
                during = len(writers.acknowledged) - before
                if how == "killed":
                    await asyncio.to_thread(mongod.start)
                else:
                    mongod.thaw()
                await writers.reached(len(writers.acknowledged) + 50)
            assert during > OUTAGE_S * 20, f"only {during} acknowledged in {OUTAGE_S} s"
            p99 = percentile(_took(writers.acknowledged, stopped_at, back_at), 0.99)
            assert p99 < 1.0 * SLACK, f"p99 of acknowledging was {p99:.2f} s"
            async with store_of(mongod.url, DATABASE) as store:
                await hub.drained()
                await routed(store, 120)
                await assert_nothing_lost_or_doubled(store, writers.acknowledged, writers.attempted)
                await assert_in_order(store, writers.acknowledged)
            assert await hub.stop() == 0
        finally:
            await hub.close()


async def test_a_hub_killed_while_spooling_is_adopted_by_the_next(tmp_path: Path) -> None:
    with OwnMongod() as mongod:
        first = HubProcess(tmp_path, mongod.url, DATABASE, name="first")
        second = HubProcess(tmp_path, mongod.url, DATABASE, name="second")
        try:
            await first.start()
            async with Writers(lambda: [first.url], connections=4) as writers:
                await writers.reached(50)
                mongod.kill()
                await writers.reached(len(writers.acknowledged) + 100)
                first.kill()
            await asyncio.to_thread(mongod.start)
            await second.start()
            assert "spool_adopted" in second.log()
            async with store_of(mongod.url, DATABASE) as store:
                await second.drained()
                await routed(store)
                await assert_nothing_lost_or_doubled(store, writers.acknowledged, writers.attempted)
                await assert_in_order(store, writers.acknowledged)
        finally:
            await first.close()
            await second.close()


@pytest.mark.parametrize("step", ["spool.1", "spool.2"])
async def test_a_stop_at_a_step_of_the_spool_loses_nothing(step: str, tmp_path: Path) -> None:
    with OwnMongod() as mongod:
        hub = HubProcess(tmp_path, mongod.url, DATABASE)
        try:
            await hub.start({"OMNILINE_STOP_AT": f"{step}:3"})
            async with Writers(lambda: [hub.url], connections=4) as writers:
                await writers.reached(20)
                mongod.kill()
                if step == "spool.2":
                    await writers.reached(len(writers.acknowledged) + 700)
                    await asyncio.to_thread(mongod.start)
                assert await hub.died() == -9
                if step == "spool.1":
                    await asyncio.to_thread(mongod.start)
                await hub.start()
                await writers.reached(len(writers.acknowledged) + 20)
            async with store_of(mongod.url, DATABASE) as store:
                await hub.drained()
                await routed(store)
                await assert_nothing_lost_or_doubled(store, writers.acknowledged, writers.attempted)
                await assert_in_order(store, writers.acknowledged)
        finally:
            await hub.close()
