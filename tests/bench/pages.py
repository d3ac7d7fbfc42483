"""Pages of the timeline and the feed in a small and in a large space, and their query plans.

The spaces are written straight into the collections, with the store's own codec, and read by the
API's and the feed's own functions. The plans are those of the very queries they send: the
server's profiler writes them down.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from pymongo import WriteConcern

from hub.api.cursors import Cursors
from hub.api.keys import ADMIN, ApiKey
from hub.api.people import People
from hub.api.timelines import Latest, TimelineQuery, Timelines
from hub.documents import CORE, AddressDoc, Customer, Doc, Entry, FeedRow
from hub.feed.access import Selection, rights_of
from hub.feed.reader import Reader
from hub.ids import encode128
from hub.store.codec import Codec
from hub.store.mongo import MongoStore
from normalizer.parts import Text
from tests.bench.report import Result, middle, ratios
from tests.bench.stage import Stage
from tests.support.truth import store_of

ADDRESSES = (1, 10, 250)  # of the customers whose pages are read; each has a fifth of the entries
PER_OTHER = 40  # entries of each of the others, who share the rest
PAGE = 50
FEED_PAGE = 100
CHUNK = 5000
WARM_UP = 5
START = datetime(2026, 1, 1, tzinfo=UTC)
CALLER = ApiKey(id="key_bench", name="bench", scopes=frozenset({ADMIN}))
Ask = Callable[[], Awaitable[Any]]


def _id(prefix: str, number: int) -> str:
    # Scattered, as ids made by HMAC are: neighbours in time are none in the index.
    return f"{prefix}_{encode128(number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)}"


class Space:
    """A space with ``size`` entries."""

    def __init__(self, stage: Stage, store: MongoStore, database: str, size: int) -> None:
        self.size = size
        self._stage = stage
        self._mongo = stage.mongo[database]
        people = People(store)
        cursors = Cursors(b"bench")
        hub = cast(Any, SimpleNamespace(store=store))  # all that Timelines takes from a hub
        self._people = people
        self._timelines = Timelines(hub, people, cursors, Latest(store, cursors))
        self._reader = Reader(store, space="bench", base_url=lambda: "http://127.0.0.1")
        self._store = store

    # --- writing -------------------------------------------------------------------------------

    def _owner(self, number: int) -> tuple[int, int]:
        """Return (customer, address) of an entry; the customers that are read come first."""
        turn, kind = divmod(number, len(ADDRESSES) + 2)
        if kind < len(ADDRESSES):
            return kind, kind * 1000 + turn % ADDRESSES[kind]
        others = max(1, self.size * 2 // (5 * PER_OTHER))
        other = (turn * 2 + kind) % others + 1000
        return other, other * 1000

    def _entries(self) -> Iterator[tuple[Entry, FeedRow]]:
        for position in range(1, self.size + 1):
            customer, address = self._owner(position)
            at = START + timedelta(seconds=position // 3)  # several share a moment
            common: dict[str, Any] = {
                "at": at,
                "address": _id("adr", address),
                "channel": "sample",
                "account": "main",
                "conversation": _id("cnv", customer),
            }
            entry = Entry(
                id=_id("ent", position),
                position=position,
                received_at=at,
                parts=(Text(text=f"你好，我想问一下订单 {position} 什么时候发货？"),),
                thread=_id("thr", address),
                source=_id("in", position),
                **common,
            )
            row = FeedRow(
                id=position,
                type="message.received",
                recorded_at=at,
                customer=_id("cus", customer),
                ref=entry.id,
                cause=entry.source,
                **common,
            )
            yield entry, row

    def _who(self) -> Iterator[tuple[Customer, list[AddressDoc]]]:
        customers = [*range(len(ADDRESSES))]
        customers += [1000 + number for number in range(max(1, self.size * 2 // (5 * PER_OTHER)))]
        for customer in customers:
            count = ADDRESSES[customer] if customer < len(ADDRESSES) else 1
            docs = [
                AddressDoc(
                    id=_id("adr", customer * 1000 + number),
                    scheme="sample",
                    address=f"sample:main:user:{customer}x{number}",
                    channel="sample",
                    account="main",
                    customer=_id("cus", customer),
                )
                for number in range(count)
            ]
            ids = tuple(doc.id for doc in docs)
            who = Customer(id=_id("cus", customer), addresses=ids, created_at=START, seen_at=START)
            yield who, docs

    async def fill(self) -> None:
        """Write everything, make the indexes, and say that the router has come so far."""
        for chunk in _chunks(self._entries()):
            await self._write([entry for entry, _ in chunk])
            await self._write([row for _, row in chunk])
        for people in _chunks(self._who()):
            await self._write([customer for customer, _ in people])
            await self._write([doc for _, docs in people for doc in docs])
        await self._store.prepare(CORE)
        await self._mongo["router"].update_one({}, {"$set": {"position": self.size}})

    async def _write(self, docs: list[Any]) -> None:
        codec = Codec()
        kind = cast("type[Doc]", type(docs[0]))
        collection = self._mongo[kind.collection].with_options(write_concern=WriteConcern(w=1))
        await collection.insert_many([codec.encode(doc) for doc in docs], ordered=False)

    # --- reading -------------------------------------------------------------------------------

    def questions(self) -> dict[str, Ask]:
        """Return every page that is read, by what it shows."""
        asked: dict[str, Ask] = {}
        for customer, addresses in enumerate(ADDRESSES):
            of = f"{addresses} address{'es' if addresses > 1 else ''}"
            ident = _id("cus", customer)
            asked[f"timeline, first page, {of}"] = self._timeline(ident, None)
            middle_at = START + timedelta(seconds=self.size // 2 // 3)
            place = (round(middle_at.timestamp() * 1000), self.size // 2)
            asked[f"timeline, page in the middle, {of}"] = self._timeline(ident, place)
        asked["feed, page in the middle"] = self._feed(Selection())
        for customer, addresses in enumerate(ADDRESSES):
            of = f"{addresses} address{'es' if addresses > 1 else ''}"
            ident = _id("cus", customer)
            asked[f"feed of a customer, page in the middle, {of}"] = self._feed(
                Selection(customer=ident)
            )
        return asked

    def _timeline(self, ident: str, place: tuple[int, int] | None) -> Ask:
        async def ask() -> int:
            person = await self._people.find(CALLER, ident)
            query = TimelineQuery(limit=PAGE)
            entries, _ = await self._timelines._page(CALLER, person, query, place)
            return len(entries)

        return ask

    def _feed(self, selection: Selection) -> Ask:
        rights = rights_of(CALLER)

        async def ask() -> int:
            read = await self._reader.read(selection, rights, self.size // 2, FEED_PAGE)
            return len(await self._reader.events(read.rows, rights))

        return ask

    async def plans(self) -> list[dict[str, Any]]:
        """Ask everything once and return what the server's profiler wrote about each query."""
        await self._mongo.command({"profile": 2})
        try:
            for ask in self.questions().values():
                await ask()
        finally:
            await self._mongo.command({"profile": 0})
        return (
            await self._mongo["system.profile"]
            .find({"op": {"$in": ["query", "getmore"]}})
            .to_list()
        )


def _chunks(stream: Iterator[Any]) -> Iterator[list[Any]]:
    while chunk := list(itertools.islice(stream, CHUNK)):
        yield chunk


async def pages(
    stage: Stage, row: str, rounds: int, large: int, say: Callable[[str], None]
) -> list[Result]:
    small = 10_000
    async with AsyncExitStack() as stack:
        spaces = []
        for size in (small, large):
            database = await stack.enter_async_context(stage.database())
            store = await stack.enter_async_context(store_of(stage.mongod.url, database))
            space = Space(stage, store, database, size)
            say(f"{row}: writing {size} entries")
            await space.fill()
            spaces.append(space)
        say(f"{row}: reading pages")
        results = await _compare(row, spaces, rounds)
        results.append(_judged(row, [plan for space in spaces for plan in await space.plans()]))
    return results


async def _compare(row: str, spaces: list[Space], rounds: int, each: int = 15) -> list[Result]:
    small, large = spaces
    results = []
    for what, of_small in small.questions().items():
        of_large = large.questions()[what]
        for _ in range(WARM_UP):
            counts = {await of_small(), await of_large()}
        assert counts <= {PAGE, FEED_PAGE}, f"{what}: a page is not full: {counts}"
        mine: list[float] = []
        theirs: list[float] = []
        for _ in range(rounds):
            theirs.append(await _median_ms(of_small, each))
            mine.append(await _median_ms(of_large, each))
        results.append(
            Result(
                row=row,
                what=f"{what}: {large.size} entries against {small.size}",
                values=ratios(mine, theirs),
                at_most=1.5,
                absolute=f"{middle(mine)} ms, {middle(theirs)} ms",
            )
        )
    return results


async def _median_ms(ask: Ask, times: int) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await ask()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def _judged(row: str, plans: list[dict[str, Any]]) -> Result:
    bad = [
        plan
        for plan in plans
        if "COLLSCAN" in plan.get("planSummary", "") or plan.get("hasSortStage")
    ]
    shown = sorted({f"{plan['ns'].partition('.')[2]}: {plan['planSummary']}" for plan in bad})
    return Result(
        row=row,
        what="queries of these pages that scan a collection or sort in memory",
        values=[float(len(bad))],
        unit=f"of {len(plans)}",
        at_most=0,
        absolute="; ".join(shown),
    )
