"""The desk as a ticket backend: tickets_model.md in terms of :class:`plugins.desk.desk.Desk`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hub import PluginContext, TicketBackend
from normalizer.outcomes import Gone, Rejected
from normalizer.tickets import (
    BackendCapabilities,
    Change,
    Lookup,
    NewTicket,
    Page,
    Requester,
    Status,
    TicketEntry,
    TicketRef,
)
from plugins.desk.desk import REOPENED, Desk, NoTicket, NotPossible, Wanted
from plugins.desk.documents import DeskTicket
from plugins.desk.settings import DeskSettings
from plugins.desk.told import backend_events

PAGE = 100


class DeskBackend(TicketBackend):
    """Tickets in the hub's own database."""

    kind: ClassVar[str] = "desk"
    settings: ClassVar[type[DeskSettings]] = DeskSettings
    capabilities: ClassVar[BackendCapabilities] = BackendCapabilities(
        ticket_lookup=Lookup.ENFORCED,
        entry_lookup=Lookup.ENFORCED,
        original_time=True,
        html=False,
        may_mail_customer=False,
        webhooks=False,
        webhook_signed=False,
        webhook_retried=False,
        max_entry_chars=100_000,
    )

    def __init__(self, name: str, settings: DeskSettings, context: PluginContext) -> None:
        super().__init__(name, settings, context)
        self.desk = Desk(context)

    async def start(self) -> None:
        """Tell the routes, which may run in another process, what queues there are."""
        await save_queues(self.context, self.name, self.config.queues)

    async def check(self) -> Sequence[str]:
        """The desk is ready when the hub's database answers; that it raises otherwise."""
        await self.desk.count()
        return ()

    async def ensure_requester(self, requester: Requester) -> str:
        """People stand in their tickets: there is nothing to make."""
        return requester.hub_id

    async def find_ticket(self, key: str, requester: Requester) -> TicketRef | None:
        found = await self.desk.of_key(self.name, key)
        return None if found is None else _ref(found)

    async def create_ticket(self, new: NewTicket, requester: str) -> TicketRef:
        queue = new.queue or self.config.first_queue
        if queue not in self.config.queues:
            raise Rejected(
                f'the desk {self.name} has no queue "{queue}": add it to the backend\'s queues,'
                f" or route to one of: {', '.join(self.config.queues)}",
                code="unknown-queue",
            )
        self._refuse_too_long(new.first)
        return _ref(await self.desk.create(self.name, new, requester=requester, queue=queue))

    async def find_entry(self, ticket: TicketRef, key: str) -> str | None:
        try:
            return await self.desk.has_entry(ticket.id, key)
        except NoTicket as error:
            raise Gone(str(error)) from error

    async def append(self, ticket: TicketRef, entry: TicketEntry, *, reopen: bool) -> str:
        self._refuse_too_long(entry)
        new = self.desk.new_entry(ticket.id, entry)
        try:
            added = await self.desk.add(
                ticket.id, new, status=_reopened if reopen else _kept, by_us=True
            )
        except NoTicket as error:
            raise Gone(str(error)) from error
        return added.entry.id

    async def change(self, ticket: TicketRef, change: Change) -> TicketRef:
        wanted = Wanted(
            status=change.status,
            priority=change.priority,
            assignee=change.assignee,
            add_tags=change.add_tags,
            remove_tags=change.remove_tags,
        )
        try:
            await self.desk.change(ticket.id, wanted, by_us=True)
            return _ref(await self.desk.ticket(ticket.id))
        except NoTicket as error:
            raise Gone(str(error)) from error
        except NotPossible as error:
            raise Rejected(str(error)) from error

    async def read(self, ticket: TicketRef) -> Mapping[str, Any]:
        try:
            found = await self.desk.ticket(ticket.id)
        except NoTicket as error:
            raise Gone(str(error)) from error
        return {
            "status": str(found.status),
            "raw_status": str(found.status),
            "priority": str(found.priority),
            "assignee": found.assignee,
            "tags": found.tags,
        }

    async def poll(self, cursor: str | None) -> Page:
        """Return the log behind ``cursor``; what a crash kept out of it is put there first."""
        await self.desk.sweep(self.name)
        if cursor is None:
            return Page(events=(), cursor=str(await self.desk.log.last(self.name)))
        if not cursor.isdecimal():
            raise Rejected("this cursor is none of the desk's: reset the backend's cursor")
        lines = await self.desk.log.after(self.name, int(cursor), PAGE)
        return Page(
            events=await backend_events(self.desk, lines),
            cursor=str(lines[-1].position) if lines else cursor,
            more=len(lines) == PAGE,
        )

    def _refuse_too_long(self, entry: TicketEntry) -> None:
        limit = self.capabilities.max_entry_chars
        if len(entry.text) > limit:
            raise Rejected(
                f"the entry has {len(entry.text)} characters, a ticket of the desk takes {limit}",
                code="too-long",
            )


async def save_queues(context: PluginContext, backend: str, queues: Sequence[str]) -> None:
    """Keep the names of a backend's queues where every process can read them."""
    while True:
        value, rev = await context.state(f"queues/{backend}")
        if value.get("queues") == list(queues):
            return
        if await context.set_state(f"queues/{backend}", {"queues": list(queues)}, rev):
            return


async def queues_of(context: PluginContext, backend: str) -> Sequence[str]:
    """Return the queues of a backend, none when it never ran."""
    value, _ = await context.state(f"queues/{backend}")
    return tuple(value.get("queues", ()))


def _reopened(status: Status) -> Status:
    return Status.OPEN if status in REOPENED else status


def _kept(status: Status) -> Status:
    return status


def _ref(ticket: DeskTicket) -> TicketRef:
    return TicketRef(id=ticket.id, number=ticket.number, version=str(ticket.rev))
