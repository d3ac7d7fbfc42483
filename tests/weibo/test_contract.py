"""The Weibo connector passes the contract that every connector has to pass."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from connectors.weibo import WeiboConnector
from hub.testing import ConnectorContract, FakeVendor
from tests.weibo.fake_weibo import TOKEN, FakeWeibo

UID = "1000000007"
PATH = "a-path-that-nobody-knows"


class TestWeibo(ConnectorContract):
    connector = WeiboConnector
    settings = {
        "uid": UID,
        "app_secrets": ["the-app-secret"],
        "path_secret": PATH,
        "access_token": TOKEN,
        "reply_url": "http://127.0.0.1:9/2/messages/reply.json",
        "token_bound": "2026-03-01",
    }
    other_secrets = {"app_secrets": ["another-app-secret"]}
    both_secrets = {"app_secrets": ["another-app-secret", "the-app-secret"]}
    no_secrets = {"app_secrets": None, "path_secret": None}
    window_s = 600
    signs_path = True
    recipient = "weibo:main:uid:5550001234"
    golden = Path(__file__).parent.parent / "golden" / "weibo.json"

    @contextlib.asynccontextmanager
    async def vendor(self) -> AsyncIterator[FakeVendor]:
        async with FakeWeibo() as weibo:
            yield weibo
            assert not weibo.violations
