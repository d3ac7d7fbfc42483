"""A planner that everybody may be notified by at any hour, unless a test says otherwise."""

from __future__ import annotations

import pytest

from hub.config import load_text
from hub.notifications.policy import Policy, policy_of
from tests.planners.harness import CHANNELS, PlannerHarness

BY_DAY = 'quiet_hours = "none"'
AT_NIGHT = 'quiet_hours = "21:00-08:00"\ntime_zone = "Asia/Shanghai"'


def policy(text: str) -> Policy:
    return policy_of(load_text(f"[hub.notifications]\n{text}\n").hub.notifications)


async def world(text: str = BY_DAY) -> PlannerHarness:
    return await PlannerHarness(notifications=policy(text)).open()


@pytest.fixture
async def hub(monkeypatch: pytest.MonkeyPatch) -> PlannerHarness:
    can = CHANNELS["chat"]
    monkeypatch.setitem(CHANNELS, "approved", type(can)(sends=can.sends, templates=True))
    return await world()
