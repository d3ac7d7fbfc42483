"""What people, backends and the hub itself may ask for: one function a command.

A command is an inbox item like a message, so it has a place in the order of things and its
result is written in the same transaction. Each function returns the result that the caller
reads, or raises :class:`~hub.rules.Refusal`. Its arguments are a struct, checked before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from hub import conversations, identity
from hub.documents import (
    AddressDoc,
    AmendmentDoc,
    Conversation,
    Customer,
    Delivery,
    Entry,
    EntrySender,
    FeedRow,
    InboxItem,
    Job,
    Link,
    Operation,
    TicketLink,
)
from hub.entries import amend, append, tickets_for
from hub.erasure import erase_some
from hub.ids import SpaceKey
from hub.rules import Refusal, Rules, sane, tell
from hub.workspace import Workspace
from normalizer.addresses import AddressError, parse_address
from normalizer.drafts import Actor, AmendmentKind, Command, DeliveryState, Evidence
from normalizer.model import Direction, Role, Trust
from normalizer.parts import AnyPart, Text, plain_text

Result = dict[str, Any]
A = TypeVar("A", bound="Args")


class Args(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all commands' arguments."""


class Context(msgspec.Struct, frozen=True):
    """Who asked, and by which inbox item."""

    item: InboxItem
    key: str
    actor: Actor

    @property
    def by(self) -> str:
        return f"{self.actor.kind}:{self.actor.id}"


_Handler = Callable[[Workspace, Rules, Context, Any], Result]
_COMMANDS: dict[str, tuple[type[Args], _Handler]] = {}


def command(name: str, args: type[A]) -> Callable[[_Handler], _Handler]:
    def register(handler: _Handler) -> _Handler:
        _COMMANDS[name] = (args, handler)
        return handler

    return register


def command_names() -> list[str]:
    return sorted(_COMMANDS)


def operation_id(key: SpaceKey, command_key: str) -> str:
    """Return the operation under which the result of a command can be read."""
    return key.hashed("op", command_key)


def command_entry_id(key: SpaceKey, command_key: str) -> str:
    """Return the id of the entry a command makes, known before it is carried out."""
    return key.hashed("ent", f"command|{command_key}")


def digest(name: str, args: dict[str, Any]) -> str:
    """Return what tells a repeated request from another one under the same key."""
    body = msgspec.json.encode([name, args], order="deterministic")
    return hashlib.sha256(body).hexdigest()[:32]


def run_command(ws: Workspace, rules: Rules, item: InboxItem, draft: Command) -> None:
    """Carry a command out and write its operation. A refusal is a result, not a failure."""
    ident = operation_id(rules.key, draft.key)
    if ws.get(Operation, ident) is not None:
        return
    done = Operation(
        id=ident,
        name=draft.name,
        state="done",
        at=rules.now,
        digest=digest(draft.name, draft.args),
        expire_at=rules.now + rules.operations_kept,
    )
    try:
        args_type, handler = _COMMANDS[draft.name]
    except KeyError:
        done = _refused(done, Refusal("bad-request", f"no command {draft.name}", 422))
    else:
        before = ws.savepoint()
        try:
            args = msgspec.convert(draft.args, args_type)
            result = handler(ws, rules, Context(item, draft.key, draft.actor), args)
            done = replace(done, result=result)
        except msgspec.ValidationError as error:
            ws.roll_back(before)
            done = _refused(done, Refusal("bad-request", str(error), 422))
        except Refusal as refusal:
            ws.roll_back(before)
            done = _refused(done, refusal)
            if draft.name == "reply":
                _tell_backend(ws, rules, draft, refusal)
    ws.put(done)


def _refused(done: Operation, refusal: Refusal) -> Operation:
    return replace(
        done,
        state="refused",
        error=refusal.error,
        detail=refusal.detail,
        status=refusal.status,
        result=dict(refusal.more),
    )


def _tell_backend(ws: Workspace, rules: Rules, draft: Command, refusal: Refusal) -> None:
    """An answer written in a ticket that cannot be sent goes back to it as an internal note."""
    backend = draft.args.get("backend")
    conversation = ws.get(Conversation, draft.args.get("conversation", ""))
    if not backend or conversation is None:
        return
    text = plain_text(msgspec.convert(draft.args.get("parts", ()), tuple[AnyPart, ...]))
    ws.new(
        Job(
            id=rules.key.hashed("job", f"{draft.key}|refused"),
            lane=f"ticket:{backend}:{conversation.root}",
            kind="ticket",
            task="refused_answer",
            position=ws.position,
            due_at=rules.now,
            live=True,
            state="ready",
            conversation=conversation.id,
            customer=conversation.customer,
            backend=backend,
            args={"reason": refusal.detail, "text": text},
        )
    )


# --- saying something ------------------------------------------------------------------------


class Reply(Args, frozen=True, kw_only=True):
    """An answer to a customer. ``address`` is an ``adr_`` id or canonical text."""

    parts: tuple[AnyPart, ...]
    customer: str = ""
    conversation: str = ""
    address: str = ""
    channel: str = ""
    thread: str = ""
    seen_up_to: int | None = None  # position of the last entry the writer had read
    reply_to: str | None = None
    subject: str = ""
    event: str = ""
    data: dict[str, Any] = {}
    agent: str = ""
    agent_name: str = ""
    role: Role = Role.AGENT
    backend: str = ""  # the ticket backend it was written in


@command("reply", Reply)
def _reply(ws: Workspace, rules: Rules, context: Context, args: Reply) -> Result:
    known = _made_before(ws, rules, context)
    if known is not None:
        return known
    address = _reply_address(ws, rules, context, args)
    if not address.channel:
        raise Refusal("unreachable", "this address was named but never seen on an account of ours")
    customer = identity.canonical_customer(ws, address.customer or "")
    if args.seen_up_to is not None:
        _refuse_if_somebody_spoke(ws, customer, args.seen_up_to)
    _refuse_unsayable(rules, address.channel, args.parts)
    conversation = _reply_conversation(ws, rules, customer, address, args)
    thread = args.thread or _thread_of(conversation, address)
    entry = Entry(
        id=command_entry_id(rules.key, context.key),
        address=address.id,
        position=0,
        at=context.item.received_at,
        received_at=context.item.received_at,
        channel=address.channel,
        account=address.account,
        direction=Direction.OUT,
        sender=EntrySender(role=args.role, name=args.agent_name, ref=args.agent),
        parts=args.parts,
        subject=args.subject,
        event=args.event,
        data=args.data,
        thread=thread,
        conversation=conversation.id,
        reply_to=args.reply_to,
        source=context.item.id,
        delivery=Delivery(state=DeliveryState.QUEUED, at=rules.now),
    )
    entry = append(ws, rules, entry, address, "message.sent")
    ws.new(
        Job(
            id=rules.key.hashed("job", f"{entry.id}|send"),
            lane=f"send:{address.id}",
            kind="send",
            position=entry.position,
            due_at=rules.now,
            live=True,
            state="ready",
            entry=entry.id,
            conversation=conversation.id,
            customer=customer.id,
        )
    )
    tickets_for(ws, rules, entry, customer.id, come_from=args.backend)
    return {"entry": entry.id, "conversation": conversation.id, "customer": customer.id}


def _made_before(ws: Workspace, rules: Rules, context: Context) -> Result | None:
    """Return what a replayed command made when its operation has expired: once is enough."""
    entry = ws.get(Entry, command_entry_id(rules.key, context.key))
    if entry is None:
        return None
    address = ws.get(AddressDoc, entry.address) if entry.address else None
    return {
        "entry": entry.id,
        "conversation": entry.conversation,
        "customer": address.customer if address else None,
    }


def _reply_address(ws: Workspace, rules: Rules, context: Context, args: Reply) -> AddressDoc:
    if args.address and not args.address.startswith("adr_"):
        try:
            address = parse_address(args.address)
        except AddressError as error:
            raise Refusal("bad-request", str(error), 422) from error
        if address.scheme != context.item.channel and not args.customer:
            raise Refusal("bad-request", "an address of another channel needs a customer", 422)
        doc, _ = identity.ensure_address(
            ws,
            rules,
            address,
            channel=context.item.channel,
            account=context.item.account,
            at=rules.now,
        )
        return doc
    if args.address:
        found = ws.get(AddressDoc, args.address)
        if found is None or found.private or found.customer is None:
            raise Refusal("not-found", f"there is no address {args.address}", 404)
        if args.customer:
            owner = identity.canonical_customer(ws, args.customer)
            if found.customer != owner.id:
                raise Refusal("not-found", "this address belongs to another customer", 404)
        return found
    if args.conversation:
        return _last_speaker(ws, _standing(ws, args.conversation))
    if not args.customer:
        raise Refusal("bad-request", "name a customer, an address or a conversation", 422)
    owner = identity.canonical_customer(ws, args.customer)
    docs = {
        doc.id: doc
        for doc in ws.find(AddressDoc, ("id", "in", owner.addresses))
        if not doc.private and doc.channel and args.channel in ("", doc.channel)
    }
    for ident in reversed(owner.addresses):
        if ident in docs:
            return docs[ident]
    raise Refusal("unreachable", f"this customer has no address on {args.channel or 'any'} channel")


def _last_speaker(ws: Workspace, conversation: Conversation) -> AddressDoc:
    """Return where the customer spoke last, unless that address is somebody else's by now."""
    for ident in (conversation.last_address, conversation.root):
        address = ws.get(AddressDoc, ident) if ident else None
        if address is not None and address.customer == conversation.customer:
            return address
    raise Refusal("erased", "the customer of this conversation was erased", 410)


def _thread_of(conversation: Conversation, address: AddressDoc) -> str:
    """Return the thread of an answer: the conversation's, where that is what it stands for."""
    if conversation.policy == "thread" and conversation.root == address.id:
        return conversation.lane
    return address.thread or ""


def _refuse_if_somebody_spoke(ws: Workspace, customer: Customer, seen_up_to: int) -> None:
    rows = ws.find(FeedRow, ("customer", "=", customer.id), ("id", ">", seen_up_to))
    newer = [row.ref for row in rows if row.type in ("message.received", "message.sent")]
    if newer:
        raise Refusal(
            "conversation-moved-on",
            "somebody spoke in between: read the newer entries, then send again",
            409,
            entries=newer[:50],
        )


def _refuse_unsayable(rules: Rules, channel: str, parts: tuple[AnyPart, ...]) -> None:
    can = rules.capabilities(channel)
    if not parts:
        raise Refusal("bad-request", "an answer needs at least one part", 422)
    if len(parts) > can.max_parts:
        raise Refusal("unsupported", f"{channel} takes at most {can.max_parts} parts", 422)
    for part in parts:
        tag = str(part.__struct_config__.tag)
        if tag not in can.sends:
            raise Refusal(
                "unsupported",
                f"{channel} cannot carry a {tag} part; it takes {', '.join(sorted(can.sends))}",
                422,
            )
        if isinstance(part, Text):
            if not part.text.strip():
                raise Refusal("bad-request", "a text part needs text", 422)
            if can.max_text_chars is not None and len(part.text) > can.max_text_chars:
                raise Refusal(
                    "unsupported", f"{channel} takes at most {can.max_text_chars} characters", 422
                )


def _reply_conversation(
    ws: Workspace, rules: Rules, customer: Customer, address: AddressDoc, args: Reply
) -> Conversation:
    if args.conversation:
        conversation = _standing(ws, args.conversation)
        if conversation.customer != customer.id:
            raise Refusal("not-found", "this conversation belongs to another customer", 404)
        again = conversations.reopen(ws, rules, conversation, at=rules.now)
        return conversations.touch(ws, again, address, at=rules.now, speaks=False)
    placed = conversations.place(
        ws,
        rules,
        customer,
        address,
        thread=args.thread or address.thread or "",
        channel=address.channel,
        account=address.account,
        at=rules.now,
        subject=args.subject,
    )
    assert placed is not None
    return placed


class Note(Args, frozen=True, kw_only=True):
    """Something only colleagues read."""

    text: str
    customer: str = ""
    conversation: str = ""
    agent: str = ""
    agent_name: str = ""
    backend: str = ""


@command("note", Note)
def _note(ws: Workspace, rules: Rules, context: Context, args: Note) -> Result:
    if not args.text.strip():
        raise Refusal("bad-request", "a note needs text", 422)
    known = _made_before(ws, rules, context)
    if known is not None:
        return known
    conversation = _conversation(ws, args.conversation) if args.conversation else None
    owner = conversation.customer if conversation else args.customer
    customer = identity.canonical_customer(ws, owner)
    address = identity.private_address(ws, rules, customer)
    entry = Entry(
        id=command_entry_id(rules.key, context.key),
        address=address.id,
        position=0,
        at=context.item.received_at,
        received_at=context.item.received_at,
        channel="hub",
        account="",
        kind="note",
        direction=Direction.INTERNAL,
        sender=EntrySender(role=Role.AGENT, name=args.agent_name, ref=args.agent),
        parts=(Text(text=args.text),),
        conversation=conversation.id if conversation else None,
        source=context.item.id,
    )
    entry = append(ws, rules, entry, ws.need(AddressDoc, address.id), "note.added")
    tickets_for(ws, rules, entry, customer.id, come_from=args.backend)
    return {"entry": entry.id, "customer": customer.id}


class ChangeEntry(Args, frozen=True, kw_only=True):
    """Edit (with ``parts``) or recall what our side sent, within the channel's window."""

    entry: str
    parts: tuple[AnyPart, ...] = ()


@command("edit", ChangeEntry)
def _edit(ws: Workspace, rules: Rules, context: Context, args: ChangeEntry) -> Result:
    entry = _own_entry(ws, rules, args.entry, "edit")
    _refuse_unsayable(rules, entry.channel, args.parts)
    data = {"parts": msgspec.to_builtins(args.parts)}
    return _changed(ws, rules, context, entry, AmendmentKind.EDIT, data)


@command("recall", ChangeEntry)
def _recall(ws: Workspace, rules: Rules, context: Context, args: ChangeEntry) -> Result:
    entry = _own_entry(ws, rules, args.entry, "recall")
    return _changed(ws, rules, context, entry, AmendmentKind.RECALL, {})


def _own_entry(ws: Workspace, rules: Rules, ident: str, what: str) -> Entry:
    entry = ws.get(Entry, ident)
    if entry is None or entry.erased or entry.direction is not Direction.OUT:
        raise Refusal("not-found", f"there is no answer {ident} to {what}", 404)
    can = rules.capabilities(entry.channel)
    window = can.edit_window_s if what == "edit" else can.recall_window_s
    if window is None:
        raise Refusal(f"{what}-unsupported", f"{entry.channel} cannot {what} what was sent")
    if entry.recalled:
        raise Refusal("recalled", "this answer was recalled")
    if (rules.now - entry.at).total_seconds() > window:
        raise Refusal(f"{what}-window-passed", f"{entry.channel} allows this for {window} s")
    return entry


def _changed(
    ws: Workspace,
    rules: Rules,
    context: Context,
    entry: Entry,
    kind: AmendmentKind,
    data: dict[str, Any],
) -> Result:
    ident = rules.key.hashed("amd", f"command|{context.key}")
    by = EntrySender(role=Role.AGENT, ref=context.actor.id, name=context.actor.name)
    at = sane(None, context.item.received_at)
    amend(ws, rules, ident, entry.id, kind, at=at, data=data, by=by)
    return {"entry": entry.id, "rev": ws.need(Entry, entry.id).rev}


class Seen(Args, frozen=True, kw_only=True):
    """Our side has received or read what a customer wrote."""

    entry: str
    state: DeliveryState = DeliveryState.READ


@command("seen", Seen)
def _seen(ws: Workspace, rules: Rules, context: Context, args: Seen) -> Result:
    entry = ws.get(Entry, args.entry)
    if entry is None or entry.erased or entry.direction is not Direction.IN:
        raise Refusal("not-found", f"there is no message {args.entry} of a customer", 404)
    if args.state not in (DeliveryState.DELIVERED, DeliveryState.READ):
        raise Refusal("bad-request", "a message is delivered or read", 422)
    ident = rules.key.hashed("amd", f"seen|{entry.id}|{args.state}")
    if ws.get(AmendmentDoc, ident) is None:
        data = {"state": args.state, "by": "agent"}
        amend(
            ws, rules, ident, entry.id, AmendmentKind.STATE, at=context.item.received_at, data=data
        )
    return {"entry": entry.id}


# --- who is who ------------------------------------------------------------------------------


class LinkArgs(Args, frozen=True, kw_only=True):
    """An agent's or another system's decision that an address is this customer's."""

    customer: str
    address: str
    evidence: Evidence
    trust: Trust = Trust.ATTESTED


@command("link", LinkArgs)
def _link(ws: Workspace, rules: Rules, context: Context, args: LinkArgs) -> Result:
    customer = identity.canonical_customer(ws, args.customer)
    address = _known_address(ws, rules, args.address)
    decision = identity.link(
        ws,
        rules,
        address,
        customer,
        trust=args.trust,
        evidence=args.evidence,
        actor=context.by,
    )
    return {"link": decision.id if decision else None, "customer": customer.id}


def _known_address(ws: Workspace, rules: Rules, text: str) -> AddressDoc:
    if not text.startswith("adr_"):
        try:
            text = identity.address_id(rules, parse_address(text))
        except AddressError as error:
            raise Refusal("bad-request", str(error), 422) from error
    address = ws.get(AddressDoc, text)
    if address is None or address.erased or address.customer is None:
        raise Refusal("not-found", "this address has not been seen yet", 404)
    return address


class Separate(Args, frozen=True, kw_only=True):
    address: str
    evidence: Evidence


@command("separate", Separate)
def _separate(ws: Workspace, rules: Rules, context: Context, args: Separate) -> Result:
    address = _known_address(ws, rules, args.address)
    decision = identity.separate(ws, rules, address, args.evidence, context.by)
    return {"link": decision.id, "customer": decision.into}


class Merge(Args, frozen=True, kw_only=True):
    customer: str  # stays
    other: str  # becomes an alias
    evidence: Evidence


@command("merge", Merge)
def _merge(ws: Workspace, rules: Rules, context: Context, args: Merge) -> Result:
    winner = identity.canonical_customer(ws, args.customer)
    loser = identity.canonical_customer(ws, args.other)
    moving = ws.need(Customer, loser.id).open
    decision = identity.merge(ws, rules, loser, winner, args.evidence, context.by)
    _note_merge(ws, rules, context, winner.id, moving)
    return {"link": decision.id, "customer": winner.id}


def _note_merge(
    ws: Workspace, rules: Rules, context: Context, winner: str, moving: tuple[str, ...]
) -> None:
    """Merging joins no conversations; a note links those that are now side by side."""
    customer = ws.need(Customer, winner)
    if len(customer.open) < 2 or not moving:
        return
    address = identity.private_address(ws, rules, customer)
    entry = Entry(
        id=command_entry_id(rules.key, context.key),
        address=address.id,
        position=0,
        at=context.item.received_at,
        received_at=context.item.received_at,
        channel="hub",
        account="",
        kind="note",
        direction=Direction.INTERNAL,
        sender=EntrySender(role=Role.SYSTEM),
        parts=(Text(text="Customers were merged; open: " + ", ".join(customer.open)),),
        conversation=customer.open[-1],
        source=context.item.id,
    )
    append(ws, rules, entry, ws.need(AddressDoc, address.id), "note.added")


class Undo(Args, frozen=True, kw_only=True):
    """Undo a link or a merge, in any order. ``customer`` checks that it is the right one."""

    link: str = ""
    customer: str = ""


@command("unlink", Undo)
def _unlink(ws: Workspace, rules: Rules, context: Context, args: Undo) -> Result:
    decision = ws.get(Link, args.link)
    if decision is None:
        raise Refusal("not-found", f"there is no link {args.link}", 404)
    if args.customer and args.customer not in decision.members:
        named = identity.canonical_customer(ws, args.customer)
        if named.id != identity.canonical_customer(ws, decision.into).id:
            raise Refusal("not-found", "this link belongs to another customer", 404)
    decision = identity.undo(ws, rules, args.link, context.by)
    return {"link": decision.id, "customer": decision.into}


@command("unmerge", Undo)
def _unmerge(ws: Workspace, rules: Rules, context: Context, args: Undo) -> Result:
    decision = ws.get(Link, args.link)
    if decision is None or decision.kind != "merge":
        raise Refusal("not-found", f"there is no merge {args.link}", 404)
    return _unlink(ws, rules, context, args)


class EraseArgs(Args, frozen=True, kw_only=True):
    """``addresses`` and ``up_to`` come from the erase job when it asks for the next round."""

    customer: str
    addresses: tuple[str, ...] = ()
    up_to: int = 0
    asked_at: datetime | None = None  # of the first round


@command("erase", EraseArgs)
def _erase(ws: Workspace, rules: Rules, context: Context, args: EraseArgs) -> Result:
    """Take everything readable of a customer away, some entries at a time (hub/erasure.py)."""
    return erase_some(
        ws,
        rules,
        args.customer,
        context.key,
        asked_at=args.asked_at or context.item.received_at,
        addresses=args.addresses,
        up_to=args.up_to,
    )


# --- conversations ---------------------------------------------------------------------------


def _conversation(ws: Workspace, ident: str) -> Conversation:
    conversation = ws.get(Conversation, ident)
    if conversation is None:
        raise Refusal("not-found", f"there is no conversation {ident}", 404)
    return conversation


def _standing(ws: Workspace, ident: str) -> Conversation:
    """Return the conversation, or the one it was joined into."""
    conversation = _conversation(ws, ident)
    while conversation.joined_into is not None:
        conversation = ws.need(Conversation, conversation.joined_into)
    return conversation


class OnConversation(Args, frozen=True, kw_only=True):
    conversation: str
    reason: str = "agent"
    idle_since: datetime | None = None  # close only if nothing happened after this


@command("close", OnConversation)
def _close(ws: Workspace, rules: Rules, context: Context, args: OnConversation) -> Result:
    conversation = _conversation(ws, args.conversation)
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
    conversation = _conversation(ws, args.conversation)
    again = conversations.reopen(ws, rules, conversation, at=rules.now)
    if conversation.state == "closed":
        conversations.change_tickets(ws, rules, again, {"status": "open"}, context.key)
    return {"conversation": again.id, "state": again.state}


class Split(Args, frozen=True, kw_only=True):
    conversation: str
    entries: tuple[str, ...]


@command("split", Split)
def _split(ws: Workspace, rules: Rules, context: Context, args: Split) -> Result:
    conversation = _conversation(ws, args.conversation)
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
    away = _conversation(ws, args.conversation)
    into = _conversation(ws, args.into)
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
    conversation = _conversation(ws, args.conversation)
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
    kind: str  # status, assignee, priority, tags
    value: str = ""
    raw: str = ""
    tags: tuple[str, ...] = ()


@command("ticket_event", TicketEvent)
def _ticket_event(ws: Workspace, rules: Rules, context: Context, args: TicketEvent) -> Result:
    conversation = _conversation(ws, args.conversation)
    mine = [
        ticket
        for ticket in conversation.tickets
        if (ticket.backend, ticket.id) == (args.backend, args.ticket)
    ]
    if not mine:
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
        case _:
            raise Refusal("bad-request", f"unknown kind of ticket event: {args.kind}", 422)
    if args.kind != "status":
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
