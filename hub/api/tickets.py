"""A conversation's tickets at its backends, and a person's decision where one is in doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from aiohttp import web
from msgspec import Meta

from hub.api.bodies import Input, answer, path_id, read_json
from hub.api.keys import ApiKey
from hub.api.openapi import operation
from hub.api.people import People
from hub.api.views import View
from hub.planning.rules import Refusal
from hub.plugin_context import PluginRoute
from hub.settling import Settling, TicketStanding
from normalizer.outcomes import Failure, Gone
from normalizer.tickets import TicketRef

if TYPE_CHECKING:
    from hub.running import Running


class StandingView(View, frozen=True, kw_only=True):
    """How a conversation stands with one backend.

    ``unknown``: nobody knows whether the last write was done; ``reason`` says why, and what
    comes behind it waits. ``none``: nothing was to be written yet.
    """

    backend: str
    state: Literal["none", "making", "linked", "unknown"]
    ticket: str
    number: str
    url: str
    reason: str
    waiting: int


class StandingList(View, frozen=True, kw_only=True):
    tickets: list[StandingView]


class Settle(Input, frozen=True, kw_only=True):
    """Either the ``ticket`` that the attempt in doubt has made, or ``retry``: there is none."""

    ticket: Annotated[
        str | None,
        Meta(description="The ticket's id at the backend."),
    ] = None
    retry: bool = False


class Tickets:
    def __init__(self, hub: Running, people: People) -> None:
        self._hub = hub
        self._people = people
        self._settling = Settling(hub.store, hub.clock)

    def routes(self) -> list[PluginRoute]:
        path = "/api/v1/conversations/{conversation}/tickets"
        return [
            PluginRoute(
                method="GET",
                path=path,
                handler=self.show,
                scope="conversations:read",
                operation=operation(
                    "How a conversation stands with its ticket backends",
                    tag="conversations",
                    answer=StandingList,
                ),
            ),
            PluginRoute(
                method="POST",
                path=f"{path}/{{backend}}/settle",
                handler=self.settle,
                scope="conversations:write",
                operation=operation(
                    "Decide about a ticket in doubt",
                    tag="conversations",
                    answer=StandingList,
                    status=202,
                    body=Settle,
                    problems=(404, 409),
                    description="For a backend that cannot be asked whether it made a ticket."
                    " Harmless when repeated.",
                ),
            ),
        ]

    async def show(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        found = await self._people.conversation(caller, path_id(request, "conversation"))
        return answer(_view(await self._settling.tickets(found)))

    async def settle(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        ident, backend = path_id(request, "conversation"), path_id(request, "backend")
        wanted = await read_json(request, Settle)
        self._hub.overload.admit_write()
        conversation = await self._people.conversation(caller, ident)
        known = await self._settling.tickets(conversation)
        if backend not in [each.backend for each in known]:
            raise Refusal("not-found", f"this conversation does not go to {backend}", 404)
        if wanted.ticket is not None:
            await self._look_at(backend, wanted.ticket)
        await self._settling.settle(
            conversation,
            backend,
            ticket=wanted.ticket or "",
            retry=wanted.retry,
            by=caller.actor,
        )
        return answer(_view(await self._settling.tickets(conversation)), 202)

    async def _look_at(self, name: str, ticket: str) -> None:
        """Refuse a ticket that surely is not there: a slip of the pen is told at once."""
        backend = self._hub.backends.get(name)
        if backend is None or not 1 <= len(ticket) <= 200:
            raise Refusal("bad-request", "this is no ticket of a backend that is configured", 422)
        try:
            await backend.read(TicketRef(id=ticket))
        except Gone as gone:
            raise Refusal("bad-request", f"{name} has no such ticket: {gone.reason}", 422) from gone
        except Failure as failure:
            raise Refusal(
                "conflict", f"{name} cannot be asked about it now: {failure.reason}"
            ) from failure


def _view(standings: list[TicketStanding]) -> StandingList:
    return StandingList(
        tickets=[
            StandingView(
                backend=each.backend,
                state=each.state,
                ticket=each.ticket,
                number=each.number,
                url=each.url,
                reason=each.reason,
                waiting=each.waiting,
            )
            for each in standings
        ]
    )
