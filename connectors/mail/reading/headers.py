"""The headers of a mail or of one of its parts: bytes as they came, read one at a time.

Nothing here raises for what a stranger wrote: each getter returns what can be understood and an
empty value for the rest. The standard library's header objects raise for some of it, lose bytes
for some, and take time with the square of others (contracts/email.md section 4).
"""

from __future__ import annotations

import binascii
import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from connectors.mail.reading import charsets
from connectors.mail.reading.limits import (
    MAX_HEADER_BYTES,
    MAX_HEADER_CHARS,
    MAX_HEADERS,
    MAX_PEOPLE,
)
from normalizer.text import clean_line

MAX_MENDED = 5  # lines of one block of headers that lost their blank
_LOOKED_AHEAD = 8_192
_FIELD = re.compile(rb"([!-9;-~]{1,200})[ \t]*:")


class Value(NamedTuple):
    """A header with parameters: ``text/plain; charset=gbk``. Names and ``what`` in lower case."""

    what: str
    params: dict[str, str]


class Person(NamedTuple):
    """One entry of From, To or Cc. ``addr`` may be empty, and need not be an address."""

    name: str
    addr: str


class Headers:
    """The fields of one header block, in their order."""

    def __init__(self, fields: list[tuple[str, bytes]]) -> None:
        self._fields = fields

    def __len__(self) -> int:
        return len(self._fields)

    def raw(self, name: str) -> bytes:
        """Return the bytes of the topmost field of this name, unfolded and trimmed."""
        return next((value for field, value in self._fields if field == name), b"")

    def every(self, name: str) -> list[bytes]:
        return [value for field, value in self._fields if field == name]

    def has(self, name: str) -> bool:
        return any(field == name for field, _ in self._fields)

    def text(self, name: str, limit: int = 500) -> str:
        """Return a field as a person reads it: one line, without control characters."""
        return clean_line(decode_words(_as_text(self.raw(name))), limit)

    def plain(self, name: str) -> str:
        """Return a field that carries no words for people, such as ids, as one line."""
        return clean_line(_as_text(self.raw(name)), MAX_HEADER_CHARS)

    def value(self, name: str) -> Value:
        return read_value(self.raw(name))

    def people(self, *names: str) -> list[Person]:
        found: list[Person] = []
        for name in names:
            for raw in self.every(name):
                found += read_people(raw)
        return found[:MAX_PEOPLE]


def read_headers_of(raw: bytes, start: int, end: int) -> tuple[Headers, int, bool]:
    """Read the header block of ``raw[start:end]``.

    Returns the headers, where the body begins, and whether all of them were read. A line that
    cannot be a header begins the body, unless what matters comes below it: then it belongs to
    the field above, which somebody folded without a blank.
    """
    fields: list[tuple[str, bytes]] = []
    name, value = "", bytearray()
    mended = 0
    at, stop = start, min(end, start + MAX_HEADER_BYTES)
    while at < stop:
        line_end = raw.find(b"\n", at, stop)
        following = stop if line_end < 0 else line_end + 1
        line = raw[at:following].rstrip(b"\r\n")
        if not line:
            at = following
            break
        if line[:1] in b" \t" and name:
            value += line
        else:
            found = _FIELD.match(line)
            if found is None:
                known = {name, *(field for field, _ in fields)}
                ahead = raw[following : min(stop, following + _LOOKED_AHEAD)]
                if not name or mended >= MAX_MENDED or not _goes_on(ahead, known):
                    break
                mended += 1
                value += b" " + line
                at = following
                continue
            if name and len(fields) < MAX_HEADERS:
                fields.append((name, bytes(value).strip()))
            name, value = found[1].decode("ascii").lower(), bytearray(line[found.end() :])
        at = following
    else:
        if at < end:  # too long: the body begins behind the next empty line
            at = min((raw.find(blank, at, end) + 1 or end) for blank in (b"\n\n", b"\n\r\n"))
            at = min(end, raw.find(b"\n", at, end) + 1 or end)
            return Headers(_ended(fields, name, value)), at, False
    fields = _ended(fields, name, value)
    return Headers(fields), at, len(fields) < MAX_HEADERS


_TELLING = frozenset({"content-type", "mime-version", "content-transfer-encoding", "message-id"})


def _goes_on(below: bytes, known: set[str]) -> bool:
    """Whether these lines are headers down to the next empty one, and say what is not known."""
    new: set[str] = set()
    for line in below.splitlines():
        if not line:
            return not _TELLING.isdisjoint(new - known)
        found = _FIELD.match(line)
        if found is not None:
            new.add(found[1].decode("ascii").lower())
        elif line[:1] not in b" \t":
            return False
    return False


def _ended(fields: list[tuple[str, bytes]], name: str, value: bytearray) -> list[tuple[str, bytes]]:
    if name and len(fields) < MAX_HEADERS:
        fields.append((name, bytes(value).strip()))
    return fields


def _as_text(raw: bytes) -> str:
    raw = raw[:MAX_HEADER_CHARS]
    return raw.decode("ascii") if raw.isascii() and b"\x1b" not in raw else charsets.decode(raw)


# --- encoded words ---------------------------------------------------------------------------

# RFC 2047, with the language of RFC 2231. A question mark should be encoded, and often is not.
_WORD = re.compile(
    r"=\?([^?\s*]{1,64})(?:\*[^?\s]{0,32})?\?([bBqQ])"
    r"\?([^?\r\n]{0,8192}(?:(?<!=)\?(?!=)[^?\r\n]{0,1000}){0,20})\?="
)
_SPECIALS = re.compile(r'[,;:()<>@"\\]')


def decode_words(text: str) -> str:
    """Return ``text`` with its encoded words read.

    Neighbours of one charset are joined before they are decoded, because programs cut through
    the middle of a character.
    """
    if "=?" not in text:
        return text
    out: list[str] = []
    pending, charset = b"", ""
    at = 0
    for word in _WORD.finditer(text):
        between = text[at : word.start()]
        at = word.end()
        if between and not (between.isspace() and charset):
            out += [charsets.decode(pending, charset), between]
            pending, charset = b"", ""
        name = word[1].lower()
        if charset and name != charset:
            out.append(charsets.decode(pending, charset))
            pending = b""
        charset = name
        pending += _word_bytes(word[2], word[3])
    out += [charsets.decode(pending, charset), text[at:]]
    return "".join(out)


def _word_bytes(encoding: str, payload: str) -> bytes:
    raw = payload.encode("utf-8", "replace")
    if encoding in "qQ":
        return binascii.a2b_qp(raw, header=True)
    raw = re.sub(rb"[^A-Za-z0-9+/]", b"", raw)
    raw = raw[: len(raw) // 4 * 4 + (len(raw) % 4 if len(raw) % 4 > 1 else 0)]
    return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4))


# --- parameters ------------------------------------------------------------------------------

_PARAMETER = re.compile(rb""";\s*([^\s=;"]{1,80})\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)""", re.DOTALL)
_CONTINUED = re.compile(r"(.{1,60}?)\*(?:(\d{1,3})(\*?))?\Z")


def read_value(raw: bytes) -> Value:
    """Read ``what; name=value; ...``, with the continuations and charsets of RFC 2231."""
    raw = raw[:MAX_HEADER_CHARS]
    what = _as_text(raw.partition(b";")[0]).strip().strip('"').lower()
    plain: dict[str, str] = {}
    pieces: dict[str, dict[int, tuple[bytes, bool]]] = {}
    for found in _PARAMETER.finditer(raw):
        name = found[1].decode("latin-1").lower()
        value = _unquoted(found[2])
        continued = _CONTINUED.match(name)
        if continued is None:
            plain.setdefault(name, decode_words(_as_text(value)).strip())
            continue
        base, number, encoded = continued[1], continued[2], continued[3]
        slot = pieces.setdefault(base, {})
        slot.setdefault(int(number or 0), (value, number is None or encoded == "*"))
    for base, slot in pieces.items():
        plain[base] = _joined(slot)  # RFC 2231 wins over the copy for older programs
    return Value(what, plain)


def _unquoted(value: bytes) -> bytes:
    value = value.strip()
    if value[:1] == b'"':
        value = value[1:-1] if len(value) > 1 and value[-1:] == b'"' else value[1:]
        value = re.sub(rb"\\(.)", rb"\1", value)
    return value


def _joined(slot: dict[int, tuple[bytes, bool]]) -> str:
    charset = ""
    whole = b""
    for number in sorted(slot):
        value, encoded = slot[number]
        if encoded:
            if number == 0 and value.count(b"'") >= 2:
                label, _, rest = value.partition(b"'")
                charset, value = label.decode("latin-1"), rest.partition(b"'")[2]
            value = unquote_to_bytes(value)
        whole += value
    return clean_line(decode_words(charsets.decode(whole, charset)), 1000)


# --- people ----------------------------------------------------------------------------------

_COMMENT = re.compile(r"\([^()]{0,200}\)")
_LOST_ADDRESS = re.compile(r"<([^<>\s]{1,500}@[^<>\s]{1,300})>")


def read_people(raw: bytes) -> list[Person]:
    """Read a list of addresses as clients write it, not only as RFC 5322 allows it.

    Commas and semicolons separate; quotes and comments hide them; a group's name is dropped.
    The display name is decoded last, so that nothing inside an encoded word is taken for an
    address.
    """
    text = "".join(char if char.isprintable() else " " for char in _as_text(raw))
    text = _WORD.sub(_hidden, text)
    people: list[Person] = []
    piece = _Piece()
    for char in text:
        if piece.takes(char):
            continue
        if len(people) >= MAX_PEOPLE:
            break
        people += piece.person()
        piece = _Piece()
    return people + piece.person() if len(people) < MAX_PEOPLE else people


def _hidden(word: re.Match[str]) -> str:
    """Return an encoded word in which nothing separates, quotes or comments."""
    if word[2] in "bB":
        return word[0]
    return _SPECIALS.sub(lambda sign: f"={ord(sign[0]):02X}", word[0])


class _Piece:
    """One entry of a list, read sign by sign."""

    def __init__(self) -> None:
        self.phrase: list[str] = []
        self.angle: list[str] | None = None
        self.comment: list[str] = []
        self.depth = 0
        self.quoted = self.escaped = self.inside = False
        self.quote_ends = 0  # in the phrase
        self.quoted_local = False

    def takes(self, char: str) -> bool:
        """Take one more sign; False for the separator behind the entry."""
        if self.escaped:
            self.escaped = False
            self._keep(char)
        elif char == "\\" and (self.quoted or self.depth):
            self.escaped = True
        elif self.quoted:
            if char == '"':
                self.quoted = False
                self.quote_ends = len(self.phrase)
            else:
                self._keep(char)
        elif self.inside:
            if char == ">":
                self.inside = False
            elif self.angle is not None:
                self.angle.append(char)
        elif char == "(" or (self.depth and char == ")"):
            self.depth += 1 if char == "(" else -1
        elif self.depth:
            self.comment.append(char)
        elif char == '"':
            self.quoted = True
        elif char == "<":
            self.inside, self.angle = True, []
        elif char in ",;":
            return False
        elif char == ":" and "@" not in self.phrase and self.angle is None:
            self.phrase = []  # the name of a group
        else:
            self.quoted_local |= char == "@" and 0 < self.quote_ends == len(self.phrase)
            self._keep(char)
        return True

    def _keep(self, char: str) -> None:
        (self.comment if self.depth else self.phrase).append(char)

    def person(self) -> list[Person]:
        phrase = "".join(self.phrase).strip()
        addr = "".join(self.angle).strip() if self.angle is not None else ""
        name = phrase or "".join(self.comment).strip()
        if self.angle is None:
            lost = _LOST_ADDRESS.search(phrase)  # behind a quote that was never closed
            if lost is not None:
                addr, name = lost[1], phrase[: lost.start()]
            elif self.quoted_local or not any(char.isspace() for char in phrase):
                # "li wei"@example.org is somebody else than wei@example.org.
                addr, name = phrase, "".join(self.comment).strip()
            else:
                bare = [word for word in phrase.split() if word.count("@") == 1]
                if len(bare) == 1:
                    addr, name = bare[0], phrase.replace(bare[0], "")
        else:
            addr = _COMMENT.sub("", addr).strip()
            if addr[:7].lower() == "mailto:":
                addr = addr[7:]
            elif addr.startswith("@") and ":" in addr:
                addr = addr.rpartition(":")[2]  # a source route
        name = clean_line(decode_words(name), 200).strip("'\"<> ")
        if not addr and not name and self.angle is None:
            return []
        if addr and "@" not in addr and self.angle is None and not name:
            name, addr = clean_line(decode_words(addr), 200), ""
        return [Person(name, addr)]
