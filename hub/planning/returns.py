"""Addresses from which what we send comes back: after a while nothing is sent there any more.

A sender who goes on writing to mailboxes that do not exist is taken for a spammer, and then
nobody's mail arrives. Only channels that declare ``Capabilities.returns`` are watched. Whoever
writes to us from such an address, or is known to have got something there, is there again.
"""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from hub.documents import AddressDoc, Entry
from hub.planning.identity import address_id
from hub.planning.rules import Refusal, Rules
from hub.planning.workspace import Workspace
from normalizer.drafts import DeliveryState, Receipt
from normalizer.model import Direction, Role

_ARRIVED = (DeliveryState.DELIVERED, DeliveryState.READ)


def note_receipt(ws: Workspace, rules: Rules, draft: Receipt, target: str, at: datetime) -> None:
    """Note what a receipt says of the address that an entry went to.

    One that names another recipient than the entry's says nothing of it: a copy's, or a forger's.
    """
    entry = ws.get(Entry, target) if target.startswith("ent_") else None
    if entry is None or entry.direction is not Direction.OUT or draft.by is not Role.CUSTOMER:
        return
    if draft.address is not None and address_id(rules, draft.address) != entry.address:
        return
    if draft.state is DeliveryState.FAILED and draft.permanent:
        came_back(ws, rules, entry, at, gone=draft.gone)
    elif draft.state in _ARRIVED and entry.address:
        is_there(ws, ws.need(AddressDoc, entry.address))


def came_back(ws: Workspace, rules: Rules, entry: Entry, at: datetime, *, gone: bool) -> None:
    """Count what came back for good; ``gone``: there is no such address."""
    most = rules.capabilities(entry.channel).returns
    if most is None or not entry.address:
        return
    doc = ws.need(AddressDoc, entry.address)
    returned = doc.returned + 1
    over = gone or returned >= most
    ws.put(replace(doc, returned=returned, gone_at=doc.gone_at or (at if over else None)))


def is_there(ws: Workspace, doc: AddressDoc) -> AddressDoc:
    """Forget what came back: somebody is there."""
    if doc.returned or doc.gone_at:
        doc = replace(ws.need(AddressDoc, doc.id), returned=0, gone_at=None)
        ws.put(doc)
    return doc


def refuse_gone(doc: AddressDoc, remedy: str = "") -> None:
    """Raise Refusal for an address to which nothing is sent any more."""
    if doc.gone_at is not None:
        raise Refusal(
            "unreachable",
            f"what was sent to this address came back for good ({doc.gone_at:%Y-%m-%d}): nothing"
            f" is sent there before somebody there writes{remedy}",
            gone_at=doc.gone_at.isoformat(),
        )
