"""Erasing a person: nothing readable stays, nothing comes back, and nobody else is touched."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from hub.documents import (
    CORE,
    AddressDoc,
    AmendmentDoc,
    Conversation,
    Customer,
    Entry,
    FeedRow,
    Job,
    Link,
    Operation,
    Thread,
)
from hub.planning.entries import entry_id
from hub.planning.erasure import ENTRIES_AT_ONCE
from hub.planning.identity import address_id
from normalizer.drafts import (
    Amendment,
    AmendmentKind,
    DeliveryState,
    Evidence,
    Identity,
    Profile,
    Receipt,
    Target,
)
from normalizer.model import Trust
from normalizer.parts import Image, Media, Text, Video
from tests.planners.harness import PlannerHarness, said, somebody

SECRET = "s3cr3t"
AGENT = Evidence(kind="agent", note=SECRET)


def words(who: str, key: str, **more: Any) -> Any:
    return said(who, key, SECRET, **more)


def edit(key: str, vendor_id: str, *parts: Any) -> Amendment:
    data = {"parts": msgspec.to_builtins(parts)}
    target = Target(vendor_id=vendor_id)
    return Amendment(key=key, target=target, kind=AmendmentKind.EDIT, data=data)


async def owner(hub: PlannerHarness, who: str) -> str:
    found = await hub.see(AddressDoc, address_id(hub.rules, somebody(who)))
    assert found.customer is not None
    return found.customer


async def readable(hub: PlannerHarness, what: str) -> list[str]:
    """Return the collections in which a text can still be read."""
    found = []
    for kind in CORE:
        whole = b"".join([msgspec.json.encode(doc) for doc in await hub.all(kind)])
        if what.encode() in whole:
            found.append(kind.collection)
    return found


async def test_nothing_readable_stays(hub: PlannerHarness) -> None:
    """Words, names, notes, subjects, revisions, evidence, thread keys, the address itself."""
    profile = Profile(name=SECRET, phone=SECRET)
    await hub.give(
        words(SECRET, "1", channel="mail", subject=SECRET, thread=SECRET, profile=profile),
        channel="mail",
    )
    await hub.give(words(SECRET, "2", vendor_ids=("v",), profile=profile))
    await hub.give(edit("e", "v", Text(text=SECRET + " edited")))
    [chat] = [each for each in await hub.all(AddressDoc) if each.channel == "chat"]
    customer = chat.customer
    await hub.done("note", customer=customer, text=SECRET)
    await hub.done("reply", address=chat.id, parts=(Text(text=SECRET),))
    mail = next(each for each in await hub.all(AddressDoc) if each.channel == "mail")
    await hub.done("merge", customer=customer, other=mail.customer, evidence=AGENT)
    assert set(await readable(hub, SECRET)) >= {"entries", "amendments", "addresses", "links"}
    result = await hub.done("erase", customer=customer)
    assert result == {"customer": customer, "entries": len(await hub.all(Entry)), "left": False}
    assert await readable(hub, SECRET) == []
    assert (await hub.told())[-1] == "customer.erased"


async def test_a_late_retry_finds_the_tombstone(hub: PlannerHarness) -> None:
    message = words("li", "1", vendor_ids=("v",))
    assert await hub.give(message)
    customer = await owner(hub, "li")
    await hub.done("erase", customer=customer)
    feed = await hub.told()
    for _ in range(2):
        assert not await hub.give(message)
    [entry] = await hub.all(Entry)
    assert entry.erased
    assert entry.id == entry_id(hub.rules, "chat", "main", message)
    assert len(await hub.all(Customer)) == 1
    assert await hub.told() == feed


async def test_late_changes_of_what_was_erased_leave_nothing(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1", vendor_ids=("v",)))
    await hub.done("erase", customer=await owner(hub, "li"))
    for _ in range(2):
        assert not await hub.give(edit("late", "v", Text(text=SECRET)))
    await hub.give(
        Receipt(key="r", target=Target(vendor_id="v"), state=DeliveryState.FAILED, reason=SECRET)
    )
    assert await readable(hub, SECRET) == []
    assert (await hub.told())[-1] == "customer.erased"


async def test_a_late_login_does_not_bring_anybody_back(hub: PlannerHarness) -> None:
    draft = Identity(
        key="i",
        address=somebody("v"),
        same_as=somebody("li"),
        trust=Trust.ATTESTED,
        evidence=AGENT,
        role_event="contact.identified",
    )
    await hub.give(draft, channel="site")
    await hub.done("erase", customer=await owner(hub, "li"))
    feed = await hub.told()
    await hub.give(draft, channel="site")
    assert await hub.told() == feed
    assert all(each.erased for each in await hub.all(AddressDoc))


async def test_a_replayed_answer_stays_erased(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    customer = await owner(hub, "li")
    args = {"address": str(somebody("li")), "parts": (Text(text=SECRET),)}
    await hub.done("reply", key="k", via="chat", **args)
    await hub.done("erase", customer=customer)
    await hub.store.table(Operation).delete({})
    await hub.command("reply", key="k", via="chat", **args)
    assert len(await hub.all(Customer)) == 1
    assert await readable(hub, SECRET) == []


async def test_a_later_genuine_message_makes_a_new_customer(hub: PlannerHarness) -> None:
    """With the same address, in a new conversation, and a name of its own."""
    await hub.give(said("li", "1", profile=Profile(name=SECRET)))
    former = await owner(hub, "li")
    await hub.done("erase", customer=former)
    await hub.give(said("li", "2", profile=Profile(name="Li")))
    now = await owner(hub, "li")
    assert now != former
    customer = await hub.see(Customer, now)
    assert (customer.name, len(customer.open)) == ("Li", 1)
    old, new = sorted(await hub.all(Entry), key=lambda entry: entry.position)
    assert old.address == ""
    assert new.address == customer.addresses[0]
    assert old.conversation is None
    assert new.thread != old.thread


async def test_a_spooled_message_from_before_the_erasure_is_erased_when_it_comes(
    hub: PlannerHarness,
) -> None:
    """Even when the address has a new life by then; its raw copy has to go as well."""
    await hub.give(said("li", "1"))
    spooled_at = hub.now
    hub.now += timedelta(seconds=5)
    await hub.done("erase", customer=await owner(hub, "li"))
    hub.now += timedelta(seconds=5)
    await hub.give(said("li", "3"))
    alive = await owner(hub, "li")
    assert await hub.give(said("li", "2", SECRET), received_at=spooled_at) is False
    assert await readable(hub, SECRET) == []
    assert await owner(hub, "li") == alive
    assert len([entry for entry in await hub.all(Entry) if not entry.erased]) == 1


async def test_a_new_life_does_not_inherit_the_conversations_of_the_old_one(
    hub: PlannerHarness,
) -> None:
    """Not even when its address moves to somebody else."""
    await hub.give(said("li", "1"))
    [old] = await hub.all(Conversation)
    await hub.done("erase", customer=old.customer)
    await hub.give(said("li", "2"))
    await hub.give(said("wu", "1"))
    await hub.done(
        "merge", customer=await owner(hub, "wu"), other=await owner(hub, "li"), evidence=AGENT
    )
    after = await hub.see(Conversation, old.id)
    assert (after.customer, after.closed_by, after.final) == (old.customer, "erased", True)
    assert old.id not in (await hub.see(Customer, await owner(hub, "wu"))).open


async def test_a_counted_thread_goes_on_counting(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1", channel="site", thread="t"), channel="site")
    [address] = await hub.all(AddressDoc)
    await hub.done("erase", customer=address.customer)
    assert [each.key for each in await hub.all(Thread)] == [""]
    await hub.give(said("li", "2", channel="site", thread="t"), channel="site")
    taken = {(each.thread, each.seq) for each in await hub.all(Entry)}
    assert len(taken) == 2


# --- others ------------------------------------------------------------------------------------


async def test_everybody_who_was_merged_is_erased_and_nobody_else(hub: PlannerHarness) -> None:
    for who in ("li", "wu", "xu"):
        await hub.give(said(who, "1"))
    li, wu, xu = [await owner(hub, who) for who in ("li", "wu", "xu")]
    merged = await hub.done("merge", customer=li, other=wu, evidence=AGENT)
    await hub.done("erase", customer=wu)
    assert [each.erased for each in await hub.all(Customer)] == [True, True, False]
    assert sorted(each.erased for each in await hub.all(Entry) if each.kind == "message") == [
        False,
        True,
        True,
    ]
    assert await owner(hub, "xu") == xu
    for args in (
        ("unmerge", {"link": merged["link"]}),
        ("note", {"customer": wu, "text": "x"}),
        ("merge", {"customer": xu, "other": li, "evidence": AGENT}),
        ("link", {"customer": li, "address": str(somebody("xu")), "evidence": AGENT}),
    ):
        assert await hub.refused(args[0], **args[1]) == (410, "erased")
    refusal = await hub.refused("link", customer=xu, address=str(somebody("li")), evidence=AGENT)
    assert refusal == (404, "not-found")


async def test_who_had_left_before_stays_where_it_is(hub: PlannerHarness) -> None:
    """wu was li's once; li is erased: wu is xu's, and going back is refused, whatever follows."""
    for who in ("li", "wu", "xu"):
        await hub.give(said(who, "1"))
    li, wu, xu = [await owner(hub, who) for who in ("li", "wu", "xu")]
    await hub.done("merge", customer=li, other=wu, evidence=AGENT)
    moved = await hub.done("link", customer=xu, address=str(somebody("wu")), evidence=AGENT)
    await hub.done("erase", customer=li)
    assert await owner(hub, "wu") == xu
    assert await hub.refused("unlink", link=moved["link"]) == (410, "erased")
    apart = await hub.done("separate", address=str(somebody("xu")), evidence=AGENT)
    assert await owner(hub, "wu") == xu
    await hub.done("unlink", link=apart["link"])
    assert await owner(hub, "xu") == await owner(hub, "wu") == xu


async def test_an_undo_that_would_lead_to_somebody_erased_is_refused(
    hub: PlannerHarness,
) -> None:
    """Even when the link itself never named them: wu's home was erased while wu was away."""
    for who in ("li", "wu", "xu", "yu"):
        await hub.give(said(who, "1"))
    wu, xu, yu = [await owner(hub, who) for who in ("wu", "xu", "yu")]
    await hub.done("link", customer=wu, address=str(somebody("li")), evidence=AGENT)
    first = await hub.done("link", customer=xu, address=str(somebody("wu")), evidence=AGENT)
    second = await hub.done("link", customer=yu, address=str(somebody("wu")), evidence=AGENT)
    await hub.done("unlink", link=first["link"])
    await hub.done("erase", customer=wu)
    before = await hub.all(Customer)
    assert await hub.refused("unlink", link=second["link"]) == (410, "erased")
    assert await owner(hub, "wu") == yu
    assert await hub.all(Customer) == before


async def test_a_new_life_is_free_of_the_decisions_about_the_old_one(
    hub: PlannerHarness,
) -> None:
    """wu was linked from one who is erased to another who is erased then, and comes back."""
    for who in ("li", "wu", "xu", "yu"):
        await hub.give(said(who, "1"))
    li, wu, xu, yu = [await owner(hub, who) for who in ("li", "wu", "xu", "yu")]
    await hub.done("link", customer=wu, address=str(somebody("li")), evidence=AGENT)
    await hub.done("link", customer=xu, address=str(somebody("wu")), evidence=AGENT)
    await hub.done("erase", customer=wu)
    await hub.done("erase", customer=xu)
    await hub.give(said("wu", "2"))
    again = await owner(hub, "wu")
    assert again not in (li, wu, xu, yu)
    moved = await hub.done("merge", customer=yu, other=again, evidence=AGENT)
    assert await owner(hub, "wu") == yu
    await hub.done("unmerge", link=moved["link"])
    assert await owner(hub, "wu") == again


async def test_answers_to_an_erased_conversation_are_refused(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    [conversation] = await hub.all(Conversation)
    await hub.done("erase", customer=conversation.customer)
    hi = (Text(text="hi"),)
    assert await hub.refused("reply", conversation=conversation.id, parts=hi) == (410, "erased")
    assert await hub.refused("reopen", conversation=conversation.id) == (409, "conversation-final")


async def test_unknown_customers_are_not_erased(hub: PlannerHarness) -> None:
    assert await hub.refused("erase", customer="cus_no") == (404, "not-found")


# --- what is left to do ------------------------------------------------------------------------


async def test_the_job_names_raw_copies_and_every_blob(hub: PlannerHarness) -> None:
    """Those of older revisions and thumbnails as well."""
    first = Image(media=Media(blob="blb_1"))
    await hub.give(said("li", "1", vendor_ids=("v",)))
    await hub.give(edit("a", "v", first))
    second = Video(media=Media(blob="blb_2"), thumbnail=Media(blob="blb_3"))
    await hub.give(edit("b", "v", second))
    [entry] = await hub.all(Entry)
    await hub.done("erase", customer=await owner(hub, "li"))
    [job] = [job for job in await hub.all(Job) if job.kind == "erase"]
    assert sorted(job.args["blobs"]) == ["blb_1", "blb_2", "blb_3"]
    assert job.args["sources"] == [entry.source]
    assert job.args["addresses"] == [entry.address]
    assert not job.args["left"]
    assert [each.data for each in await hub.all(AmendmentDoc)] == [{}, {}]


async def test_erasing_again_changes_nothing(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    customer = await owner(hub, "li")
    await hub.done("erase", customer=customer)
    feed = await hub.told()
    assert await hub.done("erase", customer=customer) == {
        "customer": customer,
        "entries": 0,
        "left": False,
    }
    assert await hub.told() == feed


@pytest.mark.parametrize("commit", [True, False], ids=["across batches", "in one batch"])
async def test_a_long_history_goes_in_rounds(hub: PlannerHarness, commit: bool) -> None:
    """What the address says meanwhile is another person's; nobody is merged into the erased one."""
    total = ENTRIES_AT_ONCE * 2 + 10
    for number in range(total):
        await hub.give(said("li", str(number)), commit=False)
    await hub.give(said("wu", "1"))
    customer = await owner(hub, "li")
    key = "first"
    result = await hub.done("erase", key=key, customer=customer, commit=commit)
    assert (result["entries"], result["left"]) == (ENTRIES_AT_ONCE, True)
    refusal = await hub.refused(
        "merge", customer=await owner(hub, "wu"), other=customer, evidence=AGENT, commit=commit
    )
    assert refusal == (410, "erased")
    await hub.give(said("li", "new"), commit=commit)
    rounds = 1
    while result["left"]:
        job = await hub.see(Job, hub.key.hashed("job", f"{key}|erase"))
        assert job.args["left"]
        key = f"next after {key}"
        more = {name: job.args[name] for name in ("addresses", "up_to")}
        result = await hub.done("erase", key=key, customer=customer, commit=commit, **more)
        rounds += 1
    await hub.flush()
    assert rounds == 3
    alive = [each for each in await hub.all(Entry) if not each.erased]
    assert len(alive) == 2
    assert {each.address for each in alive} == {
        address_id(hub.rules, somebody(who)) for who in ("li", "wu")
    }
    assert await owner(hub, "li") != customer
    assert len([row for row in await hub.all(FeedRow) if row.type == "customer.erased"]) == 1
    assert len(await hub.all(Link)) == 0
