"""What the receiver tells of itself, as the hub's events.

A request holds one event, or ``{"events": [...]}``. The signature was checked before; an event
that cannot be read is told as such, so that the others count and this one is not lost unseen.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from hub import Refused
from normalizer.model import milliseconds
from normalizer.tickets import BackendEvent, TicketEntry
from plugins.webhook.messages import (
    EVENTS,
    AssigneeChanged,
    Deleted,
    EntryCreated,
    Merged,
    PriorityChanged,
    StatusChanged,
    TagsChanged,
)

K = TypeVar("K")
MAX_EVENTS = 100
REASON_CHARS = 200


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An event whose type is not looked at yet. Without an id its request and place name it."""

    type: str
    ticket: str
    at: datetime
    data: msgspec.Raw
    id: str = ""
    by_hub: bool = False


def raw_events(body: bytes) -> list[msgspec.Raw]:
    """Return the events of a request one by one, unread. Raises Refused(400) for no JSON."""
    try:
        outer = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        if "events" not in outer:
            return [msgspec.Raw(body)]
        found = msgspec.json.decode(outer["events"], type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("not JSON", status=400) from error
    if len(found) > MAX_EVENTS:
        raise Refused("too many events", status=413)
    return found


def read_event(raw: msgspec.Raw, name: str) -> BackendEvent:
    """Return one event; ``name`` names it where it has no id of its own.

    Raises ``ValueError`` for what cannot be read, and ``KeyError`` for a type nobody knows.
    """
    told = _decoded(raw, Told)
    kind = EVENTS[told.type]
    data = _decoded(told.data, kind)
    if not told.ticket:
        raise ValueError("an event names its ticket")
    event = BackendEvent(
        dedupe_id=f"event:{told.id or name}",
        ticket_id=told.ticket,
        kind="changed",
        at=milliseconds(told.at),
        by_us=told.by_hub,
    )
    return _with(event, data)


def unreadable(name: str, reason: str, now: datetime) -> BackendEvent:
    """Return what stands for an event that cannot be read: the hub makes it a dead letter."""
    return BackendEvent(
        dedupe_id=f"event:{name}",
        ticket_id="",
        kind="unreadable",
        at=now,
        data={"reason": reason[:REASON_CHARS]},
    )


def _decoded(raw: msgspec.Raw, kind: type[K]) -> K:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _with(event: BackendEvent, data: msgspec.Struct) -> BackendEvent:
    match data:
        case EntryCreated():
            return _entry(event, data)
        case StatusChanged():
            return _changed(event, "status", str(data.status), raw=data.raw_status or data.status)
        case PriorityChanged():
            return _changed(event, "priority", str(data.priority))
        case AssigneeChanged():
            return _changed(event, "assignee", data.assignee)
        case TagsChanged():
            return _changed(event, "tags", "", tags=list(data.tags))
        case Merged():
            return _changed(event, "merged", data.into)
        case Deleted():
            return _changed(event, "deleted", "")
    raise ValueError(f"{type(data).__name__} is no event")


def _changed(event: BackendEvent, kind: str, value: str, **more: Any) -> BackendEvent:
    data = {"value": value, **more}
    return msgspec.structs.replace(event, kind=kind, data=data)


def _entry(event: BackendEvent, data: EntryCreated) -> BackendEvent:
    """An entry has the same dedupe id in whichever event it is told: it is said once."""
    links = [f"{each.filename or 'file'}: {each.url}" for each in _safe(data)]
    entry = TicketEntry(
        key=data.key,
        author=data.author,
        channel="",
        occurred_at=event.at,
        text="\n".join([data.text, *links] if data.text else links),
        internal=data.internal,
        author_name=data.agent.name,
    )
    return msgspec.structs.replace(
        event,
        dedupe_id=f"entry:{event.ticket_id}:{data.entry}",
        kind="entry",
        entry=entry,
        by_us=event.by_us or bool(data.key),
        already_sent=data.already_sent,
        data={"agent": data.agent.id},
    )


def _safe(data: EntryCreated) -> Sequence[Any]:
    return [each for each in data.attachments if each.url.startswith(("https://", "http://"))]
