"""The consent ledger: the last word wins, every word is kept, a withdrawal outlives an erasure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from hub.documents import (
    AddressDoc,
    Consent,
    ConsentChange,
    Customer,
    Entry,
    FeedRow,
    Operation,
)
from hub.notifications.consents import consent_id, hear, objection
from hub.planning.workspace import NotLoaded, Workspace
from normalizer.drafts import Event, Evidence
from tests.notifications.test_notifying import AGENT, FORM, adr, agreed, known, tell
from tests.planners.harness import START, PlannerHarness, said, somebody


async def state(hub: PlannerHarness, who: str = "li", purpose: str = "marketing") -> str:
    found = await hub.store.table(Consent).get(consent_id(hub.key, adr(hub, who), purpose))
    return found.state if found is not None else "unknown"


async def says(hub: PlannerHarness, customer: str, state: str, **more: Any) -> None:
    given = {"purpose": "marketing", "evidence": FORM, **more}
    await hub.done("consent", customer=customer, state=state, **given)


def event(name: str, key: str, who: str = "li", **data: Any) -> Event:
    return Event(key=key, address=somebody(who), name=name, data=data)


@pytest.mark.parametrize(
    ("states", "purpose", "needs_grant", "against"),
    [
        ({}, "transactional", False, None),
        ({}, "marketing", True, "missing"),
        ({"marketing": "granted"}, "marketing", True, None),
        ({"marketing": "unknown"}, "marketing", True, "missing"),
        ({"marketing": "withdrawn"}, "marketing", True, "withdrawn"),
        ({"marketing": "withdrawn"}, "transactional", False, None),
        ({"transactional": "withdrawn"}, "transactional", False, "withdrawn"),
        ({"*": "withdrawn"}, "transactional", False, "withdrawn"),
        ({"*": "withdrawn", "marketing": "granted"}, "marketing", True, "withdrawn"),
        ({"*": "granted"}, "marketing", True, "missing"),
        ({"*": "granted", "marketing": "withdrawn"}, "marketing", True, "withdrawn"),
    ],
)
def test_a_withdrawal_wins_over_everything(
    states: dict[str, str], purpose: str, needs_grant: bool, against: str | None
) -> None:
    assert objection(states, purpose, needs_grant=needs_grant) == against


async def test_marketing_needs_a_grant_and_stops_with_a_withdrawal(hub: PlannerHarness) -> None:
    customer = await known(hub)
    offer = tell(customer, purpose="marketing")
    assert await hub.refused("notify", **offer) == (409, "consent-missing")
    await says(hub, customer, "granted", source="newsletter form")
    await hub.done("notify", **offer)
    await says(hub, customer, "withdrawn")
    assert await hub.refused("notify", **offer) == (409, "consent-withdrawn")
    await hub.done("notify", **tell(customer))  # of the order that is on its way
    await says(hub, customer, "unknown")
    assert await hub.refused("notify", **offer) == (409, "consent-missing")


async def test_every_word_is_kept_with_its_evidence_and_told_to_the_feed(
    hub: PlannerHarness,
) -> None:
    customer = await known(hub)
    await says(hub, customer, "granted", source="form")
    hub.later(days=1)
    await says(hub, customer, "granted", source="counter")
    hub.later(days=1)
    await says(hub, customer, "withdrawn", evidence=Evidence(kind="call", ref="7"))
    lines = sorted(await hub.all(ConsentChange), key=lambda line: line.position)
    assert [(line.state, line.source) for line in lines] == [
        ("granted", "form"),
        ("granted", "counter"),
        ("withdrawn", "agent:wang"),
    ]
    assert [line.evidence for line in lines] == [FORM, FORM, Evidence(kind="call", ref="7")]
    assert {line.actor for line in lines} == {"agent:wang"}
    rows = [row for row in await hub.all(FeedRow) if row.type == "consent.changed"]
    assert [row.data["state"] for row in rows] == ["granted", "granted", "withdrawn"]
    assert {(row.customer, row.address) for row in rows} == {(customer, adr(hub, "li"))}


async def test_an_older_word_that_comes_later_is_kept_and_changes_nothing(
    hub: PlannerHarness,
) -> None:
    """An import of last year's list does not bring back who has left since."""
    customer = await known(hub)
    await says(hub, customer, "withdrawn")
    position = hub.position
    await says(hub, customer, "granted", at=hub.now - timedelta(days=300))
    assert await state(hub) == "withdrawn"
    assert hub.position == position
    assert len(await hub.all(ConsentChange)) == 2
    hub.later(seconds=1)
    told = await hub.refused(
        "consent",
        customer=customer,
        purpose="marketing",
        state="granted",
        evidence=FORM,
        at=hub.now + timedelta(seconds=1),
    )
    assert told == (422, "bad-request")


async def test_a_word_that_is_replayed_is_one_line(hub: PlannerHarness) -> None:
    """Even when its operation is forgotten, and somebody changed their mind since."""
    customer = await known(hub)
    await says(hub, customer, "granted", key="k")
    hub.later(hours=1)
    await says(hub, customer, "withdrawn")
    await hub.store.table(Operation).delete({})
    hub.later(hours=1)
    await says(hub, customer, "granted", key="k")
    assert await state(hub) == "withdrawn"
    assert len(await hub.all(ConsentChange)) == 2


async def test_a_customer_without_an_address_agrees_to_nothing(hub: PlannerHarness) -> None:
    customer = await known(hub)
    await hub.done("note", customer=customer, text="has a private address only, soon")
    other = await known(hub, "wu")
    await hub.done("link", customer=other, address=str(somebody("li")), evidence=AGENT)
    told = await hub.refused(
        "consent", customer="cus_0", purpose="*", state="withdrawn", evidence=FORM
    )
    assert told == (404, "not-found")
    await says(hub, customer, "withdrawn")  # answers as the one that has its address
    assert (await state(hub), await state(hub, "wu")) == ("withdrawn", "withdrawn")


async def test_consent_is_an_addresss_and_given_for_all_of_them_unless_said(
    hub: PlannerHarness,
) -> None:
    li = await known(hub)
    await hub.done("note", customer=li, text="has a private address, too")
    await hub.done("merge", customer=li, other=await known(hub, "wu"), evidence=AGENT)
    await says(hub, li, "granted", addresses=[adr(hub, "wu")])
    assert (await state(hub, "li"), await state(hub, "wu")) == ("unknown", "granted")
    await says(hub, li, "withdrawn")
    assert (await state(hub, "li"), await state(hub, "wu")) == ("withdrawn", "withdrawn")
    assert len(await hub.all(Consent)) == 2
    told = await hub.refused(
        "consent",
        customer=li,
        purpose="marketing",
        state="granted",
        evidence=FORM,
        addresses=[adr(hub, "xu")],
    )
    assert told == (404, "not-found")
    told = await hub.refused("consent", customer=li, purpose="spam", state="granted", evidence=FORM)
    assert told == (422, "bad-request")


async def test_consent_follows_its_address_through_a_merge_and_back(hub: PlannerHarness) -> None:
    li, wu = await known(hub), await known(hub, "wu")
    await agreed(hub, li)
    await says(hub, wu, "withdrawn")
    merged = await hub.done("merge", customer=li, other=wu, evidence=AGENT)
    result = await hub.done("notify", **tell(li, purpose="marketing"))
    assert result["address"] == adr(hub, "li")  # the one that agreed
    there = tell(li, purpose="marketing", address=adr(hub, "wu"))
    assert await hub.refused("notify", **there) == (409, "consent-withdrawn")
    await hub.done("unmerge", link=merged["link"])
    await hub.done("notify", **tell(li, purpose="marketing"))
    told = await hub.refused("notify", **tell(wu, purpose="marketing"))
    assert told == (409, "consent-withdrawn")


# --- what channels tell --------------------------------------------------------------------------


async def test_who_opts_out_on_a_channel_gets_nothing_and_opting_in_ends_that(
    hub: PlannerHarness,
) -> None:
    customer = await known(hub)
    await agreed(hub, customer)
    hub.later(hours=1)
    for _ in range(2):  # told twice, it is one
        await hub.give(event("contact.opted_out", "e1", keyword="STOP"))
    for purpose in ("marketing", "transactional"):
        told = await hub.refused("notify", **tell(customer, purpose=purpose))
        assert told == (409, "consent-withdrawn")
    [consent] = [each for each in await hub.all(Consent) if each.purpose == "*"]
    assert consent.source == "chat:main"
    assert consent.evidence is not None
    assert consent.evidence.kind == "contact.opted_out"
    assert len(await hub.all(ConsentChange)) == 2
    hub.later(hours=1)
    await hub.give(event("contact.opted_in", "e2"))
    for purpose in ("marketing", "transactional"):
        await hub.done("notify", **tell(customer, purpose=purpose))


async def test_opting_in_to_everything_agrees_to_nothing_by_name(hub: PlannerHarness) -> None:
    customer = await known(hub)
    await hub.give(event("contact.opted_in", "e1"))
    told = await hub.refused("notify", **tell(customer, purpose="marketing"))
    assert told == (409, "consent-missing")


async def test_a_channel_may_name_the_purpose(hub: PlannerHarness) -> None:
    customer = await known(hub)
    await hub.give(event("contact.opted_in", "e1", purpose="marketing"))
    await hub.done("notify", **tell(customer, purpose="marketing"))
    hub.later(hours=1)
    await hub.give(event("contact.opted_out", "e2", purpose="marketing"))
    told = await hub.refused("notify", **tell(customer, purpose="marketing"))
    assert told == (409, "consent-withdrawn")
    await hub.done("notify", **tell(customer))


@pytest.mark.parametrize("odd", [7, ["marketing"], "x" * 33])
async def test_a_purpose_nobody_can_read_stops_everything_and_allows_nothing(
    hub: PlannerHarness, odd: object
) -> None:
    await known(hub)
    await hub.give(event("contact.opted_out", "e1", purpose=odd))
    assert await state(hub, purpose="*") == "withdrawn"
    hub.later(hours=1)
    await hub.give(event("contact.opted_in", "e2", purpose=odd))
    assert await state(hub, purpose="*") == "withdrawn"


def test_of_an_imported_history_only_opt_outs_are_heard() -> None:
    entry = Entry(
        id="ent_1",
        address="adr_1",
        position=1,
        at=START,
        received_at=START,
        channel="chat",
        account="main",
        kind="event",
        historical=True,
    )
    address = AddressDoc(id="adr_1", scheme="chat")
    rules = PlannerHarness().rules
    ws = Workspace()
    hear(ws, rules, address, replace(entry, event="contact.opted_in"), None)
    ws.accept()
    assert ws.changes() == ([], [])
    with pytest.raises(NotLoaded):  # it looks the ledger up
        hear(ws, rules, address, replace(entry, event="contact.opted_out"), None)


async def test_channels_events_that_overtake_each_other_end_as_they_were_said(
    hub: PlannerHarness,
) -> None:
    await known(hub)
    hub.later(hours=2)
    out = event("contact.opted_out", "e1")
    back = event("contact.opted_in", "e2")
    await hub.give(type(back)(**{**fields(back), "at": hub.now - timedelta(minutes=5)}))
    await hub.give(type(out)(**{**fields(out), "at": hub.now - timedelta(minutes=10)}))
    assert await state(hub, purpose="*") == "granted"


def fields(draft: Event) -> dict[str, Any]:
    return {name: getattr(draft, name) for name in draft.__struct_fields__}


# --- erasing -------------------------------------------------------------------------------------


async def test_of_an_erased_customer_stays_what_was_withdrawn_and_nothing_else(
    hub: PlannerHarness,
) -> None:
    customer = await known(hub)
    await hub.give(event("contact.opted_out", "e1", purpose="survey"))
    await agreed(hub, customer)
    await says(hub, customer, "withdrawn", purpose="transactional")
    await hub.done("erase", customer=customer)
    left = {consent.purpose: consent for consent in await hub.all(Consent)}
    assert {purpose: each.state for purpose, each in left.items()} == {
        "survey": "withdrawn",
        "transactional": "withdrawn",
        "marketing": "unknown",
    }
    for consent in left.values():
        assert (consent.source, consent.evidence, consent.actor) == ("", None, "")
        assert consent.address == adr(hub, "li")  # an HMAC: nobody reads it


async def test_nobody_is_written_to_by_accident_after_an_erasure(hub: PlannerHarness) -> None:
    customer = await known(hub)
    await agreed(hub, customer)
    await says(hub, customer, "withdrawn", purpose="transactional")
    await hub.done("erase", customer=customer)
    for purpose, problem in (
        ("transactional", "consent-withdrawn"),
        ("marketing", "consent-missing"),
    ):
        told = await hub.refused(
            "notify",
            purpose=purpose,
            address=str(somebody("li")),
            channel="chat",
            account="main",
            parts=tell("")["parts"],
        )
        assert told == (409, problem)
    assert [each.erased for each in await hub.all(Customer)] == [True]
    assert (await hub.see(AddressDoc, adr(hub, "li"))).erased


async def test_a_new_life_begins_with_the_withdrawal_and_may_end_it(hub: PlannerHarness) -> None:
    former = await known(hub)
    await says(hub, former, "withdrawn", purpose="transactional")
    await hub.done("erase", customer=former)
    hub.later(days=1)
    await hub.give(said("li", "again"))
    address = await hub.see(AddressDoc, adr(hub, "li"))
    assert address.customer not in (None, former)
    told = await hub.refused("notify", **tell(str(address.customer)))
    assert told == (409, "consent-withdrawn")
    await says(hub, str(address.customer), "granted", purpose="transactional")
    await hub.done("notify", **tell(str(address.customer)))


async def test_a_grant_from_before_the_erasure_does_not_come_back(hub: PlannerHarness) -> None:
    former = await known(hub)
    await agreed(hub, former)
    hub.later(days=1)
    await hub.done("erase", customer=former)
    hub.later(days=1)
    await hub.give(said("li", "again"))
    address = await hub.see(AddressDoc, adr(hub, "li"))
    await says(hub, str(address.customer), "granted", at=hub.now - timedelta(days=2))
    assert await state(hub) == "unknown"
