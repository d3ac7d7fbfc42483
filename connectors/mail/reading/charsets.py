"""Bytes to text when the declared charset is missing, unknown, or not the one that was used.

Declared names are believed first, with the corrections that Chinese mail needs: gb2312 and its
relatives are read as gb18030, which contains them all (contracts/email.md section 4). What then
does not decode is tried as UTF-8, as gb18030 if it looks like it, and by charset-normalizer;
Windows' Latin-1 is the end, because it reads everything.
"""

from __future__ import annotations

import codecs
import re

from charset_normalizer import from_bytes

from normalizer.text import well_formed

_ALIASES = {
    **dict.fromkeys(
        (
            "gb2312", "gbk", "x-gbk", "cp936", "ms936", "windows-936", "gb_2312-80", "gb2312-80",
            "csgb2312", "iso-ir-58", "chinese", "euc-cn", "gb18030-2000", "gb-18030", "gb",
            "gb2312_charset", "gb18030-2005", "zh-cn", "x-mac-chinesesimp", "simplified chinese",
        ),
        "gb18030",
    ),
    **dict.fromkeys(("big5", "x-x-big5", "cn-big5", "csbig5", "x-big5", "zh-tw"), "cp950"),
    **dict.fromkeys(("big5-hkscs", "big5hkscs"), "big5hkscs"),
    **dict.fromkeys(("unicode-1-1-utf-7", "x-unicode-2-0-utf-7", "csunicode11utf7"), "utf-7"),
    **dict.fromkeys(
        ("utf8", "utf-8", "utf_8", "unicode-1-1-utf-8", "utf-8mb4", "utf8mb4", "unicode"), "utf-8"
    ),
    **dict.fromkeys(("hz-gb-2312", "hz", "hz-gb2312"), "hz"),
    **dict.fromkeys(("shift_jis", "shift-jis", "x-sjis", "sjis", "windows-31j"), "cp932"),
    **dict.fromkeys(("ks_c_5601-1987", "euc-kr", "ksc5601", "ks_c_5601", "korean"), "cp949"),
    **dict.fromkeys(
        ("iso-8859-1", "iso8859-1", "latin1", "latin-1", "l1", "cp-1252", "iso_8859-1"), "cp1252"
    ),
    **dict.fromkeys(("iso-8859-8-i", "iso-8859-8-e"), "iso-8859-8"),
    **dict.fromkeys(("cp-850", "x-cp1252", "ansi", "win-1252"), "cp1252"),
}  # fmt: skip
# Python calls these encodings of text as well, but no mail is written in them.
_NOT_CHARSETS = frozenset(
    {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"}
)
_UNSURE = frozenset({"gb18030", "cp950", "big5hkscs", "cp1252", "cp932", "cp949"})
_LABEL = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_:.+() -]{0,50}\Z")
_HAN_IN_UTF8 = re.compile(rb"[\xe3-\xe9][\x80-\xbf]{2}")
_GB_PAIR = re.compile(rb"[\xa1-\xf7][\xa1-\xfe]")
_GB_COMMON = re.compile(rb"[\xb0-\xd7][\xa1-\xfe]|[\xa1\xa3][\xa1-\xfe]")
_HIGH = re.compile(rb"[\x80-\xff]+")
_SAMPLE = 8_192


def codec_of(label: str) -> str:
    """Return the name of the codec for a declared charset, or ``""`` if there is none for it."""
    label = label.strip().strip("\"'").strip().lower()
    if label in _ALIASES:
        return _ALIASES[label]
    if not _LABEL.match(label):
        return ""
    try:
        found = codecs.lookup(label.replace(" ", "-"))
    except (LookupError, ValueError):
        return ""
    # codecs.lookup also finds hex, zip and rot13; only the flag tells them apart.
    if found.name.replace("-", "_") in _NOT_CHARSETS or not getattr(
        found, "_is_text_encoding", False
    ):
        return ""
    return _ALIASES.get(found.name, found.name)


def decode(raw: bytes, label: str = "") -> str:
    """Return ``raw`` as text. Never raises; a declared charset is believed if it can be true."""
    return well_formed(_decoded(raw, label))  # UTF-7 can write half a character


def _decoded(raw: bytes, label: str) -> str:
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return raw[len(mark) :].decode(name, "replace")
    codec = codec_of(label) if label else ""
    if b"\x1b$" in raw and codec not in _STATEFUL:  # Japanese, as it is often left unsaid
        text = _strictly(raw, "iso2022_jp_ext")
        if text is not None:
            return text
    if codec == "utf-16":
        codec = _byte_order(raw)
    if raw.isascii() and codec not in _STATEFUL and b"\0" not in raw:
        return raw.decode("ascii")
    if codec in _UNSURE and len(_HAN_IN_UTF8.findall(raw[:_SAMPLE])) >= 3:
        text = _strictly(raw, "utf-8")
        if text is not None:
            return text
    if not codec or codec in _DEFAULTS:
        return _guessed(raw, last=codec)
    text = _strictly(raw, codec)
    if text is None:
        text = _mended(raw, codec)
    return _guessed(raw) if text is None else text


def _byte_order(raw: bytes) -> str:
    """Return which UTF-16 it is where no mark says so: the one in which there are blanks and signs.

    Where both are as likely it is the one of RFC 2781, section 4.3.
    """
    found = {}
    for codec in ("utf-16-be", "utf-16-le"):
        text = raw[:_SAMPLE].decode(codec, "replace")
        found[codec] = sum(1 for char in text if char < "\x80" or char in "，。、：；！？（）")
    return max(found, key=lambda codec: found[codec])


_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # it begins as the next one does
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_STATEFUL = frozenset(
    {"hz", "iso2022_jp", "iso2022_jp_1", "iso2022_jp_2", "iso2022_jp_3", "iso2022_jp_ext",
     "iso2022_jp_2004", "iso2022_kr", "utf-7", "cp037", "cp500", "cp1026", "cp1140", "cp273"}
)  # fmt: skip


# What programs write that do not know better: it is looked for something likelier first.
_DEFAULTS = frozenset({"ascii", "cp1252"})


def _strictly(raw: bytes, codec: str) -> str | None:
    try:
        return raw.decode(codec)
    except (UnicodeError, LookupError, ValueError):
        return None


def _mended(raw: bytes, codec: str) -> str | None:
    """Return the text if only a little of it is broken: a character cut in half at the end."""
    try:
        text = raw.decode(codec, "replace")
    except (UnicodeError, LookupError, ValueError):
        return None
    broken = text.count("\ufffd")
    return text if broken <= max(1, len(text) // 100) and len(text) > 3 * broken else None


def _guessed(raw: bytes, last: str = "") -> str:
    text = _strictly(raw, "utf-8")
    if text is not None:
        return text
    mended = _mended(raw, "utf-8")
    if mended is not None and _HAN_IN_UTF8.search(raw):
        return mended
    if _looks_like_gb(raw[:_SAMPLE]):
        return raw.decode("gb18030", "replace")
    best = None
    if last != "cp1252" and len(raw) > 8:
        best = from_bytes(_sample(raw), steps=3).best()
    if best is not None:
        text = _strictly(raw, codec_of(best.encoding) or best.encoding)
        if text is not None:
            return text
    return _strictly(raw, "cp1252") or raw.decode("latin-1")


def _looks_like_gb(raw: bytes) -> bool:
    """Whether nearly all high bytes are pairs of GB 2312, most of them of its common characters."""
    runs = _HIGH.findall(raw)
    high = sum(map(len, runs))
    found = [pair for run in runs for pair in _GB_PAIR.findall(run)]
    common = sum(1 for pair in found if _GB_COMMON.match(pair))
    return high >= 2 and 2 * len(found) >= 0.85 * high and 2 * common >= len(found)


def _sample(raw: bytes) -> bytes:
    """Return a bounded piece of ``raw`` that begins where it is not plain ASCII."""
    found = _HIGH.search(raw)
    start = max(0, found.start() - 200) if found else 0
    return raw[start : start + _SAMPLE]
