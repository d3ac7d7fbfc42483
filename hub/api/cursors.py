"""Opaque cursors, signed: a caller can come back to a place, and cannot make one up.

A cursor is good for the list it came from, with the same filters.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import TypeVar

import msgspec

from hub.planning.rules import Refusal

T = TypeVar("T")
_MAC_BYTES = 12


class Cursors:
    """Makes and reads cursors; ``secret`` is derived from the space's key."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, purpose: str, place: tuple[object, ...]) -> str:
        body = msgspec.msgpack.encode(place)
        text = base64.urlsafe_b64encode(self._mac(purpose, body) + body)
        return text.rstrip(b"=").decode()

    def read(self, purpose: str, cursor: str, kind: type[T]) -> T:
        """Return the place a cursor stands for. Raises Refusal(cursor-invalid)."""
        try:
            padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
            plain = base64.b64decode(padded, altchars=b"-_", validate=True)
        except (ValueError, binascii.Error) as error:
            raise _not_ours() from error
        mac, body = plain[:_MAC_BYTES], plain[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(purpose, body)):
            raise _not_ours()
        return msgspec.msgpack.decode(body, type=kind)

    def _mac(self, purpose: str, body: bytes) -> bytes:
        text = purpose.encode("utf-8", "surrogatepass") + b"\0" + body
        return hmac.new(self._secret, text, hashlib.sha256).digest()[:_MAC_BYTES]


def _not_ours() -> Refusal:
    return Refusal(
        "cursor-invalid",
        "use the cursor as it was given, with the same filters, or start without one",
        400,
    )
