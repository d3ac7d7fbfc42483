"""Text from outside, made safe to store, show and forward without changing what it says.

Kept: every script, emoji with their joiners and variation selectors, the marks that
right-to-left scripts need (U+200E, U+200F), private-use characters (old GB 18030 fonts).
Taken out: control characters, and the bidirectional overrides, embeddings and isolates that
make a text read other than it is written. Changed: to NFC, and to line feeds for line ends.

What is too long is cut between two graphemes. A body says so on a line of its own, with the
number of characters left out; a single line ends in an ellipsis. The raw request keeps all.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import msgspec

MAX_TEXT_CHARS = 65_536
MAX_LINE_CHARS = 500  # subjects, titles, labels
MAX_NAME_CHARS = 200
_NOTE_CHARS = 40  # room for the note that something was cut

MAX_DATA_DEPTH = 8
MAX_DATA_VALUES = 5_000
MAX_DATA_CHARS = 262_144
MAX_KEY_CHARS = 200

_SURROGATE = re.compile("[\ud800-\udfff]")
_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_LINE_END = re.compile("\r\n?")
# Unicode's stream-safe text (UAX 15) has at most this many marks in a row. Longer runs mean
# nothing, and putting a run in order takes time with its square.
_MAX_MARKS = 30
_INT64 = range(-(2**63), 2**63)


def well_formed(text: str) -> str:
    """Return ``text`` without surrogates: pairs become their character, lone ones U+FFFD."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def identifier(text: str) -> str:
    r"""Return a vendor's id as it came, in a form that can be encoded.

    Lone surrogates are spelled out (``\udc80``) instead of being replaced, because two ids
    that differ have to stay different.
    """
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def clean_text(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    """Return a text of any number of lines, cleaned and at most ``limit`` characters long."""
    if len(text) <= limit and text.isprintable() and _is_nfc(text):
        return text
    whole = len(text)
    # The bound is there so that a huge text is cut before it is worked on.
    cleaned = _composed(_UNWANTED.sub("", _LINE_END.sub("\n", well_formed(text[: 4 * limit]))))
    if len(cleaned) <= limit and whole <= 4 * limit:
        return cleaned
    kept = cut(cleaned, limit - _NOTE_CHARS)
    return f"{kept}\n[{whole - len(kept)} more characters]"


def clean_line(text: str, limit: int = MAX_LINE_CHARS) -> str:
    """Return a text as one line: white space of any kind becomes single blanks.

    Without line ends a subject or a name cannot bring a header of its own into a mail.
    """
    if len(text) <= limit and text.isprintable() and _is_nfc(text) and _is_trimmed(text):
        return text
    whole = len(text)
    line = _one_line(well_formed(text[: 4 * limit]))
    line = _one_line(_composed(_UNWANTED.sub("", line)))
    if len(line) <= limit and whole <= 4 * limit:
        return line
    return cut(line, limit - 1).rstrip() + "…"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _is_nfc(text: str) -> bool:
    return text.isascii() or unicodedata.is_normalized("NFC", text)


def _is_trimmed(text: str) -> bool:
    return "  " not in text and text[:1] != " " and text[-1:] != " "


def _composed(text: str) -> str:
    if _is_nfc(text):
        return text
    kept: list[str] = []
    marks = 0
    for char in text:
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks <= _MAX_MARKS:
            kept.append(char)
    return unicodedata.normalize("NFC", "".join(kept))


# --- graphemes -------------------------------------------------------------------------------


def grapheme_length(text: str) -> int:
    """Return how many characters a person counts in ``text``.

    An approximation of Unicode's extended grapheme clusters (UAX 29) from the general
    categories: marks, joiners, variation selectors, emoji modifiers, tags and Hangul vowels and
    finals belong to what precedes them, a pictograph to the joiner before it, and regional
    indicators go by pairs. Prepended marks and Indic conjuncts are not looked at.
    """
    if text.isascii():
        return len(text) - text.count("\r\n")
    length = indicators = 0
    before = ""
    for char in text:
        if _is_indicator(char):
            indicators += 1
            joined = indicators % 2 == 0
        else:
            indicators = 0
            joined = _joined(before, char)
        length += not joined
        before = char
    return length


def cut(text: str, limit: int) -> str:
    """Return the start of ``text``, at most ``limit`` characters, cut between two graphemes.

    A single grapheme of over 256 characters, which no writing needs, is cut through.
    """
    if len(text) <= limit:
        return text
    for at in range(limit, max(limit - 256, 0), -1):
        if not _inside(text, at):
            return text[:at]
    return text[:limit] if limit > 256 else ""


def _inside(text: str, at: int) -> bool:
    before, char = text[at - 1], text[at]
    if not (_is_indicator(before) and _is_indicator(char)):
        return _joined(before, char)
    start = at
    while start and _is_indicator(text[start - 1]):
        start -= 1
    return (at - start) % 2 == 1


def _is_indicator(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


_MODIFIERS = frozenset(map(chr, range(0x1F3FB, 0x1F400)))
_TAGS = frozenset(map(chr, range(0xE0020, 0xE0080)))
_HANGUL = frozenset(map(chr, [*range(0x1160, 0x1200), *range(0xD7B0, 0xD7FC)]))
_SPACING = frozenset("\u0e33\u0eb3\uff9e\uff9f")  # Thai and Lao AM, half-width kana marks
_EXTENDING = _MODIFIERS | _TAGS | _HANGUL | _SPACING | {"\u200c", "\u200d"}


def _joined(before: str, char: str) -> bool:
    if not before or before in "\r\n":
        return before == "\r" and char == "\n"
    if char in _EXTENDING:
        return True
    category = unicodedata.category(char)
    if category in ("Mn", "Me", "Mc"):
        return True
    # Emoji that are newer than Python's tables have no category yet.
    pictograph = category in ("So", "Sm") or "\U0001f000" <= char <= "\U0001faff"
    return before == "\u200d" and pictograph


# --- data ------------------------------------------------------------------------------------


def clean_data(data: dict[str, Any]) -> dict[str, Any]:
    """Return what a connector attached to a draft in a form that JSON and BSON both hold.

    Strings are cleaned like texts. A key is one line without ``.`` and without ``$`` in front:
    the full-width signs take their place, an empty key becomes ``_``, and a key that is there
    already gets a ``_`` behind it. Integers beyond 64 bits become text, NaN and infinities
    ``None``; other values become what msgspec makes of them.
    At most 8 levels, 5 000 values and 262 144 characters are kept; the rest is left out.
    """
    if not data:
        return data
    cleaned: dict[str, Any] = _Cleaner().mapping(data, MAX_DATA_DEPTH)
    return data if cleaned == data else cleaned


class _Omitted:
    """Stands for a value that had no room."""


class _Cleaner:
    def __init__(self) -> None:
        self.values = MAX_DATA_VALUES
        self.chars = MAX_DATA_CHARS

    def mapping(self, data: dict[Any, Any], depth: int) -> dict[str, Any]:
        cleaned: dict[str, Any] = {}
        for name, value in data.items():
            if self.values <= 0 or self.chars <= 0:
                break
            key = _key(name if isinstance(name, str) else str(name))
            while key in cleaned:
                key += "_"
            self.chars -= len(key)
            kept = self.value(value, depth - 1)
            if kept is not _Omitted:
                cleaned[key] = kept
        return cleaned

    def value(self, value: Any, depth: int) -> Any:
        if self.values <= 0 or self.chars <= 0:
            return _Omitted
        self.values -= 1
        if isinstance(value, str):
            text = cut(clean_text(value), self.chars)
            self.chars -= len(text)
            return text
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if value in _INT64 else _digits(value)
        if isinstance(value, float):
            return value if value - value == 0 else None
        if isinstance(value, dict):
            return self.mapping(value, depth) if depth > 0 else _Omitted
        if isinstance(value, list | tuple):
            if depth <= 0:
                return _Omitted
            kept = (self.value(item, depth - 1) for item in value)
            return [item for item in kept if item is not _Omitted]
        return self.value(msgspec.to_builtins(value, str_keys=True, enc_hook=str), depth)


def _digits(value: int) -> str:
    # Python refuses to write out numbers of over 4300 digits.
    return str(value) if value.bit_length() < 8192 else hex(value)


def _key(name: str) -> str:
    name = cut(clean_line(name, 4 * MAX_KEY_CHARS), MAX_KEY_CHARS).rstrip().replace(".", "．")
    return ("＄" + name[1:] if name.startswith("$") else name) or "_"
