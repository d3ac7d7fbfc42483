"""Messages and events that come in: known already, or new in a thread and a conversation."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from msgspec.structs import replace

from hub.documents import AddressDoc, Customer, Entry, InboxItem, Thread
from hub.notifications import consents
from hub.planning import conversations, history, identity
from hub.planning.codes import code_in, tell_code
from hub.planning.drafted import ensure_writer, entry_of
from hub.planning.echoes import is_echo
from hub.planning.entries import append, entry_id, tickets_for
from hub.planning.erasure import came_too_late
from hub.planning.media import repeated
from hub.planning.profiles import ask_for_profile
from hub.planning.returns import is_there
from hub.planning.rules import Route, Rules, sane
from hub.planning.threads import hinted, is_thread_of, note_labels, thread_row
from hub.planning.windows import note_windows
from hub.planning.workspace import Workspace
from normalizer.drafts import Event, Message
from normalizer.model import Direction


def message(
    ws: Workspace, rules: Rules, item: InboxItem, draft: Message, route: Route | None
) -> bool:
    """Put a message into its timeline; return False when it was erased before."""
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
    address, customer = ensure_writer(ws, rules, item, draft, at)
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
    entry = entry_of(
        rules,
        item,
        draft,
        ident,
        address.id,
        at,
        thread=thread,
        seq=ws.next_seq(thread, fresh=fresh) if counts else 0,
        conversation=conversation.id if conversation else None,
        client_id=draft.key if incoming and counts else "",
    )
    if known is not None:
        entry = history.with_changes(ws, entry)
    kind = "message.received" if incoming else "message.sent"
    entry = append(ws, rules, entry, address, kind, draft.vendor_ids)
    if incoming:
        said = "public_message" if draft.public else "message"
        _windows(ws, rules, item, address, entry, {said, draft.event})
        if not draft.automatic:
            is_there(ws, address)
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


def event(ws: Workspace, rules: Rules, item: InboxItem, draft: Event) -> bool:
    """Put an event into its timeline; return False when it was erased before."""
    ident = entry_id(rules, item.channel, item.account, draft)
    known = ws.get(Entry, ident)
    if known is not None:
        history.keep(ws, known)
        return not known.erased
    sender = ws.get(AddressDoc, identity.address_id(rules, draft.address))
    if came_too_late(ws, item, ident, sender):
        return False
    at = sane(draft.at, item.received_at)
    address, customer = ensure_writer(ws, rules, item, draft, at)
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
    entry = entry_of(
        rules,
        item,
        draft,
        ident,
        address.id,
        at,
        thread=thread,
        conversation=conversation.id if conversation else None,
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
