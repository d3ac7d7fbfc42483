"""The hub's own store for contract tests of backends: in memory, or a real MongoDB."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hub.documents import InboxItem
from hub.store.interface import Store
from hub.testing.backend_dispatch import Later
from hub.testing.clock import FakeClock
from tests.store.spaces import Kind, Space, open_space


class OnBothStores:
    """Mix it in before TicketBackendContract: ``hub_store`` is then both, one after the other."""

    @pytest.fixture(params=["memory", pytest.param("pymongo", marks=pytest.mark.real_mongo)])
    def store_kind(self, request: pytest.FixtureRequest) -> Kind:
        kind: Kind = request.param
        return kind

    @pytest.fixture
    async def hub_space(
        self, store_kind: Kind, request: pytest.FixtureRequest, hub_clock: FakeClock
    ) -> AsyncIterator[Space]:
        async with open_space(store_kind, request, clock=hub_clock, kinds=[InboxItem]) as space:
            yield space

    @pytest.fixture
    def hub_store(self, hub_space: Space) -> Store:
        return hub_space.store

    @pytest.fixture
    def later(self, hub_space: Space) -> Later:
        return hub_space.later
