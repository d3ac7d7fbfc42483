from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from tests.console.people import Agents, Console
from tests.support.hubs import running_hub

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
async def console(mongo_url: str, mongo_db_name: str, tmp_path: Path) -> AsyncIterator[Console]:
    """A hub whose console somebody may sign in to."""
    async with running_hub(mongo_url, mongo_db_name, tmp_path) as hub, Agents(hub) as agents:
        yield Console(hub, agents)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """The system's Chromium; without one the test is skipped, or fails where it is required."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        if os.environ.get("OMNILINE_REQUIRE_REAL") == "1":
            pytest.fail("OMNILINE_REQUIRE_REAL=1, and there is no chromium")
        pytest.skip("NO CHROMIUM, so the console's script is not tested")
    async with async_playwright() as playwright:
        found = await playwright.chromium.launch(executable_path=binary, args=ARGUMENTS)
        yield found
        await found.close()
