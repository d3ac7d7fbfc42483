"""The benchmark itself runs, counts and reports rightly. How fast anything is, is not tested.

Real: wrk, MongoDB, the hub and the naive handler as processes of their own.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from hub.clock import SystemClock
from hub.contract import Request
from hub.testing.samples.webhook import check_signature
from tests.bench.load import MISSING, write_records, wrk_version
from tests.bench.report import BEGIN, END, Result, write
from tests.support.mongo import mongod_binary
from tests.support.processes import ROOT, SECRET


@pytest.fixture
def wrk() -> str:
    """The version of wrk; skips loudly without one."""
    mongod_binary()
    version = wrk_version()
    if not version:
        pytest.skip(f"NO WRK, so the benchmark is not tried: {MISSING}")
    return version


async def _bench(*arguments: str, path: str | None = None) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench", *arguments),
        cwd=ROOT,
        env={**os.environ, **({} if path is None else {"PATH": path})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(110):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_a_short_run_measures_both_sides_and_writes_its_report(
    wrk: str, tmp_path: Path
) -> None:
    report = tmp_path / "report.md"
    arguments = "--quick --rows ack16 --rounds 1 --seconds 1 --report-only --report"
    code, output = await _bench(*arguments.split(), str(report))
    assert code == 0, output
    text = report.read_text("utf-8")
    line = next(line for line in text.splitlines() if "| acknowledged," in line)
    figures = re.search(r"\| ([\d.]+)x \| ≥ 1x \| (pass|FAIL) \| hub (\d+), naive (\d+)", line)
    assert figures is not None, line
    assert int(figures[3]) > 0
    assert int(figures[4]) > 0
    assert float(figures[1]) == pytest.approx(int(figures[3]) / int(figures[4]), abs=0.06)
    assert f"wrk {wrk}" in text


async def test_without_wrk_it_says_what_to_install_and_exits_with_2(tmp_path: Path) -> None:
    code, output = await _bench("--quick", path=str(tmp_path))
    assert code == 2
    assert "apt-get install wrk" in output


def test_every_request_is_genuine_unlike_all_others_and_as_long_as_they_are(
    tmp_path: Path,
) -> None:
    records = write_records(tmp_path / "requests", "http://127.0.0.1:80", "m1", 50, senders=7)
    data = records.path.read_bytes()
    assert len(data) == 50 * records.length
    bodies = set()
    for start in range(0, len(data), records.length):
        head, _, body = data[start : start + records.length].partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        headers = {name.lower(): value for name, value in fields.items()}
        assert int(headers["content-length"]) == len(body)
        now = SystemClock().now()
        request = Request(method="POST", url="", headers=headers, body=body, received_at=now)
        check_signature(request, [SECRET.encode()])
        bodies.add(body)
    assert len(bodies) == 50


def test_the_report_replaces_its_own_part_and_keeps_what_was_written_by_hand(
    tmp_path: Path,
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{BEGIN}\nold figures\n{END}\n\n## Method\n", "utf-8")
    result = Result(row="r", what="a thing", values=[3.0, 1.0, 2.0], at_least=1.5)
    write(page, ["today"], [result], "")
    text = page.read_text("utf-8")
    assert text.startswith(f"# Title\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\n## Method\n")
    assert "old figures" not in text
    assert "| r | a thing | 2x (median of 3: 1 to 3) | ≥ 1.50x | pass |" in text


@pytest.mark.parametrize(
    ("result", "passed"),
    [
        (Result(row="r", what="w", values=[1.0, 2.0, 9.0], at_least=2.0), True),
        (Result(row="r", what="w", values=[1.9, 1.0, 9.0], at_least=2.0), False),
        (Result(row="r", what="w", values=[0.5, 0.6, 9.0], at_most=0.6), True),
        (Result(row="r", what="w", values=[0.5, 0.6, 9.0], at_most=0.6, worst=True), False),
        (Result(row="r", what="w", values=[1.0]), None),
    ],
)
def test_a_bar_holds_for_the_median_or_where_said_so_for_the_worst_round(
    result: Result, passed: bool | None
) -> None:
    assert result.passed is passed
