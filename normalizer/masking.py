"""Takes people out of texts that operators read: what vendors say of a send names them."""

from __future__ import annotations

import re

MOST = 500
MASK = "***"
_SHORTEST = 3  # a shorter id would take letters out of every word

_MAILBOX = re.compile(r"[^\s<>()\[\],;:\"']{1,64}@[^\s<>()\[\],;:\"']{1,255}")
_NUMBER = re.compile(r"(?<![\w.])(?:\+\d[\d ().-]{5,17}\d|1[3-9]\d{9})(?!\w)")


def masked(text: str, *names: str) -> str:
    """Return the text without mailboxes, phone numbers and ``names``, at most 500 characters.

    ``names`` are ids of people that no pattern knows: an open-id, a user's number.
    """
    text = text[: 4 * MOST]
    for name in sorted(names, key=len, reverse=True):
        if len(name) >= _SHORTEST:
            text = text.replace(name, MASK)
    text = _NUMBER.sub(MASK, _MAILBOX.sub(MASK, text))
    return text if len(text) <= MOST else f"{text[: MOST - 1]}…"
