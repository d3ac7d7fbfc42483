"""What the others notice of an account that swallows every call: the p99 of their answers."""

from __future__ import annotations

from tests.bench.report import Result, middle, ratios
from tests.bench.stage import Stage
from tests.support.hole import HOLE, running
from tests.support.truth import store_of

LANES = 100  # of the stuck account, all due
LEASE_S = 2.0


async def stuck(stage: Stage, row: str, rounds: int, jobs: int) -> list[Result]:
    """Interleaved rounds of ``jobs`` answers each, without and beside the stuck account."""
    alone: list[float] = []
    beside: list[float] = []
    async with (
        store_of(stage.mongod.url, f"bench_{row}") as store,
        running(store, lease_s=LEASE_S) as hub,
    ):
        await hub.p99_s(jobs)  # warm
        for _ in range(rounds):
            alone.append(await hub.p99_s(jobs) * 1000)
            holes = await hub.give(HOLE, lanes=LANES)
            beside.append(await hub.p99_s(jobs) * 1000)
            await hub.forget(holes)
    shown = f"p99 {middle(alone)} ms alone, {middle(beside)} ms beside it; {jobs} answers a round"
    return [
        Result(
            row=row,
            what="the others' answers beside a stuck account, p99 against without",
            values=ratios(beside, alone),
            at_most=1.1,
            absolute=shown,
        )
    ]
