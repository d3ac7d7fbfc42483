"""Which conversation an entry belongs to; open, close, reopen, split and join.

A conversation is what a helpdesk works on. Which messages share one is a policy: ``customer``
(at most one open, whatever the channel), ``thread`` or ``channel``. It closes when its tickets
are solved or after a silence, and reopens within a while. Nothing here waits.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec.structs import replace

from hub.documents import AddressDoc, AmendmentDoc, Conversation, Customer, Entry
from hub.planning.folding import fold
from hub.planning.rules import Refusal, Route, Rules, tell
from hub.planning.ticket_jobs import ticket_job
from hub.planning.workspace import Workspace, minute
from normalizer.drafts import AmendmentKind

MAX_OPEN = 50  # of one customer; only a merge may exceed it, as it closes nothing
MAX_REOPENABLE = 20  # closed conversations that a customer lists


def place(
    ws: Workspace,
    rules: Rules,
    customer: Customer,
    address: AddressDoc,
    *,
    thread: str,
    channel: str,
    account: str,
    at: datetime,
    subject: str = "",
    route: Route | None = None,
    wakes: bool = True,
    speaks: bool = False,
) -> Conversation | None:
    """Return the conversation for a message, opened or reopened if need be.

    ``wakes`` is false for automatic mail and events: they join an open conversation, and
    nothing else. Then the answer may be None. ``speaks``: the customer said it, so answers go
    to this address from now on.
    """
    policy = rules.policy(channel, account)
    lane = {"thread": thread, "channel": channel}.get(policy, "")
    for ident in reversed(customer.open):
        conversation = ws.need(Conversation, ident)
        if (conversation.policy, conversation.lane) != (policy, lane):
            continue
        if at - conversation.active_at > rules.silence:
            _close_by_itself(ws, rules, conversation, "silence")
            continue
        return touch(ws, conversation, address, at=at, speaks=speaks)
    if not wakes:
        return None
    closed = _to_reopen(ws, rules, ws.need(Customer, customer.id), policy, lane, at)
    if closed is not None:
        return touch(ws, reopen(ws, rules, closed, at=at), address, at=at, speaks=speaks)
    return _opened(ws, rules, customer, address, policy, lane, channel, account, at, subject, route)


def _to_reopen(
    ws: Workspace, rules: Rules, customer: Customer, policy: str, lane: str, at: datetime
) -> Conversation | None:
    """Return what was closed last of those that a message may still reopen."""
    found: list[Conversation] = []
    for ident in reversed(customer.last_closed):
        conversation = ws.need(Conversation, ident)
        if conversation.closed_at is not None and at - conversation.closed_at > rules.reopen:
            break  # the rest was closed before
        if (conversation.policy, conversation.lane) == (policy, lane) and _may_reopen(
            rules, conversation, at
        ):
            found.append(conversation)
    return max(found, key=lambda each: (each.closed_at, each.id), default=None)


def _may_reopen(rules: Rules, conversation: Conversation, at: datetime) -> bool:
    since = conversation.closed_at
    if since is None or conversation.final:
        return False
    if conversation.closed_by == "silence":  # whenever somebody noticed
        since = min(since, conversation.active_at + rules.silence)
    return at - since <= rules.reopen


def touch(
    ws: Workspace, conversation: Conversation, address: AddressDoc, *, at: datetime, speaks: bool
) -> Conversation:
    """Note that something was said; ``speaks``: by the customer, from this address."""
    after = conversation
    if minute(at) > after.active_at:
        after = replace(after, active_at=minute(at))
    if speaks and address.id != (after.last_address or after.root):
        after = replace(after, last_address=address.id)
    if after is not conversation:
        ws.put(after)
    return after


def _opened(
    ws: Workspace,
    rules: Rules,
    customer: Customer,
    address: AddressDoc,
    policy: str,
    lane: str,
    channel: str,
    account: str,
    at: datetime,
    subject: str,
    route: Route | None,
) -> Conversation:
    customer = _with_room(ws, rules, customer.id)
    route = route or rules.route
    conversation = ws.new(
        Conversation(
            id=ws.new_id("cnv"),
            customer=customer.id,
            root=address.id,
            policy=policy,
            state="open",
            lane=lane,
            opened_at=rules.now,
            active_at=minute(at),
            backends=route.backends,
            queue=route.queue,
            subject=subject,
        )
    )
    ws.put(replace(customer, open=(*customer.open, conversation.id)))
    _tell(ws, rules, "conversation.opened", conversation, channel=channel, account=account)
    return conversation


def _with_room(ws: Workspace, rules: Rules, customer_id: str) -> Customer:
    """Return the customer with a place for one more open conversation."""
    customer = ws.need(Customer, customer_id)
    if len(customer.open) >= MAX_OPEN:
        _close_by_itself(ws, rules, ws.need(Conversation, customer.open[0]), "too_many")
    return ws.need(Customer, customer_id)


def _close_by_itself(
    ws: Workspace, rules: Rules, conversation: Conversation, reason: str
) -> Conversation:
    cause = f"{conversation.id}|{ws.position + 1}"
    closed = close(ws, rules, conversation, reason=reason)
    change_tickets(ws, rules, closed, {"status": "solved"}, cause)
    return closed


def change_tickets(
    ws: Workspace,
    rules: Rules,
    conversation: Conversation,
    change: dict[str, Any],
    cause: str,
    *,
    come_from: str = "",
) -> None:
    """Tell the tickets of a conversation; a backend that said it itself is not told again.

    A ticket that is still being made is told as well: its lane is in order, so it is there when
    the change comes to it.
    """
    tickets = [(each.backend, each.id) for each in conversation.tickets]
    known = {backend for backend, _ in tickets}
    tickets += [(backend, "") for backend in conversation.backends if backend not in known]
    for backend, ticket in tickets:
        if backend == come_from:
            continue
        told = f"{cause}|change|{backend}|{ticket}"
        ticket_job(ws, rules, conversation, backend, "change", told, args=change)


def close(ws: Workspace, rules: Rules, conversation: Conversation, *, reason: str) -> Conversation:
    """Close it; ``reason`` is solved, silence, agent, joined, erased or too_many."""
    if conversation.state == "closed":
        return conversation
    closed = replace(
        conversation,
        state="closed",
        closed_at=rules.now,
        closed_by=reason,
        final=conversation.final or reason in ("joined", "erased"),
    )
    ws.put(closed)
    customer = ws.need(Customer, conversation.customer)
    reopenable = customer.last_closed
    if not closed.final:
        reopenable = (*reopenable, closed.id)[-MAX_REOPENABLE:]
    ws.put(
        replace(
            customer,
            open=tuple(ident for ident in customer.open if ident != closed.id),
            last_closed=reopenable,
        )
    )
    _tell(ws, rules, "conversation.closed", closed, data={"reason": reason})
    return closed


def reopen(
    ws: Workspace, rules: Rules, conversation: Conversation, *, at: datetime
) -> Conversation:
    """Open a closed conversation again. Raises Refusal when it was joined away or erased."""
    if conversation.state == "open":
        return conversation
    if conversation.final:
        raise Refusal("conversation-final", f"it was closed for good: {conversation.closed_by}")
    customer = _with_room(ws, rules, conversation.customer)
    again = replace(
        conversation,
        state="open",
        closed_at=None,
        closed_by="",
        active_at=max(minute(at), conversation.active_at),
    )
    ws.put(again)
    still = [ws.need(Conversation, ident) for ident in customer.open]
    ordered = sorted([*still, again], key=lambda each: (each.opened_at, each.id))
    ws.put(
        replace(
            customer,
            open=tuple(each.id for each in ordered),
            last_closed=tuple(ident for ident in customer.last_closed if ident != again.id),
        )
    )
    _tell(ws, rules, "conversation.reopened", again)
    return again


def split(
    ws: Workspace, rules: Rules, conversation: Conversation, entries: list[Entry]
) -> Conversation:
    """Move entries into a new conversation of their own. Raises Refusal for foreign entries."""
    if not entries:
        raise Refusal("bad-request", "name at least one entry to split off", 422)
    foreign = [entry.id for entry in entries if entry.conversation != conversation.id]
    if foreign:
        raise Refusal("bad-request", f"not in this conversation: {', '.join(foreign)}", 422)
    entries = sorted(entries, key=lambda entry: (entry.at, entry.position))
    root = _root_of(ws, conversation, entries)
    customer = _with_room(ws, rules, root.customer or "")
    fresh = ws.new(
        Conversation(
            id=ws.new_id("cnv"),
            customer=customer.id,
            root=root.id,
            policy=conversation.policy,
            state="open",
            lane=conversation.lane,
            opened_at=rules.now,
            active_at=minute(rules.now),
            backends=conversation.backends,
            queue=conversation.queue,
            subject=conversation.subject,
        )
    )
    ws.put(replace(customer, open=(*customer.open, fresh.id)))
    _tell(ws, rules, "conversation.opened", fresh, data={"split_from": conversation.id})
    for entry in entries:
        move_entry(ws, rules, entry, fresh.id)
    return fresh


def _root_of(ws: Workspace, conversation: Conversation, entries: list[Entry]) -> AddressDoc:
    """Return the address of the first entry that is not only a note."""
    for entry in entries:
        address = ws.need(AddressDoc, entry.address)
        if not address.private:
            return address
    return ws.need(AddressDoc, conversation.root)


def move_entry(ws: Workspace, rules: Rules, entry: Entry, conversation: str) -> None:
    """Fold a change of conversation into an entry, as an amendment of its own."""
    position = tell(
        ws,
        rules,
        "conversation.entry_moved",
        customer=ws.need(AddressDoc, entry.address).customer,
        conversation=conversation,
        address=entry.address,
        ref=entry.id,
        channel=entry.channel,
        account=entry.account,
        data={"from": entry.conversation or ""},
    )
    amendment = AmendmentDoc(
        id=ws.new_id("amd"),
        target=entry.id,
        kind=AmendmentKind.MOVE,
        position=position,
        at=rules.now,
        seq=position,
        data={"conversation": conversation},
    )
    ws.new(amendment)
    ws.put(fold(entry, [amendment]))


def join(ws: Workspace, rules: Rules, away: Conversation, into: Conversation) -> Conversation:
    """Let ``into`` take over: ``away`` closes for good and leads to it. No entry moves."""
    if away.id == into.id:
        raise Refusal("bad-request", "a conversation cannot be joined into itself", 422)
    if away.customer != into.customer:
        raise Refusal("bad-request", "both conversations must be of one customer", 422)
    if into.final:
        raise Refusal("conversation-final", "the conversation to join into is closed for good")
    if away.final:
        raise Refusal("conversation-final", f"it was closed for good: {away.closed_by}")
    ws.put(replace(away, joined_into=into.id, final=True))
    closed = close(ws, rules, ws.need(Conversation, away.id), reason="joined")
    if into.state == "closed":
        reopen(ws, rules, into, at=rules.now)
    return closed


def _tell(
    ws: Workspace,
    rules: Rules,
    kind: str,
    conversation: Conversation,
    *,
    channel: str = "",
    account: str = "",
    data: dict[str, str] | None = None,
) -> None:
    if not channel:
        root = ws.need(AddressDoc, conversation.root)
        channel, account = root.channel, root.account
    tell(
        ws,
        rules,
        kind,
        customer=conversation.customer,
        conversation=conversation.id,
        address=conversation.root,
        ref=conversation.id,
        channel=channel,
        account=account,
        data=data or {},
    )
