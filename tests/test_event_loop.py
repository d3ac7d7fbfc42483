"""Which event loop a serving process runs on."""

from __future__ import annotations

import asyncio
import inspect
import sys
from pathlib import Path

import pytest
import uvloop

from hub import cli
from hub.event_loop import LoopChoice, LoopMissing, run_on


async def running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


@pytest.fixture
def without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)  # importing it fails


@pytest.mark.parametrize(
    ("choice", "is_uvloop"), [("auto", True), ("uvloop", True), ("asyncio", False)]
)
def test_the_loop_is_the_chosen_one(choice: LoopChoice, is_uvloop: bool) -> None:
    assert isinstance(run_on(choice, running_loop()), uvloop.Loop) is is_uvloop


@pytest.mark.usefixtures("without_uvloop")
@pytest.mark.parametrize("choice", ["auto", "asyncio"])
def test_without_uvloop_pythons_own_serves(choice: LoopChoice) -> None:
    assert isinstance(run_on(choice, running_loop()), asyncio.SelectorEventLoop)


@pytest.mark.usefixtures("without_uvloop")
def test_a_wanted_uvloop_that_is_missing_is_told_and_nothing_runs() -> None:
    work = running_loop()
    with pytest.raises(LoopMissing, match=r"install omniline\[uvloop\]"):
        run_on("uvloop", work)
    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED


@pytest.mark.usefixtures("without_uvloop")
def test_the_command_says_so_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "omniline.toml"
    config.write_text(f'[hub]\ndata_dir = "{tmp_path}"\nevent_loop = "uvloop"\n')
    monkeypatch.setattr(sys, "argv", ["omniline", "run", "--config", str(config)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    told = capsys.readouterr().err
    assert "install omniline[uvloop]" in told
    assert "Traceback" not in told
