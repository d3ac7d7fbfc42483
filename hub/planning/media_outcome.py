"""What the outcome of a media job changes: the entry, its tickets, and the blobs left over."""

from __future__ import annotations

from hub.documents import AmendmentDoc, Entry, InboxItem
from hub.planning.entries import amend
from hub.planning.media import blobs_in, drop_blobs, result_for, source_in, tell_tickets
from hub.planning.rules import Rules, sane
from hub.planning.workspace import Workspace
from normalizer.drafts import AmendmentKind, Outcome
from normalizer.keys import dedupe_key
from normalizer.parts import MEDIA_PARTS


def media_outcome(ws: Workspace, rules: Rules, item: InboxItem, draft: Outcome) -> None:
    """Fold a result in. Of an entry that was erased meanwhile, the new blobs go as well."""
    if draft.entry is None:
        return
    entry = ws.get(Entry, draft.entry)
    ident = rules.key.hashed("amd", dedupe_key(item.channel, item.account, draft))
    if entry is None or ws.get(AmendmentDoc, ident) is not None:
        return
    if "media" not in draft.result:
        _obsolete(ws, rules, entry, draft)
        return
    if entry.erased:
        drop_blobs(ws, rules, f"{draft.job}|{draft.key}", blobs_in(draft.result))
        return
    data, leftover = result_for(entry, draft.result)
    at = sane(draft.at, item.received_at)
    amend(ws, rules, ident, entry.id, AmendmentKind.MEDIA, at=at, data=data)
    drop_blobs(ws, rules, f"{draft.job}|{draft.key}", leftover)
    tell_tickets(ws, rules, ws.need(Entry, entry.id), f"{draft.job}|{draft.key}")


def _obsolete(ws: Workspace, rules: Rules, entry: Entry, draft: Outcome) -> None:
    """Nobody wants the file any more: what a connector stored of it goes."""
    source = source_in(str(draft.result.get("ref", "")))
    named = any(
        isinstance(part, MEDIA_PARTS) and part.media.vendor_ref == draft.result.get("ref")
        for part in entry.parts
    )
    if source is not None and not named:
        drop_blobs(ws, rules, f"{draft.job}|{draft.key}", [source])
