"""Every store does the same: the cases run on MemoryStore and on MongoDB over both drivers.

Nothing is faked but the passing of time (see ``spaces.py``). What is asserted is what the rest of
the hub relies on; that MongoDB uses its indexes is in ``test_indexes.py``, encryption in
``test_sealing.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from hub.documents import CORE, Entry, FeedRow, InboxItem, Removed, State
from hub.ids import SpaceKey
from hub.space import claim_space
from hub.store.codec import MAX_ITEM_BYTES
from hub.store.interface import (
    Commit,
    Fenced,
    LaneLease,
    Lease,
    NewerSchema,
    NotStorable,
    Store,
    StoreError,
    WrongSpace,
)
from tests.store.spaces import NOW, Kind, LaterThing, Space, Thing, item

MIB = 1024 * 1024


def things(*names: str, **fields: Any) -> list[Thing]:
    return [Thing(id=name, name=name, **fields) for name in names]


# --- tables: one document ------------------------------------------------------------------------


async def test_what_was_inserted_is_read_back_as_it_was(store: Store) -> None:
    thing = Thing(
        id="a",
        name="你好 \N{GRINNING FACE}",
        n=-(2**62),
        on=True,
        at=NOW,
        tags=("x", "y"),
        data={"deep": {"list": [1, None, 2.5, "t"], "empty": {}}, "big": 2**40},
    )
    table = store.table(Thing)
    assert await table.insert([thing]) == set()
    assert await table.get("a") == thing


async def test_a_document_that_was_read_can_be_stored_and_sent_again(store: Store) -> None:
    """Integers above 32 bits come back as plain integers, which every encoder takes."""
    table = store.table(Thing)
    await table.put([Thing(id="a", data={"uid": 5_000_000_000, "many": [2**53]})])
    found = await table.get("a")
    assert found is not None
    assert msgspec.json.encode(found.data) == b'{"uid":5000000000,"many":[9007199254740992]}'
    await table.put([replace(found, n=1)])
    assert await table.get("a") == replace(found, n=1)


async def test_a_document_that_was_read_is_a_copy(store: Store) -> None:
    table = store.table(Thing)
    await table.put([Thing(id="a", data={"list": [1]})])
    found = await table.get("a")
    assert found is not None
    found.data["list"].append(2)
    again = await table.get("a")
    assert again is not None
    assert again.data == {"list": [1]}


async def test_times_are_utc_and_cut_to_milliseconds(store: Store) -> None:
    east = datetime(2026, 3, 2, 17, 0, 0, 123_456, tzinfo=UTC).astimezone()
    table = store.table(Thing)
    await table.put([Thing(id="a", at=east, data={"at": east})])
    found = await table.get("a")
    assert found is not None
    assert found.at == found.data["at"] == datetime(2026, 3, 2, 17, 0, 0, 123_000, tzinfo=UTC)
    assert found.at is not None
    assert found.at.utcoffset() == timedelta(0)


async def test_unknown_ids_are_no_error(store: Store) -> None:
    table = store.table(Thing)
    await table.insert(things("a", "b"))
    assert await table.get("z") is None
    assert await table.get(None) is None
    assert set(await table.get_many(["a", "z"])) == {"a"}
    assert await table.known(["b", "z", "b"]) == {"b"}
    assert await table.get_many([]) == {}
    assert await table.known(iter(())) == set()


async def test_inserting_leaves_what_is_there_and_says_what_it_was(store: Store) -> None:
    table = store.table(Thing)
    await table.insert(things("b", n=1))
    assert await table.insert(things("a", "b", "c", n=2)) == {"b"}
    assert {thing.id: thing.n for thing in await table.find({})} == {"a": 2, "b": 1, "c": 2}
    assert await table.insert([]) == set()


async def test_of_two_with_one_id_in_one_call_the_first_is_inserted(store: Store) -> None:
    table = store.table(Thing)
    assert await table.insert([Thing(id="a", n=1), Thing(id="a", n=2)]) == {"a"}
    assert (await table.get_many(["a"]))["a"].n == 1


async def test_put_inserts_and_replaces_whole_documents(store: Store) -> None:
    table = store.table(Thing)
    await table.insert([Thing(id="a", n=1, data={"old": 1})])
    await table.put([Thing(id="a", on=True), Thing(id="b")])
    await table.put([])
    assert await table.get("a") == Thing(id="a", on=True)
    assert await table.get("b") == Thing(id="b")


async def test_swap_replaces_only_what_is_as_expected(store: Store) -> None:
    table = store.table(Thing)
    assert not await table.swap(Thing(id="a", n=1), {}), "there is nothing to replace"
    assert await table.get("a") is None
    await table.insert([Thing(id="a", n=1)])
    assert not await table.swap(Thing(id="a", n=9), {"n": 2})
    assert await table.swap(Thing(id="a", n=2), {"n": 1, "on": None})
    assert await table.get("a") == Thing(id="a", n=2)


async def test_of_many_swaps_at_once_each_counts_once(store: Store, other: Store) -> None:
    await store.table(State).insert([State(id="counter", value={"n": 0}, rev=1)])

    async def count(mine: Store) -> None:
        table = mine.table(State)
        done = 0
        while done < 5:
            held = await table.get("counter")
            assert held is not None
            more = State(id="counter", value={"n": held.value["n"] + 1}, rev=held.rev + 1)
            done += await table.swap(more, {"rev": held.rev})

    await asyncio.gather(*(count(each) for each in (store, other, store, other)))
    assert await store.table(State).get("counter") == State(id="counter", value={"n": 20}, rev=21)


@pytest.mark.parametrize(
    "bad",
    [
        Thing(id="bad", n=2**63),
        Thing(id="bad", data={"n": -(2**63) - 1}),
        Thing(id="bad", name="\ud800"),
        Thing(id="bad", data={"nul\0": 1}),
        Thing(id="bad", data={"much": "x" * (17 * MIB)}),
        Thing(id="bad", data={"what": object()}),
    ],
    ids=["int", "deep int", "surrogate", "NUL in a name", "too large", "no value"],
)
async def test_what_can_never_be_stored_is_said_and_nothing_of_the_call_is(
    store: Store, bad: Thing
) -> None:
    table = store.table(Thing)
    await table.insert([Thing(id="there", n=1)])
    for write in (table.insert, table.put):
        with pytest.raises(NotStorable):
            await write([Thing(id="a"), bad])
    with pytest.raises(NotStorable):
        await table.swap(msgspec.structs.replace(bad, id="there"), {})
    assert await table.find({}) == [Thing(id="there", n=1)]


async def test_a_document_of_a_later_release_is_refused(store: Store) -> None:
    await store.table(LaterThing).insert([LaterThing(id="a")])
    table = store.table(Thing)
    for read in (lambda: table.get("a"), lambda: table.find({})):
        with pytest.raises(NewerSchema, match=r"x_suite_things a has schema 2.*newer release"):
            await read()
    assert await store.table(LaterThing).get("a") is not None


async def test_a_document_that_this_release_cannot_read_is_named(
    space: Space, store: Store
) -> None:
    await store.table(Thing).insert([Thing(id="a", n=1)])
    await space.tamper(Thing, "a", {"n": "one"})
    with pytest.raises(StoreError, match="x_suite_things a is not what this release writes"):
        await store.table(Thing).get("a")


async def test_a_document_that_is_only_just_too_large_is_said_to_be(store: Store) -> None:
    table = store.table(Thing)
    just = Thing(id="a", data={"much": "x" * (16 * MIB)})
    for write in (table.insert, table.put):
        with pytest.raises(NotStorable):
            await write([just])
    assert await table.find({}) == []


# --- tables: many --------------------------------------------------------------------------------


ROWS = [
    Thing(id="a", name="Ann", n=1, tags=("x", "y"), data={"who": {"name": "Li"}}),
    Thing(id="b", name="Bob", n=2, on=True, at=NOW, data={"list": [{"k": 1}, {"k": 5}]}),
    Thing(id="c", name="ann", n=3, at=NOW + timedelta(days=1), tags=("y",), data={"list": []}),
    Thing(id="d", n=2, at=NOW - timedelta(days=1), data={"who": None, "list": [{"k": 3}, {}]}),
]


CONDITIONS: list[tuple[dict[str, Any], str]] = [
    ({}, "abcd"),
    ({"name": "Ann"}, "a"),
    ({"name": None}, "d"),
    ({"name": "Ann", "n": 2}, ""),
    ({"n": {"$eq": 2}}, "bd"),
    ({"n": {"$ne": 2}}, "ac"),
    ({"n": 2.0}, "bd"),
    ({"n": True}, ""),
    ({"on": True}, "b"),
    ({"on": {"$ne": True}}, "acd"),
    ({"n": {"$in": [1, 3, "2"]}}, "ac"),
    ({"n": {"$nin": [1, 3]}}, "bd"),
    ({"n": {"$in": []}}, ""),
    ({"name": {"$in": [None, "Bob"]}}, "bd"),
    ({"n": {"$lt": 2}}, "a"),
    ({"n": {"$lte": 2}}, "abd"),
    ({"n": {"$gt": 2}}, "c"),
    ({"n": {"$gte": 2, "$lt": 3}}, "bd"),
    ({"n": {"$gt": 1.5}}, "bcd"),
    ({"n": {"$gt": "0"}}, ""),
    ({"at": {"$lt": NOW}}, "d"),
    ({"at": {"$gte": NOW}}, "bc"),
    ({"at": {"$gte": NOW + timedelta(microseconds=900)}}, "bc"),
    ({"at": {"$exists": False}}, "a"),
    ({"at": {"$exists": True}}, "bcd"),
    ({"name": {"$regex": "^[Aa]n"}}, "ac"),
    ({"name": {"$regex": "(?i)ANN"}}, "ac"),
    ({"tags": "y"}, "ac"),
    ({"tags": ["x", "y"]}, "a"),
    ({"tags": ("x", "y")}, "a"),
    ({"tags": {"$in": ["x", "z"]}}, "a"),
    ({"tags": {"$ne": "x"}}, "bcd"),
    ({"tags": {"$nin": ["x"]}}, "bcd"),
    ({"tags": {"$regex": "x|z"}}, "a"),
    ({"tags": {"$gt": "x"}}, "ac"),
    ({"data.who.name": "Li"}, "a"),
    ({"data.who": None}, "bcd"),
    ({"data.who": {"name": "Li"}}, "a"),
    ({"data.who.name": {"$exists": False}}, "bcd"),
    ({"data.list.k": 5}, "b"),
    ({"data.list.k": {"$gt": 2}}, "bd"),
    ({"data.list.k": {"$gt": 1, "$lt": 3}}, "b"),
    ({"data.list.k": None}, "ad"),
    ({"data.list.k": {"$ne": None}}, "bc"),
    ({"data.list": []}, "c"),
    ({"data.list": {"$in": [[], 7]}}, "c"),
    ({"$or": [{"n": 1}, {"name": "Bob", "n": 2}]}, "ab"),
    ({"n": 2, "$or": [{"on": True}, {"at": {"$lt": NOW}}]}, "bd"),
]


async def test_conditions(store: Store) -> None:
    """One world, every operator; the property in test_conditions.py looks for the rest."""
    table = store.table(Thing)
    for where, ids in CONDITIONS:
        await table.put(ROWS)
        assert sorted(thing.id for thing in await table.find(where)) == sorted(ids), where
        assert await table.count(where) == len(ids), where
        assert await table.delete(where) == len(ids), where
        assert await table.count({}) == len(ROWS) - len(ids), where


async def test_an_operator_that_is_not_shared_is_an_error_and_no_empty_answer(
    store: Store,
) -> None:
    await store.table(Thing).insert(ROWS)
    with pytest.raises((StoreError, ValueError), match=r"\$bogus"):
        await store.table(Thing).find({"n": {"$bogus": 1}})


async def test_results_come_sorted_and_limited(store: Store) -> None:
    table = store.table(Thing)
    await table.insert(ROWS)

    async def ids(*sort: tuple[str, int], limit: int = 0, **where: Any) -> str:
        return "".join([each.id for each in await table.find(where, sort=sort, limit=limit)])

    assert await ids(("n", 1), ("_id", -1)) == "adbc"
    assert await ids(("n", -1), ("_id", 1), limit=3) == "cbd"
    assert await ids(("at", 1), ("_id", 1)) == "adbc", "what is not there sorts first"
    assert await ids(("at", -1)) == "cbda"
    assert await ids(("data.who.name", -1), ("_id", 1), limit=2) == "ab"
    assert await ids(("_id", -1), n=2) == "db"
    assert await table.count({}, limit=3) == 3
    assert await table.count({"n": 2}, limit=3) == 2


async def test_numbers_are_ids_as_well(store: Store) -> None:
    table = store.table(FeedRow)
    rows = [FeedRow(id=n, type="t", at=NOW, recorded_at=NOW) for n in (3, 2**33, 1)]
    await table.insert(rows)
    found = await table.find({"_id": {"$gt": 1, "$lte": 2**33}}, sort=[("_id", 1)])
    assert [row.id for row in found] == [3, 2**33]
    assert type(found[1].id) is int


async def test_preparing_twice_or_at_once_is_harmless(store: Store, other: Store) -> None:
    await store.table(Thing).insert([Thing(id="a")])
    await asyncio.gather(store.prepare([*CORE, Thing]), other.prepare([*CORE, Thing]))
    await store.prepare([])
    assert await store.table(Thing).get("a") == Thing(id="a")
    generation, position = await store.router.position()
    assert (generation > 0, position) == (True, 0)


async def test_a_store_that_is_there_can_be_pinged(store: Store) -> None:
    assert await store.ping() is None


async def test_a_database_belongs_to_one_space(store: Store) -> None:
    await claim_space(store, SpaceKey(b"1" * 32), "none")
    await claim_space(store, SpaceKey(b"1" * 32), "none")
    with pytest.raises(WrongSpace, match=r"another space key.*data_dir/space\.key"):
        await claim_space(store, SpaceKey(b"2" * 32), "none")
    with pytest.raises(WrongSpace, match="encrypt = 'none'"):
        await claim_space(store, SpaceKey(b"1" * 32), "addresses")


# --- the inbox -----------------------------------------------------------------------------------


async def test_an_item_is_stored_once_however_often_it_is_put(store: Store) -> None:
    first = item(raw=b"first")
    assert await store.inbox.put([first]) == [None]
    assert await store.inbox.put([replace(first, raw=b"second"), item()]) == [None, None]
    held = await store.table(InboxItem).get(first.id)
    assert held is not None
    assert held.raw == b"first"
    assert await store.table(InboxItem).count({}) == 2
    assert await store.inbox.put([]) == []


async def test_what_can_never_be_stored_has_its_own_error_and_fails_no_neighbour(
    store: Store,
) -> None:
    group = [
        item(raw=b"1"),
        item(raw=b"x" * (MAX_ITEM_BYTES + 1)),
        item(raw=b"2"),
        item(failed="ValueError: \ud800"),
        item(operation="\udfff"),
        item(addresses=("a" * MIB,) * 16),
        item(raw=b"3", drafts=b"{}"),
    ]
    results = await store.inbox.put(group)
    assert [type(result) for result in results] == [
        type(None),
        NotStorable,
        type(None),
        NotStorable,
        NotStorable,
        NotStorable,
        type(None),
    ]
    assert f"{group[1].id} has {MAX_ITEM_BYTES + 1} bytes" in str(results[1])
    assert [each.raw for each in await store.inbox.unrouted(10, MIB)] == [b"1", b"2", b"3"]


async def test_an_item_just_under_the_bound_is_stored(store: Store) -> None:
    large = item(raw=b"x" * MAX_ITEM_BYTES)
    assert await store.inbox.put([large]) == [None]
    assert await store.table(InboxItem).get(large.id) == large


async def test_open_items_come_in_the_order_of_their_ids(store: Store) -> None:
    items = [item(id=f"in_{n}", raw=b"%d" % n) for n in range(6)]
    await store.inbox.put([items[4], items[1], items[3]])
    await store.inbox.put([items[0], items[2]])
    await store.inbox.put([item(id="in_05", open=False), item(id="in_15", open=False, held=True)])
    assert await store.inbox.unrouted(10, MIB) == items[:5]
    assert await store.inbox.unrouted(2, MIB) == items[:2]


async def test_a_batch_of_items_is_bounded_in_bytes_but_never_empty(store: Store) -> None:
    items = [item(id=f"in_{n}", raw=b"x" * 60, drafts=b"y" * 40) for n in range(4)]
    await store.inbox.put(items)
    assert len(await store.inbox.unrouted(10, 300)) == 3
    assert len(await store.inbox.unrouted(10, 299)) == 2
    assert len(await store.inbox.unrouted(10, 1)) == 1


async def test_the_backlog_is_what_is_open(store: Store) -> None:
    assert await store.inbox.backlog() == (0, 0, None)
    await store.inbox.put(
        [
            item(id="in_2", raw=b"x" * 1000, received_at=NOW + timedelta(seconds=2)),
            item(id="in_1", raw=b"x" * 1000, received_at=NOW + timedelta(seconds=1)),
            item(id="in_0", open=False),
        ]
    )
    count, size, oldest = await store.inbox.backlog()
    assert (count, oldest) == (2, NOW + timedelta(seconds=1))
    assert 1500 < size < 3000, "a bound needs no more than the average over the inbox"


async def test_routed_items_can_be_opened_again(store: Store) -> None:
    routed = item(open=False, routed_at=NOW, expire_at=NOW)
    held = item(open=False, held=True)
    await store.inbox.put([routed, held, item(open=False)])
    assert await store.inbox.reopen([routed.id, held.id, "in_unknown"]) == 2
    assert await store.inbox.unrouted(10, MIB) == [
        replace(routed, open=True, routed_at=None, expire_at=None),
        replace(held, open=True, held=False),
    ]


async def test_held_items_are_released_for_one_account(store: Store) -> None:
    mine = [item(id=f"in_{n}", open=False, held=True) for n in (1, 2)]
    others = [item(account="second", open=False, held=True), item(channel="mail", open=False)]
    await store.inbox.put([*mine, *others])
    assert await store.inbox.release("chat", "main") == 2
    assert await store.inbox.release("chat", "main") == 0
    assert [each.id for each in await store.inbox.unrouted(10, MIB)] == ["in_1", "in_2"]
    assert await store.table(InboxItem).count({"held": True}) == 1


async def test_redacted_items_keep_only_that_they_were_there(store: Store) -> None:
    doomed = item(raw=b"raw", drafts=b"drafts", raw_blob="blb_1", addresses=("adr_1", "adr_2"))
    kept = item(raw=b"raw", addresses=("adr_3",))
    await store.inbox.put([doomed, kept])
    assert await store.inbox.redact({"addresses": {"$in": ["adr_2", "adr_9"]}}) == 1
    found = await store.table(InboxItem).get_many([doomed.id, kept.id])
    assert found[doomed.id] == replace(doomed, raw=b"", drafts=b"", raw_blob=None)
    assert found[kept.id] == kept


# --- the router's lease --------------------------------------------------------------------------


async def took(store: Store, owner: str = "one", seconds: float = 5.0) -> Lease:
    lease = await store.router.take(owner, seconds)
    assert lease is not None
    return lease


async def test_one_at_a_time_holds_the_lease(store: Store, other: Store) -> None:
    assert await store.router.holder() == ("", False)
    lease = await took(store)
    assert (lease.owner, lease.position, lease.former) == ("one", 0, "")
    assert await other.router.take("two", 5.0) is None
    assert await other.router.holder() == ("one", True)
    await store.router.release(lease)
    assert await store.router.holder() == ("", False)
    after = await took(other, "two")
    assert after.epoch > lease.epoch
    assert after.former == "", "it was given back in order"


async def test_only_one_of_many_gets_a_free_lease(store: Store, other: Store) -> None:
    takes = [each.router.take(f"o{n}", 5.0) for n, each in enumerate((store, other) * 4)]
    leases = [lease for lease in await asyncio.gather(*takes) if lease]
    assert len(leases) == 1
    assert await store.router.holder() == (leases[0].owner, True)


async def test_a_lease_ends_by_the_stores_time_and_its_former_holder_is_named(
    space: Space, store: Store, other: Store
) -> None:
    lease = await took(store, seconds=5.0)
    await space.later(4.9)
    assert await other.router.take("two", 5.0) is None
    await space.later(0.2)
    assert await store.router.holder() == ("", False)
    after = await took(other, "two")
    assert after.former == "one"
    assert not await store.router.renew(lease, 5.0)
    await store.router.release(lease)
    assert await store.router.holder() == ("two", True), "a stale release takes nothing away"


async def test_renewing_keeps_the_lease(space: Space, store: Store, other: Store) -> None:
    lease = await took(store, seconds=5.0)
    await space.later(4.0)
    assert await store.router.renew(lease, 5.0)
    await space.later(4.0)
    assert await other.router.take("two", 5.0) is None
    await space.later(2.0)
    assert await store.router.renew(lease, 5.0), "it has ended, but nobody has taken it"
    assert await store.router.holder() == ("one", True)


async def test_the_holder_may_take_its_own_lease_again_at_once(store: Store) -> None:
    before = await took(store)
    after = await took(store)
    assert after.epoch == before.epoch + 1
    assert after.former == "", "it has crashed nothing"
    assert not await store.router.renew(before, 5.0)
    assert await store.router.renew(after, 5.0)


async def test_the_suspect_is_kept_until_a_commit_names_another(
    space: Space, store: Store, other: Store
) -> None:
    lease = await took(store)
    await store.router.mark_suspect(lease, "in_7")
    await space.later(10)
    after = await took(other, "two")
    assert (after.former, after.suspect) == ("one", "in_7")
    with pytest.raises(Fenced):
        await store.router.mark_suspect(lease, "in_8")
    await other.router.commit(commit(after, 1, suspect="in_8"), 5.0)
    assert (await took(other, "two")).suspect == "in_8"
    await other.router.commit(commit(await took(other, "two"), 2), 5.0)
    assert (await took(other, "two")).suspect == ""


# --- the router's commit -------------------------------------------------------------------------


def commit(lease: Lease, position: int, **fields: Any) -> Commit:
    return Commit(
        lease=lease,
        position=position,
        routed_at=NOW,
        expire_at=NOW + timedelta(days=30),
        **fields,
    )


def entry(ident: str, position: int = 1) -> Entry:
    return Entry(
        id=ident,
        address="adr_1",
        position=position,
        at=NOW,
        received_at=NOW,
        channel="chat",
        account="main",
    )


async def test_a_commit_changes_everything_it_names(store: Store) -> None:
    routed, gone, waiting = (item(raw=b"raw", drafts=b"d", raw_blob="b") for _ in range(3))
    await store.inbox.put([routed, gone, waiting])
    await store.table(Thing).insert([Thing(id="old", n=1)])
    lease = await took(store)
    await store.router.commit(
        commit(
            lease,
            4,
            inserts=[entry("ent_1", 3), Thing(id="new"), entry("ent_2", 4)],
            replaces=[Thing(id="old", n=2), Thing(id="upserted")],
            routed=[routed.id, gone.id, "in_unknown"],
            redact=[gone.id],
        ),
        5.0,
    )
    assert await store.table(Entry).known(["ent_1", "ent_2"]) == {"ent_1", "ent_2"}
    found = await store.table(Thing).find({}, sort=[("_id", 1)])
    assert found == [Thing(id="new"), Thing(id="old", n=2), Thing(id="upserted")]
    marked = {"open": False, "routed_at": NOW, "expire_at": NOW + timedelta(days=30)}
    assert await store.table(InboxItem).get_many([routed.id, gone.id, waiting.id]) == {
        routed.id: replace(routed, **marked),
        gone.id: replace(gone, raw=b"", drafts=b"", raw_blob=None, **marked),
        waiting.id: waiting,
    }
    assert await store.router.position() == (lease.generation, 4)
    assert (await took(store)).position == 4


async def test_a_commit_renews_the_lease(space: Space, store: Store, other: Store) -> None:
    lease = await took(store, seconds=5.0)
    await space.later(4.0)
    await store.router.commit(commit(lease, 1), 5.0)
    await space.later(4.0)
    assert await other.router.take("two", 5.0) is None


async def test_a_stale_lease_commits_nothing(space: Space, store: Store, other: Store) -> None:
    waiting = item()
    await store.inbox.put([waiting])
    stale = await took(store)
    await space.later(10)
    await took(other, "two")
    with pytest.raises(Fenced):
        await store.router.commit(
            commit(stale, 9, inserts=[entry("ent_1")], routed=[waiting.id], redact=[waiting.id]),
            5.0,
        )
    assert await store.table(Entry).count({}) == 0
    assert await store.inbox.unrouted(10, MIB) == [waiting]
    assert (await store.router.position())[1] == 0
    assert await other.router.holder() == ("two", True)


async def test_who_never_took_a_lease_commits_nothing(store: Store, other: Store) -> None:
    lease = await took(store)
    forged = replace(lease, owner="two")
    with pytest.raises(Fenced):
        await other.router.commit(commit(forged, 1, inserts=[entry("ent_1")]), 5.0)
    assert await store.table(Entry).count({}) == 0


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ([entry("ent_there")], StoreError),
        ([entry("ent_twice"), entry("ent_twice")], StoreError),
        ([Thing(id="bad", n=2**63)], NotStorable),
        ([Thing(id="bad", name="\ud800")], NotStorable),
    ],
    ids=["duplicate", "twice in one", "int", "surrogate"],
)
async def test_a_commit_is_all_or_nothing_and_the_lease_goes_on(
    store: Store, bad: list[Any], error: type[StoreError]
) -> None:
    waiting = item()
    await store.inbox.put([waiting])
    await store.table(Entry).insert([entry("ent_there")])
    await store.table(Thing).insert([Thing(id="old", n=1)])
    lease = await took(store)
    good = commit(
        lease,
        5,
        inserts=[entry("ent_new"), Thing(id="new")],
        replaces=[Thing(id="old", n=2)],
        routed=[waiting.id],
        suspect="in_1",
    )
    with pytest.raises(error):
        await store.router.commit(msgspec.structs.replace(good, inserts=[*good.inserts, *bad]), 5.0)
    assert [each.id for each in await store.table(Entry).find({})] == ["ent_there"]
    assert await store.table(Thing).find({}) == [Thing(id="old", n=1)]
    assert await store.inbox.unrouted(10, MIB) == [waiting]
    assert (await store.router.position())[1] == 0
    await store.router.commit(good, 5.0)
    assert (await store.router.position())[1] == 5
    assert await store.table(Thing).get("old") == Thing(id="old", n=2)


async def test_one_after_the_other_commits_under_one_lease(store: Store) -> None:
    lease = await took(store)
    for position in range(1, 6):
        made = entry(f"ent_{position}", position)
        await store.router.commit(commit(lease, position, inserts=[made]), 5.0)
    assert await store.table(Entry).count({}) == 5
    assert (await store.router.position())[1] == 5


# --- lanes ---------------------------------------------------------------------------------------


async def claimed(store: Store, lane: str, owner: str = "one", seconds: float = 30) -> LaneLease:
    (lease,) = await store.lanes.claim([lane], owner, seconds)
    return lease


async def test_no_lane_is_claimed_twice_and_none_is_left(store: Store, other: Store) -> None:
    lanes = [f"send:{n}" for n in range(40)]
    claims = [
        each.lanes.claim(lanes[n:] + lanes[:n], f"worker {n}", 30)
        for n, each in enumerate((store, other, store, other, store, other))
    ]
    leases = [lease for group in await asyncio.gather(*claims) for lease in group]
    assert sorted(lease.lane for lease in leases) == sorted(lanes)
    assert await store.lanes.parked() == set(lanes)
    assert await store.lanes.claim(lanes, "late", 30) == []


async def test_claiming_nothing_or_a_lane_twice_is_harmless(store: Store) -> None:
    assert await store.lanes.claim([], "one", 30) == []
    leases = await store.lanes.claim(["a", "b", "a"], "one", 30)
    assert sorted(lease.lane for lease in leases) == ["a", "b"]


async def test_a_lane_is_free_again_once_it_is_given_back(store: Store, other: Store) -> None:
    lease = await claimed(store, "a")
    assert await other.lanes.claim(["a"], "two", 30) == []
    await store.lanes.release(lease)
    assert await store.lanes.parked() == set()
    assert (await claimed(other, "a", "two")).token != lease.token


async def test_a_parked_lane_is_nobodys_until_its_time_has_come(space: Space, store: Store) -> None:
    lease = await claimed(store, "a")
    await store.lanes.release(lease, park_s=60)
    assert await store.lanes.parked() == {"a"}
    assert not await store.lanes.renew(lease, 30), "who parked it has it no more"
    await space.later(59)
    assert await store.lanes.claim(["a"], "one", 30) == []
    await space.later(2)
    assert await store.lanes.parked() == set()
    assert await claimed(store, "a")


async def test_a_lane_ends_by_the_stores_time_and_its_old_lease_is_worth_nothing(
    space: Space, store: Store, other: Store
) -> None:
    old = await claimed(store, "a", seconds=30)
    await space.later(29)
    assert await other.lanes.claim(["a"], "two", 30) == []
    await space.later(2)
    new = await claimed(other, "a", "two")
    assert not await store.lanes.renew(old, 30)
    await store.lanes.release(old)
    await store.lanes.release(old, park_s=99)
    assert await store.lanes.claim(["a"], "three", 30) == []
    assert await other.lanes.renew(new, 30)


async def test_renewing_keeps_a_lane_even_late_as_long_as_nobody_has_it(
    space: Space, store: Store
) -> None:
    lease = await claimed(store, "a", seconds=30)
    await space.later(25)
    assert await store.lanes.renew(lease, 30)
    await space.later(25)
    assert await store.lanes.claim(["a"], "two", 30) == []
    await space.later(10)
    assert await store.lanes.renew(lease, 30)
    assert await store.lanes.parked() == {"a"}


async def test_a_removed_document_goes_with_the_commit(store: Store) -> None:
    lease = await took(store, "one")
    await store.router.commit(commit(lease, 2, inserts=[entry("ent_1"), entry("ent_2")]), 5.0)
    gone = [Removed(id="ent_1", of="entries"), Removed(id="ent_none", of="entries")]
    await store.router.commit(commit(lease, 3, replaces=[*gone, entry("ent_2", 3)]), 5.0)
    held = await store.table(Entry).get_many(["ent_1", "ent_2"])
    assert {ident: each.position for ident, each in held.items()} == {"ent_2": 3}


# --- blobs ---------------------------------------------------------------------------------------


async def pieces(size: int, count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number % 256]) * size


async def test_a_blob_is_read_as_it_was_put(store: Store) -> None:
    blob = await store.blobs.put(b"hello", metadata={"kind": "raw", "n": 2**40})
    assert await store.blobs.read(blob) == b"hello"
    assert [chunk async for chunk in store.blobs.stream(blob)] == [b"hello"]
    assert await store.blobs.metadata(blob) == {"kind": "raw", "n": 2**40}
    assert await store.blobs.marked("kind", "raw") == [blob]
    assert await store.blobs.marked("kind", "other") == []
    empty = await store.blobs.put(b"")
    assert await store.blobs.read(empty) == b""
    assert await store.blobs.metadata(empty) == {}


async def test_a_blob_may_be_larger_than_any_document(store: Store) -> None:
    blob = await store.blobs.put(pieces(MIB, 17))
    whole = await store.blobs.read(blob)
    assert whole == b"".join([each async for each in pieces(MIB, 17)])
    first = None
    stream = store.blobs.stream(blob)
    async for chunk in stream:
        first = chunk
        break
    assert first is not None
    assert whole.startswith(first)
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_blob_that_is_not_there_is_said_so(store: Store) -> None:
    blob = await store.blobs.put(b"x")
    await store.blobs.delete(blob)
    await store.blobs.delete(blob)
    with pytest.raises(StoreError, match=f"the blob {blob} is not there"):
        await store.blobs.read(blob)
    with pytest.raises(StoreError, match="not there"):
        _ = [chunk async for chunk in store.blobs.stream("blb_never")]
    assert await store.blobs.metadata(blob) is None


async def test_a_blob_whose_source_breaks_is_not_there(space: Space, store: Store) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * MIB
        raise ConnectionError("the vendor hung up")

    with pytest.raises(ConnectionError):
        await store.blobs.put(broken())
    left = await space.raw()
    assert not left.get("blobs.files")
    assert not left.get("blobs.chunks")


async def test_without_a_key_a_blob_that_should_be_sealed_is_stored_as_it_is(
    store: Store,
) -> None:
    blob = await store.blobs.put(b"x", sealed=True)
    assert await store.blobs.read(blob) == b"x"


# --- signals -------------------------------------------------------------------------------------


async def test_a_hint_reaches_whoever_listens_in_whatever_process(
    store: Store, other: Store, store_kind: Kind
) -> None:
    heard: list[asyncio.Future[tuple[str, Any]]] = []

    async def first(mine: Store) -> tuple[str, Any]:
        listening = mine.signals.listen()
        try:
            async for hint in listening:
                return hint
        finally:
            await listening.aclose()  # type: ignore[attr-defined]
        raise AssertionError("the hints ended")

    heard = [asyncio.ensure_future(first(each)) for each in (store, other)]
    async with asyncio.timeout(20):
        while not all(each.done() for each in heard):  # what came before it listened is lost
            await store.signals.publish("typing", {"who": "ann", "n": 2**40})
            await asyncio.wait(heard, timeout=0.05)
    assert [each.result() for each in heard] == [("typing", {"who": "ann", "n": 2**40})] * 2


async def test_hints_without_a_listener_are_lost_and_no_error(store: Store) -> None:
    assert await store.signals.publish("typing", {}) is None


# --- the end -------------------------------------------------------------------------------------


async def test_a_plugins_documents_are_stored_like_the_cores(store: Store) -> None:
    class Note(Thing, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
        collection = "x_suite_notes"

    await store.prepare([Note])
    await store.table(Note).insert([Note(id="a", tags=("t",))])
    assert await store.table(Note).find({"tags": "t"}) == [Note(id="a", tags=("t",))]
    assert await store.table(Thing).count({}) == 0
