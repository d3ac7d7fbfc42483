"""`python -m tests.bench [--quick] [--rows NAME,NAME] [--rounds N]`: measure and report.

Exit codes: 0 every bar is met (or --report-only), 1 a bar is missed or a row failed, 2 something
that the benchmark needs is missing.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console

from hub.logs import configure_logs
from hub.store.mongod import EmbeddedMongodError, find_mongod
from tests.bench.load import MISSING, wrk_version
from tests.bench.report import BenchError, Result, show, surroundings, write
from tests.bench.rows import ROWS, Effort
from tests.bench.stage import Others, Stage
from tests.support.mongo import OwnMongod
from tests.support.processes import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
QUIET = 0.1  # of all cores
console = Console(width=None if sys.stdout.isatty() else 180)
began = time.monotonic()


def say(text: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - began), 60)
    click.echo(f"[{minutes:02d}:{seconds:02d}] {text}", err=True)


@click.command()
@click.option("--quick", is_flag=True, help="Shorter windows, fewer rounds: about three minutes.")
@click.option("--rows", default="", help=f"Only these, by commas: {', '.join(ROWS)}.")
@click.option("--rounds", type=click.IntRange(1), help="Rounds of each side (5; quick: 3).")
@click.option("--seconds", type=click.IntRange(1), help="Length of a window (5; quick: 1).")
@click.option("--report", type=click.Path(path_type=Path), help="Where the table is written.")
@click.option("--report-only", is_flag=True, help="Exit with 0 whatever the figures are.")
def main(
    quick: bool,
    rows: str,
    rounds: int | None,
    seconds: int | None,
    report: Path | None,
    report_only: bool,
) -> None:
    """Measure the pipeline against a naive handler. A full run writes docs/benchmarks.md."""
    configure_logs("warning")
    names = [name.strip() for name in rows.split(",") if name.strip()]
    if unknown := [name for name in names if name not in ROWS]:
        raise click.UsageError(f"there is no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    wrk = wrk_version()
    if not wrk:
        click.echo(MISSING, err=True)
        sys.exit(2)
    try:
        find_mongod()
    except EmbeddedMongodError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    effort = Effort(
        rounds=rounds or (3 if quick else 5), seconds=seconds or (1 if quick else 5), quick=quick
    )
    if report is None and not (quick or names):
        report = PAGE
    command = " ".join(["python -m tests.bench", *sys.argv[1:]])
    about = [*surroundings(_mongod_version(), wrk), f"`{command}`"]
    names = names or [name for name, row in ROWS.items() if row.quick or not quick]
    try:
        results, failures, disturbed = asyncio.run(_measure(names, effort))
    except (asyncio.CancelledError, KeyboardInterrupt):
        say("stopped; nothing was written")
        sys.exit(130)
    show(console, results)
    about.append(_disturbance(disturbed))
    say(about[-1])
    failed = "; ".join(failures)
    if report is not None:
        write(report, about, results, failed)
        say(f"written to {report}")
    else:
        say("not written: docs/benchmarks.md holds full runs only (--report PATH writes anyway)")
    missed = [each.what for each in results if each.passed is False]
    for text in [*failures, *(f"missed: {what}" for what in missed)]:
        say(text)
    sys.exit(1 if (missed or failures) and not report_only else 0)


def _mongod_version() -> str:
    shown = subprocess.run(
        [find_mongod(), "--version"], capture_output=True, text=True, check=False
    )
    return shown.stdout.partition("db version v")[2].partition("\n")[0]


def _disturbance(shares: Mapping[str, float]) -> str:
    """Say how far the figures can be trusted: what others do costs the two sides unlike much."""
    noisy = [f"{row} {share:.0%}" for row, share in shares.items() if share > QUIET]
    if not noisy:
        return f"a quiet machine: others used at most {QUIET:.0%} of its CPU in every row"
    return f"NOT A QUIET MACHINE, measure again: others used of its CPU in {', '.join(noisy)}"


async def _measure(
    names: Sequence[str], effort: Effort
) -> tuple[list[Result], list[str], dict[str, float]]:
    """Run the rows one after the other; one that cannot be measured does not stop the others."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    results: list[Result] = []
    failures: list[str] = []
    disturbed: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="omniline-bench-") as folder, OwnMongod() as mongod:
        stage = Stage(mongod, Path(folder), quick=effort.quick)
        for name in names:
            say(f"{name}: {ROWS[name].title}")
            others = Others(mongod)
            try:
                found = await ROWS[name].measure(stage, name, effort, say)
            except (BenchError, TimeoutError, RuntimeError, OSError, AssertionError) as error:
                failures.append(f"{name} was not measured: {type(error).__name__}: {error}")
                say(failures[-1])
                continue
            disturbed[name] = others.share()
            for each in found:
                bar = f"  [{each.bar}: {each.verdict}]" if each.bar else ""
                say(f"  {each.what}: {each.measured}{bar}  ({each.absolute})")
            results += found
        await stage.mongo.close()
    return results, failures, disturbed


if __name__ == "__main__":
    main()
