"""Commands that say something: reply, note, edit, recall, seen."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from hub.documents import (
    AddressDoc,
    AmendmentDoc,
    Conversation,
    Customer,
    Delivery,
    Entry,
    EntrySender,
    FeedRow,
    Job,
    Thread,
)
from hub.planning import conversations, identity
from hub.planning.commands.handling import conversation_of, standing
from hub.planning.commands.registry import Args, Context, Result, command, command_entry_id
from hub.planning.entries import amend, append, tickets_for
from hub.planning.folding import round_of
from hub.planning.returns import refuse_gone
from hub.planning.rules import Refusal, Rules, sane
from hub.planning.workspace import Workspace
from normalizer.addresses import AddressError, parse_address
from normalizer.drafts import AmendmentKind, DeliveryState
from normalizer.model import Direction, Role
from normalizer.parts import AnyPart, Text

SETTLED = "settled"
ARRIVED = frozenset({DeliveryState.ACCEPTED, DeliveryState.DELIVERED, DeliveryState.READ})


class ReplyTemplate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message that the vendor approved before. ``preview`` is what it will say, if known."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    language: Annotated[str, msgspec.Meta(max_length=64)] = ""
    params: Annotated[dict[str, str], msgspec.Meta(max_length=100)] = {}
    preview: Annotated[str, msgspec.Meta(max_length=10_000)] = ""


class Reply(Args, frozen=True, kw_only=True):
    """An answer to a customer, of parts or by a template.

    ``address`` is an ``adr_`` id or canonical text. ``account`` names, with ``channel``, another
    account than the one where the address was seen last; the channel has to reach such addresses.
    """

    parts: tuple[AnyPart, ...] = ()
    template: ReplyTemplate | None = None
    customer: str = ""
    conversation: str = ""
    address: str = ""
    channel: str = ""
    account: str = ""
    thread: str = ""
    seen_up_to: int | None = None  # position of the last entry the writer had read
    anyway: bool = False  # though what was sent there came back
    reply_to: str | None = None
    subject: str = ""
    event: str = ""
    data: dict[str, Any] = {}
    agent: str = ""
    agent_name: str = ""
    role: Role = Role.AGENT
    backend: str = ""  # the ticket backend it was written in


@command("reply", Reply)
def send_reply(ws: Workspace, rules: Rules, context: Context, args: Reply) -> Result:
    """Make the entry of an answer and the job that sends it."""
    known = made_before(ws, rules, context)
    if known is not None:
        return known
    address = _reply_address(ws, rules, context, args)
    channel, account = _leaves_by(rules, address, args)
    customer = identity.canonical_customer(ws, address.customer or "")
    if args.seen_up_to is not None:
        _refuse_if_somebody_spoke(ws, customer, args.seen_up_to)
    if not args.anyway:
        refuse_gone(address, ". If it works again, send your answer with anyway")
    if args.template is not None:
        args = _by_template(rules, channel, args, args.template)
    else:
        refuse_unsayable(rules, channel, args.parts)
    _refuse_foreign_thread(ws, address, args.thread)
    conversation = _reply_conversation(ws, rules, customer, address, args, (channel, account))
    thread = args.thread or _thread_of(conversation, address)
    entry = Entry(
        id=command_entry_id(rules.key, context.key),
        address=address.id,
        position=0,
        at=context.item.received_at,
        received_at=context.item.received_at,
        channel=channel,
        account=account,
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
            account=f"{entry.channel}:{entry.account}",
        )
    )
    tickets_for(ws, rules, entry, customer.id, come_from=args.backend)
    return {"entry": entry.id, "conversation": conversation.id, "customer": customer.id}


def made_before(ws: Workspace, rules: Rules, context: Context) -> Result | None:
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
    whose = args.customer
    if args.conversation:
        conversation = standing(ws, args.conversation)
        speaker = _last_speaker(ws, conversation)
        if args.channel in ("", speaker.channel):
            return speaker
        whose = whose or conversation.customer  # it goes on elsewhere, because somebody said so
    if not whose:
        raise Refusal("bad-request", "name a customer, an address or a conversation", 422)
    owner = identity.canonical_customer(ws, whose)
    docs = {doc.id: doc for doc in ws.find(AddressDoc, ("id", "in", owner.addresses))}
    mine = [docs[each] for each in reversed(owner.addresses) if each in docs]
    for doc in mine:
        if not doc.private and doc.channel and args.channel in ("", doc.channel):
            return doc
    for doc in mine:
        if args.account and reaches(rules, args.channel, doc):
            return doc
    raise Refusal("unreachable", f"this customer has no address on {args.channel or 'any'} channel")


def reaches(rules: Rules, channel: str, address: AddressDoc) -> bool:
    """Say whether a channel can write to an address where it never heard anybody."""
    can = rules.capabilities(channel)
    return address.scheme in can.reaches and not (address.private or address.erased)


def _leaves_by(rules: Rules, address: AddressDoc, args: Reply) -> tuple[str, str]:
    """Return channel and account of an answer: where the address was seen last, or as was said.

    Only somebody's word lets it leave by another one: whoever called from a number may be read
    to somebody else there, so that no rule of the hub decides it (docs/decisions/0019).
    """
    seen_at = (address.channel, address.account)
    wanted = (args.channel, args.account) if args.channel and args.account else seen_at
    if wanted != seen_at and not reaches(rules, args.channel, address):
        raise Refusal("unreachable", f"{args.channel}:{args.account} does not reach this address")
    if not wanted[0]:
        raise Refusal("unreachable", "this address was named but never seen on an account of ours")
    return wanted


def _last_speaker(ws: Workspace, conversation: Conversation) -> AddressDoc:
    """Return where the customer spoke last, unless that address is somebody else's by now."""
    for ident in (conversation.last_address, conversation.root):
        address = ws.get(AddressDoc, ident) if ident else None
        if address is not None and address.customer == conversation.customer:
            return address
    raise Refusal("erased", "the customer of this conversation was erased", 410)


def _refuse_foreign_thread(ws: Workspace, address: AddressDoc, thread: str) -> None:
    """A thread is one address's: in another's, nobody would see the answer who is meant to."""
    if thread in ("", address.thread):
        return
    rows = ws.find(Thread, ("address", "=", address.id))
    if not any(row.thread == thread for row in rows):
        raise Refusal("not-found", f"this address has no thread {thread}: leave it out", 404)


def _thread_of(conversation: Conversation, address: AddressDoc) -> str:
    """Return the thread of an answer: the conversation's, where that is what it stands for."""
    if conversation.policy == "thread" and conversation.root == address.id:
        return conversation.lane
    return address.thread or ""


def _refuse_if_somebody_spoke(ws: Workspace, customer: Customer, seen_up_to: int) -> None:
    owners = identity.once_answering(ws, customer)
    rows = ws.find(FeedRow, ("customer", "in", owners), ("id", ">", seen_up_to))
    newer = [
        row.ref
        for row in sorted(rows, key=lambda each: each.id)
        if row.type in ("message.received", "message.sent") and row.address in customer.addresses
    ]
    if newer:
        raise Refusal(
            "conversation-moved-on",
            "somebody spoke in between: read the newer entries, then send again",
            409,
            entries=newer[:50],
        )


def _by_template(rules: Rules, channel: str, args: Reply, template: ReplyTemplate) -> Reply:
    """Let the entry show what the vendor will say, and keep what the send needs."""
    if args.parts:
        raise Refusal("bad-request", "send parts or a template, not both", 422)
    if not rules.capabilities(channel).templates:
        raise Refusal("unsupported", f"{channel} has no templates: send parts", 422)
    blanks = ", ".join(f"{name}: {value}" for name, value in template.params.items())
    shown = template.preview or f"[{template.name}] {blanks}".strip()
    kept = {"name": template.name, "language": template.language, "params": template.params}
    return replace(args, parts=(Text(text=shown),), data={**args.data, "template": kept})


def refuse_unsayable(rules: Rules, channel: str, parts: tuple[AnyPart, ...]) -> None:
    can = rules.capabilities(channel)
    if not parts:
        raise Refusal("bad-request", "an answer needs at least one part", 422)
    if not can.sends:
        raise Refusal("unsupported", f"{channel} sends nothing: answer on another channel", 422)
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
    ws: Workspace,
    rules: Rules,
    customer: Customer,
    address: AddressDoc,
    args: Reply,
    by: tuple[str, str],
) -> Conversation:
    if args.conversation:
        conversation = standing(ws, args.conversation)
        if conversation.customer != customer.id:
            raise Refusal("not-found", "this conversation belongs to another customer", 404)
        again = conversations.reopen(ws, rules, conversation, at=rules.now)
        return conversations.touch(ws, again, address, at=rules.now, speaks=False)
    answered = _answered_thread(ws, rules, customer, address, args)
    if answered is not None:
        again = conversations.reopen(ws, rules, answered, at=rules.now)
        return conversations.touch(ws, again, address, at=rules.now, speaks=False)
    placed = conversations.place(
        ws,
        rules,
        customer,
        address,
        thread=args.thread or address.thread or "",
        channel=by[0],
        account=by[1],
        at=rules.now,
        subject=args.subject,
    )
    assert placed is not None
    return placed


def _answered_thread(
    ws: Workspace, rules: Rules, customer: Customer, address: AddressDoc, args: Reply
) -> Conversation | None:
    """Return what an answer continues that names neither thread nor conversation nor subject.

    Where each thread is a conversation (mail), it is the last one of the address: a mail that
    answers nothing would stand alone in the customer's mailbox. A subject begins a new matter.
    """
    if args.thread or args.subject or rules.policy(address.channel, address.account) != "thread":
        return None
    for ident in (*reversed(customer.open), *reversed(customer.last_closed)):
        conversation = ws.need(Conversation, ident)
        own = conversation.policy == "thread" and conversation.root == address.id
        if own and not conversation.final:
            return conversation
    return None


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
    known = made_before(ws, rules, context)
    if known is not None:
        return known
    conversation = conversation_of(ws, args.conversation) if args.conversation else None
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
    refuse_unsayable(rules, entry.channel, args.parts)
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


class Settle(Args, frozen=True, kw_only=True):
    """A person has found out what became of an answer of which nobody knew."""

    entry: str
    state: DeliveryState  # accepted or failed


@command("settle", Settle)
def _settle(ws: Workspace, rules: Rules, context: Context, args: Settle) -> Result:
    entry = ws.get(Entry, args.entry)
    if entry is None or entry.erased or entry.delivery is None:
        raise Refusal("not-found", f"there is no answer {args.entry}", 404)
    if args.state not in (DeliveryState.ACCEPTED, DeliveryState.FAILED):
        raise Refusal("bad-request", "an answer is settled as accepted or failed", 422)
    told = {"entry": entry.id, "state": args.state}
    held = entry.delivery
    if held.code == SETTLED and held.state is args.state:
        return told
    if args.state is DeliveryState.ACCEPTED and held.state in ARRIVED:
        return told  # a receipt or an echo has said so since
    if held.state is not DeliveryState.UNKNOWN:
        raise Refusal("conflict", f"it is known what became of this answer: {held.state}")
    reason = "a person found that it was not sent" if args.state is DeliveryState.FAILED else ""
    data: dict[str, Any] = {"state": args.state, "code": SETTLED, "round": round_of(entry)}
    if reason:
        data["reason"] = reason
    ident = rules.key.hashed("amd", f"command|{context.key}")
    by = EntrySender(role=Role.AGENT, ref=context.actor.id, name=context.actor.name)
    at = sane(None, context.item.received_at)
    amend(ws, rules, ident, entry.id, AmendmentKind.STATE, at=at, data=data, by=by)
    return told


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
