"""A long text as several messages, which together are the text again, character for character.

Weibo takes fewer than 300 Chinese characters (600 bytes as GBK counts, unverified). Counted are
UTF-16 units, so that an emoji outside the basic plane counts as two.
"""

from __future__ import annotations

import re
import unicodedata

MOST_UNITS = 299

# Best places for a cut first: behind a line, a sentence, a pause, a word.
_BREAKS = (
    re.compile(r"\n"),
    re.compile(r"[。！？!?…；;]+\s*|\.\s+"),
    re.compile(r"[，、：,:]\s*"),
    re.compile(r"\s+"),
)
# What must not be cut: a face such as [doge], and a link.
_WHOLE = re.compile(r"\[[^\[\]\s]{1,12}\]|https?://[!-~]+")
_JOINER = "\u200d"
_TONES = range(0x1F3FB, 0x1F400)


def split_text(text: str, most: int = MOST_UNITS) -> list[str]:
    """Return the pieces, each of at most ``most`` units; a short text is its only piece."""
    pieces = []
    rest = text
    while units(rest) > most:
        cut = _cut(rest, _fitting(rest, most))
        pieces.append(rest[:cut])
        rest = rest[cut:]
    return [*pieces, rest]


def units(text: str) -> int:
    """Return how many UTF-16 units a text has."""
    return len(text) + sum(ord(char) > 0xFFFF for char in text)


def _fitting(text: str, most: int) -> int:
    """Return how many characters fit; at least one."""
    taken = 0
    for place, char in enumerate(text):
        taken += 2 if ord(char) > 0xFFFF else 1
        if taken > most:
            return max(1, place)
    return len(text)


def _cut(text: str, fits: int) -> int:
    """Return the best place to cut: in the second half of what fits, else just there."""
    head = text[: fits + 1]  # one more, to see whether something goes on behind the cut
    whole = {place for found in _WHOLE.finditer(text[: 2 * fits]) for place in _inside(found)}
    allowed = [place for place in range(1, fits + 1) if place not in whole and _parts(text, place)]
    late = {place for place in allowed if place > fits // 2}
    for pattern in _BREAKS:
        ends = [found.end() for found in pattern.finditer(head) if found.end() in late]
        if ends:
            return ends[-1]
    return allowed[-1] if allowed else fits


def _inside(found: re.Match[str]) -> range:
    return range(found.start() + 1, found.end())


def _parts(text: str, place: int) -> bool:
    """Say whether what people see as one sign ends before ``place``."""
    if place >= len(text):
        return True
    after, before = text[place], text[place - 1]
    marks = unicodedata.category(after) in ("Mn", "Me") or ord(after) in _TONES
    return not marks and _JOINER not in (after, before)
