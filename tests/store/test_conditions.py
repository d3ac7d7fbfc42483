"""Whatever is stored and whatever is asked, the memory store finds what MongoDB finds.

Real: MongoDB. Only the operators that ``hub/store/interface.py`` promises are drawn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.store.codec import Codec
from hub.store.driver import open_driver
from hub.store.interface import Store
from hub.store.memory import MemoryStore
from hub.store.mongo import MongoStore
from tests.store.spaces import NOW, Thing
from tests.support.scale import scaled

NAMES = st.sampled_from(["a", "b"])
NUMBERS = st.sampled_from([-1, 0, 1, 2, 2**40, 0.5, 1.0])
TEXTS = st.sampled_from(["", "a", "ab", "b", "你", "B"])
TIMES = st.sampled_from([NOW, NOW + timedelta(milliseconds=1), NOW - timedelta(days=1)])
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, TIMES)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=6,
)
PATHS = st.sampled_from(
    ["name", "n", "on", "at", "tags", "data.a", "data.b", "data.a.b", "data.a.a.b"]
)
COMPARED = st.one_of(NUMBERS, TEXTS, TIMES)
CHECKS = st.one_of(
    VALUES.filter(lambda value: not isinstance(value, dict)),
    st.fixed_dictionaries({"$eq": VALUES}),
    st.fixed_dictionaries({"$ne": VALUES}),
    st.fixed_dictionaries({"$in": st.lists(VALUES, max_size=3)}),
    st.fixed_dictionaries({"$nin": st.lists(VALUES, max_size=3)}),
    st.fixed_dictionaries({"$exists": st.booleans()}),
    st.fixed_dictionaries({"$regex": st.sampled_from(["^a", "b", "(?i)^B$", "你"])}),
    st.dictionaries(st.sampled_from(["$lt", "$lte", "$gt", "$gte"]), COMPARED, min_size=1),
)
FLAT = st.dictionaries(PATHS, CHECKS, max_size=2)
CONDITIONS = st.one_of(
    FLAT,
    st.builds(
        lambda flat, either: {**flat, "$or": either}, FLAT, st.lists(FLAT, min_size=1, max_size=2)
    ),
)
THINGS = st.builds(
    Thing,
    id=st.just(""),
    name=TEXTS,
    n=st.integers(-1, 2),
    on=st.booleans(),
    at=st.none() | TIMES,
    tags=st.lists(TEXTS, max_size=2).map(tuple),
    data=st.dictionaries(NAMES, VALUES, max_size=2),
)


@pytest.fixture
def stores(mongo_url: str, mongo_db_name: str) -> Iterator[tuple[asyncio.Runner, Store, Store]]:
    with asyncio.Runner() as runner:
        driver = runner.run(open_driver(mongo_url, mongo_db_name))
        yield runner, MemoryStore(), MongoStore(driver, Codec())
        runner.run(driver.close())


@settings(
    max_examples=scaled(150, 2000),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rows=st.lists(THINGS, min_size=1, max_size=6),
    conditions=st.lists(CONDITIONS, min_size=1, max_size=5),
)
def test_memory_finds_what_mongodb_finds(
    stores: tuple[asyncio.Runner, Store, Store],
    rows: list[Thing],
    conditions: list[dict[str, Any]],
) -> None:
    runner, *both = stores
    named = [Thing(**{**_fields(row), "id": f"t{n}"}) for n, row in enumerate(rows)]

    async def found(store: Store) -> list[list[Thing]]:
        table = store.table(Thing)
        await table.delete({})
        await table.insert(named)
        return [await table.find(where, sort=[("_id", 1)]) for where in conditions]

    memory, mongo = [runner.run(found(store)) for store in both]
    for where, ours, theirs in zip(conditions, memory, mongo, strict=True):
        assert ours == theirs, where


def _fields(row: Thing) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__}
