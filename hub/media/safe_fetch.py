"""Fetching a vendor's file by a URL that a stranger may have written.

The URL, and every redirect, has to lead to one of the vendor's hosts; the host's name is resolved
once, and the connection goes to just that address, which has to be a public one; size and time
are bounded, and credentials go to the first host only.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from hub.clock import Clock
from hub.contract import Fetched
from normalizer.media import file_name, mime_type
from normalizer.outcomes import Gone, Misconfigured, RateLimited, Rejected, Temporary

MAX_REDIRECTS = 5
CONNECT_S = 10.0
SILENCE_S = 20.0  # between two pieces of an answer
TOTAL_S = 300.0
MAX_WAIT_S = 3600.0
CHUNK_BYTES = 64 * 1024
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DISPOSITION = re.compile(r"""filename\*=utf-8''([^;\s]+)|filename="?([^";]+)"?""", re.IGNORECASE)


class SafeFetcher:
    """One per process. ``private_hosts`` are names and addresses that need not be public."""

    def __init__(self, clock: Clock, private_hosts: Collection[str] = ()) -> None:
        self._clock = clock
        self._private_hosts = frozenset(host.lower() for host in private_hosts)
        self._session: aiohttp.ClientSession | None = None

    async def fetch(
        self,
        url: str,
        *,
        hosts: Sequence[str],
        headers: Mapping[str, str] | None = None,
        max_bytes: int | None = None,
    ) -> Fetched:
        """Begin to fetch ``url`` from one of ``hosts`` (``api.example``, ``*.example``).

        ``headers`` go to the first host only. Redirects are followed among ``hosts``, never from
        https to http. Raises Rejected for a place that must not be asked and for what is larger
        than ``max_bytes``; Gone for 404 and 410; RateLimited for 429; Misconfigured for 401 and
        403; Temporary for whatever may work later.
        """
        first = _place(url, hosts)
        place = first
        for _ in range(MAX_REDIRECTS + 1):
            same = (place.scheme, place.netloc) == (first.scheme, first.netloc)
            answer = await self._get(place.geturl(), dict(headers or {}) if same else {})
            if answer.status not in _REDIRECTS:
                return self._read(answer, max_bytes)
            target = urljoin(place.geturl(), answer.headers.get("Location", ""))
            answer.close()
            where = _place(target, hosts)
            if place.scheme == "https" and where.scheme != "https":
                raise Rejected("the vendor redirects from https to http")
            place = where
        raise Rejected(f"the vendor redirects more than {MAX_REDIRECTS} times")

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _get(self, url: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
        self._check_literal(urlsplit(url).hostname or "")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=PublicResolver(self._private_hosts), use_dns_cache=False, limit=64
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(
                    total=TOTAL_S, sock_connect=CONNECT_S, sock_read=SILENCE_S
                ),
                trust_env=False,
            )
        try:
            return await self._session.get(
                url,
                headers={"Accept-Encoding": "identity", "User-Agent": "Omniline", **headers},
                allow_redirects=False,
            )
        except aiohttp.InvalidURL as error:
            raise Rejected("the file's address is not a URL") from error
        except aiohttp.ClientConnectorDNSError as error:
            if isinstance(error.os_error, NotPublic):
                raise Rejected(str(error.os_error)) from error
            raise Temporary("the vendor's host is not found") from error
        except TimeoutError as error:
            raise Temporary("the vendor did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Temporary(f"the vendor cannot be reached: {type(error).__name__}") from error

    def _check_literal(self, host: str) -> None:
        """An address in the place of a name never passes the resolver."""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return
        if host.lower() not in self._private_hosts:
            try:
                require_public(host, host)
            except NotPublic as error:
                raise Rejected(str(error)) from error

    def _read(self, answer: aiohttp.ClientResponse, max_bytes: int | None) -> Fetched:
        try:
            self._refuse(answer, max_bytes)
        except BaseException:
            answer.close()
            raise
        return Fetched(
            stream=_body(answer, max_bytes),
            mime=mime_type(answer.headers.get("Content-Type", "")),
            name=_name(answer.headers.get("Content-Disposition", "")),
            size=answer.content_length,
        )

    def _refuse(self, answer: aiohttp.ClientResponse, max_bytes: int | None) -> None:
        status = answer.status
        if status in (404, 410):
            raise Gone("the vendor no longer has the file", code=str(status))
        if status == 429:
            wait_s = self._retry_after(answer.headers.get("Retry-After", ""))
            raise RateLimited("the vendor asks to wait", retry_after=wait_s, code="429")
        if status in (401, 403):
            raise Misconfigured(f"the vendor refused our credentials ({status})", code=str(status))
        if status >= 500 or status == 408:
            raise Temporary(f"the vendor answered {status}", code=str(status))
        if status != 200:
            raise Rejected(f"the vendor answered {status}", code=str(status))
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Rejected("the vendor sent the file compressed, which was not asked for")
        if max_bytes is not None and (answer.content_length or 0) > max_bytes:
            raise Rejected(f"the file has {answer.content_length} bytes, over {max_bytes}")

    def _retry_after(self, value: str) -> float:
        """Return the wait in seconds that an answer asks for, within reason."""
        if value.isascii() and value.isdigit() and len(value) < 10:
            return min(float(value), MAX_WAIT_S)
        try:
            then = parsedate_to_datetime(value)
            wait_s = (then - self._clock.now()).total_seconds()
        except (TypeError, ValueError):
            return 30.0
        return min(max(wait_s, 1.0), MAX_WAIT_S)


async def _body(answer: aiohttp.ClientResponse, max_bytes: int | None) -> AsyncIterator[bytes]:
    taken = 0
    try:
        async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
            taken += len(chunk)
            if max_bytes is not None and taken > max_bytes:
                raise Rejected(f"the file has more than {max_bytes} bytes")
            yield chunk
    except TimeoutError as error:
        raise Temporary(f"the vendor fell silent after {taken} bytes") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Temporary(f"the download broke off after {taken} bytes") from error
    finally:
        answer.close()


def _place(url: str, hosts: Sequence[str]) -> Any:
    """Return the parts of a URL that leads to one of the hosts. Raises Rejected for any other."""
    try:
        place = urlsplit(url)
        host, port = (place.hostname or "").lower(), place.port
    except ValueError as error:
        raise Rejected("the file's address is not a URL") from error
    if place.scheme not in _PORTS or not host or place.username is not None:
        raise Rejected("the file's address is not an http or https URL")
    port = port or _PORTS[place.scheme]
    usual = port == _PORTS[place.scheme]
    for allowed in hosts:
        name, _, its_port = allowed.lower().partition(":")
        fits = port == int(its_port) if its_port else usual
        if fits and (host == name or (name.startswith("*.") and host.endswith(name[1:]))):
            return place
    raise Rejected(f"the file is at {host}:{port}, which is not one of the vendor's hosts")


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class NotPublic(OSError):
    """The name leads to an address that is not public."""


class PublicResolver(AbstractResolver):
    """Resolves a name once, for one connection; a private address is none of the answers."""

    def __init__(self, private_hosts: frozenset[str]) -> None:
        self._private_hosts = private_hosts

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, family=family, type=socket.SOCK_STREAM
        )
        results: list[ResolveResult] = []
        for kind, _, proto, _, address in found:
            if host.lower() not in self._private_hosts:
                require_public(str(address[0]), host)
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


def require_public(address: str, host: str) -> None:
    """Raise for an address that is not public; one that hides another in itself never is."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    hides = isinstance(ip, ipaddress.IPv6Address) and (
        ip.ipv4_mapped or ip.sixtofour or ip.teredo or ip in _NAT64
    )
    if hides or not ip.is_global or ip.is_multicast:
        raise NotPublic(f"{host} leads to an address that is not public")


def _name(disposition: str) -> str:
    """Return the file name of a Content-Disposition, "" if there is none."""
    found = _DISPOSITION.search(disposition[:1000])
    if found is None:
        return ""
    return file_name(unquote(found[1]) if found[1] else found[2])
