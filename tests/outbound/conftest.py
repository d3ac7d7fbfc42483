"""The way out, on the in-memory store and on MongoDB."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hub.documents import InboxItem
from hub.testing.clock import FakeClock
from tests.jobs.world import World
from tests.store.spaces import Kind, open_space


@pytest.fixture(params=["memory", "pymongo"])
def store_kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@pytest.fixture
async def world(store_kind: Kind, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    clock = FakeClock()
    async with open_space(store_kind, request, clock=clock, kinds=[InboxItem]) as space:
        yield World(space, clock)
