"""What a ticket backend is (contracts/tickets_model.md): the class that backend plugins build on.

No clocks, sleeps or retries inside a backend; the hub owns them. Every method makes one
attempt and raises one of normalizer.outcomes' failures when it does not succeed.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from normalizer.tickets import (
    BackendCapabilities,
    BackendEvent,
    Change,
    NewTicket,
    Page,
    Requester,
    TicketEntry,
    TicketRef,
)

if TYPE_CHECKING:
    from hub.plugin_context import PluginContext


class TicketBackend(abc.ABC):
    """One configured ticket backend."""

    kind: ClassVar[str]  # what [[backends]] names as its type
    settings: ClassVar[type[msgspec.Struct]]
    capabilities: ClassVar[BackendCapabilities]

    def __init__(self, name: str, settings: Any, context: PluginContext) -> None:
        self.name = name
        self.config = settings
        self.context = context

    @abc.abstractmethod
    async def check(self) -> Sequence[str]:
        """Return problems in plain words; empty = ready."""

    @abc.abstractmethod
    async def ensure_requester(self, requester: Requester) -> str:
        """Find or make the requester by ``hub_id``; safe to repeat."""

    @abc.abstractmethod
    async def find_ticket(self, key: str, requester: Requester) -> TicketRef | None:
        """Return the ticket that carries ``key``; of several the lowest id."""

    @abc.abstractmethod
    async def create_ticket(self, new: NewTicket, requester: str) -> TicketRef:
        """Make the ticket with its key in the same server-side write."""

    @abc.abstractmethod
    async def find_entry(self, ticket: TicketRef, key: str) -> str | None:
        """Return the backend's id of the entry that carries ``key``."""

    @abc.abstractmethod
    async def append(self, ticket: TicketRef, entry: TicketEntry, *, reopen: bool) -> str:
        """Add the entry; with ``reopen`` leave the ticket open. Raises Gone(successor)."""

    @abc.abstractmethod
    async def change(self, ticket: TicketRef, change: Change) -> TicketRef:
        """Set what ``change`` names: read, compare, write the difference, read again."""

    @abc.abstractmethod
    async def read(self, ticket: TicketRef) -> Mapping[str, Any]:
        """Return status, raw_status, priority, assignee and tags as the backend has them."""

    def parse_webhook(
        self, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> Sequence[BackendEvent]:
        """Verify and read a webhook. Pure. Raises hub.Refused for a wrong signature."""
        from hub.contract import Refused

        raise Refused("this backend sends no webhooks", status=404)

    async def poll(self, cursor: str | None) -> Page:
        """Return what changed since ``cursor``; None starts at now."""
        return Page(events=(), cursor=cursor or "")

    async def start(self) -> None:  # noqa: B027 - optional
        """Called once before jobs run."""

    async def stop(self) -> None:  # noqa: B027 - optional
        """Called once after the last job."""
