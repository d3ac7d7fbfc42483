"""Pushes that nobody signs: a secret in their path, and a list of where they may come from.

    https://help.example.com/in/sms/ali/<secret>/up        what people wrote
    https://help.example.com/in/sms/ali/<secret>/report    what became of our messages

The secret is taken out of what is kept of a request.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network

import msgspec
from msgspec.structs import replace

from hub import Refused, Request, Secret, Verified

UP = "up"
REPORT = "report"
MAX_ITEMS = 5000


class PushGuard:
    """Believes who knows a secret path and calls from an allowed address."""

    def __init__(self, secrets: Sequence[Secret], allowed_ips: Sequence[str]) -> None:
        self._secrets = [each for each in secrets if each.reveal()]
        self._allowed = [ip_network(each) for each in allowed_ips]

    def lacks(self) -> Sequence[str]:
        told = []
        if not self._secrets:
            told.append("push_secrets is empty, so anybody could write in your customers' names")
        elif any(len(each.reveal()) < 16 or not each.reveal().isalnum() for each in self._secrets):
            told.append("a push secret has to be 16 letters and digits or more: it can be guessed")
        if not self._allowed:
            told.append(
                "allowed_ips is empty: name the provider's addresses (0.0.0.0/0 and ::/0: any)"
            )
        return told

    def verify(self, request: Request, *, insecure: bool) -> Verified:
        """Return the request without its secret. Raises Refused."""
        given, _, kind = request.path.removeprefix("/").rpartition("/")
        trial = insecure and not self._secrets
        known = trial
        for secret in self._secrets:
            known |= hmac.compare_digest(secret.reveal().encode(), _bytes(given))
        if not known or kind not in (UP, REPORT):
            raise Refused("path")
        if not trial and not self._is_allowed(request.remote):
            raise Refused("address")
        if request.method != "POST":
            raise Refused("method")
        _require_json(request.body)
        return Verified(
            request=replace(request, path=f"/{kind}", url=""),
            payload=request.body,
            facts={"kind": kind},
        )

    def _is_allowed(self, remote: str) -> bool:
        try:
            address = ip_address(remote)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._allowed)

    def sample_path(self, kind: str) -> str:
        secret = next(iter(self._secrets), Secret(""))
        return f"/{secret.reveal()}/{kind}"

    @property
    def sample_remote(self) -> str:
        return str(self._allowed[0][0]) if self._allowed else ""


def items_of(verified: Verified) -> list[dict[str, object]]:
    """Return the objects of a push: a list of them, or one. Raises ValueError for anything else."""
    decoded = msgspec.json.decode(verified.payload)
    items = decoded if isinstance(decoded, list) else [decoded]
    if len(items) > MAX_ITEMS or not all(isinstance(each, dict) for each in items):
        raise ValueError("a push is a list of objects")
    return items


def named(receipts: list[dict[str, object]], ident: str) -> list[dict[str, object]]:
    """Return the receipts that say of which message they are.

    One that does not must not keep the others of its batch from being known. Raises ValueError
    where none says it.
    """
    found = [each for each in receipts if field(each, ident)]
    if receipts and not found:
        raise ValueError(f"no receipt of the push has a {ident}")
    return found


def field(item: dict[str, object], name: str) -> str:
    """Return a field as text; numbers come with and without quotes."""
    value = item.get(name)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else ""


def _require_json(body: bytes) -> None:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("json") from error


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
