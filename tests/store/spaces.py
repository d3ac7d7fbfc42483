"""One space for a test, on any of the stores, and what a test must do behind the store's back.

Time: a memory store goes by a fake clock. MongoDB goes by the server's, which nobody can move;
there the ends of all leases are moved instead, which comes to the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

import bson
import pytest

from hub.documents import Doc, InboxItem, Index
from hub.ids import new_id
from hub.store.codec import Codec, FieldCipher
from hub.store.driver import Driver, open_driver
from hub.store.interface import Store
from hub.store.memory import MemoryStore
from hub.store.mongo import MongoStore
from hub.testing.clock import FakeClock

Kind = Literal["memory", "pymongo", "motor"]
KINDS: tuple[Kind, ...] = ("memory", "pymongo", "motor")
NOW = datetime(2026, 3, 2, 9, 0, 0, 123_000, tzinfo=UTC)


class Thing(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """A document with a field of each sort, as a plugin would have it."""

    collection: ClassVar[str] = "x_suite_things"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("name", 1), ("n", -1))),
        Index((("n", 1),), only_where={"on": True}),
        Index((("until", 1),), expires=True),
    )

    name: str = ""
    n: int = 0
    on: bool = False
    at: datetime | None = None
    until: datetime | None = None
    tags: tuple[str, ...] = ()
    data: dict[str, Any] = {}


class LaterThing(Thing, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """The same collection, as a later release writes it."""

    schema: ClassVar[int] = 2


class Space:
    """An open store. ``driver`` is there where it is MongoDB."""

    def __init__(self, store: Store, clock: FakeClock | None, driver: Driver | None) -> None:
        self.store = store
        self.driver = driver
        self._clock = clock

    async def later(self, seconds: float) -> None:
        """Let time pass for every lease."""
        if self._clock is not None:
            self._clock.advance(seconds)
        if self.driver is not None:
            earlier = {"$subtract": ["$expires_at", int(seconds * 1000)]}
            for name in ("lanes", "router"):
                await self.driver.collection(name).update_many(
                    {}, [{"$set": {"expires_at": earlier}}]
                )

    async def raw(self) -> dict[str, list[Mapping[str, Any]]]:
        """Return everything that is stored, as it is stored, by collection."""
        if self.driver is not None:
            return {
                name: await self.driver.collection(name).find({}).to_list()
                for name in await self.driver.collection_names()
            }
        assert isinstance(self.store, MemoryStore)
        return {name: list(rows.values()) for name, rows in self.store._collections.items()}

    async def found_in_clear(self, *words: str) -> list[str]:
        """Return "collection: word" for each of the words that can be read in the stored bytes."""
        found = []
        for name, rows in (await self.raw()).items():
            data = b"".join(bson.encode(row) for row in rows)
            found += [f"{name}: {word}" for word in words if word.encode() in data]
        return found

    async def tamper(self, kind: type[Doc], ident: str, changes: Mapping[str, Any]) -> None:
        """Change a stored document past the store."""
        if self.driver is not None:
            await self.driver.collection(kind.collection).update_one(
                {"_id": ident}, {"$set": dict(changes)}
            )
        else:
            assert isinstance(self.store, MemoryStore)
            self.store._collections[kind.collection][ident] |= changes


@asynccontextmanager
async def open_space(
    kind: Kind,
    request: pytest.FixtureRequest,
    *,
    cipher: FieldCipher | None = None,
    clock: FakeClock | None = None,
    kinds: Sequence[type[Doc]] = (InboxItem, Thing),
) -> AsyncIterator[Space]:
    """Open a space of the test's own; a second call with a MongoDB kind opens the same one."""
    if kind == "memory":
        clock = clock or FakeClock()
        memory = MemoryStore(Codec(cipher), clock)
        await memory.prepare(kinds)
        yield Space(memory, clock, None)
        return
    url = request.getfixturevalue("mongo_url")
    database = request.getfixturevalue("mongo_db_name")
    driver = await open_driver(url, database, driver=kind)
    mongo = MongoStore(driver, Codec(cipher))
    try:
        await mongo.prepare(kinds)
        yield Space(mongo, clock, driver)
    finally:
        await mongo.close()


def item(**fields: Any) -> InboxItem:
    """Return an inbox item that waits for the router."""
    given: dict[str, Any] = {
        "id": new_id("in"),
        "channel": "chat",
        "account": "main",
        "received_at": NOW,
        "door": "webhook",
        "open": True,
    }
    return InboxItem(**{**given, **fields})
