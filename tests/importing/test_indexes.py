"""What an import made is found by its id, whatever else there is.

Real: MongoDB, its own explanation of each query.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from hub.documents import CORE, AddressDoc, Alias, Customer, Doc, Entry, InboxItem, Thread
from tests.store.spaces import NOW, item, open_space
from tests.store.test_indexes import stages

pytestmark = pytest.mark.real_mongo

ONE, COUNT, EACH = "imp_one", 300, 3
QUERIES: Mapping[type[Doc], Mapping[str, Any]] = {
    Entry: {"imported": ONE},
    Alias: {"imported": ONE},
    Thread: {"imports": ONE},
    AddressDoc: {"imports": ONE},
    Customer: {"imports": ONE},
    InboxItem: {"imported": ONE, "open": {"$exists": False}},
}


def documents() -> list[Doc]:
    """Few of them are of the import, the others are live or of another."""
    docs: list[Doc] = []
    for n in range(COUNT):
        by = ONE if n < EACH else "imp_two" if n < 2 * EACH else ""
        imports = (by,) if by else ()
        docs += [
            Entry(
                id=f"ent_{n}",
                address="adr_1",
                position=n,
                at=NOW,
                received_at=NOW,
                channel="chat",
                account="main",
                imported=by,
            ),
            Alias(id=f"als_{n}", entry=f"ent_{n}", imported=by),
            Thread(id=f"thk_{n}", address="adr_1", thread=f"thr_{n}", imports=imports),
            AddressDoc(id=f"adr_{n}", scheme="chat", imports=imports),
            Customer(id=f"cus_{n}", created_at=NOW, seen_at=NOW, imports=imports),
            item(id=f"in_{n}", imported=by, open=False),
        ]
    return docs


async def test_taking_back_looks_at_nothing_but_the_import(request: pytest.FixtureRequest) -> None:
    async with open_space("pymongo", request, kinds=CORE) as space:
        assert space.driver is not None
        docs = documents()
        for kind in QUERIES:
            same: list[Any] = [doc for doc in docs if type(doc) is kind]
            await space.store.table(kind).insert(same)
        for kind, where in QUERIES.items():
            found = space.driver.collection(kind.collection).find(dict(where), limit=100)
            plan = await found.explain()
            assert "COLLSCAN" not in stages(plan["queryPlanner"]["winningPlan"]), kind
            assert plan["executionStats"]["totalDocsExamined"] == EACH, kind
            assert plan["executionStats"]["nReturned"] == EACH, kind
