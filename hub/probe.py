"""Trying items where they can do no harm: in a process of its own.

What was at hand when the router's process went down may be the cause, or the process was killed
from outside at a bad moment. The probe prepares the items as the router would, plugins included;
if its process survives, they are innocent.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from hub.config import load
from hub.documents import InboxItem
from hub.plugin_host import PluginHost
from hub.preparing import Preparer

log = structlog.get_logger(__name__)

DEADLINE_S = 10.0


async def survives(
    items: Sequence[InboxItem], config_path: Path, deadline_s: float = DEADLINE_S
) -> bool:
    """Prepare the items in a child process; say whether that process lived."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hub.probe",
        str(config_path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(deadline_s):
            await child.communicate(msgspec.msgpack.encode(items))
    except TimeoutError:
        log.warning("probe_hangs", items=len(items), first=items[0].id)
        return False
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    log.info("probe_ended", items=len(items), first=items[0].id, code=child.returncode)
    return child.returncode == 0


async def _try(config_path: Path) -> None:
    config = load(config_path)
    host = PluginHost.for_config(config)
    host.discover(config.hub.plugin_modules)
    items = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=list[InboxItem])
    preparer = Preparer(config.hub.default_region)
    prepared = await preparer.prepare(items)
    messages = [message for one in prepared for message in one.messages]
    if messages:
        await host.ask("choose_ticket_route", items=len(messages), messages=messages)


if __name__ == "__main__":
    asyncio.run(_try(Path(sys.argv[1])))
