"""Who is it: the signature over the query, the secret path, and for whom the body is.

``signature = sha1("".join(sorted([AppSecret, timestamp, nonce])))``, on the GET that checks the
URL and on every POST; ``timestamp`` is Unix time in milliseconds. The body is signed by nothing,
so a query that somebody has read would authenticate any body. What stands against that: a path
that only Weibo knows, a short window, ``receiver_id``, and :mod:`connectors.weibo.admission`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from hub import Refused, Request, Secret

_MOST_DIGITS = 16  # of a time in milliseconds: 13 until the year 2286
_MOST_NONCE_CHARS = 128
MOST_ECHO_CHARS = 1000


def check_path(path: str, secret: Secret) -> None:
    """Raise ``Refused`` unless the path behind the account is the secret one."""
    if not hmac.compare_digest(_bytes(path), _bytes(f"/{secret.reveal()}")):
        raise Refused("path")


def check_signature(
    query: Mapping[str, str], secrets: Sequence[Secret], *, now_ms: int, window_s: int
) -> None:
    """Raise ``Refused`` unless one of the AppSecrets signed this query within the window.

    ``timestamp`` is signed as the text that was sent; it becomes a number only to be compared.
    """
    timestamp, nonce = query.get("timestamp", ""), query.get("nonce", "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _MOST_DIGITS):
        raise Refused("timestamp")
    if not nonce or len(nonce) > _MOST_NONCE_CHARS:
        raise Refused("nonce")
    if abs(now_ms - int(timestamp)) > window_s * 1000:
        raise Refused("stale")
    given = _bytes(query.get("signature", ""))
    genuine = False
    for secret in secrets:
        genuine |= hmac.compare_digest(sign(secret, timestamp, nonce).encode(), given)
    if not genuine:
        raise Refused("signature")


def sign(secret: Secret, timestamp: str, nonce: str) -> str:
    """Return Weibo's signature, in lower-case hex."""
    joined = "".join(sorted([secret.reveal(), timestamp, nonce]))
    return hashlib.sha1(_bytes(joined), usedforsecurity=False).hexdigest()


def without_path(request: Request) -> Request:
    """Return the request as it may be kept: its path is a secret.

    The query stays, because who it is handed on to checks it as well; it is good for this body.
    """
    return replace(request, path="", url="")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
