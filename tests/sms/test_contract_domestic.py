"""SMS accounts at Aliyun and Tencent Cloud pass the contract: templates out, unsigned pushes in."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from connectors.sms import SmsConnector
from hub.testing import ConnectorContract, FakeVendor
from tests.sms.fake_domestic import PUSH_SECRET, FakeAliyun, FakeTencent

OTHER = "m3Rv8Nf1Hs6Yd0Gj"
GOLDEN = Path(__file__).parent.parent / "golden"
EXEMPT = {
    "window": "nobody signs these pushes: a replay is known by its id or its hash",
    "unknown": "a text message has no type",
    "poll": "the domestic providers push, and have no list to ask",
}


def overrides(settings: Mapping[str, Any], secrets: list[str]) -> dict[str, Any]:
    name = settings["provider"]
    return {name: {**settings[name], "push_secrets": secrets}}


class TestAliyun(ConnectorContract):
    connector = SmsConnector
    settings = FakeAliyun().settings
    other_secrets = overrides(settings, [OTHER])
    both_secrets = overrides(settings, [OTHER, PUSH_SECRET])
    no_secrets = overrides(settings, [])
    signs_path = True
    recipient = "tel::e164:+8613800138000"
    golden = GOLDEN / "sms_aliyun.json"
    exempt = EXEMPT

    @contextlib.asynccontextmanager
    async def vendor(self) -> AsyncIterator[FakeVendor]:
        async with FakeAliyun() as vendor:
            yield vendor


class TestTencent(ConnectorContract):
    connector = SmsConnector
    settings = FakeTencent().settings
    other_secrets = overrides(settings, [OTHER])
    both_secrets = overrides(settings, [OTHER, PUSH_SECRET])
    no_secrets = overrides(settings, [])
    signs_path = True
    recipient = "tel::e164:+8613800138000"
    golden = GOLDEN / "sms_tencent.json"
    exempt = EXEMPT

    @contextlib.asynccontextmanager
    async def vendor(self) -> AsyncIterator[FakeVendor]:
        async with FakeTencent() as vendor:
            yield vendor
