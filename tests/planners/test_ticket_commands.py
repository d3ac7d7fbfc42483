"""What a helpdesk did by itself: an answer that it sent, a ticket that it merged."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hub.documents import AddressDoc, Conversation, Entry, Job
from normalizer.addresses import Address
from normalizer.drafts import DeliveryState, Evidence, Identity, Outcome
from normalizer.model import Direction, Trust
from normalizer.parts import plain_text
from tests.planners.harness import PlannerHarness, said, somebody

MAILBOX = Address(scheme="mail", account="", kind="mailbox", id="li@example.com")


@pytest.fixture
async def conversation(hub: PlannerHarness) -> Conversation:
    """Somebody who wrote on the chat, and whose ticket is T1."""
    await hub.give(said("li", "1"))
    [found] = await hub.all(Conversation)
    await linked(hub, found.id, "T1")
    return found


async def linked(
    hub: PlannerHarness,
    conversation: str,
    ticket: str,
    *,
    again: str = "",
    replaces: Sequence[str] = (),
    commit: bool = True,
) -> None:
    told = {"backend": "desk", "id": ticket, "number": f"#{ticket}", "status": "open"}
    await hub.give(
        Outcome(
            key=f"{conversation} {ticket} {again}",
            job="j",
            kind="ticket",
            conversation=conversation,
            result={"ticket": told, "replaces": list(replaces)},
        ),
        commit=commit,
    )


async def test_what_the_helpdesk_sent_is_an_answer_that_nobody_sends(
    hub: PlannerHarness, conversation: Conversation
) -> None:
    """Where it went is not known: it is on no channel, so that no chat shows it again."""
    result = await hub.done(
        "sent_elsewhere",
        conversation=conversation.id,
        backend="desk",
        text="We wrote to you.",
        agent="w",
        agent_name="Wang",
    )
    entry = await hub.see(Entry, result["entry"])
    assert (entry.direction, entry.channel, entry.conversation) == (
        Direction.OUT,
        "hub",
        conversation.id,
    )
    assert (plain_text(entry.parts), entry.sender.name) == ("We wrote to you.", "Wang")
    assert entry.delivery is not None
    assert entry.delivery.state is DeliveryState.ACCEPTED
    assert (await hub.see(AddressDoc, entry.address)).private
    assert [job for job in await hub.all(Job) if job.entry == entry.id] == []
    assert (await hub.told())[-1] == "message.sent"


async def test_it_went_to_the_customers_mailbox_where_one_is_known(
    hub: PlannerHarness, conversation: Conversation
) -> None:
    await hub.give(said(MAILBOX, "2", channel="mail"), channel="mail")
    await hub.give(
        Identity(
            key="i",
            address=MAILBOX,
            same_as=somebody("li"),
            trust=Trust.ATTESTED,
            evidence=Evidence(kind="agent"),
        )
    )
    result = await hub.done(
        "sent_elsewhere", conversation=conversation.id, backend="desk", text="We wrote to you."
    )
    entry = await hub.see(Entry, result["entry"])
    assert (entry.channel, entry.account) == ("mail", "main")
    assert (await hub.see(AddressDoc, entry.address)).scheme == "mail"


async def test_it_is_told_to_other_helpdesks_and_needs_a_text(
    hub: PlannerHarness, conversation: Conversation
) -> None:
    on = {"conversation": conversation.id, "backend": "another desk"}
    result = await hub.done("sent_elsewhere", text="We wrote to you.", **on)
    jobs = [job for job in await hub.all(Job) if job.entry == result["entry"]]
    assert [(job.kind, job.backend) for job in jobs] == [("ticket", "desk")]
    assert await hub.refused("sent_elsewhere", text=" ", **on) == (422, "bad-request")


async def test_the_same_answer_told_twice_is_one(
    hub: PlannerHarness, conversation: Conversation
) -> None:
    draft = hub.draft(
        "sent_elsewhere", "k", conversation=conversation.id, backend="desk", text="Hello"
    )
    await hub.give(draft)
    await hub.give(draft)
    assert [plain_text(entry.parts) for entry in await hub.all(Entry)].count("Hello") == 1


async def test_a_merged_tickets_successor_takes_its_place(
    hub: PlannerHarness, conversation: Conversation
) -> None:
    merged = {"conversation": conversation.id, "backend": "desk", "kind": "merged"}
    await hub.done("ticket_event", ticket="T1", value="T2", **merged)
    [ticket] = (await hub.see(Conversation, conversation.id)).tickets
    assert (ticket.id, ticket.number, ticket.status) == ("T2", "", "open")
    assert (await hub.told())[-1] == "ticket.linked"
    solved = {"conversation": conversation.id, "backend": "desk", "kind": "status"}
    await hub.done("ticket_event", ticket="T2", value="solved", raw="solved", **solved)
    assert (await hub.see(Conversation, conversation.id)).state == "closed"
    assert await hub.refused("ticket_event", ticket="T1", value="T3", **merged) == (
        404,
        "not-found",
    )


async def test_a_ticket_merged_into_one_that_is_ours_too_leaves_one(
    hub: PlannerHarness, conversation: Conversation
) -> None:
    await linked(hub, conversation.id, "T2")
    merged = {"conversation": conversation.id, "backend": "desk", "kind": "merged"}
    await hub.done("ticket_event", ticket="T1", value="T2", **merged)
    found = await hub.see(Conversation, conversation.id)
    assert [ticket.id for ticket in found.tickets] == ["T2"]


async def tickets(hub: PlannerHarness, conversation: Conversation) -> list[str]:
    return [each.id for each in (await hub.see(Conversation, conversation.id)).tickets]


@pytest.mark.parametrize("commit", [True, False], ids=["across batches", "in one batch"])
async def test_an_outcome_from_before_a_merge_brings_no_old_ticket_back(
    hub: PlannerHarness, conversation: Conversation, commit: bool
) -> None:
    """The entry was written on T1, then T1 went into T2, and only then the outcome came."""
    merged = {"conversation": conversation.id, "backend": "desk", "kind": "merged"}
    await hub.command("ticket_event", ticket="T1", value="T2", commit=commit, **merged)
    await linked(hub, conversation.id, "T1", again="late", commit=commit)
    await hub.flush()
    assert await tickets(hub, conversation) == ["T2"]
    assert (await hub.told())[-1] == "ticket.linked"
    solved = {"conversation": conversation.id, "backend": "desk", "kind": "status"}
    await hub.done("ticket_event", ticket="T2", value="solved", raw="solved", **solved)
    assert (await hub.see(Conversation, conversation.id)).state == "closed"


async def test_a_merge_may_be_told_before_the_outcome_that_made_the_ticket(
    hub: PlannerHarness,
) -> None:
    await hub.give(said("li", "1"))
    [conversation] = await hub.all(Conversation)
    merged = {"conversation": conversation.id, "backend": "desk", "kind": "merged"}
    await hub.done("ticket_event", ticket="T1", value="T2", **merged)
    await linked(hub, conversation.id, "T1")
    assert await tickets(hub, conversation) == ["T2"]


async def test_a_ticket_that_the_next_entry_found_merged_is_replaced(
    hub: PlannerHarness, conversation: Conversation
) -> None:
    """Nobody told the merge: the worker met it, and its outcome says what it left."""
    await linked(hub, conversation.id, "T2", replaces=["T1"])
    assert await tickets(hub, conversation) == ["T2"]
    await linked(hub, conversation.id, "T1", again="late")
    await linked(hub, conversation.id, "T1", again="later still", replaces=["T0"])
    assert await tickets(hub, conversation) == ["T2"]
    await linked(hub, conversation.id, "T1", again="and back", replaces=["T2"])
    assert await tickets(hub, conversation) == ["T1"]
    await linked(hub, conversation.id, "T3", again="a follow-up")
    assert await tickets(hub, conversation) == ["T1", "T3"]
