"""The desk: tickets in the hub's own database, and the routes where agents work on them.

Read on in ``desk`` (tickets and their changes), ``backend`` (what the hub asks) and ``routes``
(what agents ask).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakSet

from hub import PluginContext, TicketBackend, hookimpl
from plugins.desk.backend import DeskBackend
from plugins.desk.desk import Desk
from plugins.desk.documents import DeskEntry, DeskEvent, DeskTicket
from plugins.desk.routes import DeskRoutes

__all__ = ["Desk", "DeskBackend"]

omniline_api = 1

# A hook about a person names no space. The routes hold their desk, so it is here as long as they.
_desks: WeakSet[Desk] = WeakSet()


@hookimpl
def register_ticket_backends(config: Mapping[str, Any]) -> Sequence[type[TicketBackend]]:
    return [DeskBackend]


@hookimpl
async def plugin_started(context: PluginContext) -> None:
    await context.register_documents(DeskTicket, DeskEntry, DeskEvent)
    desk = Desk(context)
    _desks.add(desk)
    DeskRoutes(context, desk).register()


@hookimpl
async def customer_erased(addresses: Sequence[str], conversations: Sequence[str]) -> None:
    for desk in list(_desks):
        await desk.erase(addresses, conversations)
