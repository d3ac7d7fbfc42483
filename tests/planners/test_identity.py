"""Who is who: links, merges, suggestions, and their undo in any order."""

from __future__ import annotations

import itertools

import pytest
from msgspec.structs import replace

from hub.documents import AddressDoc, Conversation, Customer, Entry, FeedRow, Job, Link
from hub.planning.identity import address_id
from normalizer.addresses import Address
from normalizer.drafts import Event, Evidence, Identity, Profile
from normalizer.model import Trust
from normalizer.parts import Text
from tests.planners.harness import PlannerHarness, said, somebody

AGENT = Evidence(kind="agent")
WHO = ("li", "wu", "xu", "yu")


@pytest.fixture
async def people(hub: PlannerHarness) -> dict[str, str]:
    """Four customers, by the name of their only address."""
    for who in WHO:
        await hub.give(said(who, "1"), commit=False)
    await hub.flush()
    return await owners(hub)


async def owners(hub: PlannerHarness) -> dict[str, str]:
    """Return the customer of each address."""
    found = {each.id: each.customer or "" for each in await hub.all(AddressDoc)}
    ids = {who: address(hub, who) for who in WHO}
    return {who: found[ident] for who, ident in ids.items() if ident in found}


def address(hub: PlannerHarness, who: str) -> str:
    return address_id(hub.rules, somebody(who))


async def link(hub: PlannerHarness, who: str, customer: str, **more: object) -> str:
    result = await hub.done(
        "link", address=address(hub, who), customer=customer, evidence=AGENT, **more
    )
    return str(result["link"])


async def merge(hub: PlannerHarness, other: str, into: str) -> str:
    result = await hub.done("merge", customer=into, other=other, evidence=AGENT)
    return str(result["link"])


async def undo(hub: PlannerHarness, ident: str) -> None:
    await hub.done("unlink", link=ident)


# --- where answers go -----------------------------------------------------------------------------


async def test_a_channel_that_sends_nothing_does_not_take_answers_from_one_that_does(
    hub: PlannerHarness,
) -> None:
    """Who texts and then calls from one number is answered by text; who writes last, there."""
    caller = Address(scheme="tel", kind="e164", id="+8613800138000")
    call = Event(key="call", address=caller, name="call.ringing")
    texted = replace(said("li", "1"), address=caller)

    async def answered_by() -> str:
        [known] = [each for each in await hub.all(AddressDoc) if each.scheme == "tel"]
        return known.channel

    await hub.give(call, channel="phone")
    assert await answered_by() == "phone"
    await hub.give(texted, channel="chat")
    assert await answered_by() == "chat"
    await hub.give(replace(call, key="again"), channel="phone")
    assert await answered_by() == "chat"
    await hub.give(replace(texted, key="2"), channel="board")
    assert await answered_by() == "board"


async def test_who_is_only_known_by_phone_is_told_to_be_answered_elsewhere(
    hub: PlannerHarness,
) -> None:
    caller = Address(scheme="tel", kind="e164", id="+8613800138000")
    await hub.give(Event(key="call", address=caller, name="call.ringing"), channel="phone")
    [customer] = await hub.all(Customer)
    parts = (Text(text="hello"),)
    refused = await hub.command("reply", customer=customer.id, parts=parts)
    assert (refused.state, refused.error) == ("refused", "unsupported")
    assert refused.detail == "phone sends nothing: answer on another channel"


async def test_a_caller_is_texted_by_the_account_that_somebody_names_and_by_no_other(
    hub: PlannerHarness,
) -> None:
    """The number stays where it was heard last: one text is no reason to answer calls by text."""
    caller = Address(scheme="tel", kind="e164", id="+8613800138000")
    await hub.give(Event(key="call", address=caller, name="call.ringing"), channel="phone")
    [customer], [known] = await hub.all(Customer), await hub.all(AddressDoc)
    say = {"customer": customer.id, "parts": (Text(text="hello"),)}
    for named in ({"channel": "texts"}, {"channel": "chat", "account": "main"}, {"account": "two"}):
        refused = await hub.command("reply", **say, **named)
        assert refused.state == "refused", named
        by_address = await hub.command("reply", **say, address=known.id, **named)
        assert by_address.state == "refused", named
    for where in ({}, {"address": known.id}):
        done = await hub.done("reply", **say, **where, channel="texts", account="two")
        entry = await hub.see(Entry, done["entry"])
        assert (entry.channel, entry.account, entry.address) == ("texts", "two", known.id)
        jobs = [each for each in await hub.all(Job) if each.entry == entry.id]
        assert [each.account for each in jobs if each.kind == "send"] == ["texts:two"]
    assert (await hub.see(AddressDoc, known.id)).channel == "phone"


async def test_an_address_that_was_only_named_is_reached_by_the_account_that_somebody_names(
    hub: PlannerHarness,
) -> None:
    """A login on the site says whose mailbox it is; nobody has written from there yet."""
    login = Identity(
        key="login",
        address=somebody("li", "site"),
        same_as=Address(scheme="tel", kind="e164", id="+8613800138000"),
        trust=Trust.ATTESTED,
        evidence=Evidence(kind="identity_token"),
    )
    await hub.give(said("li", "1", channel="site"), login, channel="site")
    [named] = [each for each in await hub.all(AddressDoc) if each.scheme == "tel"]
    assert named.channel == ""
    say = {"customer": named.customer, "address": named.id, "parts": (Text(text="hello"),)}
    refused = await hub.command("reply", **say)
    assert refused.detail == "this address was named but never seen on an account of ours"
    done = await hub.done("reply", **say, channel="texts", account="one")
    entry = await hub.see(Entry, done["entry"])
    assert (entry.channel, entry.account, entry.address) == ("texts", "one", named.id)


async def test_an_answer_in_a_conversation_leaves_by_the_channel_that_it_names(
    hub: PlannerHarness,
) -> None:
    """Somebody wrote on the chat last and has a mailbox: what is to go there by mail does."""
    await hub.give(said("li", "1", channel="mail"), channel="mail")
    [customer] = await hub.all(Customer)
    await hub.give(said("li", "2"))
    await hub.done("link", address=address(hub, "li"), customer=customer.id, evidence=AGENT)
    [chat] = [each for each in await hub.all(Conversation) if each.policy == "customer"]
    say = {"conversation": chat.id, "parts": (Text(text="hello"),)}
    for channel, by in (("", "chat"), ("chat", "chat"), ("mail", "mail")):
        done = await hub.done("reply", **say, channel=channel)
        assert (await hub.see(Entry, done["entry"])).channel == by
        assert done["conversation"] == chat.id
    refused = await hub.command("reply", **say, channel="site")
    assert (refused.error, refused.status) == ("unreachable", 409)


# --- linking -----------------------------------------------------------------------------------


async def test_a_link_gives_the_address_and_its_undo_gives_it_back(
    hub: PlannerHarness, people: dict[str, str]
) -> None:
    before = await hub.all(Customer)
    decision = await link(hub, "wu", people["li"])
    assert (await owners(hub))["wu"] == people["li"]
    former = await hub.see(Customer, people["wu"])
    assert (former.alias_of, former.addresses, former.open) == (people["li"], (), ())
    assert [each.customer for each in await hub.all(Conversation)].count(people["li"]) == 2
    await undo(hub, decision)
    assert await owners(hub) == people
    assert await hub.all(Customer) == before
    assert {each.customer for each in await hub.all(Conversation)} == set(people.values())


async def test_no_entry_moves_when_people_do(hub: PlannerHarness, people: dict[str, str]) -> None:
    before = await hub.all(Entry)
    await merge(hub, people["wu"], people["li"])
    now = [each for each in await hub.all(Entry) if each.kind == "message"]
    assert now == before


async def test_a_link_is_told_to_the_feed_once_a_customer(
    hub: PlannerHarness, people: dict[str, str]
) -> None:
    since = (await hub.all(FeedRow))[-1].id
    decision = await link(hub, "wu", people["li"])
    rows = [row for row in await hub.all(FeedRow) if row.id > since]
    told = {row.customer: (row.type, row.data) for row in rows}
    assert told == {
        people["li"]: ("customer.updated", {"link": decision}),
        people["wu"]: ("customer.merged", {"link": decision, "into": people["li"]}),
    }
    await undo(hub, decision)
    assert sorted((await hub.told())[-2:]) == ["customer.split", "customer.updated"]


async def test_linking_what_belongs_there_already_decides_nothing(
    hub: PlannerHarness, people: dict[str, str]
) -> None:
    result = await hub.done(
        "link", address=address(hub, "li"), customer=people["li"], evidence=AGENT
    )
    assert result == {"link": None, "customer": people["li"]}
    assert await hub.all(Link) == []


@pytest.mark.parametrize("trust", [Trust.CLAIMED, Trust.SEEN])
async def test_weak_evidence_is_only_a_suggestion(
    hub: PlannerHarness, people: dict[str, str], trust: Trust
) -> None:
    await hub.done(
        "link", address=address(hub, "wu"), customer=people["li"], evidence=AGENT, trust=trust
    )
    assert await owners(hub) == people
    [row] = [row for row in await hub.all(FeedRow) if row.type == "customer.link_suggested"]
    assert (row.customer, row.address) == (people["li"], address(hub, "wu"))
    assert row.data == {"trust": trust, "evidence": "agent", "customer": people["wu"]}


async def test_a_merged_id_answers_as_the_one_that_stays(
    hub: PlannerHarness, people: dict[str, str]
) -> None:
    await merge(hub, people["wu"], people["li"])
    await merge(hub, people["li"], people["xu"])
    note = await hub.done("note", customer=people["wu"], text="see above")
    assert note["customer"] == people["xu"]
    await link(hub, "yu", people["wu"])
    assert set((await owners(hub)).values()) == {people["xu"]}


async def test_notes_about_a_customer_go_with_it_and_come_back(
    hub: PlannerHarness, people: dict[str, str]
) -> None:
    note = await hub.done("note", customer=people["wu"], text="likes tea")
    private = (await hub.see(Entry, note["entry"])).address
    merged = await merge(hub, people["wu"], people["li"])
    assert private in (await hub.see(Customer, people["li"])).addresses
    await undo(hub, merged)
    assert private in (await hub.see(Customer, people["wu"])).addresses
    moved = await link(hub, "wu", people["li"])
    assert (await hub.see(AddressDoc, private)).customer == people["li"]
    await undo(hub, moved)
    assert (await hub.see(AddressDoc, private)).customer == people["wu"]


# --- undo ----------------------------------------------------------------------------------------

ORDERS = list(itertools.permutations(range(3)))


@pytest.mark.parametrize("order", ORDERS, ids=str)
async def test_decisions_are_undone_in_any_order(
    hub: PlannerHarness, people: dict[str, str], order: tuple[int, ...]
) -> None:
    """After each undo everything is as if only the others had been made."""
    li, wu, xu, yu = (people[who] for who in WHO)
    before = await hub.all(Customer)
    decisions = [
        await merge(hub, wu, li),
        await link(hub, "xu", li),
        await merge(hub, li, yu),
    ]
    assert set((await owners(hub)).values()) == {yu}
    # By which of the three still stand; xu was linked to li by name, before li became yu.
    expected = {
        frozenset(): (li, wu, xu, yu),
        frozenset({0}): (li, li, xu, yu),
        frozenset({1}): (li, wu, li, yu),
        frozenset({2}): (yu, wu, xu, yu),
        frozenset({0, 1}): (li, li, li, yu),
        frozenset({0, 2}): (yu, yu, xu, yu),
        frozenset({1, 2}): (yu, wu, yu, yu),
    }
    standing = {0, 1, 2}
    for number in order:
        await undo(hub, decisions[number])
        standing.remove(number)
        assert tuple((await owners(hub)).values()) == expected[frozenset(standing)]
    private = {each.id for each in await hub.all(AddressDoc) if each.private}
    after = [
        (each.id, set(each.addresses) - private, each.open, each.alias_of)
        for each in await hub.all(Customer)
    ]
    assert after == [(each.id, set(each.addresses), each.open, None) for each in before]


async def test_who_is_emptied_by_the_undo_of_merges_answers_as_who_got_the_address(
    hub: PlannerHarness, people: dict[str, str]
) -> None:
    """The address was separated while the merges stood, from somebody else's hands."""
    first = await merge(hub, people["wu"], people["li"])
    second = await merge(hub, people["li"], people["yu"])
    done = await hub.done("separate", address=address(hub, "li"), evidence=AGENT)
    await undo(hub, second)
    await undo(hub, first)
    li = await hub.see(Customer, people["li"])
    assert (await owners(hub))["li"] == done["customer"]
    assert (li.addresses, li.alias_of) == ((), done["customer"])


async def test_undoing_a_link_does_not_merge_people_whom_nobody_merged(
    hub: PlannerHarness, people: dict[str, str]
) -> None:
    """li stands empty once wu's link is undone; that xu got li's address makes them no one."""
    li, wu, xu, yu = (people[who] for who in WHO)
    first = await link(hub, "wu", li)
    await link(hub, "li", xu)
    await merge(hub, li, yu)
    await undo(hub, first)
    assert await owners(hub) == {"li": xu, "wu": wu, "xu": xu, "yu": yu}
    assert (await hub.see(Customer, li)).alias_of == yu


async def test_undoing_twice_changes_nothing(hub: PlannerHarness, people: dict[str, str]) -> None:
    decision = await merge(hub, people["wu"], people["li"])
    await undo(hub, decision)
    position = (await hub.all(FeedRow))[-1].id
    await undo(hub, decision)
    assert (await hub.all(FeedRow))[-1].id == position


async def test_what_arrived_meanwhile_follows_its_address(
    hub: PlannerHarness, people: dict[str, str]
) -> None:
    merged = await merge(hub, people["wu"], people["li"])
    for conversation in await hub.all(Conversation):
        await hub.done("close", conversation=conversation.id)
    hub.later(days=2)
    await hub.give(said("wu", "2"))
    await undo(hub, merged)
    new = [each for each in await hub.all(Entry) if each.address == address(hub, "wu")][-1]
    assert new.conversation is not None
    conversation = await hub.see(Conversation, new.conversation)
    assert conversation.customer == people["wu"]
    assert (await hub.see(Customer, people["wu"])).open == (conversation.id,)
    assert (await hub.see(Customer, people["li"])).open == ()


async def test_an_unmerge_needs_a_merge_and_the_right_customer(
    hub: PlannerHarness, people: dict[str, str]
) -> None:
    decision = await link(hub, "wu", people["li"])
    assert await hub.refused("unmerge", link=decision) == (404, "not-found")
    assert await hub.refused("unlink", link="lnk_no") == (404, "not-found")
    assert await hub.refused("unlink", link=decision, customer=people["xu"]) == (404, "not-found")
    await hub.done("unlink", link=decision, customer=people["wu"])
    assert await owners(hub) == people


# --- separating ----------------------------------------------------------------------------------


async def test_separating_makes_a_customer_and_its_undo_gives_the_address_back(
    hub: PlannerHarness, people: dict[str, str]
) -> None:
    await merge(hub, people["wu"], people["li"])
    result = await hub.done("separate", address=address(hub, "li"), evidence=AGENT)
    fresh = result["customer"]
    assert fresh not in people.values()
    now = await owners(hub)
    assert (now["li"], now["wu"]) == (fresh, people["li"])
    await undo(hub, result["link"])
    now = await owners(hub)
    assert now["li"] == now["wu"] == people["li"]
    assert (await hub.see(Customer, fresh)).alias_of == people["li"]


async def test_the_only_address_is_not_separated(
    hub: PlannerHarness, people: dict[str, str]
) -> None:
    await hub.done("note", customer=people["li"], text="a private address is none")
    refusal = await hub.refused("separate", address=address(hub, "li"), evidence=AGENT)
    assert refusal == (422, "bad-request")


# --- channels' word -------------------------------------------------------------------------------


def login(key: str, who: str, same_as: Address, trust: Trust, **more: object) -> Identity:
    evidence = Evidence(kind="identity_token", ref="jti")
    return Identity(
        key=key,
        address=somebody(who, "site"),
        same_as=same_as,
        trust=trust,
        evidence=evidence,
        **more,  # type: ignore[arg-type]
    )


USER = Address(scheme="site", account="main", kind="user", id="42")
MAILBOX = Address(scheme="mail", kind="mailbox", id="li@example.com")


@pytest.mark.parametrize("commit", [True, False], ids=["across batches", "in one batch"])
async def test_a_signed_login_links_the_visitor_to_the_user_once(
    hub: PlannerHarness, commit: bool
) -> None:
    await hub.give(said("v1", "1", channel="site"), channel="site", commit=commit)
    draft = login("jti", "v1", USER, Trust.ATTESTED, role_event="contact.identified")
    for _ in range(2):
        await hub.give(draft, channel="site", commit=commit)
    await hub.flush()
    [decision] = await hub.all(Link)
    assert decision.evidence == Evidence(kind="identity_token", ref="jti")
    assert decision.actor == "site:main"
    user = await hub.see(AddressDoc, address_id(hub.rules, USER))
    visitor = await hub.see(AddressDoc, address_id(hub.rules, somebody("v1", "site")))
    assert user.customer == visitor.customer
    assert [each.event for each in await hub.all(Entry)].count("contact.identified") == 1
    assert len([each for each in await hub.all(Customer) if each.alias_of is None]) == 1


async def test_a_claim_changes_nothing_about_whom_it_names(hub: PlannerHarness) -> None:
    """A visitor types a mailbox into a form: answers to it still leave by mail, under its name."""
    known = said(MAILBOX, "1", profile=Profile(name="Li", trust=Trust.SEEN))
    await hub.give(known, channel="mail")
    before = await hub.see(AddressDoc, address_id(hub.rules, MAILBOX))
    claimed = Profile(name="Boss", trust=Trust.CLAIMED)
    await hub.give(login("f", "v1", MAILBOX, Trust.CLAIMED, profile=claimed), channel="site")
    assert await hub.see(AddressDoc, before.id) == before
    assert await hub.all(Link) == []
    [row] = [row for row in await hub.all(FeedRow) if row.type == "customer.link_suggested"]
    assert row.customer == before.customer


async def test_an_address_that_was_only_named_is_answered_when_it_has_been_seen(
    hub: PlannerHarness,
) -> None:
    await hub.give(login("f", "v1", MAILBOX, Trust.ATTESTED), channel="site")
    ident = address_id(hub.rules, MAILBOX)
    args = {"address": ident, "parts": (Text(text="hi"),)}
    assert await hub.refused("reply", **args) == (409, "unreachable")
    await hub.give(said(MAILBOX, "1"), channel="mail")
    reply = await hub.done("reply", **args)
    assert (await hub.see(Entry, reply["entry"])).channel == "mail"


async def test_a_name_learned_through_a_link_does_not_stay_behind(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    await hub.give(said("wu", "1"))
    people = await owners(hub)
    decision = await link(hub, "wu", people["li"])
    await hub.give(said("wu", "2", profile=Profile(name="Wu")))
    await undo(hub, decision)
    assert (await hub.see(Customer, people["li"])).name == ""


# --- large customers ---------------------------------------------------------------------------


async def test_people_with_many_addresses_are_merged_and_unmerged(hub: PlannerHarness) -> None:
    """Within the loads that the router allows one item."""
    for number in range(2):
        for place in range(60):
            draft = login(f"{number}-{place}", f"v{number}-{place}", user(number), Trust.ATTESTED)
            await hub.give(draft, channel="site", commit=False)
        await hub.flush()
    one, other = [
        (await hub.see(AddressDoc, address_id(hub.rules, user(n)))).customer or "" for n in range(2)
    ]
    merged = await merge(hub, one, other)
    assert len((await hub.see(Customer, other)).addresses) == 122
    await undo(hub, merged)
    assert len((await hub.see(Customer, one)).addresses) == 61


def user(number: int) -> Address:
    return Address(scheme="site", account="main", kind="user", id=str(number))


async def test_what_would_touch_too_many_is_refused_and_loses_nothing_else(
    hub: PlannerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hub.give(said("li", "1"))
    await hub.give(said("wu", "1"))
    people = await owners(hub)
    monkeypatch.setattr("hub.planning.identity.MAX_COMPONENT", 3)
    args = {"customer": people["li"], "other": people["wu"], "evidence": AGENT}
    assert await hub.refused("merge", **args) == (422, "too-large")
    await hub.give(
        said("v1", "1", channel="site"), login("i", "v1", USER, Trust.ATTESTED), channel="site"
    )
    assert len(await hub.all(Entry)) == 3
    assert await hub.all(Link) == []
    assert (await hub.told())[-1] == "customer.link_suggested"
