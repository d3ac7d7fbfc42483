"""One account that swallows every call takes no more than its share: the others go on.

Real: lane workers over MongoDB. Faked: the outside, which answers after a while or never. How
much later the others' answers leave is measured by `make bench`, row "stuck".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from hub.outbound.gate import TRIPS_AFTER
from hub.store.mongo import MongoStore
from tests.support.hole import AT_ONCE, HOLE, running
from tests.support.truth import store_of


@pytest.fixture
async def store(mongo_url: str, mongo_db_name: str) -> AsyncIterator[MongoStore]:
    async with store_of(mongo_url, mongo_db_name) as store:
        yield store


async def test_a_stuck_account_leaves_room_for_the_others(store: MongoStore) -> None:
    """Three hundred of its lanes are due first: the others' are started all the same."""
    async with running(store, lease_s=8.0) as hub:
        await hub.give(HOLE, lanes=300)
        while hub.outside.in_hole < AT_ONCE * 3 // 4:
            await asyncio.sleep(0.01)
        ids = [ident for n in range(16) for ident in await hub.give(f"chat:well{n}")]
        await hub.until("the others, while the hole still holds its calls", ids, 3.9)
        assert hub.outside.most_in_hole == AT_ONCE * 3 // 4


async def test_after_some_calls_a_stuck_account_is_not_called_any_more(store: MongoStore) -> None:
    async with running(store, lease_s=1.0) as hub:
        await hub.give(HOLE, lanes=300)
        while not hub.workers.gate.shut():
            await asyncio.sleep(0.01)
        ids = await hub.give("chat:well", lanes=100)
        await hub.until("the others", ids)
        assert hub.outside.calls_of_hole <= TRIPS_AFTER + AT_ONCE


async def test_an_account_never_has_all_the_places(store: MongoStore) -> None:
    async with running(store, lease_s=6.0) as hub:
        ids = await hub.give("chat:busy", lanes=100)
        assert hub.workers._share == AT_ONCE * 3 // 4
        most = 0
        while not all(ident in hub.outside.done for ident in ids):
            most = max(most, len(hub.workers._running))
            await asyncio.sleep(0.005)
        assert 1 < most <= hub.workers._share
