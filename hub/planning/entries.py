"""Entries and what changes them later: the verbs that draft planners and commands share.

Everything here changes the workspace only and never waits; see :mod:`hub.planning.workspace`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from hub.documents import (
    AddressDoc,
    Alias,
    AmendmentDoc,
    Conversation,
    Entry,
    EntrySender,
)
from hub.planning import identity
from hub.planning.adoption import adopt
from hub.planning.folding import fold
from hub.planning.media import media_jobs, referenced
from hub.planning.rules import Rules, tell
from hub.planning.ticket_jobs import ticket_job
from hub.planning.workspace import Workspace
from normalizer.drafts import AmendmentKind, DeliveryState, Event, Message, Sender
from normalizer.keys import dedupe_key
from normalizer.model import Direction


def entry_id(rules: Rules, channel: str, account: str, draft: Message | Event) -> str:
    """Return the id that this draft's entry has, now and on every repetition."""
    return rules.key.hashed("ent", dedupe_key(channel, account, draft))


def alias_id(rules: Rules, channel: str, account: str, vendor_id: str) -> str:
    return rules.key.hashed("als", f"{channel}|{account}|{vendor_id}")


def entry_sender(rules: Rules, sender: Sender | None) -> EntrySender:
    if sender is None:
        return EntrySender()
    address = identity.address_id(rules, sender.address) if sender.address else None
    return EntrySender(role=sender.role, name=sender.name, address=address, ref=sender.ref)


def append(
    ws: Workspace,
    rules: Rules,
    entry: Entry,
    address: AddressDoc,
    kind: str,
    vendor_ids: Iterable[str] = (),
) -> Entry:
    """Put a new entry into the timeline and the feed, with what was waiting for it."""
    if not entry.historical:
        adopt(ws, address)
    position = tell(
        ws,
        rules,
        kind,
        at=entry.at,
        customer=address.customer,
        conversation=entry.conversation,
        address=address.id,
        ref=entry.id,
        channel=entry.channel,
        account=entry.account,
        cause=entry.source,
    )
    entry = replace(entry, position=position, parts=referenced(entry.parts))
    waiting = ws.find(AmendmentDoc, ("target", "=", entry.id), ("waiting", "=", True))
    waiting += name_entry(ws, rules, entry, vendor_ids)
    ws.put(entry)
    for amendment in sorted(waiting, key=lambda each: (each.position, each.id)):
        entry = settle(ws, rules, entry, amendment)
    media_jobs(ws, rules, entry, fresh=True)
    return entry


def settle(
    ws: Workspace, rules: Rules, entry: Entry, amendment: AmendmentDoc, *, turn: int = 0
) -> Entry:
    """Fold in an amendment that had to wait for its entry; ``turn``: the round it is about."""
    data = amendment.data
    if turn and amendment.kind == AmendmentKind.STATE:
        data = {**data, "round": turn}
    settled = replace(amendment, target=entry.id, waiting=False, data=data)
    ws.put(settled)
    return folded(ws, rules, entry, settled)


def name_entry(
    ws: Workspace, rules: Rules, entry: Entry, vendor_ids: Iterable[str], *, turn: int = 0
) -> list[AmendmentDoc]:
    """Let the vendor's ids lead to the entry; return what came for them before.

    ``turn`` is the redrive that they are from: a receipt for one of them is about that.
    """
    early: list[AmendmentDoc] = []
    for vendor_id in dict.fromkeys(vendor_ids):
        alias = alias_id(rules, entry.channel, entry.account, vendor_id)
        known = ws.get(Alias, alias)
        if known is None or (known.entry == entry.id and known.round < turn):
            ws.put(Alias(id=alias, entry=entry.id, round=turn, imported=entry.imported))
        early += ws.find(AmendmentDoc, ("target", "=", alias), ("waiting", "=", True))
    return early


def amend(
    ws: Workspace,
    rules: Rules,
    ident: str,
    target: str,
    kind: AmendmentKind,
    *,
    at: datetime,
    data: dict[str, Any],
    seq: int = 0,
    by: EntrySender | None = None,
) -> bool:
    """Store an amendment; fold it in if its target is there, else let it wait.

    Of one whose target was erased only the id is kept; then the answer is False.
    """
    entry = ws.get(Entry, target) if target.startswith("ent_") else None
    erased = entry is not None and entry.erased
    amendment = AmendmentDoc(
        id=ident,
        target=target,
        kind=kind,
        position=ws.position + 1,
        at=at,
        seq=seq,
        data={} if erased else data,
        by=None if erased else by,
        waiting=entry is None,
    )
    ws.new(amendment)
    if entry is not None and not erased:
        folded(ws, rules, entry, amendment)
    return not erased


_TOLD = {
    AmendmentKind.EDIT: "message.edited",
    AmendmentKind.RECALL: "message.redacted",
    AmendmentKind.CALL: "call.changed",
    AmendmentKind.MEDIA: "message.media_changed",
}


_CALL_EVENT = re.compile(r"call\.[a-z_]{1,40}\Z")


def _told_as(amendment: AmendmentDoc) -> str | None:
    """Return the feed's type of a change; a step of a call may name one: ``call.answered``."""
    named = amendment.data.get("event")
    if amendment.kind == AmendmentKind.CALL and isinstance(named, str):
        return named if _CALL_EVENT.match(named) else _TOLD[AmendmentKind.CALL]
    return _TOLD.get(AmendmentKind(amendment.kind))


def folded(ws: Workspace, rules: Rules, entry: Entry, amendment: AmendmentDoc) -> Entry:
    """Fold one amendment into an entry and tell the feed if that changed something."""
    after = fold(entry, [amendment])
    if after == entry:
        return entry
    if _became_visible(rules, entry, after):
        after = replace(after, seq=ws.next_seq(after.thread or ""))
    ws.put(after)
    if amendment.kind in (AmendmentKind.EDIT, AmendmentKind.CALL):
        media_jobs(ws, rules, after, fresh=False)
    kind = _told_as(amendment)
    if kind is None:
        seen_only = amendment.data.get("by") == "agent"
        kind = "message.seen" if seen_only else "message.delivery_changed"
        if (after.delivery, after.seen) == (entry.delivery, entry.seen):
            return after
    address = ws.need(AddressDoc, entry.address)
    tell(
        ws,
        rules,
        kind,
        at=amendment.at,
        customer=address.customer,
        conversation=after.conversation,
        address=entry.address,
        ref=entry.id,
        rev=after.rev,
        channel=entry.channel,
        account=entry.account,
        data=_change_told(after, amendment),
    )
    return after


def _became_visible(rules: Rules, before: Entry, after: Entry) -> bool:
    """An answer takes its place in a counted thread when the customer can see it, not before."""
    return (
        before.direction is Direction.OUT
        and before.seq == 0
        and after.delivery is not None
        and after.delivery.state
        in (DeliveryState.ACCEPTED, DeliveryState.DELIVERED, DeliveryState.READ)
        and rules.capabilities(before.channel).thread_seq
    )


def _change_told(after: Entry, amendment: AmendmentDoc) -> dict[str, Any]:
    if amendment.kind != AmendmentKind.STATE:
        return {}
    told = after.seen if amendment.data.get("by") == "agent" else after.delivery
    return {"state": told.state} if told else {}


def tickets_for(
    ws: Workspace,
    rules: Rules,
    entry: Entry,
    customer: str,
    *,
    come_from: str = "",
    again: str = "",
) -> None:
    """Make one job for each ticket backend of the entry's conversation but the one it is from.

    ``again`` names the conversation that an entry was split into: its new ticket gets it too.
    """
    if entry.conversation is None or entry.historical:
        return
    conversation = ws.need(Conversation, entry.conversation)
    for backend in conversation.backends:
        if backend != come_from:
            ticket_job(
                ws,
                rules,
                conversation,
                backend,
                "append",
                f"{entry.id}|ticket|{backend}|{again}",
                entry=entry.id,
                customer=customer,
                position=None if again else entry.position,
            )
