"""A ticket backend that a test plays: strict about keys, and it misbehaves on demand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from hub.backend_contract import TicketBackend
from hub.plugin_context import PluginContext
from hub.testing.services import FakeServices
from normalizer.outcomes import Gone
from normalizer.tickets import (
    BackendCapabilities,
    Change,
    Lookup,
    NewTicket,
    Requester,
    TicketEntry,
    TicketRef,
)


class NoSettings(msgspec.Struct):
    pass


class Ticket(msgspec.Struct):
    id: str
    new: NewTicket
    requester: str
    entries: list[TicketEntry]
    status: str = "open"
    successor: str | None = None
    gone: bool = False
    reopened: int = 0


class Desk(TicketBackend):
    """``before[call]`` are failures raised before the call does anything, ``after[call]`` those
    raised when it is done: the lost answers."""

    kind = "fake"
    settings = NoSettings
    capabilities = BackendCapabilities(
        ticket_lookup=Lookup.FRESH, entry_lookup=Lookup.FRESH, max_entry_chars=60
    )

    def __init__(self) -> None:
        context = PluginContext("fake", FakeServices(), structlog.get_logger())
        super().__init__("desk", NoSettings(), context)
        self.tickets: dict[str, Ticket] = {}
        self.requesters: dict[str, Requester] = {}
        self.calls: list[str] = []
        self.before: dict[str, list[Exception]] = defaultdict(list)
        self.after: dict[str, list[Exception]] = defaultdict(list)

    # --- what a test looks at --------------------------------------------------------------------

    def texts(self, ticket: str) -> list[str]:
        return [entry.text for entry in self.tickets[ticket].entries]

    def keys(self) -> list[str]:
        """Return the keys of everything that was written, doubles included."""
        return [entry.key for ticket in self.tickets.values() for entry in ticket.entries]

    # --- TicketBackend ---------------------------------------------------------------------------

    async def check(self) -> Sequence[str]:
        return ()

    async def ensure_requester(self, requester: Requester) -> str:
        self._called("ensure_requester")
        self.requesters[requester.hub_id] = requester
        self._done("ensure_requester")
        return f"r-{requester.hub_id}"

    async def find_ticket(self, key: str, requester: Requester) -> TicketRef | None:
        self._called("find_ticket")
        found = sorted(each.id for each in self.tickets.values() if each.new.key == key)
        return self._ref(found[0]) if found else None

    async def create_ticket(self, new: NewTicket, requester: str) -> TicketRef:
        self._called("create_ticket")
        ident = str(100 + len(self.tickets))
        self.tickets[ident] = Ticket(ident, new, requester, [new.first])
        self._done("create_ticket")
        return self._ref(ident)

    async def find_entry(self, ticket: TicketRef, key: str) -> str | None:
        self._called("find_entry")
        held = self._held(ticket)
        return next((entry.key for entry in held.entries if entry.key == key), None)

    async def append(self, ticket: TicketRef, entry: TicketEntry, *, reopen: bool) -> str:
        self._called("append")
        held = self._held(ticket)
        held.entries.append(entry)
        if reopen:
            held.status = "open"
            held.reopened += 1
        self._done("append")
        return entry.key

    async def change(self, ticket: TicketRef, change: Change) -> TicketRef:
        self._called("change")
        held = self._held(ticket)
        if change.status is not None:
            held.status = change.status.value
        self.changed = change
        self._done("change")
        return replace(self._ref(held.id), version="2")

    async def read(self, ticket: TicketRef) -> Mapping[str, Any]:
        self._called("read")
        held = self._held(ticket)
        return {"status": held.status, "raw_status": f"raw {held.status}"}

    def _held(self, ticket: TicketRef) -> Ticket:
        held = self.tickets[ticket.id]
        if held.gone:
            raise Gone("the ticket is gone", successor=held.successor)
        return held

    def _ref(self, ident: str) -> TicketRef:
        return TicketRef(id=ident, number=f"#{ident}", url=f"https://desk.example/{ident}")

    def _called(self, call: str) -> None:
        self.calls.append(call)
        if self.before[call]:
            raise self.before[call].pop(0)

    def _done(self, call: str) -> None:
        if self.after[call]:
            raise self.after[call].pop(0)
