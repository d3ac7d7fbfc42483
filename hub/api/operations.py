"""Asking the router for something, and reading later what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from hub.api.bodies import answer, idempotency_key, path_id
from hub.api.keys import ApiKey
from hub.api.openapi import operation
from hub.api.views import OperationView, operation_view
from hub.documents import InboxItem, Operation
from hub.planning.rules import Refusal
from hub.plugin_context import PluginRoute

if TYPE_CHECKING:
    from hub.running import Running


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """A command that was carried out (``result``), or is still on its way (None)."""

    operation: str
    key: str  # the command's own key, from which the id of the entry it makes follows
    result: Mapping[str, Any] | None


class Commands:
    """Runs commands for callers of the API."""

    def __init__(self, hub: Running) -> None:
        self._hub = hub

    async def run(
        self,
        request: web.Request,
        name: str,
        args: Mapping[str, Any],
        *,
        key_in_body: str = "",
    ) -> Ran:
        """Run a command once for the caller's Idempotency-Key and wait a moment for its result.

        Raises Refusal when the router refused, Overloaded when nothing can be taken in now.
        """
        self._hub.overload.admit_write()
        caller: ApiKey = request["api_key"]
        key = command_key(caller, idempotency_key(request, key_in_body))
        told = await self._hub.services.run_command(name, args, key=key, actor=caller.actor)
        if told["state"] == "refused":
            raise Refusal(told["error"], told["detail"], told["status"], **told["result"])
        result = told["result"] if told["state"] == "done" else None
        return Ran(operation=told["operation"], key=key, result=result)


def command_key(caller: ApiKey, key: str) -> str:
    """Return the command's own key, from the caller's Idempotency-Key."""
    return f"api|{caller.id}|{key}"


def pending(ran: Ran) -> OperationView:
    return OperationView(
        id=ran.operation,
        name="",
        state="pending",
        at=None,
        result={},
        error="",
        detail="",
        status=202,
    )


def accepted(ran: Ran) -> web.Response:
    """Answer 202 and say where the operation can be read."""
    view = msgspec.structs.replace(
        pending(ran),
        state="pending" if ran.result is None else "done",
        result=dict(ran.result or {}),
    )
    headers = {"Location": f"/api/v1/operations/{ran.operation}"}
    return answer(view, 202, headers)


class Operations:
    def __init__(self, hub: Running) -> None:
        self._store = hub.store

    def routes(self) -> list[PluginRoute]:
        return [
            PluginRoute(
                method="GET",
                path="/api/v1/operations/{operation}",
                handler=self.show,
                scope="operations:read",
                operation=operation(
                    "What became of something that was asked for",
                    tag="operations",
                    answer=OperationView,
                    description="Results are kept for 7 days.",
                ),
            )
        ]

    async def show(self, request: web.Request) -> web.Response:
        ident = path_id(request, "operation")
        found = await self._store.table(Operation).get(ident)
        if found is not None:
            return answer(operation_view(found))
        waiting = await self._store.table(InboxItem).find(
            {"open": True, "operation": ident}, limit=1, hint="open_by_open_id"
        )
        if not waiting:
            raise Refusal("not-found", f"there is no operation {ident}, or not any more", 404)
        return answer(pending(Ran(operation=ident, key="", result=None)))
