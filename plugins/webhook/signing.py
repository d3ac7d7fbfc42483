"""Standard Webhooks 1.0: how both directions are signed, and how signatures are checked.

Three headers: ``webhook-id``, ``webhook-timestamp`` (whole seconds since 1970, UTC) and
``webhook-signature``, a list of ``v1,`` + base64(HMAC-SHA256(key, "{id}.{timestamp}.{body}")),
one for each secret while secrets are rotated. A secret is ``whsec_`` + base64 of 24 to 64 bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from hub import Refused, Secret

PREFIX = "whsec_"
KEY_BYTES = (24, 64)
TOLERANCE_S = 5 * 60
MAX_SIGNATURES = 20  # of one request that are looked at; nobody rotates more secrets at once
_SECONDS = re.compile(r"[0-9]{1,12}\Z")
_ID = re.compile(r"[\x21-\x2d\x2f-\x7e]{1,256}\Z")  # no dot: it ends the id in what is signed


def key_of(secret: str) -> bytes:
    """Return the key bytes of a secret. Raises ``ValueError`` with what is wrong, not with it."""
    if not secret.startswith(PREFIX):
        raise ValueError(f'a secret starts with "{PREFIX}"')
    text = secret.removeprefix(PREFIX).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise ValueError(f'behind "{PREFIX}" there has to be base64') from None
    shortest, longest = KEY_BYTES
    if not shortest <= len(key) <= longest:
        raise ValueError(f"the key has {len(key)} bytes, and needs {shortest} to {longest}")
    return key


class Signer:
    """Signs with every secret, the newest first; any of them verifies."""

    def __init__(self, secrets: Sequence[Secret]) -> None:
        self._keys = tuple(key_of(secret.reveal()) for secret in secrets)

    def headers(self, ident: str, at: datetime, body: bytes) -> dict[str, str]:
        """Return the three headers of a request that is sent at ``at``."""
        seconds = str(int(at.timestamp()))
        signed = [
            f"v1,{base64.b64encode(each).decode()}" for each in self._macs(ident, seconds, body)
        ]
        return {
            "webhook-id": ident,
            "webhook-timestamp": seconds,
            "webhook-signature": " ".join(signed),
        }

    def verify(self, headers: Mapping[str, str], body: bytes, now: datetime) -> str:
        """Return the id of a request that is signed with one of the secrets, and not old.

        Header names are in lower case. Raises Refused for everything else, always alike.
        """
        ident = headers.get("webhook-id", "")
        seconds = headers.get("webhook-timestamp", "")
        given = headers.get("webhook-signature", "").split(" ")
        if not _ID.match(ident) or not _SECONDS.match(seconds) or len(given) > MAX_SIGNATURES:
            raise Refused("headers", status=401)
        known = self._macs(ident, seconds, body)
        right = False
        for one in given:
            mac = _mac(one)
            for expected in known:  # all of them, so that the time says nothing
                right |= hmac.compare_digest(mac, expected)
        if not right:
            raise Refused("signature", status=401)
        if abs(now.timestamp() - int(seconds)) > TOLERANCE_S:
            raise Refused("stale", status=401)
        return ident

    def _macs(self, ident: str, seconds: str, body: bytes) -> list[bytes]:
        signed = f"{ident}.{seconds}.".encode() + body
        return [hmac.new(key, signed, hashlib.sha256).digest() for key in self._keys]


def _mac(signature: str) -> bytes:
    """Return the bytes of a ``v1`` signature; of another version, or of none, nothing."""
    version, _, text = signature.partition(",")
    if version != "v1" or not text.isascii():
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return b""
