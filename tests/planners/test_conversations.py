"""Which conversation a message belongs to, and when conversations close, reopen, split and join."""

from __future__ import annotations

from datetime import timedelta

import pytest

from hub.documents import AddressDoc, AmendmentDoc, Conversation, Customer, Entry, FeedRow, Job
from hub.planning.conversations import MAX_OPEN
from normalizer.drafts import AmendmentKind, Event, Evidence, Outcome
from normalizer.parts import Text
from tests.planners.harness import START, PlannerHarness, said, somebody

AGENT = Evidence(kind="agent")


async def entries(hub: PlannerHarness) -> list[Entry]:
    """Return the messages in the order of their arrival."""
    found = [entry for entry in await hub.all(Entry) if entry.kind == "message"]
    return sorted(found, key=lambda entry: entry.position)


async def shared(hub: PlannerHarness) -> list[int]:
    """Return, for each message, the number of its conversation in order of first appearance."""
    seen: dict[str | None, int] = {}
    return [seen.setdefault(each.conversation, len(seen)) for each in await entries(hub)]


async def ticket(hub: PlannerHarness, conversation: str, **more: str) -> None:
    """Let a backend tell that it made a ticket."""
    told = {"backend": "desk", "id": "T1", **more}
    key = f"{conversation} has {told}"
    outcome = Outcome(
        key=key, job="job_1", kind="ticket", conversation=conversation, result={"ticket": told}
    )
    await hub.give(outcome)


# --- policies ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channel", "threads", "expected"),
    [
        ("chat", ["", "", ""], [0, 0, 0]),
        ("site", ["", "b", ""], [0, 0, 0]),
        ("mail", ["a", "b", "a"], [0, 1, 0]),
        ("board", ["a", "b", "a"], [0, 0, 0]),
    ],
)
async def test_the_policy_says_what_shares_a_conversation(
    hub: PlannerHarness, channel: str, threads: list[str], expected: list[int]
) -> None:
    for number, thread in enumerate(threads):
        message = said("li", str(number), channel=channel, thread=thread)
        await hub.give(message, channel=channel, commit=False)
    await hub.flush()
    assert await shared(hub) == expected


async def test_channels_of_one_policy_share_and_others_do_not(hub: PlannerHarness) -> None:
    """One person on chat and phone has one conversation; a mail thread and a board have theirs."""
    for number, channel in enumerate(["chat", "phone", "mail", "board", "chat", "mail", "board"]):
        message = said(somebody("li"), str(number), thread="t" if channel == "mail" else "")
        await hub.give(message, channel=channel)
    assert await shared(hub) == [0, 0, 1, 2, 0, 1, 2]


async def test_a_configured_policy_wins_over_the_channels_own() -> None:
    hub = await PlannerHarness(policies={"mail": "customer"}).open()
    for number, thread in enumerate("ab"):
        await hub.give(said("li", str(number), channel="mail", thread=thread), channel="mail")
    assert await shared(hub) == [0, 0]


# --- silence and reopening ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pause", "expected", "told"),
    [
        (timedelta(hours=72), [0, 0], []),
        (timedelta(hours=73), [0, 0], ["conversation.closed", "conversation.reopened"]),
        (timedelta(hours=96), [0, 0], ["conversation.closed", "conversation.reopened"]),
        (timedelta(hours=97), [0, 1], ["conversation.closed", "conversation.opened"]),
    ],
    ids=str,
)
async def test_silence_closes_and_a_day_after_that_a_new_one_opens(
    hub: PlannerHarness, pause: timedelta, expected: list[int], told: list[str]
) -> None:
    """The same comes out whether a message or the timer notices the silence."""
    await hub.give(said("li", "1"))
    hub.later(seconds=pause.total_seconds())
    await hub.give(said("li", "2"))
    assert await shared(hub) == expected
    assert (await hub.told())[3:] == [*told, "message.received"]


async def test_the_timer_closes_only_what_has_been_silent_since(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    [conversation] = await hub.all(Conversation)
    hub.later(hours=72)
    await hub.give(said("li", "2"))
    idle = {"conversation": conversation.id, "reason": "silence"}
    result = await hub.done("close", idle_since=START, **idle)
    assert result["state"] == "open"
    hub.later(hours=72)
    result = await hub.done("close", idle_since=START + timedelta(hours=72), **idle)
    assert result["state"] == "closed"


async def test_silence_that_a_message_notices_is_told_to_the_tickets(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    [conversation] = await hub.all(Conversation)
    await ticket(hub, conversation.id)
    hub.later(hours=200)
    await hub.give(said("li", "2"))
    changes = [job for job in await hub.all(Job) if job.task == "change"]
    assert [job.args for job in changes] == [{"status": "solved"}]


async def test_what_is_closed_while_its_ticket_is_still_being_made_is_closed_there_too(
    hub: PlannerHarness,
) -> None:
    """The helpdesk was away: its ticket is made late, and must not stay open for ever."""
    await hub.give(said("li", "1"))
    [conversation] = await hub.all(Conversation)
    await hub.done("close", conversation=conversation.id)
    made, change = sorted(
        (job for job in await hub.all(Job) if job.kind == "ticket"), key=lambda job: job.position
    )
    assert (made.task, change.task, change.args) == ("append", "change", {"status": "solved"})
    assert (change.lane, change.backend) == (made.lane, "desk")


@pytest.mark.parametrize(("hours", "expected"), [(24, [0, 0]), (25, [0, 1])])
async def test_a_message_reopens_within_a_day(
    hub: PlannerHarness, hours: int, expected: list[int]
) -> None:
    await hub.give(said("li", "1"))
    [conversation] = await hub.all(Conversation)
    await hub.done("close", conversation=conversation.id)
    hub.later(hours=hours)
    await hub.give(said("li", "2"))
    assert await shared(hub) == expected
    [customer] = await hub.all(Customer)
    assert len(customer.open) == 1


async def test_the_one_that_was_closed_last_is_reopened(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    [first] = await hub.all(Conversation)
    second = await hub.done("split", conversation=first.id, entries=[(await entries(hub))[0].id])
    hub.later(hours=1)
    await hub.done("close", conversation=second["conversation"])
    hub.later(hours=1)
    await hub.done("close", conversation=first.id)
    await hub.give(said("li", "2"))
    assert (await entries(hub))[1].conversation == first.id


async def test_automatic_mail_and_events_wake_nothing(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1", automatic=True))
    assert (await entries(hub))[0].conversation is None
    await hub.give(said("li", "2"))
    [conversation] = await hub.all(Conversation)
    await hub.give(said("li", "3", automatic=True))
    await hub.done("close", conversation=conversation.id)
    await hub.give(said("li", "4", automatic=True))
    await hub.give(Event(key="e", address=somebody("li"), name="contact.followed"))
    placed = [each.conversation for each in await entries(hub)]
    assert placed == [None, conversation.id, conversation.id, None]
    [conversation] = await hub.all(Conversation)
    assert conversation.state == "closed"


async def test_at_most_fifty_are_open_and_the_oldest_gives_way(hub: PlannerHarness) -> None:
    """By messages, by reopening and by splitting alike."""
    for number in range(MAX_OPEN + 2):
        message = said("li", str(number), channel="mail", thread=str(number))
        await hub.give(message, channel="mail", commit=number % 7 == 0)
    await hub.flush()
    [customer] = await hub.all(Customer)
    conversations = [each.conversation for each in await entries(hub)]
    assert list(customer.open) == conversations[2:]
    assert (await hub.see(Conversation, conversations[0])).closed_by == "too_many"
    await hub.done("reopen", conversation=conversations[0])
    moved = (await entries(hub))[-1]
    await hub.done("split", conversation=moved.conversation, entries=[moved.id])
    [customer] = await hub.all(Customer)
    assert len(customer.open) == MAX_OPEN
    closed = [each.id for each in await hub.all(Conversation) if each.state == "closed"]
    assert set(closed) == set(conversations[:4]) - set(customer.open)
    assert len(closed) == 3


# --- tickets close and reopen --------------------------------------------------------------------


async def backend_says(hub: PlannerHarness, conversation: str, kind: str, **more: object) -> None:
    args = {"conversation": conversation, "backend": "desk", "ticket": "T1", **more}
    await hub.done("ticket_event", kind=kind, **args)


async def test_a_ticket_is_told_once_and_its_status_when_it_changes(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    [conversation] = await hub.all(Conversation)
    await ticket(hub, conversation.id, status="new")
    await ticket(hub, conversation.id, status="new", url="")
    await ticket(hub, conversation.id, status="open")
    [conversation] = await hub.all(Conversation)
    assert [(each.id, each.status) for each in conversation.tickets] == [("T1", "open")]
    assert (await hub.told())[3:] == ["ticket.linked", "ticket.status_changed"]


async def test_a_solved_ticket_closes_and_an_open_one_reopens(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    [conversation] = await hub.all(Conversation)
    await ticket(hub, conversation.id)
    await backend_says(hub, conversation.id, "status", value="solved", raw="resolved")
    [conversation] = await hub.all(Conversation)
    assert (conversation.state, conversation.closed_by) == ("closed", "solved")
    await backend_says(hub, conversation.id, "status", value="closed", raw="resolved")
    [conversation] = await hub.all(Conversation)
    assert [each.status for each in conversation.tickets] == ["solved"]
    await backend_says(hub, conversation.id, "status", value="open", raw="open")
    [conversation] = await hub.all(Conversation)
    assert conversation.state == "open"
    assert (await hub.told())[-1] == "conversation.reopened"
    assert not [job for job in await hub.all(Job) if job.task == "change"]


async def test_it_closes_when_the_last_of_several_tickets_is_solved(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    [conversation] = await hub.all(Conversation)
    await ticket(hub, conversation.id)
    await ticket(hub, conversation.id, backend="other", id="X")
    await backend_says(hub, conversation.id, "status", value="solved", raw="a")
    assert (await hub.see(Conversation, conversation.id)).state == "open"
    await backend_says(
        hub, conversation.id, "status", value="solved", raw="a", backend="other", ticket="X"
    )
    assert (await hub.see(Conversation, conversation.id)).state == "closed"
    await backend_says(hub, conversation.id, "status", value="open", raw="b")
    [job] = [job for job in await hub.all(Job) if job.task == "change"]
    assert (job.backend, job.args) == ("other", {"status": "open"})


async def test_what_backends_change_is_kept(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    [conversation] = await hub.all(Conversation)
    await ticket(hub, conversation.id)
    await backend_says(hub, conversation.id, "assignee", value="wang")
    await backend_says(hub, conversation.id, "priority", value="high")
    await backend_says(hub, conversation.id, "tags", tags=["vip"])
    [conversation] = await hub.all(Conversation)
    assert (conversation.assignee, conversation.priority) == ("wang", "high")
    assert conversation.tags == ("vip",)


# --- split and join ----------------------------------------------------------------------------


async def test_a_split_moves_entries_and_tells_the_new_ticket(hub: PlannerHarness) -> None:
    for number in range(3):
        await hub.give(said("li", str(number)))
    [conversation] = await hub.all(Conversation)
    _, second, third = await entries(hub)
    split = await hub.done("split", conversation=conversation.id, entries=[third.id, second.id])
    assert await shared(hub) == [0, 1, 1]
    [fresh] = [each for each in await hub.all(Conversation) if each.id != conversation.id]
    assert split == {"conversation": fresh.id}
    assert fresh.root == second.address
    jobs = [job for job in await hub.all(Job) if job.conversation == fresh.id]
    assert sorted(job.entry or "" for job in jobs) == sorted([second.id, third.id])
    assert len(await hub.all(Job)) == 5
    moves = [each for each in await hub.all(AmendmentDoc) if each.kind == AmendmentKind.MOVE]
    assert len(moves) == 2
    rows = [each for each in await hub.all(FeedRow) if each.type == "conversation.entry_moved"]
    assert {row.customer for row in rows} == {fresh.customer}
    await hub.give(said("li", "new"))
    assert await shared(hub) == [0, 1, 1, 1]


async def test_entries_may_be_split_off_again(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    await hub.give(said("li", "2"))
    [first] = await hub.all(Conversation)
    moved = (await entries(hub))[1]
    second = await hub.done("split", conversation=first.id, entries=[moved.id])
    third = await hub.done("split", conversation=second["conversation"], entries=[moved.id])
    assert (await hub.see(Entry, moved.id)).conversation == third["conversation"]


async def test_a_note_alone_does_not_become_the_root_of_a_conversation(
    hub: PlannerHarness,
) -> None:
    await hub.give(said("li", "1"))
    [conversation] = await hub.all(Conversation)
    note = await hub.done("note", conversation=conversation.id, text="call back")
    split = await hub.done("split", conversation=conversation.id, entries=[note["entry"]])
    fresh = await hub.see(Conversation, split["conversation"])
    assert fresh.root == conversation.root


async def test_joining_closes_one_for_good_and_answers_go_to_the_other(
    hub: PlannerHarness,
) -> None:
    await hub.give(said("li", "1", channel="mail", thread="a"), channel="mail")
    await hub.give(said("li", "2", channel="mail", thread="b"), channel="mail")
    away, into = await hub.all(Conversation)
    await ticket(hub, away.id)
    assert await hub.done("join", conversation=away.id, into=into.id) == {"conversation": into.id}
    away = await hub.see(Conversation, away.id)
    assert (away.state, away.closed_by, away.joined_into) == ("closed", "joined", into.id)
    [job] = [job for job in await hub.all(Job) if job.task == "change"]
    assert (job.conversation, job.args) == (away.id, {"status": "solved"})
    assert await hub.refused("reopen", conversation=away.id) == (409, "conversation-final")
    reply = await hub.done("reply", conversation=away.id, parts=(Text(text="both"),))
    assert reply["conversation"] == into.id
    assert (await hub.see(Entry, reply["entry"])).thread == into.lane


async def test_joining_into_a_closed_one_opens_it(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1", channel="mail", thread="a"), channel="mail")
    await hub.give(said("li", "2", channel="mail", thread="b"), channel="mail")
    away, into = await hub.all(Conversation)
    await hub.done("close", conversation=into.id)
    await hub.done("join", conversation=away.id, into=into.id)
    assert (await hub.see(Conversation, into.id)).state == "open"
    [customer] = await hub.all(Customer)
    assert customer.open == (into.id,)


async def test_what_cannot_be_split_or_joined_is_refused(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    await hub.give(said("wu", "2"))
    one, other = await hub.all(Conversation)
    foreign = (await entries(hub))[1].id
    assert await hub.refused("split", conversation=one.id, entries=[]) == (422, "bad-request")
    assert await hub.refused("split", conversation=one.id, entries=[foreign]) == (
        422,
        "bad-request",
    )
    assert await hub.refused("split", conversation=one.id, entries=["ent_no"]) == (404, "not-found")
    assert await hub.refused("split", conversation="cnv_no", entries=["ent_no"]) == (
        404,
        "not-found",
    )
    assert await hub.refused("join", conversation=one.id, into=one.id) == (422, "bad-request")
    assert await hub.refused("join", conversation=one.id, into=other.id) == (422, "bad-request")
    customers = [each.id for each in await hub.all(Customer)]
    await hub.done("merge", customer=customers[0], other=customers[1], evidence=AGENT)
    await hub.done("join", conversation=other.id, into=one.id)
    for away, into in ((one, other), (other, one)):
        assert await hub.refused("join", conversation=away.id, into=into.id) == (
            409,
            "conversation-final",
        )
    assert await hub.refused("split", conversation=other.id, entries=[foreign]) == (
        409,
        "conversation-final",
    )


# --- conversations and merged customers --------------------------------------------------------


async def test_a_merge_leaves_both_open_linked_by_a_note_and_the_newest_takes_over(
    hub: PlannerHarness,
) -> None:
    await hub.give(said("li", "1"))
    hub.later(minutes=1)
    await hub.give(said("wu", "2"))
    older, newer = await hub.all(Conversation)
    await hub.done("merge", customer=older.customer, other=newer.customer, evidence=AGENT)
    customer = await hub.see(Customer, older.customer)
    assert customer.open == (older.id, newer.id)
    [note] = [each for each in await hub.all(Entry) if each.kind == "note"]
    assert note.conversation == newer.id
    assert note.address == customer.private
    await hub.give(said("li", "3"))
    assert await shared(hub) == [0, 1, 1]


async def test_an_undone_merge_gives_back_what_may_reopen(hub: PlannerHarness) -> None:
    """Both lists were filled before; each customer has exactly its own again."""
    for who in ("li", "wu"):
        for number in range(12):
            message = said(who, str(number), channel="mail", thread=str(number))
            await hub.give(message, channel="mail", commit=False)
    await hub.flush()
    hub.later(minutes=1)
    for conversation in await hub.all(Conversation):
        await hub.done("close", conversation=conversation.id, commit=False)
    await hub.flush()
    before = await hub.all(Customer)
    assert [len(each.last_closed) for each in before] == [12, 12]
    one, other = before
    merged = await hub.done("merge", customer=one.id, other=other.id, evidence=AGENT)
    await hub.done("unmerge", link=merged["link"])
    assert await hub.all(Customer) == before


async def test_a_conversation_follows_its_first_entry_and_its_answers_stay_with_it(
    hub: PlannerHarness,
) -> None:
    """After an undone merge, an answer does not go to the address that left."""
    await hub.give(said("li", "1"))
    [conversation] = await hub.all(Conversation)
    await hub.give(said("wu", "x"))
    [other] = [each for each in await hub.all(Conversation) if each.id != conversation.id]
    merged = await hub.done(
        "merge", customer=conversation.customer, other=other.customer, evidence=AGENT
    )
    await hub.done("close", conversation=other.id)
    await hub.give(said("wu", "2"))
    assert (await entries(hub))[2].conversation == conversation.id
    reply = await hub.done("reply", conversation=conversation.id, parts=(Text(text="to wu"),))
    [li, wu] = [
        next(doc for doc in await hub.all(AddressDoc) if doc.address.endswith(name))
        for name in ("li", "wu")
    ]
    assert (await hub.see(Entry, reply["entry"])).address == wu.id
    await hub.done("unmerge", link=merged["link"])
    assert (await hub.see(Conversation, conversation.id)).customer == conversation.customer
    reply = await hub.done("reply", conversation=conversation.id, parts=(Text(text="to li"),))
    assert (await hub.see(Entry, reply["entry"])).address == li.id
