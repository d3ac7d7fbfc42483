"""A replica set of three loses its primary under load: nothing lost, no reader misses a position.

Real: three MongoDB servers with elections of one second, a hub, a reader. CI does one step-down
and one kill, ``make soak`` ten and three.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hub.documents import FeedRow
from hub.store.interface import StoreError
from tests.support.load import Writers
from tests.support.mongo import ReplicaSet
from tests.support.processes import HubProcess
from tests.support.scale import scaled
from tests.support.truth import (
    assert_nothing_lost_or_doubled,
    routed,
    store_of,
)

DATABASE = "failover"


class Reader:
    """Reads the feed at full speed with a cursor and remembers every position."""

    def __init__(self, mongo_url: str) -> None:
        self._mongo_url = mongo_url
        self.positions: list[int] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Reader:
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def caught_up(self, position: int) -> None:
        async with asyncio.timeout(30):
            while not self.positions or self.positions[-1] < position:
                await asyncio.sleep(0.02)

    async def _read(self) -> None:
        async with store_of(self._mongo_url, DATABASE) as store:
            rows = store.table(FeedRow)
            while True:
                after = self.positions[-1] if self.positions else 0
                try:
                    page = await rows.find({"_id": {"$gt": after}}, sort=[("_id", 1)], limit=500)
                except StoreError:
                    page = []
                self.positions += [int(row.id) for row in page]
                if not page:
                    await asyncio.sleep(0.01)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_a_failover_loses_nothing_and_no_reader_misses_a_position(tmp_path: Path) -> None:
    async with ReplicaSet(3) as members:
        hub = HubProcess(tmp_path, members.url, DATABASE)
        try:
            await hub.start()
            async with Reader(members.url) as reader:
                async with Writers(lambda: [hub.url], connections=4) as writers:
                    await writers.reached(100)
                    for _ in range(scaled(1, 10)):
                        await members.step_down()
                        await writers.reached(len(writers.acknowledged) + 100)
                    for _ in range(scaled(1, 3)):
                        killed = await members.kill_primary()
                        await writers.reached(len(writers.acknowledged) + 100)
                        await members.restart(killed)
                async with store_of(members.url, DATABASE) as store:
                    await hub.drained()
                    await routed(store)
                    await assert_nothing_lost_or_doubled(
                        store, writers.acknowledged, writers.attempted
                    )
                    _, last = await store.router.position()
                await reader.caught_up(last)
            assert reader.positions == list(range(1, last + 1))
            assert await hub.stop() == 0
        finally:
            await hub.close()
