"""kill -9 in the middle of an import, and in the middle of taking one back: both go on.

Real: hub, MongoDB, the command as a process of its own, kill -9.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.documents import DeadLetter, Entry, ImportRollback, ImportRun
from hub.store.mongo import MongoStore
from tests.importing.space import dump, json_file, omniline, row
from tests.support.load import Writers
from tests.support.processes import HubProcess
from tests.support.scale import scaled
from tests.support.truth import assert_nothing_lost_or_doubled, routed, store_of

COUNT = scaled(600, 20_000)
PEOPLE = 30
WITHIN_S = scaled(60.0, 600.0)


@pytest.fixture
async def hub(mongod_url: str, mongo_db_name: str, tmp_path: Path) -> AsyncIterator[HubProcess]:
    process = HubProcess(tmp_path, mongod_url, mongo_db_name)
    try:
        yield await process.start()
    finally:
        await process.close()


@pytest.fixture
async def store(mongod_url: str, mongo_db_name: str) -> AsyncIterator[MongoStore]:
    async with store_of(mongod_url, mongo_db_name) as opened:
        yield opened


def old_file(folder: Path) -> str:
    rows = [row(number, f"p{number % PEOPLE}") for number in range(COUNT)]
    return str(json_file(folder / "old.jsonl", rows))


async def only_run(store: MongoStore) -> ImportRun:
    [run] = await store.table(ImportRun).find({})
    return run


async def imported(store: MongoStore) -> int:
    await routed(store, WITHIN_S)
    return await store.table(Entry).count({"historical": True})


async def taken_back(store: MongoStore, ident: str) -> ImportRollback:
    async with asyncio.timeout(WITHIN_S):
        while True:
            back = await store.table(ImportRollback).get(ident)
            if back is not None and back.state == "done":
                return back
            await asyncio.sleep(0.05)


@pytest.mark.soak
@pytest.mark.parametrize("step", scaled(["import.2"], ["import.1", "import.2"]))
async def test_a_killed_import_goes_on_and_counts_right(
    hub: HubProcess, store: MongoStore, step: str, tmp_path: Path
) -> None:
    """Live messages come through meanwhile; each old one is taken once, and counted once."""
    config = hub.config_path
    async with Writers(lambda: [hub.url], connections=2, senders=5, pause_s=0.05) as writers:
        killed = await omniline(
            "jsonl",
            old_file(tmp_path),
            "--yes",
            config=config,
            env={"OMNILINE_STOP_AT": f"{step}:3"},
        )
        assert killed.code == -9, killed
        run = await only_run(store)
        assert (run.state, run.counts.seen) == ("running", 200 if step == "import.1" else 300)
        done = await resumed(run.id, config)
        assert (done["state"], done["seen"], done["taken"]) == ("done", COUNT, COUNT)
        assert (done["known"], done["failed"]) == (0, 0)
        assert sum(n for name, n in done["by"].items() if name.startswith("month:")) == COUNT
        await writers.reached(len(writers.acknowledged) + 20)
    assert await imported(store) == COUNT
    live = {each.id for each in writers.acknowledged}
    entries = await store.table(Entry).find({"historical": {"$exists": False}})
    assert len(entries) >= len(live)
    assert await store.table(DeadLetter).count({}) == 0


async def resumed(ident: str, config: Path) -> dict[str, object]:
    """Resume, as soon as the dead process' lease has ended."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            ran = await omniline("resume", ident, "--json", config=config)
            if ran.code == 0:
                found: dict[str, object] = ran.json
                return found
            assert "a process runs" in ran.err, ran


# The hub kills itself there the nth time: in a round's transaction, between two rounds, at the end.
STOPS = scaled(
    ["router.4:2", "jobs.3:2"],
    ["router.3:1", "router.4:2", "router.5:3", "jobs.2:1", "jobs.3:2", "jobs.6:1"],
)


@pytest.mark.soak
@pytest.mark.parametrize("stop", STOPS)
async def test_a_killed_hub_goes_on_taking_back(
    hub: HubProcess,
    store: MongoStore,
    stop: str,
    tmp_path: Path,
    mongod_url: str,
    mongo_db_name: str,
) -> None:
    """Wherever the hub died, the next one leaves nothing, and everything live is there."""
    async with Writers(lambda: [hub.url], connections=2, senders=5) as writers:
        await writers.reached(20)
    await routed(store)
    await hub.drained()
    before = await asyncio.to_thread(dump, mongod_url, mongo_db_name)
    ran = await omniline("jsonl", old_file(tmp_path), "--yes", "--json", config=hub.config_path)
    assert ran.code == 0, ran
    assert await imported(store) == COUNT
    assert await hub.stop() == 0
    ident = (await only_run(store)).id
    asked = await omniline("rollback", ident, "--yes", config=hub.config_path)
    assert "no hub is running" in asked.out, asked
    await hub.start({"OMNILINE_STOP_AT": stop})
    assert await hub.died() == -9, "the hub never reached the step"
    await hub.start()
    back = await taken_back(store, ident)
    assert (back.entries, back.addresses, back.customers) == (COUNT, PEOPLE, PEOPLE)
    await routed(store)
    assert await asyncio.to_thread(dump, mongod_url, mongo_db_name) == before
    await assert_nothing_lost_or_doubled(store, writers.acknowledged, writers.attempted)
    again = await omniline("jsonl", old_file(tmp_path), "--yes", "--json", config=hub.config_path)
    assert again.json["taken"] == COUNT
