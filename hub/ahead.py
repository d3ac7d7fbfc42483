"""What a batch needs before it can be planned: 1 its items 2 their drafts 3 routes 4 documents.

All of it is only read, so the router lets it be done for the next batch while the one before
commits. What that one changes is laid over it afterwards (:meth:`Workspace.take`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any

import msgspec
import structlog

from hub.documents import (
    AddressDoc,
    Alias,
    AmendmentDoc,
    Conversation,
    Customer,
    Doc,
    Entry,
    InboxItem,
    Job,
    Thread,
)
from hub.planning.entries import alias_id, entry_id
from hub.planning.identity import address_id
from hub.planning.relaying import relay_job_ids
from hub.planning.rules import Route, Rules
from hub.planning.threads import rows_of_hints
from hub.planning.workspace import Find, Loads, Workspace
from hub.preparing import Poisoned, Prepared, Preparer
from hub.steps import reached
from hub.store.interface import Store, StoreError
from normalizer.drafts import Message

log = structlog.get_logger(__name__)

BATCH_BYTES = 4 * 1024 * 1024

ChooseRoutes = Callable[[Sequence[Message]], Awaitable[Sequence[Route | Poisoned | None]]]
MakeRules = Callable[[], Rules]


class Ready(msgspec.Struct):
    """Items that can be planned without asking for much more."""

    prepared: list[Prepared]
    routes: dict[int, Route | None]  # by id() of the message
    loads: Loads


class Ahead(msgspec.Struct):
    """The next items, and what was made ready of them; None if that went wrong."""

    items: list[InboxItem]
    ready: Ready | None = None


class Lookout:
    """Fetches items and makes them ready; changes nothing."""

    def __init__(
        self, store: Store, preparer: Preparer, make_rules: MakeRules, choose_routes: ChooseRoutes
    ) -> None:
        self._store = store
        self._preparer = preparer
        self._make_rules = make_rules
        self._choose_routes = choose_routes

    async def fetch(self, limit: int, but: Collection[str] = ()) -> list[InboxItem]:
        """Return the oldest unrouted items, except those that are in flight."""
        items = await self._store.inbox.unrouted(limit, BATCH_BYTES, but)
        reached("router.1")
        return items

    async def next(self, limit: int, but: Collection[str], ws: Workspace) -> Ahead:
        """Fetch a batch and make it ready; leave to the router whatever goes wrong with it."""
        items = await self.fetch(limit, but)
        if not items:
            return Ahead(items)
        try:
            return Ahead(items, await self.ready(items, ws))
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - the router finds out whose it is
            log.info("batch_not_ready", items=len(items), reason=f"{type(error).__name__}: {error}")
            return Ahead(items)

    async def ready(self, items: Sequence[InboxItem], ws: Workspace) -> Ready:
        """Prepare the items, ask the plugins where they go, read what most of them will need."""
        prepared = await self._preparer.prepare(items)
        reached("router.2")
        routes = await self._routes(prepared)
        return Ready(prepared, routes, await self._read(self._make_rules(), prepared, ws))

    async def _routes(self, prepared: Sequence[Prepared]) -> dict[int, Route | None]:
        """Ask the plugins where conversations go; a message they choke on poisons its item."""
        asked = [(one, message) for one in prepared for message in one.messages]
        if not asked:
            return {}
        answers = await self._choose_routes([message for _, message in asked])
        routes: dict[int, Route | None] = {}
        for (one, message), answer in zip(asked, answers, strict=True):
            if isinstance(answer, Poisoned):
                one.error = answer
            else:
                routes[id(message)] = answer
        return routes

    # --- reading -------------------------------------------------------------------------------

    async def _read(self, rules: Rules, prepared: Iterable[Prepared], ws: Workspace) -> Loads:
        """Ask a few large questions instead of many small ones."""
        entries: list[str] = []
        addresses: list[str] = []
        aliases: list[str] = []
        threads: list[str] = []
        jobs: list[str] = []
        for one in prepared:
            jobs += relay_job_ids(rules, one.item).values()
            if one.error is not None:
                continue
            for draft in one.entries:
                try:
                    entries.append(entry_id(rules, one.item.channel, one.item.account, draft))
                    addresses.append(address := address_id(rules, draft.address))
                except ValueError:
                    continue  # planning the item will say what is wrong with it
                aliases += [
                    alias_id(rules, one.item.channel, one.item.account, vendor_id)
                    for vendor_id in draft.vendor_ids
                ]
                if isinstance(draft, Message):
                    threads += rows_of_hints(rules, one.item, address, draft)
        loads = Loads()
        await self._fetch(loads, Job, jobs)
        await self._fetch(loads, Entry, dict.fromkeys(entries))
        await self._fetch(loads, Alias, dict.fromkeys(aliases))
        await self._fetch(loads, Thread, ws.missing(Thread, dict.fromkeys(threads)))
        unknown = ws.missing(AddressDoc, dict.fromkeys(addresses))
        found = await self._fetch(loads, AddressDoc, unknown)
        owners = dict.fromkeys(doc.customer for doc in found if doc.customer)
        customers = await self._fetch(loads, Customer, ws.missing(Customer, owners))
        open_ones = dict.fromkeys(
            ident for doc in customers for ident in (*doc.open, *doc.last_closed)
        )
        await self._fetch(loads, Conversation, ws.missing(Conversation, open_ones))
        await self._fetch_waiting(loads, [*entries, *aliases])
        return loads

    async def _fetch(self, loads: Loads, kind: type[Doc], ids: Iterable[str]) -> list[Any]:
        wanted = list(ids)
        if not wanted:
            return []
        docs = await self._store.table(kind).get_many(wanted)
        loads.docs.append((kind, wanted, docs))
        return list(docs.values())

    async def _fetch_waiting(self, loads: Loads, targets: Sequence[str]) -> None:
        """Find amendments that came before their entry: nearly always there are none."""
        if not targets:
            return
        waiting = await self._store.table(AmendmentDoc).find(
            {"target": {"$in": list(targets)}, "waiting": True}
        )
        by_target: dict[str, list[AmendmentDoc]] = {target: [] for target in targets}
        for amendment in waiting:
            by_target[amendment.target].append(amendment)
        for target, amendments in by_target.items():
            query = Find(AmendmentDoc, (("target", "=", target), ("waiting", "=", True)))
            loads.found.append((query, amendments))
