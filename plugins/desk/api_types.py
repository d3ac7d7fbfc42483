"""What the desk's routes take and give; the OpenAPI operations are made of these types."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from normalizer.tickets import Attachment, Priority, Status
from plugins.desk.documents import DeskEntry, DeskTicket

ONE_LINE = r"^[^\u0000-\u001f\u007f]*$"
# White space first, then something to read: cannot be matched in two ways, so it stays linear.
READABLE = r"^\s*[^\s\u0000][^\u0000]*$"
MAX_TEXT = 32_000

Text = Annotated[
    str,
    Meta(min_length=1, max_length=MAX_TEXT, pattern=READABLE, description="Plain text."),
]
Line = Annotated[str, Meta(max_length=100, pattern=ONE_LINE)]
Queue = Annotated[str, Meta(min_length=1, max_length=64, pattern=ONE_LINE)]
Tag = Annotated[str, Meta(min_length=1, max_length=64, pattern=ONE_LINE)]
Tags = Annotated[tuple[Tag, ...], Meta(max_length=20)]
Rev = Annotated[
    int,
    Meta(
        ge=1,
        le=2**53 - 1,
        description="The `rev` you have read; 409 when the ticket changed since.",
    ),
]


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of requests and answers."""


class NewAnswer(Body, frozen=True, kw_only=True):
    """An answer that the customer gets. A new ticket becomes open by it."""

    text: Text
    agent: Line = ""
    agent_name: Line = ""
    status: Status | UnsetType = UNSET
    rev: Rev | UnsetType = UNSET


class NewNote(Body, frozen=True, kw_only=True):
    """Something that only colleagues read."""

    text: Text
    agent: Line = ""
    agent_name: Line = ""


class TicketChange(Body, frozen=True, kw_only=True):
    """What is left out stays; an empty assignee gives the ticket back to everybody."""

    status: Status | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    assignee: Line | UnsetType = UNSET
    queue: Queue | UnsetType = UNSET
    add_tags: Tags = ()
    remove_tags: Tags = ()
    rev: Rev | UnsetType = UNSET


class RequesterOut(Body, frozen=True, kw_only=True):
    id: str
    name: str


class TicketOut(Body, frozen=True, kw_only=True):
    id: str
    number: str
    backend: str
    conversation: str
    subject: str
    requester: RequesterOut
    queue: str
    status: Status
    priority: Priority
    assignee: str
    tags: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    entry_count: int
    erased: bool
    rev: int


class AttachmentOut(Body, frozen=True, kw_only=True):
    filename: str
    content_type: str
    size: int
    url: str


class EntryOut(Body, frozen=True, kw_only=True):
    id: str
    order: int
    author: str
    author_name: str
    agent: str
    channel: str
    at: datetime
    text: str
    internal: bool
    attachments: tuple[AttachmentOut, ...]
    erased: bool


class TicketPage(Body, frozen=True, kw_only=True):
    """``next_cursor`` is null on the last page."""

    tickets: tuple[TicketOut, ...]
    next_cursor: str | None


class TicketWithEntries(Body, frozen=True, kw_only=True):
    """``next_before`` leads to older entries and is null when these are the first."""

    ticket: TicketOut
    entries: tuple[EntryOut, ...]
    next_before: int | None


class TicketChanged(Body, frozen=True, kw_only=True):
    ticket: TicketOut


class EntryAdded(Body, frozen=True, kw_only=True):
    ticket: TicketOut
    entry: EntryOut


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An RFC 9457 problem document; some kinds have further members."""

    type: str
    title: str
    status: int
    detail: str


def ticket_out(ticket: DeskTicket) -> TicketOut:
    return TicketOut(
        id=ticket.id,
        number=ticket.number,
        backend=ticket.backend,
        conversation=ticket.conversation,
        subject=ticket.subject,
        requester=RequesterOut(id=ticket.requester, name=ticket.requester_name),
        queue=ticket.queue,
        status=ticket.status,
        priority=ticket.priority,
        assignee=ticket.assignee,
        tags=ticket.tags,
        created_at=ticket.created_at,
        updated_at=ticket.updated_at,
        entry_count=ticket.entries,
        erased=ticket.erased,
        rev=ticket.rev,
    )


def entry_out(entry: DeskEntry) -> EntryOut:
    return EntryOut(
        id=entry.id,
        order=entry.order,
        author=entry.author,
        author_name=entry.author_name,
        agent=entry.agent,
        channel=entry.channel,
        at=entry.at,
        text=entry.text,
        internal=entry.internal,
        attachments=tuple(_attachment_out(one) for one in entry.attachments),
        erased=entry.erased,
    )


def _attachment_out(attachment: Attachment) -> AttachmentOut:
    return AttachmentOut(
        filename=attachment.filename,
        content_type=attachment.content_type,
        size=attachment.size,
        url=attachment.url,
    )


def schema_of(kind: Any) -> dict[str, Any]:
    """Return the JSON schema of a type, whole: an operation has no place for definitions."""
    schema = msgspec.json.schema(kind)
    inlined: dict[str, Any] = _inlined(schema, schema.get("$defs", {}))
    return inlined


def _inlined(node: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inlined(each, definitions) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inlined(definitions[node["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in node.items() if key != "$defs"}
