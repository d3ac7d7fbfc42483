"""The bytes of a segment: one header and then frames, each of which proves itself.

Big-endian::

    header  magic 8 | version 2 | flags 2 | created, ms since 1970 8 | salt 16 | crc32 4
    frame   marker 4 | id length 1 | payload length 4 | crc32 of these 4 | id | payload | digest 8

Both checks of a frame are keyed with the segment's random salt and the frame's own offset, so that
after damage the next frame is found with certainty: bytes that a stranger sent inside a payload, or
an old copy of a frame elsewhere, cannot pass for one.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
import time
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from hub.spool.records import Record

_MAGIC = b"OMNSPOOL"
_VERSION = 1
_FLAG_SEALED = 1
_HEADER: struct.Struct = struct.Struct(">8sHHQ16sI")
HEADER_SIZE = _HEADER.size

_MARKER = b"\xf5rec"
_HEAD = struct.Struct(">4sBII")
_DIGEST_SIZE = 8
_MAX_ID = 255
_MAX_PAYLOAD = 1 << 30


class Header(NamedTuple):
    """What a segment begins with: its salt, and whether its payloads are sealed."""

    sealed: bool
    created_ms: int
    salt: bytes

    @classmethod
    def fresh(cls, *, sealed: bool) -> Header:
        return cls(sealed, time.time_ns() // 1_000_000, secrets.token_bytes(16))

    @classmethod
    def none(cls) -> Header:
        """Stands for a header that could not be read."""
        return cls(False, 0, b"")

    def encode(self) -> bytes:
        flags = _FLAG_SEALED if self.sealed else 0
        head = _HEADER.pack(_MAGIC, _VERSION, flags, self.created_ms, self.salt, 0)[:-4]
        return head + struct.pack(">I", zlib.crc32(head))

    @classmethod
    def decode(cls, data: bytes) -> Header | None:
        """None unless this is a whole and sound header of a version that can be read here."""
        if len(data) < _HEADER.size:
            return None
        magic, version, flags, created_ms, salt, crc = _HEADER.unpack_from(data)
        if crc != zlib.crc32(data[: _HEADER.size - 4]) or magic != _MAGIC or version != _VERSION:
            return None
        return cls(bool(flags & _FLAG_SEALED), created_ms, salt)


class Frame(NamedTuple):
    """A record and where it lies; or a gap without one, which is `torn` when the file ends in it"""

    start: int
    end: int
    record: Record | None
    torn: bool = False


def frame_size(record: Record) -> int:
    """Bytes the record takes on the disk. Raises `ValueError` for one that has no frame."""
    id_size = len(record.id.encode())
    if not 0 < id_size <= _MAX_ID:
        raise ValueError(f"a record's id has 1 to {_MAX_ID} bytes, this one {id_size}")
    if len(record.payload) > _MAX_PAYLOAD:
        raise ValueError(
            f"{record.id}: a payload has at most {_MAX_PAYLOAD} bytes, this one "
            f"{len(record.payload)}"
        )
    return _HEAD.size + id_size + len(record.payload) + _DIGEST_SIZE


def encode_frame(record: Record, salt: bytes, offset: int) -> bytes:
    """The record as it stands at `offset` of the segment with this salt."""
    body = record.id.encode() + record.payload
    sizes = _HEAD.pack(_MARKER, len(body) - len(record.payload), len(record.payload), 0)[:-4]
    head = sizes + struct.pack(">I", _head_crc(sizes, salt, offset))
    return head + body + _digest(head + body, salt, offset)


def decode_frames(data: bytes, salt: bytes, position: int) -> Iterator[Frame]:
    """Every sound frame in order, and the gaps between them."""
    while position < len(data):
        frame = _decode_frame(data, salt, position)
        if frame is None:
            end = _next_sound_frame(data, salt, position)
            # A file that grew before its bytes reached the disk ends in zeros after a power cut.
            torn = end == len(data) and not data[position:].strip(b"\0")
            frame = Frame(position, end, None, torn)
        yield frame
        position = frame.end


def _decode_frame(data: bytes, salt: bytes, start: int) -> Frame | None:
    """The frame at `start`, sound or not; None when its sizes cannot be trusted."""
    body = start + _HEAD.size
    if body > len(data):
        return Frame(start, len(data), None, torn=True)
    marker, id_size, payload_size, crc = _HEAD.unpack_from(data, start)
    if marker != _MARKER or crc != _head_crc(data[start : body - 4], salt, start):
        return None
    end = body + id_size + payload_size + _DIGEST_SIZE
    if end > len(data):
        return Frame(start, len(data), None, torn=True)
    if data[end - _DIGEST_SIZE : end] != _digest(data[start : end - _DIGEST_SIZE], salt, start):
        return Frame(start, end, None)
    payload = body + id_size
    record = Record(id=data[body:payload].decode(), payload=data[payload : end - _DIGEST_SIZE])
    return Frame(start, end, record)


def _next_sound_frame(data: bytes, salt: bytes, position: int) -> int:
    """Where the next frame that passes both checks begins; the end of the data if none does."""
    while (position := data.find(_MARKER, position + 1)) != -1:
        frame = _decode_frame(data, salt, position)
        if frame is not None and frame.record is not None:
            return position
    return len(data)


def _head_crc(sizes: bytes, salt: bytes, offset: int) -> int:
    """Guards the sizes, so that a damaged body is stepped over and the search for a frame hashes
    nothing that merely looks like one."""
    return zlib.crc32(sizes, zlib.crc32(salt + offset.to_bytes(8)))


def _digest(frame: bytes, salt: bytes, offset: int) -> bytes:
    key = salt + offset.to_bytes(8)
    return hashlib.blake2b(frame, digest_size=_DIGEST_SIZE, key=key).digest()
