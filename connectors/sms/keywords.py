"""Words by which somebody says that they want no more messages, or some again.

A text is such a word only when it is nothing else: trimmed, in any case, full-width letters read
as plain ones. "Please stop calling" is a message.

Sources: Twilio's default keywords for long codes (YES is unverified); the words that Chinese
templates ask for (TD, T, 退订).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection

OPTED_OUT = "contact.opted_out"
OPTED_IN = "contact.opted_in"

_TWILIO = {"stop", "unsubscribe", "end", "quit", "stopall", "revoke", "optout", "cancel"}
_CHINESE = {"td", "t", "退订", "退訂", "回t退订", "回td退订", "回复t退订", "回复td退订"}
_OUT = frozenset(_TWILIO | _CHINESE)
_IN = frozenset({"start", "unstop"})
YES = "yes"  # releases a number as well, and is what people answer to questions
MAX_WORD_CHARS = 40


def opt_out(text: str, more: Collection[str] = ()) -> bool:
    """Whether a text as a whole says "no more". ``more`` are words of the account's own."""
    return _is_one_of(text, _OUT, more)


def opt_in(text: str, more: Collection[str] = ()) -> bool:
    """Whether a text as a whole says "again"; :data:`YES` is for the caller to weigh."""
    return _is_one_of(text, _IN, more)


def is_yes(text: str) -> bool:
    return folded(text) == YES


def folded(text: str) -> str:
    """Return the one spelling in which words are compared; "" for what is too long for a word."""
    if len(text) > MAX_WORD_CHARS:
        text = text.strip()
        if len(text) > MAX_WORD_CHARS:
            return ""
    return unicodedata.normalize("NFKC", text).strip().casefold()


def _is_one_of(text: str, words: frozenset[str], more: Collection[str]) -> bool:
    word = folded(text)
    return bool(word) and (word in words or word in {folded(each) for each in more})
