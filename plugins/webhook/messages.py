"""Every message of the protocol as a struct; docs/backends/webhook.schema.json is made of them.

``python -m plugins.webhook > docs/backends/webhook.schema.json``
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from normalizer.tickets import Priority, Status

Id = Annotated[str, Meta(min_length=1, max_length=200)]
Line = Annotated[str, Meta(max_length=500)]
Url = Annotated[str, Meta(max_length=2_000)]
Body = Annotated[str, Meta(max_length=100_000)]


# --- what the hub sends --------------------------------------------------------------------------


class Customer(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a ticket is about. Only addresses that the hub has verified are given."""

    hub_id: Id
    display_name: str
    emails: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()
    timeline_url: str = ""


class File(msgspec.Struct, frozen=True, kw_only=True):
    filename: str
    content_type: str
    size: Annotated[int, Meta(description="Bytes.")]
    url: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One message or note. ``key`` is the hub's own and never used for another entry."""

    key: Id
    author: Literal["customer", "agent", "system"]
    author_name: str
    channel: str
    occurred_at: Annotated[datetime, Meta(tz=True)]
    text: str
    html: str | None
    internal: Annotated[bool, Meta(description="Not for the customer's eyes.")]
    attachments: tuple[File, ...]


class Ping(msgspec.Struct, frozen=True, kw_only=True):
    """Sent by ``omniline check``."""


class EnsureRequester(msgspec.Struct, frozen=True, kw_only=True):
    customer: Customer


class FindTicket(msgspec.Struct, frozen=True, kw_only=True):
    key: Id
    customer: Customer


class CreateTicket(msgspec.Struct, frozen=True, kw_only=True):
    """``key`` belongs to this ticket for ever: a second one with it must not be made."""

    key: Id
    requester: Id
    customer: Customer
    subject: str
    queue: str
    priority: Priority
    tags: tuple[str, ...]
    fields: dict[str, str]
    entry: Entry


class FindEntry(msgspec.Struct, frozen=True, kw_only=True):
    ticket: Id
    key: Id


class AppendEntry(msgspec.Struct, frozen=True, kw_only=True):
    """With ``reopen`` the ticket is open afterwards, unless it is new."""

    ticket: Id
    reopen: bool
    entry: Entry


class ChangeTicket(msgspec.Struct, frozen=True, kw_only=True):
    """What is not there stays as it is. An empty assignee is nobody."""

    ticket: Id
    status: Status | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    assignee: str | UnsetType = UNSET
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()


class ReadTicket(msgspec.Struct, frozen=True, kw_only=True):
    ticket: Id


OPERATIONS: dict[str, type[msgspec.Struct]] = {
    "ping": Ping,
    "requester.ensure": EnsureRequester,
    "ticket.find": FindTicket,
    "ticket.create": CreateTicket,
    "entry.find": FindEntry,
    "entry.append": AppendEntry,
    "ticket.change": ChangeTicket,
    "ticket.read": ReadTicket,
}


# --- what the receiver answers -------------------------------------------------------------------


class Ref(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket. ``id`` never changes; ``version`` changes with every change of the ticket."""

    id: Id
    number: Line = ""
    url: Url = ""
    version: Line = ""


class TicketState(msgspec.Struct, frozen=True, kw_only=True):
    """``raw_status`` is the receiver's own word for the status."""

    id: Id
    status: Status
    raw_status: Line = ""
    priority: Priority = Priority.NORMAL
    assignee: Line = ""
    tags: Annotated[tuple[Line, ...], Meta(max_length=500)] = ()


class RequesterAnswer(msgspec.Struct, frozen=True, kw_only=True):
    requester: Id


class TicketAnswer(msgspec.Struct, frozen=True, kw_only=True):
    ticket: Ref


class FoundTicketAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``null``: there surely is none with this key."""

    ticket: Ref | None


class EntryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    entry: Id


class FoundEntryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``null``: this ticket surely has none with this key."""

    entry: Id | None


class StateAnswer(msgspec.Struct, frozen=True, kw_only=True):
    ticket: TicketState


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Beside a 4xx or 5xx. ``detail`` is read by operators and logged: no personal data in it.

    ``successor`` beside a 404 or 410 is the ticket that this one was merged into.
    """

    code: Annotated[str, Meta(max_length=64)] = ""
    detail: Annotated[str, Meta(max_length=1_000)] = ""
    successor: Id | None = None


ANSWERS: dict[str, type[msgspec.Struct]] = {
    "requester.ensure": RequesterAnswer,
    "ticket.find": FoundTicketAnswer,
    "ticket.create": TicketAnswer,
    "entry.find": FoundEntryAnswer,
    "entry.append": EntryAnswer,
    "ticket.change": TicketAnswer,
    "ticket.read": StateAnswer,
}


# --- what the receiver tells of itself -----------------------------------------------------------


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    id: Line = ""
    name: Line = ""


class Linked(msgspec.Struct, frozen=True, kw_only=True):
    """A file of an agent's answer: the customer is given the link."""

    url: Url
    filename: Line = ""


class EntryCreated(msgspec.Struct, frozen=True, kw_only=True):
    """An agent wrote something. ``key`` is the hub's, on what the hub itself wrote.

    ``already_sent``: the receiver told the customer itself, by mail for instance.
    """

    entry: Id
    text: Body
    internal: bool = False
    author: Literal["agent", "customer", "system"] = "agent"
    agent: Agent = Agent()
    key: Line = ""
    already_sent: bool = False
    attachments: Annotated[tuple[Linked, ...], Meta(max_length=20)] = ()


class StatusChanged(msgspec.Struct, frozen=True, kw_only=True):
    status: Status
    raw_status: Line = ""


class PriorityChanged(msgspec.Struct, frozen=True, kw_only=True):
    priority: Priority


class AssigneeChanged(msgspec.Struct, frozen=True, kw_only=True):
    assignee: Line


class TagsChanged(msgspec.Struct, frozen=True, kw_only=True):
    """All tags that the ticket has now."""

    tags: Annotated[tuple[Line, ...], Meta(max_length=100)]


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    into: Id


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """No members."""


EVENTS: dict[str, type[msgspec.Struct]] = {
    "entry.created": EntryCreated,
    "ticket.status_changed": StatusChanged,
    "ticket.priority_changed": PriorityChanged,
    "ticket.assignee_changed": AssigneeChanged,
    "ticket.tags_changed": TagsChanged,
    "ticket.merged": Merged,
    "ticket.deleted": Deleted,
}


# --- the document --------------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    """Return one JSON Schema document: ``#/$defs/...`` for each operation, answer and event."""
    kinds = {*OPERATIONS.values(), *ANSWERS.values(), *EVENTS.values(), Problem}
    _, defs = msgspec.json.schema_components(
        sorted(kinds, key=lambda kind: kind.__name__), ref_template="#/$defs/{name}"
    )
    for name, kind in OPERATIONS.items():
        defs[name] = _envelope(name, kind, backend={"type": "string"})
    for name, kind in ANSWERS.items():
        defs[f"{name} answer"] = {"$ref": f"#/$defs/{kind.__name__}"}
    for name, kind in EVENTS.items():
        about = {
            "id": {"type": "string", "minLength": 1, "maxLength": 200},
            "at": {"type": "string", "format": "date-time"},
            "ticket": {"type": "string", "minLength": 1, "maxLength": 200},
        }
        defs[name] = _envelope(name, kind, **about)
        defs[name]["properties"]["by_hub"] = {"type": "boolean", "default": False}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Omniline's webhook ticket backend",
        "$defs": dict(sorted(defs.items())),
    }


def _envelope(name: str, kind: type[msgspec.Struct], **about: Any) -> dict[str, Any]:
    properties = {"type": {"const": name}, **about, "data": {"$ref": f"#/$defs/{kind.__name__}"}}
    return {"type": "object", "properties": properties, "required": list(properties)}
