"""Imports of old conversations: how they stand, and taking one back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from aiohttp import web

from hub.api.access import unlimited
from hub.api.bodies import Input, answer, path_id, read_query
from hub.api.cursors import Cursors
from hub.api.customers import CursorText, Limit
from hub.api.openapi import operation
from hub.api.views import View
from hub.documents import ImportRollback, ImportRun
from hub.importing.state import state_of, take_back_key
from hub.planning.rules import Refusal
from hub.plugin_context import PluginRoute

if TYPE_CHECKING:
    from hub.running import Running

PURPOSE = "imports"


class ImportsQuery(Input, frozen=True, kw_only=True):
    cursor: CursorText = ""
    limit: Limit = 50


class FailureView(View, frozen=True, kw_only=True):
    """Where something could not be read, and why."""

    place: str
    reason: str


class TakenBackView(View, frozen=True, kw_only=True):
    """How far the taking back is: what went."""

    asked_at: datetime
    done_at: datetime | None
    by: str
    entries: int
    addresses: int
    customers: int


class ImportView(View, frozen=True, kw_only=True):
    """``state`` is running, paused, done, failed, rolling-back or rolled-back.

    ``seen`` = ``taken`` + ``known`` + ``failed``; ``by`` counts what was taken by kind, account
    and month of the message's own time; ``failures`` are the first ones.
    """

    id: str
    source: str
    account: str
    state: str
    reason: str
    seen: int
    taken: int
    known: int
    failed: int
    by: Mapping[str, int]
    failures: list[FailureView]
    actor: str
    started_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    rollback: TakenBackView | None


class ImportPage(View, frozen=True, kw_only=True):
    """Imports, newest first."""

    imports: list[ImportView]
    next_cursor: str | None


class Imports:
    def __init__(self, hub: Running, cursors: Cursors) -> None:
        self._hub = hub
        self._runs = hub.store.table(ImportRun)
        self._backs = hub.store.table(ImportRollback)
        self._cursors = cursors

    def routes(self) -> list[PluginRoute]:
        return [
            PluginRoute(
                method="GET",
                path="/api/v1/imports",
                handler=self.page,
                scope="imports:read",
                operation=operation(
                    "Imports of old conversations",
                    tag="operations",
                    answer=ImportPage,
                    query=ImportsQuery,
                    problems=(400,),
                ),
            ),
            PluginRoute(
                method="GET",
                path="/api/v1/imports/{import}",
                handler=self.show,
                scope="imports:read",
                operation=operation("One import", tag="operations", answer=ImportView),
            ),
            PluginRoute(
                method="POST",
                path="/api/v1/imports/{import}/rollback",
                handler=self.roll_back,
                scope="imports:write",
                operation=operation(
                    "Take an import back",
                    tag="operations",
                    answer=ImportView,
                    status=202,
                    description="What only the import made goes; what is live stays. It goes on in"
                    " the background. Harmless when repeated.",
                ),
            ),
        ]

    async def page(self, request: web.Request) -> web.Response:
        unlimited(request)
        query = read_query(request, ImportsQuery)
        where = {}
        if query.cursor:
            (place,) = self._cursors.read(PURPOSE, query.cursor, tuple[str])
            where = {"_id": {"$lt": place}}
        found = await self._runs.find(where, sort=[("_id", -1)], limit=query.limit + 1)
        shown = found[: query.limit]
        more = len(found) > query.limit
        return answer(
            ImportPage(
                imports=await self._views(shown),
                next_cursor=self._cursors.make(PURPOSE, (shown[-1].id,)) if more else None,
            )
        )

    async def show(self, request: web.Request) -> web.Response:
        unlimited(request)
        return answer((await self._views([await self._run(request)]))[0])

    async def roll_back(self, request: web.Request) -> web.Response:
        caller = unlimited(request)
        run = await self._run(request)
        self._hub.overload.admit_write()
        told = await self._hub.services.run_command(
            "take_back_import",
            {"import_id": run.id},
            key=take_back_key(run.id),
            actor=caller.actor,
        )
        if told["state"] == "refused":
            raise Refusal(told["error"], told["detail"], told["status"])
        return answer((await self._views([run]))[0], 202)

    async def _run(self, request: web.Request) -> ImportRun:
        ident = path_id(request, "import")
        run = await self._runs.get(ident)
        if run is None:
            raise Refusal("not-found", f"there is no import {ident}", 404)
        return run

    async def _views(self, runs: Sequence[ImportRun]) -> list[ImportView]:
        backs = await self._backs.get_many([run.id for run in runs])
        leased = await self._hub.store.lanes.parked()
        return [
            _view(run, backs.get(run.id), *state_of(run, backs.get(run.id), leased)) for run in runs
        ]


def _view(run: ImportRun, back: ImportRollback | None, state: str, reason: str) -> ImportView:
    counts = run.counts
    return ImportView(
        id=run.id,
        source=run.source,
        account=run.account,
        state=state,
        reason=reason,
        seen=counts.seen,
        taken=counts.taken,
        known=counts.known,
        failed=counts.failed,
        by=counts.by,
        failures=[FailureView(place=each.place, reason=each.reason) for each in counts.failures],
        actor=run.actor,
        started_at=run.started_at,
        updated_at=run.updated_at,
        ended_at=run.ended_at,
        rollback=None
        if back is None
        else TakenBackView(
            asked_at=back.asked_at,
            done_at=back.done_at,
            by=back.actor,
            entries=back.entries,
            addresses=back.addresses,
            customers=back.customers,
        ),
    )
