from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from connectors.weibo import WeiboConnector
from hub.testing import FakeServices
from tests.weibo.fake_weibo import FakeWeibo
from tests.weibo.support import make_connector


@pytest.fixture
async def weibo() -> AsyncIterator[FakeWeibo]:
    async with FakeWeibo() as vendor:
        yield vendor


@pytest.fixture
async def services() -> AsyncIterator[FakeServices]:
    async with aiohttp.ClientSession() as http:
        made = FakeServices(http=http, private_hosts=["127.0.0.1"])
        yield made
        await made.fetcher.close()


@pytest.fixture
async def shop(weibo: FakeWeibo, services: FakeServices) -> AsyncIterator[WeiboConnector]:
    """An account that reaches the fake Weibo."""
    made = make_connector(weibo.settings, services=services)
    await made.start()
    yield made
    await made.stop()
