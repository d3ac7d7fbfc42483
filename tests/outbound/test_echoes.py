"""What our side sent and comes back is nothing new, whenever it comes; what somebody else sent is.

Real: the planners, over the in-memory store. The worker's outcomes are given by hand.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hub.documents import Entry, Job
from normalizer.drafts import DeliveryState, Message, Outcome, Receipt, Target
from normalizer.model import Direction
from normalizer.parts import Text
from tests.planners.harness import PlannerHarness, said, somebody

HI = "we shall look into it"


class Told(PlannerHarness):
    """A customer, an answer of ours, and what is told of it."""

    async def ask(self) -> Told:
        await self.open()
        await self.give(said("li", "m1"))
        (self.question,) = await self.all(Entry)
        return self

    async def answer(self, text: str = HI) -> tuple[Entry, Job]:
        parts = (Text(text=text),)
        result = await self.done("reply", address=self.question.address, parts=parts)
        entry = await self.see(Entry, result["entry"])
        (job,) = [each for each in await self.sends() if each.entry == entry.id]
        return entry, job

    async def sends(self) -> list[Job]:
        return [each for each in await self.all(Job) if each.kind == "send"]

    async def outcome(self, job: Job, state: str, *vendor_ids: str, **more: Any) -> None:
        result = {"state": state, "vendor_ids": list(vendor_ids), **more}
        key = f"{job.id}:{more.get('round', 0)}:{state}"
        await self.give(Outcome(key=key, job=job.id, kind="send", entry=job.entry, result=result))

    async def echo(self, vendor_id: str, text: str = HI, **more: Any) -> None:
        draft = Message(
            key=f"echo {vendor_id}",
            address=somebody("li"),
            parts=(Text(text=text),),
            direction=Direction.OUT,
            vendor_ids=(vendor_id,),
            **more,
        )
        await self.give(draft)

    async def receipt(self, vendor_id: str, state: DeliveryState, key: str = "") -> None:
        target = Target(vendor_id=vendor_id)
        await self.give(Receipt(key=key or f"{vendor_id}:{state}", target=target, state=state))

    async def ours(self) -> list[tuple[str, str]]:
        """Return (text, state) of what our side said, in order."""
        found = sorted(await self.all(Entry), key=lambda entry: entry.position)
        told = []
        for entry in found:
            if entry.direction is Direction.OUT:
                (part,) = entry.parts
                assert isinstance(part, Text)
                assert entry.delivery is not None
                assert entry.echo == b"" or entry.delivery.state == "queued"
                told.append((part.text, str(entry.delivery.state)))
        return told

    async def tickets(self) -> int:
        """How many entries of ours were sent to the ticket."""
        mine = {entry.id for entry in await self.all(Entry) if entry.direction is Direction.OUT}
        return len([job for job in await self.all(Job, task="append") if job.entry in mine])


@pytest.fixture
async def hub() -> Told:
    return await Told().ask()


async def test_an_echo_after_the_outcome_is_nothing_new(hub: Told) -> None:
    _, job = await hub.answer()
    await hub.outcome(job, "accepted", "v1")
    await hub.echo("v1")
    assert await hub.ours() == [(HI, "accepted")]
    assert await hub.tickets() == 1


async def test_an_echo_that_overtakes_the_outcome_is_nothing_new(hub: Told) -> None:
    _, job = await hub.answer()
    await hub.echo("v1", f"  {HI}\n")
    assert await hub.ours() == [(HI, "queued")]
    await hub.echo("v1", f"  {HI}\n")  # pushed twice
    await hub.outcome(job, "accepted", "v1")
    await hub.echo("v1", f"  {HI}\n")
    assert await hub.ours() == [(HI, "accepted")]
    assert await hub.tickets() == 1


async def test_a_key_of_ours_in_an_echo_needs_no_outcome(hub: Told) -> None:
    _, job = await hub.answer()
    await hub.echo("v1", "rewritten by the vendor", sent_key=job.id)
    assert await hub.ours() == [(HI, "accepted")]
    await hub.receipt("v1", DeliveryState.READ)
    assert await hub.ours() == [(HI, "read")]
    await hub.outcome(job, "accepted", "v1")
    assert await hub.ours() == [(HI, "read")]


async def test_a_key_of_another_person_is_no_echo(hub: Told) -> None:
    _, job = await hub.answer()
    draft = Message(
        key="x",
        address=somebody("han"),
        parts=(Text(text=HI),),
        direction=Direction.OUT,
        vendor_ids=("v9",),
        sent_key=job.id,
    )
    await hub.give(draft)
    assert await hub.ours() == [(HI, "queued"), (HI, "accepted")]


async def test_an_echo_settles_what_nobody_knew(hub: Told) -> None:
    _, job = await hub.answer()
    await hub.outcome(job, "unknown")
    await hub.echo("v1")
    assert await hub.ours() == [(HI, "accepted")]
    await hub.receipt("v1", DeliveryState.DELIVERED)
    assert await hub.ours() == [(HI, "delivered")]


async def test_an_echo_that_waits_settles_an_unknown_outcome(hub: Told) -> None:
    _, job = await hub.answer()
    await hub.echo("v1")
    await hub.outcome(job, "unknown")
    assert await hub.ours() == [(HI, "accepted")]


async def test_the_same_words_sent_by_somebody_else_are_a_message(hub: Told) -> None:
    """A colleague typed the same into the vendor's own app."""
    _, job = await hub.answer()
    await hub.echo("theirs")
    await hub.outcome(job, "accepted", "v1")
    assert await hub.ours() == [(HI, "accepted"), (HI, "accepted")]
    await hub.receipt("theirs", DeliveryState.READ)
    assert sorted(await hub.ours()) == [(HI, "accepted"), (HI, "read")]
    await hub.echo("theirs")
    await hub.echo("v1")
    assert len(await hub.ours()) == 2
    assert await hub.tickets() == 2


async def test_what_looks_like_a_send_that_failed_is_a_message(hub: Told) -> None:
    _, job = await hub.answer()
    await hub.echo("theirs")
    await hub.outcome(job, "failed", code="rejected")
    assert sorted(await hub.ours()) == [(HI, "accepted"), (HI, "failed")]


async def test_other_words_are_not_waited_for(hub: Told) -> None:
    await hub.answer()
    await hub.echo("theirs", "something else")
    assert await hub.ours() == [(HI, "queued"), ("something else", "accepted")]


async def test_two_answers_alike_have_an_echo_each(hub: Told) -> None:
    _, first = await hub.answer()
    _, second = await hub.answer()
    await hub.echo("v1")
    await hub.echo("v2")
    await hub.outcome(first, "accepted", "v1")
    await hub.outcome(second, "accepted", "v2")
    assert await hub.ours() == [(HI, "accepted"), (HI, "accepted")]


async def test_what_waits_is_erased_with_its_person(hub: Told) -> None:
    entry, job = await hub.answer()
    await hub.echo("v1")
    assert (await hub.see(Entry, entry.id)).echo
    owner = (await hub.sends())[0].customer
    await hub.done("erase", customer=owner)
    assert (await hub.see(Entry, entry.id)).echo == b""
    await hub.outcome(job, "accepted", "v1")
    await hub.echo("v1")
    assert all(found.erased for found in await hub.all(Entry))


# --- receipts, before and after ------------------------------------------------------------------


@pytest.mark.parametrize("early", [True, False])
async def test_a_receipt_may_come_before_or_after_the_outcome(hub: Told, early: bool) -> None:
    _, job = await hub.answer()
    told: list[Callable[[], Awaitable[None]]] = [
        lambda: hub.outcome(job, "accepted", "v1"),
        lambda: hub.receipt("v1", DeliveryState.DELIVERED),
    ]
    for tell in reversed(told) if early else told:
        await tell()
    assert await hub.ours() == [(HI, "delivered")]


@pytest.mark.parametrize("early", [True, False])
async def test_a_receipt_of_a_redriven_send_counts(hub: Told, early: bool) -> None:
    """Receipts know nothing of rounds: the vendor's id tells which one they are about."""
    _, job = await hub.answer()
    await hub.outcome(job, "failed", code="rejected")
    told: list[Callable[[], Awaitable[None]]] = [
        lambda: hub.outcome(job, "accepted", "v2", round=1),
        lambda: hub.receipt("v2", DeliveryState.READ),
    ]
    for tell in reversed(told) if early else told:
        await tell()
    assert await hub.ours() == [(HI, "read")]


async def test_a_late_receipt_of_the_round_before_changes_nothing(hub: Told) -> None:
    _, job = await hub.answer()
    await hub.outcome(job, "accepted", "v1")
    await hub.receipt("v1", DeliveryState.FAILED)
    await hub.outcome(job, "accepted", "v2", round=1)
    await hub.receipt("v1", DeliveryState.FAILED, key="again")
    assert await hub.ours() == [(HI, "accepted")]
    await hub.receipt("v2", DeliveryState.DELIVERED)
    assert await hub.ours() == [(HI, "delivered")]


async def test_the_same_vendor_id_in_both_rounds_is_about_the_later(hub: Told) -> None:
    """The vendor drops doubles by our key and answers with the id of the first."""
    _, job = await hub.answer()
    await hub.outcome(job, "unknown")
    await hub.outcome(job, "accepted", "v1")
    await hub.outcome(job, "accepted", "v1", round=1)
    await hub.receipt("v1", DeliveryState.DELIVERED)
    assert await hub.ours() == [(HI, "delivered")]


async def test_a_receipt_that_names_the_entry_is_about_its_present_round(hub: Told) -> None:
    entry, job = await hub.answer()
    await hub.outcome(job, "failed")
    await hub.outcome(job, "accepted", "v2", round=1)
    target = Target(entry=entry.id)
    await hub.give(Receipt(key="r", target=target, state=DeliveryState.READ))
    assert await hub.ours() == [(HI, "read")]


async def test_a_bounces_reason_is_kept_without_the_person(hub: Told) -> None:
    entry, job = await hub.answer()
    await hub.outcome(job, "accepted", "v1")
    reason = "550 <li@example.com> unknown"
    draft = Receipt(
        key="r", target=Target(vendor_id="v1"), state=DeliveryState.FAILED, reason=reason
    )
    await hub.give(draft)
    delivery = (await hub.see(Entry, entry.id)).delivery
    assert delivery is not None
    assert delivery.reason == "550 <***> unknown"


# --- a person decides ----------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["accepted", "failed"])
async def test_a_person_settles_what_nobody_knew(hub: Told, state: str) -> None:
    entry, job = await hub.answer()
    await hub.outcome(job, "unknown")
    await hub.done("settle", entry=entry.id, state=state)
    await hub.done("settle", entry=entry.id, state=state)  # twice is once
    assert await hub.ours() == [(HI, state)]
    other = "failed" if state == "accepted" else "accepted"
    assert await hub.refused("settle", entry=entry.id, state=other) == (409, "conflict")


async def test_only_an_unknown_answer_is_settled_and_only_one_way_or_the_other(hub: Told) -> None:
    entry, job = await hub.answer()
    assert await hub.refused("settle", entry=entry.id, state="accepted") == (409, "conflict")
    await hub.outcome(job, "unknown")
    assert await hub.refused("settle", entry=entry.id, state="read") == (422, "bad-request")
    missing = await hub.refused("settle", entry=hub.question.id, state="accepted")
    assert missing == (404, "not-found")


async def test_a_redriven_answer_that_is_unknown_again_is_settled_in_its_round(hub: Told) -> None:
    entry, job = await hub.answer()
    await hub.outcome(job, "unknown")
    await hub.outcome(job, "unknown", round=1)
    await hub.done("settle", entry=entry.id, state="accepted")
    assert await hub.ours() == [(HI, "accepted")]
