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

# The hook about an erased person names no space: it means that of the hub in this process.
_desk: Desk | None = None


@hookimpl
def register_ticket_backends(config: Mapping[str, Any]) -> Sequence[type[TicketBackend]]:
    return [DeskBackend]


@hookimpl
async def plugin_started(context: PluginContext) -> None:
    global _desk
    await context.register_documents(DeskTicket, DeskEntry, DeskEvent)
    _desk = Desk(context)
    DeskRoutes(context, _desk).register()


@hookimpl
async def customer_erased(addresses: Sequence[str], conversations: Sequence[str]) -> None:
    if _desk is None:
        raise RuntimeError("the desk was not started in this process: nothing was erased")
    await _desk.erase(addresses, conversations)
