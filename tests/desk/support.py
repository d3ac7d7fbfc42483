"""What the desk's tests have in common."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeAlias

from aiohttp import web
from aiohttp.test_utils import TestClient

from normalizer.tickets import NewTicket, Requester, TicketEntry, TicketRef
from plugins.desk.backend import DeskBackend

Http: TypeAlias = TestClient[web.Request, web.Application]
ROOT = "/api/v1/x/desk"
AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def entry(key: str = "ent_1", text: str = "Where is it?", **more: Any) -> TicketEntry:
    fields: dict[str, Any] = {"author": "customer", "channel": "wechat", "occurred_at": AT}
    return TicketEntry(key=key, text=text, **fields | more)


def requester(ident: str = "cus_1", name: str = "李雷") -> Requester:
    return Requester(hub_id=ident, display_name=name)


async def open_ticket(backend: DeskBackend, number: int = 1, **more: Any) -> TicketRef:
    """Make a ticket; ``more`` are fields of NewTicket."""
    fields: dict[str, Any] = {
        "key": f"cnv_{number}",
        "requester": requester(f"cus_{number}"),
        "subject": f"Parcel {number}",
        "first": entry(f"ent_{number}"),
    }
    new = NewTicket(**fields | more)
    return await backend.create_ticket(new, new.requester.hub_id)


async def told(response: Any, status: int) -> dict[str, Any]:
    """Return the JSON of an answer that has to have this status."""
    body: dict[str, Any] = await response.json(content_type=None)
    assert response.status == status, body
    if status >= 400:
        assert response.content_type == "application/problem+json"
        assert body["status"] == status
        assert body["detail"]
    return body
