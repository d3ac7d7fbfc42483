"""The desk's tickets: every change of them, whoever asks for it, goes through here.

A change is planned from what was read, and decided by one swap of the ticket on its ``rev``;
whoever comes too late reads again. The entries and events it makes stand in the ticket until
they are written, and the next one who touches the ticket finishes what a crash left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from hub import PluginContext
from normalizer.tickets import Attachment, NewTicket, Priority, Status, TicketEntry
from plugins.desk.documents import DeskEntry, DeskEvent, DeskTicket
from plugins.desk.event_log import EventLog
from plugins.desk.ids import Ids, recency

FIRST_NUMBER = 1001
MAX_TAGS = 100
SWEEP = 100
REOPENED = frozenset({Status.WAITING, Status.HOLD, Status.SOLVED, Status.CLOSED})


class NoTicket(Exception):
    """There is no such ticket, or its person was erased (``erased``)."""

    def __init__(self, reason: str, *, erased: bool = False) -> None:
        super().__init__(reason)
        self.erased = erased


class MovedOn(Exception):
    """The ticket has another ``rev`` than the one the caller had read."""

    def __init__(self, ticket: DeskTicket) -> None:
        super().__init__(f"the ticket is at rev {ticket.rev} by now: read it, then decide again")
        self.ticket = ticket


class KeyReused(Exception):
    """A key that made an entry came with another content."""


class NotPossible(Exception):
    """What was asked for cannot be; the text says why."""


class NewEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry to be added. ``id`` follows from ``key``; the same id is added once."""

    id: str
    key: str
    author: str
    channel: str
    at: datetime
    text: str
    internal: bool = False
    author_name: str = ""
    agent: str = ""
    attachments: tuple[Attachment, ...] = ()
    digest: str = ""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a ticket should be like; None leaves it."""

    status: Status | None = None
    priority: Priority | None = None
    assignee: str | None = None
    queue: str | None = None
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a change. ``events`` is empty when there was nothing to change."""

    ticket: DeskTicket
    events: tuple[DeskEvent, ...] = ()


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an entry. ``events`` is empty when it had been added before."""

    ticket: DeskTicket
    entry: DeskEntry
    events: tuple[DeskEvent, ...] = ()


T = TypeVar("T")
Plan = Callable[[DeskTicket], Awaitable[tuple[DeskTicket | None, T]]]
"""Says what a ticket is to become (None: it stays), and what the caller wants to know of it."""


class Desk:
    """The tickets of all desk backends of a space."""

    def __init__(self, context: PluginContext) -> None:
        self.ids = Ids(context.secret("ids"))
        self.log = EventLog(context)
        self._context = context
        self._tickets = context.documents(DeskTicket)
        self._entries = context.documents(DeskEntry)
        self._numbering = asyncio.Lock()  # one at a time here; other processes meet at the swap

    # --- tickets -------------------------------------------------------------------------------

    async def create(
        self, backend: str, new: NewTicket, *, requester: str, queue: str
    ) -> DeskTicket:
        """Make the ticket of this key, with its first entry, or return the one that is there."""
        ident = self.ids.ticket(backend, new.key)
        if await self._tickets.get(ident) is None:
            now = self._context.clock.now()
            first = _entry(self.new_entry(ident, new.first), ident, order=1)
            ticket = DeskTicket(
                id=ident,
                backend=backend,
                number=await self._next_number(),
                key=new.key,
                conversation=new.key.partition(".")[0],
                requester=requester,
                requester_name=new.requester.display_name,
                subject=new.subject,
                queue=queue,
                status=Status.NEW,
                priority=new.priority,
                assignee="",
                tags=tuple(dict.fromkeys(new.tags)),
                created_at=now,
                updated_at=now,
                recency=recency(now, ident),
                rev=1,
                entries=1,
                unwritten=(first,),
                pending=True,
            )
            await self._tickets.insert([ticket])
        return await self.ticket(ident)

    async def ticket(self, ident: str) -> DeskTicket:
        """Return a ticket with everything written that belongs to it. Raises NoTicket."""
        found = await self._tickets.get(ident)
        if found is None:
            raise NoTicket(f"there is no ticket {ident}")
        return await self._finish(found)

    async def of_key(self, backend: str, key: str) -> DeskTicket | None:
        return await self._tickets.get(self.ids.ticket(backend, key))

    async def page(self, where: dict[str, object], limit: int) -> list[DeskTicket]:
        """Return tickets, the last changed first."""
        return await self._tickets.find(where, sort=[("recency", -1)], limit=limit)

    async def count(self) -> int:
        return await self._tickets.count({}, limit=1)

    # --- entries -------------------------------------------------------------------------------

    def new_entry(self, ticket: str, entry: TicketEntry) -> NewEntry:
        """Return what the hub's entry becomes on a ticket."""
        return NewEntry(
            id=self.ids.entry(ticket, entry.key),
            key=entry.key,
            author=entry.author,
            channel=entry.channel,
            at=entry.occurred_at,
            text=entry.text,
            internal=entry.internal,
            author_name=entry.author_name,
            attachments=entry.attachments,
        )

    async def has_entry(self, ticket: str, key: str) -> str | None:
        """Return the id of the entry with this key. Raises NoTicket."""
        await self.ticket(ticket)
        ident = self.ids.entry(ticket, key)
        return ident if await self._entries.known([ident]) else None

    async def entries(self, ticket: str, *, before: int, limit: int) -> list[DeskEntry]:
        """Return the last entries whose order is below ``before``, oldest first."""
        found = await self._entries.find(
            {"ticket": ticket, "order": {"$lt": before}}, sort=[("order", -1)], limit=limit
        )
        return found[::-1]

    async def entries_by_id(self, ids: Sequence[str]) -> dict[str, DeskEntry]:
        return await self._entries.get_many(ids)

    async def add(
        self,
        ident: str,
        new: NewEntry,
        *,
        status: Callable[[Status], Status] = lambda status: status,
        rev: int | None = None,
        by_us: bool = False,
    ) -> Added:
        """Add an entry and set the status that ``status`` makes of the present one.

        ``by_us``: the hub brings it, so its text is no news for the hub.
        Raises NoTicket, MovedOn (when ``rev`` is given and not the present one), KeyReused.
        """

        async def plan(
            ticket: DeskTicket,
        ) -> tuple[DeskTicket | None, tuple[DeskEntry, tuple[DeskEvent, ...]]]:
            already = await self._entries.get(new.id)
            if already is not None:
                return None, (already, ())
            _refuse_if_moved(ticket, rev)
            now = self._context.clock.now()
            entry = _entry(new, ident, order=ticket.entries + 1)
            next_rev = ticket.rev + 1
            events = []
            if not by_us:
                events.append(_event(ticket, f"desk:{entry.id}", "entry", now, entry=entry.id))
            after = status(ticket.status)
            if after is not ticket.status:
                events.append(_status_event(ticket, next_rev, after, now, by_us=by_us))
            planned = replace(
                ticket,
                status=after,
                entries=entry.order,
                unwritten=(entry,),
                untold=tuple(events),
            )
            return _touched(planned, now), (entry, tuple(events))

        ticket, (entry, events) = await self._change(ident, plan)
        if entry.digest != new.digest:
            raise KeyReused("this key was used for another entry")
        return Added(ticket=ticket, entry=entry, events=events)

    # --- changes -------------------------------------------------------------------------------

    async def change(
        self,
        ident: str,
        wanted: Wanted,
        *,
        rev: int | None = None,
        by: str = "",
        by_us: bool = False,
    ) -> Changed:
        """Set what is wanted; what is so already stays, and says nothing.

        Raises NoTicket, MovedOn, NotPossible (too many tags).
        """

        async def plan(ticket: DeskTicket) -> tuple[DeskTicket | None, tuple[DeskEvent, ...]]:
            _refuse_if_moved(ticket, rev)
            now = self._context.clock.now()
            after = _as_wanted(ticket, wanted)
            events = tuple(_differences(ticket, after, now, by=by, by_us=by_us))
            return (_touched(replace(after, untold=events), now) if events else None), events

        ticket, events = await self._change(ident, plan)
        return Changed(ticket=ticket, events=events)

    async def _change(self, ident: str, plan: Plan[T]) -> tuple[DeskTicket, T]:
        while True:
            ticket = await self.ticket(ident)
            if ticket.erased:
                raise NoTicket(f"the person of ticket {ident} was erased", erased=True)
            planned, wanted = await plan(ticket)
            if planned is None:
                return ticket, wanted
            if await self._tickets.swap(planned, {"rev": ticket.rev}):
                return await self._finish(planned), wanted

    async def _finish(self, ticket: DeskTicket) -> DeskTicket:
        """Write what the ticket's last change still has to make. Twice is harmless."""
        if not ticket.pending:
            return ticket
        await self._entries.insert(ticket.unwritten)
        for event in ticket.untold:
            await self.log.append(event)
        finished = replace(ticket, unwritten=(), untold=(), pending=False)
        await self._tickets.swap(finished, {"rev": ticket.rev})  # else somebody went on from it
        return finished

    async def sweep(self, backend: str) -> None:
        """Finish what a crash left behind, so that it is in the log."""
        left = await self._tickets.find({"backend": backend, "pending": True}, limit=SWEEP)
        for ticket in left:
            await self._finish(ticket)

    # --- erasing -------------------------------------------------------------------------------

    async def erase(self, addresses: Sequence[str], conversations: Sequence[str]) -> int:
        """Take everything readable off the tickets of these people; return how many they are.

        The shell stays: number, status, times, and the entries' ids, so that what comes late
        for them finds them taken. Repeating it finishes what was interrupted.
        """
        people = [*addresses, *conversations]
        found = await self._tickets.find(
            {
                "$or": [
                    {"conversation": {"$in": list(conversations)}},
                    {"requester": {"$in": people}},
                ]
            }
        )
        for ticket in found:
            await self._erase(ticket.id)
        return len(found)

    async def _erase(self, ident: str) -> None:
        async def plan(ticket: DeskTicket) -> tuple[DeskTicket | None, None]:
            shell = replace(
                ticket, subject="", requester_name="", tags=(), assignee="", erased=True
            )
            return _touched(shell, ticket.updated_at), None

        try:
            await self._change(ident, plan)
        except NoTicket as error:
            if not error.erased:
                raise
        # From here on nothing is added, and what is being written has its document already.
        entries = await self._entries.find({"ticket": ident})
        await self._entries.put([_blank(entry) for entry in entries])
        await self.log.erase(ident)

    # --- numbers -------------------------------------------------------------------------------

    async def _next_number(self) -> str:
        async with self._numbering:
            while True:
                value, rev = await self._context.state("numbers")
                number = int(value.get("last", FIRST_NUMBER - 1)) + 1
                if await self._context.set_state("numbers", {"last": number}, rev):
                    return f"D-{number}"


def _entry(new: NewEntry, ticket: str, *, order: int) -> DeskEntry:
    return DeskEntry(
        id=new.id,
        ticket=ticket,
        order=order,
        key=new.key,
        author=new.author,
        channel=new.channel,
        at=new.at,
        text=new.text,
        internal=new.internal,
        author_name=new.author_name,
        agent=new.agent,
        attachments=new.attachments,
        digest=new.digest,
    )


def _blank(entry: DeskEntry) -> DeskEntry:
    return replace(entry, text="", author_name="", agent="", attachments=(), digest="", erased=True)


def _refuse_if_moved(ticket: DeskTicket, rev: int | None) -> None:
    if rev is not None and rev != ticket.rev:
        raise MovedOn(ticket)


def _touched(ticket: DeskTicket, now: datetime) -> DeskTicket:
    """Count the change; the time of the last one never goes back, whoever's clock it was."""
    updated_at = max(now, ticket.updated_at)
    return replace(
        ticket,
        rev=ticket.rev + 1,
        updated_at=updated_at,
        recency=recency(updated_at, ticket.id),
        pending=bool(ticket.unwritten or ticket.untold),
    )


def _as_wanted(ticket: DeskTicket, wanted: Wanted) -> DeskTicket:
    kept = [tag for tag in ticket.tags if tag not in wanted.remove_tags]
    tags = tuple(dict.fromkeys([*kept, *wanted.add_tags]))
    if len(tags) > MAX_TAGS:
        raise NotPossible(f"a ticket takes at most {MAX_TAGS} tags")
    return replace(
        ticket,
        status=wanted.status or ticket.status,
        priority=wanted.priority or ticket.priority,
        assignee=ticket.assignee if wanted.assignee is None else wanted.assignee,
        queue=wanted.queue or ticket.queue,
        tags=tags,
    )


def _differences(
    before: DeskTicket, after: DeskTicket, now: datetime, *, by: str, by_us: bool
) -> list[DeskEvent]:
    """Return one event for each thing that differs."""
    told: dict[str, tuple[object, object, dict[str, object]]] = {
        "priority": (before.priority, after.priority, {"value": str(after.priority)}),
        "assignee": (before.assignee, after.assignee, {"value": after.assignee}),
        "tags": (before.tags, after.tags, {"tags": list(after.tags)}),
        "changed": (before.queue, after.queue, {"queue": after.queue}),
    }
    rev = before.rev + 1
    who = {"by": by} if by else {}
    events = [
        _event(before, f"desk:{before.id}:{rev}:{kind}", kind, now, data=data | who, by_us=by_us)
        for kind, (old, new, data) in told.items()
        if old != new
    ]
    if before.status is not after.status:
        events.append(_status_event(before, rev, after.status, now, by=by, by_us=by_us))
    return events


def _status_event(
    ticket: DeskTicket, rev: int, status: Status, now: datetime, *, by: str = "", by_us: bool
) -> DeskEvent:
    data = {"value": str(status), "raw": str(status)} | ({"by": by} if by else {})
    return _event(ticket, f"desk:{ticket.id}:{rev}:status", "status", now, data=data, by_us=by_us)


def _event(
    ticket: DeskTicket,
    ident: str,
    kind: str,
    now: datetime,
    *,
    entry: str = "",
    data: Mapping[str, object] | None = None,
    by_us: bool = False,
) -> DeskEvent:
    return DeskEvent(
        id=ident,
        backend=ticket.backend,
        position=0,
        event=ident,
        ticket=ticket.id,
        kind=kind,
        at=now,
        entry=entry,
        data=dict(data or {}),
        by_us=by_us,
    )
