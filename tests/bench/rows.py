"""The rows of the benchmark, in the order they run, with their bars.

The bars are the project's own; a row without one is for information.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from tests.bench.lone import lone
from tests.bench.pages import pages
from tests.bench.report import Result
from tests.bench.stage import LEASE_S, Stage
from tests.bench.stuck import stuck
from tests.bench.takeover import takeover
from tests.bench.throughput import Plan, lag, throughput
from tests.bench.visible import visible

DESK = """
[[backends]]
type = "desk"
name = "desk"
"""


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how often: rounds of each side, seconds of a window."""

    rounds: int
    seconds: int
    quick: bool


Say = Callable[[str], None]
Measure = Callable[[Stage, str, Effort, Say], Awaitable[list[Result]]]


class Row(msgspec.Struct, frozen=True):
    """One row: what it measures, and whether the quick run has it."""

    title: str
    measure: Measure
    quick: bool = True


def _load(title: str, *, quick: bool = True, **bars: object) -> Row:
    async def measure(stage: Stage, row: str, effort: Effort, say: Say) -> list[Result]:
        plan = msgspec.convert({"rounds": effort.rounds, "seconds": effort.seconds, **bars}, Plan)
        return await throughput(stage, row, plan)

    return Row(title, measure, quick)


async def _lone(stage: Stage, row: str, effort: Effort, say: Say) -> list[Result]:
    return await lone(stage, row, effort.rounds, 12 if effort.quick else 30)


async def _lag(stage: Stage, row: str, effort: Effort, say: Say) -> list[Result]:
    return await lag(stage, row, 10 if effort.quick else 60)


async def _takeover(stage: Stage, row: str, effort: Effort, say: Say) -> list[Result]:
    return await takeover(stage, row, 1 if effort.quick else 3, 1.0 if effort.quick else LEASE_S)


async def _visible(stage: Stage, row: str, effort: Effort, say: Say) -> list[Result]:
    return await visible(stage, row, 6 if effort.quick else 30)


async def _stuck(stage: Stage, row: str, effort: Effort, say: Say) -> list[Result]:
    return await stuck(stage, row, effort.rounds, 60 if effort.quick else 400)


async def _pages(stage: Stage, row: str, effort: Effort, say: Say) -> list[Result]:
    return await pages(stage, row, effort.rounds, 100_000 if effort.quick else 1_000_000, say)


ROWS: Mapping[str, Row] = {
    "sustained64": _load(
        "every message routed, 2 000 known customers, 64 connections",
        connections=64,
        sustained=2.0,
        p99=0.6,
        cpu=0.5,
    ),
    "sustained256": _load(
        "every message routed, 2 000 known customers, 256 connections",
        connections=256,
        sustained=2.5,
    ),
    "new64": _load(
        "every message from a new customer, 64 connections",
        connections=64,
        new=True,
        sustained=1.3,
    ),
    "ack16": _load("acknowledgements, 16 connections", connections=16, acknowledged=1.0),
    "ack1": _load("acknowledgements, 1 connection", connections=1, acknowledged=0.8),
    "lone": Row("a lone request", _lone),
    "lag": Row("a long run at full speed", _lag),
    "takeover": Row("the routing hub is killed", _takeover),
    "stuck": Row("an account that swallows every call, beside others", _stuck),
    "pages": Row("pages in a small and a large space", _pages),
    "even64": _load(
        "as sustained64, with the naive handler on uvloop as well",
        quick=False,
        connections=64,
        naive_loop="uvloop",
    ),
    "own64": _load(
        "as sustained64, with the hub on Python's own event loop",
        quick=False,
        connections=64,
        extra='event_loop = "asyncio"',
    ),
    "motor64": _load(
        "as sustained64, with the motor driver",
        quick=False,
        connections=64,
        extra='driver = "motor"',
    ),
    "desk64": _load(
        "as sustained64, with the desk as ticket backend",
        quick=False,
        connections=64,
        more=DESK,
    ),
    "visible": Row("from sending to seeing at half load", _visible),
}
