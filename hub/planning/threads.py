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


def is_thread_of(ws: Workspace, address: AddressDoc, name: str) -> bool:
    """Say whether a name is the id of a thread of this address, as our own reply tokens say it."""
    return name.startswith("thr_") and any(
        known.thread == name for known in ws.find(Thread, ("address", "=", address.id))
    )


def rows_of_hints(rules: Rules, item: InboxItem, address: str, draft: Message) -> list[str]:
    """Return the documents that planning a draft with hints asks for, to be read together."""
    if not draft.labels and not draft.continues:
        return []
    named = [thread_row(rules, address, draft.thread)] if draft.thread else []
    labels = draft.labels[:MAX_LABELS]
    past = [past_label_row(rules, address, each, item.imported) for each in labels if item.imported]
    return named + [_label_row(rules, address, label) for label in labels] + past


def hinted(
    ws: Workspace,
    rules: Rules,
    item: InboxItem,
    address: AddressDoc,
    draft: Message,
    at: datetime,
) -> str | None:
    """Return the thread of this address that a draft's hints lead to: ids first, then labels.

    History follows the labels of its own import first, then those that live messages left.
    """
    found = _continued(ws, rules, item, address, draft)
    if not found and item.imported:
        found = _labelled(ws, rules, address, draft, at, item.imported)
    return found or _labelled(ws, rules, address, draft, at)


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


def note_past_labels(
    ws: Workspace,
    rules: Rules,
    item: InboxItem,
    address: AddressDoc,
    draft: Message,
    thread: str,
    at: datetime,
) -> None:
    """Let the labels of an imported draft lead to its thread, for the import's own drafts.

    Live messages do not follow them, and nothing that live ones left is changed.
    """
    for label in draft.labels[:MAX_LABELS]:
        ident = past_label_row(rules, address.id, label, item.imported)
        known = ws.get(Thread, ident)
        if known is None:
            ws.put(
                Thread(
                    id=ident,
                    address=address.id,
                    thread=thread,
                    imports=(item.imported,),
                    seen_at=at,
                    borrowed=True,
                )
            )
        elif known.seen_at is None or at > known.seen_at:  # an archive may be in any order
            ws.put(replace(known, thread=thread, seen_at=at))


def _label_row(rules: Rules, address: str, label: ThreadLabel) -> str:
    return rules.key.hashed("thk", f"{address}|label|{label.name}")


def past_label_row(rules: Rules, address: str, label: ThreadLabel, imported: str) -> str:
    """Return the id of an import's own row of a label, which goes when it is taken back."""
    return rules.key.hashed("thk", f"{address}|label of {imported}|{label.name}")


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
    ws: Workspace,
    rules: Rules,
    address: AddressDoc,
    draft: Message,
    at: datetime,
    imported: str = "",
) -> str | None:
    for label in draft.labels[:MAX_LABELS]:
        if not label.joins:
            continue
        ident = _label_row(rules, address.id, label)
        if imported:
            ident = past_label_row(rules, address.id, label, imported)
        known = ws.get(Thread, ident)
        if known is None or known.seen_at is None:
            continue
        # History may be long before a label's last use as well.
        if label.days is None or abs(at - known.seen_at) <= timedelta(days=label.days):
            return known.thread
    return None
