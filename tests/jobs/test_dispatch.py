"""Tickets get each entry once and in order, whatever answers are lost and whichever ticket is gone.

Faked: the helpdesk (``desks.py``; it keeps doubles, so that they are seen). Real: workers, stores,
the plugin host. contracts/tickets_model.md sections 7 and 8 are what is pinned.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pluggy
import pytest
from msgspec.structs import replace

from hub import steps
from hub.dispatch import Dispatcher, commands_of, follow
from hub.documents import (
    AddressDoc,
    Conversation,
    Customer,
    Doc,
    Entry,
    EntrySender,
    Job,
    TicketLink,
    TicketMap,
)
from hub.ids import SpaceKey
from hub.inbox_writer import Overloaded
from hub.jobs import Obsolete, Paused
from hub.planning.rules import Refusal
from hub.plugin_host import PluginHost
from hub.settling import Settling
from hub.store.interface import Unavailable
from hub.testing.clock import START
from normalizer.addresses import Address, canonical
from normalizer.drafts import Profile
from normalizer.model import Direction, Role
from normalizer.outcomes import (
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unsupported,
)
from normalizer.parts import Text
from normalizer.tickets import (
    BackendCapabilities,
    BackendEvent,
    Change,
    Lookup,
    Priority,
    Status,
    TicketEntry,
)
from tests.jobs.desks import Desk
from tests.jobs.test_jobs import crash_at
from tests.jobs.world import World, job

KEY = SpaceKey(b"a key of a space for these tests" * 2)
PHONE = canonical(Address(scheme="tel", account="", kind="number", id="+8613800138000"))
MAILBOX = canonical(Address(scheme="mail", account="", kind="mailbox", id="li@example.com"))
LANE = "ticket:desk:adr_1"

CONVERSATION = Conversation(
    id="cnv_1",
    customer="cus_1",
    root="adr_1",
    policy="customer",
    state="open",
    opened_at=START,
    active_at=START,
    backends=("desk",),
    queue="sales",
    priority="high",
    tags=("vip",),
)
CUSTOMER = Customer(
    id="cus_1",
    addresses=("adr_1", "adr_2", "adr_3", "adr_4"),
    created_at=START,
    seen_at=START,
)
PEOPLE: list[Doc] = [
    CONVERSATION,
    CUSTOMER,
    AddressDoc(id="adr_1", scheme="tel", address=PHONE, profile=Profile(name="李雷")),
    AddressDoc(id="adr_2", scheme="mail", address=MAILBOX),
    AddressDoc(id="adr_3", scheme="hub", address="hub::private:1", private=True),
    AddressDoc(id="adr_4", scheme="chat", address=""),
]


def entry(number: int, text: str = "", **fields: Any) -> Entry:
    given: dict[str, Any] = {
        "id": f"ent_{number}",
        "address": "adr_1",
        "position": number,
        "at": START,
        "received_at": START,
        "channel": "sms",
        "account": "main",
        "parts": (Text(text=text or f"text {number}"),),
        "conversation": "cnv_1",
    }
    return Entry(**{**given, **fields})


def ticket_job(number: int, task: str = "append", **fields: Any) -> Job:
    given: dict[str, Any] = {
        "kind": "ticket",
        "task": task,
        "backend": "desk",
        "conversation": "cnv_1",
        "customer": "cus_1",
        "entry": f"ent_{number}",
    }
    return job(f"job_{number}", LANE, number, **{**given, **fields})


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def dispatcher(world: World, desk: Desk) -> Dispatcher:
    for doc in PEOPLE:
        await world.store.table(type(doc)).insert([doc])
    await world.store.table(Entry).insert([entry(n) for n in range(1, 6)])
    made = Dispatcher(
        world.store,
        {"desk": desk},
        PluginHost(clock=world.clock),
        KEY,
        owner="one",
        timeline_url="https://hub.example/customers/",
    )
    world.handlers["ticket"] = made
    return made


async def work(world: World, *jobs: Job, tick_s: float = 5.0) -> None:
    """Give the jobs and let workers bring them to their end."""
    await world.give(*jobs)
    async with world.working():
        await world.finished(*(each.id for each in jobs), tick_s=tick_s)


async def the_map(world: World) -> TicketMap:
    (found,) = await world.store.table(TicketMap).find({})
    return found


# --- tickets are made ----------------------------------------------------------------------------


async def test_the_first_entry_makes_the_ticket_and_later_ones_are_added(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    await work(world, ticket_job(1), ticket_job(2), ticket_job(3))
    (ticket,) = desk.tickets.values()
    assert desk.texts(ticket.id) == ["text 1", "text 2", "text 3"]
    assert ticket.new.key == "cnv_1"
    assert (ticket.new.queue, ticket.new.priority, ticket.new.tags) == (
        "sales",
        Priority.HIGH,
        ("vip",),
    )
    assert (ticket.new.subject, ticket.requester) == ("text 1", "r-cus_1")
    assert world.told_as[0] == ("hub", "desk")
    link = {
        "backend": "desk",
        "id": "100",
        "number": "#100",
        "url": "https://desk.example/100",
        "status": "open",
        "raw_status": "raw open",
    }
    assert [told.result for told in world.told] == [{"ticket": link}] * 3
    assert world.told[0].conversation == "cnv_1"
    known = await the_map(world)
    assert (known.ticket, known.key, known.requester) == ("100", "cnv_1", "r-cus_1")


async def test_a_requester_has_verified_addresses_and_no_private_ones(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    await work(world, ticket_job(1))
    assert desk.requesters["cus_1"].display_name == "李雷"
    assert desk.requesters["cus_1"].phones == ("+8613800138000",)
    assert desk.requesters["cus_1"].emails == ("li@example.com",)
    assert desk.requesters["cus_1"].timeline_url == "https://hub.example/customers/cus_1"


async def test_a_nameless_requester_has_a_name_and_a_subject_is_never_empty_or_long(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    await world.store.table(Customer).put([replace(CUSTOMER, addresses=("adr_4",))])
    await world.store.table(Entry).put([entry(1, parts=())])
    other = replace(CONVERSATION, id="cnv_2", subject="word " * 40)
    await world.store.table(Conversation).insert([other])
    await work(world, ticket_job(1), ticket_job(2, conversation="cnv_2"))
    assert desk.requesters["cus_1"].display_name == "Customer cus_1"
    first, second = (ticket.new.subject for ticket in desk.tickets.values())
    assert first == "sms message"
    assert (len(second), second[-1]) == (80, "…")


async def test_who_speaks_is_said_and_texts_are_cut_to_what_the_backend_takes(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    agent = EntrySender(role=Role.AGENT, name="韩梅梅")
    await world.store.table(Entry).put(
        [
            entry(2, direction=Direction.OUT, sender=agent),
            entry(3, direction=Direction.INTERNAL, sender=agent),
            entry(4, "x" * 61, sender=EntrySender(role=Role.BOT)),
        ]
    )
    await work(world, *(ticket_job(n) for n in (1, 2, 3, 4)))
    (ticket,) = desk.tickets.values()
    said = [(each.author, each.internal, each.author_name) for each in ticket.entries]
    assert said == [
        ("customer", False, ""),
        ("agent", False, "韩梅梅"),
        ("agent", True, "韩梅梅"),
        ("system", False, ""),
    ]
    assert ticket.entries[3].text == "x" * 59 + "…"
    assert ticket.reopened == 0


async def test_a_customers_message_wakes_the_ticket_up_and_an_automatic_one_does_not(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    await world.store.table(Entry).put([entry(3, automatic=True)])
    await work(world, ticket_job(1), ticket_job(2))
    desk.tickets["100"].status = "solved"
    await work(world, ticket_job(3))
    assert desk.tickets["100"].status == "solved"
    await work(world, ticket_job(4))
    assert desk.tickets["100"].status == "open"
    assert desk.texts("100") == ["text 1", "text 2", "text 3", "text 4"]


async def test_plugins_may_say_it_in_their_own_words(world: World, desk: Desk) -> None:
    class Words:
        @pluggy.HookimplMarker("omniline")
        async def render_for_ticket(self, entry: TicketEntry, backend: str) -> TicketEntry:
            return replace(entry, text=f"{backend}: {entry.text}")

    host = PluginHost(clock=world.clock)
    host._manager.register(Words(), "words")
    for doc in PEOPLE:
        await world.store.table(type(doc)).insert([doc])
    await world.store.table(Entry).insert([entry(1)])
    world.handlers["ticket"] = Dispatcher(world.store, {"desk": desk}, host, KEY, owner="one")
    await work(world, ticket_job(1))
    assert desk.texts("100") == ["desk: text 1"]
    assert desk.requesters["cus_1"].timeline_url == ""


# --- lost answers --------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["create_ticket", "append", "ensure_requester", "read"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "failure", [OutcomeUnknown("cut off"), ConnectionError("a bug")], ids=["unknown", "bug"]
)
async def test_an_answer_that_was_lost_anywhere_doubles_and_loses_nothing(
    world: World, dispatcher: Dispatcher, desk: Desk, call: str, when: str, failure: Exception
) -> None:
    if (call, when) == ("read", "after"):
        when = "before"  # reading changes nothing
    getattr(desk, when)[call].append(failure)
    await work(world, ticket_job(1), ticket_job(2), ticket_job(3))
    assert len(desk.tickets) == 1
    assert desk.keys() == ["ent_1", "ent_2", "ent_3"]
    assert {told.job for told in world.told} == {"job_1", "job_2", "job_3"}
    assert all("ticket" in told.result for told in world.told)
    assert (await the_map(world)).requester == "r-cus_1", "adopted as it was made"


@pytest.mark.parametrize(
    "failure", [Temporary("busy"), RateLimited("slow down", retry_after=3)], ids=["503", "429"]
)
@pytest.mark.parametrize("number", [0, 1])
async def test_a_ticket_that_cannot_be_read_back_is_not_written_again(
    world: World, dispatcher: Dispatcher, desk: Desk, failure: Exception, number: int
) -> None:
    """The write is done, whatever became of the look behind it."""
    if number:
        await work(world, ticket_job(1))
    desk.before["read"].append(failure)
    await work(world, ticket_job(2))
    assert Counter(desk.keys())["ent_2"] == 1
    assert world.told[-1].result["ticket"]["status"] == "open"


@pytest.mark.parametrize("call", ["create_ticket", "append", "ensure_requester", "find_entry"])
async def test_temporary_trouble_doubles_nothing(
    world: World, dispatcher: Dispatcher, desk: Desk, call: str
) -> None:
    desk.before[call].append(Temporary("503"))
    desk.before["append"].append(OutcomeUnknown("cut off"))
    await work(world, ticket_job(1), ticket_job(2))
    assert desk.keys() == ["ent_1", "ent_2"]


async def test_a_ticket_of_an_attempt_in_doubt_gets_the_entry_it_lacks(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    """Somebody else's attempt made it for another entry: ours is added to it."""
    await work(world, ticket_job(1))
    await world.store.table(TicketMap).delete({})
    assert await dispatcher.look_up(ticket_job(2, attempts=1)) is not None
    assert desk.keys() == ["ent_1", "ent_2"]
    assert (await the_map(world)).ticket == "100"


async def test_a_repeated_create_looks_first(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    """As after a redrive: the first life of the job may have made the ticket."""
    await work(world, ticket_job(1))
    await world.store.table(TicketMap).delete({})
    await dispatcher.run(ticket_job(1, attempts=2))
    assert desk.keys() == ["ent_1"]


async def test_a_missing_ticket_is_believed_to_be_missing_only_once_it_must_be_there(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    lagging = BackendCapabilities(
        ticket_lookup=Lookup.EVENTUAL, entry_lookup=Lookup.FRESH, settle_seconds=180
    )
    desk.capabilities = lagging  # type: ignore[misc]
    assert dispatcher.settle_s(ticket_job(1)) == 180
    assert dispatcher.settle_s(ticket_job(1, task="change")) == 0
    assert dispatcher.settle_s(ticket_job(1, backend="other")) == 0
    find = desk.find_ticket

    async def lags(key: str, requester: Any) -> Any:
        late = (world.clock.now() - START).total_seconds() > 170
        return await find(key, requester) if late else None

    desk.find_ticket = lags  # type: ignore[method-assign]
    desk.after["create_ticket"].append(OutcomeUnknown("cut off"))
    await work(world, ticket_job(1), tick_s=2.0)
    assert len(desk.tickets) == 1


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("step", [step for step in steps.STEPS if step.startswith("jobs.")])
async def test_a_worker_that_dies_at_a_step_writes_each_entry_once(
    world: World, dispatcher: Dispatcher, desk: Desk, step: str, nth: int
) -> None:
    jobs = [ticket_job(1), ticket_job(2), ticket_job(3)]
    await world.give(*jobs)
    second = nth if step != "jobs.1" else 1  # one lane is claimed once
    crash_at(step, second)
    await world.work_until_it_crashes("one")
    await world.later(31)
    async with world.working("two"):
        await world.finished(*(each.id for each in jobs), tick_s=1.0)
    assert len(desk.tickets) == 1
    assert desk.keys() == ["ent_1", "ent_2", "ent_3"]
    assert {told.job for told in world.told} == {"job_1", "job_2", "job_3"}


# --- where nobody can say ------------------------------------------------------------------------


@pytest.fixture
def mute(desk: Desk) -> None:
    """The desk cannot be asked what it has, nor what it is like."""

    async def unsupported(*_: Any, **__: Any) -> Any:
        raise Unsupported("it cannot be asked")

    async def nothing(ticket: Any) -> dict[str, Any]:
        return {}

    desk.find_ticket = unsupported  # type: ignore[method-assign]
    desk.find_entry = unsupported  # type: ignore[method-assign]
    desk.read = nothing  # type: ignore[method-assign]


async def test_a_desk_that_cannot_be_asked_is_served_while_nothing_is_in_doubt(
    world: World, dispatcher: Dispatcher, desk: Desk, mute: None
) -> None:
    desk.before["create_ticket"].append(Temporary("503"))
    desk.before["append"].append(RateLimited("slow down", retry_after=3))
    await work(world, ticket_job(1), ticket_job(2))
    gone(desk, "100")
    await work(world, ticket_job(3))
    assert [desk.texts(ident) for ident in ("100", "101")] == [["text 1", "text 2"], ["text 3"]]
    assert await world.letters() == []


async def test_an_entry_in_doubt_steps_aside_as_unknown_and_its_lane_goes_on(
    world: World, dispatcher: Dispatcher, desk: Desk, mute: None
) -> None:
    desk.after["append"].append(OutcomeUnknown("cut off"))
    await work(world, ticket_job(1), ticket_job(2), ticket_job(3))
    assert desk.texts("100") == ["text 1", "text 2", "text 3"]
    (letter,) = await world.letters()
    assert (letter.ref, letter.stage) == ("job_2", "ticket:outcome_unknown")
    assert "nobody can say whether it is there" in letter.reason


async def held(world: World, ident: str) -> Job:
    async def doubtful() -> bool:
        found = await world.job(ident)
        return found.state == "settling" and found.reason.startswith("nobody can say")

    await world.until("a doubt nobody can end", doubtful, tick_s=5.0)
    return await world.job(ident)


async def test_a_ticket_in_doubt_holds_its_lane_until_a_person_says_retry(
    world: World, dispatcher: Dispatcher, desk: Desk, mute: None
) -> None:
    desk.before["create_ticket"].append(OutcomeUnknown("cut off"))
    await world.give(ticket_job(1), ticket_job(2))
    async with world.working():
        await held(world, "job_1")
        await world.later(3600)
        await held(world, "job_1")
        assert desk.tickets == {}
        settling = Settling(world.store, world.clock)
        (shown,) = await settling.tickets(CONVERSATION)
        assert (shown.backend, shown.state, shown.waiting) == ("desk", "unknown", 1)
        assert shown.reason.startswith("nobody can say")
        await settling.settle(CONVERSATION, "desk", retry=True, by="operator")
        await world.finished("job_1", "job_2", tick_s=1.0)
    assert desk.texts("100") == ["text 1", "text 2"]
    (shown,) = await settling.tickets(CONVERSATION)
    assert (shown.state, shown.ticket, shown.waiting) == ("linked", "100", 0)


async def test_a_person_names_the_ticket_that_an_attempt_in_doubt_has_made(
    world: World, dispatcher: Dispatcher, desk: Desk, mute: None
) -> None:
    desk.after["create_ticket"].append(OutcomeUnknown("cut off"))
    await world.give(ticket_job(1), ticket_job(2))
    async with world.working():
        await held(world, "job_1")
        settling = Settling(world.store, world.clock)
        for _ in range(2):  # harmless when repeated
            await settling.settle(CONVERSATION, "desk", ticket="100", by="operator")
        await world.finished("job_1", "job_2", tick_s=1.0)
        await settling.settle(CONVERSATION, "desk", ticket="100", by="operator")
    assert desk.keys() == ["ent_1", "ent_2"]
    known = await the_map(world)
    assert (known.ticket, known.key, known.requester) == ("100", "cnv_1", "r-cus_1")
    with pytest.raises(Refusal, match="nothing is in doubt"):
        await settling.settle(CONVERSATION, "desk", ticket="101", by="operator")
    with pytest.raises(Refusal, match="nothing is in doubt"):
        await settling.settle(CONVERSATION, "desk", retry=True, by="operator")


async def test_a_follow_up_in_doubt_holds_its_lane_as_well(
    world: World, dispatcher: Dispatcher, desk: Desk, mute: None
) -> None:
    await work(world, ticket_job(1))
    gone(desk, "100")
    desk.after["create_ticket"].append(OutcomeUnknown("cut off"))

    async def gone_for_ever(ticket: Any, key: str) -> Any:
        desk._held(ticket)
        raise Unsupported("it cannot be asked")

    desk.find_entry = gone_for_ever  # type: ignore[method-assign]
    await world.give(ticket_job(2), ticket_job(3))
    async with world.working():
        await held(world, "job_2")
        settling = Settling(world.store, world.clock)
        await settling.settle(CONVERSATION, "desk", ticket="101", by="operator")
        await world.finished("job_2", "job_3", tick_s=1.0)
    assert desk.texts("101") == ["text 2", "text 3"]
    known = await the_map(world)
    assert (known.ticket, known.key, known.followups) == ("101", "cnv_1.2", 1)


async def test_a_named_ticket_that_can_be_asked_gets_the_entry_it_lacks_or_is_refused(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    await work(world, ticket_job(1))
    await world.store.table(TicketMap).delete({})
    await dispatcher.run(ticket_job(2, attempts=2, args={"ticket": "100"}))
    assert desk.keys() == ["ent_1", "ent_2"]
    await dispatcher.run(ticket_job(2, attempts=3, args={"ticket": "100"}))
    assert desk.keys() == ["ent_1", "ent_2"], "once, also after a crash"
    gone(desk, "100")
    with pytest.raises(Rejected, match="which a person named, is gone"):
        await dispatcher.run(ticket_job(3, attempts=2, args={"ticket": "100"}))


async def test_what_is_sent_right_now_or_never_was_in_doubt_cannot_be_settled(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    settling = Settling(world.store, world.clock)
    with pytest.raises(Refusal, match="nothing is in doubt"):
        await settling.settle(CONVERSATION, "desk", retry=True, by="operator")
    await world.give(ticket_job(1, state="sending", lease="somebody"))
    with pytest.raises(Refusal, match="being tried right now"):
        await settling.settle(CONVERSATION, "desk", retry=True, by="operator")
    (shown,) = await settling.tickets(CONVERSATION)
    assert shown.state == "making"


async def test_a_redriven_entry_is_looked_for_first(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    await work(world, ticket_job(1), ticket_job(2))
    await dispatcher.run(ticket_job(2, attempts=2, args={"round": 1}))
    assert desk.keys() == ["ent_1", "ent_2"]


async def test_a_look_up_that_is_limited_or_refused_waits_as_long_as_it_should(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    for failure, seconds in (
        (RateLimited("slow", retry_after=77), 77),
        (Misconfigured("401"), 300),
    ):
        desk.before["find_ticket"].append(failure)
        with pytest.raises(Paused) as paused:
            await dispatcher.look_up(ticket_job(1, attempts=1))
        assert paused.value.seconds == seconds


async def test_a_status_that_cannot_be_asked_for_stays_as_it_was_told(
    world: World, dispatcher: Dispatcher, desk: Desk, mute: None
) -> None:
    await work(world, ticket_job(1))
    assert world.told[-1].result["ticket"].get("status", "") == ""
    link = TicketLink(backend="desk", id="100", status="solved", raw_status="Done")
    await world.store.table(Conversation).put([replace(CONVERSATION, tickets=(link,))])
    await work(world, ticket_job(2))
    assert world.told[-1].result["ticket"]["status"] == "solved"


# --- tickets that are gone -----------------------------------------------------------------------


def gone(desk: Desk, ticket: str, successor: str | None = None) -> None:
    desk.tickets[ticket].gone = True
    desk.tickets[ticket].successor = successor


async def merged_into_another(world: World, desk: Desk) -> None:
    """Make ticket 100, and let the desk merge it into 101."""
    await work(world, ticket_job(1))
    new = replace(desk.tickets["100"].new, key="somebody else's")
    await desk.create_ticket(replace(new, first=replace(new.first, key="other")), "r-2")
    gone(desk, "100", "101")


@pytest.mark.parametrize("lost", ["", "before", "after"])
async def test_a_merged_ticket_is_followed_even_if_an_answer_is_lost_then(
    world: World, dispatcher: Dispatcher, desk: Desk, lost: str
) -> None:
    await merged_into_another(world, desk)
    if lost:
        desk.append_calls = 0  # type: ignore[attr-defined]
        append = desk.append

        async def losing(ticket: Any, entry: Any, *, reopen: bool) -> str:
            if ticket.id == "101" and not desk.append_calls:  # type: ignore[attr-defined]
                desk.append_calls = 1  # type: ignore[attr-defined]
                getattr(desk, lost)["append"].append(OutcomeUnknown("cut off"))
            return await append(ticket, entry, reopen=reopen)

        desk.append = losing  # type: ignore[method-assign]
    await work(world, ticket_job(2), ticket_job(3))
    assert [each.key for each in desk.tickets["101"].entries] == ["other", "ent_2", "ent_3"]
    assert (await the_map(world)).ticket == "101"
    assert world.told[-1].result["ticket"]["id"] == "101"
    assert world.told[-1].result["replaces"] == ["100"]


@pytest.mark.parametrize("lost", ["", "before", "after"])
async def test_a_ticket_that_is_closed_for_ever_gets_a_follow_up(
    world: World, dispatcher: Dispatcher, desk: Desk, lost: str
) -> None:
    await work(world, ticket_job(1))
    gone(desk, "100")
    if lost:
        getattr(desk, lost)["create_ticket"].append(OutcomeUnknown("cut off"))
    await work(world, ticket_job(2), ticket_job(3))
    assert desk.texts("101") == ["text 2", "text 3"]
    assert len(desk.tickets) == 2
    follow_up = desk.tickets["101"]
    assert (follow_up.new.key, follow_up.requester) == ("cnv_1.2", "r-cus_1")
    assert (follow_up.new.queue, follow_up.new.priority) == ("sales", Priority.HIGH)
    known = await the_map(world)
    assert (known.ticket, known.key, known.followups) == ("101", "cnv_1.2", 1)
    gone(desk, "101")
    await work(world, ticket_job(4))
    assert desk.tickets["102"].new.key == "cnv_1.3"


async def test_a_doubtful_entry_of_a_ticket_that_is_gone_by_now_is_not_held_for_ever(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    await work(world, ticket_job(1))
    desk.before["append"].append(OutcomeUnknown("cut off"))
    await world.give(ticket_job(2))
    async with world.working():
        await world.until(
            "the doubt", lambda: desk.calls.count("append") == 1 and not desk.before["append"]
        )
        gone(desk, "100")
        await world.finished("job_2", tick_s=1.0)
    assert desk.texts("101") == ["text 2"]


# --- changes and notes ---------------------------------------------------------------------------


async def test_a_change_is_made_and_what_the_ticket_is_then_is_told(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    wanted = {
        "status": "solved",
        "priority": "urgent",
        "assignee": "han",
        "add_tags": ["a"],
        "remove_tags": ["b"],
    }
    await work(world, ticket_job(1), ticket_job(2, "change", args=wanted))
    assert desk.changed == Change(
        status=Status.SOLVED,
        priority=Priority.URGENT,
        assignee="han",
        add_tags=("a",),
        remove_tags=("b",),
    )
    assert world.told[-1].result["ticket"]["status"] == "solved"
    assert (await the_map(world)).version == "2"


async def test_a_change_without_an_answer_is_made_again(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    desk.after["change"].append(OutcomeUnknown("cut off"))
    await work(world, ticket_job(1), ticket_job(2, "change", args={"status": "solved"}))
    assert desk.calls.count("change") == 2
    assert desk.tickets["100"].status == "solved"


async def test_a_ticket_that_is_gone_needs_no_change(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    await work(world, ticket_job(1))
    gone(desk, "100")
    await work(world, ticket_job(2, "change", args={"status": "solved"}))
    assert (await world.job("job_2")).state == "done"


async def test_a_ticket_that_could_not_be_made_holds_nothing_up(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    """The change is shown to a person beside the create; what comes after makes the ticket."""
    desk.before["create_ticket"].append(Rejected("no such queue"))
    await work(world, ticket_job(1), ticket_job(2, "change", args={"status": "solved"}))
    assert [letter.ref for letter in await world.letters()] == ["job_1", "job_2"]
    await work(world, ticket_job(3))
    assert desk.texts("100") == ["text 3"]


async def test_a_failed_answer_wakes_its_ticket_up_with_an_internal_note(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    await work(world, ticket_job(1))
    desk.tickets["100"].status = "solved"
    reasons = ({"state": "failed", "reason": "window closed"},) * 2
    await work(
        world,
        *(ticket_job(n, "failed_answer", entry="ent_2", args=a) for n, a in enumerate(reasons, 2)),
    )
    first, *notes = desk.tickets["100"].entries
    assert [(note.author, note.internal) for note in notes] == [("system", True)] * 2
    assert notes[0].text == "This answer is failed: window closed\n\ntext 2"
    assert len({first.key, *(note.key for note in notes)}) == 3, "a key is never used twice"
    assert desk.tickets["100"].status == "open"


async def test_a_refused_answer_comes_back_as_an_internal_note(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    await work(world, ticket_job(1))
    args = {"reason": "too long", "text": "what the agent wrote, which is long " * 2}
    desk.after["append"].append(OutcomeUnknown("cut off"))
    await work(world, ticket_job(2, "refused_answer", entry=None, args=args))
    _, note = desk.tickets["100"].entries
    assert (note.author, note.internal) == ("system", True)
    assert note.text.startswith("This answer was not sent: too long\n\nwhat")
    assert len(note.text) == 60
    assert desk.tickets["100"].reopened == 1


async def test_a_refused_answer_is_not_told_of_somebody_who_was_erased(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    await work(world, ticket_job(1))
    erased = replace(CONVERSATION, state="closed", closed_by="erased", final=True)
    await world.store.table(Conversation).put([erased])
    args = {"reason": "it was closed for good", "text": "Dear Ms Li"}
    await work(world, ticket_job(2, "refused_answer", entry=None, args=args))
    assert desk.texts("100") == ["text 1"]
    assert await world.letters() == []


async def test_without_a_ticket_there_is_nothing_to_tell_it(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    await work(
        world,
        ticket_job(1, "failed_answer", args={"state": "failed", "reason": "r"}),
        ticket_job(2, "refused_answer", entry=None, args={"reason": "r", "text": "t"}),
    )
    assert desk.tickets == {}
    assert world.told == []


# --- who must wait, and what is over -------------------------------------------------------------


async def test_two_tickets_of_one_newcomer_do_not_make_twins_of_the_requester(
    world: World, dispatcher: Dispatcher, desk: Desk
) -> None:
    lanes = world.store.lanes
    (lock,) = await lanes.claim(["requester:desk:cus_1"], "another process", 30)
    with pytest.raises(Temporary, match="another ticket of this customer"):
        await dispatcher.run(ticket_job(1, attempts=1))
    assert desk.calls == []
    await lanes.release(lock)
    desk.before["ensure_requester"].append(Temporary("503"))
    with pytest.raises(Temporary, match="503"):
        await dispatcher.run(ticket_job(1, attempts=1))
    assert await lanes.parked() == set(), "the lock is given back whatever happens"


async def test_a_backend_of_another_process_is_left_to_it(
    world: World, dispatcher: Dispatcher
) -> None:
    for call in (dispatcher.run, dispatcher.look_up):
        with pytest.raises(Paused, match="the backend other is not configured here"):
            await call(ticket_job(1, backend="other"))


@pytest.mark.parametrize(
    ("doc", "changes"),
    [
        (entry(1), {"erased": True}),
        (CUSTOMER, {"erased": True}),
        (CONVERSATION, {"customer": "cus_none"}),
    ],
    ids=["entry", "customer", "no customer"],
)
async def test_what_was_erased_makes_no_ticket(
    world: World, dispatcher: Dispatcher, desk: Desk, doc: Any, changes: dict[str, Any]
) -> None:
    await world.store.table(type(doc)).put([replace(doc, **changes)])
    with pytest.raises(Obsolete):
        await dispatcher.run(ticket_job(1, attempts=1))
    with pytest.raises(Obsolete):
        await dispatcher.run(ticket_job(1, attempts=1, conversation="cnv_none", entry="ent_2"))
    assert desk.tickets == {}


async def test_a_database_that_is_away_before_the_first_call_leaves_no_doubt(
    world: World, dispatcher: Dispatcher, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(ident: Any) -> Any:
        raise Unavailable("an election")

    monkeypatch.setattr(dispatcher._maps, "get", away)
    with pytest.raises(Temporary, match="an election"):
        await dispatcher.run(ticket_job(1, attempts=1))


def test_what_may_be_a_create_holds_its_lane(desk: Desk) -> None:
    dispatcher = object.__new__(Dispatcher)
    assert dispatcher.holds_lane(ticket_job(1))
    assert not dispatcher.holds_lane(ticket_job(1, "change"))
    assert dispatcher.failed(ticket_job(1), Rejected("r")) is None


# --- what backends say ---------------------------------------------------------------------------


KNOWN = TicketMap(
    id="tmp_1", backend="desk", conversation="cnv_1", key="cnv_1", requester="r", ticket="100"
)
WRITTEN = TicketEntry(
    key="desk:7",
    author="agent",
    channel="desk",
    occurred_at=START,
    text="on its way",
    author_name="韩梅梅",
)


def event(kind: str = "entry", **fields: Any) -> BackendEvent:
    given: dict[str, Any] = {
        "dedupe_id": "desk:7",
        "ticket_id": "100",
        "kind": kind,
        "at": START,
        "entry": WRITTEN if kind == "entry" else None,
        "data": {"agent": "hmm"},
    }
    return BackendEvent(**{**given, **fields})


async def test_an_agents_answer_is_a_reply(world: World) -> None:
    await world.store.table(TicketMap).insert([KNOWN])
    command = await commands_of(world.store, "desk", event())
    assert command is not None
    assert (command.key, command.name, command.at) == ("desk|desk:7", "reply", START)
    assert (command.actor.kind, command.actor.id) == ("backend", "desk")
    assert command.args == {
        "conversation": "cnv_1",
        "backend": "desk",
        "agent": "hmm",
        "agent_name": "韩梅梅",
        "parts": [{"type": "text", "text": "on its way"}],
    }


@pytest.mark.parametrize(
    "said",
    [
        event(entry=replace(WRITTEN, internal=True)),
        event(entry=replace(WRITTEN, internal=True), already_sent=True),
        event(entry=replace(WRITTEN, author="customer")),
        event(entry=replace(WRITTEN, author="system")),
    ],
    ids=["internal", "a note sent about", "the customer's own words", "a machine's words"],
)
async def test_what_is_not_for_the_customer_is_a_note(world: World, said: BackendEvent) -> None:
    await world.store.table(TicketMap).insert([KNOWN])
    command = await commands_of(world.store, "desk", said)
    assert command is not None
    assert (command.name, command.args["text"]) == ("note", "on its way")


async def test_what_the_backend_sent_itself_is_an_answer_that_is_not_sent_again(
    world: World,
) -> None:
    await world.store.table(TicketMap).insert([KNOWN])
    command = await commands_of(world.store, "desk", event(already_sent=True))
    assert command is not None
    assert command.name == "sent_elsewhere"
    assert command.args == {
        "conversation": "cnv_1",
        "backend": "desk",
        "agent": "hmm",
        "agent_name": "韩梅梅",
        "text": "on its way",
    }


async def test_a_merged_tickets_successor_stands_for_its_conversation(world: World) -> None:
    """The merge is told first and followed then: a repetition in between finds it as it was."""
    await world.store.table(TicketMap).insert([replace(KNOWN, number="#100", version="3")])
    merged = event("merged", data={"value": "101"})
    command = await commands_of(world.store, "desk", merged)
    assert command is not None
    assert (command.name, command.args["kind"]) == ("ticket_event", "merged")
    assert command.args["value"] == "101"
    assert await commands_of(world.store, "desk", merged) == command
    await follow(world.store, "desk", merged)
    await follow(world.store, "desk", merged)
    (known,) = await world.store.table(TicketMap).find({})
    assert (known.ticket, known.number, known.version, known.key) == ("101", "", "", "cnv_1")
    answer = await commands_of(world.store, "desk", event(ticket_id="101"))
    assert answer is not None
    assert answer.args["conversation"] == "cnv_1"


async def test_an_answer_in_a_ticket_goes_to_its_own_customer_and_not_to_one_merged_into_it(
    world: World,
) -> None:
    """Whichever was there first: the agent sees the name of the customer it was made for."""
    own = replace(KNOWN, id="tmp_2", conversation="cnv_2", ticket="101")
    merged = event("merged", data={"value": "101"})
    for first, then in ((KNOWN, own), (own, KNOWN)):
        await world.store.table(TicketMap).delete({})
        await world.store.table(TicketMap).insert([first])
        await world.store.table(TicketMap).insert([then])
        await follow(world.store, "desk", merged)
        answer = await commands_of(world.store, "desk", event(ticket_id="101"))
        assert answer is not None
        assert answer.args["conversation"] == "cnv_2"


async def test_our_own_echo_says_nothing(world: World) -> None:
    await world.store.table(TicketMap).insert([KNOWN])
    for kind in ("entry", "status", "tags"):
        assert await commands_of(world.store, "desk", event(kind, by_us=True)) is None
    for kind in ("merged", "deleted", "changed"):
        assert await commands_of(world.store, "desk", event(kind)) is None
    assert await commands_of(world.store, "desk", event(entry=None)) is None


@pytest.mark.parametrize("kind", ["status", "assignee", "priority", "tags"])
async def test_a_change_of_the_ticket_is_told(world: World, kind: str) -> None:
    await world.store.table(TicketMap).insert([KNOWN])
    data = {"value": "solved", "raw": "Closed", "tags": ["a"]}
    command = await commands_of(world.store, "desk", event(kind, data=data))
    assert command is not None
    assert command.name == "ticket_event"
    assert command.args == {
        "conversation": "cnv_1",
        "backend": "desk",
        "ticket": "100",
        "kind": kind,
        "value": "solved",
        "raw": "Closed",
        "tags": ["a"],
    }


async def test_a_ticket_that_may_be_ours_in_a_moment_has_to_be_told_again(world: World) -> None:
    await world.give(ticket_job(1, state="sending"))
    with pytest.raises(Overloaded, match="may not be known yet"):
        await commands_of(world.store, "desk", event())
    assert await commands_of(world.store, "other desk", event()) is None


async def test_a_ticket_that_is_not_ours_concerns_nobody(world: World) -> None:
    await world.give(ticket_job(1, state="ready"), ticket_job(2, state="done", live=False))
    assert await commands_of(world.store, "desk", event()) is None
    await world.store.table(TicketMap).insert([KNOWN])
    assert await commands_of(world.store, "other desk", event()) is None
