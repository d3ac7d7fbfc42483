"""A running hub for each test of the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.hubs import RunningHub, running_hub


@pytest.fixture
async def api(mongo_url: str, mongo_db_name: str, tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(mongo_url, mongo_db_name, tmp_path) as hub:
        yield hub
