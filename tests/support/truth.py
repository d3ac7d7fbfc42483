"""What the database holds, read directly, against what was acknowledged."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from hub.documents import AddressDoc, DeadLetter, Entry, FeedRow
from hub.store.codec import Codec
from hub.store.driver import open_driver
from hub.store.interface import StoreError
from hub.store.mongo import MongoStore
from tests.support.load import Acknowledged

PAGE = 5000


@asynccontextmanager
async def store_of(mongo_url: str, database: str) -> AsyncIterator[MongoStore]:
    """The space's store, opened beside the hubs."""
    driver = await open_driver(mongo_url, database)
    store = MongoStore(driver, Codec())
    try:
        yield store
    finally:
        await store.close()


async def routed(store: MongoStore, within_s: float = 60.0) -> None:
    """Wait until nothing waits for the router."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                count, _, _ = await store.inbox.backlog()
                if count == 0:
                    return
            except StoreError:
                count = -1
            await asyncio.sleep(0.05)


async def all_entries(store: MongoStore) -> list[Entry]:
    return await store.table(Entry).find({"kind": {"$exists": False}}, sort=[("position", 1)])


async def all_rows(store: MongoStore) -> list[FeedRow]:
    rows: list[FeedRow] = []
    while True:
        after = int(rows[-1].id) if rows else 0
        page = await store.table(FeedRow).find(
            {"_id": {"$gt": after}}, sort=[("_id", 1)], limit=PAGE
        )
        if not page:
            return rows
        rows += page


def text_of(entry: Entry) -> str:
    """The message's id, which the writers put into its text."""
    return str(getattr(entry.parts[0], "text", "")).removeprefix("text of ").split(" ")[0]


async def assert_nothing_lost_or_doubled(
    store: MongoStore, acknowledged: Iterable[Acknowledged], attempted: Iterable[str] = ()
) -> None:
    """Every acknowledged message is one entry; nothing else is; the feed has no gap."""
    entries = await all_entries(store)
    counts = Counter(text_of(entry) for entry in entries)
    wanted = {each.id for each in acknowledged}
    lost = wanted - counts.keys()
    doubled = {ident for ident, count in counts.items() if count > 1}
    strange = counts.keys() - wanted - set(attempted) if attempted else set()
    assert not lost, f"{len(lost)} acknowledged messages are missing: {sorted(lost)[:10]}"
    assert not doubled, f"{len(doubled)} messages are there twice: {sorted(doubled)[:10]}"
    assert not strange, f"nobody sent these: {sorted(strange)[:10]}"
    assert await store.table(DeadLetter).count({}) == 0
    await assert_no_gap(store)


async def assert_no_gap(store: MongoStore) -> None:
    """The feed's positions are 1, 2, 3 ... up to the router's."""
    positions = [int(row.id) for row in await all_rows(store)]
    assert positions == list(range(1, len(positions) + 1))
    _, last = await store.router.position()
    assert last == len(positions)


async def assert_in_order(store: MongoStore, acknowledged: Sequence[Acknowledged]) -> None:
    """Of each sender, what was acknowledged by one process first stands first."""
    place = {text_of(entry): entry.position for entry in await all_entries(store)}
    chains: dict[tuple[str, str], list[Acknowledged]] = defaultdict(list)
    for each in acknowledged:
        chains[(each.sender, each.url)].append(each)
    for chain in chains.values():
        positions = [place[each.id] for each in chain]
        assert positions == sorted(positions), [each.id for each in chain]


async def customers_of(store: MongoStore) -> dict[str, str]:
    """Canonical address -> customer."""
    found = await store.table(AddressDoc).find({})
    return {doc.address: doc.customer or "" for doc in found}
