"""Two hubs, every message sent three times at once over both, the lease moving all the time.

Among the messages are different ones with equal vendor ids from different senders, and two
events in one second. CI sends 5 000, ``make soak`` 100 000.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from hub.documents import DeadLetter, Entry
from tests.faults.test_failover import Reader as _Reader
from tests.support.load import message, post
from tests.support.processes import HubProcess
from tests.support.scale import scaled
from tests.support.truth import assert_no_gap, routed, store_of

COPIES = 3
WINDOW = 96
LEASE_MOVES_EVERY_S = 2.0


def _bodies(count: int) -> list[bytes]:
    """Distinct messages: every tenth id is used by two senders, every fiftieth is two events."""
    bodies = []
    for number in range(count):
        if number % 50 == 49:
            at = int(time.time()) * 1000
            for name in ("scan-a", "scan-b"):
                bodies.append(message(f"{name}{number}", f"s{number % 97}", type="followed", at=at))
        elif number % 10 == 9:
            bodies.append(message(f"twin{number}", f"left{number % 31}", f"left {number}"))
            bodies.append(message(f"twin{number}", f"right{number % 31}", f"right {number}"))
        else:
            bodies.append(message(f"m{number}", f"s{number % 97}", f"plain {number}"))
    return bodies[:count]


async def _move_the_lease(mongo_url: str, database: str) -> None:
    """Take the router's lease away every two seconds, as a takeover would."""
    async with store_of(mongo_url, database) as store:
        while True:
            await asyncio.sleep(LEASE_MOVES_EVERY_S)
            collection = store._driver.collection("router")  # no public way: nobody else may
            await collection.update_one(
                {"_id": "router"},
                [{"$set": {"epoch": {"$add": ["$epoch", 1]}, "expires_at": "$$NOW"}}],
            )


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_exactly_the_distinct_messages_once(
    tmp_path: Path, mongod_url: str, mongo_db_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = scaled(5_000, 100_000)
    monkeypatch.setattr("tests.faults.test_failover.DATABASE", mongo_db_name)
    hubs = [
        HubProcess(tmp_path / name, mongod_url, mongo_db_name, name=name) for name in ("a", "b")
    ]
    bodies = _bodies(count)
    sends = [(body, copy) for body in bodies for copy in range(COPIES)]
    # Copies stay near each other, so that they really meet, but their order is random.
    chance = random.Random(7)
    sends.sort(key=lambda _: 0)
    for start in range(0, len(sends), 30):
        block = sends[start : start + 30]
        chance.shuffle(block)
        sends[start : start + 30] = block
    room = asyncio.Semaphore(WINDOW)
    try:
        for hub in hubs:
            await hub.start()
        mover = asyncio.create_task(_move_the_lease(mongod_url, mongo_db_name))
        async with (
            _Reader(mongod_url) as reader,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=WINDOW)) as session,
        ):

            async def deliver(body: bytes, copy: int) -> None:
                async with room:
                    while await post(session, hubs[copy % 2].url, body) != 200:
                        await asyncio.sleep(0.05)

            async with asyncio.TaskGroup() as group:
                for body, copy in sends:
                    group.create_task(deliver(body, copy))
            async with store_of(mongod_url, mongo_db_name) as store:
                await routed(store, 300)
                mover.cancel()
                entries = await store.table(Entry).find({})
                _, last = await store.router.position()
                await reader.caught_up(last)
                assert await store.table(DeadLetter).count({}) == 0
                await assert_no_gap(store)
        assert len(entries) == count
        texts = Counter(entry.parts[0].text for entry in entries if entry.parts)  # type: ignore[union-attr]
        assert max(texts.values()) == 1
        assert reader.positions == list(range(1, last + 1))
        leaders = sum(hub.log().count("router_leads") for hub in hubs)
        assert leaders > 2, "the lease never moved"
    finally:
        for hub in hubs:
            await hub.close()
