"""Commands about who is who: link, separate, merge, their undo, erase."""

from __future__ import annotations

from datetime import datetime

from hub.documents import (
    AddressDoc,
    Customer,
    Entry,
    EntrySender,
    Link,
)
from hub.planning import identity
from hub.planning.commands.registry import Args, Context, Result, command, command_entry_id
from hub.planning.entries import append
from hub.planning.erasure import erase_some
from hub.planning.rules import Refusal, Rules
from hub.planning.workspace import Workspace
from normalizer.addresses import AddressError, parse_address
from normalizer.drafts import Evidence
from normalizer.model import Direction, Role, Trust
from normalizer.parts import Text


class LinkArgs(Args, frozen=True, kw_only=True):
    """An agent's or another system's decision that an address is this customer's."""

    customer: str
    address: str
    evidence: Evidence
    trust: Trust = Trust.ATTESTED


@command("link", LinkArgs)
def _link(ws: Workspace, rules: Rules, context: Context, args: LinkArgs) -> Result:
    customer = identity.canonical_customer(ws, args.customer)
    address = known_address(ws, rules, args.address)
    decision = identity.link(
        ws,
        rules,
        address,
        customer,
        trust=args.trust,
        evidence=args.evidence,
        actor=context.by,
    )
    return {"link": decision.id if decision else None, "customer": customer.id}


def known_address(ws: Workspace, rules: Rules, text: str) -> AddressDoc:
    if not text.startswith("adr_"):
        try:
            text = identity.address_id(rules, parse_address(text))
        except AddressError as error:
            raise Refusal("bad-request", str(error), 422) from error
    address = ws.get(AddressDoc, text)
    if address is None or address.erased or address.customer is None:
        raise Refusal("not-found", "this address has not been seen yet", 404)
    return address


class Separate(Args, frozen=True, kw_only=True):
    address: str
    evidence: Evidence


@command("separate", Separate)
def _separate(ws: Workspace, rules: Rules, context: Context, args: Separate) -> Result:
    address = known_address(ws, rules, args.address)
    decision = identity.separate(ws, rules, address, args.evidence, context.by)
    return {"link": decision.id, "customer": decision.into}


class Merge(Args, frozen=True, kw_only=True):
    customer: str  # stays
    other: str  # becomes an alias
    evidence: Evidence


@command("merge", Merge)
def _merge(ws: Workspace, rules: Rules, context: Context, args: Merge) -> Result:
    winner = identity.canonical_customer(ws, args.customer)
    loser = identity.canonical_customer(ws, args.other)
    moving = ws.need(Customer, loser.id).open
    decision = identity.merge(ws, rules, loser, winner, args.evidence, context.by)
    _note_merge(ws, rules, context, winner.id, moving)
    return {"link": decision.id, "customer": winner.id}


def _note_merge(
    ws: Workspace, rules: Rules, context: Context, winner: str, moving: tuple[str, ...]
) -> None:
    """Merging joins no conversations; a note links those that are now side by side."""
    customer = ws.need(Customer, winner)
    if len(customer.open) < 2 or not moving:
        return
    address = identity.private_address(ws, rules, customer)
    entry = Entry(
        id=command_entry_id(rules.key, context.key),
        address=address.id,
        position=0,
        at=context.item.received_at,
        received_at=context.item.received_at,
        channel="hub",
        account="",
        kind="note",
        direction=Direction.INTERNAL,
        sender=EntrySender(role=Role.SYSTEM),
        parts=(Text(text="Customers were merged; open: " + ", ".join(customer.open)),),
        conversation=customer.open[-1],
        source=context.item.id,
    )
    append(ws, rules, entry, ws.need(AddressDoc, address.id), "note.added")


class Undo(Args, frozen=True, kw_only=True):
    """Undo a link or a merge, in any order. ``customer`` checks that it is the right one."""

    link: str = ""
    customer: str = ""


@command("unlink", Undo)
def _unlink(ws: Workspace, rules: Rules, context: Context, args: Undo) -> Result:
    decision = ws.get(Link, args.link)
    if decision is None:
        raise Refusal("not-found", f"there is no link {args.link}", 404)
    if args.customer and args.customer not in decision.members:
        named = identity.canonical_customer(ws, args.customer)
        if named.id != identity.canonical_customer(ws, decision.into).id:
            raise Refusal("not-found", "this link belongs to another customer", 404)
    decision = identity.undo(ws, rules, args.link, context.by)
    return {"link": decision.id, "customer": decision.into}


@command("unmerge", Undo)
def _unmerge(ws: Workspace, rules: Rules, context: Context, args: Undo) -> Result:
    decision = ws.get(Link, args.link)
    if decision is None or decision.kind != "merge":
        raise Refusal("not-found", f"there is no merge {args.link}", 404)
    return _unlink(ws, rules, context, args)


class EraseArgs(Args, frozen=True, kw_only=True):
    """``addresses`` and ``up_to`` come from the erase job when it asks for the next round."""

    customer: str
    addresses: tuple[str, ...] = ()
    up_to: int = 0
    asked_at: datetime | None = None  # of the first round


@command("erase", EraseArgs)
def _erase(ws: Workspace, rules: Rules, context: Context, args: EraseArgs) -> Result:
    """Take everything readable of a customer away, some entries at a time; see erasure."""
    return erase_some(
        ws,
        rules,
        args.customer,
        context.key,
        asked_at=args.asked_at or context.item.received_at,
        addresses=args.addresses,
        up_to=args.up_to,
    )
