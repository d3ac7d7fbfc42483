"""Which thread a message belongs to, where its own name for the thread is not known yet.

A connector names a thread by what all its messages share. Where that fails, a draft may say what
else it could be: ids of messages it may answer (``continues``), and labels that threads of one
address are known by (``labels``). Both are looked up at the draft's own address only, so that
nobody gets into another person's thread by quoting an id.

Drafts without such hints cost nothing here: no document is asked for.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from hub.documents import AddressDoc, Alias, Entry, InboxItem, Thread
from hub.planning.entries import alias_id
from hub.planning.rules import Rules
from hub.planning.workspace import Workspace
from normalizer.drafts import Message, ThreadLabel

MAX_CONTINUED = 60  # ids of one draft that are looked up
MAX_LABELS = 8
NOTED_EVERY = timedelta(days=1)  # a label's last use is kept to within a day: it spares a write


def thread_row(rules: Rules, address: str, key: str) -> str:
    """Return the id of the document that leads from a thread's name to the thread."""
    return rules.key.hashed("thk", f"{address}|{key}")


def rows_of_hints(rules: Rules, address: str, draft: Message) -> list[str]:
    """Return the documents that planning a draft with hints asks for, to be read together."""
    if not draft.labels and not draft.continues:
        return []
    named = [thread_row(rules, address, draft.thread)] if draft.thread else []
    return named + [_label_row(rules, address, label) for label in draft.labels[:MAX_LABELS]]


def hinted(
    ws: Workspace,
    rules: Rules,
    item: InboxItem,
    address: AddressDoc,
    draft: Message,
    at: datetime,
) -> str | None:
    """Return the thread of this address that a draft's hints lead to: ids first, then labels."""
    return _continued(ws, rules, item, address, draft) or _labelled(ws, rules, address, draft, at)


def note_labels(
    ws: Workspace, rules: Rules, address: AddressDoc, draft: Message, thread: str, at: datetime
) -> None:
    """Let the draft's labels lead to its thread from now on."""
    for label in draft.labels[:MAX_LABELS]:
        ident = _label_row(rules, address.id, label)
        known = ws.get(Thread, ident)
        if known is None:
            ws.put(Thread(id=ident, address=address.id, thread=thread, seen_at=at))
        elif known.thread != thread or known.seen_at is None or at - known.seen_at > NOTED_EVERY:
            ws.put(replace(known, thread=thread, seen_at=at))


def _label_row(rules: Rules, address: str, label: ThreadLabel) -> str:
    return rules.key.hashed("thk", f"{address}|label|{label.name}")


def _continued(
    ws: Workspace, rules: Rules, item: InboxItem, address: AddressDoc, draft: Message
) -> str | None:
    named = [
        alias_id(rules, item.channel, item.account, vendor_id)
        for vendor_id in draft.continues[:MAX_CONTINUED]
    ]
    if not named:
        return None
    found = {alias.id: alias.entry for alias in ws.find(Alias, ("id", "in", tuple(named)))}
    for alias in named:
        entry = ws.get(Entry, found[alias]) if alias in found else None
        if entry is not None and entry.address == address.id and not entry.erased and entry.thread:
            return entry.thread
    return None


def _labelled(
    ws: Workspace, rules: Rules, address: AddressDoc, draft: Message, at: datetime
) -> str | None:
    for label in draft.labels[:MAX_LABELS]:
        if not label.joins:
            continue
        known = ws.get(Thread, _label_row(rules, address.id, label))
        if known is None or known.seen_at is None:
            continue
        if label.days is None or at - known.seen_at <= timedelta(days=label.days):
            return known.thread
    return None
