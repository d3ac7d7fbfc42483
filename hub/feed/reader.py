"""Reads the feed's log for one reader: rows behind a position, filtered, in order, gap-free.

Positions are given inside the router's transaction and read with majority concern, so whoever
reads up to a committed position has seen everything up to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import structlog

from hub.api.people import People
from hub.documents import AddressDoc, Conversation, Customer, Entry, FeedRow
from hub.feed.access import Rights, Selection
from hub.feed.cursors import Cursor, CursorExpired
from hub.feed.events import (
    ConsentData,
    ConversationData,
    CustomerData,
    EntryData,
    Face,
    Loaded,
    Rendered,
    TicketData,
    render,
    type_of,
)
from hub.store.interface import Store

log = structlog.get_logger(__name__)

WINDOW = 20_000  # positions that one question looks at when nothing but the type or channel filters
WINDOWS = 10  # questions that one read asks before it reports how far it came
MAX_ALIASES = 200
BY_CUSTOMER = "customer_1__id_1"


class Read(msgspec.Struct, frozen=True):
    """What one read found. Everything up to ``position`` was looked at; ``more`` comes behind."""

    rows: Sequence[FeedRow]
    position: int
    more: bool


class Reader:
    """One per process; every way out of the feed reads through it."""

    def __init__(self, store: Store, *, space: str, base_url: Callable[[], str]) -> None:
        self._store = store
        self._rows = store.table(FeedRow)
        self._people = People(store)
        self._space = space
        self._base_url = base_url
        self.generation = 0

    # --- where -----------------------------------------------------------------------------------

    async def end(self) -> tuple[int, int]:
        """Return (generation, last committed position)."""
        self.generation, position = await self._store.router.position()
        return self.generation, position

    async def earliest(self, end: int) -> int:
        """Return the position before the first row that is still kept."""
        first = await self._rows.find({}, sort=[("_id", 1)], limit=1)
        return int(first[0].id) - 1 if first else end

    async def start(self, cursor: Cursor | None) -> int:
        """Return the position to read behind; without a cursor, the start of what is kept.

        Raises CursorExpired for a cursor from before the database was restored; whether the
        events behind the position are still kept, :meth:`read` finds out.
        """
        generation, end = await self.end()
        if cursor is None:
            return await self.earliest(end)
        if cursor.generation != generation or cursor.position > end:
            raise CursorExpired(
                "this cursor is of a former life of the database, before it was restored",
                await self.earliest(end),
            )
        return cursor.position

    async def customers(self, selection: Selection) -> frozenset[str]:
        """Return every id under which rows tell of the selection's customer.

        A row names the customer of its moment, which may have been merged since.
        """
        if not selection.customer:
            return frozenset()
        table = self._store.table(Customer)
        ident, known = selection.customer, {selection.customer}
        while (found := await table.get(ident)) is not None and found.alias_of not in (
            None,
            *known,
        ):
            ident = found.alias_of or ident
            known.add(ident)
        waiting = {ident}
        while waiting and len(known) < MAX_ALIASES:
            aliases = await table.find({"alias_of": {"$in": sorted(waiting)}}, limit=MAX_ALIASES)
            waiting = {each.id for each in aliases} - known
            known |= waiting
        return frozenset(known)

    # --- rows ------------------------------------------------------------------------------------

    async def read(self, selection: Selection, rights: Rights, after: int, limit: int) -> Read:
        """Return at most ``limit`` rows behind ``after``. Raises CursorExpired."""
        _, end = await self.end()
        if after >= end:
            return Read((), after, False)
        customers = await self.customers(selection)
        where = selection.where(customers)
        found: list[FeedRow] = []
        position = after
        for _ in range(WINDOWS):
            upto = end if selection.everything or selection.customer else position + WINDOW
            upto = min(upto, end)
            wanted = limit - len(found)
            rows = await self._rows.find(
                {**where, "_id": {"$gt": position, "$lte": upto}},
                sort=[("_id", 1)],
                limit=wanted,
                hint=BY_CUSTOMER if selection.customer else None,
            )
            self._watch(selection, position, rows)
            found += [row for row in rows if rights.may_be_seen(row)]
            position = int(rows[-1].id) if len(rows) == wanted else upto
            if position >= end or len(found) >= limit:
                break
        if not (selection.everything and found and int(found[0].id) == after + 1):
            earliest = await self.earliest(end)  # read after the rows: they may go at any moment
            if after < earliest:
                raise _expired(earliest)
        return Read(found, position, position < end)

    def _watch(self, selection: Selection, position: int, rows: Sequence[FeedRow]) -> None:
        """Raise an alarm if a position is missing between others: it must never happen."""
        if not selection.everything or not rows:
            return
        if int(rows[-1].id) - int(rows[0].id) + 1 != len(rows):
            log.error(
                "feed_has_a_gap",
                behind=position,
                first=rows[0].id,
                last=rows[-1].id,
                rows=len(rows),
                advice="readers may have missed events: compare the feed with the entries",
            )

    # --- events ----------------------------------------------------------------------------------

    async def events(self, rows: Sequence[FeedRow], rights: Rights) -> list[Rendered]:
        """Render rows, without those whose account the key may not see."""
        if not rows:
            return []
        if not self.generation:
            await self.end()
        face = Face(space=self._space, base_url=self._base_url(), generation=self.generation)
        loaded = await self._load(rows, rights)
        seen = await self._people.visible_conversations(
            rights.caller, list(loaded.conversations.values())
        )
        visible = {conversation.id for conversation in seen}
        return [render(row, loaded, face) for row in rows if rights.sees(row, visible)]

    async def _load(self, rows: Sequence[FeedRow], rights: Rights) -> Loaded:
        """Fetch what the rows refer to: one question a collection for the whole page."""
        table = self._store.table
        kinds = [(row, type_of(row.type).data) for row in rows]
        entries = await table(Entry).get_many(
            dict.fromkeys(row.ref for row, kind in kinds if kind is EntryData)
        )
        decided_by = rights.caller.limited  # rows without an account are seen by conversation
        return Loaded(
            entries=entries,
            addresses=await table(AddressDoc).get_many(
                dict.fromkeys(entry.address for entry in entries.values() if entry.address)
            ),
            conversations=await table(Conversation).get_many(
                dict.fromkeys(
                    row.conversation
                    for row, kind in kinds
                    if row.conversation
                    and (kind in (ConversationData, TicketData) or (decided_by and not row.account))
                )
            ),
            customers=await table(Customer).get_many(
                dict.fromkeys(
                    row.customer for row, kind in kinds if kind in (CustomerData, ConsentData)
                )
            ),
        )


def _expired(earliest: int) -> CursorExpired:
    return CursorExpired(
        "events behind this cursor are no longer kept: read the customers' timelines anew, then go"
        " on from earliest_cursor",
        earliest,
    )
