"""A process that dies at any numbered step loses nothing and doubles nothing.

Real: hub, MongoDB, HTTP. The hub kills itself without goodbye the nth time it reaches a step;
a second one goes on from there.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hub.documents import Conversation, DeadLetter, Job
from hub.steps import STEPS
from plugins.desk.documents import DeskEntry, DeskTicket
from tests.support.load import Writers
from tests.support.processes import HubProcess
from tests.support.scale import scaled
from tests.support.truth import (
    all_entries,
    assert_in_order,
    assert_nothing_lost_or_doubled,
    routed,
    store_of,
)

NEEDS_SPOOL = {"spool.1", "spool.2"}
NEEDS_JOBS = {step for step in STEPS if step.startswith("jobs.")}
NEEDS_DOORS = {"doors.1"}  # stopped there by tests/samples/test_doors.py
NEEDS_MEDIA = {step for step in STEPS if step.startswith("media.")}  # tests/media/test_kills.py
NEEDS_IMPORT = {"import.1", "import.2"}  # stopped there by tests/importing/test_kills.py
NEEDS_SWEEP = {"sweep.1", "sweep.2"}  # stopped there by tests/media/test_strays.py
ELSEWHERE = NEEDS_SPOOL | NEEDS_JOBS | NEEDS_DOORS | NEEDS_MEDIA | NEEDS_IMPORT | NEEDS_SWEEP
PIPELINE = [step for step in STEPS if step not in ELSEWHERE]


@pytest.mark.parametrize("count", scaled([7], [1, 7, 60]))
@pytest.mark.parametrize("step", PIPELINE)
async def test_a_stop_at_a_step_loses_and_doubles_nothing(
    step: str, count: int, tmp_path: Path, mongod_url: str, mongo_db_name: str
) -> None:
    hub = HubProcess(tmp_path, mongod_url, mongo_db_name)
    try:
        await hub.start({"OMNILINE_STOP_AT": f"{step}:{count}"})
        async with Writers(lambda: [hub.url]) as writers:
            assert await hub.died() == -9, "the hub never reached the step"
            await hub.start()
            await writers.reached(len(writers.acknowledged) + 40)
        async with store_of(mongod_url, mongo_db_name) as store:
            await hub.drained()
            await routed(store)
            await assert_nothing_lost_or_doubled(store, writers.acknowledged, writers.attempted)
            await assert_in_order(store, writers.acknowledged)
        assert await hub.stop() == 0
    finally:
        await hub.close()


DESK = """
[[backends]]
type = "desk"
name = "desk"
"""


@pytest.mark.parametrize("step", sorted(NEEDS_JOBS))
async def test_a_stop_at_a_step_of_a_job_makes_each_ticket_and_entry_once(
    step: str, tmp_path: Path, mongod_url: str, mongo_db_name: str
) -> None:
    """Every message is in exactly one ticket, every conversation has exactly one."""
    hub = HubProcess(tmp_path, mongod_url, mongo_db_name, more=DESK)
    try:
        await hub.start({"OMNILINE_STOP_AT": f"{step}:{scaled(5, 17)}"})
        async with Writers(lambda: [hub.url], connections=2, senders=3, pause_s=0.1) as writers:
            assert await hub.died() == -9, "the hub never reached the step"
            await hub.start()
            await writers.reached(len(writers.acknowledged) + 10)
        async with store_of(mongod_url, mongo_db_name) as store:
            await hub.drained()
            await routed(store)
            async with asyncio.timeout(60):
                while await store.table(Job).count({"live": True}):
                    await asyncio.sleep(0.05)
            entries = {entry.id for entry in await all_entries(store)}
            told = [each.key for each in await store.table(DeskEntry).find({})]
            tickets = await store.table(DeskTicket).find({})
            conversations = await store.table(Conversation).count({})
            assert await store.table(DeadLetter).count({}) == 0
            await assert_nothing_lost_or_doubled(store, writers.acknowledged, writers.attempted)
        assert sorted(told) == sorted(entries)
        assert len(tickets) == conversations
        assert await hub.stop() == 0
    finally:
        await hub.close()
