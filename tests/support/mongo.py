"""Real MongoDB servers for tests, managed without an event loop so that any scope can hold them.

`OwnMongod` is one server (a replica set of one by default) that a fault test may kill, freeze and
start again; `ReplicaSet` is three of them with fast elections. Both end with the test process, even
when that is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo import pool_shared
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from hub.store.mongod import EmbeddedMongodError, find_mongod

START_SECONDS = 60.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.02
PR_SET_PDEATHSIG = 1
# Loaded before any fork: the child must not take the loader's lock.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def mongod_binary() -> Path:
    """Return the `mongod` to test with; skip the test without one, or fail if it is required."""
    try:
        return find_mongod()
    except EmbeddedMongodError as exc:
        if os.environ.get("OMNILINE_REQUIRE_REAL") == "1":
            pytest.fail(f"OMNILINE_REQUIRE_REAL=1, and there is no real MongoDB: {exc}")
        pytest.skip(f"NO REAL MONGODB, so this is not tested: {exc}")


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody uses now, below those of outgoing connections."""
    while True:
        port = random.randrange(20_000, 32_768)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


def wait_until(goal: str, reached: Callable[[], Any], seconds: float = START_SECONDS) -> Any:
    """Return what `reached` returns once that is true; database errors count as not yet."""
    ends = time.monotonic() + seconds
    while True:
        doubt = ""
        try:
            if result := reached():
                return result
        except PyMongoError as exc:
            doubt = f": {exc}"
        if time.monotonic() > ends:
            raise AssertionError(f"waited {seconds:g} s for {goal}{doubt}")
        time.sleep(POLL_SECONDS)


class OwnMongod:
    """One mongod of the test's own.

    replica_set: its name, or None for a standalone server.
    parameters: more `--setParameter` values, by name.
    initiate: whether `start` makes a replica set of one out of it.
    """

    def __init__(
        self,
        *,
        replica_set: str | None = "rs0",
        parameters: dict[str, Any] | None = None,
        initiate: bool = True,
        directory: Path | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.binary = mongod_binary()
        self.replica_set = replica_set
        self.parameters = {"transactionLifetimeLimitSeconds": 3} | (parameters or {})
        self.initiate = initiate and replica_set is not None
        self.arguments = arguments
        self.port = free_port()
        self.directory = directory or Path(tempfile.mkdtemp(prefix="omniline-mongod-"))
        self._owns_directory = directory is None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        query = f"?replicaSet={self.replica_set}" if self.replica_set else "?directConnection=true"
        return f"mongodb://{self.host}/{query}"

    @property
    def pid(self) -> int:
        assert self._child is not None, "not started"
        return self._child.pid

    def __enter__(self) -> OwnMongod:
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        if self._owns_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def client(self, **options: Any) -> pymongo.MongoClient[Any]:
        """Return a client of this very server, whatever its set thinks."""
        defaults: dict[str, Any] = {"directConnection": True, "serverSelectionTimeoutMS": 2_000}
        return pymongo.MongoClient("127.0.0.1", self.port, **defaults | options)

    def start(self) -> OwnMongod:
        """Start it (again, on the same port and data) and wait until it can be used."""
        self.spawn()
        if self.initiate:
            with self.client() as client:
                config = {"_id": self.replica_set, "members": [{"_id": 0, "host": self.host}]}
                with contextlib.suppress(OperationFailure):  # initiated by an earlier start
                    client.admin.command("replSetInitiate", config)
                wait_until("a primary", lambda: client.admin.command("hello")["isWritablePrimary"])
        return self

    def spawn(self) -> None:
        """Start the process and wait until its port is open."""
        assert self._child is None, "runs already"
        data = self.directory / "db"
        data.mkdir(parents=True, exist_ok=True)
        command = [str(self.binary), "--dbpath", str(data), "--port", str(self.port)]
        command += ["--bind_ip", "127.0.0.1", "--oplogSize", "64", "--quiet"]
        command += ["--wiredTigerCacheSizeGB", "0.25"]
        command += ["--wiredTigerEngineConfigString", "log=(file_max=16MB,prealloc=false)"]
        command += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
        for name, value in self.parameters.items():
            command += ["--setParameter", f"{name}={value}"]
        if self.replica_set:
            command += ["--replSet", self.replica_set]
        with (self.directory / "mongod.log").open("ab") as log:
            self._child = subprocess.Popen(
                [*command, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_with_parent,
            )
        wait_until(f"mongod on port {self.port}", self._accepts)

    def _accepts(self) -> bool:
        assert self._child is not None
        if self._child.poll() is not None:
            log = (self.directory / "mongod.log").read_text(errors="replace")[-2_000:]
            self._child = None
            raise AssertionError(f"mongod ended while starting: {log}")
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """Stop it in good order; nothing happens when it does not run."""
        if self._child is None:
            return
        self._child.send_signal(signal.SIGCONT)
        self._child.terminate()
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None

    def kill(self) -> None:
        """`kill -9`: it dies where it stands. `start` brings it back."""
        assert self._child is not None, "not started"
        self._child.kill()
        self._child.wait()
        self._child = None

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on as if nothing had been."""
        os.kill(self.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Keep it frozen for the block."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()


@contextlib.contextmanager
def sockets_of_cancelled_connections_closed() -> Iterator[None]:
    """Close what pymongo leaves open when a connection is cancelled while it is being made.

    Python closes such a socket itself a moment later, but with a ResourceWarning, which is an error
    in whatever test is running then. It happens whenever a client is closed while it reconnects.
    """
    creating = pool_shared._async_create_connection

    async def create(address: Any, options: Any) -> socket.socket:
        try:
            return await creating(address, options)
        except asyncio.CancelledError as exc:
            step = exc.__traceback__
            while step is not None:
                left_open = step.tb_frame.f_locals.get("sock")
                if step.tb_frame.f_code is creating.__code__ and left_open is not None:
                    left_open.close()
                step = step.tb_next
            raise

    pool_shared._async_create_connection = create
    try:
        yield
    finally:
        pool_shared._async_create_connection = creating


def _end_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class ReplicaSet:
    """`n` servers in one set with elections of about a second: `async with ReplicaSet() as rs:`."""

    def __init__(self, n: int = 3, *, election_ms: int = 1_000, heartbeat_ms: int = 200) -> None:
        self.name = "rs0"
        self.members = [OwnMongod(replica_set=self.name, initiate=False) for _ in range(n)]
        self._settings = {
            "electionTimeoutMillis": election_ms,
            "heartbeatIntervalMillis": heartbeat_ms,
        }

    @property
    def url(self) -> str:
        hosts = ",".join(member.host for member in self.members)
        return f"mongodb://{hosts}/?replicaSet={self.name}"

    async def __aenter__(self) -> ReplicaSet:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await asyncio.to_thread(self.stop)

    def start(self) -> None:
        """Start and initiate all members; return when there is a primary and the rest follow it."""
        try:
            for member in self.members:
                member.spawn()
            with self.members[0].client() as client:
                client.admin.command(
                    "replSetInitiate",
                    {
                        "_id": self.name,
                        "settings": self._settings,
                        "members": [
                            {"_id": number, "host": member.host}
                            for number, member in enumerate(self.members)
                        ],
                    },
                )
            wait_until("a primary and its secondaries", self._settled)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        # Without a majority the last ones would first try to hand over: they hold nothing we need.
        for member in self.members:
            if member._child is not None:
                member.kill()
            member.__exit__()

    def _states(self) -> list[str]:
        with self.primary().client() as client:
            status = client.admin.command("replSetGetStatus")
        return sorted(member["stateStr"] for member in status["members"])

    def _settled(self) -> bool:
        return self._states() == ["PRIMARY"] + ["SECONDARY"] * (len(self.members) - 1)

    def primary(self) -> OwnMongod:
        """Wait for a primary that can be written to, and return it."""
        found: OwnMongod = wait_until("a primary", self._find_primary)
        return found

    def _find_primary(self) -> OwnMongod | None:
        for member in self.members:
            if member._child is None:
                continue
            with self._client(member) as client, contextlib.suppress(PyMongoError):
                if client.admin.command("hello")["isWritablePrimary"]:
                    return member
        return None

    def _client(self, member: OwnMongod) -> pymongo.MongoClient[Any]:
        return member.client(serverSelectionTimeoutMS=500, socketTimeoutMS=500)

    async def step_down(self, seconds: int = 5) -> None:
        """Make the primary give up; return when another one is elected."""
        old = await asyncio.to_thread(self.primary)
        await asyncio.to_thread(self._step_down, old, seconds)

    def _step_down(self, old: OwnMongod, seconds: int) -> None:
        with old.client() as client, contextlib.suppress(AutoReconnect):
            client.admin.command(
                "replSetStepDown", seconds, secondaryCatchUpPeriodSecs=2, force=True
            )
        wait_until("another primary", lambda: self._find_primary() not in (None, old))

    async def kill_primary(self) -> OwnMongod:
        """`kill -9` the primary and return it at once; `restart` brings it back."""
        old = await asyncio.to_thread(self.primary)
        await asyncio.to_thread(old.kill)
        return old

    async def restart(self, member: OwnMongod) -> None:
        """Start a killed member again and wait until it follows (or leads)."""
        await asyncio.to_thread(member.spawn)
        await asyncio.to_thread(wait_until, "the member's return", self._settled)
