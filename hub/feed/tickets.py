"""Tickets that open one stream: for browsers, whose ``EventSource`` cannot send a key.

A ticket is worth as much as the key that asked for it, for 60 seconds and for one stream. Only
its hash is stored.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

import msgspec

from hub.api.keys import ApiKey
from hub.clock import Clock
from hub.documents import State
from hub.store.interface import Store

LIFE_S = 60
_PREFIX = "feed/ticket/"
_BEHIND_PREFIX = "feed/ticket0"


class Tickets:
    """Gives out tickets and takes each back once, in whichever process."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._table = store.table(State)
        self._clock = clock

    async def give(self, caller: ApiKey) -> tuple[str, datetime]:
        """Return a new ticket and when it dies (UTC)."""
        ticket = f"tkt_{secrets.token_urlsafe(24)}"
        now = self._clock.now()
        dies_at = now + timedelta(seconds=LIFE_S)
        await self._table.delete(
            {"_id": {"$gte": _PREFIX, "$lt": _BEHIND_PREFIX}, "value.dies_at": {"$lt": now}}
        )
        value = {"dies_at": dies_at, "caller": msgspec.to_builtins(caller, order="sorted")}
        await self._table.insert([State(id=_ident(ticket), value=value, rev=1)])
        return ticket, dies_at

    async def redeem(self, ticket: str) -> ApiKey | None:
        """Return who asked for the ticket, once; None for one that is used, old or made up."""
        held = await self._table.get(_ident(ticket))
        if held is None or not await self._table.delete({"_id": held.id}):
            return None
        if held.value["dies_at"] <= self._clock.now():
            return None
        return msgspec.convert(held.value["caller"], ApiKey)


def _ident(ticket: str) -> str:
    return _PREFIX + hashlib.sha256(ticket.encode()).hexdigest()
