"""Interleaved rounds: naive, hub, naive, hub ..., and the ratios of each pair."""

from __future__ import annotations

import time

import msgspec

from tests.bench.load import Load, RanOut, run_wrk
from tests.bench.report import BenchError, Result, middle, ratios
from tests.bench.stage import HubSide, Side, Stage

KNOWN = 2000
FIRST_GUESS = 12_000  # messages that a second's warm-up is given
ATTEMPTS = 4


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One row of throughput, and its bars; a bar of None is for information."""

    connections: int
    rounds: int
    seconds: int
    new: bool = False  # every message is from somebody new, instead of 2 000 known customers
    sustained: float | None = None
    acknowledged: float | None = None
    p99: float | None = None
    cpu: float | None = None
    extra: str = ""  # further lines for [hub]
    more: str = ""  # further tables of the configuration
    naive_loop: str = "asyncio"  # what the naive handler runs on


class Round(msgspec.Struct, frozen=True):
    """What one side did in one window. Rates are messages a second."""

    count: int
    acknowledged: float
    sustained: float
    p50_ms: float
    p99_ms: float
    cpu_us: float  # of the process and MongoDB, for each message


async def throughput(stage: Stage, row: str, plan: Plan) -> list[Result]:
    """Measure a row. Raises BenchError when messages were refused or lost."""
    async with (
        stage.naive(plan.naive_loop) as naive,
        stage.hub(extra=plan.extra, more=plan.more) as hub,
    ):
        if not plan.new:
            await stage.make_known(hub, KNOWN)
        for side in (naive, hub):
            await _warm_up(stage, side, plan)
            await side.at_rest()
        found: dict[str, list[Round]] = {naive.name: [], hub.name: []}
        for _ in range(plan.rounds):
            for side in (naive, hub):
                found[side.name].append(await _one(stage, side, plan))
                await side.at_rest()
    if row == "sustained64":
        stage.sustained_rate = sorted(each.sustained for each in found["hub"])[plan.rounds // 2]
    return _results(row, plan, found["hub"], found["naive"])


async def _warm_up(stage: Stage, side: Side, plan: Plan) -> None:
    """Run a second that does not count, to see how many requests a window needs."""
    side.per_second = FIRST_GUESS
    load = await _window(stage, side, plan, seconds=1)
    side.per_second = int(load.rate * 2) + 500
    await side.drained()


async def _window(stage: Stage, side: Side, plan: Plan, *, seconds: int) -> Load:
    """Send for so long; again from the start, with more requests, when they run out."""
    for _ in range(ATTEMPTS):
        count = side.per_second * seconds
        records = stage.records(side, count, senders=0 if plan.new else KNOWN)
        await side.start()
        try:
            return await run_wrk(side.url, records, connections=plan.connections, seconds=seconds)
        except RanOut:
            side.per_second *= 2
            await side.drained()
    raise BenchError(f"{side.name}: even {count} requests did not last for {seconds} s")


async def _one(stage: Stage, side: Side, plan: Plan) -> Round:
    load = await _window(stage, side, plan, seconds=plan.seconds)
    sent_at = time.monotonic()
    await side.drained()
    seconds = load.seconds + time.monotonic() - sent_at
    cpu_s = side.cpu()
    stored = await side.stored()
    if stored < load.acknowledged:
        raise BenchError(f"{side.name}: {load.acknowledged} acknowledged, {stored} stored")
    return Round(
        load.acknowledged,
        load.rate,
        load.acknowledged / seconds,
        load.p50_ms,
        load.p99_ms,
        cpu_s / stored * 1e6,
    )


def _results(row: str, plan: Plan, hub: list[Round], naive: list[Round]) -> list[Result]:
    who = "new customers" if plan.new else "known customers"
    where = f"{who}, {plan.connections} connection{'s' if plan.connections > 1 else ''}"
    if plan.naive_loop != "asyncio":
        where += f", naive on {plan.naive_loop}"

    def line(what: str, field: str, unit: str, **bars: float | None) -> Result:
        mine = [getattr(each, field) for each in hub]
        theirs = [getattr(each, field) for each in naive]
        return Result(
            row=row,
            what=f"{what}, {where}",
            values=ratios(mine, theirs),
            absolute=f"hub {middle(mine)}, naive {middle(theirs)} {unit}",
            **bars,
        )

    results = [
        line("sustained", "sustained", "messages/s", at_least=plan.sustained),
        line("acknowledged", "acknowledged", "messages/s", at_least=plan.acknowledged),
        line("p50 of acknowledgements", "p50_ms", "ms"),
        line("p99 of acknowledgements", "p99_ms", "ms", at_most=plan.p99),
        line("CPU per message, with MongoDB's", "cpu_us", "µs", at_most=plan.cpu),
    ]
    if plan.new:
        made = sum(each.count for each in hub)
        results[0] = msgspec.structs.replace(
            results[0], absolute=f"{results[0].absolute}; {made} new customers"
        )
    return results


async def lag(stage: Stage, row: str, seconds: int) -> list[Result]:
    """Send at full speed for long; the lag is the age of the oldest message not routed then."""
    connections = 64
    async with stage.hub() as hub:
        await stage.make_known(hub, KNOWN)
        plan = Plan(connections=connections, rounds=1, seconds=seconds)
        await _warm_up(stage, hub, plan)
        load = await _window(stage, hub, plan, seconds=seconds)
        behind = await hub.oldest_waiting() or 0.0
        sent_at = time.monotonic()
        await hub.drained()
        drained_s = time.monotonic() - sent_at
    return [
        Result(
            row=row,
            what=f"lag after {seconds} s at full speed, {connections} connections",
            values=[behind],
            unit="s",
            at_most=2.0,
            absolute=f"{load.rate:.0f} messages/s acknowledged, all routed {drained_s:.2f} s later",
        )
    ]


async def sustained_rate(stage: Stage, hub: HubSide) -> float:
    """Return messages a second that this hub sustains, measured now if no row did before."""
    if not stage.sustained_rate:
        plan = Plan(connections=64, rounds=1, seconds=3)
        await _warm_up(stage, hub, plan)
        stage.sustained_rate = (await _one(stage, hub, plan)).sustained
    return stage.sustained_rate
