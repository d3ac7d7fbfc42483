"""Fetching by a stranger's URL: the vendor's hosts only, public addresses only, within bounds.

Real: HTTP, redirects, the resolver's results as aiohttp uses them. Names are resolved by a table
of the test's, in the place of DNS.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from hub.media.safe_fetch import MAX_REDIRECTS, SafeFetcher
from hub.testing.clock import FakeClock
from normalizer.outcomes import Failure, Gone, Misconfigured, RateLimited, Rejected, Temporary

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def fetcher() -> AsyncIterator[SafeFetcher]:
    made = SafeFetcher(FakeClock(), ["127.0.0.1", "files.vendor.example", "cdn.vendor.example"])
    yield made
    await made.close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names and the addresses that each look-up of them answers, the last one again and again."""
    known: dict[str, list[str]] = {}
    real = asyncio.BaseEventLoop.getaddrinfo

    async def getaddrinfo(self: asyncio.BaseEventLoop, host: str, port: Any, **more: Any) -> Any:
        if host not in known:
            return await real(self, host, port, **more)
        address = known[host].pop(0) if len(known[host]) > 1 else known[host][0]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return known


async def body_of(fetcher: SafeFetcher, url: str, *hosts: str, **more: Any) -> bytes:
    fetched = await fetcher.fetch(url, hosts=hosts, **more)
    return b"".join([chunk async for chunk in fetched.stream])


async def test_a_file_comes_with_what_the_vendor_says_of_it(fetcher: SafeFetcher) -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer key"
        assert request.headers["Accept-Encoding"] == "identity"
        disposition = "attachment; filename*=UTF-8''%E7%8C%AB.jpg"
        return web.Response(
            body=b"bytes", content_type="image/jpeg", headers={"Content-Disposition": disposition}
        )

    async with server(handler) as host:
        fetched = await fetcher.fetch(
            f"http://{host}/a", hosts=[host], headers={"Authorization": "Bearer key"}
        )
        assert (fetched.mime, fetched.name, fetched.size) == ("image/jpeg", "猫.jpg", 5)
        assert b"".join([chunk async for chunk in fetched.stream]) == b"bytes"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://files.example/a",
        "file:///etc/passwd",
        "https://evil.example/a",
        "https://files.example.evil.example/a",
        "https://evilfiles.example/a",
        "https://files.example@evil.example/a",
        "https://user:pw@files.example/a",
        "https://files.example:8443/a",
        "https://files.example:bad/a",
        "https://[::1/a",
        "//files.example/a",
        "",
    ],
)
async def test_only_the_vendors_hosts_are_asked(fetcher: SafeFetcher, url: str) -> None:
    with pytest.raises(Rejected):
        await fetcher.fetch(url, hosts=["files.example", "*.files.example"])


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "fe80::1",
        "fd00::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
    ],
)
async def test_a_name_that_leads_to_a_private_address_is_not_asked(
    names: dict[str, list[str]], address: str
) -> None:
    names["files.example"] = [address]
    plain = SafeFetcher(FakeClock())
    with pytest.raises(Rejected, match="not public"):
        await plain.fetch("http://files.example/a", hosts=["files.example"])
    literal = f"[{address}]" if ":" in address else address
    if ":" not in address:
        with pytest.raises(Rejected, match="not public"):
            await plain.fetch(f"http://{literal}/a", hosts=[address])
    await plain.close()


async def test_a_name_is_resolved_once_for_a_connection(
    fetcher: SafeFetcher, names: dict[str, list[str]]
) -> None:
    """What was checked is what is connected to: a second answer of the name is never asked for."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=b"here")

    async with server(handler) as host:
        port = host.partition(":")[2]
        names["files.vendor.example"] = ["127.0.0.1", "203.0.113.9"]
        url = f"http://files.vendor.example:{port}/a"
        assert await body_of(fetcher, url, f"files.vendor.example:{port}") == b"here"
        assert names["files.vendor.example"] == ["203.0.113.9"]


async def test_a_redirect_is_followed_to_the_vendors_hosts_without_the_key(
    fetcher: SafeFetcher, names: dict[str, list[str]]
) -> None:
    names["cdn.vendor.example"] = ["127.0.0.1"]
    keys: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        keys.append(request.headers.get("Authorization", ""))
        if request.path == "/a":
            port = request.url.port
            raise web.HTTPFound(f"http://cdn.vendor.example:{port}/b")
        return web.Response(body=b"from the network")

    async with server(handler) as host:
        cdn = f"cdn.vendor.example:{host.partition(':')[2]}"
        headers = {"Authorization": "Bearer key"}
        url = f"http://{host}/a"
        assert await body_of(fetcher, url, host, cdn, headers=headers) == b"from the network"
        assert keys == ["Bearer key", ""]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://169.254.169.254/latest/meta-data", "not one of the vendor's hosts"),
        ("file:///etc/passwd", "not an http"),
        ("", "redirects more than"),
    ],
)
async def test_a_redirect_to_elsewhere_is_not_followed(
    fetcher: SafeFetcher, target: str, reason: str
) -> None:
    asked = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(status=302, headers={"Location": target or request.path})

    async with server(handler) as host:
        with pytest.raises(Rejected, match=reason):
            await fetcher.fetch(f"http://{host}/a", hosts=[host])
    assert asked <= MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (404, Gone),
        (410, Gone),
        (401, Misconfigured),
        (403, Misconfigured),
        (408, Temporary),
        (429, RateLimited),
        (500, Temporary),
        (503, Temporary),
        (400, Rejected),
        (206, Rejected),
    ],
)
async def test_each_answer_is_told_as_what_it_is(
    fetcher: SafeFetcher, status: int, failure: type[Failure]
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": "7"})

    async with server(handler) as host:
        with pytest.raises(failure) as raised:
            await fetcher.fetch(f"http://{host}/a", hosts=[host])
    if isinstance(raised.value, RateLimited):
        assert raised.value.retry_after == 7.0


@pytest.mark.parametrize("told", [True, False])
async def test_a_file_over_the_limit_is_refused_whether_its_size_is_told_or_not(
    fetcher: SafeFetcher, told: bool
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if told:
            return web.Response(body=b"x" * 5000)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x" * 5000)
        return response

    async with server(handler) as host:
        with pytest.raises(Rejected, match="bytes"):
            await body_of(fetcher, f"http://{host}/a", host, max_bytes=4000)


async def test_a_compressed_answer_is_not_unpacked(fetcher: SafeFetcher) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})

    async with server(handler) as host:
        with pytest.raises(Rejected, match="compressed"):
            await fetcher.fetch(f"http://{host}/a", hosts=[host])


async def test_a_download_that_breaks_off_may_be_tried_again(fetcher: SafeFetcher) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"x" * 10)
        assert request.transport is not None
        request.transport.close()
        return response

    async with server(handler) as host:
        with pytest.raises(Temporary, match="broke off"):
            await body_of(fetcher, f"http://{host}/a", host)


async def test_a_vendor_that_cannot_be_reached_may_be_tried_again(
    fetcher: SafeFetcher, names: dict[str, list[str]]
) -> None:
    names["files.vendor.example"] = ["127.0.0.1"]
    with pytest.raises(Temporary):
        await fetcher.fetch("http://files.vendor.example:1/a", hosts=["files.vendor.example:1"])
