"""The feed's routes, for hub/api/routes.py to mount, and what ends them when the hub stops."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from weakref import WeakKeyDictionary

import msgspec
from aiohttp import web

from hub.api.access import ACCESS, ANYBODY, PUBLIC
from hub.api.bodies import answer
from hub.api.openapi import operation
from hub.clock import Clock
from hub.feed.access import rights_of
from hub.feed.asking import asked
from hub.feed.asyncapi import data_schema, document
from hub.feed.consumers import Consumer, Consumers, Put
from hub.feed.cursors import Cursors
from hub.feed.pages import MAX_LIMIT, MAX_WAIT_S, Pages
from hub.feed.reader import Reader
from hub.feed.stream import Streams, Timing
from hub.feed.tail import FeedTail
from hub.feed.tickets import Tickets
from hub.ids import SpaceKey
from hub.planning.rules import Refusal
from hub.plugin_context import PluginRoute
from hub.store.interface import Store

if TYPE_CHECKING:
    from hub.running import Running

TAG = "feed"
_LIMITED = "Needs `feed:read`, or `feed:read:` and a pattern of types like `message.*`."


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    types: Annotated[
        str, msgspec.Meta(description="Patterns like `message.*,ticket.linked`; empty = all.")
    ] = ""
    channel: Annotated[str, msgspec.Meta(description="Only what happened on this channel.")] = ""
    customer: Annotated[str, msgspec.Meta(description="Only what concerns this customer.")] = ""
    cursor: Annotated[
        str,
        msgspec.Meta(
            description="Where to go on: the last `next_cursor`, or `tail` for now. Without one,"
            " the start of what is kept."
        ),
    ] = ""


class PageQuery(Filters, frozen=True, kw_only=True):
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT)] = 100
    wait: Annotated[
        int,
        msgspec.Meta(ge=0, le=MAX_WAIT_S, description="Seconds to wait for the first event."),
    ] = 0


class StreamQuery(Filters, frozen=True, kw_only=True):
    ticket: Annotated[
        str, msgspec.Meta(description="In the place of a key: a ticket from stream-tickets.")
    ] = ""


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Events in order, and the cursor behind them: keep it, also when there are none."""

    events: list[dict[str, Any]]
    next_cursor: str
    has_more: bool


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """Opens one stream, until ``expires_at`` (UTC)."""

    ticket: str
    expires_at: datetime


class ConsumerList(msgspec.Struct, frozen=True, kw_only=True):
    consumers: list[Consumer]


class Feed:
    """All ways in which the outside reads this process' feed."""

    def __init__(
        self,
        store: Store,
        key: SpaceKey,
        tail: FeedTail,
        clock: Clock,
        *,
        space: str,
        base_url: Callable[[], str],
        timing: Timing | None = None,
    ) -> None:
        self._base_url = base_url
        self.cursors = Cursors(key)
        self.reader = Reader(store, space=space, base_url=base_url)
        self.pages = Pages(self.reader, self.cursors, tail)
        self.streams = Streams(self.reader, self.pages, self.cursors, tail, timing or Timing())
        self.tickets = Tickets(store, clock)
        self.consumers = Consumers(store, self.reader, self.cursors, clock)

    async def close(self, app: web.Application | None = None) -> None:
        """End streams and long polls, so that nothing keeps the hub from stopping."""
        self.pages.close()
        self.streams.close()

    # --- requests that need more than one part ---------------------------------------------------

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Start a stream; the id that the client saw last wins over ``cursor``."""
        ticket = request.query.get("ticket")
        if ticket is None:
            caller = await request.app[ACCESS].authenticate(request)
        else:
            redeemed = await self.tickets.redeem(ticket)
            if redeemed is None:
                raise Refusal("unauthorized", "this ticket was used, or is too old", 401)
            caller = redeemed
        question = asked(request, "ticket", rights=rights_of(caller))
        last = request.headers.get("Last-Event-ID", "")
        if last:
            question = msgspec.structs.replace(question, cursor=last)
        return await self.streams.serve(request, question)

    async def give_ticket(self, request: web.Request) -> web.StreamResponse:
        caller = request["api_key"]
        rights_of(caller)
        ticket, dies_at = await self.tickets.give(caller)
        return answer(Ticket(ticket=ticket, expires_at=dies_at), 201)

    async def describe(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(document(self._base_url()))

    async def schema(self, request: web.Request) -> web.StreamResponse:
        found = data_schema(request.match_info["type"], self._base_url())
        if found is None:
            raise Refusal("not-found", "there is no event of this type; see /asyncapi.json", 404)
        return web.json_response(found, content_type="application/schema+json")

    # --- what is mounted -------------------------------------------------------------------------

    def routes(self) -> list[PluginRoute]:
        """Return the routes. Their scope is checked here: ``feed:read`` may be limited to types."""
        consumers = self.consumers
        return [
            _route(
                "GET",
                "/feed/v1/events",
                self.pages.handle,
                "Read the feed, page by page",
                answer=EventPage,
                query=PageQuery,
                problems=(400, 410),
            ),
            _route(
                "GET",
                "/feed/v1/stream",
                self.stream,
                "Read the feed as server-sent events",
                scope=PUBLIC,
                query=StreamQuery,
                problems=(400, 401, 403, 410, 429),
            ),
            _route(
                "POST",
                "/feed/v1/stream-tickets",
                self.give_ticket,
                "Get a ticket that opens one stream",
                answer=Ticket,
                status=201,
            ),
            _route(
                "GET",
                "/feed/v1/consumers",
                consumers.list_all,
                "List consumers and how far behind they are",
                answer=ConsumerList,
            ),
            _route(
                "GET",
                "/feed/v1/consumers/{name}",
                consumers.show,
                "Read a consumer's cursor",
                answer=Consumer,
                problems=(400, 404),
            ),
            _route(
                "PUT",
                "/feed/v1/consumers/{name}",
                consumers.set,
                "Say up to where a consumer has processed the feed",
                answer=Consumer,
                body=Put,
                problems=(409,),
            ),
            _route(
                "DELETE",
                "/feed/v1/consumers/{name}",
                consumers.delete,
                "Forget a consumer",
                scope="feed:write",
                status=204,
                problems=(400, 404),
            ),
            _route("GET", "/asyncapi.json", self.describe, "The AsyncAPI document", scope=PUBLIC),
            _route(
                "GET",
                "/schemas/{type}.json",
                self.schema,
                "The JSON Schema of an event's data",
                scope=PUBLIC,
                problems=(404,),
            ),
        ]


def _route(
    method: str,
    path: str,
    handler: Callable[[web.Request], Any],
    summary: str,
    *,
    scope: str = ANYBODY,
    **described: Any,
) -> PluginRoute:
    return PluginRoute(
        method=method,
        path=path,
        handler=handler,
        scope=scope,
        operation=operation(
            summary,
            tag=TAG,
            description=_LIMITED if scope == ANYBODY else "",
            **described,
        ),
    )


_feeds: WeakKeyDictionary[Running, Feed] = WeakKeyDictionary()


def feed_of(hub: Running) -> Feed:
    """Return the hub's feed, made when it is asked for first."""
    feed = _feeds.get(hub)
    if feed is None:
        feed = _feeds[hub] = Feed(
            hub.store,
            hub.key,
            hub.tail,
            hub.clock,
            space=hub.settings.database,
            base_url=lambda: hub.web.public_url,
        )
    return feed


def feed_routes(hub: Running) -> list[PluginRoute]:
    """Return the routes, to be mounted behind keys; see also :func:`end_with`."""
    return feed_of(hub).routes()


def end_with(app: web.Application, hub: Running) -> None:
    """Let streams and long polls end as soon as the application is told to shut down."""
    app.on_shutdown.append(feed_of(hub).close)
