"""The router's decision about a notification: whom, whether, when, how often. Pure, fake clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hub.documents import (
    AddressDoc,
    Conversation,
    Customer,
    Entry,
    FeedRow,
    Job,
    Notice,
    Operation,
)
from normalizer.drafts import DeliveryState, Evidence, Outcome, Profile
from normalizer.parts import Location, Text
from tests.notifications.conftest import AT_NIGHT, world
from tests.planners.harness import START, PlannerHarness, said, somebody

SHIPPED = (Text(text="Your order left today."),)
AGENT = Evidence(kind="agent")
FORM = Evidence(kind="form", ref="newsletter-3")


async def known(hub: PlannerHarness, who: str = "li", **more: Any) -> str:
    """Let somebody speak and return the customer."""
    await hub.give(said(who, f"{who} {more.get('channel', '')}", **more), **_via(more))
    address = await hub.see(AddressDoc, adr(hub, who, more.get("channel", "chat")))
    assert address.customer is not None
    return address.customer


def _via(more: dict[str, Any]) -> dict[str, Any]:
    return {"channel": more["channel"]} if "channel" in more else {}


def adr(hub: PlannerHarness, who: str, channel: str = "chat") -> str:
    return hub.key.hashed("adr", str(somebody(who, channel)))


async def agreed(hub: PlannerHarness, customer: str, purpose: str = "marketing") -> None:
    await hub.done("consent", customer=customer, purpose=purpose, state="granted", evidence=FORM)


def tell(customer: str, **more: Any) -> dict[str, Any]:
    return {"customer": customer, "purpose": "transactional", "parts": SHIPPED, **more}


async def sent(hub: PlannerHarness, result: dict[str, Any], state: str, **more: Any) -> None:
    """Let the worker tell what became of a notification."""
    outcome = Outcome(
        key=f"{result['entry']} {state}",
        job="job_x",
        kind="send",
        entry=result["entry"],
        result={"state": state, **more},
    )
    await hub.give(outcome)


# --- what it is ----------------------------------------------------------------------------------


async def test_it_is_an_entry_of_ours_that_opens_no_conversation_and_no_ticket(
    hub: PlannerHarness,
) -> None:
    customer = await known(hub)
    before = await hub.all(Conversation), [job.id for job in await hub.all(Job)]
    result = await hub.done("notify", **tell(customer, subject="Order 7", sender_name="Shop"))
    entry = await hub.see(Entry, result["entry"])
    assert (entry.direction, entry.automatic, entry.event) == ("out", True, "notification")
    assert (entry.conversation, entry.data["purpose"]) == (None, "transactional")
    assert (entry.channel, entry.account, entry.parts) == ("chat", "main", SHIPPED)
    assert (entry.sender.role, entry.sender.name, entry.subject) == ("system", "Shop", "Order 7")
    assert entry.delivery is not None
    assert entry.delivery.state is DeliveryState.QUEUED
    assert await hub.all(Conversation) == before[0]
    [job] = [job for job in await hub.all(Job) if job.id not in before[1]]
    assert (job.kind, job.entry, job.due_at, job.state) == ("send", entry.id, hub.now, "ready")
    assert (job.account, job.conversation) == ("chat:main", None)
    [row] = [row for row in await hub.all(FeedRow) if row.ref == entry.id]
    assert (row.type, row.conversation, row.customer) == ("message.sent", None, customer)


async def test_a_notification_to_somebody_silent_opens_nothing_and_the_answer_does() -> None:
    hub = await world()
    result = await hub.done(
        "notify",
        purpose="transactional",
        address=str(somebody("new")),
        channel="chat",
        account="main",
        parts=SHIPPED,
    )
    assert await hub.all(Conversation) == []
    entry = await hub.see(Entry, result["entry"])
    await hub.give(said("new", "answer", "thank you"))
    [conversation] = await hub.all(Conversation)
    assert conversation.root == entry.address
    [answer] = [each for each in await hub.all(Entry) if each.direction == "in"]
    assert (answer.conversation, answer.thread) == (conversation.id, entry.thread)
    assert [job.task for job in await hub.all(Job) if job.kind == "ticket"] == ["append"]


async def test_one_that_waits_stands_in_no_other_messages_way() -> None:
    """Lanes run in order: what waits for the morning has one of its own."""
    hub = await world(AT_NIGHT)
    hub.now = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)  # 23:00 in Shanghai
    customer = await known(hub)
    waits = [await hub.done("notify", **tell(customer)) for _ in range(2)]
    later = await hub.done("notify", **tell(customer, not_before=hub.now + timedelta(days=2)))
    reply = await hub.done("reply", customer=customer, parts=SHIPPED)
    jobs = {job.entry: job for job in await hub.all(Job) if job.kind == "send"}
    lanes = [jobs[each["entry"]].lane for each in (*waits, later, reply)]
    assert lanes[0] == lanes[1]
    assert len(set(lanes)) == 3
    assert jobs[reply["entry"]].due_at == hub.now


async def test_mails_stand_in_threads_of_their_own_and_chats_in_the_one_there_is(
    hub: PlannerHarness,
) -> None:
    customer = await known(hub, channel="mail")
    threads = [
        (await hub.see(Entry, (await hub.done("notify", **tell(customer)))["entry"])).thread
        for _ in range(2)
    ]
    address = await hub.see(AddressDoc, adr(hub, "li", "mail"))
    assert len({*threads, address.thread}) == 3
    customer = await known(hub, channel="site")
    result = await hub.done("notify", **tell(customer))
    address = await hub.see(AddressDoc, adr(hub, "li", "site"))
    assert (await hub.see(Entry, result["entry"])).thread == address.thread


async def test_a_repeated_command_makes_it_once_even_when_its_operation_is_forgotten(
    hub: PlannerHarness,
) -> None:
    customer = await known(hub)
    first = await hub.done("notify", key="k", **tell(customer))
    again = await hub.done("notify", key="k", **tell(customer))
    await hub.store.table(Operation).delete({})
    replayed = await hub.done("notify", key="k", **tell(customer))
    assert first == again == replayed
    assert len([entry for entry in await hub.all(Entry) if entry.event]) == 1
    assert len(await hub.all(Notice)) == 1


# --- what it says --------------------------------------------------------------------------------


async def test_a_template_goes_where_the_channel_has_them(hub: PlannerHarness) -> None:
    named = {"name": "shipped", "language": "zh", "params": {"order": "7"}}
    template = {"template": named, "parts": ()}
    customer = await known(hub, channel="approved")
    result = await hub.done("notify", **tell(customer, **template))
    entry = await hub.see(Entry, result["entry"])
    assert entry.data["template"] == named
    assert entry.parts == (Text(text="[shipped] order: 7"),)
    result = await hub.done("notify", **tell(customer, template=named))
    assert (await hub.see(Entry, result["entry"])).parts == SHIPPED
    other = await known(hub, "wu")
    assert await hub.refused("notify", **tell(other, **template)) == (422, "unsupported")


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ((), "bad-request"),
        ((Text(text="  "),), "bad-request"),
        ((Text(text="x" * 601),), "unsupported"),
        ((Location(lat=1, lon=1),), "unsupported"),
    ],
)
async def test_what_the_channel_cannot_carry_is_refused(
    hub: PlannerHarness, parts: tuple[Any, ...], problem: str
) -> None:
    customer = await known(hub)
    told = await hub.refused("notify", **tell(customer, parts=parts))
    assert told == (422, problem)


# --- to whom -------------------------------------------------------------------------------------


async def test_of_several_addresses_the_newest_that_agreed_is_taken(hub: PlannerHarness) -> None:
    li = await known(hub)
    for channel in ("board", "mail", "phone"):  # nobody can be written to by phone
        hub.later(minutes=1)
        other = await known(hub, channel=channel)
        await hub.done("merge", customer=li, other=other, evidence=AGENT)
    result = await hub.done("notify", **tell(li))
    assert result["address"] == adr(hub, "li", "mail")
    await hub.done(
        "consent",
        customer=li,
        purpose="transactional",
        state="withdrawn",
        addresses=[adr(hub, "li", "mail")],
        evidence=FORM,
    )
    assert (await hub.done("notify", **tell(li)))["address"] == adr(hub, "li", "board")
    result = await hub.done("notify", **tell(li, channel="chat"))
    assert result["address"] == adr(hub, "li")
    told = await hub.refused("notify", **tell(li, channel="mail"))
    assert told == (409, "consent-withdrawn")
    assert await hub.refused("notify", **tell(li, channel="phone")) == (409, "unreachable")


async def test_somebody_new_is_written_to_by_the_account_that_is_named(
    hub: PlannerHarness,
) -> None:
    args = {"purpose": "transactional", "address": "tel::e164:+8613800138000", "parts": SHIPPED}
    assert await hub.refused("notify", **args) == (409, "unreachable")
    result = await hub.done("notify", **args, channel="chat", account="second")
    entry = await hub.see(Entry, result["entry"])
    assert (entry.channel, entry.account) == ("chat", "second")
    address = await hub.see(AddressDoc, result["address"])
    assert (address.address, address.customer) == ("tel::e164:+8613800138000", result["customer"])
    again = await hub.done("notify", **args)
    assert again["address"] == result["address"]
    assert len(await hub.all(Customer)) == 1


async def test_who_is_refused_is_not_made(hub: PlannerHarness) -> None:
    before = hub.position
    told = await hub.refused(
        "notify",
        purpose="marketing",
        address="tel::e164:+8613800138000",
        channel="chat",
        account="main",
        parts=SHIPPED,
    )
    assert told == (409, "consent-missing")
    for kind in (Customer, AddressDoc, Notice):
        assert await hub.store.table(kind).find({}) == []
    assert hub.position == before


async def test_wrong_requests_are_refused(hub: PlannerHarness) -> None:
    li, wu = await known(hub), await known(hub, "wu")
    merged = await hub.done("note", customer=wu, text="x")
    private = (await hub.see(Entry, merged["entry"])).address
    for status, problem, args in (
        (422, "bad-request", tell(li, purpose="spam")),
        (422, "bad-request", tell("")),
        (422, "bad-request", tell(li, address="no address")),
        (422, "bad-request", tell(li, expires_at=hub.now)),
        (422, "bad-request", tell(li, expires_at="2030-01-01T00:00:00")),
        (422, "bad-request", tell(li, not_before=hub.now + timedelta(days=91))),
        (422, "bad-request", tell(li, purpose="marketing", respect_quiet_hours=False)),
        (404, "not-found", tell(li, address=adr(hub, "wu"))),
        (404, "not-found", tell(li, address=str(somebody("nobody")))),
        (404, "not-found", tell("", address=private)),
        (404, "not-found", tell("", address="adr_0")),
        (404, "not-found", tell("", address=f"hub::customer:{li}", channel="chat", account="main")),
        (404, "not-found", tell("cus_0")),
    ):
        assert await hub.refused("notify", **args) == (status, problem), args


# --- when ----------------------------------------------------------------------------------------


async def test_it_waits_for_the_morning_of_the_space_or_of_the_customer() -> None:
    hub = await world(AT_NIGHT)
    hub.now = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)  # 23:00 in Shanghai, 10:00 in New York
    here = await hub.done("notify", **tell(await known(hub)))
    assert here["due_at"] == "2026-03-03T00:00:00+00:00"
    there = Profile(attributes={"time_zone": "America/New_York"})
    result = await hub.done("notify", **tell(await known(hub, "wu", profile=there)))
    assert result["due_at"] == "2026-03-02T15:00:00+00:00"
    wu = await hub.see(AddressDoc, adr(hub, "wu"))
    xu = await known(hub, "xu", channel="board")  # says nothing of where it is
    await hub.done("merge", customer=xu, other=wu.customer, evidence=AGENT)
    result = await hub.done("notify", **tell(xu, address=adr(hub, "xu", "board")))
    assert result["due_at"] == "2026-03-02T15:00:00+00:00"
    odd = Profile(attributes={"time_zone": "Mars/Base"})
    result = await hub.done("notify", **tell(await known(hub, "yu", profile=odd)))
    assert result["due_at"] == "2026-03-03T00:00:00+00:00"


async def test_the_morning_is_right_on_the_day_the_clocks_change() -> None:
    hub = await world('time_zone = "Europe/Berlin"')
    hub.now = datetime(2026, 3, 28, 22, 0, tzinfo=UTC)
    result = await hub.done("notify", **tell(await known(hub)))
    assert result["due_at"] == "2026-03-29T06:00:00+00:00"  # 8:00, by an hour less of sleep


async def test_a_purpose_may_disturb_where_it_is_asked_to() -> None:
    hub = await world(AT_NIGHT)
    hub.now = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
    customer = await known(hub)
    result = await hub.done("notify", **tell(customer, respect_quiet_hours=False))
    assert result["due_at"] == hub.now.isoformat()
    assert (await hub.see(Notice, result["entry"])).quiet_hours == "none"


async def test_not_before_is_kept_and_then_the_quiet_hours() -> None:
    hub = await world(AT_NIGHT)
    hub.now = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
    customer = await known(hub)
    by_day = datetime(2026, 3, 4, 4, 0, tzinfo=UTC)
    result = await hub.done("notify", **tell(customer, not_before=by_day))
    assert result["due_at"] == by_day.isoformat()
    at_night = datetime(2026, 3, 4, 14, 0, tzinfo=UTC)
    result = await hub.done("notify", **tell(customer, not_before=at_night))
    assert result["due_at"] == "2026-03-05T00:00:00+00:00"


async def test_what_would_expire_in_quiet_hours_is_refused_at_once() -> None:
    hub = await world(AT_NIGHT)
    hub.now = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
    customer = await known(hub)
    args = tell(customer, expires_at=hub.now + timedelta(hours=1))
    operation = await hub.command("notify", **args)
    assert (operation.status, operation.error) == (409, "quiet-hours")
    assert operation.result == {"possible_at": "2026-03-03T00:00:00+00:00"}
    assert await hub.all(Notice) == []


# --- how often -----------------------------------------------------------------------------------


async def test_the_one_too_many_is_refused_until_there_is_room(hub: PlannerHarness) -> None:
    customer = await known(hub)
    await agreed(hub, customer)
    offer = tell(customer, purpose="marketing")
    first = hub.now
    for _ in range(3):
        await hub.done("notify", **offer)
        hub.later(hours=1)
    operation = await hub.command("notify", **offer)
    assert (operation.status, operation.error) == (409, "frequency-capped")
    assert operation.result == {"possible_at": (first + timedelta(days=1)).isoformat()}
    await hub.done("notify", **tell(customer))  # another purpose has its own count
    hub.now = first + timedelta(days=1)
    await hub.done("notify", **offer)
    assert await hub.refused("notify", **offer) == (409, "frequency-capped")


async def test_of_two_in_one_batch_one_gets_the_last_place(hub: PlannerHarness) -> None:
    customer = await known(hub)
    await agreed(hub, customer)
    offer = tell(customer, purpose="marketing")
    operations = [await hub.command("notify", commit=False, **offer) for _ in range(5)]
    await hub.flush()
    assert [each.state for each in operations] == ["done"] * 3 + ["refused"] * 2
    assert len(await hub.all(Notice)) == 3


async def test_what_is_planned_counts_on_its_day(hub: PlannerHarness) -> None:
    customer = await known(hub)
    await agreed(hub, customer)
    thursday = START + timedelta(days=3)
    for _ in range(3):
        await hub.done("notify", **tell(customer, purpose="marketing", not_before=thursday))
    await hub.done("notify", **tell(customer, purpose="marketing"))
    near = tell(customer, purpose="marketing", not_before=thursday - timedelta(hours=5))
    assert await hub.refused("notify", **near) == (409, "frequency-capped")


async def test_the_moment_that_is_named_is_not_in_quiet_hours() -> None:
    hub = await world(AT_NIGHT)
    hub.now = datetime(2026, 3, 2, 12, 30, tzinfo=UTC)  # half past eight in the evening
    customer = await known(hub)
    await agreed(hub, customer)
    for _ in range(3):
        await hub.done("notify", **tell(customer, purpose="marketing"))
    hub.later(minutes=10)
    late = tell(customer, purpose="marketing", not_before=hub.now + timedelta(minutes=15))
    operation = await hub.command("notify", **late)
    assert operation.result == {"possible_at": "2026-03-03T12:30:00+00:00"}


async def test_what_failed_and_what_was_cancelled_makes_room(hub: PlannerHarness) -> None:
    customer = await known(hub)
    await agreed(hub, customer)
    offer = tell(customer, purpose="marketing")
    made = [await hub.done("notify", **offer) for _ in range(3)]
    assert await hub.refused("notify", **offer) == (409, "frequency-capped")
    await sent(hub, made[0], "failed", code="rejected")
    made.append(await hub.done("notify", **offer))
    assert await hub.refused("notify", **offer) == (409, "frequency-capped")
    await hub.done("cancel_notification", entry=made[3]["entry"])
    await hub.done("notify", **offer)
    for each in made[1:3]:
        await sent(hub, each, "unknown")  # it may have arrived: it counts
    assert await hub.refused("notify", **offer) == (409, "frequency-capped")


async def test_the_count_is_the_customers_whatever_the_address_and_undone_with_a_merge(
    hub: PlannerHarness,
) -> None:
    li, wu = await known(hub), await known(hub, "wu")
    for each in (li, wu):
        await agreed(hub, each)
        for _ in range(2):
            await hub.done("notify", **tell(each, purpose="marketing"))
    merged = await hub.done("merge", customer=li, other=wu, evidence=AGENT)
    for who in ("li", "wu"):
        there = tell(li, purpose="marketing", address=adr(hub, who))
        assert await hub.refused("notify", **there) == (409, "frequency-capped")
    await hub.done("unmerge", link=merged["link"])
    for each in (li, wu):
        await hub.done("notify", **tell(each, purpose="marketing"))
        told = await hub.refused("notify", **tell(each, purpose="marketing"))
        assert told == (409, "frequency-capped")


# --- cancelling ----------------------------------------------------------------------------------


async def test_what_has_left_cannot_be_cancelled(hub: PlannerHarness) -> None:
    customer = await known(hub)
    result = await hub.done("notify", **tell(customer))
    await sent(hub, result, "accepted")
    told = await hub.refused("cancel_notification", entry=result["entry"])
    assert told == (409, "already-sent")
    told = await hub.refused("cancel_notification", entry="ent_0")
    assert told == (404, "not-found")


async def test_cancelling_twice_is_harmless(hub: PlannerHarness) -> None:
    result = await hub.done("notify", **tell(await known(hub)))
    for _ in range(2):
        await hub.done("cancel_notification", entry=result["entry"])
    assert (await hub.see(Notice, result["entry"])).cancelled_at == hub.now


async def test_a_failed_notification_goes_to_no_ticket(hub: PlannerHarness) -> None:
    result = await hub.done("notify", **tell(await known(hub)))
    before = len(await hub.all(Job))
    await sent(hub, result, "failed", reason="no such number")
    entry = await hub.see(Entry, result["entry"])
    assert entry.delivery is not None
    assert (entry.delivery.state, entry.delivery.reason) == ("failed", "no such number")
    assert len(await hub.all(Job)) == before
