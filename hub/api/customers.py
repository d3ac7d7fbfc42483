"""Finding customers, and one customer's page: profile, addresses, what is open."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta

from hub.api.bodies import Input, answer, path_id, read_query
from hub.api.cursors import Cursors
from hub.api.keys import ApiKey
from hub.api.openapi import operation
from hub.api.people import People
from hub.api.views import (
    AddressLimits,
    AddressView,
    CustomerDetail,
    CustomerPage,
    CustomerView,
    OtherWayView,
    QuotaView,
    WindowView,
    address_view,
    conversation_view,
    customer_view,
)
from hub.api.ways import other_ways
from hub.documents import AddressDoc, Conversation, Customer
from hub.outbound.limits import limits_of
from hub.planning.rules import Refusal
from hub.plugin_context import PluginRoute
from normalizer.addresses import AddressError, canonical, mailbox, parse_address, phone

if TYPE_CHECKING:
    from hub.running import Running

Limit = Annotated[int, Meta(ge=1, le=200, description="How many at most.")]
CursorText = Annotated[
    str, Meta(max_length=500, description="`next_cursor` of the page before this one.")
]
ROUNDS = 20  # reads that one page may take when much of it is not for the caller


class CustomersQuery(Input, frozen=True, kw_only=True):
    address: Annotated[
        str,
        Meta(
            max_length=600,
            description="An address: its id, its canonical text, a mailbox or a phone number.",
        ),
    ] = ""
    q: Annotated[str, Meta(max_length=200, description="A part of the name, or an address.")] = ""
    cursor: CursorText = ""
    limit: Limit = 50


class Customers:
    def __init__(self, hub: Running, people: People, cursors: Cursors) -> None:
        self._hub = hub
        self._people = people
        self._cursors = cursors
        self._customers = hub.store.table(Customer)
        self._addresses = hub.store.table(AddressDoc)

    def routes(self) -> list[PluginRoute]:
        return [
            PluginRoute(
                method="GET",
                path="/api/v1/customers",
                handler=self.find,
                scope="customers:read",
                operation=operation(
                    "Find customers, seen last first",
                    tag="customers",
                    answer=CustomerPage,
                    query=CustomersQuery,
                    problems=(400,),
                ),
            ),
            PluginRoute(
                method="GET",
                path="/api/v1/customers/{customer}",
                handler=self.show,
                scope="customers:read",
                operation=operation(
                    "One customer with addresses, capabilities and open conversations",
                    tag="customers",
                    answer=CustomerDetail,
                    problems=(410,),
                    description="The id of a merged customer answers with the one it is now, and"
                    " `merged_from` says so.",
                ),
            ),
        ]

    # --- one -------------------------------------------------------------------------------------

    async def show(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        person = await self._people.find(caller, path_id(request, "customer"))
        held = await self._hub.store.table(Conversation).get_many(person.customer.open)
        found = [held[each] for each in person.customer.open if each in held]
        seen = await self._people.visible_conversations(caller, found)
        return answer(
            CustomerDetail(
                customer=customer_view(
                    person.customer,
                    [self._address(caller, doc) for doc in person.addresses],
                    [each.id for each in seen],
                ),
                merged_from=person.merged_from,
                conversations=[conversation_view(each) for each in reversed(seen)],
                limits=[
                    limits
                    for doc in person.addresses
                    if (limits := await self._limits(doc)) is not None
                ],
            )
        )

    async def _limits(self, doc: AddressDoc) -> AddressLimits | None:
        connector = self._hub.connectors.get((doc.channel, doc.account))
        if connector is None:
            return None
        can = connector.capabilities
        if not (can.windows or can.quotas):
            return None
        now = self._hub.clock.now()
        windows, quotas = await limits_of(self._hub.store, can, doc, now)
        spent = any(each.sends_left == 0 and not each.templates for each in quotas)
        may = not windows or any(each.open and each.sends_left != 0 for each in windows)
        return AddressLimits(
            address=doc.id,
            can_send=may and not spent,
            windows=[WindowView(**msgspec.structs.asdict(each)) for each in windows],
            quotas=[QuotaView(**msgspec.structs.asdict(each)) for each in quotas],
        )

    def _address(self, caller: ApiKey, doc: AddressDoc) -> AddressView:
        connector = self._hub.connectors.get((doc.channel, doc.account))
        can = connector.capabilities if connector is not None else None
        on = self._hub.switches.outbound_on(doc.channel, doc.account)
        also_by = [
            OtherWayView(
                channel=way.channel,
                account=way.account,
                capabilities=self._hub.connectors[(way.channel, way.account)].capabilities,
            )
            for way in other_ways(self._hub.connectors, doc)
            if caller.sees(way.channel, way.account)
            and self._hub.switches.outbound_on(way.channel, way.account)
        ]
        return address_view(doc, can, can_reply=bool(can and can.sends and on), also_by=also_by)

    # --- many ------------------------------------------------------------------------------------

    async def find(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        query = read_query(request, CustomersQuery)
        if query.address:
            return answer(await self._at(caller, self._address_id(query.address)))
        if query.q and (ident := self._named_address(query.q)):
            page = await self._at(caller, ident)
            if page.customers:
                return answer(page)
        return answer(await self._page(caller, query))

    def _address_id(self, text: str) -> str:
        if text.startswith("adr_"):
            return text
        try:
            if ":" in text:
                found = parse_address(text)
            elif "@" in text:
                found = mailbox(text)
            else:
                number = phone(text, self._hub.settings.default_region)
                if number is None:
                    raise AddressError("this is no phone number")
                found = number
            return self._hub.key.hashed("adr", canonical(found))
        except AddressError as error:
            raise Refusal("bad-request", f"address: {error}", 422) from error

    def _named_address(self, text: str) -> str | None:
        try:
            return self._address_id(text)
        except Refusal:
            return None  # just words

    async def _at(self, caller: ApiKey, address: str) -> CustomerPage:
        doc = await self._addresses.get(address)
        if doc is None or doc.erased or doc.customer is None or doc.private:
            return CustomerPage(customers=[], next_cursor=None)
        customer = await self._people.canonical(doc.customer)
        found = [customer] if customer is not None and not customer.erased else []
        views = await self._views(caller, found)
        return CustomerPage(customers=list(views.values()), next_cursor=None)

    async def _page(self, caller: ApiKey, query: CustomersQuery) -> CustomerPage:
        """Read pages until one is full: aliases, and what the caller may not see, drop out."""
        purpose = f"customers|{query.q}"
        place: tuple[int, str] | None = None
        if query.cursor:
            place = self._cursors.read(purpose, query.cursor, tuple[int, str])
        shown: list[CustomerView] = []
        more = True
        for _ in range(ROUNDS):
            found = await self._customers.find(
                self._where(query.q, place),
                sort=[("seen_at", -1), ("_id", -1)],
                limit=query.limit + 1,
            )
            more = len(found) > query.limit
            views = await self._views(caller, found[: query.limit])
            for customer in found[: query.limit]:
                place = (_milliseconds(customer.seen_at), customer.id)
                if customer.id in views:
                    shown.append(views[customer.id])
                if len(shown) == query.limit:
                    more = customer is not found[-1]
                    break
            if len(shown) == query.limit or not more:
                break
        return CustomerPage(
            customers=shown,
            next_cursor=self._cursors.make(purpose, place) if more and place else None,
        )

    def _where(self, q: str, place: tuple[int, str] | None) -> dict[str, Any]:
        where: dict[str, Any] = {"alias_of": None, "erased": {"$ne": True}}
        if q:
            if self._hub.settings.encrypt != "none":
                raise Refusal(
                    "unsupported", "names are encrypted in this space: search by address", 422
                )
            where["name"] = {"$regex": f"(?i){re.escape(q)}"}
        if place is not None:
            at = datetime.fromtimestamp(place[0] / 1000, UTC)
            where["seen_at"] = {"$lte": at}
            where["$or"] = [{"seen_at": {"$lt": at}}, {"_id": {"$lt": place[1]}}]
        return where

    async def _views(self, caller: ApiKey, found: Sequence[Customer]) -> dict[str, CustomerView]:
        """Return a view of each customer that the caller may see, by id."""
        idents = [each for customer in found for each in customer.addresses]
        docs = await self._addresses.get_many(idents)
        views = {}
        for customer in found:
            mine = [docs[each] for each in customer.addresses if each in docs]
            reached = [doc for doc in mine if not doc.private]
            seen = await self._people.visible_addresses(caller, reached)
            if seen or not caller.limited:
                opened = await self._open(caller, customer)
                addresses = [self._address(caller, doc) for doc in seen]
                views[customer.id] = customer_view(customer, addresses, opened)
        return views

    async def _open(self, caller: ApiKey, customer: Customer) -> list[str]:
        if not caller.limited:
            return list(customer.open)
        held = await self._hub.store.table(Conversation).get_many(customer.open)
        seen = await self._people.visible_conversations(caller, list(held.values()))
        return [each.id for each in seen]


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
