"""The naive handler: one durable insert for each request, and nothing else. The yardstick.

It verifies nothing, parses nothing, routes nothing. It runs on Python's own event loop; told to,
on uvloop, as the hub does where that is installed.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import uvloop
from aiohttp import web
from pymongo import AsyncMongoClient, WriteConcern

from tests.support.load import PATH


async def serve(mongo_url: str, database: str) -> None:
    """Serve until SIGTERM; the first line of output is ``ready url=...``."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongo_url)
    messages = client.get_database(database).get_collection(
        "messages", write_concern=WriteConcern("majority", j=True)
    )

    async def take(request: web.Request) -> web.Response:
        await messages.insert_one({"body": await request.read()})
        return web.Response()

    app = web.Application()
    app.router.add_post(PATH, take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    host, port = runner.addresses[0][:2]
    sys.stdout.write(f"ready url=http://{host}:{port}\n")
    sys.stdout.flush()
    await stopped.wait()
    await runner.cleanup()
    await client.close()


if __name__ == "__main__":
    new_loop = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}[sys.argv[3]]
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve(sys.argv[1], sys.argv[2]))
