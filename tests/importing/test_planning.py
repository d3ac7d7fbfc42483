"""What history does to a timeline, and what is left when an import is taken back.

Real: the planners over the in-memory store. A test calls the rounds that the hub's job asks for.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from hub.documents import (
    CORE,
    AddressDoc,
    Alias,
    AmendmentDoc,
    Conversation,
    Customer,
    Entry,
    ImportRollback,
    ImportRun,
    Job,
    Link,
    Thread,
)
from hub.planning import taking_back
from hub.planning.identity import address_id
from hub.planning.workspace import hour
from normalizer.drafts import (
    Amendment,
    AmendmentKind,
    AnyDraft,
    DeliveryState,
    Event,
    Evidence,
    Identity,
    Message,
    Profile,
    Receipt,
    Target,
    ThreadLabel,
)
from normalizer.model import Direction, Trust
from normalizer.parts import Image, Media, Text, plain_text
from tests.planners.harness import START, PlannerHarness, said, somebody

OLD = datetime(2019, 5, 17, 8, 30, tzinfo=UTC)
ONE, TWO = "imp_one", "imp_two"
AGENT = Evidence(kind="agent")
BOOKKEEPING = {"feed", "operations", "imports", "import_rollbacks", "inbox"}


@pytest.fixture
async def hub() -> PlannerHarness:
    made = await PlannerHarness().open()
    for ident in (ONE, TWO):
        run = ImportRun(id=ident, source="jsonl", state="done", started_at=START, updated_at=START)
        await made.store.table(ImportRun).insert([run])
    return made


def old(who: str, key: str, text: str = "long ago", **more: Any) -> AnyDraft:
    parts = more.pop("parts", None)
    draft = said(who, key, text, **{"at": OLD, **more})
    return draft if parts is None else msgspec.structs.replace(draft, parts=parts)


async def bring(hub: PlannerHarness, *drafts: AnyDraft, by: str = ONE, **more: Any) -> bool:
    return await hub.give(*drafts, imported=by, **more)


async def take_back(hub: PlannerHarness, ident: str = ONE) -> int:
    """Run rounds as the job asks for them; return how many it took."""
    rounds, cleaned = 0, False
    while True:
        rounds += 1
        result = await hub.done("take_back_import", import_id=ident, cleaned=cleaned)
        if result["state"] == "done":
            return rounds
        [job] = await hub.store.table(Job).find({"kind": "import", "live": True})
        cleaned = not job.args["left"]
        await hub.store.table(Job).delete({"_id": job.id})
        assert rounds < 100, "it never ends"


async def dump(hub: PlannerHarness) -> dict[str, list[Any]]:
    """Return all that the space holds, but what tells of the import itself."""
    return {
        kind.collection: msgspec.to_builtins(await hub.all(kind))
        for kind in CORE
        if kind.collection not in BOOKKEEPING
    }


async def address_of(hub: PlannerHarness, who: str) -> AddressDoc:
    return await hub.see(AddressDoc, address_id(hub.rules, somebody(who)))


# --- what history does ----------------------------------------------------------------------------


async def test_history_is_in_the_timeline_and_nobodys_work(hub: PlannerHarness) -> None:
    """No ticket, no conversation, no job; its own time; told to the feed by a type of its own."""
    await bring(hub, old("li", "1"), old("li", "2", direction=Direction.OUT, at=OLD))
    [first, second] = sorted(await hub.all(Entry), key=lambda entry: entry.position)
    assert (first.at, first.vendor_at) == (OLD, None)
    assert first.historical
    assert first.imported == ONE
    assert first.conversation is None
    assert second.delivery is not None
    assert second.delivery.state is DeliveryState.ACCEPTED
    assert not await hub.all(Conversation)
    assert not await hub.all(Job)
    assert await hub.told() == ["customer.created", "message.imported", "message.imported"]
    [customer] = await hub.all(Customer)
    assert customer.seen_at == hour(OLD)


async def test_history_takes_no_place_in_a_counted_thread(hub: PlannerHarness) -> None:
    await bring(hub, old("li", "1", channel="site"), channel="site")
    await hub.give(said("li", "2", channel="site"), channel="site")
    seqs = {entry.historical: entry.seq for entry in await hub.all(Entry)}
    assert seqs == {True: 0, False: 1}


async def test_what_is_live_stays_exactly_as_it_is(hub: PlannerHarness) -> None:
    """Neither the last activity, nor the name, nor where a reply goes, nor an open conversation."""
    await hub.give(said("li", "1"))
    before = await dump(hub)
    name = Profile(name="Somebody Else", trust=Trust.ATTESTED)
    await bring(hub, old("li", "0", profile=name), account="main")
    await bring(hub, old("li", "00", at=START + timedelta(days=400)), account="other")
    after = await dump(hub)
    for name_of in ("addresses", "customers", "conversations", "jobs", "threads"):
        assert after[name_of] == before[name_of]


async def test_a_time_in_the_future_is_the_time_it_came(hub: PlannerHarness) -> None:
    await bring(hub, old("li", "1", at=START + timedelta(days=400)))
    [entry] = await hub.all(Entry)
    assert entry.at == START
    assert entry.vendor_at == START + timedelta(days=400)


async def test_what_is_known_already_changes_nothing(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1", vendor_ids=("v",)))
    await bring(hub, old("li", "2"))
    before, told = await dump(hub), await hub.told()
    await bring(hub, old("li", "1", "other words", vendor_ids=("w",)), old("li", "2", "others"))
    await bring(hub, old("li", "2", "yet others"), by=TWO)
    assert await dump(hub) == before
    assert await hub.told() == told


async def test_history_changes_nothing_live_and_links_nobody(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1", vendor_ids=("v",)))
    before, told = await dump(hub), await hub.told()
    edit = {"parts": msgspec.to_builtins([Text(text="edited")])}
    await bring(
        hub,
        Amendment(key="e", target=Target(vendor_id="v"), kind=AmendmentKind.EDIT, data=edit),
        Receipt(key="r", target=Target(vendor_id="nobody"), state=DeliveryState.READ),
        Identity(
            key="i",
            address=somebody("wu"),
            same_as=somebody("li"),
            trust=Trust.ATTESTED,
            evidence=AGENT,
        ),
    )
    assert await dump(hub) == before
    assert await hub.told() == told


async def test_a_later_change_of_its_own_message_counts(hub: PlannerHarness) -> None:
    edit = {"parts": msgspec.to_builtins([Text(text="better words")])}
    target = Target(vendor_id="v")
    await bring(
        hub,
        old("li", "1", vendor_ids=("v",)),
        Amendment(key="e", target=target, kind=AmendmentKind.EDIT, data=edit),
    )
    [entry] = await hub.all(Entry)
    assert entry.parts == (Text(text="better words"),)
    await take_back(hub)
    assert not await hub.all(AmendmentDoc)


async def test_an_erased_persons_past_does_not_come_back(hub: PlannerHarness) -> None:
    """What is older than the erasure leaves no trace, and its raw copy goes."""
    await hub.give(said("li", "1"))
    await hub.done("erase", customer=(await address_of(hub, "li")).customer)
    before = await dump(hub)
    assert not await bring(hub, old("li", "0"))
    assert await dump(hub) == before


# --- threads of mails ----------------------------------------------------------------------------


def mailed(key: str, *, after_days: float = 0, who: str = "li", **more: Any) -> Message:
    """Return a mail as the mail connector reads it; ``answers`` is its In-Reply-To.

    Without References a mail is named by what it answers, else by its own id.
    """
    answers, subject = more.pop("answers", ""), more.pop("subject", "")
    hints: dict[str, Any] = {"thread": f"<{answers or key}>"}
    if answers:
        hints["continues"] = (f"<{answers}>",)
    if subject:
        name = subject.removeprefix("Re: ")
        joins = subject.startswith("Re: ")
        hints["labels"] = (ThreadLabel(name=f"subject:{name}", joins=joins, days=30),)
    at = OLD + timedelta(days=after_days)
    given = {"at": at, "vendor_ids": (f"<{key}>",), **hints, **more}
    return said(who, key, key, channel="mail", **given)


async def threads(hub: PlannerHarness) -> dict[str, str]:
    """Return the thread of each mail by its key."""
    return {plain_text(entry.parts): entry.thread or "" for entry in await hub.all(Entry)}


CORRESPONDENCE = (
    mailed("order", subject="order"),
    mailed("ours", answers="order", after_days=1, direction=Direction.OUT),
    mailed("thanks", answers="ours", after_days=2),
    mailed("again", answers="thanks", after_days=80),
    mailed("by subject", subject="Re: order", after_days=29),
    mailed("still by subject", subject="Re: order", after_days=58),
    mailed("too late", subject="Re: order", after_days=89),
    mailed("new order", subject="order", after_days=90),
    mailed("to the new one", subject="Re: order", after_days=91),
    mailed("stranger by id", answers="order", after_days=92, who="eve"),
    mailed("stranger by subject", subject="Re: order", after_days=92, who="mallory"),
    mailed("other matter", subject="Re: invoice", after_days=93),
)
TOGETHER = (
    {"order", "ours", "thanks", "again", "by subject", "still by subject"},
    {"too late"},
    {"new order", "to the new one"},
    {"stranger by id"},
    {"stranger by subject"},
    {"other matter"},
)


@pytest.mark.parametrize("how", ["live", "history", "history in one batch"])
async def test_old_mails_are_threaded_like_live_ones(hub: PlannerHarness, how: str) -> None:
    """By In-Reply-To and by subject within 30 days, where References are missing."""
    for draft in CORRESPONDENCE:
        if how == "live":
            assert draft.at is not None
            hub.now = draft.at
            await hub.give(draft, channel="mail")
        else:
            commit = how == "history"
            await hub.give(draft, channel="mail", imported=ONE, commit=commit)
    await hub.flush()
    found = await threads(hub)
    groups = {ident: {key for key in found if found[key] == ident} for ident in found.values()}
    assert sorted(map(sorted, groups.values())) == sorted(map(sorted, TOGETHER))


async def test_importing_a_correspondence_twice_changes_nothing(hub: PlannerHarness) -> None:
    await bring(hub, *CORRESPONDENCE, channel="mail")
    before, told = await dump(hub), await hub.told()
    await bring(hub, *CORRESPONDENCE, channel="mail")
    await bring(hub, *CORRESPONDENCE, by=TWO, channel="mail")
    assert (await dump(hub), await hub.told()) == (before, told)


async def test_history_joins_live_threads_and_goes_without_a_trace(hub: PlannerHarness) -> None:
    """It follows what live mails left, and leaves nothing there that they would follow."""
    near = START - timedelta(days=20) - OLD
    await hub.give(mailed("live", subject="order", at=START), channel="mail")
    before = await dump(hub)
    await bring(
        hub,
        mailed("of another time", subject="order"),
        mailed("answer to that", subject="Re: order", after_days=1),
        mailed("by id", answers="live", after_days=near.days),
        mailed("by subject", subject="Re: order", after_days=near.days),
        mailed("by id of that", answers="by subject", after_days=near.days + 1),
        channel="mail",
    )
    found = await threads(hub)
    assert found["by id"] == found["by subject"] == found["by id of that"] == found["live"]
    assert found["of another time"] == found["answer to that"] != found["live"]
    await hub.give(mailed("live again", subject="Re: order", at=START), channel="mail")
    assert (await threads(hub))["live again"] == found["live"]
    after = await dump(hub)
    await take_back(hub)
    left = await dump(hub)
    assert await threads(hub) == {"live": found["live"], "live again": found["live"]}
    assert left["customers"] == after["customers"]
    assert [each["_id"] for each in left["threads"]] == [
        each["_id"]
        for each in after["threads"]
        if each["_id"] in {row["_id"] for row in before["threads"]} or not each.get("imports")
    ]
    assert not [row for row in left["threads"] if row.get("imports") or row.get("borrowed")]


async def test_history_that_joined_goes_wholly_where_nothing_live_came_after(
    hub: PlannerHarness,
) -> None:
    await hub.give(mailed("live", subject="order", at=START), channel="mail")
    before = await dump(hub)
    near = (START - OLD).days - 10
    await bring(
        hub,
        mailed("by id", answers="live", after_days=near),
        mailed("by subject", subject="Re: order", after_days=near),
        *CORRESPONDENCE,
        channel="mail",
    )
    await take_back(hub)
    assert await dump(hub) == before


@pytest.mark.parametrize("first", [ONE, TWO])
async def test_two_imports_of_one_correspondence_go_each_with_its_own(
    hub: PlannerHarness, first: str
) -> None:
    """Sent and Inbox as two files: what answers across them is one thread."""
    before = await dump(hub)
    ours = [draft for draft in CORRESPONDENCE if draft.direction is Direction.OUT]
    theirs = [draft for draft in CORRESPONDENCE if draft.direction is Direction.IN]
    await bring(hub, *ours, by=TWO, channel="mail")
    await bring(hub, *theirs, channel="mail")
    found = await threads(hub)
    assert found["order"] == found["ours"] == found["thanks"] == found["again"]
    await take_back(hub, first)
    assert len(await hub.all(Entry)) == len(theirs if first == TWO else ours)
    await take_back(hub, TWO if first == ONE else ONE)
    assert await dump(hub) == before


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_history_joined_nothing_is_left_of_it(
    hub: PlannerHarness, seed: int
) -> None:
    """Mails that answer each other at random, live ones, then two imports, taken back."""
    chance = random.Random(seed)

    def some(count: int, first: int) -> list[Message]:
        return [
            mailed(
                f"m{number}",
                who=chance.choice(["li", "wu"]),
                after_days=chance.randrange(100),
                answers=chance.choice(["", f"m{chance.randrange(number + 1)}"]),
                subject=chance.choice(["", "one", "Re: one", "Re: two"]),
                direction=chance.choice([Direction.IN, Direction.OUT]),
            )
            for number in range(first, first + count)
        ]

    hub.now = OLD + timedelta(days=100)
    for draft in some(8, 0):
        await hub.give(draft, channel="mail", received_at=draft.at)
    before = await dump(hub)
    for draft in some(40, 8):
        await bring(hub, draft, by=chance.choice([ONE, TWO]), channel="mail")
    assert len(await hub.all(Entry)) == 48
    for ident in chance.sample([ONE, TWO], 2):
        await take_back(hub, ident)
    assert await dump(hub) == before


async def test_a_live_answer_to_an_imported_mail_keeps_its_thread(hub: PlannerHarness) -> None:
    await bring(hub, *CORRESPONDENCE[:3], channel="mail")
    live = mailed("live", answers="thanks", at=START)
    await hub.give(live, channel="mail")
    found = await threads(hub)
    assert found["live"] == found["order"]
    await take_back(hub)
    await hub.give(mailed("next", answers="live", at=START), channel="mail")
    await hub.give(mailed("to the old one", thread="<order>", at=START), channel="mail")
    assert set((await threads(hub)).values()) == {found["order"]}


# --- live again -----------------------------------------------------------------------------------


async def test_a_message_that_its_door_delivers_in_time_is_work_for_somebody(
    hub: PlannerHarness,
) -> None:
    """The import was quicker than the door: nothing that a customer wrote may lie there unseen."""
    fresh = said("li", "1", vendor_ids=("v",), at=START - timedelta(days=3))
    edit = {"parts": msgspec.to_builtins([Text(text="edited")])}
    await bring(
        hub,
        fresh,
        Amendment(key="e", target=Target(vendor_id="v"), kind=AmendmentKind.EDIT, data=edit),
    )
    await hub.give(fresh)
    [entry] = await hub.all(Entry)
    assert not entry.historical
    assert entry.imported == ""
    assert entry.parts == (Text(text="edited"),)
    [conversation] = await hub.all(Conversation)
    assert entry.conversation == conversation.id
    assert [job.kind for job in await hub.all(Job)] == ["ticket"]
    assert (await hub.told())[-1] == "message.received"
    told = await hub.told()
    await hub.give(fresh)
    assert await hub.told() == told, "a repetition of it is one"
    before = await dump(hub)
    await take_back(hub)
    after = await dump(hub)
    assert after.pop("aliases") == [
        {"_id": each["_id"], "entry": entry.id} for each in before.pop("aliases")
    ]
    assert after == before


async def test_a_rescan_of_what_is_old_keeps_it_and_opens_nothing(hub: PlannerHarness) -> None:
    message = old("li", "1", thread="t", channel="mail")
    await bring(hub, message, old("wu", "2", channel="mail"), channel="mail")
    await hub.give(message, channel="mail")
    assert not await hub.all(Conversation)
    assert not await hub.all(Job)
    await take_back(hub)
    [entry] = await hub.all(Entry)
    assert entry.historical
    [address] = await hub.all(AddressDoc)
    assert address.id == entry.address
    assert [thread.thread for thread in await hub.all(Thread)] == [entry.thread]
    assert len(await hub.all(Customer)) == 1


# --- taking back ----------------------------------------------------------------------------------


async def test_taking_back_leaves_nothing(hub: PlannerHarness) -> None:
    """Entries, amendments, aliases, threads, addresses, customers: as if it had never been."""
    await hub.give(said("li", "live", vendor_ids=("live",)))
    await hub.give(said("li", "m", channel="mail", thread="known"), channel="mail")
    before = await dump(hub)
    edit = {"parts": msgspec.to_builtins([Text(text="edited")])}
    photo = Image(media=Media(mime="image/png", blob="blb_photo"))
    await bring(
        hub,
        old("li", "1", vendor_ids=("a", "b")),
        old("new", "2", vendor_ids=("c",), profile=Profile(name="Wu"), direction=Direction.OUT),
        Event(key="3", at=OLD, address=somebody("new"), name="contact.followed"),
        Amendment(key="e", target=Target(vendor_id="a"), kind=AmendmentKind.EDIT, data=edit),
        Receipt(key="r", target=Target(vendor_id="c"), state=DeliveryState.READ),
    )
    await bring(
        hub,
        old("li", "5", channel="mail", thread="known"),
        old("li", "6", channel="mail", thread="unknown"),
        old("zhao", "7", channel="mail", new_thread=True, parts=(photo,)),
        channel="mail",
    )
    assert await dump(hub) != before
    await take_back(hub)
    assert await dump(hub) == before
    held = await hub.see(ImportRollback, ONE)
    assert (held.state, held.entries, held.addresses, held.customers) == ("done", 6, 2, 2)


async def test_taking_back_names_the_blobs_that_have_to_go(hub: PlannerHarness) -> None:
    photo = Image(media=Media(mime="image/png", blob="blb_photo"))
    await bring(hub, old("li", "1", parts=(photo,)))
    await hub.done("take_back_import", import_id=ONE)
    [job] = await hub.store.table(Job).find({"kind": "import"})
    assert job.args == {"import": ONE, "blobs": ["blb_photo"], "left": False}


async def test_the_feed_tells_what_went_without_a_gap(hub: PlannerHarness) -> None:
    await bring(hub, old("li", "1"))
    position = hub.position
    await take_back(hub)
    assert await hub.told(position) == ["message.removed", "customer.removed"]
    assert hub.position == position + 2


async def test_it_goes_in_rounds_that_another_process_may_go_on_with(
    hub: PlannerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ENTRIES_AT_ONCE", "ALIASES_AT_ONCE", "OTHERS_AT_ONCE"):
        monkeypatch.setattr(taking_back, name, 3)
    before = await dump(hub)
    for number in range(10):
        await bring(hub, old(f"p{number}", f"{number}", vendor_ids=(f"v{number}",)))
    rounds = 0
    while True:
        rounds += 1
        result = await hub.done("take_back_import", import_id=ONE, cleaned=True)
        await hub.store.table(Job).delete({"kind": "import"})
        await hub.take_over()
        if result["state"] == "done":
            break
    assert rounds > 10
    assert await dump(hub) == before


async def test_what_comes_late_of_an_import_that_was_taken_back_leaves_nothing(
    hub: PlannerHarness,
) -> None:
    """An item of it may still lie in the inbox, or be replayed."""
    before = await dump(hub)
    await bring(hub, old("li", "1"))
    await take_back(hub)
    told = await hub.told()
    assert not await bring(hub, old("li", "1"), old("wu", "2"))
    assert await dump(hub) == before
    assert await hub.told() == told


async def test_the_same_can_be_imported_again(hub: PlannerHarness) -> None:
    await bring(hub, old("li", "1"))
    first = [entry.id for entry in await hub.all(Entry)]
    await take_back(hub)
    assert await bring(hub, old("li", "1"), by=TWO)
    assert [entry.id for entry in await hub.all(Entry)] == first


async def test_somebody_who_wrote_meanwhile_stays(hub: PlannerHarness) -> None:
    await bring(hub, old("li", "1"), old("wu", "2"))
    li = (await address_of(hub, "li")).customer
    await hub.give(said("li", "3"))
    await take_back(hub)
    [entry] = await hub.all(Entry)
    assert not entry.historical
    [customer] = await hub.all(Customer)
    assert customer.id == li
    assert (await address_of(hub, "li")).customer == li


@pytest.mark.parametrize("say", ["reply", "note"])
async def test_somebody_who_was_written_to_or_about_meanwhile_stays(
    hub: PlannerHarness, say: str
) -> None:
    await bring(hub, old("li", "1"))
    address = await address_of(hub, "li")
    if say == "reply":
        await hub.done("reply", address=address.id, parts=(Text(text="hello again"),))
    else:
        await hub.done("note", customer=address.customer, text="a good customer")
    await take_back(hub)
    [entry] = await hub.all(Entry)
    assert not entry.historical
    assert [customer.id for customer in await hub.all(Customer)] == [address.customer]


@pytest.mark.parametrize("first", [ONE, TWO])
async def test_what_two_imports_know_goes_with_the_second(hub: PlannerHarness, first: str) -> None:
    before = await dump(hub)
    await bring(hub, old("li", "1", thread="t", channel="mail"), channel="mail")
    await bring(hub, old("li", "2", thread="t", channel="mail"), by=TWO, channel="mail")
    await take_back(hub, first)
    assert len(await hub.all(Entry)) == len(await hub.all(Customer)) == 1
    assert len(await hub.all(Thread)) == 1
    await take_back(hub, TWO if first == ONE else ONE)
    assert await dump(hub) == before


@pytest.mark.parametrize("winner", ["live", "history"])
async def test_a_merge_with_somebody_live_keeps_only_who_is_live(
    hub: PlannerHarness, winner: str
) -> None:
    await hub.give(said("live", "1"))
    await bring(hub, old("history", "2"))
    both = {who: (await address_of(hub, who)).customer for who in ("live", "history")}
    loser = both["history" if winner == "live" else "live"]
    await hub.done("merge", customer=both[winner], other=loser, evidence=AGENT)
    await take_back(hub)
    assert [doc.id for doc in await hub.all(AddressDoc)] == [
        address_id(hub.rules, somebody("live"))
    ]
    owner = await hub.see(Customer, (await address_of(hub, "live")).customer)
    assert owner.addresses == (address_id(hub.rules, somebody("live")),)
    assert owner.alias_of is None
    links = await hub.all(Link)
    assert len(links) == (0 if winner == "live" else 1)
    await hub.give(said("live", "3"))
    if links:  # and the decision can still be undone
        await hub.done("unmerge", link=links[0].id)
        assert (await address_of(hub, "live")).customer == both["live"]


async def test_a_link_of_an_imported_address_goes_with_it(hub: PlannerHarness) -> None:
    await hub.give(said("live", "1"))
    before = await dump(hub)
    await bring(hub, old("history", "2"))
    live = (await address_of(hub, "live")).customer
    await hub.done("link", customer=live, address=str(somebody("history")), evidence=AGENT)
    await take_back(hub)
    after = await dump(hub)
    assert after == before


async def test_a_person_who_was_erased_meanwhile_stays_erased(hub: PlannerHarness) -> None:
    await bring(hub, old("li", "1"), old("wu", "2"))
    await hub.done("erase", customer=(await address_of(hub, "li")).customer)
    await take_back(hub)
    assert [entry.erased for entry in await hub.all(Entry)] == [True]
    assert not await bring(hub, old("li", "0"), by=TWO)


async def test_an_erasure_from_before_is_not_forgotten(hub: PlannerHarness) -> None:
    """Whoever was erased and came by an import with newer mails is erased as before."""
    await hub.give(said("li", "1"))
    await hub.done("erase", customer=(await address_of(hub, "li")).customer)
    erased = await address_of(hub, "li")
    hub.later(days=3)
    assert await bring(hub, old("li", "2", at=START + timedelta(days=1)))
    await take_back(hub)
    again = await address_of(hub, "li")
    assert again.erased
    assert again.erased_up_to == erased.erased_up_to


async def test_an_unknown_import_is_refused(hub: PlannerHarness) -> None:
    assert await hub.refused("take_back_import", import_id="imp_none") == (404, "not-found")


async def test_aliases_that_lead_to_nothing_are_free_again(hub: PlannerHarness) -> None:
    await bring(hub, old("li", "1", vendor_ids=("v",)))
    assert len(await hub.all(Alias)) == 1
    await take_back(hub)
    assert not await hub.all(Alias)
