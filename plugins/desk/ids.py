"""Ids of tickets and entries. They follow from their keys, so that twice is the same one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from datetime import datetime

TICKET = r"^tkt_[0-9a-v]{26}$"


class Ids:
    """Ids under the plugin's secret: nobody can tell a key from them."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def ticket(self, backend: str, key: str) -> str:
        return self._derived("tkt", backend, key)

    def entry(self, ticket: str, key: str) -> str:
        return self._derived("tke", ticket, key)

    def _derived(self, prefix: str, *words: str) -> str:
        text = "\0".join((prefix, *words))
        digest = hmac.new(self._secret, text.encode(), hashlib.sha256).digest()
        return f"{prefix}_{base64.b32hexencode(digest[:16]).decode().rstrip('=').lower()}"


def fresh_key() -> str:
    """Return a key for a request that brought none."""
    return uuid.uuid4().hex


def recency(updated_at: datetime, ticket: str) -> str:
    """Return a text that sorts tickets by their last change and is never the same for two."""
    return f"{round(updated_at.timestamp() * 1000):015d}{ticket}"
