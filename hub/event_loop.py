"""Which event loop a serving process runs on: uvloop where it is installed, else Python's own.

uvloop does the sockets' work in C: a tenth less of CPU for each message. Nothing
in the hub relies on either; ``hub.event_loop`` chooses one for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeVar

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")
LoopChoice = Literal["auto", "uvloop", "asyncio"]
NewLoop = Callable[[], asyncio.AbstractEventLoop]


class LoopMissing(Exception):
    """The configured event loop is not installed; the message says how to get it."""


def loop_factory(choice: LoopChoice) -> NewLoop:
    """Return what makes the loop. Raises LoopMissing when uvloop is wanted and not there."""
    if choice == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError as error:
        if choice == "auto":
            return asyncio.new_event_loop
        raise LoopMissing(
            'hub.event_loop = "uvloop", and uvloop cannot be imported: install omniline[uvloop],'
            f' or set "auto" ({error})'
        ) from error
    return uvloop.new_event_loop


def run_on(choice: LoopChoice, work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` to its end on a new loop of the chosen kind."""
    try:
        factory = loop_factory(choice)
    except LoopMissing:
        work.close()
        raise
    log.info("event_loop", kind="asyncio" if factory is asyncio.new_event_loop else "uvloop")
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)
