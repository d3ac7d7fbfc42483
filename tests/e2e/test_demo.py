"""The demo of `make run` plays to its end, and every channel can be simulated at its hub.

Real: the demo's own process, the hub, MongoDB, the strict stand-ins of all vendors.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.mongo import mongod_binary
from tests.support.processes import ROOT

CHANNELS = ("site", "mail", "wechat", "weibo", "sms", "ivr")
WITHIN_S = 100.0

pytestmark = pytest.mark.real_mongo


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    mongod_binary()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "docs.demo.play"),
        cwd=ROOT,
        env={**os.environ, "OMNILINE_DEMO_DATA": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        async with asyncio.timeout(WITHIN_S):
            await process.communicate()


async def told(process: asyncio.subprocess.Process, last: str) -> str:
    """Return what the demo says until a line begins with ``last``."""
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(WITHIN_S):
        while not (lines and lines[-1].startswith(last)):
            line = await process.stdout.readline()
            assert line, "the demo ended:\n" + "".join(lines)
            lines.append(line.decode())
    return "".join(lines)


async def simulated(channel: str, config: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hub.cli", "simulate", channel, "--config", str(config)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(WITHIN_S):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest.mark.timeout(300)
async def test_the_demo_shows_one_customer_on_six_channels_and_each_can_be_simulated(
    demo: asyncio.subprocess.Process, tmp_path: Path
) -> None:
    said = await told(demo, "Stop it with Ctrl-C")
    for channel in (*CHANNELS[:-1], "phone"):
        assert f"  {channel:<8} < " in said, said
    for channel in ("site", "wechat", "sms"):
        line = next(line for line in said.splitlines() if line.startswith(f"  {channel:<8} > "))
        assert line.endswith("[accepted]"), said
    for channel in CHANNELS:
        code, output = await simulated(channel, tmp_path / "omniline.toml")
        assert code == 0, f"{channel}: {output}"
        assert len(output.splitlines()) >= 2, output
