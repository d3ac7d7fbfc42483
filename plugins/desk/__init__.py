"""The desk: tickets in the hub's own database, and the routes where agents work on them.

Read on in ``desk`` (tickets and their changes), ``backend`` (what the hub asks) and ``routes``
(what agents ask).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hub import PluginContext, TicketBackend, hookimpl
from plugins.desk.backend import DeskBackend
from plugins.desk.desk import Desk
from plugins.desk.documents import DeskEntry, DeskEvent, DeskTicket
from plugins.desk.routes import DeskRoutes

__all__ = ["Desk", "DeskBackend"]

omniline_api = 1


@hookimpl
def register_ticket_backends(config: Mapping[str, Any]) -> Sequence[type[TicketBackend]]:
    return [DeskBackend]


@hookimpl
async def plugin_started(context: PluginContext) -> None:
    await context.register_documents(DeskTicket, DeskEntry, DeskEvent)
    DeskRoutes(context, Desk(context)).register()


@hookimpl
async def customer_erased(
    context: PluginContext, addresses: Sequence[str], conversations: Sequence[str]
) -> None:
    await Desk(context).erase(addresses, conversations)
