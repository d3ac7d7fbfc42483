"""No call to a private address, whatever a name resolves to.

The address that was checked is the address that is connected to: the check sits in the
connector's resolver, so there is no second look-up that could say something else.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult

_NAT64 = 0x0064FF9B << 96  # 64:ff9b::/96 holds an IPv4 address in its last 32 bits


class PrivateAddress(OSError):
    """The name leads to a private address only."""


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Say whether an address is one of the world's: not private, not mapped onto such a one."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and int(address) >> 32 == _NAT64 >> 32:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


def is_private_literal(host: str) -> bool:
    """Say whether a host is written as a private address; names are checked when resolved."""
    try:
        return not is_public(ip_address(host.partition("%")[0]))
    except ValueError:
        return False


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses only. Raises :class:`PrivateAddress` for others."""

    def __init__(self, inner: AbstractResolver | None = None) -> None:
        self._inner = ThreadedResolver() if inner is None else inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        public = [each for each in found if not is_private_literal(each["host"])]
        if found and not public:
            raise PrivateAddress(f"{host} resolves to a private address")
        return public

    async def close(self) -> None:
        await self._inner.close()
