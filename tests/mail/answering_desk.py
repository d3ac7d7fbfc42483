"""A helpdesk that answers by itself whatever it is told, machines' mails included.

For the tests only: the worst neighbour that a mailbox can have. Its answers are a machine's
(role ``bot``), so that they leave as automatic mails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hub import TicketBackend, hookimpl
from normalizer.tickets import (
    BackendCapabilities,
    Change,
    Lookup,
    NewTicket,
    Requester,
    TicketEntry,
    TicketRef,
)

omniline_api = 1
SAYS = "We have got your message."


class NoSettings(msgspec.Struct):
    """There is nothing to set."""


class AnsweringDesk(TicketBackend):
    """A ticket has the id of its conversation."""

    kind = "answering"
    settings = NoSettings
    capabilities = BackendCapabilities(ticket_lookup=Lookup.FRESH, entry_lookup=Lookup.FRESH)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._tickets: dict[str, list[str]] = {}

    async def check(self) -> Sequence[str]:
        return ()

    async def ensure_requester(self, requester: Requester) -> str:
        return requester.hub_id

    async def find_ticket(self, key: str, requester: Requester) -> TicketRef | None:
        return TicketRef(id=key) if key in self._tickets else None

    async def create_ticket(self, new: NewTicket, requester: str) -> TicketRef:
        await self._take(new.key, new.first)
        return TicketRef(id=new.key)

    async def find_entry(self, ticket: TicketRef, key: str) -> str | None:
        return key if key in self._tickets.get(ticket.id, ()) else None

    async def append(self, ticket: TicketRef, entry: TicketEntry, *, reopen: bool) -> str:
        await self._take(ticket.id, entry)
        return entry.key

    async def change(self, ticket: TicketRef, change: Change) -> TicketRef:
        return ticket

    async def read(self, ticket: TicketRef) -> Mapping[str, Any]:
        return {"status": "open", "raw_status": "open"}

    async def _take(self, conversation: str, entry: TicketEntry) -> None:
        self._tickets.setdefault(conversation, []).append(entry.key)
        if entry.author != "customer":
            return
        said = {
            "conversation": conversation,
            "reply_to": entry.key,
            "role": "bot",
            "parts": [{"type": "text", "text": SAYS}],
        }
        await self.context.command("reply", said, key=entry.key, actor="bot:desk", wait_s=0.0)


@hookimpl
def register_ticket_backends(config: Mapping[str, Any]) -> Sequence[type[TicketBackend]]:
    return [AnsweringDesk]
