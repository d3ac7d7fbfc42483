"""What a session may see: its addresses, and the threads of these.

A session sees its own addresses and no other, whatever conversation their messages are in.
``conversation_id`` on the wire is a thread of one of them; every other id is not found.
"""

from __future__ import annotations

from typing import Any

import msgspec

from connectors.site.errors import SiteError
from connectors.site.visitors import Session, Visitors
from hub import ConnectorContext, Entry
from normalizer.addresses import Address

_PAGE = 100


class Audience(msgspec.Struct, frozen=True, kw_only=True):
    """``addresses`` and ``ids`` go together, the one that speaks first."""

    addresses: tuple[Address, ...]
    ids: tuple[str, ...]
    threads: dict[str, str]  # thread -> id of its address; the primary one first

    @property
    def speaks(self) -> Address:
        return self.addresses[0]

    @property
    def primary(self) -> str:
        """The thread of the address that speaks; empty before its first message."""
        return next((t for t, address in self.threads.items() if address == self.ids[0]), "")


class Audiences:
    """Finds what sessions may see, and reads their threads."""

    def __init__(self, visitors: Visitors, context: ConnectorContext) -> None:
        self._visitors = visitors
        self._context = context

    async def of(self, session: Session) -> Audience:
        addresses = tuple(await self._visitors.addresses(session))
        ids = tuple(self._context.address_id(address) for address in addresses)
        threads: dict[str, str] = {}
        for address, ident in zip(addresses, ids, strict=True):
            known = await self._context.address(address)
            if known is not None and known.thread and not known.erased:
                threads[known.thread] = ident
        return Audience(addresses=addresses, ids=ids, threads=threads)

    async def with_thread(self, session: Session, audience: Audience, thread: str) -> Audience:
        """Return an audience that has the thread. Raises :class:`SiteError` for a foreign one."""
        if thread not in audience.threads:
            audience = await self.of(session)  # it may have been made by the last message
        if thread not in audience.threads:
            raise SiteError("conversation_not_found", "there is no such conversation")
        return audience

    async def entries(
        self, audience: Audience, thread: str, after_seq: int, limit: int
    ) -> list[Entry]:
        return await self._context.entries(
            audience.ids, thread=thread, after_seq=after_seq, limit=limit
        )

    async def entry_at(self, audience: Audience, thread: str, seq: int) -> Entry | None:
        found = await self.entries(audience, thread, seq - 1, 1)
        return found[0] if found and found[0].seq == seq else None

    async def last_entry(self, audience: Audience, thread: str) -> Entry | None:
        """Return the newest entry of a thread: places are gap-free, so it is searched for."""
        page = await self.entries(audience, thread, 0, _PAGE)
        if len(page) < _PAGE:
            return page[-1] if page else None
        low, step = page[-1].seq, _PAGE  # `low` is taken; double until nothing is behind
        while await self.entries(audience, thread, low + step, 1):
            low, step = low + step, step * 2
        while step > 1:
            step //= 2
            if await self.entries(audience, thread, low + step, 1):
                low += step
        found = await self.entries(audience, thread, low, _PAGE)
        return found[-1] if found else await self.entry_at(audience, thread, low)

    async def conversations(self, audience: Audience) -> list[dict[str, Any]]:
        """Return what a client has to know of each thread to fetch its messages."""
        listed = []
        for thread in audience.threads:
            last = await self.last_entry(audience, thread)
            listed.append(
                {
                    "conversation_id": thread,
                    "last_seq": str(last.seq if last else 0),
                    "primary": thread == audience.primary,
                }
            )
        return listed
