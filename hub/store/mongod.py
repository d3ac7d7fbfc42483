"""The embedded MongoDB: find a `mongod`, run it on a folder, and never run two on one folder.

For one machine, demos, tests and small shops. It is a replica set of one member, bound to
127.0.0.1 without a password: whoever can log in to the machine can read it.

    async with EmbeddedMongod(data_dir / "mongo") as server:
        driver = await open_driver(server.url, "omniline")

The folder holds `db/` (the data), `port` (the data belong to a port: a replica set knows its
members by address), `mongod.log` and `owner.lock`, locked by the process that owns the folder.

A server ends with its owner: on leaving the block, on errors, cancellations, failed starts and the
interpreter's exit. When the owner is killed outright (`kill -9`, a crash, a signal it does not
handle) the server goes on, and the next owner of the folder adopts it.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import fcntl
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, Any

import pymongo
import structlog
from pymongo.errors import OperationFailure, PyMongoError

from hub.store.driver_collections import PymongoAwaiter
from hub.store.mongod_binary import find_mongod, mongod_version
from hub.store.mongod_errors import (
    EmbeddedMongodError,
    FolderBusy,
    FolderUnusable,
    MongodFailed,
    MongodNotFound,
    MongodUnusable,
    PortInUse,
)
from hub.store.mongod_process import ServerProcess, command_line, last_words, signal_name

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

PORTS = range(20_000, 32_768)
"""Below Linux's ephemeral ports, so that no outgoing connection takes ours while we are down."""

LAUNCH_ATTEMPTS = 5
ADOPT_SECONDS = 15.0
LOCK_SECONDS = 1.0
LEAST_FREE_BYTES = 64 * 1024 * 1024
FULL_BYTES = 1024 * 1024
"""A server that dies with less than this free died of it, even if its log has no room to say so."""

LOG_BYTES = 8 * 1024 * 1024
"""mongod's log is moved to `mongod.log.1` when it is longer than this: twice this at most."""

LOG_CHECK_SECONDS = 30.0
POLL_SECONDS = 0.02
CLIENT_TIMEOUT_MS = 5_000

# Codes from MongoDB's error_codes.yml and exit codes from its exit_code.h.
_ALREADY_INITIALIZED = 23
_EXIT_PORT_IN_USE = 48
_EXIT_UNCAUGHT = 100
_FOLDER_IN_USE = "DBPathInUse"

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
        self.data_dir = Path(data_dir).resolve()
        self.log_path = self.data_dir / "mongod.log"
        self._db = self.data_dir / "db"
        self._port_path = self.data_dir / "port"
        self._lock_path = self.data_dir / "owner.lock"
        self._binary = binary
        self._configured_port = port
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._log = log or _log
        self._log_from = 0
        self._lock: IO[str] | None = None
        self._process: ServerProcess | None = None
        self._port: int | None = None
        self._watch: asyncio.Task[MongodFailed | None] | None = None
        self._stopping = False
        self._awaiter = PymongoAwaiter()

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
        await self._take_lock()
        return await self._bring_up_or_stop()

    async def restart(self) -> str:
        """Start the server again after it died (or stop it first); return the `url`, maybe new."""
        if self._lock is None:
            raise EmbeddedMongodError("only a server that was started can be restarted")
        await self._stop_process()
        return await self._bring_up_or_stop()

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
        free = self._free()
        if free < LEAST_FREE_BYTES:
            raise FolderUnusable(
                f"only {free // 2**20} MiB are free on the disk of {self.data_dir}, and the "
                f"embedded MongoDB needs {LEAST_FREE_BYTES // 2**20} to start. Make room, or move "
                "`data_dir` to another disk."
            )

    def _free(self) -> int:
        return shutil.disk_usage(self.data_dir).free

    def _folder_unusable(self, exc: OSError) -> FolderUnusable:
        return FolderUnusable(
            f"the embedded MongoDB's folder {self.data_dir} cannot be written: {exc}. "
            "Check `data_dir`, its owner, its mode and the space on its disk."
        )

    async def _take_lock(self) -> None:
        ends = time.monotonic() + LOCK_SECONDS
        while not self._try_lock():
            # A killed owner lets go of it a moment after it has gone from sight.
            if time.monotonic() >= ends:
                raise FolderBusy(
                    f"the folder {self.data_dir} is in use by another Omniline, process "
                    f"{self._lock_path.read_text('ascii').strip() or 'unknown'}. One `run` owns a "
                    "folder: stop that one, give this one another `data_dir`, or let it use that "
                    "one's database with `serve` and `mongo_url`."
                )
            await asyncio.sleep(POLL_SECONDS)

    def _try_lock(self) -> bool:
        lock = self._lock_path.open("a+", encoding="ascii")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            lock.close()
            if exc.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise self._folder_unusable(exc) from exc
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock
        return True

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

    async def _bring_up_or_stop(self) -> str:
        try:
            await self._bring_up()
        except OSError as exc:
            await self.stop()
            raise self._folder_unusable(exc) from exc
        except BaseException:
            await self.stop()
            raise
        return self.url

    async def _bring_up(self) -> None:
        self._stopping = False
        if not await self._adopt():
            await self._launch()
        assert self._process is not None
        self._keep_port(self.port)
        self._watch = asyncio.create_task(
            self._watch_process(self._process), name="embedded-mongod-watch"
        )
        self._log.info(
            "mongod_ready",
            pid=self.pid,
            port=self.port,
            folder=str(self.data_dir),
            adopted=self.adopted,
        )

    def _hold(self, process: ServerProcess, port: int) -> None:
        self._process, self._port = process, port
        atexit.register(process.end_soon)

    async def _adopt(self) -> bool:
        found = self._find_running()
        if found is None:
            return False
        process, port = found
        self._hold(process, port)
        self._log_from = self._log_size()
        if self._configured_port in (None, port):
            try:
                await self._make_ready(process, port, min(ADOPT_SECONDS, self._start_timeout))
                return True
            except MongodFailed as exc:
                reason = str(exc)
        else:
            reason = f"it listens on port {port}, and {self._configured_port} is configured"
        self._log.warning("mongod_not_adopted", pid=process.pid, reason=reason)
        await self._stop_process()
        self._stopping = False
        return False

    def _find_running(self) -> tuple[ServerProcess, int] | None:
        """Find a server on our data by the pid in mongod's own lock file, and its port."""
        try:
            pid = int((self._db / "mongod.lock").read_text("ascii"))
        except (FileNotFoundError, ValueError):
            return None
        process = ServerProcess(pid, None)
        # Looked at after the process is held by its descriptor, so that it is the same process.
        options = dict(itertools.pairwise(command_line(pid)))
        port = options.get("--port", "")
        if options.get("--dbpath") == str(self._db) and port.isdigit():
            return process, int(port)
        process.close()
        return None

    async def _launch(self) -> None:
        assert self._binary is not None
        version = await asyncio.to_thread(mongod_version, self._binary)
        self._log.info("mongod_starting", version=version, binary=str(self._binary))
        for attempt in range(1, LAUNCH_ATTEMPTS + 1):
            port = self._choose_port()
            process = self._spawn(port)
            self._hold(process, port)
            try:
                await self._make_ready(process, port, self._start_timeout)
                return
            except MongodFailed as exc:
                if attempt == LAUNCH_ATTEMPTS or not self._may_pass(exc):
                    raise
                self._log.warning("mongod_start_repeated", reason=str(exc))
            await self._stop_process()
            self._stopping = False
            # An owner may have been killed before its server had written its lock file.
            if await self._adopt():
                return

    def _may_pass(self, failure: MongodFailed) -> bool:
        if failure.exit_code == _EXIT_PORT_IN_USE:
            return self._configured_port is None
        return failure.exit_code == _EXIT_UNCAUGHT and _FOLDER_IN_USE in str(failure)

    def _spawn(self, port: int) -> ServerProcess:
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
        return ServerProcess(child.pid, child)

    async def _make_ready(self, process: ServerProcess, port: int, seconds: float) -> None:
        """Wait for the port, see to the replica set, wait for the primary."""
        ends = asyncio.get_running_loop().time() + seconds
        await self._until(process, ends, "open its port", lambda: _accepts(port))
        client: pymongo.AsyncMongoClient[Any] = pymongo.AsyncMongoClient(
            "127.0.0.1",
            port,
            directConnection=True,
            serverSelectionTimeoutMS=CLIENT_TIMEOUT_MS,
            socketTimeoutMS=CLIENT_TIMEOUT_MS,
        )
        async with client:
            goal = "take its replica set's configuration"
            await self._until(process, ends, goal, lambda: self._configure(client, port))
            goal = "become the primary of its replica set"
            await self._until(process, ends, goal, lambda: _is_primary(client))

    async def _configure(self, client: pymongo.AsyncMongoClient[Any], port: int) -> bool:
        """Initiate the replica set once; give it the present port when that has changed."""
        options = await client.admin.command("getCmdLineOpts")
        if options["parsed"].get("storage", {}).get("dbPath") != str(self._db):
            # Another program was quicker at the port; ours will end with that reason.
            return False
        members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
        stored = await client.local["system.replset"].find_one()
        if stored is None:
            config = {"_id": REPLICA_SET, "members": members}
            try:
                await client.admin.command("replSetInitiate", config)
            except OperationFailure as exc:
                if exc.code != _ALREADY_INITIALIZED:
                    raise
        elif [member["host"] for member in stored["members"]] != [members[0]["host"]]:
            stored["members"] = members
            stored["version"] += 1
            await client.admin.command("replSetReconfig", stored, force=True)
        return True

    async def _until(
        self,
        process: ServerProcess,
        ends: float,
        goal: str,
        reached: Callable[[], Awaitable[bool]],
    ) -> None:
        clock = asyncio.get_running_loop()
        doubt = ""
        while True:
            if not process.alive():
                raise self._died(process)
            try:
                async with asyncio.timeout_at(ends):
                    if await self._awaiter.wait(reached()):
                        return
            except (PyMongoError, TimeoutError) as exc:
                doubt = f" ({exc})" if str(exc) else ""
            if clock.time() >= ends:
                raise MongodFailed(
                    f"the embedded MongoDB in {self.data_dir} did not {goal} within "
                    f"{self._start_timeout:g} s{doubt}. {self._log_says()}"
                )
            await asyncio.sleep(POLL_SECONDS)

    # Watch

    async def _watch_process(self, process: ServerProcess) -> MongodFailed | None:
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

    def _died(self, process: ServerProcess) -> MongodFailed:
        code = process.exit_code
        if code is None:
            how = "ended"
        elif code < 0:
            how = f"was ended by signal {-code} ({signal_name(-code)})"
        else:
            how = f"exited with code {code}"
        says = self._log_says()
        remedy = ""
        if "No space left on device" in says or self._free() < FULL_BYTES:
            remedy = f" The disk of {self.data_dir} is full: make room and start again."
        elif code == _EXIT_UNCAUGHT and _FOLDER_IN_USE in says:
            remedy = f" Another mongod uses {self._db}: stop it first."
        elif code == -signal.SIGKILL:
            remedy = " Somebody killed it, or the system did because memory ran out."
        return MongodFailed(
            f"the embedded MongoDB in {self.data_dir} {how} by itself.{remedy} {says}", code
        )

    def _log_says(self) -> str:
        lines = last_words(self.log_path, self._log_from)
        said = "; ".join(lines) if lines else "nothing"
        return f"Its log {self.log_path} says: {said}"

    def _log_size(self) -> int:
        try:
            return self.log_path.stat().st_size
        except FileNotFoundError:
            return 0

    def _bound_log(self) -> None:
        try:
            if self._log_size() > LOG_BYTES:
                # The server goes on writing to the same file, at its end, so that is emptied.
                shutil.copyfile(self.log_path, self.log_path.with_name("mongod.log.1"))
                os.truncate(self.log_path, 0)
                self._log_from = 0
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
            atexit.unregister(process.end_soon)
            self._process = self._watch = None
            if watch is not None and not watch.done():
                await asyncio.wait({watch})
            process.close()

    async def _end(self, process: ServerProcess) -> None:
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


async def _is_primary(client: pymongo.AsyncMongoClient[Any]) -> bool:
    return bool((await client.admin.command("hello")).get("isWritablePrimary"))


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
