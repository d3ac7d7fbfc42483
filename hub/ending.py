"""How the parts of a process end: cut off, or asked to finish what they are doing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task, and wait until it is over."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def stopped(stop: Callable[[], None], task: Awaitable[None]) -> None:
    """Ask a part to finish what it is doing, and wait for it."""
    stop()
    await task
