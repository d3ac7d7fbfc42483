"""What the hub writes into its own mails to know the answers again.

``support+<thread>.<hmac>@...``   Reply-To: which thread an answer belongs to, whoever writes it
``bounces+<entry>.<hmac>@...``    envelope sender (VERP): which mail came back
``<<entry>.<thread>.<hmac>@...>`` Message-ID: both, for clients that only keep References

A token proves that this hub made it, not who uses it. The code is HMAC-SHA256, cut, in base32.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import NamedTuple

_ID = re.compile(r"[a-z0-9_]{1,40}\Z")
_TOKEN = re.compile(r"([a-z0-9_]{1,40})\.([a-z2-7]{8}|[a-z2-7]{16})\Z")
_MESSAGE_ID = re.compile(r"<([a-z0-9_]{1,40})\.([a-z0-9_]{1,40})\.([a-z2-7]{16})@[^<>\s]{1,255}>\Z")


class OwnId(NamedTuple):
    """What a Message-ID of the hub's own says."""

    entry: str
    thread: str


def reply_token(thread: str, key: bytes) -> str:
    """Return the token that stands behind the plus of a Reply-To address.

    Raises ValueError for an id that would not survive a mail address: those are lowered on
    the way, and have 64 characters before the ``@``.
    """
    return f"{_checked(thread)}.{_code('reply', thread, key, 8)}"


def bounce_token(entry: str, key: bytes) -> str:
    """Return the token of an envelope sender. Raises ValueError like :func:`reply_token`."""
    return f"{_checked(entry)}.{_code('bounce', entry, key, 16)}"


def message_id(entry: str, thread: str, domain: str, key: bytes) -> str:
    """Return the Message-ID of an entry on its way out: the same for every attempt."""
    code = _code("message-id", f"{_checked(entry)}.{_checked(thread)}", key, 16)
    return f"<{entry}.{thread}.{code}@{domain}>"


def read_reply_token(address: str, key: bytes) -> str:
    """Return the thread that an address with a valid token names, or ``""``."""
    return _read("reply", address, key, 8)


def read_bounce_token(address: str, key: bytes) -> str:
    """Return the entry that an address with a valid token names, or ``""``."""
    return _read("bounce", address, key, 16)


def read_message_id(text: str, key: bytes) -> OwnId | None:
    """Return what a Message-ID says if this hub made it."""
    found = _MESSAGE_ID.match(text.lower())
    if found is None or not key:
        return None
    entry, thread, code = found.groups()
    if not hmac.compare_digest(_code("message-id", f"{entry}.{thread}", key, 16), code):
        return None
    return OwnId(entry, thread)


def _read(kind: str, address: str, key: bytes, length: int) -> str:
    local = address.strip().strip("<>").rpartition("@")[0]
    found = _TOKEN.match(local.rpartition("+")[2].lower()) if "+" in local else None
    if found is None or not key or len(found[2]) != length:
        return ""
    return found[1] if hmac.compare_digest(_code(kind, found[1], key, length), found[2]) else ""


def _checked(ident: str) -> str:
    if not _ID.match(ident):
        raise ValueError("an id in a mail address has lower case letters, digits and _, at most 40")
    return ident


def _code(kind: str, ident: str, key: bytes, length: int) -> str:
    if not key:
        raise ValueError("reply tokens need a key")
    digest = hmac.digest(key, f"{kind}\0{ident}".encode(), hashlib.sha256)
    return base64.b32encode(digest).decode("ascii").lower()[:length]
