"""The XOAUTH2 exchange (Google's and Microsoft's pages of that name): what both protocols share.

The client's one message names the user and carries the access token. A server that refuses it
first sends a challenge with the reason, base64 of JSON, and waits for an empty line.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from normalizer.text import clean_line

MAX_CHALLENGE = 8192  # characters of base64


def initial_response(user: str, token: str) -> bytes:
    """Return what is sent. Raises ``ValueError`` for what would end a field of it."""
    if any(char < " " or char == "\x7f" for char in user + token):
        raise ValueError("a user or an access token holds a control character")
    return base64.b64encode(f"user={user}\1auth=Bearer {token}\1\1".encode())


def reason_in(challenge: bytes | str) -> str:
    """Return the reason of a refusal as a line; "" where the challenge says none.

    Google and Microsoft document ``status``, ``schemes`` and ``scope``; others add words.
    """
    if len(challenge) > MAX_CHALLENGE:
        return ""
    try:
        said: Any = msgspec.json.decode(base64.b64decode(challenge, validate=True))
    except (binascii.Error, msgspec.DecodeError, ValueError, RecursionError):
        return ""
    if not isinstance(said, dict):
        return ""
    words = [f"{name} {each}" for name, each in said.items() if isinstance(each, str | int)]
    return clean_line(", ".join(words), 200)
