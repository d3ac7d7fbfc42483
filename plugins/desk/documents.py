"""What the desk keeps: tickets, their entries, and the log of what agents did.

The ticket is the only document that several writers change, each time by compare-and-swap on
``rev``. What a change makes elsewhere (entries, lines of the log) is written into the ticket
first and carried out from there, so that one write decides whether it happened.
Fields that queries name have no default: a default is not stored.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from hub import Doc, Index
from normalizer.tickets import Attachment, Priority, Status


class DeskEntry(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """One message or note of a ticket. It never changes, except that erasing empties it."""

    collection: ClassVar[str] = "x_desk_entries"
    indexes: ClassVar[tuple[Index, ...]] = (Index((("ticket", 1), ("order", 1))),)
    sealed: ClassVar[tuple[str, ...]] = ("author_name",)

    ticket: str
    order: int  # 1 is the ticket's first
    key: str  # the hub's entry id, or this entry's own where an agent wrote it
    author: str  # customer, agent or system
    channel: str
    at: datetime
    text: str
    internal: bool = False
    author_name: str = ""
    agent: str = ""
    attachments: tuple[Attachment, ...] = ()
    digest: str = ""  # of the request that made it, so that its key is not used for another
    erased: bool = False


class DeskEvent(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """One line of a backend's log. Positions have no gaps; an entry is referred to, not copied."""

    collection: ClassVar[str] = "x_desk_events"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("backend", 1), ("position", -1))),
        Index((("event", 1),)),
        Index((("ticket", 1),)),
    )

    backend: str
    position: int  # 0 while it stands in its ticket and not yet in the log
    event: str  # the hub's dedupe_id
    ticket: str
    kind: str
    at: datetime
    entry: str = ""
    data: dict[str, Any] = {}
    by_us: bool = False
    erased: bool = False


class DeskTicket(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """One ticket. ``unwritten`` and ``untold`` are what its last change still has to make."""

    collection: ClassVar[str] = "x_desk_tickets"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("recency", -1),)),
        Index((("status", 1), ("recency", -1))),
        Index((("queue", 1), ("recency", -1))),
        Index((("assignee", 1), ("recency", -1))),
        Index((("conversation", 1),)),
        Index((("requester", 1),)),
        Index((("backend", 1),), only_where={"pending": True}),
    )
    sealed: ClassVar[tuple[str, ...]] = ("requester_name", "unwritten")

    backend: str
    number: str  # what people call it: D-1042
    key: str  # the hub's key, unique
    conversation: str  # the key without a follow-up's suffix
    requester: str
    subject: str
    queue: str
    status: Status
    priority: Priority
    assignee: str  # "" = nobody
    tags: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    recency: str  # updated_at and the id in one text that sorts; see ids.recency
    rev: int  # counts changes, new entries among them
    entries: int  # how many there are = the order of the last one
    requester_name: str = ""
    unwritten: tuple[DeskEntry, ...] = ()
    untold: tuple[DeskEvent, ...] = ()
    pending: bool = False  # whether there is anything unwritten or untold
    erased: bool = False
