"""A person decides on a send of which nobody knows whether it arrived: it did, or it did not.

The decision is a command like any other, so it comes in as an item and the router writes it.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec.structs import replace

from hub.clock import Clock
from hub.documents import DeadLetter, Delivery, Entry, InboxItem, Job
from hub.ids import SpaceKey, new_id
from hub.outbound.ledger import Ledger
from hub.outbound.sender import holder
from hub.planning.commands import operation_id
from hub.planning.commands.saying import ARRIVED, SETTLED
from hub.planning.rules import Refusal
from hub.preparing import encode_drafts
from hub.store.interface import Store, StoreError
from normalizer.drafts import Actor, Command, DeliveryState

Found = Literal["sent", "failed"]
UNKNOWN = "send:outcome_unknown"


async def settleable(store: Store, letter: DeadLetter, found: Found) -> Job:
    """Return the job that a letter is about. Raises Refusal when it cannot be settled so."""
    if letter.kind != "job" or letter.stage != UNKNOWN:
        raise Refusal("conflict", "only a send of unknown outcome can be settled: redrive this one")
    if letter.state == "redriven":
        raise Refusal("conflict", "this was redriven before; see what became of it")
    job = await store.table(Job).get(letter.ref)
    entry = await store.table(Entry).get(job.entry) if job is not None and job.entry else None
    if job is None or entry is None or entry.erased:
        raise Refusal("erased", "this job is not kept any more", 410)
    refuse_unfinished(job)
    held = entry.delivery
    if held is not None and held.state is not DeliveryState.UNKNOWN:
        agrees = held.state in ARRIVED if found == "sent" else _is_settled_as_failed(held)
        if not agrees:
            raise Refusal("conflict", f"it is known what became of this answer: {held.state}")
    return job


def refuse_unfinished(job: Job) -> None:
    """Raise Refusal for a send that is still at work, or whose end was not told yet."""
    if job.live:
        raise Refusal("conflict", "it is being sent or told right now: look again in a minute")


def refuse_arrived(entry: Entry) -> None:
    """Raise Refusal when an answer is known to have left: once more would double it."""
    if entry.delivery is not None and entry.delivery.state in ARRIVED:
        raise Refusal(
            "conflict",
            f"this answer is {entry.delivery.state} by now, and would reach the customer twice:"
            " settle it as sent",
        )


def _is_settled_as_failed(held: Delivery) -> bool:
    return held.state is DeliveryState.FAILED and held.code == SETTLED


def settle_args(job: Job, found: Found) -> dict[str, Any]:
    state = DeliveryState.ACCEPTED if found == "sent" else DeliveryState.FAILED
    return {"entry": job.entry, "state": str(state)}


async def settled(store: Store, letter: DeadLetter, job: Job, found: Found) -> DeadLetter:
    """Close the letter; what surely was not sent takes no place in a window or a quota."""
    if found == "failed":
        await Ledger(store).give_back(holder(job))
    done = replace(letter, state="settled")
    await store.table(DeadLetter).swap(done, {"state": "open"})
    return done


async def settle_from_outside(
    store: Store, key: SpaceKey, clock: Clock, ident: str, found: Found
) -> None:
    """The same from the command line, whether or not a hub runs. Raises StoreError."""
    letter = await store.table(DeadLetter).get(ident)
    if letter is None:
        raise StoreError(f"there is no dead letter {ident}")
    try:
        job = await settleable(store, letter, found)
    except Refusal as refusal:
        raise StoreError(refusal.detail) from refusal
    once = f"settle|{letter.id}|{found}"
    command = Command(
        key=once, name="settle", actor=Actor(kind="operator"), args=settle_args(job, found)
    )
    item = InboxItem(
        id=new_id("in"),
        channel="hub",
        account="",
        received_at=clock.now(),
        door="api",
        drafts=encode_drafts([command]),
        operation=operation_id(key, once),
        open=True,
    )
    (error,) = await store.inbox.put([item])
    if error is not None:
        raise error
    await settled(store, letter, job, found)
