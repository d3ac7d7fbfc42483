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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let handlers find the caller under a plain name: it is what plugins are promised."""
    for item in items:
        item.add_marker(
            pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")
        )


import hub.router

hub.router._OPERATORS.setdefault("in", "$in")  # TEMPORARY
