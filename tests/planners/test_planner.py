"""What drafts do to a timeline: newcomers, repetitions, threads, amendments, receipts, outcomes.

The planners run over the in-memory store; nothing is faked but the clock.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from hub.documents import (
    AddressDoc,
    AmendmentDoc,
    Conversation,
    Customer,
    Entry,
    FeedRow,
    Job,
    Thread,
)
from normalizer.drafts import (
    Amendment,
    AmendmentKind,
    DeliveryState,
    Event,
    Message,
    Outcome,
    Profile,
    Receipt,
    Sender,
    Target,
)
from normalizer.model import Direction, Role, Trust
from normalizer.parts import Text, plain_text
from tests.planners.harness import START, PlannerHarness, said, somebody


async def test_a_newcomer_gets_address_customer_conversation_entry_and_ticket_job(
    hub: PlannerHarness,
) -> None:
    """One message of somebody unknown makes exactly one of each, and says so in order."""
    await hub.give(said("li", "1", "hi", profile=Profile(name="Li", trust=Trust.SEEN)))
    [address] = await hub.all(AddressDoc)
    [customer] = await hub.all(Customer)
    [conversation] = await hub.all(Conversation)
    [entry] = await hub.all(Entry)
    [job] = await hub.all(Job)
    assert (address.customer, address.home) == (customer.id, customer.id)
    assert (customer.name, customer.addresses) == ("Li", (address.id,))
    assert customer.open == (conversation.id,)
    assert (conversation.customer, conversation.root) == (customer.id, address.id)
    assert (entry.address, entry.conversation) == (address.id, conversation.id)
    assert plain_text(entry.parts) == "hi"
    assert (job.kind, job.lane) == ("ticket", f"ticket:desk:{address.id}")
    assert (job.entry, job.position) == (entry.id, entry.position)
    assert await hub.told() == ["customer.created", "conversation.opened", "message.received"]


async def test_somebody_known_keeps_customer_and_conversation(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    hub.later(minutes=5)
    await hub.give(said("li", "2"))
    assert len(await hub.all(Customer)) == 1
    assert len({entry.conversation for entry in await hub.all(Entry)}) == 1
    assert (await hub.told())[3:] == ["message.received"]


@pytest.mark.parametrize("commit", [True, False], ids=["across batches", "in one batch"])
async def test_a_repeated_delivery_changes_nothing(hub: PlannerHarness, commit: bool) -> None:
    await hub.give(said("li", "1", "first"), commit=commit)
    for _ in range(2):
        assert await hub.give(said("li", "1", "first"), commit=commit)
    await hub.flush()
    assert len(await hub.all(Entry)) == 1
    assert len(await hub.all(Job)) == 1
    assert len(await hub.told()) == 3


async def test_the_same_key_from_two_people_or_accounts_is_two_messages(
    hub: PlannerHarness,
) -> None:
    await hub.give(said("li", "1"))
    await hub.give(said("wu", "1"))
    await hub.give(said("li", "1"), account="second")
    await hub.give(said(somebody("li"), "1"), channel="phone")
    assert len(await hub.all(Entry)) == 4


async def test_several_newcomers_and_repetitions_share_a_batch(hub: PlannerHarness) -> None:
    for number in range(20):
        await hub.give(said(f"p{number % 4}", str(number % 10)), commit=False)
    await hub.flush()
    assert len(await hub.all(Customer)) == 4
    assert len(await hub.all(Entry)) == 20
    positions = [row.id for row in await hub.all(FeedRow)]
    assert positions == list(range(1, len(positions) + 1))


async def test_what_was_not_committed_is_planned_again_by_the_next_router(
    hub: PlannerHarness,
) -> None:
    await hub.give(said("li", "1"))
    await hub.give(said("li", "2"), said("wu", "1"), commit=False)
    await hub.take_over()
    await hub.give(said("li", "2"), said("wu", "1"))
    assert len(await hub.all(Entry)) == 3
    positions = [row.id for row in await hub.all(FeedRow)]
    assert positions == list(range(1, len(positions) + 1))


@pytest.mark.parametrize(
    ("vendor", "shown", "kept"),
    [
        (timedelta(0), timedelta(0), False),
        (timedelta(minutes=-10), timedelta(minutes=-10), False),
        (timedelta(days=-7), timedelta(days=-7), False),
        (timedelta(days=-7, seconds=-1), timedelta(0), True),
        (timedelta(seconds=30), timedelta(0), True),
        (timedelta(days=400), timedelta(0), True),
        (None, timedelta(0), False),
    ],
    ids=str,
)
async def test_a_vendors_clock_is_believed_within_reason(
    hub: PlannerHarness, vendor: timedelta | None, shown: timedelta, kept: bool
) -> None:
    at = None if vendor is None else START + vendor
    await hub.give(said("li", "1", at=at))
    [entry] = await hub.all(Entry)
    assert entry.at == START + shown
    assert entry.vendor_at == (at if kept else None)


async def test_an_event_is_a_line_and_opens_nothing(hub: PlannerHarness) -> None:
    event = Event(key="e", address=somebody("li"), name="contact.followed", text="scan")
    assert await hub.give(event)
    assert await hub.give(event)
    [entry] = await hub.all(Entry)
    assert (entry.kind, entry.event, entry.data) == ("event", "contact.followed", {"text": "scan"})
    assert entry.conversation is None
    assert await hub.told() == ["customer.created", "contact.followed"]
    assert not await hub.all(Job)


async def test_an_event_joins_the_open_conversation(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    await hub.give(Event(key="e", address=somebody("li"), name="contact.followed"))
    assert len({entry.conversation for entry in await hub.all(Entry)}) == 1


async def test_an_answer_given_elsewhere_is_an_outgoing_entry(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    sender = Sender(role=Role.AGENT, name="Wang", ref="w")
    await hub.give(said("li", "2", "yes", direction=Direction.OUT, sender=sender))
    _, answer = sorted(await hub.all(Entry), key=lambda each: each.position)
    assert answer.direction is Direction.OUT
    assert (answer.sender.role, answer.sender.ref) == (Role.AGENT, "w")
    assert answer.delivery is not None
    assert answer.delivery.state is DeliveryState.ACCEPTED
    assert (await hub.told())[-1] == "message.sent"


async def test_a_profile_that_is_only_claimed_does_not_replace_a_better_one(
    hub: PlannerHarness,
) -> None:
    await hub.give(said("li", "1", profile=Profile(name="Li", trust=Trust.SEEN)))
    await hub.give(said("li", "2", profile=Profile(name="Boss", trust=Trust.CLAIMED)))
    [address] = await hub.all(AddressDoc)
    assert address.profile is not None
    assert address.profile.name == "Li"
    await hub.give(said("li", "3", profile=Profile(name="Li Si", trust=Trust.ATTESTED)))
    [address] = await hub.all(AddressDoc)
    assert address.profile is not None
    assert address.profile.name == "Li Si"


async def test_a_name_that_is_told_later_names_the_customer(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    await hub.give(said("li", "2", profile=Profile(name="Li")))
    await hub.give(said("li", "3", profile=Profile(name="Li Si")))
    assert [customer.name for customer in await hub.all(Customer)] == ["Li"]


# --- threads and their counters --------------------------------------------------------------


async def seqs(hub: PlannerHarness) -> dict[str, list[int]]:
    threads: dict[str, list[int]] = {}
    for entry in sorted(await hub.all(Entry), key=lambda each: each.position):
        if entry.seq:
            threads.setdefault(entry.thread or "", []).append(entry.seq)
    return threads


async def test_each_thread_counts_its_entries_without_a_gap(hub: PlannerHarness) -> None:
    """Across batches, takeovers and repetitions, for default and named threads."""
    for number in range(24):
        thread = ("", "second", "third")[number % 3]
        who = ("li", "wu")[number % 2]
        message = said(who, str(number), channel="site", thread=thread)
        for _ in range(1 + number % 2):
            await hub.give(message, channel="site", commit=number % 5 == 0)
        if number % 10 == 0:
            await hub.take_over()
    await hub.flush()
    counted = await seqs(hub)
    assert len(counted) == 6
    for taken in counted.values():
        assert taken == list(range(1, len(taken) + 1))
    assert sum(len(taken) for taken in counted.values()) == 24


async def test_a_thread_is_counted_on_by_a_router_whose_clock_stands_still(
    hub: PlannerHarness,
) -> None:
    await hub.give(said("li", "1", channel="site"), channel="site")
    await hub.take_over()
    await hub.give(said("li", "2", channel="site"), channel="site")
    assert list((await seqs(hub)).values()) == [[1, 2]]


async def test_channels_that_do_not_count_leave_the_place_empty(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    assert [entry.seq for entry in await hub.all(Entry)] == [0]


async def test_a_thread_may_be_named_by_its_id(hub: PlannerHarness) -> None:
    """The default one, a second one, and nobody else's."""
    await hub.give(said("li", "1", channel="site"), channel="site")
    await hub.give(said("li", "2", channel="site", thread="shop"), channel="site")
    [address] = await hub.all(AddressDoc)
    [second] = await hub.all(Thread)
    for key, thread in (("3", address.thread), ("4", second.thread)):
        await hub.give(said("li", key, channel="site", thread=thread or ""), channel="site")
    await hub.give(said("wu", "5", channel="site", thread=second.thread), channel="site")
    counted = await seqs(hub)
    assert counted.pop(address.thread or "") == [1, 2]
    assert counted.pop(second.thread) == [1, 2]
    assert list(counted.values()) == [[1]]


async def test_a_message_may_ask_for_a_thread_of_its_own(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1", channel="mail"), channel="mail")
    await hub.give(said("li", "2", channel="mail", new_thread=True), channel="mail")
    await hub.give(said("li", "2", channel="mail", new_thread=True), channel="mail")
    await hub.give(said("li", "3", channel="mail", new_thread=True), channel="mail")
    assert len({entry.thread for entry in await hub.all(Entry)}) == 3
    assert len(await hub.all(Conversation)) == 3


# --- later changes -----------------------------------------------------------------------------


def edit(key: str, vendor_id: str, text: str, **more: object) -> Amendment:
    data = {"parts": [{"type": "text", "text": text}]}
    target = Target(vendor_id=vendor_id)
    return Amendment(key=key, target=target, kind=AmendmentKind.EDIT, data=data, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("commit", [True, False], ids=["across batches", "in one batch"])
async def test_amendments_may_come_before_their_target(hub: PlannerHarness, commit: bool) -> None:
    await hub.give(edit("a", "v1", "second", seq=2), commit=commit)
    await hub.give(edit("b", "v1", "first", seq=1), commit=commit)
    await hub.give(said("li", "1", "original", vendor_ids=("v0", "v1", "v1")), commit=commit)
    await hub.flush()
    [entry] = await hub.all(Entry)
    assert (plain_text(entry.parts), entry.rev) == ("second", 2)
    assert not [amendment for amendment in await hub.all(AmendmentDoc) if amendment.waiting]
    told = await hub.told()
    assert told.index("message.received") < told.index("message.edited")


async def test_an_amendment_changes_its_entry_once(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1", "original", vendor_ids=("v1",)))
    for _ in range(2):
        await hub.give(edit("a", "v1", "edited"))
    [entry] = await hub.all(Entry)
    assert (plain_text(entry.parts), entry.rev) == ("edited", 1)
    assert (await hub.told()).count("message.edited") == 1


async def test_a_recalled_message_stays_recalled(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1", vendor_ids=("v1",)))
    recall = Amendment(key="r", target=Target(vendor_id="v1"), kind=AmendmentKind.RECALL)
    await hub.give(recall)
    await hub.give(edit("a", "v1", "edited"))
    [entry] = await hub.all(Entry)
    assert entry.recalled
    assert entry.parts == ()


async def test_a_step_of_a_call_names_the_event_that_the_feed_is_told(hub: PlannerHarness) -> None:
    """A screen can pop when a call is answered, not when it is over; other names stay inside."""
    call = Event(key="call", address=somebody("li"), name="call.ringing", vendor_ids=("CA1",))
    await hub.give(call, channel="phone")
    for step, event in (("answered", "call.answered"), ("a", "customer.erased"), ("b", None)):
        change = Amendment(
            key=step,
            target=Target(vendor_id="CA1"),
            kind=AmendmentKind.CALL,
            data={"step": step, **({"event": event} if event else {})},
        )
        await hub.give(change, channel="phone")
    told = [kind for kind in await hub.told() if kind.startswith(("call.", "customer.erased"))]
    assert told == ["call.ringing", "call.answered", "call.changed", "call.changed"]


@pytest.mark.parametrize("early", [False, True])
async def test_a_recording_of_a_call_is_fetched_into_its_entry(
    hub: PlannerHarness, early: bool
) -> None:
    """One job for the file, whether its step came after the call's entry or before."""
    call = Event(key="call", address=somebody("li"), name="call.ringing", vendor_ids=("CA1",))
    part = {"type": "audio", "media": {"vendor_ref": "RE1", "state": "pending"}}
    change = Amendment(
        key="recorded",
        target=Target(vendor_id="CA1"),
        kind=AmendmentKind.CALL,
        data={"step": "recorded", "parts": [part]},
    )
    for draft in (change, call) if early else (call, change):
        await hub.give(draft, channel="phone")
    await hub.give(change, channel="phone")
    [entry] = await hub.all(Entry)
    assert [part.media.vendor_ref for part in entry.parts] == ["RE1"]  # type: ignore[union-attr]
    [job] = [job for job in await hub.all(Job) if job.kind == "media"]
    assert (job.entry, job.args["ref"]) == (entry.id, "RE1")


async def test_the_call_goes_on_in_its_entry(hub: PlannerHarness) -> None:
    call = Event(key="call", address=somebody("li"), name="call.started", vendor_ids=("CA1",))
    await hub.give(call, channel="phone")
    for step, seconds in (("ringing", 0), ("ended", 12)):
        change = Amendment(
            key=step,
            target=Target(vendor_id="CA1"),
            kind=AmendmentKind.CALL,
            data={"step": step, "seconds": seconds},
        )
        await hub.give(change, channel="phone")
    [entry] = await hub.all(Entry)
    assert set(entry.data["call"]) == {"ringing", "ended"}
    assert entry.data["call"]["ended"]["seconds"] == 12
    assert (await hub.told()).count("call.changed") == 2


# --- receipts ----------------------------------------------------------------------------------


async def answer(hub: PlannerHarness, text: str, **args: object) -> str:
    parts = (Text(text=text),)
    result = await hub.done("reply", parts=parts, **args)
    return str(result["entry"])


async def outcome(hub: PlannerHarness, entry: str, state: str, **more: object) -> None:
    key = f"{entry}|{state}|{more.get('round', 0)}"
    result = {"state": state, **more}
    await hub.give(Outcome(key=key, job="job_1", kind="send", entry=entry, result=result))


async def test_an_answer_goes_through_its_states_and_no_way_back(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    [address] = await hub.all(AddressDoc)
    entry = await answer(hub, "yes", address=address.id)
    assert (await hub.see(Entry, entry)).delivery.state is DeliveryState.QUEUED  # type: ignore[union-attr]
    await outcome(hub, entry, "accepted", vendor_ids=["m1"])
    for number, state in enumerate((DeliveryState.READ, DeliveryState.DELIVERED)):
        await hub.give(Receipt(key=str(number), target=Target(vendor_id="m1"), state=state))
    found = await hub.see(Entry, entry)
    assert found.delivery is not None
    assert found.delivery.state is DeliveryState.READ
    assert (await hub.told()).count("message.delivery_changed") == 2


async def test_a_receipt_that_is_faster_than_the_outcome_waits_for_it(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    [address] = await hub.all(AddressDoc)
    entry = await answer(hub, "yes", address=address.id)
    await hub.give(Receipt(key="r", target=Target(vendor_id="m1"), state=DeliveryState.DELIVERED))
    await outcome(hub, entry, "accepted", vendor_ids=["m1"])
    found = await hub.see(Entry, entry)
    assert found.delivery is not None
    assert found.delivery.state is DeliveryState.DELIVERED


async def test_a_failed_answer_is_told_to_its_tickets_and_may_be_redriven(
    hub: PlannerHarness,
) -> None:
    await hub.give(said("li", "1"))
    [address] = await hub.all(AddressDoc)
    entry = await answer(hub, "yes", address=address.id)
    for _ in range(2):
        await outcome(hub, entry, "failed", code="45015", reason="window closed")
    failed = [job for job in await hub.all(Job) if job.task == "failed_answer"]
    assert [job.args for job in failed] == [{"state": "failed", "reason": "window closed"}]
    assert failed[0].lane == f"ticket:desk:{address.id}"
    await outcome(hub, entry, "accepted", round=1)
    found = await hub.see(Entry, entry)
    assert found.delivery is not None
    assert found.delivery.state is DeliveryState.ACCEPTED


async def test_an_answer_takes_its_place_in_a_counted_thread_when_it_was_accepted(
    hub: PlannerHarness,
) -> None:
    """What the customer cannot see leaves no gap; a second receipt takes no second place."""
    await hub.give(said("li", "1", channel="site"), channel="site")
    [address] = await hub.all(AddressDoc)
    lost = await answer(hub, "lost", address=address.id)
    late = await answer(hub, "late", address=address.id)
    await hub.give(said("li", "2", channel="site"), channel="site")
    assert [(await hub.see(Entry, each)).seq for each in (lost, late)] == [0, 0]
    await outcome(hub, lost, "failed")
    await outcome(hub, late, "accepted")
    await outcome(hub, late, "delivered")
    await hub.give(said("li", "3", channel="site"), channel="site")
    assert (await hub.see(Entry, lost)).seq == 0
    assert (await hub.see(Entry, late)).seq == 3
    [taken] = (await seqs(hub)).values()
    assert sorted(taken) == [1, 2, 3, 4]


async def test_a_cumulative_receipt_lifts_what_the_other_side_wrote_up_to_there(
    hub: PlannerHarness,
) -> None:
    await hub.give(said("li", "1", channel="site"), channel="site")
    [address] = await hub.all(AddressDoc)
    mine = [await answer(hub, f"answer {n}", address=address.id) for n in range(3)]
    for entry in mine:
        await outcome(hub, entry, "accepted")
    target = Target(thread=address.thread, up_to_seq=3)
    read = Receipt(key="r", target=target, state=DeliveryState.READ)
    for _ in range(2):
        await hub.give(read, channel="site")
    states = [(await hub.see(Entry, entry)).delivery.state for entry in mine]  # type: ignore[union-attr]
    assert states == [DeliveryState.READ, DeliveryState.READ, DeliveryState.ACCEPTED]
    [question] = [each for each in await hub.all(Entry) if each.direction is Direction.IN]
    assert (question.delivery, question.seen) == (None, None)
    assert (await hub.told()).count("message.delivery_changed") == 5


async def test_an_agents_receipt_says_what_our_side_saw(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1", channel="site"), channel="site")
    await hub.give(said("li", "2", channel="site"), channel="site")
    [address] = await hub.all(AddressDoc)
    target = Target(thread=address.thread, up_to_seq=1)
    seen = Receipt(key="r", target=target, state=DeliveryState.READ, by=Role.AGENT)
    await hub.give(seen, channel="site")
    first, second = sorted(await hub.all(Entry), key=lambda each: each.seq)
    assert first.seen is not None
    assert first.seen.state is DeliveryState.READ
    assert (first.delivery, second.seen) == (None, None)
    assert (await hub.told())[-1] == "message.seen"


# --- items with several drafts -------------------------------------------------------------------


async def test_a_refused_command_takes_nothing_else_of_its_item_along(hub: PlannerHarness) -> None:
    """A ticket backend's delivery may hold several commands: each is carried out or refused."""
    await hub.give(said("li", "0"))
    [address] = await hub.all(AddressDoc)
    parts = (Text(text="yes"),)
    await hub.give(
        said("li", "1"),
        hub.draft("reply", "good", parts=parts, address=address.id),
        hub.draft("reply", "bad", parts=(Text(text=" "),), address=address.id),
        hub.draft("reply", "ugly", nothing=1),
        said("li", "2"),
    )
    states = [(await hub.operation(key)).state for key in ("good", "bad", "ugly")]
    assert states == ["done", "refused", "refused"]
    assert len(await hub.all(Entry)) == 4
    positions = [row.id for row in await hub.all(FeedRow)]
    assert positions == list(range(1, len(positions) + 1))


async def test_a_message_and_its_receipt_share_an_item(hub: PlannerHarness) -> None:
    message: Message = said("li", "1", vendor_ids=("v1",))
    await hub.give(message, edit("a", "v1", "edited"))
    [entry] = await hub.all(Entry)
    assert plain_text(entry.parts) == "edited"
