"""Commands about conversations and their tickets: close, split, join, organize, ticket events."""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from hub.documents import (
    Conversation,
    Entry,
    TicketLink,
)
from hub.planning import conversations
from hub.planning.commands.registry import Args, Context, Result, command
from hub.planning.entries import tickets_for
from hub.planning.rules import Refusal, Rules, tell
from hub.planning.ticket_links import with_merge
from hub.planning.workspace import Workspace


def conversation_of(ws: Workspace, ident: str) -> Conversation:
    conversation = ws.get(Conversation, ident)
    if conversation is None:
        raise Refusal("not-found", f"there is no conversation {ident}", 404)
    return conversation


def standing(ws: Workspace, ident: str) -> Conversation:
    """Return the conversation, or the one it was joined into."""
    conversation = conversation_of(ws, ident)
    while conversation.joined_into is not None:
        conversation = ws.need(Conversation, conversation.joined_into)
    return conversation


class OnConversation(Args, frozen=True, kw_only=True):
    conversation: str
    reason: str = "agent"
    idle_since: datetime | None = None  # close only if nothing happened after this


@command("close", OnConversation)
def _close(ws: Workspace, rules: Rules, context: Context, args: OnConversation) -> Result:
    conversation = conversation_of(ws, args.conversation)
    if args.reason not in ("agent", "solved", "silence"):
        raise Refusal("bad-request", "the reason is agent, solved or silence", 422)
    if args.idle_since is not None and conversation.active_at > args.idle_since:
        return {"conversation": conversation.id, "state": conversation.state}
    closed = conversations.close(ws, rules, conversation, reason=args.reason)
    if conversation.state == "open":
        conversations.change_tickets(ws, rules, closed, {"status": "solved"}, context.key)
    return {"conversation": closed.id, "state": closed.state}


@command("reopen", OnConversation)
def _reopen(ws: Workspace, rules: Rules, context: Context, args: OnConversation) -> Result:
    conversation = conversation_of(ws, args.conversation)
    again = conversations.reopen(ws, rules, conversation, at=rules.now)
    if conversation.state == "closed":
        conversations.change_tickets(ws, rules, again, {"status": "open"}, context.key)
    return {"conversation": again.id, "state": again.state}


class Split(Args, frozen=True, kw_only=True):
    conversation: str
    entries: tuple[str, ...]


@command("split", Split)
def _split(ws: Workspace, rules: Rules, context: Context, args: Split) -> Result:
    conversation = conversation_of(ws, args.conversation)
    if conversation.final:
        raise Refusal("conversation-final", "this conversation is closed for good")
    entries = []
    for ident in dict.fromkeys(args.entries):
        entry = ws.get(Entry, ident)
        if entry is None or entry.erased:
            raise Refusal("not-found", f"there is no entry {ident}", 404)
        entries.append(entry)
    fresh = conversations.split(ws, rules, conversation, entries)
    for entry in entries:
        tickets_for(ws, rules, ws.need(Entry, entry.id), fresh.customer, again=fresh.id)
    return {"conversation": fresh.id}


class Join(Args, frozen=True, kw_only=True):
    conversation: str
    into: str


@command("join", Join)
def _join(ws: Workspace, rules: Rules, context: Context, args: Join) -> Result:
    away = conversation_of(ws, args.conversation)
    into = conversation_of(ws, args.into)
    closed = conversations.join(ws, rules, away, into)
    conversations.change_tickets(ws, rules, closed, {"status": "solved"}, context.key)
    return {"conversation": into.id}


class Organize(Args, frozen=True, kw_only=True):
    """Claim, release, transfer, tag, set the priority, snooze: whatever is given is set."""

    conversation: str
    assignee: str | None = None  # "" releases
    expected_assignee: str | None = None  # claim only if it is still this one's
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    priority: str | None = None
    snoozed_until: datetime | None = None
    wake: bool = False


@command("organize", Organize)
def _organize(ws: Workspace, rules: Rules, context: Context, args: Organize) -> Result:
    conversation = conversation_of(ws, args.conversation)
    if args.expected_assignee not in (None, conversation.assignee):
        raise Refusal("claimed", f"{conversation.assignee or 'nobody'} has this conversation")
    if args.priority not in (None, "low", "normal", "high", "urgent"):
        raise Refusal("bad-request", "priority is low, normal, high or urgent", 422)
    tags = dict.fromkeys([*conversation.tags, *args.add_tags])
    after = replace(
        conversation,
        assignee=conversation.assignee if args.assignee is None else args.assignee,
        tags=tuple(tag for tag in tags if tag not in args.remove_tags),
        priority=args.priority or conversation.priority,
        snoozed_until=None if args.wake else args.snoozed_until or conversation.snoozed_until,
    )
    if after != conversation:
        ws.put(after)
        tell(
            ws,
            rules,
            "conversation.updated",
            customer=after.customer,
            conversation=after.id,
            ref=after.id,
        )
        change = {
            name: getattr(after, name)
            for name in ("assignee", "priority")
            if getattr(after, name) != getattr(conversation, name)
        }
        if after.tags != conversation.tags:
            change["add_tags"] = [t for t in after.tags if t not in conversation.tags]
            change["remove_tags"] = [t for t in conversation.tags if t not in after.tags]
        if change:
            conversations.change_tickets(ws, rules, after, change, context.key)
    return {"conversation": after.id}


class TicketEvent(Args, frozen=True, kw_only=True):
    """What a ticket backend says about one of our tickets."""

    conversation: str
    backend: str
    ticket: str
    kind: str  # status, assignee, priority, tags, merged (value: the ticket it went into)
    value: str = ""
    raw: str = ""
    tags: tuple[str, ...] = ()


@command("ticket_event", TicketEvent)
def _ticket_event(ws: Workspace, rules: Rules, context: Context, args: TicketEvent) -> Result:
    conversation = conversation_of(ws, args.conversation)
    mine = [
        ticket
        for ticket in conversation.tickets
        if (ticket.backend, ticket.id) == (args.backend, args.ticket)
    ]
    if not mine and args.kind != "merged":
        raise Refusal("not-found", f"this conversation has no ticket {args.ticket}", 404)
    match args.kind:
        case "status":
            _ticket_status(ws, rules, context, conversation, mine[0], args)
        case "assignee":
            ws.put(replace(conversation, assignee=args.value))
        case "priority":
            ws.put(replace(conversation, priority=args.value))
        case "tags":
            ws.put(replace(conversation, tags=args.tags))
        case "merged":
            _ticket_merged(ws, rules, conversation, args)
        case _:
            raise Refusal("bad-request", f"unknown kind of ticket event: {args.kind}", 422)
    if args.kind not in ("status", "merged"):
        tell(
            ws,
            rules,
            "conversation.updated",
            customer=conversation.customer,
            conversation=conversation.id,
            ref=conversation.id,
            data={"backend": args.backend},
        )
    return {"conversation": conversation.id}


def _ticket_status(
    ws: Workspace,
    rules: Rules,
    context: Context,
    conversation: Conversation,
    ticket: TicketLink,
    args: TicketEvent,
) -> None:
    if args.raw and args.raw == ticket.raw_status:
        return  # many of our words map to one of theirs: only a new word is news
    told = replace(ticket, status=args.value, raw_status=args.raw)
    tickets = tuple(told if each == ticket else each for each in conversation.tickets)
    conversation = replace(conversation, tickets=tickets)
    ws.put(conversation)
    tell(
        ws,
        rules,
        "ticket.status_changed",
        customer=conversation.customer,
        conversation=conversation.id,
        ref=conversation.id,
        data={"backend": args.backend, "ticket": args.ticket, "status": args.value},
    )
    done = all(each.status in ("solved", "closed") for each in tickets)
    if done and conversation.state == "open":
        conversations.close(ws, rules, conversation, reason="solved")
    elif not done and conversation.state == "closed" and not conversation.final:
        again = conversations.reopen(ws, rules, conversation, at=rules.now)
        conversations.change_tickets(
            ws, rules, again, {"status": "open"}, context.key, come_from=args.backend
        )


def _ticket_merged(
    ws: Workspace, rules: Rules, conversation: Conversation, args: TicketEvent
) -> None:
    """The helpdesk put this ticket into another: what is told of that one is about us now."""
    after = with_merge(conversation, args.backend, args.ticket, args.value)
    if after is None:
        raise Refusal("not-found", f"this conversation has no ticket {args.ticket}", 404)
    ws.put(after)
    into = after.tickets[-1]
    tell(
        ws,
        rules,
        "ticket.linked",
        customer=conversation.customer,
        conversation=conversation.id,
        ref=conversation.id,
        data={"backend": args.backend, "ticket": args.value, "status": into.status},
    )
