"""The fault proxy does to a connection what it says, to no other one, and leaves nothing behind.

Real: TCP on loopback, aiohttp as an HTTP server and client, aiosmtpd, aioimaplib. Faked: an IMAP
server that greets, lets in and answers NOOP. How the hub stands such faults is tested where the
hub is: tests/faults/test_proxied.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import aiosmtplib
import pytest
from aiohttp import web
from aioimaplib import IMAP4, CommandTimeout
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.support.fault_proxy import FaultProxy, Faults

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # what the faults do to it is the client's to see
    finally:
        writer.close()


@asynccontextmanager
async def _serving(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[FaultProxy]:
    """A server that talks so, behind a proxy."""
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        async with FaultProxy(*server.sockets[0].getsockname()[:2]) as proxy:
            yield proxy
    finally:
        server.close()
        await server.wait_closed()


@pytest.fixture
async def echo() -> AsyncIterator[FaultProxy]:
    async with _serving(_echo) as proxy:
        yield proxy


@asynccontextmanager
async def _connected(proxy: FaultProxy) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _said(streams: Streams, data: bytes) -> bytes:
    reader, writer = streams
    writer.write(data)
    async with asyncio.timeout(5):
        return await reader.readexactly(len(data))


async def _read_out(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(5):
        await reader.read()


async def _nothing_comes(reader: asyncio.StreamReader, within_s: float = 0.15) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(within_s):
            await reader.read(1)


# --- bytes ---------------------------------------------------------------------------------------


async def test_without_faults_everything_passes_unchanged_and_is_counted(echo: FaultProxy) -> None:
    data = bytes(range(256)) * 2000
    async with _connected(echo) as streams:
        assert await _said(streams, data) == data
    assert (echo.counts.connections, echo.counts.sent, echo.counts.answered) == (
        1,
        len(data),
        len(data),
    )
    assert (echo.counts.resets, echo.counts.answers_lost) == (0, 0)


async def test_the_end_of_what_a_client_says_is_passed_on(echo: FaultProxy) -> None:
    async with _connected(echo) as (reader, writer):
        writer.write(b"last words")
        writer.write_eof()
        async with asyncio.timeout(5):
            assert await reader.read() == b"last words"


async def test_who_connects_while_it_refuses_is_refused_and_open_connections_stay(
    echo: FaultProxy,
) -> None:
    async with _connected(echo) as streams:
        await _said(streams, b"before")
        await echo.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(echo.host, echo.port)
        assert await _said(streams, b"still") == b"still"
    port = echo.port
    await echo.accept()
    assert echo.port == port
    async with _connected(echo) as streams:
        assert await _said(streams, b"again") == b"again"


async def test_a_reset_is_seen_as_one(echo: FaultProxy) -> None:
    echo.next(Faults(reset=True))
    async with _connected(echo) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
    async with _connected(echo) as streams:  # that was for one connection
        assert await _said(streams, b"well") == b"well"
        echo.set(Faults(reset=True))
        with pytest.raises(ConnectionResetError):
            await _said(streams, b"x")
    assert echo.counts.resets == 2


async def test_an_idle_connection_can_be_dropped(echo: FaultProxy) -> None:
    async with _connected(echo) as streams:
        await _said(streams, b"x")
        await echo.drop_all()
        with pytest.raises(ConnectionResetError):
            await streams[0].read(1)
    assert echo.connections == []


async def test_latency_makes_both_directions_late(echo: FaultProxy) -> None:
    echo.set(Faults(latency_s=0.1))
    async with _connected(echo) as streams:
        began = time.monotonic()
        await _said(streams, b"x")
        assert time.monotonic() - began >= 0.2


async def test_a_blackhole_accepts_and_answers_nothing_until_it_is_lifted(echo: FaultProxy) -> None:
    echo.set(Faults(blackhole=True))
    async with _connected(echo) as (reader, writer):
        writer.write(b"hello?")
        await _nothing_comes(reader)
        assert echo.counts.sent == 0
        echo.set()
        async with asyncio.timeout(5):
            assert await reader.readexactly(6) == b"hello?"


async def test_a_connection_can_stop_in_the_middle_of_a_stream(echo: FaultProxy) -> None:
    async with _connected(echo) as streams, _connected(echo) as other:
        await _said(streams, b"begin")
        await _said(other, b"begin")
        echo.connections[0].set(Faults(blackhole=True))
        streams[1].write(b"and on")
        await _nothing_comes(streams[0])
        assert await _said(other, b"the other goes on") == b"the other goes on"
        echo.connections[0].set(None)
        async with asyncio.timeout(5):
            assert await streams[0].readexactly(6) == b"and on"


@pytest.mark.parametrize("size", [1, 100, 40_000])
async def test_it_cuts_after_so_many_bytes(echo: FaultProxy, size: int) -> None:
    echo.set(Faults(cut_after_answered=size))
    async with _connected(echo) as (reader, writer):
        writer.write(b"x" * 50_000)
        with pytest.raises(ConnectionResetError):
            await _read_out(reader)
    assert echo.counts.answered == size


async def test_a_request_can_be_cut_before_it_is_whole(echo: FaultProxy) -> None:
    echo.next(Faults(cut_after_sent=10))
    async with _connected(echo) as (reader, writer):
        writer.write(b"x" * 50)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(50)
    assert echo.counts.sent == 10


async def test_a_slow_connection_passes_so_many_bytes_a_second(echo: FaultProxy) -> None:
    echo.set(Faults(bytes_per_s=10_000))
    async with _connected(echo) as streams:
        began = time.monotonic()
        data = bytes(4_000)
        assert await _said(streams, data) == data
        assert time.monotonic() - began >= 0.35


async def test_counts_can_be_waited_for(echo: FaultProxy) -> None:
    async with _connected(echo) as (_, writer):
        writer.write(b"1234")
        assert (await echo.until(lambda counts: counts.answered == 4)).sent == 4
    with pytest.raises(AssertionError, match="only this passed"):
        await echo.until(lambda counts: counts.sent > 4, within_s=0.05)


async def test_leaving_it_ends_connections_in_every_state_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with _serving(_echo) as proxy, _connected(proxy) as well, _connected(proxy) as held:
        await _said(well, b"x")
        proxy.next(Faults(blackhole=True))
        async with _connected(proxy) as stuck:
            stuck[1].write(b"x" * 1_000_000)
            proxy.connections[1].set(Faults(latency_s=60))
            held[1].write(b"late")
            await proxy.until(lambda counts: counts.connections == 3)
            await proxy.__aexit__(None, None, None)
            for reader, _ in (well, held, stuck):
                with pytest.raises(ConnectionResetError):
                    await _read_out(reader)
            assert proxy.connections == []
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(proxy.host, proxy.port)

    async def only_these() -> None:
        async with asyncio.timeout(5):
            while asyncio.all_tasks() - before - {asyncio.current_task()}:
                await asyncio.sleep(0.01)

    await asyncio.create_task(only_these())


# --- HTTP ----------------------------------------------------------------------------------------


async def test_an_http_answer_is_lost_after_the_request_was_done(echo: FaultProxy) -> None:
    """The server has acted, the client sees a broken connection; the next request is answered."""
    did: list[str] = []

    async def act(request: web.Request) -> web.Response:
        did.append(await request.text())
        return web.Response(text="done")

    app = web.Application()
    app.router.add_post("/", act)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with (
            FaultProxy(*runner.addresses[0][:2]) as proxy,
            aiohttp.ClientSession() as http,
        ):
            proxy.next(Faults(lose_answer=b""))
            with pytest.raises(aiohttp.ClientError):
                await http.post(proxy.url, data="one")
            async with http.post(proxy.url, data="two") as answer:
                assert await answer.text() == "done"
            assert did == ["one", "two"]
            assert (proxy.counts.answers_lost, proxy.counts.resets) == (1, 1)
    finally:
        await runner.cleanup()


# --- SMTP ----------------------------------------------------------------------------------------


class _Letterbox:
    """Keeps what it was given."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.original_content, bytes)
        self.got.append(envelope.original_content)
        return "250 OK, I have it"


@asynccontextmanager
async def _mail_server() -> AsyncIterator[tuple[FaultProxy, _Letterbox]]:
    letterbox = _Letterbox()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(letterbox, hostname="test", loop=loop), "127.0.0.1", 0
    )
    try:
        async with FaultProxy(*server.sockets[0].getsockname()[:2]) as proxy:
            yield proxy, letterbox
    finally:
        server.close()
        await server.wait_closed()


async def _mail(proxy: FaultProxy, timeout: float = 5.0) -> None:
    await aiosmtplib.send(
        "Subject: hi\r\n\r\nhello\r\n",
        sender="ann@example.com",
        recipients=["shop@example.com"],
        hostname=proxy.host,
        port=proxy.port,
        timeout=timeout,
    )


async def test_a_mail_servers_word_is_lost_after_it_took_the_mail() -> None:
    """The dialogue before passes: only the answer behind end-of-data is swallowed."""
    async with _mail_server() as (proxy, letterbox):
        proxy.next(Faults(lose_answer=b"\r\n.\r\n"))
        with pytest.raises((aiosmtplib.SMTPException, OSError)):
            await _mail(proxy)
        assert len(letterbox.got) == 1
        assert proxy.counts.answers_lost == 1
        assert proxy.counts.answered > 100  # the greeting and what came before
        await _mail(proxy)
        assert len(letterbox.got) == 2


async def test_a_mail_that_is_cut_before_its_end_is_not_taken() -> None:
    async with _mail_server() as (proxy, letterbox):
        proxy.next(Faults(cut_after_sent=90))
        with pytest.raises((aiosmtplib.SMTPException, OSError)):
            await _mail(proxy)
        assert letterbox.got == []


async def test_a_mail_server_that_never_greets_costs_the_client_its_deadline() -> None:
    async with _mail_server() as (proxy, letterbox):
        proxy.next(Faults(blackhole=True))
        with pytest.raises(aiosmtplib.SMTPTimeoutError):
            await _mail(proxy, timeout=0.3)
        assert letterbox.got == []


# --- IMAP ----------------------------------------------------------------------------------------


async def _imap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"* OK [CAPABILITY IMAP4rev1] hello\r\n")
    try:
        while line := await reader.readline():
            tag, name = line.split()[:2]
            if name == b"CAPABILITY":
                writer.write(b"* CAPABILITY IMAP4rev1\r\n")
            writer.write(tag + b" OK done\r\n")
            await writer.drain()
    except ConnectionError:
        pass  # cut by the proxy
    finally:
        writer.close()


async def test_a_mailbox_stops_answering_in_the_middle_of_a_session() -> None:
    async with _serving(_imap) as proxy:
        client = IMAP4(proxy.host, proxy.port, timeout=0.5)
        await client.wait_hello_from_server()
        assert (await client.login("ann", "secret")).result == "OK"
        proxy.set(Faults(blackhole=True))
        with pytest.raises((TimeoutError, CommandTimeout)):
            await client.noop()
        passed = proxy.counts.sent
        proxy.set()
        await proxy.until(lambda counts: counts.sent > passed)  # what was kept back arrives
        client.protocol.transport.abort()
