"""The desk on the in-memory store and on a real MongoDB, with a hub that only listens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from aiohttp.test_utils import TestClient, TestServer

from hub.store.codec import Codec
from hub.store.driver import open_driver
from hub.store.interface import Store
from hub.store.memory import MemoryStore
from hub.store.mongo import MongoStore
from hub.testing.services import FakeServices
from plugins import desk as desk_plugin
from plugins.desk.backend import DeskBackend
from plugins.desk.settings import DeskSettings
from tests.desk.support import Http


@pytest.fixture(params=["memory", pytest.param("mongo", marks=pytest.mark.real_mongo)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
        return
    url = request.getfixturevalue("mongo_url")
    name = request.getfixturevalue("mongo_db_name")
    async with AsyncExitStack() as stack:
        opened = MongoStore(await open_driver(url, name), Codec())
        stack.push_async_callback(opened.close)
        yield opened


@pytest.fixture
async def services(store: Store) -> FakeServices:
    services = FakeServices(store=store)
    await desk_plugin.plugin_started(services.context("desk"))
    return services


@pytest.fixture
async def backend(services: FakeServices) -> AsyncIterator[DeskBackend]:
    settings = DeskSettings(queues=("support", "billing"))
    backend = DeskBackend("counter", settings, services.context("desk"))
    await backend.start()
    yield backend
    await backend.stop()


@pytest.fixture
async def http(services: FakeServices) -> AsyncIterator[Http]:
    app = services.web_app("desk:read", "desk:write", name="console")
    async with TestClient(TestServer(app)) as client:
        yield client
