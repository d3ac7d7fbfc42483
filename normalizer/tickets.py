"""The smallest ticket model that fits every helpdesk (contracts/tickets_model.md)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from normalizer.model import Model


class Status(StrEnum):
    NEW = "new"
    OPEN = "open"
    WAITING = "waiting_customer"
    HOLD = "on_hold"
    SOLVED = "solved"
    CLOSED = "closed"


class Priority(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


class Lookup(StrEnum):
    """How a look-up by our key behaves right after a write."""

    NONE = "none"
    EVENTUAL = "eventual"
    FRESH = "fresh"
    ENFORCED = "enforced"  # the backend itself refuses a second one


class BackendCapabilities(Model, frozen=True, kw_only=True):
    ticket_lookup: Lookup
    entry_lookup: Lookup
    settle_seconds: int = 0  # EVENTUAL: how long before a missing thing is surely missing
    requester_needs_email: bool = False
    customer_authorship: bool = True  # can an entry be shown as written by the customer?
    original_time: bool = False
    html: bool = True
    internal_entries: bool = True
    closed_is_final: bool = False
    may_mail_customer: bool = True
    webhooks: bool = True
    webhook_signed: bool = True
    webhook_retried: bool = True  # False: poll fast, a missed hook never comes back
    max_attachment_bytes: int = 20_000_000
    max_entry_chars: int = 32_000


class Requester(Model, frozen=True, kw_only=True):
    """The person a ticket is about. Only verified addresses are given to a backend."""

    hub_id: str
    display_name: str
    emails: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()
    timeline_url: str = ""


class Attachment(Model, frozen=True, kw_only=True):
    filename: str
    content_type: str
    size: int
    url: str


class TicketEntry(Model, frozen=True, kw_only=True):
    """One message or note of a ticket. ``key`` is the hub's entry id and never reused."""

    key: str
    author: str  # "customer", "agent" or "system"
    channel: str
    occurred_at: datetime
    text: str
    html: str | None = None
    internal: bool = False
    author_name: str = ""
    attachments: tuple[Attachment, ...] = ()


class NewTicket(Model, frozen=True, kw_only=True):
    """``key`` is the hub's conversation id, with ``.2`` and so on for follow-up tickets."""

    key: str
    requester: Requester
    subject: str
    first: TicketEntry
    queue: str = ""
    priority: Priority = Priority.NORMAL
    tags: tuple[str, ...] = ()
    fields: dict[str, str] = {}


class TicketRef(Model, frozen=True, kw_only=True):
    id: str  # immutable at the backend
    number: str = ""
    url: str = ""
    version: str = ""  # etag or updated stamp, where there is one


class Change(Model, frozen=True, kw_only=True):
    status: Status | None = None
    priority: Priority | None = None
    assignee: str | None = None
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()


class BackendEvent(Model, frozen=True, kw_only=True):
    """Something that happened at the backend.

    ``dedupe_id`` is the same from webhook and poll. ``kind`` is entry, status, assignee, priority,
    tags, merged (``data["value"]`` is the successor), deleted, changed, or unreadable
    (``data["reason"]``: signed, and no event; it becomes a dead letter). ``already_sent``: the
    backend itself told the customer.
    """

    dedupe_id: str
    ticket_id: str
    kind: str
    at: datetime
    entry: TicketEntry | None = None
    by_us: bool = False
    already_sent: bool = False
    data: dict[str, Any] = {}


class Page(Model, frozen=True, kw_only=True):
    events: Sequence[BackendEvent]
    cursor: str
    more: bool = False
