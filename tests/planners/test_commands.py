"""What people and backends may ask for: answers, notes, changes, refusals; the same key twice."""

from __future__ import annotations

from typing import Any

import pytest

from hub.documents import (
    AddressDoc,
    AmendmentDoc,
    Conversation,
    Customer,
    Entry,
    FeedRow,
    Job,
    Operation,
)
from hub.planning.commands import command_entry_id, command_names, digest
from normalizer.drafts import DeliveryState, Evidence, Outcome
from normalizer.model import Direction, Role
from normalizer.parts import File, Media, Text, plain_text
from tests.planners.harness import PlannerHarness, said, somebody

AGENT = Evidence(kind="agent")
HI = (Text(text="hi"),)


@pytest.fixture
async def li(hub: PlannerHarness) -> AddressDoc:
    """Somebody who has written on the chat, and has an open conversation."""
    await hub.give(said("li", "1"))
    [address] = await hub.all(AddressDoc)
    return address


# --- answers -------------------------------------------------------------------------------------


async def test_an_answer_is_an_entry_a_send_and_a_line_in_the_ticket(
    hub: PlannerHarness, li: AddressDoc
) -> None:
    result = await hub.done("reply", address=li.id, parts=HI, agent="w", agent_name="Wang")
    [conversation] = await hub.all(Conversation)
    assert result == {
        "entry": command_entry_id(hub.key, "command 1"),
        "conversation": conversation.id,
        "customer": li.customer,
    }
    entry = await hub.see(Entry, result["entry"])
    assert (entry.direction, entry.channel, entry.account) == (Direction.OUT, "chat", "main")
    assert (entry.sender.role, entry.sender.name, entry.sender.ref) == (Role.AGENT, "Wang", "w")
    assert entry.delivery is not None
    assert entry.delivery.state is DeliveryState.QUEUED
    send, ticket = sorted(
        (job for job in await hub.all(Job) if job.entry == entry.id), key=lambda job: job.kind
    )
    assert (send.lane, send.position) == (f"send:{li.id}", entry.position)
    assert ticket.lane == f"ticket:desk:{li.id}"


async def test_an_answer_from_a_ticket_does_not_go_back_to_it(
    hub: PlannerHarness, li: AddressDoc
) -> None:
    result = await hub.done("reply", address=li.id, parts=HI, backend="desk")
    assert [job.kind for job in await hub.all(Job) if job.entry == result["entry"]] == ["send"]


@pytest.mark.parametrize("commit", [True, False], ids=["across batches", "in one batch"])
async def test_the_same_key_answers_once(hub: PlannerHarness, li: AddressDoc, commit: bool) -> None:
    first = await hub.command("reply", key="k", commit=commit, address=li.id, parts=HI)
    again = await hub.command("reply", key="k", commit=commit, address=li.id, parts=HI)
    await hub.flush()
    assert again == first
    assert len(await hub.all(Entry)) == 2
    assert len([job for job in await hub.all(Job) if job.kind == "send"]) == 1


async def test_another_request_under_the_same_key_can_be_told_apart(
    hub: PlannerHarness, li: AddressDoc
) -> None:
    first = await hub.command("note", key="k", customer=li.customer, text="a")
    again = await hub.command("note", key="k", customer=li.customer, text="b")
    assert again == first
    assert first.digest == digest("note", {"customer": li.customer, "text": "a"})
    assert first.digest != digest("note", {"customer": li.customer, "text": "b"})


@pytest.mark.parametrize("name", ["reply", "note"])
async def test_a_replay_long_after_says_nothing_twice(
    hub: PlannerHarness, li: AddressDoc, name: str
) -> None:
    """Operations expire; the entry they made is what stops a replay then."""
    args: dict[str, Any] = {"address": li.id, "parts": HI}
    if name == "note":
        args = {"customer": li.customer, "text": "once"}
    first = await hub.done(name, key="k", **args)
    await hub.store.table(Operation).delete({})
    before = (len(await hub.all(Entry)), len(await hub.all(Job)))
    again = await hub.done(name, key="k", **args)
    assert again["entry"] == first["entry"]
    assert (len(await hub.all(Entry)), len(await hub.all(Job))) == before


async def test_an_answer_is_refused_when_somebody_spoke_in_between(
    hub: PlannerHarness, li: AddressDoc
) -> None:
    seen = (await hub.all(FeedRow))[-1].id
    await hub.give(said("li", "2"))
    newer = max(await hub.all(Entry), key=lambda entry: entry.position)
    refused = await hub.command("reply", address=li.id, parts=HI, seen_up_to=seen)
    assert (refused.status, refused.error) == (409, "conversation-moved-on")
    assert refused.result == {"entries": [newer.id]}
    assert len(await hub.all(Entry)) == 2
    latest = (await hub.all(FeedRow))[-1].id
    await hub.done("note", customer=li.customer, text="nobody spoke")
    await hub.done("reply", address=li.id, parts=HI, seen_up_to=latest)


async def test_somebody_speaking_in_the_same_batch_counts_as_well(
    hub: PlannerHarness, li: AddressDoc
) -> None:
    seen = (await hub.all(FeedRow))[-1].id
    await hub.give(said("li", "2"), commit=False)
    operation = await hub.command("reply", address=li.id, parts=HI, seen_up_to=seen)
    assert operation.error == "conversation-moved-on"


async def test_another_customers_words_are_not_in_between(
    hub: PlannerHarness, li: AddressDoc
) -> None:
    seen = (await hub.all(FeedRow))[-1].id
    await hub.give(said("wu", "2"))
    await hub.done("reply", address=li.id, parts=HI, seen_up_to=seen)


async def test_an_answer_stands_in_a_thread_of_its_own_address_only(hub: PlannerHarness) -> None:
    """In a stranger's, that one's chat would miss a number and the customer would see nothing."""
    for who, thread in (("li", ""), ("li", "second"), ("mei", ""), ("mei", "other")):
        draft = said(who, f"{who} {thread}", channel="site", thread=thread)
        await hub.give(draft, channel="site")
    entries = sorted(await hub.all(Entry), key=lambda entry: entry.position)
    li, own, *foreign = entries
    for entry in (li, own):
        result = await hub.done("reply", address=li.address, thread=entry.thread, parts=HI)
        assert (await hub.see(Entry, result["entry"])).thread == entry.thread
    for entry in foreign:
        refused = await hub.refused("reply", address=li.address, thread=entry.thread, parts=HI)
        assert refused == (404, "not-found")


async def test_an_answer_in_a_conversation_leaves_by_the_channel_that_is_named(
    hub: PlannerHarness, li: AddressDoc
) -> None:
    """Else by the one where the customer spoke last: what is private must not go there instead."""
    await hub.give(said("li", "2", channel="board"), channel="board")
    board = next(doc for doc in await hub.all(AddressDoc) if doc.channel == "board")
    await hub.done("merge", customer=li.customer, other=board.customer, evidence=AGENT)
    [chat] = [each for each in await hub.all(Conversation) if each.root == li.id]
    for channel, address in (("", li.id), ("chat", li.id), ("board", board.id)):
        told = {"conversation": chat.id, "channel": channel, "parts": HI}
        for whose in ({}, {"customer": li.customer}):
            result = await hub.done("reply", **told, **whose)
            assert (await hub.see(Entry, result["entry"])).address == address, (channel, whose)
    assert await hub.refused("reply", conversation=chat.id, channel="mail", parts=HI) == (
        409,
        "unreachable",
    )


@pytest.mark.parametrize("undone", [False, True], ids=["merged", "merged and undone"])
async def test_who_was_merged_meanwhile_spoke_in_between_all_the_same(
    hub: PlannerHarness, li: AddressDoc, undone: bool
) -> None:
    """The feed tells a message under the customer of its moment; the page is the person's."""
    await hub.give(said("mei", "2"))
    mei = next(doc for doc in await hub.all(AddressDoc) if doc.id != li.id)
    merge = {"customer": li.customer, "other": mei.customer, "evidence": AGENT}
    seen = (await hub.all(FeedRow))[-1].id
    made = await hub.done("merge", **merge) if undone else {}
    await hub.give(said("mei", "3"))
    newest = max(await hub.all(Entry), key=lambda entry: entry.position)
    if undone:
        await hub.done("unmerge", link=made["link"])
    else:
        await hub.done("merge", **merge)
    refused = await hub.command("reply", address=mei.id, parts=HI, seen_up_to=seen)
    assert (refused.error, refused.result) == ("conversation-moved-on", {"entries": [newest.id]})
    if undone:  # and nobody spoke in li's own timeline
        await hub.done("reply", address=li.id, parts=HI, seen_up_to=seen)


async def test_an_answer_goes_where_the_customer_was_reached(hub: PlannerHarness) -> None:
    """By conversation: where it spoke last. By customer: the newest address, or the channel's."""
    await hub.give(said("li", "1"))
    [chat] = await hub.all(AddressDoc)
    hub.later(minutes=1)
    await hub.give(said("li", "2", channel="site"), channel="site")
    site = next(each for each in await hub.all(AddressDoc) if each.id != chat.id)
    await hub.done("link", customer=chat.customer, address=site.id, evidence=AGENT)
    first = (await hub.see(Customer, chat.customer)).open[0]

    async def reached(**args: Any) -> str:
        result = await hub.done("reply", parts=HI, **args)
        return (await hub.see(Entry, result["entry"])).address

    assert await reached(conversation=first) == chat.id
    assert await reached(customer=chat.customer, channel="chat") == chat.id
    assert await reached(customer=chat.customer, channel="site") == site.id
    assert await reached(customer=chat.customer) == site.id
    await hub.done("close", conversation=(await hub.see(Customer, chat.customer)).open[1])
    await hub.give(said("li", "3", channel="site"), channel="site")
    assert await reached(conversation=first) == site.id
    refusal = await hub.refused("reply", parts=HI, customer=chat.customer, channel="mail")
    assert refusal == (409, "unreachable")


async def test_a_mail_answered_by_its_address_alone_is_answered_in_the_last_thread(
    hub: PlannerHarness,
) -> None:
    """Only a subject begins a new matter: an answer to nothing stands alone in a mailbox."""
    await hub.give(said("li", "1", channel="mail", thread="older"), channel="mail")
    await hub.give(said("li", "2", channel="mail", thread="newer"), channel="mail")
    older, newer = sorted(await hub.all(Entry), key=lambda entry: entry.position)
    result = await hub.done("reply", address=newer.address, parts=HI)
    answer = await hub.see(Entry, result["entry"])
    assert (answer.thread, answer.conversation) == (newer.thread, newer.conversation)
    await hub.done("close", conversation=newer.conversation)
    result = await hub.done("reply", address=newer.address, parts=HI, subject="another matter")
    fresh = await hub.see(Entry, result["entry"])
    assert fresh.thread not in (older.thread, newer.thread)


async def test_an_answer_to_a_mail_conversation_stays_in_its_thread(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1", channel="mail"), channel="mail")
    await hub.give(said("li", "2", channel="mail", thread="t"), channel="mail")
    default, named = sorted(await hub.all(Entry), key=lambda entry: entry.position)
    result = await hub.done("reply", conversation=named.conversation, parts=HI)
    assert (await hub.see(Entry, result["entry"])).thread == named.thread != default.thread


async def test_an_answer_to_a_closed_conversation_opens_it_and_counts_as_activity(
    hub: PlannerHarness, li: AddressDoc
) -> None:
    [conversation] = await hub.all(Conversation)
    await hub.done("close", conversation=conversation.id)
    hub.later(days=10)
    await hub.done("reply", conversation=conversation.id, parts=HI)
    hub.later(hours=50)
    await hub.done("reply", conversation=conversation.id, parts=HI)
    hub.later(hours=50)
    await hub.give(said("li", "2"))
    assert {each.conversation for each in await hub.all(Entry)} == {conversation.id}
    [conversation] = await hub.all(Conversation)
    assert conversation.state == "open"
    assert (await hub.told()).count("conversation.closed") == 1


@pytest.mark.parametrize(
    ("args", "refusal"),
    [
        ({"parts": ()}, (422, "bad-request")),
        ({"parts": (Text(text="\n "),)}, (422, "bad-request")),
        ({"parts": (Text(text="x" * 601),)}, (422, "unsupported")),
        ({"parts": HI * 11}, (422, "unsupported")),
        ({"parts": (File(media=Media(blob="b")),)}, (422, "unsupported")),
        ({"parts": HI, "address": "adr_no"}, (404, "not-found")),
        ({"parts": HI, "address": "nonsense"}, (422, "bad-request")),
        ({"parts": HI, "address": "mail::mailbox:a@b.c"}, (422, "bad-request")),
        ({"parts": HI, "address": "", "conversation": "cnv_no"}, (404, "not-found")),
        ({"parts": HI, "address": "", "customer": "cus_no"}, (404, "not-found")),
        ({"parts": HI, "address": ""}, (422, "bad-request")),
        ({"parts": HI, "unheard": 1}, (422, "bad-request")),
        ({"parts": "text"}, (422, "bad-request")),
    ],
)
async def test_what_cannot_be_said_is_refused_and_leaves_nothing(
    hub: PlannerHarness, li: AddressDoc, args: dict[str, Any], refusal: tuple[int, str]
) -> None:
    feed = await hub.told()
    assert await hub.refused("reply", **{"address": li.id, **args}) == refusal
    assert await hub.told() == feed
    assert len(await hub.all(Entry)) == len(await hub.all(Customer)) == 1


async def test_an_answer_does_not_cross_customers(hub: PlannerHarness, li: AddressDoc) -> None:
    await hub.give(said("wu", "1"))
    wu = next(each for each in await hub.all(AddressDoc) if each.id != li.id)
    theirs = (await hub.see(Customer, wu.customer)).open[0]
    for args in (
        {"address": li.id, "customer": wu.customer},
        {"address": li.id, "conversation": theirs},
    ):
        assert await hub.refused("reply", parts=HI, **args) == (404, "not-found")


async def test_somebody_new_may_be_written_to(hub: PlannerHarness) -> None:
    result = await hub.done("reply", via="chat", parts=HI, address="chat:main:user:new")
    [address] = await hub.all(AddressDoc)
    assert address.address == str(somebody("new"))
    assert (await hub.see(Entry, result["entry"])).address == address.id
    await hub.give(said("new", "1"))
    assert len(await hub.all(Customer)) == 1


# --- changing answers --------------------------------------------------------------------------


async def answered(hub: PlannerHarness, channel: str) -> str:
    await hub.give(said("wu", "1", channel=channel), channel=channel)
    address = next(each for each in await hub.all(AddressDoc) if each.channel == channel)
    return str((await hub.done("reply", address=address.id, parts=HI))["entry"])


async def test_an_answer_may_be_edited_within_its_window(hub: PlannerHarness) -> None:
    entry = await answered(hub, "site")
    parts = (Text(text="hello"),)
    for _ in range(2):
        result = await hub.done("edit", key="e", entry=entry, parts=parts)
        assert result == {"entry": entry, "rev": 1}
    assert plain_text((await hub.see(Entry, entry)).parts) == "hello"
    hub.later(seconds=901)
    assert await hub.refused("edit", entry=entry, parts=parts) == (409, "edit-window-passed")
    assert await hub.refused("recall", entry=entry) == (409, "recall-unsupported")


async def test_an_answer_may_be_recalled_once(hub: PlannerHarness) -> None:
    entry = await answered(hub, "chat")
    assert await hub.refused("edit", entry=entry, parts=HI) == (409, "edit-unsupported")
    await hub.done("recall", entry=entry)
    assert (await hub.see(Entry, entry)).recalled
    assert await hub.refused("recall", entry=entry) == (409, "recalled")


async def test_only_answers_are_changed(hub: PlannerHarness, li: AddressDoc) -> None:
    [question] = await hub.all(Entry)
    for ident in (question.id, "ent_no"):
        assert await hub.refused("recall", entry=ident) == (404, "not-found")
    assert await hub.all(AmendmentDoc) == []


# --- notes -------------------------------------------------------------------------------------


async def test_a_note_is_kept_beside_the_customer_and_told_to_the_ticket(
    hub: PlannerHarness, li: AddressDoc
) -> None:
    [conversation] = await hub.all(Conversation)
    result = await hub.done("note", conversation=conversation.id, text="call back", agent="w")
    note = await hub.see(Entry, result["entry"])
    assert (note.kind, note.direction) == ("note", Direction.INTERNAL)
    assert (await hub.see(AddressDoc, note.address)).private
    assert note.conversation == conversation.id
    assert [job.kind for job in await hub.all(Job) if job.entry == note.id] == ["ticket"]
    again = await hub.done("note", customer=li.customer, text="no conversation")
    assert (await hub.see(Entry, again["entry"])).address == note.address
    assert not [job for job in await hub.all(Job) if job.entry == again["entry"]]


async def test_a_private_address_is_nobodys_to_write_to_or_link(
    hub: PlannerHarness, li: AddressDoc
) -> None:
    result = await hub.done("note", customer=li.customer, text="x")
    private = (await hub.see(Entry, result["entry"])).address
    await hub.give(said("wu", "1"))
    wu = next(each for each in await hub.all(Customer) if each.id != li.customer)
    assert await hub.refused("reply", address=private, parts=HI) == (404, "not-found")
    refusal = await hub.refused("link", address=private, customer=wu.id, evidence=AGENT)
    assert refusal == (422, "bad-request")
    assert await hub.refused("note", customer=li.customer, text=" ") == (422, "bad-request")


# --- organizing ----------------------------------------------------------------------------------


async def test_a_conversation_is_claimed_by_one(hub: PlannerHarness, li: AddressDoc) -> None:
    [conversation] = await hub.all(Conversation)
    claim = {"conversation": conversation.id, "expected_assignee": ""}
    await hub.done("organize", assignee="wang", **claim)
    assert await hub.refused("organize", assignee="zhao", **claim) == (409, "claimed")
    assert (await hub.see(Conversation, conversation.id)).assignee == "wang"
    await hub.done("organize", conversation=conversation.id, assignee="")
    assert (await hub.see(Conversation, conversation.id)).assignee == ""


async def test_what_is_organized_is_told_to_the_tickets(
    hub: PlannerHarness, li: AddressDoc
) -> None:
    [conversation] = await hub.all(Conversation)
    ticket = {"backend": "desk", "id": "T1"}
    outcome = Outcome(
        key="t", job="j", kind="ticket", conversation=conversation.id, result={"ticket": ticket}
    )
    await hub.give(outcome)
    on = {"conversation": conversation.id}
    await hub.done("organize", add_tags=["vip", "late"], priority="high", **on)
    await hub.done("organize", add_tags=["vip"], remove_tags=["late"], **on)
    await hub.done("organize", add_tags=["vip"], **on)
    await hub.done("close", **on)
    await hub.done("close", **on)
    await hub.done("reopen", **on)
    changes = sorted(
        (job for job in await hub.all(Job) if job.task == "change"), key=lambda job: job.position
    )
    assert [job.args for job in changes] == [
        {"priority": "high", "add_tags": ["vip", "late"], "remove_tags": []},
        {"add_tags": [], "remove_tags": ["late"]},
        {"status": "solved"},
        {"status": "open"},
    ]
    assert {job.lane for job in changes} == {f"ticket:desk:{li.id}"}
    assert await hub.refused("organize", priority="huge", **on) == (422, "bad-request")


async def test_snoozing_ends_when_somebody_wakes_it(hub: PlannerHarness, li: AddressDoc) -> None:
    [conversation] = await hub.all(Conversation)
    until = hub.now.isoformat()
    await hub.done("organize", conversation=conversation.id, snoozed_until=until)
    assert (await hub.see(Conversation, conversation.id)).snoozed_until == hub.now
    await hub.done("organize", conversation=conversation.id, wake=True)
    assert (await hub.see(Conversation, conversation.id)).snoozed_until is None


async def test_reasons_that_only_the_hub_may_give_are_refused(
    hub: PlannerHarness, li: AddressDoc
) -> None:
    [conversation] = await hub.all(Conversation)
    for reason in ("joined", "erased", "because"):
        refusal = await hub.refused("close", conversation=conversation.id, reason=reason)
        assert refusal == (422, "bad-request")


async def test_unknown_commands_and_conversations_are_refused(hub: PlannerHarness) -> None:
    assert await hub.refused("dance") == (422, "bad-request")
    for name in ("close", "reopen", "organize"):
        assert await hub.refused(name, conversation="cnv_no") == (404, "not-found")
    event = {"conversation": "cnv_no", "backend": "desk", "ticket": "T", "kind": "status"}
    assert await hub.refused("ticket_event", **event) == (404, "not-found")


async def test_a_ticket_event_is_about_a_ticket_that_the_conversation_has(
    hub: PlannerHarness, li: AddressDoc
) -> None:
    [conversation] = await hub.all(Conversation)
    event = {"conversation": conversation.id, "backend": "desk", "ticket": "T", "kind": "status"}
    assert await hub.refused("ticket_event", **event) == (404, "not-found")


def test_every_command_is_known_by_name() -> None:
    assert {"reply", "note", "link", "separate", "merge", "unlink", "unmerge", "erase"} < set(
        command_names()
    )
