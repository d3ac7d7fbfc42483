"""The log's lines as the hub reads them."""

from __future__ import annotations

from collections.abc import Sequence

from normalizer.tickets import BackendEvent, TicketEntry
from plugins.desk.desk import Desk
from plugins.desk.documents import DeskEntry, DeskEvent


async def backend_events(desk: Desk, lines: Sequence[DeskEvent]) -> list[BackendEvent]:
    """Return what these lines say; what was erased since says nothing any more."""
    entries = await desk.entries_by_id([line.entry for line in lines if line.entry])
    events: list[BackendEvent] = []
    for line in lines:
        entry = entries.get(line.entry)
        if line.erased or (line.entry and (entry is None or entry.erased)):
            continue
        events.append(_backend_event(line, entry))
    return events


def _backend_event(line: DeskEvent, entry: DeskEntry | None) -> BackendEvent:
    agent = {"agent": entry.agent} if entry is not None else {}
    return BackendEvent(
        dedupe_id=line.event,
        ticket_id=line.ticket,
        kind=line.kind,
        at=line.at,
        entry=None if entry is None else ticket_entry(entry),
        by_us=line.by_us,
        data={**line.data, **agent},
    )


def ticket_entry(entry: DeskEntry) -> TicketEntry:
    return TicketEntry(
        key=entry.key,
        author=entry.author,
        channel=entry.channel,
        occurred_at=entry.at,
        text=entry.text,
        internal=entry.internal,
        author_name=entry.author_name,
        attachments=entry.attachments,
    )
