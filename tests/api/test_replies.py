"""Answering over HTTP: once, in time, to the right address, and refused when somebody spoke."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from hub.documents import AddressDoc, Conversation, Entry, Job, StrayBlob
from normalizer.outcomes import Rejected
from tests.support.hubs import RunningHub, running_hub

HI = [{"type": "text", "text": "hi"}]


@pytest.fixture
async def ann(api: RunningHub) -> str:
    await api.message("hello")
    return f"/api/v1/customers/{await api.customer('ann')}"


async def test_an_answer_leaves_by_the_channel_and_is_in_the_timeline(
    api: RunningHub, ann: str
) -> None:
    answered = await api.post(f"{ann}/replies", {"parts": HI, "agent_name": "Li"})
    assert answered.status == 202, answered
    ident = answered.json["entry_id"]
    assert answered.json["state"] == "done"
    assert answered.json["entry"]["id"] == ident
    assert answered.headers["Location"] == f"/api/v1/entries/{ident}"

    async def sent() -> Any:
        return api.connector.sent

    (outgoing,) = await api.until("the send", sent)
    assert (outgoing.entry, outgoing.parts[0].text, outgoing.sender_name) == (ident, "hi", "Li")
    page = await api.get(f"{ann}/timeline")
    assert page["entries"][0]["id"] == ident
    assert page["entries"][0]["sender"]["name"] == "Li"


async def test_the_same_idempotency_key_answers_once_and_alike(api: RunningHub, ann: str) -> None:
    body = {"parts": [{"type": "text", "text": "  kept as it is\u200b "}]}
    answers = await asyncio.gather(*(api.post(f"{ann}/replies", body, once="k1") for _ in range(5)))
    assert {each.status for each in answers} == {202}, answers
    assert len({each.json["entry_id"] for each in answers}) == 1
    in_body = await api.post(f"{ann}/replies", {**body, "idempotency_key": "k1"})
    assert in_body.json["entry_id"] == answers[0].json["entry_id"]
    entries = await api.hub.store.table(Entry).find({"direction": "out"})
    assert len(entries) == 1


async def test_a_repetition_is_the_same_though_the_customer_was_merged_and_spoke_elsewhere(
    api: RunningHub, ann: str
) -> None:
    """Told that its key was used for something else, a client would send a second answer."""
    await api.message("hello", sender="bob")
    bob = f"/api/v1/customers/{await api.customer('bob')}"
    [talk] = (await api.get(bob))["conversations"]
    bodies = ({"parts": HI}, {"parts": HI, "conversation": talk["id"]})
    first = [
        await api.post(f"{bob}/replies", {**body, "idempotency_key": f"k{n}"})
        for n, body in enumerate(bodies)
    ]
    note = {"purpose": "transactional", "customer": bob.rpartition("/")[2], "parts": HI}
    told = await api.post("/api/v1/notifications", note, once="k3")
    await api.post(f"{ann}/merge", {"other": await api.customer("bob")})
    talks = api.hub.store.table(Conversation)
    held = await talks.get(talk["id"])
    assert held is not None
    await talks.put([replace(held, last_address=api.address_id("ann"))])
    for n, body in enumerate(bodies):
        again = await api.post(f"{bob}/replies", {**body, "idempotency_key": f"k{n}"})
        assert (again.status, again.json["entry_id"]) == (202, first[n].json["entry_id"]), again
    again = await api.post("/api/v1/notifications", note, once="k3")
    assert (again.status, again.json["entry_id"]) == (202, told.json["entry_id"]), again


async def test_an_idempotency_key_is_the_callers_own_and_for_one_request(
    api: RunningHub, ann: str
) -> None:
    first = await api.post(f"{ann}/replies", {"parts": HI}, once="k1")
    other = await api.post(
        f"{ann}/replies", {"parts": [{"type": "text", "text": "bye"}]}, once="k1"
    )
    assert (other.status, other.problem) == (409, "idempotency-conflict")
    theirs = await api.post(
        f"{ann}/replies", {"parts": HI}, once="k1", key=await api.make_key("replies:write")
    )
    assert theirs.status == 202
    assert theirs.json["entry_id"] != first.json["entry_id"]
    unclear = await api.post(f"{ann}/replies", {"parts": HI, "idempotency_key": "a"}, once="b")
    assert unclear.status == 422


async def test_an_answer_is_refused_with_the_newer_entries_when_somebody_spoke(
    api: RunningHub, ann: str
) -> None:
    latest = (await api.get(f"{ann}/timeline"))["latest"]
    newer = await api.message("wait, one more thing")
    upload = (await api.call("POST", "/api/v1/attachments", data=b"%PDF-1.7 x")).json["id"]
    parts = [*HI, {"type": "file", "media": {"blob": upload}}]
    refused = await api.post(f"{ann}/replies", {"parts": parts, "seen_up_to": latest}, once="k1")
    assert (refused.status, refused.problem) == (409, "conversation-moved-on")
    row = await api.hub.store.table(StrayBlob).get(upload)
    assert row is not None
    assert row.state == "unnamed"  # it is the next answer's to send
    assert [entry["id"] for entry in refused.json["entries"]] == [newer.id]
    assert refused.json["entries"][0]["text"] == "wait, one more thing"
    again = await api.post(
        f"{ann}/replies", {"parts": HI, "seen_up_to": refused.json["latest"]}, once="k2"
    )
    assert again.status == 202, again


async def test_latest_of_an_answer_lets_the_next_one_follow(api: RunningHub, ann: str) -> None:
    latest = (await api.get(f"{ann}/timeline"))["latest"]
    first = await api.post(f"{ann}/replies", {"parts": HI, "seen_up_to": latest})
    second = await api.post(f"{ann}/replies", {"parts": HI, "seen_up_to": first.json["latest"]})
    assert second.status == 202, second
    stale = await api.post(f"{ann}/replies", {"parts": HI, "seen_up_to": latest})
    assert stale.problem == "conversation-moved-on"


async def test_a_slow_router_is_answered_with_the_entry_that_will_be(
    mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    """202 names the entry and an operation that is pending, then done."""
    async with running_hub(
        mongo_url, mongo_db_name, tmp_path, hub={"reply_wait_s": 0.0, "router_lease_s": 1.0}
    ) as api:
        await api.message("hello")
        ann = f"/api/v1/customers/{await api.customer('ann')}"
        answered = await api.post(f"{ann}/replies", {"parts": HI})
        assert answered.status == 202, answered
        assert answered.json["state"] == "pending"
        assert answered.json["entry"] is None
        operation = f"/api/v1/operations/{answered.json['operation']}"
        assert (await api.get(operation))["state"] in ("pending", "done")
        entry = await api.entry(answered.json["entry_id"])
        assert entry.direction == "out"
        assert (await api.get(operation))["result"]["entry"] == entry.id


async def test_what_the_channel_cannot_carry_is_refused(api: RunningHub, ann: str) -> None:
    location = [{"type": "location", "lat": 31.2, "lon": 121.5}]
    refused = await api.post(f"{ann}/replies", {"parts": location})
    assert (refused.status, refused.problem) == (422, "unsupported")
    long = await api.post(f"{ann}/replies", {"parts": [{"type": "text", "text": "x" * 2001}]})
    assert (long.status, long.problem) == (422, "unsupported")
    template = await api.post(f"{ann}/replies", {"template": {"name": "welcome"}})
    assert (template.status, template.problem) == (422, "unsupported")
    assert await api.hub.store.table(Job).find({"kind": "send"}) == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"parts": []},
        {"parts": [{"type": "text", "text": "hi", "fromat": "plain"}]},
        {"parts": [{"type": "hologram"}]},
        {"parts": [{"type": "text", "text": "nul \x00"}]},
        {"parts": HI, "unknown": 1},
        {"parts": HI, "seen_up_to": 17},
        {"parts": [{"type": "file", "media": {"blob": "blb_" + "0" * 26}}]},
        {"parts": [{"type": "ext", "name": "a.b", "fallback": "x", "data": {"n": 2**64}}]},
    ],
)
async def test_odd_bodies_are_unprocessable(
    api: RunningHub, ann: str, body: dict[str, Any]
) -> None:
    answered = await api.post(f"{ann}/replies", body)
    assert (answered.status, answered.problem) == (422, "bad-request"), body


async def test_bodies_that_are_no_json_are_told_so(api: RunningHub, ann: str) -> None:
    async def send(data: bytes, kind: str = "application/json") -> tuple[int, str]:
        told = await api.call("POST", f"{ann}/replies", data=data, headers={"Content-Type": kind})
        return told.status, told.problem

    assert await send(b"{") == (400, "bad-request")
    assert await send(b'{"parts": "\xff"}') == (400, "bad-request")
    assert await send(b"[" * 5000) == (400, "bad-request")
    assert await send(b'{"agent": "\\ud800"}') == (422, "bad-request")
    assert await send(b"{}", "text/plain") == (415, "unsupported-media-type")
    assert await send(b" " * 300_000) == (413, "too-large")


async def test_an_answer_goes_to_the_address_that_is_named(api: RunningHub, ann: str) -> None:
    await api.message("it is me as well", sender="ann2")
    other = await api.customer("ann2")
    await api.post(f"{ann}/merge", {"other": other})
    for name in (api.address_id("ann"), str(api.address("ann"))):
        answered = await api.post(f"{ann}/replies", {"parts": HI, "address": name})
        assert answered.status == 202, answered
        assert answered.json["entry"]["address"] == api.address_id("ann")
    foreign = await api.post(f"{ann}/replies", {"parts": HI, "address": "sample:main:user:eve"})
    assert (foreign.status, foreign.problem) == (404, "not-found")


async def test_an_answer_by_an_account_that_is_gone_is_refused_at_once(
    api: RunningHub, ann: str
) -> None:
    """It would be queued, and nothing would ever send it."""
    addresses = api.hub.store.table(AddressDoc)
    known = await addresses.get(api.address_id("ann"))
    assert known is not None
    await addresses.put([replace(known, account="closed")])
    for body in ({}, {"address": known.id}):
        refused = await api.post(f"{ann}/replies", {"parts": HI, **body})
        assert (refused.status, refused.problem) == (409, "unreachable")
        assert "sample:closed, which is not configured any more" in refused.json["detail"]


async def test_a_message_can_be_confirmed_as_read(api: RunningHub) -> None:
    entry = await api.message("hello")
    answered = await api.post(f"/api/v1/entries/{entry.id}/seen", {"state": "read"})
    assert answered.status == 200, answered
    assert answered.json["entry"]["seen"]["state"] == "read"


async def test_what_a_channel_cannot_edit_or_recall_stays(api: RunningHub, ann: str) -> None:
    made = await api.post(f"{ann}/replies", {"parts": HI})
    path = f"/api/v1/entries/{made.json['entry_id']}"
    edited = await api.call("PATCH", path, {"parts": [{"type": "text", "text": "bye"}]})
    assert (edited.status, edited.problem) == (409, "edit-unsupported")
    recalled = await api.call("DELETE", path)
    assert (recalled.status, recalled.problem) == (409, "recall-unsupported")


async def test_typing_reaches_the_channels_account(api: RunningHub, ann: str) -> None:
    heard: list[Any] = []
    api.hub.services.on_signal("sample/main/typing", heard.append)
    body = {"address": str(api.address("ann")), "on": True}

    async def told() -> Any:
        await api.post(f"{ann}/typing", body)
        return heard

    await api.until("the hint", told)
    assert heard[0] == {"address": api.address_id("ann"), "by": "agent", "on": True}


async def test_typing_is_told_to_a_vendor_that_shows_it_and_its_failure_to_nobody(
    api: RunningHub, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    async def show_typing(self: Any, address: str, on: bool) -> None:
        told.append((address, on))
        raise Rejected("the vendor is in a bad mood")

    kind = type(api.connector)
    body = {"address": str(api.address("ann")), "on": True}
    monkeypatch.setattr(kind, "show_typing", show_typing)
    assert (await api.post(f"{ann}/typing", body)).status == 204
    assert not told, "it declares no typing"
    can = msgspec.structs.replace(kind.capabilities, typing=True)
    monkeypatch.setattr(kind, "capabilities", can)
    for on in (True, False):
        assert (await api.post(f"{ann}/typing", {**body, "on": on})).status == 204
    assert told == [(str(api.address("ann")), True), (str(api.address("ann")), False)]


async def test_while_routing_lags_writes_are_refused_and_can_come_again(
    api: RunningHub, ann: str
) -> None:
    api.hub.overload.full = "the inbox is full, says the test"
    refused = await api.post(f"{ann}/replies", {"parts": HI})
    assert (refused.status, refused.problem) == (503, "unavailable")
    assert int(refused.headers["Retry-After"]) > 0
    assert api.hub.metrics.registry.get_sample_value("omniline_overloaded_total") == 1
