"""Ways in which a helpdesk misbehaves, and a backend that plays them where no server can.

A fake server plays them best: it knows whether it acted. :class:`FaultyBackend` plays them at
the backend's own methods, for backends that have no server in between.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from hub.backend_contract import TicketBackend
from normalizer.outcomes import OutcomeUnknown, RateLimited, Rejected, Temporary
from normalizer.tickets import (
    BackendEvent,
    Change,
    NewTicket,
    Page,
    Requester,
    TicketEntry,
    TicketRef,
)

T = TypeVar("T")
PAUSE_S = 2.0


class Fault(StrEnum):
    """What a server does with one call. The first three leave the caller in doubt."""

    LOSES = "acts, and cuts the connection instead of answering"
    LATE = "acts, and answers when nobody waits any more"
    RESETS = "cuts the connection before it acts"
    FAILS = "acts, and answers with an error of its own (500)"
    AWAY = "does not act, and says so (503)"
    LIMITS = "does not act, and says when to come again (429)"
    REFUSES = "does not act, and never will (422)"


class Outside(Protocol):
    """A backend, and what its server is going to do. Calls have the names of its methods."""

    @property
    def backend(self) -> TicketBackend: ...

    def plan(self, call: str, *faults: Fault | None) -> None:
        """Let the next calls meet these faults, one each; None lets one through."""
        ...


class FaultyBackend(TicketBackend):
    """Hands every call on, unless a fault is planned for it."""

    def __init__(self, inner: TicketBackend) -> None:
        self._inner = inner
        self.name = inner.name
        self.config = inner.config
        self.context = inner.context
        self.capabilities = inner.capabilities  # type: ignore[misc]
        self._plan: dict[str, deque[Fault | None]] = defaultdict(deque)

    @property
    def backend(self) -> TicketBackend:
        return self

    def plan(self, call: str, *faults: Fault | None) -> None:
        self._plan[call].extend(faults)

    async def _met(self, call: str, done: Callable[[], Awaitable[T]]) -> T:
        fault = self._plan[call].popleft() if self._plan[call] else None
        match fault:
            case None:
                return await done()
            case Fault.LOSES | Fault.LATE | Fault.FAILS:
                await done()
                raise OutcomeUnknown(f"planned: the server {fault}")
            case Fault.RESETS:
                raise OutcomeUnknown(f"planned: the server {fault}")
            case Fault.AWAY:
                raise Temporary(f"planned: the server {fault}")
            case Fault.LIMITS:
                raise RateLimited(f"planned: the server {fault}", retry_after=PAUSE_S)
            case Fault.REFUSES:
                raise Rejected(f"planned: the server {fault}")

    async def check(self) -> Sequence[str]:
        return await self._inner.check()

    async def ensure_requester(self, requester: Requester) -> str:
        return await self._met("ensure_requester", lambda: self._inner.ensure_requester(requester))

    async def find_ticket(self, key: str, requester: Requester) -> TicketRef | None:
        return await self._met("find_ticket", lambda: self._inner.find_ticket(key, requester))

    async def create_ticket(self, new: NewTicket, requester: str) -> TicketRef:
        return await self._met("create_ticket", lambda: self._inner.create_ticket(new, requester))

    async def find_entry(self, ticket: TicketRef, key: str) -> str | None:
        return await self._met("find_entry", lambda: self._inner.find_entry(ticket, key))

    async def append(self, ticket: TicketRef, entry: TicketEntry, *, reopen: bool) -> str:
        return await self._met("append", lambda: self._inner.append(ticket, entry, reopen=reopen))

    async def change(self, ticket: TicketRef, change: Change) -> TicketRef:
        return await self._met("change", lambda: self._inner.change(ticket, change))

    async def read(self, ticket: TicketRef) -> Mapping[str, Any]:
        return await self._met("read", lambda: self._inner.read(ticket))

    def parse_webhook(
        self, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> Sequence[BackendEvent]:
        return self._inner.parse_webhook(headers, body, now)

    async def poll(self, cursor: str | None) -> Page:
        return await self._inner.poll(cursor)
