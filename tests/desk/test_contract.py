"""The desk keeps the contract of ticket backends, in memory and on a real MongoDB.

Its agent works through the HTTP routes, as a console would.
"""

from __future__ import annotations

import pytest

from hub import TicketBackend
from hub.testing.backend_contract import TicketBackendContract
from normalizer.tickets import Status, TicketEntry, TicketRef
from plugins.desk.backend import DeskBackend
from plugins.desk.documents import DeskTicket
from plugins.desk.told import ticket_entry
from tests.desk.support import ROOT, Http, told
from tests.store.spaces import Kind
from tests.support.hub_stores import OnBothStores


class TestDesk(OnBothStores, TicketBackendContract):
    assignee = "hanmeimei"

    @pytest.fixture
    def store_kind(self, request: pytest.FixtureRequest) -> Kind:
        """The hub's own documents lie where the desk's do."""
        here = request.node.callspec.params["store"] if hasattr(request.node, "callspec") else ""
        return "pymongo" if here == "mongo" else "memory"

    @pytest.fixture
    async def backend(self, backend: DeskBackend, http: Http) -> DeskBackend:
        self.http = http
        return backend

    async def entries_of(self, backend: TicketBackend, ticket: TicketRef) -> list[TicketEntry]:
        assert isinstance(backend, DeskBackend)
        found = await backend.desk.entries(ticket.id, before=10_000, limit=1_000)
        return [ticket_entry(entry) for entry in found]

    async def tickets_with(self, backend: TicketBackend, key: str) -> list[TicketRef]:
        assert isinstance(backend, DeskBackend)
        found = await backend.context.documents(DeskTicket).find({"key": key}, sort=[("_id", 1)])
        return [TicketRef(id=ticket.id) for ticket in found]

    async def agent_writes(
        self, backend: TicketBackend, ticket: TicketRef, text: str, *, internal: bool = False
    ) -> None:
        path = f"{ROOT}/tickets/{ticket.id}/{'notes' if internal else 'answers'}"
        await told(await self.http.post(path, json={"text": text}), 201)

    async def agent_sets_status(
        self, backend: TicketBackend, ticket: TicketRef, status: Status
    ) -> None:
        path = f"{ROOT}/tickets/{ticket.id}"
        await told(await self.http.patch(path, json={"status": status}), 200)
