"""Ids: opaque, prefixed, safe to show.

``cus_ cnv_ thr_ in_ lnk_ ...`` are ULIDs. ``adr_ ent_ amd_ job_ op_`` are 128-bit HMACs under
the space's key, so that equal things meet without a look-up and nothing in a URL, a log or a
ticket gives away a phone number. ``evt_`` encodes the database's generation and the position.
All are 26 characters of Crockford's base32 in lower case behind the prefix, so they sort.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
import time
from datetime import datetime
from functools import lru_cache

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {char: value for value, char in enumerate(_ALPHABET)}
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
ID_CHARS = 26


def encode128(value: int) -> str:
    """Return 128 bits as 26 characters of base32 that sort like the number."""
    pairs = _PAIRS
    return "".join([pairs[(value >> shift) & 1023] for shift in range(120, -1, -10)])


def decode128(text: str) -> int:
    """Undo :func:`encode128`. Raises ``ValueError`` for anything else."""
    if len(text) != ID_CHARS or text[0] > "7":
        raise ValueError("an id has 26 characters of Crockford's base32")
    value = 0
    try:
        for char in text:
            value = value << 5 | _VALUES[char]
    except KeyError:
        raise ValueError("an id has 26 characters of Crockford's base32") from None
    return value


class Ulids:
    """A source of ULIDs that never goes back within one process, whatever the clock does.

    The order of arrival in one process is the order of these ids; the router relies on it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_ms = 0
        self._tail = 0

    def new(self, prefix: str) -> str:
        now_ms = time.time_ns() // 1_000_000
        with self._lock:
            if now_ms > self._last_ms:
                self._last_ms = now_ms
                # The top bit stays free so that counting up within one millisecond cannot wrap.
                self._tail = int.from_bytes(os.urandom(10)) >> 1
            else:
                self._tail += 1
            value = self._last_ms << 80 | self._tail
        return f"{prefix}_{encode128(value)}"


def earliest_id(prefix: str, moment: datetime) -> str:
    """Return the least id that was made at ``moment``: everything below it is older."""
    return f"{prefix}_{encode128(int(moment.timestamp() * 1000) << 80)}"


_process_ulids = Ulids()
new_id = _process_ulids.new


class SpaceKey:
    """The root key of a space and everything derived from it by label.

    It is made once, never rotated, and belongs into the backup: ids cannot be made again
    without it.
    """

    def __init__(self, root: bytes) -> None:
        if len(root) < 32:
            raise ValueError("the space key needs at least 32 bytes")
        self._root = root
        self._ids = hmac.new(self.derive("ids"), digestmod=hashlib.sha256)
        # Addresses come again and again, and an entry's id is asked for by intake and router.
        self.hashed = lru_cache(maxsize=65_536)(self._hashed)
        self.fingerprint = hashlib.sha256(self.derive("fingerprint")).hexdigest()[:32]

    def __repr__(self) -> str:
        return f"<SpaceKey {self.fingerprint[:8]}>"

    def derive(self, label: str) -> bytes:
        """Return 32 bytes for one purpose; knowing them tells nothing about another label's."""
        return hmac.new(self._root, b"omniline/" + label.encode(), hashlib.sha256).digest()

    def _hashed(self, prefix: str, text: str) -> str:
        """Return the id that ``text`` always has in this space."""
        mac = self._ids.copy()
        mac.update(prefix.encode() + b"\0" + text.encode())
        return f"{prefix}_{encode128(int.from_bytes(mac.digest()[:16]))}"


def event_id(generation: int, position: int) -> str:
    """Return the feed's id of a position; a restored database has a new generation."""
    return f"evt_{encode128(generation << 64 | position)}"


def event_position(event: str) -> tuple[int, int]:
    """Return (generation, position) of an event id. Raises ``ValueError`` for anything else."""
    prefix, _, body = event.partition("_")
    if prefix != "evt":
        raise ValueError("an event id starts with evt_")
    value = decode128(body)
    return value >> 64, value & (1 << 64) - 1
