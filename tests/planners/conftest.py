"""The harness over the in-memory store, and how many examples hypothesis tries."""

from __future__ import annotations

import pytest

from tests.planners.harness import PlannerHarness


@pytest.fixture
async def hub() -> PlannerHarness:
    return await PlannerHarness().open()
