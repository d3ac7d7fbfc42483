"""A running site for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.site.space import Running, Space, settings

MakeSite = Callable[..., Awaitable[Running]]


@pytest.fixture
async def make_site() -> AsyncIterator[MakeSite]:
    """Start a site with settings of one's own."""
    async with AsyncExitStack() as stack:

        async def make(*, insecure: bool = False, **given: Any) -> Running:
            running = Running(Space(), settings(**given), insecure=insecure)
            return await stack.enter_async_context(running)

        yield make


@pytest.fixture
async def running(make_site: MakeSite) -> Running:
    """A site with everything on."""
    return await make_site()
