"""Every query that the hub asks again and again is answered by an index, without sorting in memory.

Real: MongoDB, with enough documents that a scan would show. The queries are those of the modules
named beside them; of the timeline's cursor the module's own function is used.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from hub.api.timelines import behind
from hub.documents import (
    CORE,
    AmendmentDoc,
    Consent,
    ConsentChange,
    Conversation,
    Customer,
    DeadLetter,
    Doc,
    Entry,
    FeedRow,
    InboxItem,
    Job,
    Notice,
    TicketMap,
)
from hub.feed.reader import BY_CUSTOMER
from tests.store.spaces import NOW, Space, item, open_space

pytestmark = pytest.mark.real_mongo

ADDRESSES = [f"adr_{n:03}" for n in range(120)]
EACH = 5
COUNT = len(ADDRESSES) * EACH
HALF_WAY = (round((NOW + timedelta(seconds=300)).timestamp() * 1000), 300)


def documents() -> list[Doc]:
    docs: list[Doc] = []
    for n, address in enumerate(ADDRESSES * EACH):
        at = NOW + timedelta(seconds=n)
        docs += [
            Entry(
                id=f"ent_{n:04}",
                address=address,
                position=n,
                at=at,
                received_at=at,
                channel="chat",
                account="main",
                thread=f"thr_{n % 50}",
                seq=n // 50 if n % 2 else 0,
            ),
            FeedRow(
                id=n + 1,
                type="message.received",
                at=at,
                recorded_at=at,
                customer=f"cus_{n % 60}",
                address=address,
                followed=n % 2 == 0,
            ),
            Job(
                id=f"job_{n:04}",
                lane=f"send:{address}",
                kind="send" if n % 20 else "media",  # which other workers do
                position=n,
                due_at=at,
                live=n % 10 == 0,
                state="ready" if n % 10 == 0 else "done",
            ),
            item(
                id=f"in_{n:04}",
                open=n % 10 == 0,
                held=n % 10 == 1,
                account="main" if n % 20 < 10 else "second",
            ),
            AmendmentDoc(
                id=f"amd_{n:04}",
                target=f"ent_{n:04}",
                kind="recall",
                position=n,
                at=at,
                waiting=n % 30 == 0,
            ),
            Conversation(
                id=f"cnv_{n:04}",
                customer=f"cus_{n % 60}",
                root=address,
                policy="customer",
                state="closed" if n % 3 else "open",
                opened_at=at,
                active_at=at,
            ),
            Customer(id=f"cus_{n:04}", created_at=at, seen_at=at),
            TicketMap(
                id=f"tmp_{n:04}",
                backend="desk",
                conversation=f"cnv_{n:04}",
                key="k",
                requester="r",
                ticket=str(n),
            ),
            ConsentChange(
                id=f"cch_{n:04}",
                address=address,
                purpose="marketing",
                state="granted",
                at=at,
                recorded_at=at,
                position=n,
            ),
            Consent(id=f"con_{n:04}", address=address, purpose="marketing", state="granted", at=at),
            Notice(id=f"ent_{n:04}", address=address, purpose="marketing", due_at=at, position=n),
            DeadLetter(
                id=f"ded_{n:04}",
                kind="job",
                reason="r",
                stage="s",
                at=at,
                state="redriven" if n % 10 else "open",
            ),
        ]
    return docs


@pytest.fixture
async def space(request: pytest.FixtureRequest) -> AsyncIterator[Space]:
    async with open_space("pymongo", request, kinds=CORE) as opened:
        docs = sorted(documents(), key=lambda doc: doc.collection)
        for _, group in itertools.groupby(docs, key=lambda doc: doc.collection):
            same = list(group)
            await opened.store.table(type(same[0])).insert(same)
        yield opened


class Query:
    """A query, and how many documents it may look at (a sorted merge looks at one a branch)."""

    def __init__(
        self,
        kind: type[Doc],
        where: Mapping[str, Any],
        sort: Sequence[tuple[str, int]] = (),
        limit: int = 0,
        *,
        most: int,
        **options: Any,
    ) -> None:
        self.kind = kind
        self.where = where
        self.sort = sort
        self.limit = limit
        self.most = most
        self.options = options


NEWEST = (("at", -1), ("position", -1))
QUERIES = {
    **{
        f"timeline of {count} addresses, {name}": Query(
            Entry,
            {"address": {"$in": ADDRESSES[:count]}, **behind(place)},
            NEWEST,
            51,
            most=51 + 2 * count,
        )
        for count in (1, 10, 100)
        for name, place in (("first page", None), ("behind a cursor", HALF_WAY))
    },
    "router: last place in a thread": Query(
        Entry, {"thread": "thr_7", "seq": {"$gt": 0}}, [("seq", -1)], 1, most=1
    ),
    "router: amendments that wait": Query(
        AmendmentDoc, {"target": {"$in": ["ent_0030", "ent_0031"]}, "waiting": True}, most=1
    ),
    "router: open items": Query(
        InboxItem, {"open": True}, [("_id", 1)], 20, most=20, hint="open_by_open_id"
    ),
    "switches: held items": Query(
        InboxItem, {"channel": "chat", "account": "second", "held": True}, most=30
    ),
    "router: notices that a cap counts": Query(
        Notice,
        {
            "address": {"$in": ADDRESSES[7:9]},
            "purpose": "marketing",
            "due_at": {"$gt": NOW + timedelta(seconds=300)},
        },
        most=4,
    ),
    "gate: what an address said": Query(Consent, {"address": ADDRESSES[7]}, most=EACH),
    "consents: the newest words": Query(
        ConsentChange,
        {"address": {"$in": ADDRESSES[7:9]}},
        [("position", -1)],
        3,
        most=3 + 2,
    ),
    "feed: everything behind a position": Query(
        FeedRow, {"_id": {"$gt": 300, "$lte": 600}}, [("_id", 1)], 50, most=50
    ),
    "feed: a customer and its aliases": Query(
        FeedRow,
        {"customer": {"$in": ["cus_1", "cus_2", "cus_3"]}, "_id": {"$gt": 100, "$lte": 600}},
        [("_id", 1)],
        20,
        most=25,
        hint=BY_CUSTOMER,
    ),
    "feed: what the people of some addresses follow": Query(
        FeedRow,
        {"address": {"$in": ADDRESSES[:10]}, "followed": True, "_id": {"$gt": 200}},
        [("_id", 1)],
        20,
        most=30,
    ),
    "workers: what is due": Query(
        Job,
        {
            "live": True,
            "kind": {"$in": ["erase", "send", "ticket"]},
            "due_at": {"$lte": NOW + timedelta(days=1)},
            "lane": {"$nin": ["send:adr_010"]},
        },
        [("due_at", 1)],
        20,
        most=40,
    ),
    "workers: a lane": Query(
        Job, {"lane": "send:adr_010", "live": True}, [("position", 1)], 20, most=EACH
    ),
    "housekeeping: silence": Query(
        Conversation,
        {"state": "open", "active_at": {"$lt": NOW + timedelta(seconds=30)}},
        [("active_at", 1)],
        100,
        most=10,
    ),
    "tickets: whose is it": Query(TicketMap, {"backend": "desk", "ticket": "77"}, limit=1, most=1),
    "dead letters": Query(DeadLetter, {"state": "open"}, [("_id", -1)], 20, most=20),
    "customers": Query(Customer, {}, [("seen_at", -1), ("_id", -1)], 20, most=20),
}


def stages(plan: Any) -> set[str]:
    """Return the names of a winning plan's stages."""
    if isinstance(plan, dict):
        found = {plan["stage"]} if "stage" in plan else set()
        return found.union(*(stages(each) for each in plan.values()))
    return set().union(*(stages(each) for each in plan)) if isinstance(plan, list) else set()


async def test_no_query_scans_or_sorts(space: Space) -> None:
    assert space.driver is not None
    told = []
    for name, query in QUERIES.items():
        cursor = space.driver.collection(query.kind.collection).find(
            dict(query.where), sort=list(query.sort) or None, limit=query.limit, **query.options
        )
        plan = await cursor.explain()
        used = stages(plan["queryPlanner"]["winningPlan"])
        looked_at = plan["executionStats"]["totalDocsExamined"]
        found = plan["executionStats"]["nReturned"]
        if used & {"COLLSCAN", "SORT"} or looked_at > query.most or not found:
            told.append(f"{name}: {sorted(used)}, looked at {looked_at}, found {found}")
    assert not told, "\n".join(told)


async def test_the_check_sees_scans_and_sorts(space: Space) -> None:
    """Otherwise the test above would prove nothing."""
    assert space.driver is not None
    jobs = space.driver.collection(Job.collection)
    scan = await jobs.find({"reason": "x"}, sort=[("reason", 1)]).explain()
    assert {"COLLSCAN", "SORT"} <= stages(scan["queryPlanner"]["winningPlan"])
    assert scan["executionStats"]["totalDocsExamined"] == COUNT


async def test_every_declared_index_is_made_under_its_name(space: Space) -> None:
    assert space.driver is not None
    for kind in CORE:
        made = await space.driver.collection(kind.collection).index_information()
        own = len(made) - 1 if made else 0  # a collection is made with its first document or index
        assert own == len(kind.indexes), kind.collection
    inbox = await space.driver.collection("inbox").index_information()
    assert inbox["open_by_open_id"]["partialFilterExpression"] == {"open": True}
    jobs = await space.driver.collection("jobs").index_information()
    assert [each["key"] for each in jobs.values() if each.get("expireAfterSeconds") == 0] == [
        [("expire_at", 1)]
    ]
