"""Timelines over HTTP: order, pages, filters, and the cursor's honesty."""

from __future__ import annotations

import time
from typing import Any

import pymongo
import pytest

from hub.api.timelines import SLICE, behind
from hub.documents import AddressDoc, Customer, Entry
from hub.ids import new_id
from tests.support.hubs import RunningHub


async def pages(
    api: RunningHub, customer: str, limit: int, **params: str
) -> list[list[dict[str, Any]]]:
    """Return all pages of a timeline."""
    found = []
    before = ""
    while True:
        more = {"before": before} if before else {}
        page = await api.get(
            f"/api/v1/customers/{customer}/timeline", params={"limit": limit, **more, **params}
        )
        found.append(page["entries"])
        before = page["next_cursor"]
        if before is None:
            return found


async def test_a_message_is_read_back_from_the_timeline(api: RunningHub) -> None:
    entry = await api.message("你好 Omniline")
    customer = await api.customer("ann")
    page = await api.get(f"/api/v1/customers/{customer}/timeline")
    assert [each["id"] for each in page["entries"]] == [entry.id]
    assert page["entries"][0]["text"] == "你好 Omniline"
    assert page["next_cursor"] is None


async def test_pages_hold_every_entry_once_newest_first_even_within_one_millisecond(
    api: RunningHub,
) -> None:
    now = int(time.time() * 1000) - 60_000
    for number in range(9):
        await api.message(f"n{number}", at_ms=now + number // 4)
    customer = await api.customer("ann")
    found = await pages(api, customer, 2)
    assert [len(page) for page in found] == [2, 2, 2, 2, 1]
    texts = [entry["text"] for page in found for entry in page]
    assert texts == [f"n{number}" for number in reversed(range(9))]


async def test_the_last_full_page_has_no_cursor_behind_it(api: RunningHub) -> None:
    for number in range(4):
        await api.message(f"n{number}")
    assert [len(page) for page in await pages(api, await api.customer("ann"), 2)] == [2, 2]


async def test_a_timeline_merges_the_addresses_of_the_customer(api: RunningHub) -> None:
    now = int(time.time() * 1000) - 60_000
    await api.message("first", sender="ann", at_ms=now)
    await api.message("second", sender="bob", at_ms=now + 1000)
    await api.message("third", sender="ann", at_ms=now + 2000)
    ann = await api.customer("ann")
    bob = await api.customer("bob")
    merged = await api.post(f"/api/v1/customers/{ann}/merge", {"other": bob})
    assert merged.status == 200, merged
    page = await api.get(f"/api/v1/customers/{bob}/timeline")
    said = [entry["text"] for entry in page["entries"] if entry["kind"] == "message"]
    assert said == ["third", "second", "first"]
    assert (page["customer"], page["merged_from"]) == (ann, bob)


async def test_words_are_searched_as_they_are_written(api: RunningHub) -> None:
    await api.message("what about order 17.5?")
    await api.message("order 1705")
    await api.message("退货怎么办")
    customer = await api.customer("ann")

    async def hits(q: str) -> list[str]:
        return [entry["text"] for page in await pages(api, customer, 50, q=q) for entry in page]

    assert await hits("17.5") == ["what about order 17.5?"]
    assert await hits("退货") == ["退货怎么办"]
    assert await hits("ORDER") == ["order 1705", "what about order 17.5?"]
    assert await hits("(") == []


async def test_only_one_channel_is_shown_when_asked(api: RunningHub) -> None:
    await api.message("hello")
    customer = await api.customer("ann")
    noted = await api.post(f"/api/v1/customers/{customer}/notes", {"text": "seems upset"})
    assert noted.status == 201, noted
    kinds = {e["kind"] for p in await pages(api, customer, 50) for e in p}
    assert kinds == {"message", "note"}
    assert [len(page) for page in await pages(api, customer, 50, channel="sample")] == [1]


@pytest.mark.parametrize("count", [10, 250])
async def test_many_addresses_are_one_timeline_read_by_the_index_in_order(
    api: RunningHub, count: int
) -> None:
    """250 addresses take three questions; none sorts in memory or reads what it does not show."""
    now = api.hub.clock.now()
    customer = new_id("cus")
    docs = [
        AddressDoc(
            id=api.address_id(f"s{number}"),
            scheme="sample",
            address=str(api.address(f"s{number}")),
            channel="sample",
            account="main",
            customer=customer,
        )
        for number in range(count)
    ]
    entries = [
        Entry(
            id=new_id("ent"),
            address=docs[number % count].id,
            position=number + 1,
            at=now.fromtimestamp(1_700_000_000 + number // 3, now.tzinfo),
            received_at=now,
            channel="sample",
            account="main",
        )
        for number in range(2 * count)
    ]
    store = api.hub.store
    await store.table(AddressDoc).insert(docs)
    await store.table(Entry).insert(entries)
    await store.table(Customer).insert(
        [
            Customer(
                id=customer,
                addresses=tuple(doc.id for doc in docs),
                created_at=now,
                seen_at=now,
            )
        ]
    )
    found = [entry["id"] for page in await pages(api, customer, 7) for entry in page]
    assert found == [entry.id for entry in reversed(entries)]


@pytest.mark.parametrize("addresses", [1, 10, 100])
async def test_the_page_behind_a_cursor_is_a_sorted_merge_of_the_index(
    api: RunningHub, mongod_url: str, mongo_db_name: str, addresses: int
) -> None:
    """``explain`` shows no collection scan and no sort in memory."""
    assert addresses <= SLICE
    names = [f"adr_{number}" for number in range(addresses)]
    where = {"address": {"$in": names}, **behind((1_700_000_000_000, 5))}
    with pymongo.MongoClient(mongod_url) as client:
        entries = client[mongo_db_name]["entries"]
        plan = entries.find(where, sort=[("at", -1), ("position", -1)], limit=51).explain()
    text = str(plan["queryPlanner"]["winningPlan"])
    assert "COLLSCAN" not in text
    assert "'stage': 'SORT'" not in text
    assert "'stage': 'IXSCAN'" in text
    assert ("'stage': 'SORT_MERGE'" in text) == (addresses > 1)


async def test_a_cursor_is_good_for_its_own_list_only(api: RunningHub) -> None:
    for number in range(3):
        await api.message(f"n{number}")
    customer = await api.customer("ann")
    path = f"/api/v1/customers/{customer}/timeline"
    cursor = (await api.get(path, params={"limit": 1}))["next_cursor"]
    for params in (
        {"before": cursor, "q": "n"},
        {"before": cursor[:-4] + "AAAA"},
        {"before": "no cursor"},
        {"before": "é"},
    ):
        answered = await api.call("GET", path, params=params)
        assert (answered.status, answered.problem) == (400, "cursor-invalid"), params
    wrong_list = await api.call("GET", "/api/v1/customers", params={"cursor": cursor})
    assert wrong_list.problem == "cursor-invalid"


async def test_an_entry_shows_what_changed_it(api: RunningHub) -> None:
    await api.message("hello")
    customer = await api.customer("ann")
    replied = await api.post(
        f"/api/v1/customers/{customer}/replies", {"parts": [{"type": "text", "text": "hi"}]}
    )
    ident = replied.json["entry_id"]

    async def accepted() -> Any:
        found = await api.get(f"/api/v1/entries/{ident}")
        return found if found["entry"]["delivery"]["state"] == "accepted" else None

    found = await api.until("the send", accepted)
    assert found["customer"] == customer
    assert [(each["kind"], each["data"]["state"]) for each in found["changes"]] == [
        ("state", "accepted")
    ]
