"""The webhook backend keeps the contract of ticket backends, on both of the hub's stores.

Its server is the receiver of docs/backends/webhook_receiver.py behind a strict door
(``strict.py``), which plays every fault on the connection itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pytest

from hub import TicketBackend
from hub.testing import Fault, TicketBackendContract
from hub.testing.backend_faults import Outside
from normalizer.tickets import Status, TicketEntry, TicketRef
from plugins.webhook import WebhookBackend
from tests.support.hub_stores import OnBothStores
from tests.support.scale import scaled
from tests.webhook.strict import Strict


class ServerFaults:
    """The backend as it is: what goes wrong goes wrong at its server."""

    def __init__(self, backend: TicketBackend, strict: Strict) -> None:
        self.backend = backend
        self._strict = strict

    def plan(self, call: str, *faults: Fault | None) -> None:
        self._strict.plan(call, *faults)


@pytest.mark.soak
class TestWebhook(OnBothStores, TicketBackendContract):
    assignee = "hanmeimei"
    messages = scaled(10, 50)
    conversations = scaled(3, 12)
    written = scaled(5, 25)

    @pytest.fixture
    def backend(self, backend: WebhookBackend, strict: Strict) -> WebhookBackend:
        self.strict = strict
        return backend

    def outside(self, backend: TicketBackend) -> Outside:
        return ServerFaults(backend, self.strict)

    async def entries_of(self, backend: TicketBackend, ticket: TicketRef) -> list[TicketEntry]:
        return [
            msgspec.convert({**each, "channel": each.get("channel", "")}, TicketEntry)
            for each in (
                {"occurred_at": "2026-03-02T09:00:00Z", **entry}
                for entry in self.strict.inner.tickets[ticket.id]["entries"]
            )
        ]

    async def tickets_with(self, backend: TicketBackend, key: str) -> list[TicketRef]:
        created = self.strict.inner.by_key
        doubles = [ident for ident in self.strict.inner.tickets if ident not in created.values()]
        assert doubles == [], "the receiver made tickets that no key leads to"
        return [TicketRef(id=created[key])] if key in created else []

    async def agent_writes(
        self, backend: TicketBackend, ticket: TicketRef, text: str, *, internal: bool = False
    ) -> None:
        self.strict.tell(self.strict.inner.agent_writes(ticket.id, text, internal=internal))

    async def agent_sets_status(
        self, backend: TicketBackend, ticket: TicketRef, status: Status
    ) -> None:
        self.strict.tell(self.strict.inner.agent_sets_status(ticket.id, str(status)))

    async def callbacks(self, backend: TicketBackend) -> Sequence[tuple[Mapping[str, str], bytes]]:
        return self.strict.sent
