"""Later changes of entries: edits, recalls and the like, and receipts."""

from __future__ import annotations

from typing import Any

from hub.documents import Alias, AmendmentDoc, Entry, InboxItem
from hub.planning.entries import alias_id, amend, entry_sender
from hub.planning.folding import STATE_RANK, round_of
from hub.planning.returns import note_receipt
from hub.planning.rules import Rules, sane
from hub.planning.workspace import Workspace
from normalizer.drafts import Amendment, AmendmentKind, Receipt, Target
from normalizer.keys import dedupe_key
from normalizer.masking import masked
from normalizer.model import Direction, Role

MAX_CUMULATIVE = 500  # entries that one cumulative receipt may touch


def amendment(ws: Workspace, rules: Rules, item: InboxItem, draft: Amendment) -> bool:
    """Fold a change into its entry, or let it wait; return False when the entry was erased."""
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


def receipt(ws: Workspace, rules: Rules, item: InboxItem, draft: Receipt) -> None:
    """Let one entry, or all up to one, be delivered, read, failed ... as the other side says."""
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
            note_receipt(ws, rules, draft, target, at)


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
