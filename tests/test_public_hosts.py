"""Private addresses are known in every dress, and a name that leads to one is refused whole."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from typing import Any

import pytest

from hub import NotPublic, PublicResolver, is_private_literal, is_public

PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "223.5.5.5",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.0.1",
    "172.32.0.1",
    "192.0.1.1",
    "2001:4860:4860::8888",
    "2400:3200::1",
    "2a00:1450:4001::1",
]
NOT_PUBLIC = {
    "this host": ["127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "::1", "::"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd00::1"],
    "link-local": ["169.254.169.254", "fe80::1", "fe80::1%eth0", "fec0::1"],
    "carrier": ["100.64.0.1", "100.127.255.254"],
    "protocols": ["192.0.0.1", "192.0.0.170", "192.88.99.1", "100::1", "5f00::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1"],
    "benchmarks": ["198.18.0.1", "198.19.255.254", "2001:2::1"],
    "multicast": ["224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255"],
    "mapped": ["::ffff:10.0.0.1", "::ffff:8.8.8.8", "::ffff:7f00:1"],
    "compatible": ["::127.0.0.1", "::8.8.8.8"],
    "6to4": ["2002:a00:1::", "2002:808:808::1"],
    "Teredo": ["2001:0:4136:e378:8000:63bf:3fff:fdd2"],
    "NAT64": ["64:ff9b::a00:1", "64:ff9b::808:808", "64:ff9b:1::a00:1"],
}


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_world_is_public(address: str) -> None:
    assert is_public(address)
    assert is_public(ip_address(address))
    assert not is_private_literal(address)


@pytest.mark.parametrize(
    "address",
    [pytest.param(each, id=f"{why} {each}") for why in NOT_PUBLIC for each in NOT_PUBLIC[why]],
)
def test_what_is_private_or_hides_something_is_not(address: str) -> None:
    assert not is_public(address)
    assert is_private_literal(address)


@pytest.mark.parametrize(
    "name", ["files.example", "127.1", "2130706433", "0x7f.0.0.1", "", "[::1]"]
)
def test_a_name_is_judged_when_it_is_resolved(name: str) -> None:
    """Some names are addresses to the resolver: `127.1` is this machine. It is asked, then."""
    assert not is_private_literal(name)
    with pytest.raises(ValueError, match="does not appear to be"):
        is_public(name)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What every name leads to."""
    found: list[str] = []

    async def getaddrinfo(self: object, host: str, port: Any, **more: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return found


async def test_a_name_with_a_private_address_among_others_is_refused(answers: list[str]) -> None:
    answers[:] = ["8.8.8.8", "10.0.0.1"]
    with pytest.raises(NotPublic, match=r"a\.example leads to an address that is not public"):
        await PublicResolver().resolve("a.example", 443)
    answers[:] = ["8.8.8.8", "1.1.1.1"]
    found = await PublicResolver().resolve("a.example", 443)
    assert [each["host"] for each in found] == ["8.8.8.8", "1.1.1.1"]


async def test_a_host_that_the_operator_trusts_may_be_private(answers: list[str]) -> None:
    answers[:] = ["10.0.0.1"]
    found = await PublicResolver(["files.internal"]).resolve("Files.Internal", 443)
    assert [each["host"] for each in found] == ["10.0.0.1"]
    with pytest.raises(NotPublic):
        await PublicResolver(["files.internal"]).resolve("other.internal", 443)


async def test_an_address_in_short_is_found_out_by_the_real_resolver() -> None:
    with pytest.raises(NotPublic):
        await PublicResolver().resolve("127.1", 80)
