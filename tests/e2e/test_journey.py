"""Whole journeys through a real hub: visitors on the site, tickets in the desk, another channel.

Real: hub, MongoDB, HTTP, site connector, desk. The sample vendor is played by the test.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from hub.documents import AddressDoc, Customer, DeadLetter, Entry, InboxItem, Link
from hub.testing.samples.webhook import Push
from tests.support.hubs import RunningHub, running_hub

ORIGIN = "https://shop.example"
IDENTITY_KEY = "an-identity-key-of-at-least-32-bytes"
SITE = "/site/shop"
MORE = f"""
[[accounts]]
channel = "site"
key = "shop"
site_id = "shop-1"
origins = ["{ORIGIN}"]
identity_keys = [{{ kid = "k1", alg = "HS256", key = "{IDENTITY_KEY}" }}]

[[backends]]
type = "desk"
name = "desk"
"""


@pytest.fixture
async def hub(mongo_url: str, mongo_db_name: str, tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(mongo_url, mongo_db_name, tmp_path, more=MORE) as running:
        yield running


class Visitor:
    """A browser on the shop's page, by the REST fallback."""

    def __init__(self, hub: RunningHub) -> None:
        self._hub = hub
        self.visitor_token = ""
        self.access = ""
        self.cursor = ""

    async def arrive(self, user: str = "") -> dict[str, Any]:
        body: dict[str, Any] = {"visitor_token": self.visitor_token}
        if user:
            body["identity_token"] = _identity_token(user)
        answered = await self._hub.call(
            "POST", f"{SITE}/sessions", body, key="", headers={"Origin": ORIGIN}
        )
        assert answered.status == 201, answered
        opened: dict[str, Any] = answered.json
        self.access, self.cursor = opened["access_token"], opened["cursor"]
        self.visitor_token = opened.get("visitor_token") or self.visitor_token
        return opened

    async def _call(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        headers = {"Origin": ORIGIN, "Authorization": f"Bearer {self.access}"}
        answered = await self._hub.call(
            method,
            SITE + path,
            body,
            key="",
            headers={**headers, **more.pop("headers", {})},
            **more,
        )
        assert answered.status < 300, answered
        return answered.json

    async def write(self, text: str) -> dict[str, Any]:
        body = {"parts": [{"type": "text", "text": text}]}
        told: dict[str, Any] = await self._call(
            "POST", "/conversations/new/messages", body, once=str(uuid.uuid4())
        )
        return told

    async def messages(self) -> list[str]:
        """Every text that this session can see."""
        seen = []
        for each in (await self._call("GET", "/conversations"))["conversations"]:
            page = await self._call("GET", f"/conversations/{each['conversation_id']}/messages")
            seen += [part["text"] for one in page["messages"] for part in one["parts"]]
        return seen


def _identity_token(user: str) -> str:
    now = int(time.time())
    claims = {
        "iss": "shop-1",
        "sub": user,
        "aud": "omniline",
        "iat": now,
        "exp": now + 300,
        "jti": str(uuid.uuid4()),
        "name": "李伟",
    }
    return jwt.encode(claims, IDENTITY_KEY, algorithm="HS256", headers={"kid": "k1"})


async def _timeline(hub: RunningHub, customer: str) -> list[str]:
    page = await hub.get(f"/api/v1/customers/{customer}/timeline", params={"limit": 200})
    return [entry["text"] for entry in reversed(page["entries"]) if entry["kind"] == "message"]


async def _site_customers(hub: RunningHub) -> dict[str, str]:
    """Site address (its last part) -> customer."""
    docs = await hub.hub.store.table(AddressDoc).find({"scheme": "site"})
    return {doc.address.rsplit(":", 1)[1]: doc.customer or "" for doc in docs}


async def test_a_visitor_who_logs_in_becomes_one_customer_and_undone_two_again(
    hub: RunningHub,
) -> None:
    known, anonymous = Visitor(hub), Visitor(hub)
    await known.arrive("42")
    await known.write("last week's question")
    await anonymous.arrive()
    await anonymous.write("before the login")
    before = await _site_customers(hub)
    assert len(set(before.values())) == 2
    await anonymous.arrive("42")
    await anonymous.write("after the login")

    async def linked() -> list[Link]:
        return await hub.hub.store.table(Link).find({"kind": "link"})

    (link,) = await hub.until("the link", linked)
    owners = await _site_customers(hub)
    assert len(set(owners.values())) == 1
    customer = owners["42"]
    assert await _timeline(hub, customer) == [
        "last week's question",
        "before the login",
        "after the login",
    ]
    answered = await hub.call("DELETE", f"/api/v1/links/{link.id}")
    assert answered.status in (200, 202), answered
    assert await _site_customers(hub) == before
    assert await _timeline(hub, before["42"]) == ["last week's question", "after the login"]
    (other,) = set(before.values()) - {before["42"]}
    assert await _timeline(hub, other) == ["before the login"]


async def test_a_site_session_never_shows_another_channels_entries(hub: RunningHub) -> None:
    visitor = Visitor(hub)
    await visitor.arrive("42")
    await visitor.write("on the site")
    await hub.message("by another channel", sender="ann")
    site = (await _site_customers(hub))["42"]
    answered = await hub.post(
        f"/api/v1/customers/{site}/merge",
        {"other": await hub.customer("ann"), "evidence": {"kind": "agent", "note": "same voice"}},
    )
    assert answered.status in (200, 202), answered
    assert set(await _timeline(hub, site)) == {"on the site", "by another channel"}
    assert await visitor.messages() == ["on the site"]


async def test_an_answer_in_the_desk_reaches_the_visitor(hub: RunningHub) -> None:
    visitor = Visitor(hub)
    await visitor.arrive()
    await visitor.write("在吗？😀")

    async def ticket() -> Any:
        page = await hub.get("/api/v1/x/desk/tickets")
        return page["tickets"][0] if page["tickets"] else None

    opened = await hub.until("the ticket", ticket)
    answered = await hub.post(
        f"/api/v1/x/desk/tickets/{opened['id']}/answers", {"text": "您好，在的"}
    )
    assert answered.status in (200, 201, 202), answered

    async def arrived() -> bool:
        return "您好，在的" in await visitor.messages()

    await hub.until("the answer on the visitor's page", arrived)
    customer = next(iter((await _site_customers(hub)).values()))
    page = await hub.get(f"/api/v1/customers/{customer}/timeline")
    states = {each["text"]: each["delivery"] for each in page["entries"]}
    assert states["您好，在的"]["state"] == "accepted"
    detail = await hub.get(f"/api/v1/x/desk/tickets/{opened['id']}")
    assert [each["text"] for each in detail["entries"]] == ["在吗？😀", "您好，在的"]


async def test_solving_the_ticket_closes_the_conversation_and_a_message_reopens_both(
    hub: RunningHub,
) -> None:
    await hub.message("my order is late", sender="ann", ident="m1")
    customer = await hub.customer("ann")

    async def ticket() -> Any:
        page = await hub.get("/api/v1/x/desk/tickets")
        return page["tickets"][0] if page["tickets"] else None

    async def linked() -> Any:
        found = await hub.get(f"/api/v1/customers/{customer}")
        return [each for each in found["conversations"] if each["tickets"]]

    opened = await hub.until("the ticket", ticket)
    (conversation,) = await hub.until("the ticket on the conversation", linked)
    answered = await hub.call(
        "PATCH", f"/api/v1/x/desk/tickets/{opened['id']}", {"status": "solved"}
    )
    assert answered.status == 200, answered

    async def closed() -> bool:
        found = await hub.get(f"/api/v1/conversations/{conversation['id']}")
        return bool(found["state"] == "closed")

    await hub.until("the conversation to close", closed)
    await hub.message("it still is not here", sender="ann", ident="m2")

    async def reopened() -> bool:
        found = await ticket()
        return bool(found["status"] == "open")

    await hub.until("the ticket to reopen", reopened)
    found = await hub.get(f"/api/v1/conversations/{conversation['id']}")
    assert found["state"] == "open"
    assert (await hub.get("/api/v1/x/desk/tickets"))["tickets"][0]["id"] == opened["id"]


async def test_an_erased_person_stays_erased(hub: RunningHub) -> None:
    secret = "my address is 1 Hidden Lane"
    entry = await hub.message(secret, sender="ann", ident="m1")
    customer = await hub.customer("ann")
    answered = await hub.call("DELETE", f"/api/v1/customers/{customer}")
    assert answered.status in (200, 202), answered
    store = hub.hub.store

    async def gone() -> bool:
        items = await store.table(InboxItem).find({})
        return all(secret.encode() not in item.raw + item.drafts for item in items)

    await hub.until("the raw requests to go", gone)
    assert (await hub.call("GET", f"/api/v1/customers/{customer}")).status == 410
    await hub.message(secret, sender="ann", ident="m1")  # the vendor's late retry
    await hub.until("the retry's raw copy to go", gone)
    tombstone = await store.table(Entry).get(entry.id)
    assert tombstone is not None
    assert tombstone.erased
    assert tombstone.parts == ()
    fresh = await hub.message("hello again", sender="ann", ident="m2")
    assert await _timeline(hub, await hub.customer("ann")) == ["hello again"]
    assert await hub.customer("ann") != customer
    assert fresh.id != entry.id
    living = await store.table(Customer).find({"erased": {"$exists": False}})
    assert len(living) == 1
    assert await store.table(DeadLetter).count({}) == 0


async def test_a_long_history_is_erased_to_its_end(hub: RunningHub) -> None:
    count = 650
    secret = "the secret of message"
    now_ms = int(time.time() * 1000)
    for start in range(0, count, 50):
        await asyncio.gather(
            *(
                hub.push(Push(id=f"m{n}", sender="ann", at=now_ms, text=f"{secret} {n}"))
                for n in range(start, start + 50)
            )
        )
    store = hub.hub.store

    async def routed() -> bool:
        return await store.table(Entry).count({"address": hub.address_id("ann")}) == count

    await hub.until("all to be routed", routed)
    customer = await hub.customer("ann")
    answered = await hub.call("DELETE", f"/api/v1/customers/{customer}")
    assert answered.status in (200, 202), answered

    async def gone() -> bool:
        entries = await store.table(Entry).find({})
        items = await store.table(InboxItem).find({})
        said = any(entry.parts for entry in entries)
        kept = any(secret.encode() in item.raw + item.drafts for item in items)
        return not said and not kept

    await hub.until("everything to go", gone)
    assert await store.table(Entry).count({"erased": True}) == count
