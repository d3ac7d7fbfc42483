"""Where agents work: the desk's routes under ``/api/v1/x/desk``.

Each write is durable first; then the hub is told at once what happened. If it cannot listen
now, the backend's poll tells it later from the log, under the same ids.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET

from hub import PluginContext, PluginRoute
from normalizer.tickets import Status
from plugins.desk import operations, requests
from plugins.desk.api_types import (
    EntryAdded,
    NewAnswer,
    NewNote,
    TicketChange,
    TicketChanged,
    TicketPage,
    TicketWithEntries,
    entry_out,
    ticket_out,
)
from plugins.desk.backend import queues_of
from plugins.desk.desk import (
    Added,
    Desk,
    KeyReused,
    MovedOn,
    NewEntry,
    NoTicket,
    NotPossible,
    Wanted,
)
from plugins.desk.documents import DeskEvent
from plugins.desk.ids import fresh_key
from plugins.desk.problems import Refuse
from plugins.desk.told import backend_events

READ = "desk:read"
WRITE = "desk:write"
PAGE = 50
MOST = 200
LAST_ORDER = 999_999_999

Handler = Callable[[web.Request], Awaitable[web.Response]]


class DeskRoutes:
    def __init__(self, context: PluginContext, desk: Desk) -> None:
        self._context = context
        self._desk = desk
        self._cursors = requests.Cursors(context.secret("cursors"))

    def register(self) -> None:
        for method, path, handler, scope, operation in (
            ("GET", "/tickets", self.list_tickets, READ, operations.LIST),
            ("GET", "/tickets/{id}", self.show, READ, operations.SHOW),
            ("POST", "/tickets/{id}/answers", self.answer, WRITE, operations.ANSWER),
            ("POST", "/tickets/{id}/notes", self.note, WRITE, operations.NOTE),
            ("PATCH", "/tickets/{id}", self.change, WRITE, operations.CHANGE),
        ):
            self._context.register_route(
                PluginRoute(
                    method=method,
                    path=path,
                    handler=_with_problems(handler),
                    scope=scope,
                    operation=operation,
                )
            )

    # --- reading -------------------------------------------------------------------------------

    async def list_tickets(self, request: web.Request) -> web.Response:
        filters: dict[str, Any] = {
            "status": requests.choice_of(request, "status", Status),
            "queue": requests.text_of(request, "queue", max_length=64),
            "assignee": requests.text_of(request, "assignee", max_length=100),
        }
        where = {name: value for name, value in filters.items() if value is not None}
        filters["q"] = requests.text_of(request, "q", max_length=200)
        if filters["q"]:
            here = {"$regex": f"(?i){re.escape(filters['q'])}"}
            where["$or"] = [{"number": here}, {"subject": here}, {"requester_name": here}]
        cursor = requests.text_of(request, "cursor", max_length=500)
        if cursor is not None:
            where["recency"] = {"$lt": self._cursors.place(cursor, filters)}
        limit = requests.number_of(request, "limit", default=PAGE, most=MOST)
        found = await self._desk.page(where, limit + 1)
        page = found[:limit]
        more = len(found) > limit
        return _json(
            TicketPage(
                tickets=tuple(ticket_out(ticket) for ticket in page),
                next_cursor=self._cursors.make(page[-1].recency, filters) if more else None,
            )
        )

    async def show(self, request: web.Request) -> web.Response:
        ident = requests.ticket_id(request)
        before = requests.number_of(request, "before", default=LAST_ORDER, most=LAST_ORDER)
        limit = requests.number_of(request, "limit", default=PAGE, most=MOST)
        ticket = await self._desk.ticket(ident)
        entries = await self._desk.entries(ident, before=before, limit=limit)
        return _json(
            TicketWithEntries(
                ticket=ticket_out(ticket),
                entries=tuple(entry_out(entry) for entry in entries),
                next_before=entries[0].order if entries and entries[0].order > 1 else None,
            )
        )

    # --- writing -------------------------------------------------------------------------------

    async def answer(self, request: web.Request) -> web.Response:
        ident = requests.ticket_id(request)
        wanted = await requests.body(request, NewAnswer)
        new = self._entry(request, ident, wanted, internal=False)

        def status(now: Status) -> Status:
            if wanted.status is not UNSET:
                return wanted.status
            return Status.OPEN if now is Status.NEW else now

        rev = None if wanted.rev is UNSET else wanted.rev
        return await self._added(await self._desk.add(ident, new, status=status, rev=rev))

    async def note(self, request: web.Request) -> web.Response:
        ident = requests.ticket_id(request)
        wanted = await requests.body(request, NewNote)
        return await self._added(
            await self._desk.add(ident, self._entry(request, ident, wanted, internal=True))
        )

    def _entry(
        self, request: web.Request, ticket: str, wanted: NewAnswer | NewNote, *, internal: bool
    ) -> NewEntry:
        who = caller(request)
        key = requests.idempotency_key(request)
        # Behind a caller's key stands the caller: two may choose the same one.
        ident = self._desk.ids.entry(ticket, f"api|{_caller_id(request)}|{key or fresh_key()}")
        return NewEntry(
            id=ident,
            key=ident,
            author="agent",
            channel="desk",
            at=self._context.clock.now(),
            text=wanted.text,
            internal=internal,
            author_name=wanted.agent_name,
            agent=wanted.agent or who,
            digest=_digest(wanted),
        )

    async def _added(self, added: Added) -> web.Response:
        await self._tell(added.ticket.backend, added.events)
        return _json(
            EntryAdded(ticket=ticket_out(added.ticket), entry=entry_out(added.entry)), status=201
        )

    async def change(self, request: web.Request) -> web.Response:
        ident = requests.ticket_id(request)
        wanted = await requests.body(request, TicketChange)
        if wanted.queue is not UNSET:
            await self._refuse_unknown_queue(ident, wanted.queue)
        changed = await self._desk.change(
            ident,
            Wanted(
                status=_given(wanted.status),
                priority=_given(wanted.priority),
                assignee=_given(wanted.assignee),
                queue=_given(wanted.queue),
                add_tags=wanted.add_tags,
                remove_tags=wanted.remove_tags,
            ),
            rev=_given(wanted.rev),
            by=caller(request),
        )
        await self._tell(changed.ticket.backend, changed.events)
        return _json(TicketChanged(ticket=ticket_out(changed.ticket)))

    async def _refuse_unknown_queue(self, ident: str, queue: str) -> None:
        ticket = await self._desk.ticket(ident)
        queues = await queues_of(self._context, ticket.backend)
        if queue not in queues:
            raise Refuse(
                "bad-request",
                f"{ticket.backend} has no such queue; its queues: {', '.join(queues)}",
                422,
            )

    async def _tell(self, backend: str, lines: tuple[DeskEvent, ...]) -> None:
        if not lines:
            return
        events = await backend_events(self._desk, lines)
        try:
            await self._context.backend_said(backend, events)
        except Exception as error:  # noqa: BLE001 - what was written stays; the poll tells it
            self._context.log.warning(
                "desk_events_told_later", backend=backend, events=len(events), reason=repr(error)
            )


def caller(request: web.Request) -> str:
    """Return the name of the API key in use."""
    key = request.get("api_key")
    return "system" if key is None else str(key.name)


def _caller_id(request: web.Request) -> str:
    """Return what tells callers of the same name apart."""
    return str(getattr(request.get("api_key"), "id", "") or caller(request))


def _refuse_limited(request: web.Request) -> None:
    """A ticket spans the accounts its customer writes by: a key for some of them sees none."""
    if getattr(request.get("api_key"), "accounts", ()):
        raise Refuse(
            "forbidden",
            "this key is limited to some accounts, and tickets span them: use one that is not",
            403,
        )


def _digest(wanted: NewAnswer | NewNote) -> str:
    """Return what tells a repeated request from another one; ``rev`` is no part of it."""
    content = [type(wanted).__name__, wanted.text, wanted.agent, wanted.agent_name]
    if isinstance(wanted, NewAnswer) and wanted.status is not UNSET:
        content.append(wanted.status)
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()


def _given(value: Any) -> Any:
    return None if value is UNSET else value


def _json(answer: msgspec.Struct, *, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(answer), status=status, content_type="application/json"
    )


def _with_problems(handler: Handler) -> Handler:
    async def answered(request: web.Request) -> web.Response:
        try:
            _refuse_limited(request)
            return await handler(request)
        except Refuse as refuse:
            return refuse.response()
        except NoTicket as error:
            if error.erased:
                return Refuse("erased", str(error), 409).response()
            return Refuse("not-found", str(error), 404).response()
        except MovedOn as error:
            return Refuse("conflict", str(error), 409, rev=error.ticket.rev).response()
        except KeyReused as error:
            return Refuse("idempotency-conflict", str(error), 409).response()
        except NotPossible as error:
            return Refuse("bad-request", str(error), 422).response()

    return answered
