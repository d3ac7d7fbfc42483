"""Notifications through a whole hub: real database, router, workers, API; the sample channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hub.clock import SystemClock
from hub.documents import (
    Consent,
    ConsentChange,
    Conversation,
    Customer,
    Entry,
    InboxItem,
    Job,
    Notice,
)
from normalizer.drafts import Event
from tests.support.hubs import Answered, RunningHub, running_hub

TEXT = [{"type": "text", "text": "Your order left today."}]
FORM = {"kind": "form", "ref": "newsletter-3", "note": "box ticked"}
POST = "/api/v1/notifications"


class MovableClock(SystemClock):
    """The machine's clock, set ahead by the test."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def hub(
    mongo_url: str, mongo_db_name: str, tmp_path: Path, clock: MovableClock
) -> AsyncIterator[RunningHub]:
    """Quiet hours of ``night`` cover now and two hours more; nothing else has any."""
    now = clock.now()
    night = f"{now - timedelta(hours=1):%H:%M}-{now + timedelta(hours=2):%H:%M}"
    more = "\n".join(
        [
            "[hub.notifications]",
            'time_zone = "UTC"',
            'quiet_hours = "none"',
            "[hub.notifications.purposes.night]",
            'consent = "unless-withdrawn"',
            f'quiet_hours = "{night}"',
        ]
    )
    async with running_hub(mongo_url, mongo_db_name, tmp_path, more=more, clock=clock) as hub:
        yield hub


async def person(hub: RunningHub, who: str = "ann") -> str:
    await hub.message("hello", sender=who)
    return await hub.customer(who)


async def notify(hub: RunningHub, customer: str, once: str = "", **more: Any) -> Answered:
    body = {"customer": customer, "purpose": "transactional", "parts": TEXT, **more}
    return await hub.post(POST, body, once=once)


async def accepted(hub: RunningHub, customer: str, **more: Any) -> dict[str, Any]:
    answered = await notify(hub, customer, **more)
    assert answered.status == 202, answered
    told: dict[str, Any] = answered.json
    assert told["state"] == "done"
    return told


async def say(hub: RunningHub, customer: str, state: str, **more: Any) -> dict[str, Any]:
    body = {"purpose": "marketing", "state": state, "evidence": FORM, **more}
    answered = await hub.call("PUT", f"/api/v1/customers/{customer}/consents", body)
    assert answered.status == 200, answered
    told: dict[str, Any] = answered.json
    return told


async def left(hub: RunningHub, entry: str, state: str) -> Entry:
    """Return the entry once it is in a state."""
    table = hub.hub.store.table(Entry)

    async def look() -> Entry | None:
        found = await table.get(entry)
        if found is None or found.delivery is None or found.delivery.state != state:
            return None
        return found

    found: Entry = await hub.until(f"{entry} to be {state}", look)
    return found


# --- the way out ---------------------------------------------------------------------------------


async def test_a_notification_leaves_and_the_answer_opens_the_conversation(
    hub: RunningHub,
) -> None:
    answered = await hub.post(
        POST,
        {
            "address": str(hub.address("new")),
            "purpose": "transactional",
            "parts": TEXT,
            "sender_name": "Shop",
        },
    )
    assert answered.status == 202, answered
    told = answered.json
    assert answered.headers["Location"] == f"/api/v1/entries/{told['entry_id']}"
    entry = await left(hub, told["entry_id"], "accepted")
    [outgoing] = hub.connector.sent
    assert (outgoing.entry, outgoing.automatic, outgoing.event) == (entry.id, True, "notification")
    assert (outgoing.address, outgoing.sender_name) == (str(hub.address("new")), "Shop")
    assert told["entry"]["automatic"] is True
    assert told["entry"]["data"]["purpose"] == "transactional"
    assert await hub.hub.store.table(Conversation).find({}) == []
    answer = await hub.message("thank you", sender="new")
    assert answer.conversation is not None
    assert (answer.thread, answer.address) == (entry.thread, entry.address)
    page = await hub.get(f"/api/v1/customers/{await hub.customer('new')}/timeline")
    assert [each["direction"] for each in page["entries"]] == ["in", "out"]


async def test_the_same_request_is_carried_out_once(hub: RunningHub) -> None:
    customer = await person(hub)
    answers = await asyncio.gather(*(notify(hub, customer, once="k1") for _ in range(5)))
    assert {each.status for each in answers} == {202}, answers
    assert len({each.json["entry_id"] for each in answers}) == 1
    other = await notify(hub, customer, once="k1", subject="another")
    assert (other.status, other.problem) == (409, "idempotency-conflict")
    await left(hub, answers[0].json["entry_id"], "accepted")
    assert len(hub.connector.sent) == 1


async def test_it_waits_for_the_morning_while_an_answer_does_not(
    hub: RunningHub, clock: MovableClock
) -> None:
    customer = await person(hub)
    told = await accepted(hub, customer, purpose="night")
    assert datetime.fromisoformat(told["due_at"]) > clock.now() + timedelta(minutes=118)
    replied = await hub.post(f"/api/v1/customers/{customer}/replies", {"parts": TEXT})
    await left(hub, replied.json["entry_id"], "accepted")
    assert [each.entry for each in hub.connector.sent] == [replied.json["entry_id"]]
    clock.ahead = timedelta(hours=2, minutes=1)
    await left(hub, told["entry_id"], "accepted")


# --- consent -------------------------------------------------------------------------------------


async def test_marketing_needs_consent_which_is_shown_with_its_evidence(hub: RunningHub) -> None:
    customer = await person(hub)
    offer = {"purpose": "marketing"}
    refused = await notify(hub, customer, **offer)
    assert (refused.status, refused.problem) == (409, "consent-missing")
    told = await say(hub, customer, "granted", source="newsletter form")
    [marketing] = [each for each in told["consents"]["consents"] if each["purpose"] == "marketing"]
    assert (marketing["state"], marketing["allowed"]) == ("granted", True)
    assert (marketing["source"], marketing["evidence"]) == ("newsletter form", FORM)
    assert marketing["actor"].startswith("key:")
    await accepted(hub, customer, **offer)
    earlier = (hub.hub.clock.now() - timedelta(days=400)).isoformat()
    told = await say(hub, customer, "withdrawn", at=earlier)
    [marketing] = [each for each in told["consents"]["consents"] if each["purpose"] == "marketing"]
    assert marketing["state"] == "granted"
    await say(hub, customer, "withdrawn", addresses=[str(hub.address("ann"))])
    refused = await notify(hub, customer, **offer)
    assert (refused.status, refused.problem) == (409, "consent-withdrawn")
    shown = await hub.get(f"/api/v1/customers/{customer}/consents")
    assert {each["purpose"]: each["allowed"] for each in shown["consents"]} == {
        "*": True,
        "transactional": True,
        "marketing": False,
        "night": True,
    }
    assert [line["state"] for line in shown["history"]] == ["withdrawn", "withdrawn", "granted"]
    assert all(line["evidence"] == FORM for line in shown["history"])


async def test_a_withdrawal_cancels_what_waits(hub: RunningHub, clock: MovableClock) -> None:
    """It is in the timeline and its job is made; the worker looks again and does not send."""
    customer = await person(hub)
    waits = await accepted(hub, customer, purpose="night")
    stays = await accepted(hub, await person(hub, "bob"), purpose="night")
    await say(hub, customer, "withdrawn", purpose="night")
    clock.ahead = timedelta(hours=2, minutes=1)
    failed = await left(hub, waits["entry_id"], "failed")
    assert failed.delivery is not None
    assert failed.delivery.code == "consent_withdrawn"
    assert "withdrawn" in failed.delivery.reason
    await left(hub, stays["entry_id"], "accepted")
    assert [each.entry for each in hub.connector.sent] == [stays["entry_id"]]


async def test_withdrawing_and_notifying_at_once_end_in_an_order_that_holds(
    hub: RunningHub, clock: MovableClock
) -> None:
    """Whatever is decided first: what was made before the withdrawal fails, the rest is refused."""
    customer = await person(hub)
    answers = await asyncio.gather(
        *(notify(hub, customer, purpose="night") for _ in range(3)),
        say(hub, customer, "withdrawn", purpose="night"),
        *(notify(hub, customer, purpose="night") for _ in range(3)),
    )
    asked = [each for each in answers if isinstance(each, Answered)]
    made = [each for each in asked if each.status == 202]
    others = [each for each in asked if each.status != 202]
    assert {each.problem for each in others} <= {"consent-withdrawn", "frequency-capped"}
    clock.ahead = timedelta(hours=2, minutes=1)
    for each in made:
        assert (await left(hub, each.json["entry_id"], "failed")).delivery is not None
    assert hub.connector.sent == []


async def test_an_opt_out_on_the_channel_is_heard(hub: RunningHub) -> None:
    customer = await person(hub)
    event = Event(key="stop 1", address=hub.address("ann"), name="contact.opted_out")
    await hub.hub.services.take_in("sample", "main", [event], door="test")
    consents = hub.hub.store.table(Consent)
    await hub.until("the ledger", lambda: consents.find({"state": "withdrawn"}))
    refused = await notify(hub, customer)
    assert (refused.status, refused.problem) == (409, "consent-withdrawn")
    feed = await hub.get("/feed/v1/events", params={"types": "consent.*"})
    [told] = feed["events"]
    assert told["type"] == "omniline.consent.changed.v1"
    assert told["data"] == {
        "customer": customer,
        "address": hub.address_id("ann"),
        "purpose": "*",
        "state": "withdrawn",
        "source": "sample:main",
    }


async def test_consent_follows_its_address_through_a_merge_and_back(hub: RunningHub) -> None:
    ann, bob = await person(hub), await person(hub, "bob")
    await say(hub, ann, "granted")
    merged = await hub.post(f"/api/v1/customers/{bob}/merge", {"other": ann})
    told = await accepted(hub, bob, purpose="marketing")
    assert told["entry"]["address"] == hub.address_id("ann")
    await hub.call("DELETE", f"/api/v1/links/{merged.json['link']['id']}")
    refused = await notify(hub, bob, purpose="marketing")
    assert (refused.status, refused.problem) == (409, "consent-missing")
    await accepted(hub, ann, purpose="marketing")


# --- caps, expiry, cancelling --------------------------------------------------------------------


async def test_of_many_that_race_as_many_win_as_the_cap_has_places(hub: RunningHub) -> None:
    customer = await person(hub)
    await say(hub, customer, "granted")
    answers = await asyncio.gather(*(notify(hub, customer, purpose="marketing") for _ in range(12)))
    refused = [each for each in answers if each.status != 202]
    assert len(refused) == 9, answers
    for each in refused:
        assert (each.status, each.problem) == (409, "frequency-capped")
        assert datetime.fromisoformat(each.json["possible_at"]) > hub.hub.clock.now()
    for each in answers:
        if each.status == 202:
            await left(hub, each.json["entry_id"], "accepted")
    assert len(hub.connector.sent) == 3


async def test_what_expired_while_it_waited_is_never_sent(
    hub: RunningHub, clock: MovableClock
) -> None:
    customer = await person(hub)
    soon = (clock.now() + timedelta(hours=1)).isoformat()
    refused = await notify(hub, customer, purpose="night", expires_at=soon)
    assert (refused.status, refused.problem) == (409, "quiet-hours")
    expires = clock.now() + timedelta(hours=3)
    told = await accepted(hub, customer, purpose="night", expires_at=expires.isoformat())
    clock.ahead = timedelta(hours=4)  # nobody worked meanwhile
    failed = await left(hub, told["entry_id"], "failed")
    assert failed.delivery is not None
    assert failed.delivery.code == "expired"
    assert hub.connector.sent == []


async def test_what_is_cancelled_does_not_leave(hub: RunningHub, clock: MovableClock) -> None:
    customer = await person(hub)
    told = await accepted(hub, customer, purpose="night")
    for _ in range(2):
        cancelled = await hub.call("DELETE", f"{POST}/{told['entry_id']}")
        assert cancelled.status == 200, cancelled
    failed = await left(hub, told["entry_id"], "failed")  # at once, not when it is due
    assert failed.delivery is not None
    assert failed.delivery.code == "cancelled"
    assert hub.connector.sent == []
    gone = await accepted(hub, customer)
    await left(hub, gone["entry_id"], "accepted")
    late = await hub.call("DELETE", f"{POST}/{gone['entry_id']}")
    assert (late.status, late.problem) == (409, "already-sent")
    replied = await hub.post(f"/api/v1/customers/{customer}/replies", {"parts": TEXT})
    other = await hub.call("DELETE", f"{POST}/{replied.json['entry_id']}")
    assert (other.status, other.problem) == (404, "not-found")


# --- erasing -------------------------------------------------------------------------------------


async def test_erasing_takes_all_but_the_withdrawal_and_what_waits_does_not_leave(
    hub: RunningHub, clock: MovableClock
) -> None:
    customer = await person(hub)
    await say(hub, customer, "granted")
    await say(hub, customer, "withdrawn", purpose="transactional")
    waits = await accepted(hub, customer, purpose="night")
    await hub.call("DELETE", f"/api/v1/customers/{customer}")
    store = hub.hub.store
    await hub.until("the customer to go", lambda: store.table(Customer).find({"erased": True}))

    async def cleaned() -> bool:
        left = await store.table(ConsentChange).find({}), await store.table(Notice).find({})
        return not any(left)

    await hub.until("the ledger's lines and the notices to go", cleaned)
    items = await store.table(InboxItem).find({"door": "api"})
    assert items
    assert not any(b"box ticked" in item.drafts for item in items)
    held = {each.purpose: each for each in await store.table(Consent).find({})}
    assert held["transactional"].state == "withdrawn"
    assert held["marketing"].state == "unknown"
    assert {(each.evidence, each.source, each.actor) for each in held.values()} == {(None, "", "")}
    refused = await hub.post(
        POST,
        {"address": str(hub.address("ann")), "purpose": "transactional", "parts": TEXT},
    )
    assert (refused.status, refused.problem) == (409, "consent-withdrawn")
    clock.ahead = timedelta(hours=2, minutes=1)

    async def done() -> bool:
        jobs = await store.table(Job).find({"entry": waits["entry_id"]})
        return all(not job.live for job in jobs)

    await hub.until("its job to end", done)
    assert hub.connector.sent == []


# --- callers -------------------------------------------------------------------------------------


async def test_each_right_is_a_scope_of_its_own(hub: RunningHub) -> None:
    customer = await person(hub)
    path = f"/api/v1/customers/{customer}/consents"
    body = {"customer": customer, "purpose": "transactional", "parts": TEXT}
    told = {"purpose": "marketing", "state": "granted", "evidence": FORM}
    sender = await hub.make_key("notifications:write")
    assert (await hub.post(POST, body, key=sender)).status == 202
    assert (await hub.call("PUT", path, told, key=sender)).status == 403
    assert (await hub.call("GET", path, key=sender)).status == 403
    keeper = await hub.make_key("consents:write")
    assert (await hub.call("PUT", path, told, key=keeper)).status == 200
    assert (await hub.post(POST, body, key=keeper)).status == 403


async def test_a_limited_key_writes_by_its_own_account_and_sees_its_own_addresses(
    hub: RunningHub,
) -> None:
    ann, bob = await person(hub), await person(hub, "bob")
    await hub.message("hello", sender="carl", account="second")
    carl = await hub.customer("carl", "second")
    await hub.post(f"/api/v1/customers/{ann}/merge", {"other": carl})
    key = await hub.make_key(
        "notifications:write", "consents:write", "customers:read", accounts=["sample:second"]
    )
    body = {"customer": ann, "purpose": "transactional", "parts": TEXT}
    answered = await hub.post(POST, body, key=key)
    assert answered.status == 202, answered
    assert answered.json["entry"]["address"] == hub.address_id("carl", "second")
    for wanted, status in (
        ({**body, "customer": bob}, 404),
        ({**body, "address": hub.address_id("ann")}, 404),
        ({**body, "channel": "sample:main"}, 409),
        ({**body, "customer": None, "address": str(hub.address("new"))}, 403),
    ):
        refused = await hub.post(POST, wanted, key=key)
        assert refused.status == status, (wanted, refused)
    path = f"/api/v1/customers/{ann}/consents"
    told = {"purpose": "marketing", "state": "granted", "evidence": FORM}
    recorded = await hub.call("PUT", path, told, key=key)
    assert {each["address"] for each in recorded.json["consents"]["consents"]} == {
        hub.address_id("carl", "second")
    }
    [consent] = await hub.hub.store.table(Consent).find({})
    assert consent.address == hub.address_id("carl", "second")


async def test_an_address_nobody_has_seen_needs_an_account_that_reaches_it(
    hub: RunningHub,
) -> None:
    body = {"address": "new@example.com", "purpose": "transactional", "parts": TEXT}
    unknown = await hub.post(POST, body)
    assert (unknown.status, unknown.problem) == (409, "unreachable")
    unclear = await hub.post(POST, {**body, "channel": "sample"})
    assert (unclear.status, unclear.problem) == (409, "unreachable")
    foreign = await hub.post(POST, {**body, "channel": "pigeon"})
    assert (foreign.status, foreign.problem) == (422, "bad-request")
    reached = await hub.post(POST, {**body, "channel": "sample:second"})
    assert reached.status == 202, reached
    assert (reached.json["entry"]["channel"], reached.json["entry"]["account"]) == (
        "sample",
        "second",
    )
    again = await hub.post(POST, body)  # known by now
    assert again.json["entry"]["account"] == "second"
    for more in (
        {"address": str(hub.address("x", "third"))},
        {"address": str(hub.address("x")), "channel": "sample:second"},
    ):
        refused = await hub.post(POST, {**body, **more})
        assert (refused.status, refused.problem) == (422, "bad-request")


async def test_a_first_contact_that_is_repeated_is_the_same_request(hub: RunningHub) -> None:
    """Though its address is known the second time."""
    for address, channel in (
        (str(hub.address("new")), ""),
        ("new@example.com", "sample:main"),
        ("138 0013 8000", "sample:second"),
    ):
        body = {"address": address, "channel": channel, "purpose": "transactional", "parts": TEXT}
        answers = [await hub.post(POST, body, once=channel or "k") for _ in range(2)]
        assert [each.status for each in answers] == [202, 202], answers
        assert answers[0].json["entry_id"] == answers[1].json["entry_id"]
    assert len(await hub.hub.store.table(Notice).find({})) == 3


async def test_odd_requests_are_refused(hub: RunningHub) -> None:
    customer = await person(hub)
    for more, status in (
        ({"purpose": "spam"}, 422),
        ({"parts": []}, 422),
        ({"customer": None}, 422),
        ({"not_before": "2026-01-01T00:00:00"}, 422),
        ({"expires_at": "2001-01-01T00:00:00Z"}, 422),
        ({"template": {"name": "shipped"}}, 422),
        ({"purpose": "marketing", "respect_quiet_hours": False}, 422),
        ({"unknown": 1}, 422),
        ({"address": "no address"}, 422),
        ({"address": str(hub.address("bob"))}, 404),
    ):
        body = {"customer": customer, "purpose": "transactional", "parts": TEXT, **more}
        answered = await hub.post(POST, body)
        assert answered.status == status, (more, answered)
        assert answered.problem in ("bad-request", "unsupported", "not-found")
