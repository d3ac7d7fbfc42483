"""What an opaque signature encloses: S/MIME's signed-data (RFC 5652 section 5, RFC 8551 3.5.2).

Outlook can be told to sign so: then the whole mail, text and files, stands inside smime.p7m. The
signature is not checked; nobody is believed because of it.
"""

from __future__ import annotations

from collections.abc import Iterator

_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")  # 1.2.840.113549.1.7.2, with tag and length
_SEQUENCE, _EXPLICIT, _OCTETS, _MANY_OCTETS = 0x30, 0xA0, 0x04, 0x24
_MAX_DEPTH = 20
_MAX_ELEMENTS = 100_000  # in one other: programs write pieces of a thousand bytes and more
_END = b"\0\0"


def signed_content(data: bytes) -> bytes | None:
    """Return the mail that is signed, or None for anything else: encrypted, broken, detached."""
    try:
        outer = list(_children(data, 0, _SEQUENCE))
        if not data.startswith(_SIGNED_DATA, outer[0]):
            return None
        (signed,) = _children(data, outer[1], _EXPLICIT)
        # The version, the digests, and then what they are of: its kind, and the octets.
        _, _, content, *_ = _children(data, signed, _SEQUENCE)
        _, octets = _children(data, content, _SEQUENCE)
        (inside,) = _children(data, octets, _EXPLICIT)
        return b"".join(_octets(data, inside, 0))
    except (IndexError, ValueError):
        return None


def _head(data: bytes, at: int) -> tuple[int, int, int | None]:
    """Return the tag of the element at a place, where its content begins, and how long it is.

    The length is None where only its end is marked, as programs write that do not look ahead.
    """
    tag, length = data[at], data[at + 1]
    if length < 0x80:
        return tag, at + 2, length
    if length == 0x80:
        return tag, at + 2, None
    count = length & 0x7F
    if count > 8:
        raise ValueError("no length")
    return tag, at + 2 + count, int.from_bytes(data[at + 2 : at + 2 + count], "big")


def _behind(data: bytes, at: int, depth: int) -> int:
    """Return the place behind the element at a place."""
    if depth > _MAX_DEPTH:
        raise ValueError("too deep")
    _, start, length = _head(data, at)
    if length is not None:
        return start + length
    for _ in range(_MAX_ELEMENTS):
        if data[start : start + 2] == _END:
            return start + 2
        start = _behind(data, start, depth + 1)
    raise ValueError("too many elements")


def _children(data: bytes, at: int, tag: int) -> Iterator[int]:
    """Yield where the elements inside an element with this tag begin."""
    found, start, length = _head(data, at)
    if found != tag:
        raise ValueError("another element was expected")
    end = len(data) if length is None else start + length
    for _ in range(_MAX_ELEMENTS):
        if start >= end or (length is None and data[start : start + 2] == _END):
            return
        yield start
        start = _behind(data, start, 0)
    raise ValueError("too many elements")


def _octets(data: bytes, at: int, depth: int) -> Iterator[bytes]:
    """Yield the octets of a string, which may be written in pieces."""
    tag, start, length = _head(data, at)
    if tag == _OCTETS and length is not None:
        yield data[start : start + length]
    elif depth < _MAX_DEPTH:
        for piece in _children(data, at, _MANY_OCTETS):
            yield from _octets(data, piece, depth + 1)
