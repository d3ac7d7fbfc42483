"""The driver seam behaves alike over pymongo's async client and motor, against a real MongoDB.

What is asserted is what the store relies on: durability as asked for, atomic transactions with an
honest end, errors sorted rightly, hints that keep coming. Nothing is faked; faults are the server's
own fail points, frozen and killed servers, elections.
"""

# ruff: noqa: PT012 - a transaction's end raises, so its whole block stands under pytest.raises
from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest
from bson.objectid import ObjectId
from pymongo import DeleteOne, IndexModel, InsertOne, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure, PyMongoError

from hub.store import server_check
from hub.store.driver import (
    BlobBusy,
    BlobExists,
    BlobMissing,
    CommitUnknown,
    Driver,
    DriverName,
    InvalidUrl,
    check_server,
    deadline,
    duplicates_of,
    is_duplicate,
    is_transient,
    is_unavailable,
    open_driver,
    short_reason,
)
from tests.support.mongo import OwnMongod, ReplicaSet

pytestmark = pytest.mark.real_mongo

DRIVERS: tuple[DriverName, ...] = ("pymongo", "motor")
PATIENCE = 20.0


@pytest.fixture(params=DRIVERS)
def kind(request: pytest.FixtureRequest) -> DriverName:
    name: DriverName = request.param
    return name


@pytest.fixture
async def driver(mongo_url: str, mongo_db_name: str, kind: DriverName) -> AsyncIterator[Driver]:
    async with await open_driver(mongo_url, mongo_db_name, driver=kind) as opened:
        yield opened


@pytest.fixture(scope="module")
def faulty() -> Iterator[OwnMongod]:
    """A server of this module's own that may be given fail points and frozen."""
    with OwnMongod(parameters={"enableTestCommands": 1}) as server:
        yield server


@pytest.fixture
async def on_faulty(faulty: OwnMongod, kind: DriverName) -> AsyncIterator[Driver]:
    name = f"test_{uuid.uuid4().hex[:20]}"
    async with await open_driver(faulty.url, name, driver=kind) as opened:
        yield opened
    with faulty.client() as janitor:
        # A transaction whose commit was made to fail would hold the drop up.
        janitor.admin.command("killAllSessions", [])
        janitor.drop_database(name)


@contextmanager
def failing(server: OwnMongod, mode: Any, *commands: str, **how: Any) -> Iterator[None]:
    """Let `commands` fail on the server: once, some times or always."""
    with server.client() as client:
        data = {"failCommands": list(commands), "appName": "omniline", **how}
        client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})
        try:
            yield
        finally:
            client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


async def until(goal: str, reached: Any) -> Any:
    """Wait until `reached()` (awaited) is true."""
    ends = time.monotonic() + PATIENCE
    while not (result := await reached()):
        assert time.monotonic() < ends, f"waited {PATIENCE:g} s for {goal}"
        await asyncio.sleep(0.02)
    return result


# --- reading and writing -------------------------------------------------------------------------


async def test_each_name_opens_the_driver_it_says(driver: Driver, kind: DriverName) -> None:
    module = type(driver._client).__module__
    assert driver.name == kind
    assert module.startswith("motor" if kind == "motor" else "pymongo.asynchronous")


async def test_datetimes_come_back_aware_in_utc_with_milliseconds(driver: Driver) -> None:
    things = driver.collection("things")
    at = datetime(2024, 2, 29, 23, 59, 59, 987_000, tzinfo=UTC)
    await things.insert_one({"_id": 1, "at": at})
    found = await things.find_one({"_id": 1})
    assert found == {"_id": 1, "at": at}
    assert found["at"].utcoffset() == timedelta(0)


async def test_uuids_are_stored_in_the_standard_representation(driver: Driver) -> None:
    things = driver.collection("things")
    value = uuid.uuid4()
    await things.insert_one({"_id": value})
    assert await things.find_one({"_id": value}) == {"_id": value}
    assert await things.count_documents({"_id": {"$type": "binData"}}) == 1
    (typed,) = await driver.aggregate(
        things, [{"$match": {"$expr": {"$eq": ["$_id", value]}}}, {"$count": "n"}]
    )
    assert typed == {"n": 1}


async def test_find_one_returns_none_when_nothing_matches(driver: Driver) -> None:
    assert await driver.collection("things").find_one({"_id": "nobody"}) is None


async def test_a_cursor_is_iterated_in_order_over_many_batches(driver: Driver) -> None:
    things = driver.collection("things")
    await things.insert_many([{"_id": n, "odd": n % 2 == 1, "rest": "x"} for n in range(20)])
    cursor = things.find({"odd": True}, {"rest": 0}, sort=[("_id", -1)], limit=7, batch_size=2)
    assert [document async for document in cursor] == [
        {"_id": n, "odd": True} for n in (19, 17, 15, 13, 11, 9, 7)
    ]


async def test_to_list_takes_so_many_and_then_the_rest(driver: Driver) -> None:
    things = driver.collection("things")
    await things.insert_many([{"_id": n} for n in range(250)])
    cursor = things.find(sort=[("_id", 1)])
    first = await cursor.to_list(120)
    rest = await cursor.to_list()
    assert [document["_id"] for document in first] == list(range(120))
    assert [document["_id"] for document in rest] == list(range(120, 250))


async def test_leaving_a_cursor_early_closes_it_on_the_server(
    driver: Driver, mongod: OwnMongod
) -> None:
    things = driver.collection("things")
    await things.insert_many([{"_id": n} for n in range(50)])
    async with things.find(batch_size=2, comment=driver.database) as cursor:
        async for _ in cursor:
            break
        assert await _open_cursors(driver) == 1
    assert await _open_cursors(driver) == 0


async def _open_cursors(driver: Driver) -> int:
    idle = await driver.command(
        {
            "aggregate": 1,
            "pipeline": [
                {"$currentOp": {"idleCursors": True, "allUsers": True}},
                {"$match": {"type": "idleCursor", "ns": f"{driver.database}.things"}},
            ],
            "cursor": {},
        },
        database="admin",
    )
    return len(idle["cursor"]["firstBatch"])


async def test_updates_say_what_they_matched_and_changed(driver: Driver) -> None:
    things = driver.collection("things")
    await things.insert_many([{"_id": n, "v": 0} for n in range(3)])
    one = await things.update_one({"_id": 0}, {"$set": {"v": 1}})
    same = await things.update_one({"_id": 0}, {"$set": {"v": 1}})
    none = await things.update_one({"_id": 9}, {"$set": {"v": 1}})
    many = await things.update_many({"v": 0}, {"$inc": {"v": 5}})
    new = await things.update_one({"_id": 7}, {"$set": {"v": 7}}, upsert=True)
    assert (one.matched_count, one.modified_count) == (1, 1)
    assert (same.matched_count, same.modified_count) == (1, 0)
    assert none.matched_count == 0
    assert many.modified_count == 2
    assert new.upserted_id == 7
    assert await things.find(sort=[("_id", 1)]).to_list() == [
        {"_id": 0, "v": 1},
        {"_id": 1, "v": 5},
        {"_id": 2, "v": 5},
        {"_id": 7, "v": 7},
    ]


async def test_a_pipeline_update_uses_the_servers_clock(driver: Driver) -> None:
    things = driver.collection("things")
    await things.insert_one({"_id": 1})
    before = await driver.server_time()
    await things.update_one({"_id": 1}, [{"$set": {"at": "$$NOW"}}])
    after = await driver.server_time()
    found = await things.find_one({"_id": 1})
    assert found is not None
    assert before <= found["at"] <= after


async def test_replace_and_delete_touch_what_they_name(driver: Driver) -> None:
    things = driver.collection("things")
    await things.insert_many([{"_id": n, "v": n} for n in range(6)])
    assert (await things.replace_one({"_id": 0}, {"w": 1})).modified_count == 1
    assert (await things.delete_one({"_id": 1})).deleted_count == 1
    assert (await things.delete_many({"v": {"$gte": 4}})).deleted_count == 2
    assert await things.find_one_and_delete({"_id": 2}) == {"_id": 2, "v": 2}
    assert await things.find_one_and_delete({"_id": 2}) is None
    assert await things.find(sort=[("_id", 1)]).to_list() == [
        {"_id": 0, "w": 1},
        {"_id": 3, "v": 3},
    ]


async def test_find_one_and_update_returns_before_or_after(driver: Driver) -> None:
    things = driver.collection("things")
    await things.insert_one({"_id": 1, "v": 1})
    change = {"$inc": {"v": 1}}
    assert await things.find_one_and_update({"_id": 1}, change) == {"_id": 1, "v": 1}
    assert await things.find_one_and_update({"_id": 1}, change, after=True) == {"_id": 1, "v": 3}
    assert await things.find_one_and_update({"_id": 2}, change) is None
    made = await things.find_one_and_update({"_id": 2}, change, after=True, upsert=True)
    assert made == {"_id": 2, "v": 1}


async def test_bulk_write_mixes_kinds_of_writes(driver: Driver) -> None:
    things = driver.collection("things")
    await things.insert_one({"_id": 0})
    result = await things.bulk_write(
        [InsertOne({"_id": 1}), UpdateOne({"_id": 1}, {"$set": {"v": 1}}), DeleteOne({"_id": 0})],
        ordered=True,
    )
    assert (result.inserted_count, result.modified_count, result.deleted_count) == (1, 1, 1)
    assert await things.find().to_list() == [{"_id": 1, "v": 1}]


async def test_counting_and_distinct_values(driver: Driver) -> None:
    things = driver.collection("things")
    await things.insert_many([{"_id": n, "v": n % 3} for n in range(10)])
    assert await things.count_documents() == 10
    assert await things.count_documents({"v": 0}, limit=2) == 2
    assert await things.estimated_document_count() == 10
    assert sorted(await things.distinct("v", {"_id": {"$lt": 2}})) == [0, 1]


async def test_aggregate_returns_every_result_of_every_batch(driver: Driver) -> None:
    things = driver.collection("things")
    await things.insert_many([{"_id": n} for n in range(500)])
    doubled = await driver.aggregate(
        things, [{"$sort": {"_id": 1}}, {"$set": {"d": {"$multiply": ["$_id", 2]}}}], batchSize=50
    )
    assert doubled == [{"_id": n, "d": 2 * n} for n in range(500)]


async def test_making_an_index_twice_is_harmless_and_a_different_one_is_an_error(
    driver: Driver,
) -> None:
    things = driver.collection("things")
    wanted = [IndexModel([("v", 1)], name="by_v", unique=True)]
    assert await things.create_indexes(wanted) == ["by_v"]
    assert await things.create_indexes(wanted) == ["by_v"]
    with pytest.raises(OperationFailure):
        await things.create_indexes([IndexModel([("v", 1)], name="by_v")])
    assert (await things.index_information())["by_v"]["unique"] is True
    await things.drop_index("by_v")
    assert set(await things.index_information()) == {"_id_"}


async def test_explain_shows_whether_an_index_was_used(driver: Driver) -> None:
    things = driver.collection("things")
    await things.create_indexes([IndexModel([("v", 1)], name="by_v")])
    by_index = await things.find({"v": 1}).explain()
    by_scan = await things.find({"w": 1}).explain()
    assert "IXSCAN" in str(by_index["queryPlanner"]["winningPlan"])
    assert "COLLSCAN" in str(by_scan["queryPlanner"]["winningPlan"])


async def test_collections_and_databases_can_be_listed_and_dropped(driver: Driver) -> None:
    await driver.collection("one").insert_one({})
    await driver.collection("two").insert_one({})
    assert sorted(await driver.collection_names()) == ["one", "two"]
    await driver.drop_collection("one")
    assert await driver.collection_names() == ["two"]
    await driver.collection("two").drop()
    await driver.collection("three").insert_one({})
    await driver.drop_database()
    assert await driver.collection_names() == []


async def test_a_command_runs_on_this_database_or_the_one_named(driver: Driver) -> None:
    stats = await driver.command("dbStats")
    build = await driver.command({"buildInfo": 1}, database="admin")
    assert stats["db"] == driver.database
    assert build["version"].split(".")[0].isdigit()


# --- durability ----------------------------------------------------------------------------------


async def test_durable_and_cheap_collections_ask_for_what_they_promise(driver: Driver) -> None:
    """The server's own profile shows the concerns that really arrived."""
    durable, cheap = driver.collection("durable"), driver.collection("cheap", durable=False)
    await durable.insert_one({"_id": 0})
    await cheap.insert_one({"_id": 0})
    await driver.command("profile", 2)
    await durable.insert_many([{"_id": 1}])
    await durable.update_one({"_id": 1}, {"$set": {"v": 1}})
    await durable.find_one({"_id": 1})
    await cheap.insert_many([{"_id": 1}])
    await cheap.find_one({"_id": 1})
    await driver.command("profile", 0)
    seen = await driver.collection("system.profile", durable=False).find().to_list()
    concerns = {
        (row["ns"].rpartition(".")[2], row["op"]): (
            row["command"].get("writeConcern", row.get("writeConcern")),
            row["command"].get("readConcern"),
        )
        for row in seen
    }
    write, _ = concerns["durable", "insert"]
    assert (write["w"], write["j"]) == ("majority", True)
    assert concerns["durable", "query"][1]["level"] == "majority"
    assert (concerns["cheap", "insert"][0] or {}).get("w", 1) == 1
    assert concerns["cheap", "query"][1]["level"] == "local"


async def test_a_batch_sorts_into_stored_there_already_and_refused(driver: Driver) -> None:
    things = driver.collection("things")
    await things.create_indexes([IndexModel([("v", 1)], unique=True)])
    await things.insert_one({"_id": "old", "v": 0})
    batch = [
        {"_id": "old", "v": 1},
        {"_id": "new", "v": 2},
        {"_id": "other key", "v": 0},
        {"_id": {"$bad": 1}, "v": 4},
        {"_id": "last", "v": 3},
    ]
    with pytest.raises(BulkWriteError) as caught:
        await things.insert_many(batch, ordered=False)
    outcome = duplicates_of(caught.value)
    assert outcome.duplicates == {0}
    assert set(outcome.failed) == {2, 3}
    assert outcome.failed[2].code == 11000
    assert outcome.durable
    assert not is_duplicate(caught.value)
    assert not is_transient(caught.value)
    assert await things.distinct("_id") == ["last", "new", "old"]


async def test_a_batch_that_is_there_already_is_only_duplicates(driver: Driver) -> None:
    things = driver.collection("things")
    batch = [{"_id": n} for n in range(3)]
    await things.insert_many(batch)
    with pytest.raises(BulkWriteError) as caught:
        await things.insert_many(batch, ordered=False)
    outcome = duplicates_of(caught.value)
    assert (outcome.duplicates, outcome.failed) == ({0, 1, 2}, {})
    assert is_duplicate(caught.value)


async def test_a_taken_key_is_a_duplicate_and_not_transient(driver: Driver) -> None:
    things = driver.collection("things")
    await things.insert_one({"_id": 1})
    with pytest.raises(DuplicateKeyError) as caught:
        await things.insert_one({"_id": 1})
    assert is_duplicate(caught.value)
    assert not is_transient(caught.value)
    assert not is_unavailable(caught.value)


async def test_a_batch_without_its_majority_is_not_durable(
    on_faulty: Driver, faulty: OwnMongod
) -> None:
    things = on_faulty.collection("things")
    missed = {"code": 64, "errmsg": "waiting for replication timed out"}
    with failing(faulty, {"times": 1}, "insert", writeConcernError=missed):
        with pytest.raises(BulkWriteError) as caught:
            await things.insert_many([{"_id": 1}], ordered=False)
    assert not duplicates_of(caught.value).durable
    assert is_transient(caught.value)
    assert is_unavailable(caught.value)
    assert not is_duplicate(caught.value)


@pytest.mark.parametrize("code", [10107, 11600, 189, 91, 13435])
async def test_an_election_or_shutdown_is_transient_and_unavailable(
    on_faulty: Driver, faulty: OwnMongod, code: int
) -> None:
    with failing(faulty, "alwaysOn", "insert", errorCode=code):
        with pytest.raises(PyMongoError) as caught:
            with deadline(0.5):
                await on_faulty.collection("things").insert_one({})
    assert is_transient(caught.value)
    assert is_unavailable(caught.value)


async def test_a_lost_connection_is_retried_once_and_then_transient(
    on_faulty: Driver, faulty: OwnMongod
) -> None:
    things = on_faulty.collection("things")
    with failing(faulty, {"times": 1}, "insert", closeConnection=True):
        await things.insert_one({"_id": 1})
    with failing(faulty, {"times": 2}, "insert", closeConnection=True):
        with pytest.raises(PyMongoError) as caught:
            await things.insert_one({"_id": 2})
    assert is_transient(caught.value)
    assert is_unavailable(caught.value)
    assert await things.distinct("_id") == [1]


@pytest.mark.parametrize("code", [13, 121, 2, 26])
async def test_errors_of_the_callers_own_making_are_not_transient(
    on_faulty: Driver, faulty: OwnMongod, code: int
) -> None:
    with failing(faulty, {"times": 1}, "insert", errorCode=code):
        with pytest.raises(PyMongoError) as caught:
            await on_faulty.collection("things").insert_one({})
    assert not is_transient(caught.value)
    assert not is_unavailable(caught.value)


def test_errors_that_are_not_the_databases_are_never_transient() -> None:
    for error in (ValueError("x"), KeyError("x"), TimeoutError()):
        assert not is_transient(error)
        assert not is_unavailable(error)
        assert not is_duplicate(error)


async def test_a_deadline_ends_a_call_to_a_frozen_server(
    on_faulty: Driver, faulty: OwnMongod
) -> None:
    things = on_faulty.collection("things")
    await things.insert_one({"_id": 1})
    with faulty.frozen():
        began = time.monotonic()
        with pytest.raises(PyMongoError) as caught:
            with deadline(0.3):
                await things.insert_one({"_id": 2})
        assert time.monotonic() - began < 2
    assert is_unavailable(caught.value)
    assert is_transient(caught.value)
    assert await things.find_one({"_id": 1}) == {"_id": 1}


async def test_cancelling_a_call_to_a_frozen_server_returns_at_once(
    on_faulty: Driver, faulty: OwnMongod
) -> None:
    things = on_faulty.collection("things")
    await things.insert_one({"_id": 1})
    with faulty.frozen():
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await things.find_one({"_id": 1})
        assert time.monotonic() - began < 2
    assert await things.find_one({"_id": 1}) == {"_id": 1}


async def test_a_cancellation_is_never_swallowed(driver: Driver) -> None:
    """At whatever moment of a call it comes, its task ends (pymongo on Python 3.11 forgets it)."""
    things = driver.collection("things")
    await things.insert_one({"_id": "marker"})

    async def endless() -> None:
        while True:
            await things.find_one({"_id": "marker"})

    for number in range(60):
        task = asyncio.create_task(endless())
        for _ in range(number):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=PATIENCE)
        assert task.cancelled()


async def test_a_timeout_around_a_call_is_never_swallowed(driver: Driver) -> None:
    things = driver.collection("things")
    await things.insert_one({"_id": "marker"})
    for number in range(40):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(number * 0.0002):
                while True:
                    await things.find_one({"_id": "marker"})


# --- transactions --------------------------------------------------------------------------------


async def test_a_transaction_shows_all_of_itself_at_once(driver: Driver) -> None:
    left, right = driver.collection("left"), driver.collection("right")
    await left.insert_one({"_id": 0})
    async with driver.transaction() as session:
        await left.insert_one({"_id": 1}, session=session)
        await right.insert_many([{"_id": 1}, {"_id": 2}], session=session)
        assert await left.count_documents(session=session) == 2
        assert await left.count_documents() == 1
        assert await right.find().to_list() == []
        assert session.in_transaction
    assert await left.count_documents() == 2
    assert await right.count_documents() == 2


async def test_every_kind_of_call_takes_part_in_the_transaction(driver: Driver) -> None:
    things = driver.collection("things")
    await things.insert_many([{"_id": n, "v": 0} for n in range(6)])
    with pytest.raises(LookupError):
        async with driver.transaction() as s:
            await things.insert_one({"_id": 10}, session=s)
            await things.update_one({"_id": 0}, {"$set": {"v": 1}}, session=s)
            await things.update_many({"_id": {"$lt": 2}}, {"$inc": {"v": 1}}, session=s)
            await things.replace_one({"_id": 2}, {"w": 1}, session=s)
            await things.bulk_write([DeleteOne({"_id": 3})], session=s)
            await things.find_one_and_update({"_id": 4}, {"$set": {"v": 9}}, session=s)
            await things.find_one_and_delete({"_id": 5}, session=s)
            await things.delete_one({"_id": 10}, session=s)
            await things.delete_many({"v": 9}, session=s)
            seen = [document async for document in things.find(session=s, sort=[("_id", 1)])]
            assert [document["_id"] for document in seen] == [0, 1, 2]
            assert await things.find(session=s).to_list(10) != []
            assert await things.find_one({"_id": 0}, session=s) == {"_id": 0, "v": 2}
            assert await things.distinct("v", session=s) == [1, 2]
            (count,) = await driver.aggregate(things, [{"$count": "n"}], session=s)
            assert count == {"n": 3}
            raise LookupError("on purpose")
    assert await things.count_documents({"v": 0}) == 6


async def test_an_error_in_the_block_aborts_and_comes_out_unchanged(driver: Driver) -> None:
    things = driver.collection("things")
    async with driver.session() as session:
        with pytest.raises(ZeroDivisionError):
            async with driver.transaction(session):
                await things.insert_one({"_id": 1}, session=session)
                raise ZeroDivisionError
        async with driver.transaction(session):
            await things.insert_one({"_id": 2}, session=session)
    assert await things.distinct("_id") == [2]


async def test_a_transaction_that_does_nothing_commits(driver: Driver) -> None:
    async with driver.transaction() as session:
        assert session.in_transaction
    await driver.ping()


async def test_two_transactions_on_one_document_conflict_and_the_loser_may_repeat(
    driver: Driver,
) -> None:
    things = driver.collection("things")
    await things.insert_one({"_id": 1, "v": 0})
    change = {"$inc": {"v": 1}}
    with pytest.raises(PyMongoError) as caught:
        async with driver.transaction() as first, driver.transaction() as second:
            await things.update_one({"_id": 1}, change, session=first)
            await things.update_one({"_id": 1}, change, session=second)
    assert is_transient(caught.value)
    assert not is_unavailable(caught.value)
    async with driver.transaction() as session:
        await things.update_one({"_id": 1}, change, session=session)
    assert await things.find_one({"_id": 1}) == {"_id": 1, "v": 1}


async def test_a_duplicate_inside_a_transaction_takes_all_of_it_down(driver: Driver) -> None:
    things = driver.collection("things")
    await things.insert_one({"_id": 1})
    with pytest.raises(BulkWriteError) as caught:
        async with driver.transaction() as session:
            await things.insert_many([{"_id": 2}, {"_id": 1}], session=session)
    assert is_duplicate(caught.value)
    assert await things.distinct("_id") == [1]


async def test_a_held_session_keeps_its_id_and_others_have_another(driver: Driver) -> None:
    things = driver.collection("things")
    async with driver.session() as session, driver.session() as other:
        at_first = driver.session_id(session)
        for number in range(2):
            async with driver.transaction(session):
                await things.insert_one({"_id": number}, session=session)
        assert driver.session_id(session) == at_first
        assert driver.session_id(other) != at_first
        await driver.command("refreshSessions", [session.raw.session_id])
        known = await driver.command(
            {
                "aggregate": 1,
                "pipeline": [{"$listLocalSessions": {}}],
                "cursor": {"batchSize": 100_000},
            }
        )
    assert at_first in [row["_id"]["id"] for row in known["cursor"]["firstBatch"]]


async def test_a_successor_ends_the_transaction_of_a_stuck_owner(
    driver: Driver, mongo_url: str
) -> None:
    things = driver.collection("things")
    await things.insert_one({"_id": 1, "by": "nobody"})
    async with await open_driver(mongo_url, driver.database, driver=driver.name) as successor:
        with pytest.raises(PyMongoError) as caught:
            async with driver.transaction() as stuck:
                await things.update_one({"_id": 1}, {"$set": {"by": "stuck"}}, session=stuck)
                assert await successor.kill_session(driver.session_id(stuck))
                theirs = successor.collection("things")
                async with successor.transaction() as session:
                    change = {"$set": {"by": "successor"}}
                    await theirs.update_one({"_id": 1}, change, session=session)
    assert is_transient(caught.value)
    assert not isinstance(caught.value, CommitUnknown)
    assert await things.find_one({"_id": 1}) == {"_id": 1, "by": "successor"}


async def test_a_cancelled_transaction_never_writes_outside_of_itself(driver: Driver) -> None:
    """Cancelled at every moment of its life: what was not committed is not stored."""
    things = driver.collection("things")
    await things.insert_one({"_id": "marker"})
    async with driver.session() as session:

        async def doomed(number: int) -> None:
            async with driver.transaction(session):
                for part in range(3):
                    await things.insert_one({"_id": (number * 10 + part)}, session=session)
                await asyncio.Event().wait()

        for number in range(40):
            task = asyncio.create_task(doomed(number))
            await asyncio.sleep(number * 0.0002)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        async with driver.transaction(session):
            await things.insert_one({"_id": "last"}, session=session)
    assert sorted(await things.distinct("_id")) == ["last", "marker"]


async def test_a_commit_whose_answer_was_lost_is_repeated(
    on_faulty: Driver, faulty: OwnMongod
) -> None:
    things = on_faulty.collection("things")
    await things.insert_one({"_id": 0})
    with failing(faulty, {"times": 3}, "commitTransaction", closeConnection=True):
        async with on_faulty.transaction() as session:
            await things.insert_one({"_id": 1}, session=session)
    assert await things.distinct("_id") == [0, 1]


async def test_a_commit_without_its_majority_is_repeated(
    on_faulty: Driver, faulty: OwnMongod
) -> None:
    things = on_faulty.collection("things")
    await things.insert_one({"_id": 0})
    missed = {"code": 64, "errmsg": "waiting for replication timed out"}
    with failing(faulty, {"times": 2}, "commitTransaction", writeConcernError=missed):
        async with on_faulty.transaction() as session:
            await things.insert_one({"_id": 1}, session=session)
    assert await things.distinct("_id") == [0, 1]


async def test_a_commit_that_never_gets_an_answer_is_unknown_in_bounded_time(
    on_faulty: Driver, faulty: OwnMongod
) -> None:
    things = on_faulty.collection("things")
    await things.insert_one({"_id": 0})
    began = time.monotonic()
    with failing(faulty, "alwaysOn", "commitTransaction", closeConnection=True):
        with pytest.raises(CommitUnknown, match="read again") as caught:
            async with on_faulty.transaction(commit_seconds=0.5) as session:
                await things.insert_one({"_id": 1}, session=session)
    assert time.monotonic() - began < 3
    assert is_transient(caught.value)
    async with on_faulty.transaction() as session:
        await things.insert_one({"_id": 2}, session=session)
    assert 2 in await things.distinct("_id")


async def test_a_commit_on_a_frozen_server_is_unknown_in_bounded_time(
    on_faulty: Driver, faulty: OwnMongod
) -> None:
    things = on_faulty.collection("things")
    await things.insert_one({"_id": 0})
    began = time.monotonic()
    try:
        with pytest.raises(CommitUnknown):
            async with on_faulty.transaction(commit_seconds=0.5) as session:
                await things.insert_one({"_id": 1}, session=session)
                faulty.freeze()
        assert time.monotonic() - began < 3
    finally:
        faulty.thaw()
    stored = await things.distinct("_id")
    assert stored in ([0], [0, 1])


async def test_a_refused_commit_is_not_called_unknown(on_faulty: Driver, faulty: OwnMongod) -> None:
    things = on_faulty.collection("things")
    await things.insert_one({"_id": 0})
    refusal = {"errorCode": 251, "errorLabels": ["TransientTransactionError"]}
    with failing(faulty, {"times": 1}, "commitTransaction", **refusal):
        with pytest.raises(OperationFailure) as caught:
            async with on_faulty.transaction() as session:
                await things.insert_one({"_id": 1}, session=session)
    assert is_transient(caught.value)


async def test_a_failing_abort_does_not_hide_the_blocks_error(
    on_faulty: Driver, faulty: OwnMongod
) -> None:
    things = on_faulty.collection("things")
    await things.insert_one({"_id": 0})
    with failing(faulty, "alwaysOn", "abortTransaction", closeConnection=True):
        with pytest.raises(LookupError, match="the block's"):
            async with on_faulty.transaction() as session:
                await things.insert_one({"_id": 1}, session=session)
                raise LookupError("the block's")
    assert await things.distinct("_id") == [0]


# --- hints ---------------------------------------------------------------------------------------


@asynccontextmanager
async def tailing(driver: Driver, **options: Any) -> AsyncIterator[asyncio.Queue[Any]]:
    """Tail `signals` in a task; what comes lands in the queue, and so does what ended it."""
    heard: asyncio.Queue[Any] = asyncio.Queue()

    async def listen() -> None:
        tail = driver.tail("signals", pause=0.02, **options)
        try:
            async for document in tail:
                heard.put_nowait(document)
        except PyMongoError as exc:
            heard.put_nowait(exc)
        finally:
            await tail.aclose()

    task = asyncio.create_task(listen())
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.wait({task})


async def say_until_heard(driver: Driver, heard: asyncio.Queue[Any], first: int = 1000) -> int:
    """Insert hints until one arrives, so that the tail is known to listen; return the last one."""
    signals = driver.collection("signals", durable=False)
    number = first

    async def one_arrived() -> bool:
        nonlocal number
        number += 1
        await signals.insert_one({"_id": number})
        return not heard.empty()

    await until("the tail to listen", one_arrived)
    while (await hear(heard))["_id"] != number:
        pass
    return number


async def hear(heard: asyncio.Queue[Any]) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await heard.get()


async def test_a_tail_yields_what_comes_from_now_on(driver: Driver) -> None:
    signals = driver.collection("signals", durable=False)
    await driver.create_capped("signals", size_bytes=64 * 1024)
    await signals.insert_many([{"_id": n} for n in range(5)])
    async with tailing(driver) as heard:
        await say_until_heard(driver, heard)
        await signals.insert_many([{"_id": n} for n in range(10, 13)])
        assert [(await hear(heard))["_id"] for _ in range(3)] == [10, 11, 12]


async def test_a_tail_never_yields_what_was_there_before(driver: Driver) -> None:
    signals = driver.collection("signals", durable=False)
    await driver.create_capped("signals", size_bytes=64 * 1024)
    await signals.insert_many([{"_id": n} for n in range(5)])
    async with tailing(driver) as heard:
        await until("an open cursor", lambda: _tail_cursor(driver))
        await signals.insert_one({"_id": "new"})
        assert await hear(heard) == {"_id": "new"}


async def test_a_tail_from_the_start_yields_everything_once(driver: Driver) -> None:
    signals = driver.collection("signals", durable=False)
    await driver.create_capped("signals", size_bytes=64 * 1024)
    await signals.insert_many([{"_id": n} for n in range(5)])
    async with tailing(driver, from_start=True) as heard:
        assert [(await hear(heard))["_id"] for _ in range(5)] == [0, 1, 2, 3, 4]
        await signals.insert_one({"_id": 5})
        assert await hear(heard) == {"_id": 5}


async def test_a_tail_waits_for_the_first_hint_of_an_empty_collection(driver: Driver) -> None:
    await driver.create_capped("signals", size_bytes=64 * 1024)
    async with tailing(driver) as heard:
        await say_until_heard(driver, heard)
        await driver.collection("signals", durable=False).insert_one({"_id": "more"})
        assert await hear(heard) == {"_id": "more"}


async def test_a_tail_yields_only_what_its_filter_lets_through(driver: Driver) -> None:
    signals = driver.collection("signals", durable=False)
    await driver.create_capped("signals", size_bytes=64 * 1024)
    await signals.insert_many([{"_id": n, "kind": "ab"[n % 2]} for n in range(6)])
    async with tailing(driver, from_start=True, filter={"kind": "b"}) as heard:
        assert [(await hear(heard))["_id"] for _ in range(3)] == [1, 3, 5]


async def test_a_tail_outlives_its_cursor_and_repeats_nothing(driver: Driver) -> None:
    signals = driver.collection("signals", durable=False)
    await driver.create_capped("signals", size_bytes=64 * 1024)
    await signals.insert_one({"_id": 0})
    async with tailing(driver, from_start=True) as heard:
        assert await hear(heard) == {"_id": 0}
        for number in range(1, 4):
            cursor = await until("an open cursor", lambda: _tail_cursor(driver))
            await driver.command({"killCursors": "signals", "cursors": [cursor]})
            await signals.insert_one({"_id": number})
            assert await hear(heard) == {"_id": number}


async def _tail_cursor(driver: Driver) -> int | None:
    running = await driver.command(
        {
            "aggregate": 1,
            "pipeline": [
                {"$currentOp": {"idleCursors": True}},
                {"$match": {"ns": f"{driver.database}.signals", "cursor.tailable": True}},
            ],
            "cursor": {},
        },
        database="admin",
    )
    found = running["cursor"]["firstBatch"]
    return found[0]["cursor"]["cursorId"] if found else None


async def test_a_tail_goes_on_when_its_place_was_overwritten(driver: Driver) -> None:
    signals = driver.collection("signals", durable=False)
    await driver.create_capped("signals", size_bytes=64 * 1024, max_documents=3)
    await signals.insert_one({"_id": 0})
    async with tailing(driver, from_start=True) as heard:
        assert await hear(heard) == {"_id": 0}
        await signals.insert_many([{"_id": n} for n in range(1, 40)])
        while (await hear(heard))["_id"] != 39:
            pass
        await signals.insert_one({"_id": 40})
        assert await hear(heard) == {"_id": 40}


async def test_a_tail_outlives_a_kill_of_its_server(kind: DriverName) -> None:
    with OwnMongod() as server:
        async with await open_driver(server.url, "hints", driver=kind) as driver:
            await driver.create_capped("signals", size_bytes=64 * 1024)
            durable = driver.collection("signals")
            await durable.insert_one({"_id": 0})
            async with tailing(driver, from_start=True) as heard:
                assert await hear(heard) == {"_id": 0}
                server.kill()
                await asyncio.to_thread(server.start)
                await durable.insert_one({"_id": 1})
                assert await hear(heard) == {"_id": 1}


async def test_a_tail_of_an_ordinary_collection_is_an_error(driver: Driver) -> None:
    await driver.collection("signals").insert_one({})
    async with tailing(driver) as heard:
        error = await hear(heard)
    assert isinstance(error, OperationFailure)
    assert "capped" in str(error)


async def test_making_a_capped_collection_twice_is_harmless(driver: Driver) -> None:
    await driver.create_capped("signals", size_bytes=64 * 1024)
    await driver.create_capped("signals", size_bytes=64 * 1024)
    assert (await driver.command("collStats", "signals"))["capped"] is True


# --- blobs ---------------------------------------------------------------------------------------

BODY = bytes(range(256)) * 3_000


async def test_a_blob_comes_back_whole_and_in_chunks(driver: Driver) -> None:
    blobs = driver.blobs("raw")
    blob_id = await blobs.upload_from_stream(
        "a.bin", BODY, metadata={"sniffed": "none"}, chunk_size=100_000
    )
    async with await blobs.open_download_stream(blob_id) as whole:
        assert (whole.id, whole.filename, whole.length) == (blob_id, "a.bin", len(BODY))
        assert whole.metadata == {"sniffed": "none"}
        assert await whole.read(10) == BODY[:10]
        assert await whole.read() == BODY[10:]
    async with await blobs.open_download_stream(blob_id) as chunked:
        chunks = [chunk async for chunk in chunked]
    assert b"".join(chunks) == BODY
    assert len(chunks) == 8


async def test_a_blob_is_uploaded_from_a_stream_of_chunks(driver: Driver) -> None:
    async def source() -> AsyncIterator[bytes]:
        for start in range(0, len(BODY), 70_000):
            yield BODY[start : start + 70_000]

    blobs = driver.blobs("raw")
    await blobs.upload_from_stream("b.bin", source(), blob_id="b")
    async with await blobs.open_download_stream("b") as reader:
        assert await reader.read() == BODY


async def test_blobs_are_found_by_what_is_known_of_them_and_deleted(driver: Driver) -> None:
    blobs = driver.blobs("raw")
    before = await driver.server_time() - timedelta(minutes=1)
    for name in ("a", "b", "c"):
        await blobs.upload_from_stream(name, name.encode(), blob_id=name, metadata={"kind": name})
    found = await blobs.find({"metadata.kind": {"$ne": "b"}}, sort=[("_id", -1)], limit=5)
    assert [(info.id, info.filename, info.length) for info in found] == [
        ("c", "c", 1),
        ("a", "a", 1),
    ]
    assert found[0].uploaded_at > before
    await blobs.delete("a")
    with pytest.raises(BlobMissing):
        await blobs.open_download_stream("a")
    with pytest.raises(BlobMissing):
        await blobs.delete("a")
    assert await driver.collection("raw.chunks").count_documents() == 2


async def test_a_stored_blob_is_not_replaced_by_another_under_its_id(driver: Driver) -> None:
    blobs = driver.blobs("raw")
    await blobs.upload_from_stream("a", BODY, blob_id="x")
    with pytest.raises(BlobExists):
        await blobs.upload_from_stream("a", b"other", blob_id="x")
    async with await blobs.open_download_stream("x") as reader:
        assert await reader.read() == BODY


async def test_a_failed_upload_leaves_nothing_and_may_be_repeated(driver: Driver) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield BODY
        raise ConnectionResetError("the sender went away")

    blobs = driver.blobs("raw")
    with pytest.raises(ConnectionResetError):
        await blobs.upload_from_stream("a", broken(), blob_id="x", chunk_size=1_000)
    assert await blobs.find() == []
    assert await driver.collection("raw.chunks").count_documents() == 0
    await blobs.upload_from_stream("a", BODY, blob_id="x")
    async with await blobs.open_download_stream("x") as reader:
        assert await reader.read() == BODY


async def test_chunks_of_an_upload_that_died_do_not_stand_in_the_way(driver: Driver) -> None:
    blobs = driver.blobs("raw")
    await driver.collection("raw.chunks").insert_one(
        {"_id": ObjectId(), "files_id": "x", "n": 0, "data": b"left behind"}
    )
    await blobs.upload_from_stream("a", BODY, blob_id="x")
    async with await blobs.open_download_stream("x") as reader:
        assert await reader.read() == BODY


async def test_an_upload_that_meets_another_of_its_id_leaves_the_others_chunks(
    driver: Driver,
) -> None:
    blobs, chunks = driver.blobs("raw"), driver.collection("raw.chunks")
    theirs = {"_id": ObjectId(), "files_id": "x", "n": 0, "data": b"theirs"}

    async def source() -> AsyncIterator[bytes]:
        # Stands for the other process, which begins after our look whether the id is free.
        await chunks.insert_one(theirs)
        yield b"ours"

    await blobs.upload_from_stream("first", b"x")  # makes the indexes
    with pytest.raises(BlobBusy) as caught:
        await blobs.upload_from_stream("ours", source(), blob_id="x")
    assert is_transient(caught.value)
    assert await chunks.find({"files_id": "x"}).to_list() == [theirs]


# --- opening -------------------------------------------------------------------------------------


async def test_a_driver_opens_while_its_server_is_away(kind: DriverName) -> None:
    url = "mongodb://127.0.0.1:1/?replicaSet=rs0"
    driver = await open_driver(url, "any", driver=kind, server_selection_timeout_ms=100)
    async with driver:
        with pytest.raises(PyMongoError) as caught:
            await driver.ping()
    assert is_unavailable(caught.value)
    assert is_transient(caught.value)


async def test_a_timeout_in_the_url_wins_over_the_argument(kind: DriverName) -> None:
    url = "mongodb://127.0.0.1:1/?replicaSet=rs0&serverSelectionTimeoutMS=50"
    began = time.monotonic()
    driver = await open_driver(url, "any", driver=kind, server_selection_timeout_ms=60_000)
    async with driver:
        with pytest.raises(PyMongoError):
            await driver.ping()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("url", "database"),
    [
        ("mongodb://li:s3cr3t@word@host/", "omniline"),
        ("mongodb://li:s3cr3t@host:port/", "omniline"),
        ("http://li:s3cr3t@host/", "omniline"),
        ("mongodb://li:s3cr3t@host/?w=majority&journal=perhaps", "omniline"),
        ("mongodb://li:s3cr3t@host/", "a.b"),
        ("mongodb://li:s3cr3t@host/", ""),
    ],
)
async def test_an_unusable_url_is_refused_without_its_password(
    kind: DriverName, url: str, database: str
) -> None:
    with pytest.raises(InvalidUrl, match="mongo_url") as caught:
        await open_driver(url, database, driver=kind)
    assert "s3cr3t" not in str(caught.value)
    assert "word" not in str(caught.value).replace("PASSWORD", "").replace("assword", "")


async def test_a_closed_driver_refuses_work(mongo_url: str, kind: DriverName) -> None:
    driver = await open_driver(mongo_url, "any", driver=kind)
    await driver.ping()
    await driver.close()
    with pytest.raises(PyMongoError):
        await driver.ping()


# --- what a server must be -----------------------------------------------------------------------


async def test_a_good_server_has_no_problems_and_is_left_clean(driver: Driver) -> None:
    assert await check_server(driver) == []
    assert await driver.collection(server_check.PROBE_COLLECTION).count_documents() == 0


async def test_checks_of_several_hubs_at_once_do_not_disturb_each_other(driver: Driver) -> None:
    assert await asyncio.gather(*(check_server(driver) for _ in range(8))) == [[]] * 8


async def test_a_standalone_server_is_refused_with_the_remedy(kind: DriverName) -> None:
    with OwnMongod(replica_set=None) as server:
        async with await open_driver(server.url, "any", driver=kind) as driver:
            (problem,) = await check_server(driver)
    assert problem.fatal
    assert "--replSet" in problem.text


async def test_a_set_that_was_never_initiated_is_refused_with_the_remedy() -> None:
    with OwnMongod(initiate=False) as server:
        url = f"mongodb://{server.host}/?directConnection=true"
        async with await open_driver(url, "any") as driver:
            (problem,) = await check_server(driver)
    assert problem.fatal
    assert "rs.initiate()" in problem.text


async def test_an_old_server_is_refused(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_check, "OLDEST_SERVER", (99, 1))
    (problem,) = await check_server(driver)
    assert problem.fatal
    assert "99.1 or newer" in problem.text


async def test_long_lived_transactions_are_a_warning_that_says_how_to_set_it(
    on_faulty: Driver, faulty: OwnMongod
) -> None:
    setting = {"setParameter": 1, "transactionLifetimeLimitSeconds": 60}
    await on_faulty.command(setting, database="admin")
    try:
        (problem,) = await check_server(on_faulty)
    finally:
        await on_faulty.command(setting | {"transactionLifetimeLimitSeconds": 3}, database="admin")
    assert not problem.fatal
    assert "is 60" in problem.text
    assert "setParameter: 1, transactionLifetimeLimitSeconds: 3" in problem.text


async def test_an_unreachable_server_is_a_problem_and_not_an_exception(kind: DriverName) -> None:
    url = "mongodb://127.0.0.1:1/?replicaSet=rs0"
    driver = await open_driver(url, "any", driver=kind, server_selection_timeout_ms=100)
    async with driver:
        (problem,) = await check_server(driver)
    assert problem.fatal
    assert "cannot be reached" in problem.text


async def test_a_user_without_rights_is_told_which(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("a" * 40)
    key.chmod(0o600)
    with OwnMongod(arguments=("--auth", "--keyFile", str(key))) as server:
        with server.client() as first:
            first.admin.command("createUser", "root", pwd="root", roles=["root"])
        with server.client(username="root", password="root") as root:
            for user, role in (("reader", "read"), ("writer", "readWrite")):
                root.admin.command(
                    "createUser", user, pwd="pw", roles=[{"role": role, "db": "hub"}]
                )
        assert await _problems_of(server, "writer:pw") == [(False, "does not tell its")]
        assert (True, "may not write in the database 'hub'") in await _problems_of(
            server, "reader:pw"
        )
        assert await _problems_of(server, "writer:wrong") == [(True, "refused the user name")]


async def _problems_of(server: OwnMongod, userinfo: str) -> list[tuple[bool, str]]:
    known = ("does not tell its", "may not write in the database 'hub'", "refused the user name")
    url = server.url.replace("://", f"://{userinfo}@")
    async with await open_driver(url, "hub") as driver:
        problems = await check_server(driver)
    return [
        (problem.fatal, next((words for words in known if words in problem.text), problem.text))
        for problem in problems
    ]


# --- elections -----------------------------------------------------------------------------------


async def test_acknowledged_writes_outlive_a_step_down_and_a_killed_primary(
    kind: DriverName,
) -> None:
    """On three members: what was acknowledged is there, and errors meanwhile are transient ones."""
    async with ReplicaSet() as replica_set:
        async with await open_driver(replica_set.url, "hub", driver=kind) as driver:
            assert await check_server(driver) == []
            things = driver.collection("things")
            acknowledged: list[int] = []
            done = asyncio.Event()

            async def write() -> None:
                number = 0
                while not done.is_set():
                    number += 1
                    try:
                        async with driver.transaction() as session:
                            await things.insert_one({"_id": number}, session=session)
                    except (PyMongoError, CommitUnknown) as exc:
                        if not is_transient(exc):
                            raise
                    else:
                        acknowledged.append(number)

            async def goes_on() -> None:
                so_far = len(acknowledged)

                async def more() -> bool:
                    return len(acknowledged) > so_far + 20

                await until("writes to go on", more)

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(write())
                await goes_on()
                await replica_set.step_down()
                await goes_on()
                killed = await replica_set.kill_primary()
                await goes_on()
                await replica_set.restart(killed)
                await goes_on()
                done.set()
            stored = set(await things.distinct("_id"))
    assert len(acknowledged) > 80
    assert set(acknowledged) <= stored


async def test_the_replica_set_helper_really_changes_its_primary() -> None:
    async with ReplicaSet() as replica_set:
        first = replica_set.primary()
        await replica_set.step_down()
        second = replica_set.primary()
        assert second is not first
        with pymongo.MongoClient(replica_set.url, serverSelectionTimeoutMS=5_000) as client:
            assert client.admin.command("hello")["me"] == second.host


def test_a_reason_has_no_dump_of_the_topology_or_of_the_answer() -> None:
    """They name every host, and bury what happened; reasons stand in logs and in dead letters."""
    dumps = [
        "db:27017: refused, Timeout: 5s, Topology Description: <TopologyDescription id: 1>",
        "db:27017: refused (configured timeouts: socketTimeoutMS: 20000.0ms)",
        "db:27017: refused, full error: {'ok': 0.0, 'errmsg': 'x'}",
    ]
    assert {short_reason(PyMongoError(dump)) for dump in dumps} == {"db:27017: refused"}
    assert len(short_reason(PyMongoError("x" * 5000))) == 300
