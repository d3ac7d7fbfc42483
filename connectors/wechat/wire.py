"""From a push's bytes to its fields: XML or JSON, whichever the first byte says.

Texts are kept to the letter: blanks around them, empty ones, line breaks. A DOCTYPE is refused
before anything of it is read, and an encoding declaration changes nothing: pushes are UTF-8.
JSON pushes with the same names exist in newer consoles (unverified).
"""

from __future__ import annotations

from typing import Any, TypeAlias
from xml.parsers import expat

import msgspec

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 12
MAX_ELEMENTS = 2000

Value: TypeAlias = "str | Fields | list[str | Fields]"
Fields: TypeAlias = dict[str, Any]
"""Names and values: texts, fields again, and lists of both where a name is repeated."""


class Unreadable(ValueError):
    """The bytes are no push of WeChat's."""


def read(body: bytes) -> Fields:
    """Return the fields of a push. Raises :class:`Unreadable`."""
    if len(body) > MAX_BYTES:
        raise Unreadable(f"the push has more than {MAX_BYTES} bytes")
    start = body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if start == b"<":
        return _Reader().read(body)
    if start == b"{":
        return _read_json(body)
    raise Unreadable("the push is neither XML nor JSON")


def text(fields: Fields, name: str) -> str:
    """Return a field as it was sent, "" where it is missing or no text."""
    value = fields.get(name, "")
    return value if isinstance(value, str) else ""


def inner(fields: Fields, name: str) -> Fields:
    """Return the fields below a name, none where there are none."""
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def items(fields: Fields, name: str) -> list[Fields]:
    """Return what is repeated below a name: one of it is an object, several are a list."""
    value = fields.get(name)
    found = value if isinstance(value, list) else [value]
    return [each for each in found if isinstance(each, dict)]


class _Reader:
    def __init__(self) -> None:
        self._open: list[tuple[str, Fields, list[str]]] = []
        self._count = 0
        self._root: Fields | None = None

    def read(self, body: bytes) -> Fields:
        parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._data
        try:
            parser.Parse(body, True)
        except expat.ExpatError as error:
            raise Unreadable(f"the push is broken XML: {error}") from None
        if not self._root:
            raise Unreadable("the push has no fields")
        return self._root

    def _doctype(self, *declared: object) -> None:
        raise Unreadable("the push has a DOCTYPE")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) >= MAX_DEPTH or self._count > MAX_ELEMENTS:
            raise Unreadable("the push is nested too deeply, or has too many fields")
        self._open.append((name, {}, []))

    def _data(self, data: str) -> None:
        self._open[-1][2].append(data)

    def _end(self, name: str) -> None:
        _, fields, texts = self._open.pop()
        if not self._open:
            self._root = fields
            return
        _put(self._open[-1][1], name, fields or "".join(texts))


def _put(fields: Fields, name: str, value: str | Fields) -> None:
    if name not in fields:
        fields[name] = value
    elif isinstance(fields[name], list):
        fields[name].append(value)
    else:
        fields[name] = [fields[name], value]


def _read_json(body: bytes) -> Fields:
    try:
        found = msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unreadable("the push is broken JSON") from None
    if not isinstance(found, dict) or not found:
        raise Unreadable("the push has no fields")
    return {name: _as_xml_says(value, 1) for name, value in found.items()}


def _as_xml_says(value: Any, depth: int) -> Any:
    """Return a JSON value as the same push in XML would have it: numbers are texts there."""
    if depth > MAX_DEPTH:
        raise Unreadable("the push is nested too deeply")
    match value:
        case str():
            return value
        case bool() | None:
            return "" if value is None else str(int(value))
        case int() | float():
            return str(value)
        case dict():
            return {name: _as_xml_says(each, depth + 1) for name, each in value.items()}
        case _:
            return [_as_xml_says(each, depth + 1) for each in value[:MAX_ELEMENTS]]
