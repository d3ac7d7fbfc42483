"""What our side sent comes back: from a Sent folder, or pushed by a vendor that tells everything.

An echo is nothing new. It is known by one of three things, in this order:

1. ``sent_key``: the connector read our own key back (a Message-ID that holds it).
2. A vendor id that already leads to an entry of ours.
3. It overtook the outcome that would have brought the vendor id: the same words to the same
   address, and an answer of ours that is still on its way. Then the draft is kept in that
   answer until its outcome comes. If the outcome names the same vendor id, or cannot tell, it
   was the echo; if it names another one or the send failed, it was somebody else's message and
   is put into the timeline now. Other words are never waited for.

So a message that was sent outside the hub is never dropped for good because it looks like ours,
unless nobody knows what became of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from hub.documents import Alias, Entry, InboxItem, Job
from hub.planning import identity
from hub.planning.entries import alias_id, amend, name_entry, settle
from hub.planning.folding import round_of
from hub.planning.rules import Rules
from hub.planning.workspace import Workspace
from normalizer.drafts import AmendmentKind, DeliveryState, Message
from normalizer.keys import dedupe_key
from normalizer.model import Direction
from normalizer.parts import AnyPart, plain_text

ON_ITS_WAY = (DeliveryState.QUEUED, DeliveryState.SENDING, DeliveryState.UNKNOWN)
OVERTAKES = timedelta(days=1)  # by how much an answer that is on its way may be older
LOOKED_AT = 500  # entries of the address in that time


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A draft that waits in an answer, and what is left of its item."""

    item: str
    received_at: datetime
    door: str
    draft: Message


def is_echo(ws: Workspace, rules: Rules, item: InboxItem, draft: Message) -> Entry | None:
    """Take in an echo and return the answer that it tells again; None = it is a new message."""
    if draft.direction is not Direction.OUT:
        return None
    ours = _by_key(ws, rules, item, draft) or _by_vendor_id(ws, rules, item, draft)
    if ours is not None:
        if not ours.erased:
            _took_it(ws, rules, ours, draft.vendor_ids, _ident(rules, item, draft), item)
        return ours
    return _overtook(ws, rules, item, draft)


def decide(
    ws: Workspace,
    rules: Rules,
    ident: str,
    state: str,
    vendor_ids: Iterable[str],
    put_in: Callable[[InboxItem, Message], Any],
) -> None:
    """The outcome of an answer is there: say what the draft was that waited in it."""
    entry = ws.need(Entry, ident)
    if not entry.echo:
        return
    held = _held(entry)
    item = InboxItem(
        id=held.item,
        channel=entry.channel,
        account=entry.account,
        received_at=held.received_at,
        door=held.door,
    )
    entry = replace(entry, echo=b"")
    ws.put(entry)
    told, named = set(vendor_ids), set(held.draft.vendor_ids)
    other = bool(told and named and not told & named)
    if state == DeliveryState.FAILED or other:
        put_in(item, held.draft)
    else:
        ident = _ident(rules, item, held.draft)
        _took_it(ws, rules, entry, held.draft.vendor_ids, ident, item)


def _held(entry: Entry) -> Held:
    return msgspec.msgpack.decode(entry.echo, type=Held)


def _ident(rules: Rules, item: InboxItem, draft: Message) -> str:
    return rules.key.hashed("amd", f"echo|{dedupe_key(item.channel, item.account, draft)}")


def _by_key(ws: Workspace, rules: Rules, item: InboxItem, draft: Message) -> Entry | None:
    if not draft.sent_key.startswith("job_"):
        return None
    job = ws.get(Job, draft.sent_key)
    entry = ws.get(Entry, job.entry) if job is not None and job.entry else None
    if entry is None or (entry.channel, entry.account) != (item.channel, item.account):
        return None
    same = entry.erased or entry.address == identity.address_id(rules, draft.address)
    return entry if same else None


def _by_vendor_id(ws: Workspace, rules: Rules, item: InboxItem, draft: Message) -> Entry | None:
    for vendor_id in draft.vendor_ids:
        alias = ws.get(Alias, alias_id(rules, item.channel, item.account, vendor_id))
        entry = ws.get(Entry, alias.entry) if alias is not None else None
        if entry is not None and entry.direction is Direction.OUT:
            return entry
    return None


def _overtook(ws: Workspace, rules: Rules, item: InboxItem, draft: Message) -> Entry | None:
    words = _words(draft.parts)
    if not words or not draft.vendor_ids:
        return None
    found = ws.find(
        Entry,
        ("address", "=", identity.address_id(rules, draft.address)),
        ("at", ">", item.received_at - OVERTAKES),
        limit=LOOKED_AT,
    )
    for entry in found:  # told once more before the outcome was there
        if entry.echo and _held(entry).draft == draft:
            return entry
    waiting = [
        entry
        for entry in found
        if entry.direction is Direction.OUT
        and not entry.echo
        and entry.delivery is not None
        and entry.delivery.state in ON_ITS_WAY
        and (entry.channel, entry.account) == (item.channel, item.account)
        and _words(entry.parts) == words
    ]
    if not waiting:
        return None
    ours = min(waiting, key=lambda entry: (entry.at, entry.position))
    if ours.delivery is not None and ours.delivery.state is DeliveryState.UNKNOWN:
        ident = _ident(rules, item, draft)
        _took_it(ws, rules, ours, draft.vendor_ids, ident, item)
        return ours
    held = Held(item=item.id, received_at=item.received_at, door=item.door, draft=draft)
    ours = replace(ours, echo=msgspec.msgpack.encode(held))
    ws.put(ours)
    return ours


def _words(parts: tuple[AnyPart, ...]) -> str:
    return " ".join(plain_text(parts).split())


def _took_it(
    ws: Workspace,
    rules: Rules,
    ours: Entry,
    vendor_ids: Iterable[str],
    ident: str,
    item: InboxItem,
) -> None:
    """The vendor has it: that is what an echo says beyond doubt."""
    turn = round_of(ours)
    for early in name_entry(ws, rules, ours, vendor_ids, turn=turn):
        settle(ws, rules, ws.need(Entry, ours.id), early, turn=turn)
    held = ws.need(Entry, ours.id).delivery
    if held is None or held.state not in ON_ITS_WAY:
        return
    data: dict[str, Any] = {"state": DeliveryState.ACCEPTED}
    if turn:
        data["round"] = turn
    amend(ws, rules, ident, ours.id, AmendmentKind.STATE, at=item.received_at, data=data)
