"""What the API shows: one struct for each thing, made from the documents.

Their OpenAPI schemas are made from these very structs. Times are UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

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
    Link,
    Operation,
    TicketLink,
)
from normalizer.capabilities import Capabilities
from normalizer.drafts import DeliveryState, Evidence, Profile
from normalizer.model import Direction, Role, Trust
from normalizer.parts import MEDIA_PARTS, AnyPart, MediaState, plain_text


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all answers: every member is always there."""


# --- timelines -------------------------------------------------------------------------------


class SenderView(View, frozen=True, kw_only=True):
    role: Role
    name: str
    ref: str
    address: str | None


class DeliveryView(View, frozen=True, kw_only=True):
    """Where a message is, and why."""

    state: DeliveryState
    code: str
    reason: str
    at: datetime | None


class EntryView(View, frozen=True, kw_only=True):
    """One line of a timeline. ``text`` is what a reader without pictures is told."""

    id: str
    address: str
    channel: str
    account: str
    at: datetime
    received_at: datetime
    vendor_at: datetime | None
    kind: str
    direction: Direction
    sender: SenderView
    subject: str
    text: str
    parts: list[AnyPart]
    event: str
    data: dict[str, Any]
    conversation: str | None
    thread: str | None
    reply_to: str | None
    automatic: bool
    public: bool
    historical: bool
    recalled: bool
    revision: int
    delivery: DeliveryView | None
    seen: DeliveryView | None


class ChangeView(View, frozen=True, kw_only=True):
    """A later change of an entry: an edit, a recall, a receipt, a step of a call."""

    kind: str
    at: datetime
    by: SenderView | None
    data: dict[str, Any]


class EntryDetail(View, frozen=True, kw_only=True):
    entry: EntryView
    customer: str | None
    changes: list[ChangeView]


class Remark(View, frozen=True, kw_only=True):
    """What a reader has to know of an account to understand a timeline; ``text`` is in English."""

    channel: str
    account: str
    kind: Literal["foreign_answers_unseen"]
    text: str


class TimelinePage(View, frozen=True, kw_only=True):
    """Entries, newest first. ``latest`` goes into a reply's ``seen_up_to``.

    ``remarks`` are about the accounts by which the customer is reached.
    """

    customer: str
    merged_from: str | None
    entries: list[EntryView]
    remarks: list[Remark]
    next_cursor: str | None
    latest: str


def entry_view(entry: Entry) -> EntryView:
    return EntryView(
        id=entry.id,
        address=entry.address,
        channel=entry.channel,
        account=entry.account,
        at=entry.at,
        received_at=entry.received_at,
        vendor_at=entry.vendor_at,
        kind=entry.kind,
        direction=entry.direction,
        sender=sender_view(entry.sender),
        subject=entry.subject,
        text=plain_text(entry.parts),
        parts=shown_parts(entry.parts),
        event=entry.event,
        data={name: value for name, value in entry.data.items() if name != "media"},
        conversation=entry.conversation,
        thread=entry.thread,
        reply_to=entry.reply_to,
        automatic=entry.automatic,
        public=entry.public,
        historical=entry.historical,
        recalled=entry.recalled,
        revision=entry.rev,
        delivery=_delivery(entry.delivery),
        seen=_delivery(entry.seen),
    )


def shown_parts(parts: tuple[AnyPart, ...]) -> list[AnyPart]:
    """Return parts without what only the hub can use: vendors' references, unchecked bytes."""
    return [_shown(part) for part in parts]


def _shown(part: AnyPart) -> AnyPart:
    if not isinstance(part, MEDIA_PARTS):
        return part
    media = part.media
    blob = media.blob if media.state is MediaState.READY else None
    if (media.vendor_ref, media.blob) == (None, blob):
        return part
    return replace(part, media=replace(media, vendor_ref=None, blob=blob))


def sender_view(sender: EntrySender) -> SenderView:
    return SenderView(role=sender.role, name=sender.name, ref=sender.ref, address=sender.address)


def _delivery(delivery: Delivery | None) -> DeliveryView | None:
    if delivery is None:
        return None
    return DeliveryView(
        state=delivery.state, code=delivery.code, reason=delivery.reason, at=delivery.at
    )


def change_view(amendment: AmendmentDoc) -> ChangeView:
    return ChangeView(
        kind=str(amendment.kind),
        at=amendment.at,
        by=sender_view(amendment.by) if amendment.by else None,
        data=_without_references(amendment.data),
    )


def _without_references(value: Any) -> Any:
    """The same as :func:`shown_parts`, for media in the plain data of a change."""
    if isinstance(value, list | tuple):
        return [_without_references(each) for each in value]
    if not isinstance(value, dict):
        return value
    hidden = {"vendor_ref"}
    if value.get("state", MediaState.READY) != MediaState.READY:
        hidden.add("blob")
    return {name: _without_references(each) for name, each in value.items() if name not in hidden}


# --- conversations -----------------------------------------------------------------------------


class TicketView(View, frozen=True, kw_only=True):
    backend: str
    id: str
    number: str
    url: str
    status: str


class ConversationView(View, frozen=True, kw_only=True):
    id: str
    customer: str
    state: str
    policy: str
    subject: str
    queue: str
    assignee: str
    priority: str
    tags: list[str]
    opened_at: datetime
    active_at: datetime
    closed_at: datetime | None
    closed_by: str
    snoozed_until: datetime | None
    joined_into: str | None
    final: bool
    tickets: list[TicketView]


class ConversationPage(View, frozen=True, kw_only=True):
    """Conversations, last active first."""

    conversations: list[ConversationView]
    next_cursor: str | None


def conversation_view(conversation: Conversation) -> ConversationView:
    return ConversationView(
        id=conversation.id,
        customer=conversation.customer,
        state=conversation.state,
        policy=conversation.policy,
        subject=conversation.subject,
        queue=conversation.queue,
        assignee=conversation.assignee,
        priority=conversation.priority,
        tags=list(conversation.tags),
        opened_at=conversation.opened_at,
        active_at=conversation.active_at,
        closed_at=conversation.closed_at,
        closed_by=conversation.closed_by,
        snoozed_until=conversation.snoozed_until,
        joined_into=conversation.joined_into,
        final=conversation.final,
        tickets=[_ticket(ticket) for ticket in conversation.tickets],
    )


def _ticket(ticket: TicketLink) -> TicketView:
    return TicketView(
        backend=ticket.backend,
        id=ticket.id,
        number=ticket.number,
        url=ticket.url,
        status=ticket.status,
    )


# --- customers ---------------------------------------------------------------------------------


class OtherWayView(View, frozen=True, kw_only=True):
    """Another account by which an address can be written to, if an answer names it."""

    channel: str
    account: str
    capabilities: Capabilities


class AddressView(View, frozen=True, kw_only=True):
    """Where a customer is reached. ``capabilities`` is null when no account of ours reaches it.

    ``also_by`` are accounts that can write there though they never heard from it: by ``channel``
    and ``account`` of an answer, and never of the hub's own accord. ``gone_at`` is set when what
    was sent there came back for good: an answer needs ``anyway`` then.
    """

    id: str
    address: str
    channel: str
    account: str
    thread: str | None
    profile: Profile | None
    can_reply: bool
    capabilities: Capabilities | None
    also_by: list[OtherWayView]
    gone_at: datetime | None


class CustomerView(View, frozen=True, kw_only=True):
    id: str
    name: str
    created_at: datetime
    seen_at: datetime
    profile: Profile | None
    addresses: list[AddressView]
    open_conversations: list[str]


class CustomerPage(View, frozen=True, kw_only=True):
    """Customers, seen last first."""

    customers: list[CustomerView]
    next_cursor: str | None


class WindowView(View, frozen=True, kw_only=True):
    """Whether an address may be written to: while a window is open, so often.

    ``sends_left`` is null where any number of messages may be sent while it is open.
    """

    name: str
    open: bool
    open_until: datetime | None
    sends: int | None
    sends_left: int | None
    templates_pass: bool


class QuotaView(View, frozen=True, kw_only=True):
    """What the vendor allows in this period, to this address or through the account.

    ``templates``: it counts templates alone, and what people type is not held up by it.
    """

    name: str
    per: str
    sends: int
    sends_left: int
    resets_at: datetime
    templates: bool


class AddressLimits(View, frozen=True, kw_only=True):
    """What a channel allows to one address now. ``can_send`` is about parts, not templates."""

    address: str
    can_send: bool
    windows: list[WindowView]
    quotas: list[QuotaView]


class CustomerDetail(View, frozen=True, kw_only=True):
    """``merged_from`` is the id that was asked for, where another customer answers for it.

    ``limits`` has the addresses whose channels have windows or quotas.
    """

    customer: CustomerView
    merged_from: str | None
    conversations: list[ConversationView]
    limits: list[AddressLimits]


def customer_view(
    customer: Customer, addresses: list[AddressView], open_conversations: list[str]
) -> CustomerView:
    return CustomerView(
        id=customer.id,
        name=customer.name,
        created_at=customer.created_at,
        seen_at=customer.seen_at,
        profile=customer.profile,
        addresses=addresses,
        open_conversations=open_conversations,
    )


def address_view(
    doc: AddressDoc,
    capabilities: Capabilities | None,
    *,
    can_reply: bool,
    also_by: list[OtherWayView],
) -> AddressView:
    return AddressView(
        id=doc.id,
        address=doc.address,
        channel=doc.channel,
        account=doc.account,
        thread=doc.thread,
        profile=doc.profile,
        can_reply=can_reply,
        capabilities=capabilities,
        also_by=also_by,
        gone_at=doc.gone_at,
    )


# --- identity and operations -------------------------------------------------------------------


class LinkView(View, frozen=True, kw_only=True):
    """A decision about who is who. ``undone_at`` is null while it stands."""

    id: str
    kind: str
    subject: str
    into: str
    former: str | None
    trust: Trust
    evidence: Evidence
    actor: str
    at: datetime
    undone_at: datetime | None
    undone_by: str


class LinkList(View, frozen=True, kw_only=True):
    links: list[LinkView]


def link_view(link: Link) -> LinkView:
    return LinkView(
        id=link.id,
        kind=link.kind,
        subject=link.subject,
        into=link.into,
        former=link.former,
        trust=link.trust,
        evidence=link.evidence,
        actor=link.actor,
        at=link.at,
        undone_at=link.undone_at,
        undone_by=link.undone_by,
    )


class OperationView(View, frozen=True, kw_only=True):
    """What became of something that was asked for.

    ``state`` is pending, done or refused; ``error``, ``detail`` and ``status`` say why it was
    refused, in the words of a problem document.
    """

    id: str
    name: str
    state: str
    at: datetime | None
    result: dict[str, Any]
    error: str
    detail: str
    status: int


def operation_view(operation: Operation) -> OperationView:
    return OperationView(
        id=operation.id,
        name=operation.name,
        state=operation.state,
        at=operation.at,
        result=operation.result,
        error=operation.error,
        detail=operation.detail,
        status=operation.status,
    )
