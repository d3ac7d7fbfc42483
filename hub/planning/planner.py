"""What a draft does: the planner behind the router, one function for each kind of draft.

``plan`` is given one draft of one inbox item and changes the workspace: entries, amendments,
jobs and feed rows. It is deterministic in its ids, so planning the same item twice changes
nothing. Nothing here waits; see :mod:`hub.planning.workspace`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from hub.documents import (
    AddressDoc,
    Alias,
    AmendmentDoc,
    Conversation,
    Customer,
    Delivery,
    Entry,
    EntrySender,
    InboxItem,
    Job,
    Thread,
    TicketLink,
)
from hub.notifications import consents
from hub.planning import conversations, history, identity
from hub.planning.codes import code_in, tell_code
from hub.planning.commands import run_command
from hub.planning.echoes import decide, is_echo
from hub.planning.entries import (
    alias_id,
    amend,
    append,
    entry_id,
    entry_sender,
    name_entry,
    settle,
    tickets_for,
)
from hub.planning.erasure import came_too_late
from hub.planning.folding import STATE_RANK, round_of
from hub.planning.media import KINDS as MEDIA_KINDS
from hub.planning.media import repeated
from hub.planning.media_outcome import media_outcome
from hub.planning.profiles import JOB as PROFILE
from hub.planning.profiles import ask_for_profile, profile_outcome
from hub.planning.rules import Refusal, Route, Rules, sane, tell
from hub.planning.threads import hinted, is_thread_of, note_labels, thread_row
from hub.planning.ticket_links import with_outcome
from hub.planning.windows import note_windows
from hub.planning.workspace import Workspace
from normalizer.addresses import Address
from normalizer.drafts import (
    Amendment,
    AmendmentKind,
    AnyDraft,
    Command,
    DeliveryState,
    Event,
    Identity,
    Message,
    Outcome,
    Receipt,
    Target,
)
from normalizer.keys import dedupe_key
from normalizer.masking import masked
from normalizer.model import Direction, Role, Trust

MAX_CUMULATIVE = 500  # entries that one cumulative receipt may touch


def plan(
    ws: Workspace, rules: Rules, item: InboxItem, draft: AnyDraft, route: Route | None = None
) -> bool:
    """Plan one draft; return False when it was erased before, so that its raw copy has to go."""
    if item.imported:
        return history.plan_history(ws, rules, item, draft)
    match draft:
        case Message():
            return _message(ws, rules, item, draft, route)
        case Event():
            return _event(ws, rules, item, draft)
        case Amendment():
            return _amendment(ws, rules, item, draft)
        case Receipt():
            _receipt(ws, rules, item, draft)
        case Identity():
            _identity(ws, rules, item, draft)
        case Command():
            run_command(ws, rules, item, draft)
        case Outcome():
            return _outcome(ws, rules, item, draft)
    return True


# --- entries -------------------------------------------------------------------------------------


def _message(
    ws: Workspace, rules: Rules, item: InboxItem, draft: Message, route: Route | None
) -> bool:
    ident = entry_id(rules, item.channel, item.account, draft)
    known = ws.get(Entry, ident)
    if known is None:
        known = is_echo(ws, rules, item, draft)
    if known is not None and not history.comes_to_life(item, known):
        repeated(ws, rules, item, draft, known)
        history.keep(ws, known)
        return not known.erased
    sender = ws.get(AddressDoc, identity.address_id(rules, draft.address))
    if came_too_late(ws, item, ident, sender):
        repeated(ws, rules, item, draft, None)
        return False
    at = sane(draft.at, item.received_at)
    address, customer = identity.ensure_address(
        ws,
        rules,
        draft.address,
        channel=item.channel,
        account=item.account,
        at=at,
        profile=draft.profile,
    )
    named = draft.thread or (f"new|{draft.key}" if draft.new_thread else "")
    thread, fresh = _thread(ws, rules, address, named, hints=(item, draft, at))
    note_labels(ws, rules, address, draft, thread, at)
    incoming = draft.direction is Direction.IN
    if incoming and draft.sender is None and not (draft.automatic or draft.public):
        _code(ws, rules, item, draft, address)  # before the conversation, which may be known then
        address = ws.need(AddressDoc, address.id)
        customer = ws.need(Customer, address.customer or customer.id)
    conversation = conversations.place(
        ws,
        rules,
        ws.need(Customer, customer.id),
        address,
        thread=thread,
        channel=item.channel,
        account=item.account,
        at=at,
        subject=draft.subject,
        route=route,
        wakes=not draft.automatic,
        speaks=incoming,
    )
    counts = rules.capabilities(item.channel).thread_seq
    entry = Entry(
        id=ident,
        address=address.id,
        position=0,
        at=at,
        received_at=item.received_at,
        channel=item.channel,
        account=item.account,
        direction=draft.direction,
        sender=entry_sender(rules, draft.sender),
        parts=draft.parts,
        subject=draft.subject,
        event=draft.event,
        data=draft.data,
        thread=thread,
        seq=ws.next_seq(thread, fresh=fresh) if counts else 0,
        conversation=conversation.id if conversation else None,
        reply_to=draft.reply_to,
        automatic=draft.automatic,
        public=draft.public,
        vendor_at=draft.at if draft.at != at else None,
        source=item.id,
        client_id=draft.key if incoming and counts else "",
        delivery=None if incoming else Delivery(state=DeliveryState.ACCEPTED, at=at),
    )
    if known is not None:
        entry = history.with_changes(ws, entry)
    kind = "message.received" if incoming else "message.sent"
    entry = append(ws, rules, entry, address, kind, draft.vendor_ids)
    if incoming:
        said = "public_message" if draft.public else "message"
        _windows(ws, rules, item, address, entry, {said, draft.event})
    ask_for_profile(ws, rules, item, address.id)
    tickets_for(ws, rules, entry, address.customer or customer.id)
    return True


def _code(
    ws: Workspace, rules: Rules, item: InboxItem, draft: Message, address: AddressDoc
) -> None:
    """A message that is an open code, and nothing else, says who its address is."""
    code = code_in(draft.parts)
    if code:
        tell_code(ws, rules, item, code, address, f"{item.channel}:{item.account}")


def _event(ws: Workspace, rules: Rules, item: InboxItem, draft: Event) -> bool:
    ident = entry_id(rules, item.channel, item.account, draft)
    known = ws.get(Entry, ident)
    if known is not None:
        history.keep(ws, known)
        return not known.erased
    sender = ws.get(AddressDoc, identity.address_id(rules, draft.address))
    if came_too_late(ws, item, ident, sender):
        return False
    at = sane(draft.at, item.received_at)
    address, customer = identity.ensure_address(
        ws,
        rules,
        draft.address,
        channel=item.channel,
        account=item.account,
        at=at,
        profile=draft.profile,
    )
    thread, _ = _thread(ws, rules, address, draft.thread)
    conversation = conversations.place(
        ws,
        rules,
        ws.need(Customer, customer.id),
        address,
        thread=thread,
        channel=item.channel,
        account=item.account,
        at=at,
        wakes=False,
    )
    entry = Entry(
        id=ident,
        address=address.id,
        position=0,
        at=at,
        received_at=item.received_at,
        channel=item.channel,
        account=item.account,
        kind="event",
        sender=EntrySender(role=Role.SYSTEM),
        event=draft.name,
        data={**draft.data, **({"text": draft.text} if draft.text else {})},
        thread=thread,
        conversation=conversation.id if conversation else None,
        vendor_at=draft.at if draft.at != at else None,
        source=item.id,
    )
    entry = append(ws, rules, entry, address, draft.name, draft.vendor_ids)
    _windows(ws, rules, item, address, entry, {draft.name})
    consents.hear(ws, rules, address, entry, draft.data.get("purpose"))
    ask_for_profile(ws, rules, item, address.id, draft.name)
    return True


def _windows(
    ws: Workspace,
    rules: Rules,
    item: InboxItem,
    address: AddressDoc,
    entry: Entry,
    did: Collection[str],
) -> None:
    note_windows(
        ws,
        rules,
        address.id,
        channel=item.channel,
        account=item.account,
        at=entry.at,
        did=did,
        by=entry.id,
    )


def _thread(
    ws: Workspace,
    rules: Rules,
    address: AddressDoc,
    key: str,
    *,
    hints: tuple[InboxItem, Message, datetime] | None = None,
) -> tuple[str, bool]:
    """Return (thread id, made just now). The empty key is the address's default thread.

    ``hints``: the message with what else may lead to its thread, when the key is a new one.
    """
    if not key:
        if address.thread is None:
            address = replace(ws.need(AddressDoc, address.id), thread=ws.new_id("thr"))
            ws.put(address)
            return address.thread or "", True
        return address.thread, ws.made_here(AddressDoc, address.id)
    if key == address.thread:
        return key, ws.made_here(AddressDoc, address.id)
    if is_thread_of(ws, address, key):
        return key, False
    ident = thread_row(rules, address.id, key)
    found = ws.get(Thread, ident)
    if found is not None:
        if found.imports:
            ws.put(replace(found, imports=(), borrowed=False))
        return found.thread, False
    joined: str | None = None
    if hints is not None and not hints[1].new_thread:
        item, draft, at = hints
        joined = hinted(ws, rules, item, address, draft, at)
    made = Thread(id=ident, address=address.id, thread=joined or ws.new_id("thr"), key=key)
    ws.put(made)
    return made.thread, joined is None


# --- later changes -------------------------------------------------------------------------------


def _amendment(ws: Workspace, rules: Rules, item: InboxItem, draft: Amendment) -> bool:
    ident = rules.key.hashed("amd", dedupe_key(item.channel, item.account, draft))
    target = _target(ws, rules, item, draft.target)
    if ws.get(AmendmentDoc, ident) is not None:
        known = ws.get(Entry, target) if target.startswith("ent_") else None
        return known is None or not known.erased
    by = entry_sender(rules, draft.by) if draft.by else None
    return amend(
        ws,
        rules,
        ident,
        target,
        draft.kind,
        at=sane(draft.at, item.received_at),
        data=draft.data,
        seq=draft.seq or 0,
        by=by,
    )


def _receipt(ws: Workspace, rules: Rules, item: InboxItem, draft: Receipt) -> None:
    key = dedupe_key(item.channel, item.account, draft)
    data: dict[str, Any] = {"state": draft.state}
    if draft.by is Role.AGENT:
        data["by"] = "agent"
    if draft.code:
        data["code"] = draft.code
    if draft.reason:
        data["reason"] = masked(draft.reason)  # a bounce names people
    at = sane(draft.at, item.received_at)
    for target in _receipt_targets(ws, rules, item, draft):
        ident = rules.key.hashed("amd", f"{key}|{target}")
        if ws.get(AmendmentDoc, ident) is None:
            turn = _turn(ws, rules, item, draft, target)
            amend(
                ws,
                rules,
                ident,
                target,
                AmendmentKind.STATE,
                at=at,
                data={**data, "round": turn} if turn else data,
                seq=draft.seq or 0,
            )


def _turn(ws: Workspace, rules: Rules, item: InboxItem, draft: Receipt, target: str) -> int:
    """Return which redrive of an answer a receipt is about: the vendor's id is from one."""
    if draft.by is Role.AGENT or not target.startswith("ent_"):
        return 0
    if draft.target.vendor_id is not None:
        alias = ws.get(Alias, alias_id(rules, item.channel, item.account, draft.target.vendor_id))
        return alias.round if alias is not None else 0
    entry = ws.get(Entry, target)
    return round_of(entry) if entry is not None else 0


def _receipt_targets(ws: Workspace, rules: Rules, item: InboxItem, draft: Receipt) -> list[str]:
    target = draft.target
    if target.thread is None or target.up_to_seq is None:
        return [_target(ws, rules, item, target)]
    entries = ws.find(
        Entry,
        ("thread", "=", target.thread),
        ("seq", "<=", target.up_to_seq),
        ("seq", ">", max(0, target.up_to_seq - MAX_CUMULATIVE)),
    )
    return [entry.id for entry in entries if _can_rise(entry, draft)]


def _can_rise(entry: Entry, draft: Receipt) -> bool:
    """A cumulative receipt touches only what the other side wrote and is not that far yet."""
    theirs = Direction.IN if draft.by is Role.AGENT else Direction.OUT
    held = entry.seen if draft.by is Role.AGENT else entry.delivery
    rank = STATE_RANK[held.state] if held else -1
    return entry.direction is theirs and rank < STATE_RANK[draft.state]


def _target(ws: Workspace, rules: Rules, item: InboxItem, target: Target) -> str:
    """Return the entry's id, or the alias that will lead to it once it is there."""
    if target.entry is not None:
        return target.entry
    if target.vendor_id is None:
        raise ValueError("an amendment has to name its target")
    alias = alias_id(rules, item.channel, item.account, target.vendor_id)
    found = ws.get(Alias, alias)
    return found.entry if found is not None else alias


# --- who is who ----------------------------------------------------------------------------------


def _identity(ws: Workspace, rules: Rules, item: InboxItem, draft: Identity) -> None:
    ident = rules.key.hashed("als", dedupe_key(item.channel, item.account, draft))
    if ws.get(Alias, ident) is not None:
        return
    known, into = _named(ws, rules, item, draft, draft.same_as)
    address, _ = _named(ws, rules, item, draft, draft.address)
    ws.put(Alias(id=ident, entry=known.id))
    before = ws.savepoint()
    try:
        identity.link(
            ws,
            rules,
            address,
            ws.need(Customer, into.id),
            trust=Trust(draft.trust),
            evidence=draft.evidence,
            actor=f"{item.channel}:{item.account}",
        )
    except Refusal as refusal:  # too large: what else the item says must not be lost with it
        ws.roll_back(before)
        tell(
            ws,
            rules,
            "customer.link_suggested",
            customer=into.id,
            address=address.id,
            ref=into.id,
            data={"evidence": draft.evidence.kind, "refused": refusal.error},
        )
    if draft.role_event:
        _event(
            ws,
            rules,
            item,
            Event(
                key=f"{draft.key}|{draft.role_event}",
                at=draft.at,
                address=draft.same_as,
                name=draft.role_event,
                data={"evidence": draft.evidence.kind},
            ),
        )


def _named(
    ws: Workspace, rules: Rules, item: InboxItem, draft: Identity, address: Address
) -> tuple[AddressDoc, Customer]:
    """Return an address that is spoken of. Only one of the item's own channel was reached by it."""
    own = address.scheme == item.channel
    return identity.ensure_address(
        ws,
        rules,
        address,
        channel=item.channel if own else "",
        account=item.account if own else "",
        at=sane(draft.at, item.received_at),
        profile=draft.profile if address == draft.same_as else None,
    )


# --- what became of jobs -------------------------------------------------------------------------


def _outcome(ws: Workspace, rules: Rules, item: InboxItem, draft: Outcome) -> bool:
    if draft.kind == "send":
        _send_outcome(ws, rules, item, draft)
    elif draft.kind == "ticket":
        _ticket_outcome(ws, rules, draft)
    elif draft.kind in MEDIA_KINDS:
        media_outcome(ws, rules, item, draft)
    elif draft.kind == PROFILE:
        profile_outcome(ws, rules, item, draft)
        return False  # an erasure would not find the copy in the inbox: nothing names its person
    return True


def _send_outcome(ws: Workspace, rules: Rules, item: InboxItem, draft: Outcome) -> None:
    if draft.entry is None:
        return
    entry = ws.get(Entry, draft.entry)
    ident = rules.key.hashed("amd", dedupe_key(item.channel, item.account, draft))
    if entry is None or ws.get(AmendmentDoc, ident) is not None:
        return
    result = draft.result
    if entry.erased:  # its echo has to find the tombstone
        for early in name_entry(ws, rules, entry, result.get("vendor_ids", ())):
            ws.put(replace(early, target=entry.id, waiting=False, data={}, by=None))
        return
    data = {name: result[name] for name in ("state", "code", "reason", "round") if result.get(name)}
    amend(
        ws,
        rules,
        ident,
        entry.id,
        AmendmentKind.STATE,
        at=sane(draft.at, item.received_at),
        data=data,
    )
    named, turn = result.get("vendor_ids", ()), int(result.get("round", 0))
    for early in name_entry(ws, rules, entry, named, turn=turn):
        settle(ws, rules, ws.need(Entry, entry.id), early, turn=turn)
    put_in = partial(_message, ws, rules, route=None)
    decide(ws, rules, entry.id, result.get("state", ""), named, put_in)
    if result.get("state") in (DeliveryState.FAILED, DeliveryState.UNKNOWN):
        _tell_tickets(ws, rules, ws.need(Entry, entry.id), draft)


def _tell_tickets(ws: Workspace, rules: Rules, entry: Entry, draft: Outcome) -> None:
    """A failed or unknown answer reopens its ticket with an internal note."""
    if entry.conversation is None:
        return
    conversation = ws.need(Conversation, entry.conversation)
    for backend in conversation.backends:
        ident = rules.key.hashed("job", f"{draft.job}|{draft.key}|failed|{backend}")
        ws.new(
            Job(
                id=ident,
                lane=f"ticket:{backend}:{conversation.root}",
                kind="ticket",
                task="failed_answer",
                position=ws.position,
                due_at=rules.now,
                live=True,
                state="ready",
                entry=entry.id,
                conversation=conversation.id,
                customer=conversation.customer,
                backend=backend,
                args={
                    "state": draft.result.get("state", ""),
                    "reason": draft.result.get("reason", ""),
                },
            )
        )


def _ticket_outcome(ws: Workspace, rules: Rules, draft: Outcome) -> None:
    conversation = ws.get(Conversation, draft.conversation or "")
    if conversation is None or "ticket" not in draft.result:
        return
    told = msgspec.convert(draft.result["ticket"], TicketLink)
    same = (
        each for each in conversation.tickets if (each.backend, each.id) == (told.backend, told.id)
    )
    before = next(same, None)
    after = with_outcome(conversation, told, draft.result.get("replaces", ()))
    if set(after.tickets) == set(conversation.tickets):
        return
    ws.put(after)
    changed = before is not None and before.status != told.status
    tell(
        ws,
        rules,
        "ticket.status_changed" if changed else "ticket.linked",
        customer=conversation.customer,
        conversation=conversation.id,
        ref=conversation.id,
        data={"backend": told.backend, "ticket": told.id, "status": told.status},
    )
