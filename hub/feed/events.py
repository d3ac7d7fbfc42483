"""The feed's events: which types there are, and how a row of the feed becomes one.

Every type stands in :data:`TYPES`; a test holds the table against what the code tells the feed.
Connectors add types of their own: an event entry that a connector names ``area.verb`` is the type
``omniline.area.verb.v1``, with the data of :data:`CHANNEL_EVENT`.

An event is a CloudEvent 1.0. It is rendered when it is read, so an amended entry shows its state
of now, and what was erased is a tombstone: the same id and sequence, ``data: null``, and
``erased: true``. The same revision always gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from hub.api.views import (
    ConversationView,
    EntryView,
    TicketView,
    conversation_view,
    entry_view,
)
from hub.documents import AddressDoc, Conversation, Customer, Entry, FeedRow
from hub.ids import event_id

PREFIX = "omniline."
MAX_EVENT_BYTES = 60 * 1024  # consumers are only expected to take 64 KiB
_CUTS = (8000, 4000, 2000, 1000, 400)  # characters that a cut text may keep, tried in turn
_NOT_IN_A_TYPE = re.compile(r"[^a-z0-9_.]")
_encoder = msgspec.json.Encoder(order="deterministic")


# --- data ----------------------------------------------------------------------------------------


class EntryData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something in a timeline. ``state`` is the one this event told of; the entry's may be later.

    ``truncated``: text was cut or parts were left out for size; ``dataref`` leads to the whole.
    """

    entry: EntryView
    state: str = ""
    moved_from: str = ""
    truncated: bool = False


class CustomerData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who became whom: ids only. ``into`` is the customer that answers for a merged one.

    A suggestion says that ``address``, now of ``belongs_to``, may be of ``customer``.
    """

    customer: str
    address: str | None = None
    link: str | None = None
    into: str | None = None
    belongs_to: str | None = None
    evidence: str = ""
    trust: str = ""
    refused: str = ""


class ConversationData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happened to a conversation, and the conversation as it is now."""

    conversation: ConversationView
    reason: str = ""
    split_from: str = ""
    backend: str = ""
    truncated: bool = False


class TicketData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A ticket of a conversation; its ``status`` is the one this event told of."""

    ticket: TicketView
    conversation: str


class AccountData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an account does now and what was told of it before.

    ``lag_s`` is how far its door was behind, in seconds, where that can be known.
    """

    account: str
    state: str
    was: str = ""
    reason: str = ""
    last_message_at: datetime | None = None
    lag_s: float | None = None


class ConsentData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was said last about a purpose, for one address. The purpose ``*`` is all of them."""

    customer: str
    address: str
    purpose: str
    state: str
    source: str = ""


class RemovedData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went because its import was taken back: ids only. Remove your copy, too."""

    import_id: str
    entry: str | None = None
    customer: str | None = None


class EventType(msgspec.Struct, frozen=True):
    """One type of event. ``name`` is the type without the prefix and the version."""

    name: str
    description: str
    data: type[msgspec.Struct]
    version: int = 1

    @property
    def type(self) -> str:
        return f"{PREFIX}{self.name}.v{self.version}"


TYPES: Mapping[str, EventType] = {
    each.name: each
    for each in (
        EventType("message.received", "A customer said something.", EntryData),
        EventType("message.sent", "Our side said something, in the hub or elsewhere.", EntryData),
        EventType("message.delivery_changed", "A message of ours got further, or not.", EntryData),
        EventType("message.seen", "Our side took or read what a customer said.", EntryData),
        EventType("message.edited", "A message has other words now.", EntryData),
        EventType("message.redacted", "A message was recalled.", EntryData),
        EventType("message.media_changed", "The file of a message arrived or got lost.", EntryData),
        EventType("message.imported", "An old message was taken in as history.", EntryData),
        EventType("message.removed", "An import was taken back: its entry is gone.", RemovedData),
        EventType("note.added", "A note for colleagues was written.", EntryData),
        EventType("call.changed", "A phone call reached another step.", EntryData),
        EventType("customer.created", "Somebody new appeared.", CustomerData),
        EventType(
            "customer.updated",
            "A customer's addresses or profile changed.",
            CustomerData,
        ),
        EventType("customer.merged", "A customer is answered for by another one.", CustomerData),
        EventType("customer.split", "A merged customer stands for itself again.", CustomerData),
        EventType(
            "customer.link_suggested", "An address may be a customer's; decide.", CustomerData
        ),
        EventType("customer.erased", "A customer was erased.", CustomerData),
        EventType("consent.changed", "A customer agreed, or does not any more.", ConsentData),
        EventType(
            "customer.removed", "An import was taken back: its customer is gone.", RemovedData
        ),
        EventType("conversation.opened", "A conversation began.", ConversationData),
        EventType("conversation.updated", "Assignee, tags, priority, snooze.", ConversationData),
        EventType("conversation.closed", "A conversation ended.", ConversationData),
        EventType("conversation.reopened", "A closed conversation goes on.", ConversationData),
        EventType(
            "conversation.entry_moved", "An entry went into another conversation.", EntryData
        ),
        EventType("ticket.linked", "A conversation has a ticket at a backend.", TicketData),
        EventType("ticket.status_changed", "A ticket has another status.", TicketData),
        EventType(
            "account.state_changed",
            "An account does better or worse, and has settled.",
            AccountData,
        ),
    )
}
CHANNEL_EVENT = EventType(
    "{area}.{verb}", "A connector told of something: contact.followed, call.ended.", EntryData
)


def type_of(name: str) -> EventType:
    """Return the type that a row is of; a connector's own is a channel event."""
    known = TYPES.get(name)
    if known is not None:
        return known
    plain = _NOT_IN_A_TYPE.sub("_", name.lower()) or "unknown"
    return EventType(plain, CHANNEL_EVENT.description, CHANNEL_EVENT.data)


# --- the envelope --------------------------------------------------------------------------------


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The envelope: CloudEvents 1.0 with the extensions partitioning, sequence and correlation."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str | None = None
    time: datetime
    dataschema: str
    partitionkey: str | None = None
    sequence: str
    recordedtime: datetime
    correlationid: str | None = None
    causationid: str | None = None
    hubchannel: str | None = None
    dataref: str | None = None
    erased: bool = False
    data: dict[str, Any] | None


class Face(msgspec.Struct, frozen=True, kw_only=True):
    """What of the hub stands in its events. ``generation`` is the database's."""

    space: str
    base_url: str
    generation: int

    @property
    def source(self) -> str:
        return f"/hub/{quote(self.space, safe='')}"


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """The documents that some rows refer to."""

    entries: Mapping[str, Entry] = {}
    addresses: Mapping[str, AddressDoc] = {}
    conversations: Mapping[str, Conversation] = {}
    customers: Mapping[str, Customer] = {}


class Rendered(msgspec.Struct, frozen=True):
    """An event ready for the wire: one line of JSON."""

    position: int
    type: str
    body: bytes


def render(row: FeedRow, loaded: Loaded, face: Face) -> Rendered:
    """Return the row's event, of at most 60 KiB."""
    kind = type_of(row.type)
    data = _data_of(kind, row, loaded)
    event = CloudEvent(
        specversion="1.0",
        id=event_id(face.generation, int(row.id)),
        source=face.source,
        type=kind.type,
        subject=f"customer/{row.customer}" if row.customer else None,
        time=row.at,
        dataschema=f"{face.base_url}/schemas/{kind.type}.json",
        partitionkey=row.customer,
        sequence=f"{int(row.id):020d}",
        recordedtime=row.recorded_at,
        correlationid=row.conversation,
        causationid=row.cause or None,
        hubchannel=row.channel or None,
        erased=data is None,
        data=None if data is None else _linked(msgspec.to_builtins(data), face.base_url, row.ref),
    )
    body = _encoder.encode(event)
    if len(body) > MAX_EVENT_BYTES:
        body = _cut(event, row, face)
    return Rendered(int(row.id), kind.type, body)


def _data_of(kind: EventType, row: FeedRow, loaded: Loaded) -> msgspec.Struct | None:
    """Return the data, or None when what it would tell of was erased."""
    if kind.data is EntryData:
        return _entry_data(row, loaded)
    if kind.data is CustomerData:
        return _customer_data(row, loaded)
    if kind.data is AccountData:
        return msgspec.convert({**row.data, "account": row.ref}, AccountData)
    if kind.data is ConsentData:
        return _consent_data(row, loaded)
    if kind.data is RemovedData:
        entry = row.ref if row.ref.startswith("ent_") else None
        return RemovedData(
            import_id=str(row.data.get("import", "")), entry=entry, customer=row.customer
        )
    conversation = loaded.conversations.get(row.conversation or "")
    if conversation is None or conversation.closed_by == "erased":
        return None
    if kind.data is TicketData:
        return _ticket_data(row, conversation)
    told = row.data
    return ConversationData(
        conversation=conversation_view(conversation),
        reason=str(told.get("reason", "")),
        split_from=str(told.get("split_from", "")),
        backend=str(told.get("backend", "")),
    )


def _entry_data(row: FeedRow, loaded: Loaded) -> EntryData | None:
    entry = loaded.entries.get(row.ref)
    if entry is None or entry.erased:
        return None
    address = loaded.addresses.get(entry.address)
    if address is None or address.erased:  # its entries go some at a time; who it was went first
        return None
    view = entry_view(entry)
    told = {name: value for name, value in view.data.items() if name != "media"}  # vendors' names
    return EntryData(
        entry=replace(view, data=told),
        state=str(row.data.get("state", "")),
        moved_from=str(row.data.get("from", "")),
    )


def _customer_data(row: FeedRow, loaded: Loaded) -> CustomerData | None:
    customer = loaded.customers.get(row.customer or "")
    if customer is None or (customer.erased and row.type != "customer.erased"):
        return None
    told = row.data
    return CustomerData(
        customer=customer.id,
        address=row.address,
        link=told.get("link"),
        into=told.get("into"),
        belongs_to=told.get("customer") or None,
        evidence=str(told.get("evidence", "")),
        trust=str(told.get("trust", "")),
        refused=str(told.get("refused", "")),
    )


def _consent_data(row: FeedRow, loaded: Loaded) -> ConsentData | None:
    customer = loaded.customers.get(row.customer or "")
    if customer is None or customer.erased:
        return None
    told = row.data
    return ConsentData(
        customer=customer.id,
        address=row.address or "",
        purpose=str(told.get("purpose", "")),
        state=str(told.get("state", "")),
        source=str(told.get("source", "")),
    )


def _ticket_data(row: FeedRow, conversation: Conversation) -> TicketData:
    told = row.data
    backend, ident = str(told.get("backend", "")), str(told.get("ticket", ""))
    for view in conversation_view(conversation).tickets:
        if (view.backend, view.id) == (backend, ident):
            break
    else:
        view = TicketView(backend=backend, id=ident, number="", url="", status="")
    return TicketData(
        ticket=replace(view, status=str(told.get("status", ""))), conversation=conversation.id
    )


def media_url(base_url: str, blob: str, entry: str) -> str:
    """Return where the bytes of an entry's medium are read, with the scope ``attachments:read``."""
    return f"{base_url}/api/v1/attachments/{blob}?entry={entry}"


def _linked(value: Any, base_url: str, entry: str) -> Any:
    """Give media a link in the place of what only the hub can use."""
    if isinstance(value, list | tuple):
        return [_linked(each, base_url, entry) for each in value]
    if not isinstance(value, dict):
        return value
    shown = {name: _linked(each, base_url, entry) for name, each in value.items()}
    shown.pop("vendor_ref", None)
    if isinstance(shown.get("blob"), str):
        shown["url"] = media_url(base_url, shown.pop("blob"), entry)
    return shown


# --- what is too large ---------------------------------------------------------------------------


def _cut(event: CloudEvent, row: FeedRow, face: Face) -> bytes:
    """Return the event with less and less text until it fits; ``dataref`` leads to the whole."""
    assert event.data is not None
    if "entry" in event.data:
        ref = f"{face.base_url}/api/v1/entries/{row.ref}"
    else:
        ref = f"{face.base_url}/api/v1/conversations/{row.conversation}"
    for keep in _CUTS:
        data = {**_shorter(event.data, keep), "truncated": True}
        body = _encoder.encode(replace(event, dataref=ref, data=data))
        if len(body) <= MAX_EVENT_BYTES:
            return body
    data = {**_shorter(event.data, _CUTS[-1]), "truncated": True}
    for member, lists in (("entry", {"parts": [], "data": {}}), ("conversation", {"tags": []})):
        if isinstance(data.get(member), dict):
            data[member] = {**data[member], **lists}
    return _encoder.encode(replace(event, dataref=ref, data=data))


def _shorter(value: Any, keep: int) -> Any:
    """Return the same with every text cut, and without what was quoted."""
    if isinstance(value, str):
        return value[:keep]
    if isinstance(value, list):
        return [_shorter(each, keep) for each in value]
    if isinstance(value, dict):
        return {name: _shorter(each, keep) for name, each in value.items() if name != "quoted"}
    return value
