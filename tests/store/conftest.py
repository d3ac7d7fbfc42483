"""The shared suite runs on the in-memory store and on MongoDB over both of its drivers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hub.store.interface import Store
from tests.store.spaces import KINDS, Kind, Space, open_space


@pytest.fixture(params=[pytest.param(kind, id=kind) for kind in KINDS])
def store_kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@pytest.fixture
async def space(store_kind: Kind, request: pytest.FixtureRequest) -> AsyncIterator[Space]:
    async with open_space(store_kind, request) as opened:
        yield opened


@pytest.fixture
def store(space: Space) -> Store:
    return space.store


@pytest.fixture
async def other(
    space: Space, store_kind: Kind, request: pytest.FixtureRequest
) -> AsyncIterator[Store]:
    """The store as another process has it. Memory has one process only: there it is the same."""
    if store_kind == "memory":
        yield space.store
    else:
        async with open_space(store_kind, request) as opened:
            yield opened.store
