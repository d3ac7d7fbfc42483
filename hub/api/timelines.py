"""A customer's timeline: a sorted merge over its addresses, newest first, and single entries.

An entry belongs to an address and never moves, so a page is read by the index over (address,
at, position). The cursor is asked for as ``at <= x and (at < x or position < y)``, which keeps
the database's own sorted merge; it holds up to about 200 addresses, so larger sets are read in
slices that are merged here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from aiohttp import web
from msgspec import Meta

from hub.api.bodies import Input, answer, path_id, read_query
from hub.api.cursors import Cursors
from hub.api.customers import ROUNDS, CursorText, Limit
from hub.api.keys import ApiKey
from hub.api.openapi import operation
from hub.api.people import PRIVATE_CHANNEL, People, Person
from hub.api.views import EntryDetail, Remark, TimelinePage, change_view, entry_view
from hub.documents import AddressDoc, AmendmentDoc, Entry
from hub.planning.rules import Refusal
from hub.plugin_context import PluginRoute
from hub.store.interface import Store

if TYPE_CHECKING:
    from hub.running import Running

SLICE = 100  # addresses in one question
CHANGES_SHOWN = 200
Place = tuple[int, int]  # at in milliseconds, position


class TimelineQuery(Input, frozen=True, kw_only=True):
    before: CursorText = ""
    limit: Limit = 50
    channel: Annotated[str, Meta(max_length=64, description="Only this channel's entries.")] = ""
    q: Annotated[str, Meta(max_length=200, description="Words that a text has to hold.")] = ""


class Latest:
    """The page's ``latest``: up to which position its reader has seen everything."""

    def __init__(self, store: Store, cursors: Cursors) -> None:
        self._store = store
        self._cursors = cursors

    async def now(self) -> str:
        generation, position = await self._store.router.position()
        return self._cursors.make("latest", (generation, position))

    async def at(self, position: int) -> str:
        generation, _ = await self._store.router.position()
        return self._cursors.make("latest", (generation, position))

    async def read(self, text: str) -> int:
        """Return the position. Raises Refusal: cursor-invalid, cursor-expired."""
        generation, position = self._cursors.read("latest", text, tuple[int, int])
        if generation != (await self._store.router.position())[0]:
            raise Refusal("cursor-expired", "the database was restored since: read again", 409)
        return position


class Timelines:
    def __init__(self, hub: Running, people: People, cursors: Cursors, latest: Latest) -> None:
        self._hub = hub
        self._people = people
        self._cursors = cursors
        self._latest = latest
        self._entries = hub.store.table(Entry)
        self._amendments = hub.store.table(AmendmentDoc)
        self._addresses = hub.store.table(AddressDoc)

    def routes(self) -> list[PluginRoute]:
        return [
            PluginRoute(
                method="GET",
                path="/api/v1/customers/{customer}/timeline",
                handler=self.timeline,
                scope="customers:read",
                operation=operation(
                    "A customer's whole history across channels, newest first",
                    tag="customers",
                    answer=TimelinePage,
                    query=TimelineQuery,
                    problems=(400, 410),
                    description="`next_cursor` goes into `before`. `latest` goes into a reply's"
                    " `seen_up_to`.",
                ),
            ),
            PluginRoute(
                method="GET",
                path="/api/v1/entries/{entry}",
                handler=self.entry,
                scope="customers:read",
                operation=operation(
                    "One entry with its state and all that changed it",
                    tag="customers",
                    answer=EntryDetail,
                    problems=(410,),
                ),
            ),
        ]

    async def timeline(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        ident = path_id(request, "customer")
        query = read_query(request, TimelineQuery)
        purpose = f"timeline|{query.channel}|{query.q}"
        place: Place | None = None
        if query.before:
            place = self._cursors.read(purpose, query.before, tuple[int, int])
        person = await self._people.find(caller, ident)
        latest = await self._latest.now()  # before the entries: what comes between is not seen
        entries, behind = await self._page(caller, person, query, place)
        return answer(
            TimelinePage(
                customer=person.customer.id,
                merged_from=person.merged_from,
                entries=[entry_view(entry) for entry in entries],
                remarks=self._remarks(person),
                next_cursor=self._cursors.make(purpose, behind) if behind else None,
                latest=latest,
            )
        )

    def _remarks(self, person: Person) -> list[Remark]:
        """Say where answers may be missing: what was given outside the hub nobody tells it."""
        places = dict.fromkeys((doc.channel, doc.account) for doc in person.addresses)
        return [
            Remark(
                channel=channel,
                account=account,
                kind="foreign_answers_unseen",
                text=f"Answers given outside the hub on {channel}:{account} are not shown here.",
            )
            for channel, account in places
            if (connector := self._hub.connectors.get((channel, account))) is not None
            and not connector.capabilities.sees_foreign_answers
        ]

    async def _page(
        self, caller: ApiKey, person: Person, query: TimelineQuery, place: Place | None
    ) -> tuple[list[Entry], Place | None]:
        """Return a page and the place behind it; None when it is the last one."""
        addresses = [doc.id for doc in person.addresses]
        if person.private:
            addresses.append(person.private)
        where = _filter(caller, query)
        shown: list[Entry] = []
        for _ in range(ROUNDS):
            found = await self._merged(addresses, where, place, query.limit + 1)
            more = len(found) > query.limit
            found = found[: query.limit]
            for entry in await self._people.visible_entries(caller, found):
                shown.append(entry)
                if len(shown) == query.limit:
                    more = more or entry is not found[-1]
                    return shown, _place(entry) if more else None
            if not more:
                return shown, None
            place = _place(found[-1])
        return shown, place

    async def _merged(
        self, addresses: Sequence[str], where: dict[str, Any], place: Place | None, limit: int
    ) -> list[Entry]:
        found: list[Entry] = []
        for start in range(0, len(addresses), SLICE):
            here = {"address": {"$in": list(addresses[start : start + SLICE])}, **where}
            found += await self._entries.find(
                {**here, **behind(place)}, sort=[("at", -1), ("position", -1)], limit=limit
            )
        if len(addresses) > SLICE:
            found.sort(key=lambda entry: (entry.at, entry.position), reverse=True)
        return found[:limit]

    async def entry(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        entry = await self._people.entry(caller, path_id(request, "entry"))
        changes = await self._amendments.find(
            {"target": entry.id}, sort=[("position", 1)], limit=CHANGES_SHOWN
        )
        address = await self._addresses.get(entry.address)
        return answer(
            EntryDetail(
                entry=entry_view(entry),
                customer=address.customer if address is not None else None,
                changes=[change_view(each) for each in changes],
            )
        )


def _filter(caller: ApiKey, query: TimelineQuery) -> dict[str, Any]:
    where: dict[str, Any] = {}
    if query.channel:
        where["channel"] = query.channel
    elif caller.limited:
        channels = {each.partition(":")[0] for each in caller.accounts}
        where["channel"] = {"$in": sorted({*channels, PRIVATE_CHANNEL})}
    if query.q:
        where["parts.text"] = {"$regex": f"(?i){re.escape(query.q)}"}
    return where


def behind(place: Place | None) -> dict[str, Any]:
    """Return the condition for what comes after a place, in the form that the index merges."""
    if place is None:
        return {}
    at = datetime.fromtimestamp(place[0] / 1000, UTC)
    return {"at": {"$lte": at}, "$or": [{"at": {"$lt": at}}, {"position": {"$lt": place[1]}}]}


def _place(entry: Entry) -> Place:
    return round(entry.at.timestamp() * 1000), entry.position
