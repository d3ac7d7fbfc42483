"""Twilio's signature, written from its documentation and sharing no code with the connectors."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable


def sign(
    token: str, url: str, fields: Iterable[tuple[str, str]] = (), algorithm: str = "sha1"
) -> str:
    """Sort by name, each distinct value of a repeated name in order, no separators."""
    text = url + "".join(name + value for name, value in sorted(set(fields)))
    made = hmac.new(token.encode(), text.encode(), algorithm).digest()
    return base64.b64encode(made).decode()


def body_hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
