from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.feed.stream import Timing
from tests.feed.world import World, world


@pytest.fixture
def timing() -> Timing:
    """The feed's times; a test that needs others overrides this."""
    return Timing()


@pytest.fixture
async def here(
    mongo_url: str, mongo_db_name: str, tmp_path: Path, timing: Timing
) -> AsyncIterator[World]:
    async with world(mongo_url, mongo_db_name, tmp_path, timing) as made:
        yield made
