"""A person decides on a send of which nobody knows whether it arrived: it did, or it did not.

The decision is a command like any other, so it comes in as an item and the router writes it.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec.structs import replace

from hub.clock import Clock
from hub.documents import DeadLetter, InboxItem, Job
from hub.ids import SpaceKey, new_id
from hub.outbound.ledger import Ledger
from hub.outbound.sender import holder
from hub.planning.commands import operation_id
from hub.planning.rules import Refusal
from hub.preparing import encode_drafts
from hub.store.interface import Store, StoreError
from normalizer.drafts import Actor, Command, DeliveryState

Found = Literal["sent", "failed"]
UNKNOWN = "send:outcome_unknown"


async def settleable(store: Store, letter: DeadLetter) -> Job:
    """Return the job that a letter is about. Raises Refusal when there is nothing to settle."""
    if letter.kind != "job" or letter.stage != UNKNOWN:
        raise Refusal("conflict", "only a send of unknown outcome can be settled: redrive this one")
    if letter.state == "redriven":
        raise Refusal("conflict", "this was redriven before; see what became of it")
    job = await store.table(Job).get(letter.ref)
    if job is None or job.entry is None:
        raise Refusal("erased", "this job is not kept any more", 410)
    return job


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
        job = await settleable(store, letter)
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
