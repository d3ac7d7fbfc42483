"""Where what we send comes back, nothing is sent any more, until somebody there gives a sign."""

from __future__ import annotations

from typing import Any

import pytest

from hub.documents import AddressDoc, Job
from normalizer.drafts import DeliveryState, Outcome, Receipt, Target
from normalizer.model import Role
from normalizer.parts import Text
from tests.planners.harness import PlannerHarness, said, somebody

HI = (Text(text="hi"),)
LI = somebody("li", "mail")


@pytest.fixture
async def li(hub: PlannerHarness) -> str:
    """Somebody who has written a mail."""
    await hub.give(said(LI, "1"), channel="mail")
    return hub.key.hashed("adr", str(LI))


async def answered(hub: PlannerHarness, li: str, **more: Any) -> str:
    result = await hub.done("reply", address=li, parts=HI, **more)
    return str(result["entry"])


async def returned(hub: PlannerHarness, entry: str, key: str, **more: Any) -> None:
    told = {"state": DeliveryState.FAILED, "permanent": True, **more}
    await hub.give(Receipt(key=key, target=Target(entry=entry), **told), channel="mail")


async def gone(hub: PlannerHarness, li: str) -> bool:
    return (await hub.see(AddressDoc, li)).gone_at is not None


async def test_three_returns_end_it_and_a_repeated_one_is_one(hub: PlannerHarness, li: str) -> None:
    entries = [await answered(hub, li) for _ in range(3)]
    for key in ("a", "a", "a"):
        await returned(hub, entries[0], key)
    await returned(hub, entries[1], "b", permanent=False)
    await returned(hub, entries[1], "c")
    assert not await gone(hub, li)
    await returned(hub, entries[2], "d")
    assert await gone(hub, li)


async def test_no_such_address_ends_it_at_once_and_says_so(hub: PlannerHarness, li: str) -> None:
    await returned(hub, await answered(hub, li), "a", gone=True)
    refused = await hub.command("reply", address=li, parts=HI)
    assert (refused.status, refused.error) == (409, "unreachable")
    assert "came back" in refused.detail
    assert refused.result["gone_at"].startswith(hub.now.date().isoformat())
    customer = (await hub.see(AddressDoc, li)).customer
    notice = {"purpose": "transactional", "parts": HI}
    for where in ({"address": li}, {"customer": customer}):
        assert (await hub.refused("notify", **notice, **where))[1] == "unreachable"
    jobs = len(await hub.all(Job))
    assert await answered(hub, li, anyway=True)
    assert len(await hub.all(Job)) > jobs


async def test_a_refusal_at_the_door_of_the_mail_server_counts_as_well(
    hub: PlannerHarness, li: str
) -> None:
    entry = await answered(hub, li)
    result = {"state": "failed", "code": "5.1.1", "gone": True}
    await hub.give(Outcome(key="o", job="job_1", kind="send", entry=entry, result=result))
    assert await gone(hub, li)


async def test_who_writes_is_there_again_and_a_machine_is_nobody(
    hub: PlannerHarness, li: str
) -> None:
    await returned(hub, await answered(hub, li), "a", gone=True)
    await hub.give(said(LI, "2", automatic=True), channel="mail")
    assert await gone(hub, li)
    await hub.give(said(LI, "3"), channel="mail")
    doc = await hub.see(AddressDoc, li)
    assert (doc.gone_at, doc.returned) == (None, 0)
    assert await answered(hub, li)


async def test_what_arrived_begins_the_count_anew(hub: PlannerHarness, li: str) -> None:
    for number in range(4):
        entry = await answered(hub, li)
        await returned(hub, entry, f"failed {number}")
        await returned(hub, entry, f"read {number}", state=DeliveryState.READ, permanent=False)
    assert not await gone(hub, li)


async def test_a_return_that_names_somebody_else_says_nothing_of_the_recipient(
    hub: PlannerHarness, li: str
) -> None:
    """A copy's recipient, or whoever wants others to be written to no more."""
    other = somebody("wang", "mail")
    await hub.give(said(other, "9"), channel="mail")
    entry = await answered(hub, li)
    await returned(hub, entry, "a", gone=True, address=other)
    assert not await gone(hub, li)
    assert not await gone(hub, hub.key.hashed("adr", str(other)))
    await returned(hub, entry, "b", gone=True, by=Role.AGENT)
    assert not await gone(hub, li)
    await returned(hub, entry, "c", gone=True, address=LI)
    assert await gone(hub, li)


async def test_channels_that_declare_nothing_send_on(hub: PlannerHarness) -> None:
    await hub.give(said("li", "1"))
    [address] = await hub.all(AddressDoc)
    result = await hub.done("reply", address=address.id, parts=HI)
    await returned(hub, str(result["entry"]), "a", gone=True)
    assert not await gone(hub, address.id)


async def test_erasing_forgets_it(hub: PlannerHarness, li: str) -> None:
    await returned(hub, await answered(hub, li), "a", gone=True)
    customer = (await hub.see(AddressDoc, li)).customer
    await hub.done("erase", customer=customer)
    doc = await hub.see(AddressDoc, li)
    assert (doc.erased, doc.gone_at, doc.returned) == (True, None, 0)
