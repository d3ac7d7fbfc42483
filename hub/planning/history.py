"""What an import brings: entries that happened long ago, and nothing that anybody works on.

History opens no ticket and no conversation, starts no clock, sends nothing, moves nobody's last
activity, links nobody, and takes no place in a counted thread. Whatever is known already stays
as it is. Entries keep their own time, however old; see docs/decisions/0012-imports.md.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from hub.documents import (
    AddressDoc,
    Alias,
    AmendmentDoc,
    Entry,
    ImportRollback,
    InboxItem,
    Thread,
)
from hub.planning import identity
from hub.planning.adoption import adopt, noted
from hub.planning.drafted import ensure_writer, entry_of
from hub.planning.entries import alias_id, amend, append, entry_id
from hub.planning.folding import fold
from hub.planning.rules import PAST, Rules
from hub.planning.threads import hinted, is_thread_of, note_past_labels, thread_row
from hub.planning.workspace import Workspace
from normalizer.drafts import (
    Amendment,
    AmendmentKind,
    AnyDraft,
    Event,
    Message,
    Receipt,
    Target,
)
from normalizer.keys import dedupe_key
from normalizer.model import Role

TOLD = "message.imported"


def plan_history(ws: Workspace, rules: Rules, item: InboxItem, draft: AnyDraft) -> bool:
    """Plan a draft of an import; return False when its raw copy has to go.

    That is so when its person was erased, and when its import was taken back meanwhile. Who is
    whose, commands and outcomes are no history: such drafts are passed over.
    """
    if ws.get(ImportRollback, item.imported) is not None:
        return False
    match draft:
        case Message() | Event():
            return _entry(ws, rules, item, draft)
        case Amendment():
            _later(ws, rules, item, draft, draft.target, draft.kind, draft.data)
        case Receipt():
            data: dict[str, Any] = {"state": draft.state}
            if draft.by is Role.AGENT:
                data["by"] = "agent"
            _later(ws, rules, item, draft, draft.target, AmendmentKind.STATE, data)
    return True


def happened_at(item: InboxItem, draft: AnyDraft) -> datetime:
    """Return the message's own time; nothing in the past happens in the future."""
    return min(draft.at or item.received_at, item.received_at)


def _entry(ws: Workspace, rules: Rules, item: InboxItem, draft: Message | Event) -> bool:
    ident = entry_id(rules, item.channel, item.account, draft)
    known = ws.get(Entry, ident)
    if known is not None:
        return not known.erased
    at = happened_at(item, draft)
    before = ws.get(AddressDoc, identity.address_id(rules, draft.address))
    if before is not None and before.erased_up_to is not None and at < before.erased_up_to:
        return False  # an erased person's past does not come back
    address, _ = ensure_writer(ws, rules, item, draft, at)
    thread = _thread(ws, rules, item, address, draft, at)
    entry = entry_of(rules, item, draft, ident, address.id, at, thread=thread)
    append(ws, rules, entry, address, TOLD, draft.vendor_ids)
    return True


def _thread(
    ws: Workspace,
    rules: Rules,
    item: InboxItem,
    address: AddressDoc,
    draft: Message | Event,
    at: datetime,
) -> str | None:
    """Return the message's thread, as for a live one: by its name, by what it answers, by labels.

    Without the last two an old correspondence without References would fall apart.
    """
    if not isinstance(draft, Message):
        return _named(ws, rules, item, address, draft.thread, lambda: None)
    key = draft.thread or (f"new|{draft.key}" if draft.new_thread else "")

    def joined() -> str | None:
        return None if draft.new_thread else hinted(ws, rules, item, address, draft, at)

    thread = _named(ws, rules, item, address, key, joined)
    if thread is not None:
        note_past_labels(ws, rules, item, address, draft, thread, at)
    return thread


def _named(
    ws: Workspace,
    rules: Rules,
    item: InboxItem,
    address: AddressDoc,
    key: str,
    joined: Callable[[], str | None],
) -> str | None:
    if not key or key == address.thread:
        return address.thread
    if is_thread_of(ws, address, key):
        return key
    ident = thread_row(rules, address.id, key)
    found = ws.get(Thread, ident)
    if found is None:
        other = joined()
        found = Thread(
            id=ident,
            address=address.id,
            thread=other or ws.new_id("thr"),
            key=key,
            imports=(item.imported,),
            borrowed=other is not None,
        )
        ws.put(found)
    return noted(ws, found, item.imported).thread


def _later(
    ws: Workspace,
    rules: Rules,
    item: InboxItem,
    draft: Amendment | Receipt,
    target: Target,
    kind: AmendmentKind,
    data: dict[str, Any],
) -> None:
    """A later change counts for what this import brought; nothing live is changed by history."""
    ident = rules.key.hashed("amd", dedupe_key(item.channel, item.account, draft))
    entry = _own_entry(ws, rules, item, target)
    if entry is None or ws.get(AmendmentDoc, ident) is not None:
        return
    at = happened_at(item, draft)
    amend(ws, rules, ident, entry.id, kind, at=at, data=data, seq=draft.seq or 0)


def _own_entry(ws: Workspace, rules: Rules, item: InboxItem, target: Target) -> Entry | None:
    ident = target.entry
    if ident is None and target.vendor_id is not None:
        alias = ws.get(Alias, alias_id(rules, item.channel, item.account, target.vendor_id))
        ident = alias.entry if alias is not None else None
    entry = ws.get(Entry, ident) if ident is not None else None
    return entry if entry is not None and entry.imported == item.imported else None


# --- when a live door brings it as well -----------------------------------------------------------


def comes_to_life(item: InboxItem, known: Entry) -> bool:
    """Whether a live delivery of an imported message is the real one, and work for somebody.

    An import may have been quicker than the account's own door, which stood still for a while.
    What is older than a vendor may deliver late is a rescan, and stays history.
    """
    return (
        known.historical
        and bool(known.imported)
        and not known.erased
        and known.at >= item.received_at - PAST
    )


def keep(ws: Workspace, known: Entry) -> None:
    """A live door has brought it too: no undoing takes it away any more."""
    if not known.imported or known.erased:
        return
    ws.put(replace(known, imported=""))
    address = ws.need(AddressDoc, known.address)
    adopt(ws, address)
    if known.thread and known.thread != address.thread:
        for thread in ws.find(Thread, ("address", "=", address.id)):
            if thread.thread == known.thread and thread.imports and thread.key:
                ws.put(replace(thread, imports=(), borrowed=False))


def with_changes(ws: Workspace, entry: Entry) -> Entry:
    """Fold into an entry that comes to life what was said of it while it was history."""
    changes = ws.find(AmendmentDoc, ("target", "=", entry.id))
    return fold(entry, sorted(changes, key=lambda each: (each.position, each.id)))
