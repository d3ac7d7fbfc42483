"""The console's routes: pages for people who are signed in, and what their script asks for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

import jinja2
import msgspec
from aiohttp import web

from hub.api.access import ACCESS, authorize, hand_over
from hub.api.accounts import AccountsPage
from hub.api.keys import ApiKey
from hub.api.people import People
from hub.api.routes import ROUTES
from hub.api.sessions import COOKIE
from hub.api.views import (
    ConversationView,
    CustomerDetail,
    CustomerPage,
    CustomerView,
    TimelinePage,
    conversation_view,
)
from hub.console.lines import Line, hue, lines, safe
from hub.documents import Conversation, Entry
from hub.feed.access import Selection
from hub.feed.routes import feed_of
from hub.planning.rules import Refusal
from normalizer.capabilities import Capabilities
from normalizer.drafts import DeliveryState
from normalizer.parts import plain_text

if TYPE_CHECKING:
    from hub.running import Running

SCOPE = "customers:read"
CONVERSATIONS = 20
PREVIEW_CHARS = 120
HERE = Path(__file__).parent
FILES = {"console.css": "text/css", "console.js": "text/javascript"}
ICON = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path fill="#1d6f6a"'
    b' d="M12 3h8a10 10 0 0 1 10 10v4a10 10 0 0 1-10 10H7a4 4 0 0 1-4-4V13a10 10 0 0 1 9-10z"/>'
    b"</svg>"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    url: str


class Dealing(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation as the side panel shows it."""

    state: str
    subject: str
    facts: tuple[str, ...]
    tickets: tuple[Ticket, ...]


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """A customer in the list."""

    id: str
    name: str
    initial: str
    hue: int
    at: Any
    text: str
    channels: tuple[tuple[str, int], ...]
    waiting: bool


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """What the script needs to bring a page up to date.

    ``speaks`` is the address through which the customer spoke last.
    """

    lines: list[Line]
    latest: str
    speaks: str
    dealings: list[Dealing]


async def add_console(app: web.Application, hub: Running) -> None:
    """Add the pages below /console."""
    console = Console(app, hub)
    add = app.router.add_get
    add("/console", console.home)
    add("/console/", console.page(console.customers))
    add("/console/accounts", console.page(console.accounts))
    add("/console/customers/{customer}", console.page(console.customer))
    add("/console/customers/{customer}/lines", console.page(console.lines, plain=True))
    add("/console/files/{name}", console.file)
    app.router.add_post("/console/signout", console.page(console.sign_out))


class Console:
    def __init__(self, app: web.Application, hub: Running) -> None:
        self._hub = hub
        self._access = app[ACCESS]
        self._people = People(hub.store)
        self._feed = feed_of(hub)
        self._api = {(route.method, route.path): route for route in app[ROUTES]}
        self._files = {name: (kind, (HERE / name).read_bytes()) for name, kind in FILES.items()}
        self._files["icon.svg"] = ("image/svg+xml", ICON)
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )

    @property
    def _base(self) -> str:
        """The path under which the world reaches the hub; "" without a prefix."""
        return urlsplit(self._hub.web.public_url).path.rstrip("/")

    # --- getting in ------------------------------------------------------------------------------

    def page(self, handler: Handler, *, plain: bool = False) -> Handler:
        """Let only those in who are signed in; tell others what to do, on a page of their own."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                caller = await self._access.authenticate(request)
                authorize(caller, SCOPE)
                hand_over(request, caller)
                return await handler(request)
            except Refusal as refusal:
                if plain:
                    raise _http_error(refusal) from refusal
                return self._sorry(refusal)

        return guarded

    def _sorry(self, refusal: Refusal) -> web.Response:
        return self._render("sorry.html", refusal.status, refusal=refusal)

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        await self._access.sessions.sign_out(request.cookies.get(COOKIE, ""))
        response = self._sorry(Refusal("unauthorized", "You are signed out.", 401))
        response.set_status(200)
        response.del_cookie(COOKIE, path="/")
        return response

    async def home(self, request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"{self._base}/console/")

    async def file(self, request: web.Request) -> web.StreamResponse:
        """Serve the style and the script, which hold no data, to anybody."""
        kind, body = self._files.get(request.match_info["name"], ("", b""))
        if not kind:
            raise web.HTTPNotFound
        return web.Response(
            body=body,
            content_type=kind,
            charset="utf-8",
            headers={"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"},
        )

    # --- pages -----------------------------------------------------------------------------------

    async def customers(self, request: web.Request) -> web.StreamResponse:
        caller: ApiKey = request["api_key"]
        page = await self._ask(request, "/api/v1/customers", CustomerPage)
        shown = [await self._preview(caller, customer) for customer in page.customers]
        shown.sort(key=lambda each: each.at, reverse=True)
        _, end = await self._feed.reader.end()
        return self._render(
            "customers.html",
            caller=caller,
            customers=shown,
            q=request.query.get("q", ""),
            more=page.next_cursor,
            first=not request.query.get("cursor"),
            cursor=self._feed.cursors.text(
                self._feed.reader.generation, end, Selection(types=("message.*",))
            ),
        )

    async def accounts(self, request: web.Request) -> web.StreamResponse:
        """How the accounts do, the worst first; to look at only."""
        page = await self._ask(request, "/api/v1/accounts", AccountsPage)
        shown = sorted(page.accounts, key=lambda each: each.state == "ok")
        return self._render("accounts.html", caller=request["api_key"], accounts=shown)

    async def customer(self, request: web.Request) -> web.StreamResponse:
        caller: ApiKey = request["api_key"]
        _, end = await self._feed.reader.end()  # before the rest: nothing may come in between
        detail = await self._ask(request, "/api/v1/customers/{customer}", CustomerDetail)
        customer = detail.customer
        if detail.merged_from is not None:
            raise web.HTTPFound(f"{self._base}/console/customers/{customer.id}")
        timeline, dealings, found = await self._timeline(request, customer)
        return self._render(
            "customer.html",
            caller=caller,
            customer=customer,
            name=_name(customer),
            initial=_initial(_name(customer)),
            hue=hue(customer.id),
            lines=found,
            remarks=_remarks(timeline),
            dealings=dealings,
            addresses=[(each, hue(each.channel)) for each in customer.addresses],
            targets=_targets(customer, timeline),
            may_answer=caller.allows("replies:write"),
            latest=timeline.latest,
            older=timeline.next_cursor,
            newest=not request.query.get("before"),
            cursor=self._feed.cursors.text(
                self._feed.reader.generation, end, Selection(customer=customer.id)
            ),
        )

    async def lines(self, request: web.Request) -> web.StreamResponse:
        """Answer the script with the newest lines of a customer."""
        detail = await self._ask(request, "/api/v1/customers/{customer}", CustomerDetail)
        timeline, dealings, found = await self._timeline(request, detail.customer)
        spoke = [entry.address for entry in timeline.entries if entry.direction == "in"]
        update = Update(
            lines=found,
            latest=timeline.latest,
            speaks=spoke[0] if spoke else "",
            dealings=dealings,
        )
        return web.Response(
            body=msgspec.json.encode(update),
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    async def _timeline(
        self, request: web.Request, customer: CustomerView
    ) -> tuple[TimelinePage, list[Dealing], list[Line]]:
        caller: ApiKey = request["api_key"]
        timeline = await self._ask(request, "/api/v1/customers/{customer}/timeline", TimelinePage)
        held = await self._hub.store.table(Conversation).find(
            {"customer": customer.id}, sort=[("_id", -1)], limit=CONVERSATIONS
        )
        seen = await self._people.visible_conversations(caller, held)
        conversations = [conversation_view(each) for each in seen]
        found = lines(
            timeline.entries,
            conversations if not request.query.get("before") else (),
            _name(customer),
            self._base,
            whole=timeline.next_cursor is None,
        )
        return timeline, [_dealing(each) for each in conversations], found

    async def _preview(self, caller: ApiKey, customer: CustomerView) -> Preview:
        last = await self._last(caller, [each.id for each in customer.addresses])
        name = _name(customer)
        text = ""
        if last is not None:
            said = "This message was recalled." if last.recalled else plain_text(last.parts)
            words = " ".join((said or last.subject).split())
            text = words[:PREVIEW_CHARS]
        channels = dict.fromkeys(each.channel for each in customer.addresses if each.channel)
        return Preview(
            id=customer.id,
            name=name,
            initial=_initial(name),
            hue=hue(customer.id),
            at=last.at if last else customer.seen_at,
            text=text if last is None or last.direction != "out" else f"{_said(last)}: {text}",
            channels=tuple((channel, hue(channel)) for channel in channels),
            waiting=bool(customer.open_conversations)
            and last is not None
            and (last.direction == "in" or _said(last) != "You"),
        )

    async def _last(self, caller: ApiKey, addresses: Sequence[str]) -> Entry | None:
        found = await self._hub.store.table(Entry).find(
            {"address": {"$in": list(addresses)}}, sort=[("at", -1), ("position", -1)], limit=5
        )
        seen = await self._people.visible_entries(caller, found)
        said = [entry for entry in seen if entry.kind == "message"]
        return said[0] if said else None

    # ---------------------------------------------------------------------------------------------

    async def _ask(self, request: web.Request, path: str, kind: type[T]) -> T:
        """Return what the API itself answers this caller. Raises Refusal as the API does."""
        route = self._api[("GET", path)]
        authorize(request["api_key"], route.scope)
        response = await route.handler(request)
        assert isinstance(response, web.Response)
        assert isinstance(response.body, bytes)
        return msgspec.json.decode(response.body, type=kind)

    def _render(self, template: str, status: int = 200, **values: Any) -> web.Response:
        text = self._templates.get_template(template).render(
            base=self._base, quote=lambda text: quote(text, safe=""), **values
        )
        return web.Response(
            text=text, status=status, content_type="text/html", headers=dict(_HEADERS)
        )


def _http_error(refusal: Refusal) -> web.HTTPException:
    kinds: dict[int, type[web.HTTPException]] = {
        401: web.HTTPUnauthorized,
        403: web.HTTPForbidden,
        404: web.HTTPNotFound,
        429: web.HTTPTooManyRequests,
    }
    if refusal.status == 410:
        return web.HTTPGone()
    return kinds.get(refusal.status, web.HTTPBadRequest)()


def _name(customer: CustomerView) -> str:
    """Return what to call a customer: its name, or one of its addresses."""
    if customer.name:
        return customer.name
    for address in customer.addresses:
        if address.profile is not None and address.profile.name:
            return address.profile.name
    for address in customer.addresses:
        return address.address.rpartition(":")[2]
    return "Somebody"


def _said(answer: Entry) -> str:
    """Return who said the last words; that they did not arrive must not look like an answer."""
    state = answer.delivery.state if answer.delivery is not None else None
    if state is DeliveryState.FAILED:
        return "Not sent"
    return "Sent? No answer came" if state is DeliveryState.UNKNOWN else "You"


def _remarks(timeline: TimelinePage) -> list[str]:
    """Return what is missing in a timeline, in as few words as it can be told."""
    unseen = [each for each in timeline.remarks if each.kind == "foreign_answers_unseen"]
    rest = [each.text for each in timeline.remarks if each not in unseen]
    if len(unseen) < 2:
        return [*(each.text for each in unseen), *rest]
    accounts = ", ".join(f"{each.channel}:{each.account}" for each in unseen)
    return [f"Answers given outside the hub on {accounts} are not shown here.", *rest]


def _initial(name: str) -> str:
    return next((char for char in name if char.isalnum()), "?").upper()


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where an answer can go. ``account`` is named where nobody was heard there before."""

    id: str
    channel: str
    address: str
    account: str = ""
    most: int  # characters; 0 = no limit is known


def _targets(customer: CustomerView, timeline: TimelinePage) -> list[Target]:
    """Return where an answer can go, first where the customer spoke last.

    Behind all of these come the ways that only somebody's choice opens: to text a caller.
    """
    spoke = [entry.address for entry in timeline.entries if entry.direction == "in"]
    order = {address: place for place, address in reversed(list(enumerate(spoke)))}
    can = [
        each
        for each in customer.addresses
        if each.can_reply and each.capabilities is not None and "text" in each.capabilities.sends
    ]
    can.sort(key=lambda each: order.get(each.id, len(spoke)))
    usual = [
        Target(
            id=each.id, channel=each.channel, address=each.address, most=_most(each.capabilities)
        )
        for each in can
    ]
    chosen = [
        Target(
            id=each.id,
            channel=way.channel,
            address=each.address,
            account=way.account,
            most=_most(way.capabilities),
        )
        for each in customer.addresses
        for way in each.also_by
        if way.capabilities.free_text and "text" in way.capabilities.sends
    ]
    return [*usual, *chosen]


def _most(can: Capabilities | None) -> int:
    return (can.max_text_chars or 0) if can is not None else 0


def _dealing(conversation: ConversationView) -> Dealing:
    facts = [f"assigned to {conversation.assignee}"] if conversation.assignee else []
    facts += [f"priority {conversation.priority}"] if conversation.priority != "normal" else []
    facts += [f"#{tag}" for tag in conversation.tags]
    return Dealing(
        state=conversation.state,
        subject=conversation.subject,
        facts=tuple(facts),
        tickets=tuple(
            Ticket(
                text=f"{ticket.backend} {ticket.number or ticket.id}"
                + (f" · {ticket.status}" if ticket.status else ""),
                url=safe(ticket.url),
            )
            for ticket in conversation.tickets
        ),
    )
