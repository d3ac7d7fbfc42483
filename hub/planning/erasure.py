"""Erasing a person: everything readable goes, tombstones of the ids stay.

A tombstone is what stops a late retry, a spooled copy, a replay or a mailbox rescan. The
planner takes some entries at a time, so that no transaction grows with a history; the erase
job clears their raw requests and blobs, and asks again while something is left.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from hub.documents import (
    AddressDoc,
    AmendmentDoc,
    Conversation,
    Customer,
    Entry,
    InboxItem,
    Job,
    Link,
    Thread,
)
from hub.notifications import consents
from hub.planning.identity import ERASED
from hub.planning.media import blobs_in
from hub.planning.rules import Refusal, Rules, tell
from hub.planning.workspace import Workspace
from normalizer.drafts import Evidence

ENTRIES_AT_ONCE = 300


def erase_some(
    ws: Workspace,
    rules: Rules,
    customer_id: str,
    cause: str,
    *,
    asked_at: datetime,
    addresses: tuple[str, ...] = (),
    up_to: int = 0,
) -> dict[str, Any]:
    """Erase a customer and the first of its entries; the next rounds take the other entries.

    Who it was goes first: from then on nobody is merged with it, and what it says is a new
    person's. The next rounds name its ``addresses`` and the position ``up_to`` which they were
    its own; both are in the erase job. Return what was done: ``left`` says whether another
    round is needed. Raises Refusal(not-found) for an unknown customer; erasing an erased one
    changes nothing.
    """
    customer = ws.get(Customer, customer_id)
    if customer is None:
        raise Refusal("not-found", f"there is no customer {customer_id}", 404)
    while customer.alias_of is not None:
        customer = ws.need(Customer, customer.alias_of)
    if not customer.erased:
        addresses, up_to = customer.addresses, ws.position
        _erase_customer(ws, rules, customer, asked_at)
    if not addresses:
        return {"customer": customer.id, "entries": 0, "left": False}
    entries = ws.find(
        Entry,
        ("address", "in", addresses),
        ("position", "<=", up_to),
        limit=ENTRIES_AT_ONCE,
    )
    left = len(entries) == ENTRIES_AT_ONCE
    blobs = _bury(ws, entries)
    sources = list(dict.fromkeys(entry.source for entry in entries if entry.source))
    ws.new(
        Job(
            id=rules.key.hashed("job", f"{cause}|erase"),
            lane=f"erase:{customer.id}",
            kind="erase",
            position=ws.position,
            due_at=rules.now,
            live=True,
            state="ready",
            customer=customer.id,
            args={
                "sources": sources,
                "addresses": list(addresses),
                "up_to": up_to,
                "asked_at": asked_at.isoformat(),
                "blobs": blobs,
                "left": left,
            },
        )
    )
    return {"customer": customer.id, "entries": len(entries), "left": left}


def _bury(ws: Workspace, entries: list[Entry]) -> list[str]:
    """Leave the ids, the places and the times; return the blobs that have to go as well."""
    blobs: dict[str, None] = {}
    targets = tuple(sorted(entry.id for entry in entries))
    if targets:
        for amendment in ws.find(AmendmentDoc, ("target", "in", targets)):
            blobs |= dict.fromkeys(blobs_in(amendment.data))
            ws.put(replace(amendment, data={}, by=None))
    for entry in entries:
        blobs |= dict.fromkeys(blobs_in(msgspec.to_builtins((entry.parts, entry.data))))
        ws.put(
            Entry(
                id=entry.id,
                address="",
                position=entry.position,
                at=entry.at,
                received_at=entry.received_at,
                channel=entry.channel,
                account=entry.account,
                kind=entry.kind,
                direction=entry.direction,
                thread=entry.thread,
                seq=entry.seq,
                erased=True,
            )
        )
    return list(blobs)


def _erase_customer(ws: Workspace, rules: Rules, customer: Customer, asked_at: datetime) -> None:
    doomed = [customer, *_aliases(ws, customer)]
    ids = tuple(sorted(each.id for each in doomed))
    for decision in ws.find(Link, ("members", "in", (*ids, *customer.addresses))):
        _retire(ws, rules, decision, customer)
    for conversation in ws.find(Conversation, ("customer", "in", ids)):
        ws.put(
            replace(
                conversation,
                state="closed",
                closed_at=conversation.closed_at or rules.now,
                closed_by="erased",
                final=True,
                subject="",
                tags=(),
            )
        )
    if customer.addresses:
        _erase_addresses(ws, customer.addresses, asked_at)
        consents.erase(ws, rules, customer.addresses)
    for each in doomed:
        ws.put(
            Customer(
                id=each.id,
                alias_of=each.alias_of,
                created_at=each.created_at,
                seen_at=each.seen_at,
                erased=True,
            )
        )
    tell(ws, rules, "customer.erased", customer=customer.id, ref=customer.id)


def _aliases(ws: Workspace, customer: Customer) -> list[Customer]:
    found: list[Customer] = []
    waiting: tuple[str, ...] = (customer.id,)
    while waiting:
        direct = ws.find(Customer, ("alias_of", "in", waiting))
        found += direct
        waiting = tuple(sorted(each.id for each in direct))
    return found


def _erase_addresses(ws: Workspace, idents: tuple[str, ...], asked_at: datetime) -> None:
    """Keep the documents: an address may come back as a new person.

    What a process received before the erasure was asked for and still has in its spool is
    erased when it comes, however late; see :func:`came_too_late`.
    """
    for address in ws.find(AddressDoc, ("id", "in", idents)):
        ws.put(
            AddressDoc(
                id=address.id,
                scheme=address.scheme,
                created_at=address.created_at,
                private=address.private,
                erased=True,
                erased_up_to=asked_at,
            )
        )
    for thread in ws.find(Thread, ("address", "in", idents)):
        ws.put(replace(thread, key="", seen_at=None))


def came_too_late(ws: Workspace, item: InboxItem, ident: str, address: AddressDoc | None) -> bool:
    """Whether a message was received before its sender was erased; it leaves a tombstone only."""
    if address is None or address.erased_up_to is None:
        return False
    if item.received_at >= address.erased_up_to:
        return False
    ws.put(
        Entry(
            id=ident,
            address="",
            position=ws.position,
            at=item.received_at,
            received_at=item.received_at,
            channel=item.channel,
            account=item.account,
            erased=True,
        )
    )
    return True


def _retire(ws: Workspace, rules: Rules, decision: Link, customer: Customer) -> None:
    """A decision about somebody who was erased cannot be undone any more.

    It stands where it is about an address that is somebody else's by now.
    """
    if decision.undone_at is not None:
        return
    stands = decision.kind == "link" and decision.subject not in customer.addresses
    ws.put(
        replace(
            decision,
            undone_at=None if stands else rules.now,
            undone_by=ERASED,
            evidence=Evidence(kind=decision.evidence.kind),
        )
    )
