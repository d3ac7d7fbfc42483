"""What a caller meant: a key, or words that a machine heard.

Words come with punctuation and in homophones, and with a confidence that some models leave at
zero, so it decides nothing: words are looked for in lists, and a spoken digit counts as a key.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from connectors.ivr.menus import Option

_SPOKEN = {
    **dict(zip("零一二三四五六七八九", "0123456789", strict=True)),
    "幺": "1",
    "两": "2",
    "〇": "0",
    **dict(
        zip(
            ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
            "0123456789",
            strict=True,
        )
    ),
}


def plain(text: str) -> str:
    """Return words without case, width, punctuation and spaces: what can be compared."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(char for char in folded if unicodedata.category(char)[0] in "LNM")


def spoken_key(text: str) -> str:
    """Return the key that a single spoken digit stands for, or nothing."""
    bare = plain(text)
    for prefix in ("按", "press"):
        bare = bare.removeprefix(prefix)
    if len(bare) == 1 and bare.isdecimal():
        return str(int(bare))
    return _SPOKEN.get(bare, "")


def meant(options: Sequence[Option], heard: str, language: str) -> Option | None:
    """Return the option whose words were heard; the longest of them wins."""
    bare = plain(heard)
    best: tuple[int, Option] | None = None
    for option in options:
        for word in option.hears.get(language, ()):
            wanted = plain(word)
            if wanted and wanted in bare and (best is None or len(wanted) > best[0]):
                best = (len(wanted), option)
    return best[1] if best else None


def words(options: Sequence[Option], language: str) -> tuple[str, ...]:
    """Return every word that a menu listens for: hints for whoever hears."""
    return tuple(word for option in options for word in option.hears.get(language, ()))
