"""Which addresses are the world's: nothing that a stranger names is called at a private one.

The address that was checked is the address that is connected to: the check sits in the HTTP
client's resolver, so there is no second look-up that could say something else. An address in the
place of a name never passes a resolver: ask :func:`is_public` about it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp.abc import AbstractResolver, ResolveResult

_GLOBAL_UNICAST = ip_network("2000::/3")  # all else is local, reserved, or hides an IPv4 address
_NOT_PLACES = (  # `is_global` does not know them in every release of Python
    ip_network("192.0.0.0/24"),  # IETF protocol assignments
    ip_network("192.88.99.0/24"),  # the relays of 6to4
)


class NotPublic(OSError):
    """The name leads to an address that is not public."""


def is_public(host: str | IPv4Address | IPv6Address) -> bool:
    """Say whether an address is one of the world's.

    Private, local, reserved and multicast ones are not, and neither is an IPv6 address that hides
    an IPv4 one (mapped, 6to4, Teredo, NAT64), whatever it hides. Raises ``ValueError`` for a name:
    what that leads to is seen when it is resolved (:class:`PublicResolver`).
    """
    address = ip_address(host.partition("%")[0]) if isinstance(host, str) else host
    if isinstance(address, IPv6Address):
        hides = address.sixtofour is not None or address.teredo is not None
        if hides or address not in _GLOBAL_UNICAST:
            return False
    elif any(address in network for network in _NOT_PLACES):
        return False
    return address.is_global and not address.is_multicast


def is_private_literal(host: str) -> bool:
    """Say whether a host is written as an address that is not public; a name is not."""
    try:
        return not is_public(host)
    except ValueError:
        return False


class PublicResolver(AbstractResolver):
    """Resolves a name for one connection, for ``aiohttp.TCPConnector(resolver=...)``.

    A name of which any address is not public is refused with :class:`NotPublic`, but for those in
    ``private_hosts`` (in lower case), which the operator trusts. The connector must not keep a
    cache of names (``use_dns_cache=False``).
    """

    def __init__(self, private_hosts: Collection[str] = ()) -> None:
        self._private_hosts = frozenset(private_hosts)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, family=family, type=socket.SOCK_STREAM
        )
        results: list[ResolveResult] = []
        for kind, _, proto, _, address in found:
            if host.lower() not in self._private_hosts and not is_public(str(address[0])):
                raise NotPublic(f"{host} leads to an address that is not public")
            results.append(
                {
                    "hostname": host,
                    "host": str(address[0]),
                    "port": port,
                    "family": kind,
                    "proto": proto,
                    "flags": socket.AI_NUMERICHOST,
                }
            )
        return results

    async def close(self) -> None:
        """There is nothing to close."""
