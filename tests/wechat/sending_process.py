"""A process with a WeChat account: ``python -m tests.wechat.sending_process API MONGO DATABASE``.

It sends one message, says ``ready``, waits for a line, sends as many at once as that says, and says
how many arrived. It shares nothing with others but the database.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp

from hub.clock import SystemClock
from hub.documents import State
from hub.logs import configure_logs
from hub.store.codec import Codec
from hub.store.driver import open_driver
from hub.store.mongo import MongoStore
from hub.testing import FakeServices
from normalizer.parts import Text
from tests.wechat.fake_wechat import APP_SECRET
from tests.wechat.support import connector, outgoing


async def main(api_url: str, mongo_url: str, database: str) -> None:
    store = MongoStore(await open_driver(mongo_url, database), Codec())
    await store.prepare([State])
    async with aiohttp.ClientSession() as http:
        services = FakeServices(store=store, clock=SystemClock(), http=http)
        ours = connector(services, api_url=api_url, app_secret=APP_SECRET)
        await ours.send(outgoing(Text(text="first"), key="first"))
        print("ready", flush=True)  # noqa: T201 - it is what the test waits for
        count = int(await asyncio.to_thread(sys.stdin.readline))
        sent = await asyncio.gather(
            *(ours.send(outgoing(Text(text="hi"), key=f"job_{n}")) for n in range(count))
        )
        print(len(sent), flush=True)  # noqa: T201
        await ours.stop()
    await store.close()


if __name__ == "__main__":
    configure_logs("error")
    asyncio.run(main(*sys.argv[1:]))
