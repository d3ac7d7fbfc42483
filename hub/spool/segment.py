"""One file of records: read in batches, cut where a write was torn, set aside where it is damaged.

All of it blocks, and runs on the spool's one thread.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import structlog

from hub.spool.folder import Folder
from hub.spool.framing import HEADER_SIZE, Frame, Header, decode_frames
from hub.spool.records import Cipher, Record

_log = structlog.get_logger(__name__)

_SEGMENT_NAME = re.compile(r"[0-9]{8}\.seg")


class Batch(NamedTuple):
    """Records for one delivery, and where in the segment they end."""

    records: list[Record]
    end: int


class Active(NamedTuple):
    """The segment that is being written."""

    segment: Segment
    descriptor: int

    @classmethod
    def create(cls, segment: Segment) -> Active:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        return cls(segment, os.open(segment.path, flags, 0o600))


@dataclass(slots=True, eq=False)
class Segment:
    """One file of records, how far it has been delivered, and what is wrong with it.

    `size` is how many bytes of the file are known to be good, or, of an adopted one, all of them.
    """

    folder: Folder
    path: Path
    header: Header
    size: int = 0
    records: int = 0
    last: bool = False
    delivered: int = 0
    position: int = field(default_factory=lambda: HEADER_SIZE)
    damage: dict[int, str] = field(default_factory=dict)

    @classmethod
    def scan(cls, folder: Folder, path: Path, *, last: bool) -> Segment:
        """An adopted segment. `last`: its writer may have died in the middle of a write."""
        segment = cls(folder, path, Header.none(), size=path.stat().st_size, last=last)
        data = segment.load()
        header = Header.decode(data)
        if header is not None:
            segment.header = header
            segment.records = sum(1 for _ in segment.read(data, HEADER_SIZE))
        elif last and not segment.damage and (len(data) < HEADER_SIZE or not data.strip(b"\0")):
            segment._cut(0)
        else:
            segment.note_damage(0, f"the first {HEADER_SIZE} bytes are no header of this format")
        return segment

    @property
    def left(self) -> int:
        return self.records - self.delivered

    @property
    def created_at(self) -> datetime:
        return datetime.fromtimestamp(self.header.created_ms / 1000, UTC)

    def load(self) -> bytes:
        try:
            return self.path.read_bytes()[: self.size]
        except OSError as error:
            # Only what is surely about this file; too many open files, say, passes by itself.
            if error.errno not in (errno.EIO, errno.ENOENT):
                raise
            self.note_damage(0, f"the file cannot be read: {error.strerror}")
            return b""

    def read(self, data: bytes, position: int) -> Iterator[Frame]:
        """The sound frames from `position` on; what is between them is noted as damage."""
        for frame in decode_frames(data, self.header.salt, position):
            if frame.record is not None:
                yield frame
            elif frame.torn and self.last:
                self._cut(frame.start)
            else:
                self.note_damage(frame.start, f"{frame.end - frame.start} bytes are unreadable")

    def passed(self, batch: Batch) -> None:
        self.position = batch.end
        self.delivered += len(batch.records)

    def note_damage(self, offset: int, what: str) -> None:
        if offset not in self.damage:
            self.damage[offset] = what
            _log.error("spool_segment_damaged", path=str(self.path), offset=offset, what=what)

    def _cut(self, offset: int) -> None:
        if self.size > offset:
            _log.warning(
                "spool_tail_cut",
                path=str(self.path),
                offset=offset,
                bytes=self.size - offset,
                meaning="the process died while it wrote this; it was never acknowledged",
            )
            self.size = offset

    def dispose(self, root: Path) -> None:
        """Delete the file, or set it aside if there is something in it that a person should see."""
        try:
            if not self.damage:
                self.path.unlink(missing_ok=True)
                return
            aside = root / f"{self.folder.path.name}-{self.path.stem}.damaged"
            self.path.rename(aside)
            _log.error(
                "spool_segment_set_aside",
                path=str(aside),
                offsets=sorted(self.damage),
                delivered=self.delivered,
                remedy=f"everything readable was delivered; repair it, move it back to {self.path} "
                "and restart, or delete it",
            )
        except OSError as error:
            # What is in it was delivered; the next process that adopts it delivers it once more.
            _log.error("spool_segment_not_removed", path=str(self.path), error=str(error))


def scan(folder: Folder) -> list[Segment]:
    """All segments, oldest first, with their records counted and their damage noted."""
    paths = sorted(p for p in folder.path.iterdir() if _SEGMENT_NAME.fullmatch(p.name))
    return [Segment.scan(folder, path, last=path is paths[-1]) for path in paths]


class Reader:
    """Reads one segment in batches, from where the last drain stopped."""

    def __init__(self, segment: Segment, unseal: Cipher | None) -> None:
        self.segment = segment
        self._unseal = unseal
        self._frames = segment.read(segment.load(), segment.position)
        self._next = self._advance()

    def take(self, count: int, size: int) -> Batch | None:
        """The next records: at most `count`, at most `size` bytes of payload, but at least one."""
        records: list[Record] = []
        end = 0
        while self._next is not None and len(records) < max(count, 1):
            record, next_end = self._next
            size -= len(record.payload)
            if records and size < 0:
                break
            records.append(record)
            end = next_end
            self._next = self._advance()
        return Batch(records, end) if records else None

    def _advance(self) -> tuple[Record, int] | None:
        for frame in self._frames:
            if frame.record is None or self._unseal is None:
                return (frame.record, frame.end) if frame.record else None
            try:
                payload = self._unseal(frame.record.payload)
            except Exception as error:  # noqa: BLE001  (ciphers raise what they like; it is logged)
                what = f"{frame.record.id} cannot be decrypted: {type(error).__name__}"
                self.segment.note_damage(frame.start, what)
                continue
            return Record(id=frame.record.id, payload=payload), frame.end
        return None
