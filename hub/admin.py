"""A store for commands: the configured database, the embedded one that runs, or one started now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from hub.config import Config
from hub.documents import CORE
from hub.ids import SpaceKey
from hub.space import claim_space, codec, space_key
from hub.store.driver import open_driver
from hub.store.interface import Store
from hub.store.mongo import MongoStore
from hub.store.mongod import REPLICA_SET, EmbeddedMongod


async def running_url(folder: Path) -> str:
    """Return the URL of the embedded server that runs on this folder, or nothing."""
    try:
        port = int((folder / "port").read_text())
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except (OSError, ValueError):
        return ""
    writer.close()
    await writer.wait_closed()
    return f"mongodb://127.0.0.1:{port}/?replicaSet={REPLICA_SET}"


@asynccontextmanager
async def open_space(config: Config) -> AsyncIterator[tuple[Store, SpaceKey]]:
    """Give a command the space's store and key, whether or not a hub runs beside it."""
    settings = config.hub
    key = space_key(settings)
    async with AsyncExitStack() as stack:
        if settings.mongo_url is not None:
            url = settings.mongo_url.reveal()
        else:
            folder = settings.data_dir / "mongo"
            url = await running_url(folder)
            if not url:
                server = await stack.enter_async_context(
                    EmbeddedMongod(folder, binary=settings.mongod)
                )
                url = server.url
        driver = await open_driver(url, settings.database, driver=settings.driver)
        store = MongoStore(driver, codec(settings))
        stack.push_async_callback(store.close)
        await store.prepare(CORE)
        await claim_space(store, key, settings.encrypt)
        yield store, key
