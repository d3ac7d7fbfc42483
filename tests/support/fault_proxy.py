"""A TCP proxy on loopback that misbehaves on demand, for any server: HTTP, SMTP, IMAP, MongoDB.

    async with FaultProxy("127.0.0.1", port) as proxy:
        client = connect(proxy.host, proxy.port)
        proxy.set(Faults(latency_s=0.2))          # for all connections, old and new
        proxy.next(Faults(lose_answer=b""))        # for the next connection only
        await proxy.refuse()                       # nobody listens any more
        await proxy.accept()                       # again, on the same port

Faults can be changed while connections are open: they hold from the next chunk on. What a
blackhole kept back is delivered when it is lifted, as after a network that was away.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable
from types import TracebackType

import msgspec

CHUNK = 16 * 1024
SLOW_TICK_S = 0.05  # how often a slow connection passes something on
WAIT_S = 10.0


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """How a connection is treated. The default passes everything on at once, unchanged."""

    reset: bool = False  # RST: at once for a new connection, at the next chunk for an open one
    latency_s: float = 0.0  # each chunk is late by this, in either direction
    blackhole: bool = False  # the connection stands and nothing passes, in either direction
    # The answer is lost after the request was done: what the client sends passes; the first
    # answer after it has sent these bytes (b"": any byte) is swallowed and the connection reset.
    lose_answer: bytes | None = None
    cut_after_sent: int | None = None  # reset once so many bytes of the client have passed
    cut_after_answered: int | None = None  # reset once so many bytes of the server have passed
    bytes_per_s: float | None = None  # in each direction


HEALTHY = Faults()


class Counts(msgspec.Struct, kw_only=True):
    """What passed so far, of one connection or of all."""

    connections: int = 0
    sent: int = 0  # bytes from clients that reached the server
    answered: int = 0  # bytes from the server that reached clients
    answers_lost: int = 0
    resets: int = 0  # connections ended by a fault, lost answers among them


class _Cut(Exception):
    """A fault ends the connection."""


class ProxiedConnection:
    """One client's connection, steered by its own faults or else by the proxy's."""

    def __init__(self, proxy: FaultProxy, faults: Faults | None) -> None:
        self._proxy = proxy
        self.own_faults = faults
        self.counts = Counts(connections=1)
        self._asked = b""  # the last bytes of the client, as many as the trigger has
        self._answer_due = False  # the client has sent what ``lose_answer`` waits for

    @property
    def faults(self) -> Faults:
        return self._proxy.faults if self.own_faults is None else self.own_faults

    def set(self, faults: Faults | None) -> None:
        """Give this connection faults of its own; None leaves it to the proxy's again."""
        self.own_faults = faults
        self._proxy._steered()

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes both ways until both sides have ended or a fault cuts it."""
        server: asyncio.StreamWriter | None = None
        pumps: list[asyncio.Task[None]] = []
        try:
            self._check_reset()
            answers, server = await asyncio.open_connection(*self._proxy.upstream)
            pumps += [
                asyncio.create_task(self._pump(reader, server, answers=False)),
                asyncio.create_task(self._pump(answers, writer, answers=True)),
            ]
            await asyncio.gather(*pumps)
        except _Cut:
            self._count("resets", 1)
            _reset(writer)
            if server is not None:
                _reset(server)
        except (OSError, asyncio.CancelledError) as error:  # one side went away, or the proxy does
            _reset(writer)
            if server is not None:
                _reset(server)
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            writers = [writer] if server is None else [writer, server]
            for each in writers:  # all of them, before anything is waited for
                each.close()
            for each in writers:
                with contextlib.suppress(OSError):
                    await each.wait_closed()

    async def _pump(
        self, source: asyncio.StreamReader, into: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while chunk := await source.read(CHUNK):
            await self._while_held()
            self._check_reset()
            if answers:
                self._maybe_lose()
            else:
                self._note_request(chunk)
            if self.faults.latency_s:
                await asyncio.sleep(self.faults.latency_s)
            await self._pass_on(chunk, into, answers=answers)
        await self._while_held()
        if into.can_write_eof():
            into.write_eof()

    async def _pass_on(self, chunk: bytes, into: asyncio.StreamWriter, *, answers: bool) -> None:
        """Write a chunk as fast and as far as the faults allow."""
        name = "answered" if answers else "sent"
        while chunk:
            faults = self.faults
            limit = faults.cut_after_answered if answers else faults.cut_after_sent
            room = len(chunk) if limit is None else max(0, limit - getattr(self.counts, name))
            if faults.bytes_per_s is not None:
                room = min(room, max(1, int(faults.bytes_per_s * SLOW_TICK_S)))
            piece, chunk = chunk[:room], chunk[room:]
            into.write(piece)
            await into.drain()
            self._count(name, len(piece))
            if limit is not None and getattr(self.counts, name) >= limit:
                await _flushed(into)
                raise _Cut
            if faults.bytes_per_s is not None:
                await asyncio.sleep(len(piece) / faults.bytes_per_s)
                await self._while_held()

    def _note_request(self, chunk: bytes) -> None:
        trigger = self.faults.lose_answer
        if trigger is None:
            return
        seen = self._asked + chunk
        self._answer_due |= trigger in seen
        self._asked = seen[-len(trigger) :] if trigger else b""

    def _maybe_lose(self) -> None:
        if self.faults.lose_answer is not None and self._answer_due:
            self._count("answers_lost", 1)
            raise _Cut

    def _check_reset(self) -> None:
        if self.faults.reset:
            raise _Cut

    async def _while_held(self) -> None:
        while self.faults.blackhole:
            await self._proxy._changed.wait()

    def _count(self, name: str, more: int) -> None:
        for counts in (self.counts, self._proxy.counts):
            setattr(counts, name, getattr(counts, name) + more)
        self._proxy._happened.set()


class FaultProxy:
    """Listens on a free port of 127.0.0.1 and passes connections on to ``host:port``.

    Leaving its context ends every connection, task and socket it has, whatever state they are in.
    """

    def __init__(self, host: str, port: int) -> None:
        self.upstream = (host, port)
        self.host = "127.0.0.1"
        self.port = 0
        self.faults = HEALTHY
        self.counts = Counts()
        self.connections: list[ProxiedConnection] = []  # those that are open, oldest first
        self._next: deque[Faults] = deque()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._happened = asyncio.Event()

    @property
    def url(self) -> str:
        """The proxy as an HTTP server."""
        return f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> FaultProxy:
        await self.accept()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.refuse()
        await self._end_all()

    # --- steering ------------------------------------------------------------------------------

    def set(self, faults: Faults = HEALTHY) -> None:
        """Treat all connections so from now on, except those that have faults of their own."""
        self.faults = faults
        self._steered()

    def next(self, *faults: Faults) -> None:
        """Treat the next connections so, one each; the ones after them as all are treated."""
        self._next.extend(faults)

    async def refuse(self) -> None:
        """Stop listening: who connects now is refused. Open connections stay."""
        if self._server is not None:
            self._server.close()  # not wait_closed: that may wait for the open connections
            self._server = None

    async def accept(self) -> None:
        """Listen (again), on the port that it had before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._came, self.host, self.port, limit=CHUNK)
            self.port = self._server.sockets[0].getsockname()[1]

    async def drop_all(self) -> None:
        """Reset every open connection now, whether anything passes on it or not."""
        self.counts.resets += len(self.connections)
        await self._end_all()

    async def until(self, holds: Callable[[Counts], bool], within_s: float = WAIT_S) -> Counts:
        """Wait until the counts fulfil a condition. Raises AssertionError when they never do."""
        try:
            async with asyncio.timeout(within_s):
                while not holds(self.counts):
                    self._happened.clear()
                    await self._happened.wait()
        except TimeoutError:
            raise AssertionError(f"waited {within_s} s; only this passed: {self.counts}") from None
        return self.counts

    def _steered(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # --- connections ---------------------------------------------------------------------------

    def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = ProxiedConnection(self, self._next.popleft() if self._next else None)
        self.connections.append(connection)
        self.counts.connections += 1
        self._happened.set()
        task = asyncio.create_task(connection.run(reader, writer))
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self.connections.remove(connection)
            if task.cancelled():  # before it began to run, too: then nobody else closes it
                _reset(writer)

        task.add_done_callback(ended)

    async def _end_all(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST: what it still had to say is thrown away."""
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.transport.is_closing():
        with contextlib.suppress(OSError):  # closed by the other side meanwhile
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _flushed(writer: asyncio.StreamWriter) -> None:
    """Wait until the kernel has everything: a reset takes away what it has not sent."""
    writer.transport.set_write_buffer_limits(high=0)
    await writer.drain()
