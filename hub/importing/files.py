"""Reading a file on, page by page, from where it was left.

A cursor holds a fingerprint of the file: one that was changed in between cannot be read on.
"""

from __future__ import annotations

import abc
import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from hub.importing.found import Found, ImportProblem, Page

PAGE_FOUND = 100
PAGE_BYTES = 2 * 1024 * 1024
HEAD_BYTES = 64 * 1024


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A place between two records of a file: ``at`` in bytes, ``line`` and ``record`` counted."""

    at: int = 0
    line: int = 0
    record: int = 0


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One record as it stands in the file, and the place behind it. ``failed``: why it is none."""

    place: str
    behind: Place
    value: Any = None
    size: int = 0  # bytes
    failed: str = ""


class _Cursor(msgspec.Struct, frozen=True):
    place: Place
    file: str


class FileSource(abc.ABC):
    """A file of old messages. Subclasses split it into records and read one."""

    name: str
    account = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._total: int | None = None

    @property
    @abc.abstractmethod
    def settings(self) -> Mapping[str, Any]: ...

    @property
    def total(self) -> int | None:
        return self._total

    @property
    def ignored(self) -> frozenset[str]:
        return frozenset()

    @abc.abstractmethod
    def records(self, file: BinaryIO, start: Place) -> Generator[Record, None, None]:
        """Yield the records behind a place. Runs in a thread. Raises ImportProblem."""

    @abc.abstractmethod
    async def read(self, record: Record) -> Found:
        """Return what a record says; ``record.failed`` is empty."""

    async def pages(self, cursor: str | None) -> AsyncIterator[Page]:
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise ImportProblem(f"{self.path} cannot be read: {error.strerror}") from error
        with file:
            print_of = await asyncio.to_thread(self._fingerprint, file)
            start = Place() if cursor is None else self._placed(cursor, print_of)
            records = self.records(file, start)
            try:
                while taken := await asyncio.to_thread(_some, records):
                    behind = taken[-1].behind
                    yield Page(
                        found=tuple([await self._found(record) for record in taken]),
                        cursor=msgspec.json.encode(_Cursor(behind, print_of)).decode(),
                        done=behind.at,
                    )
            finally:
                records.close()

    async def _found(self, record: Record) -> Found:
        if record.failed:
            return Found(place=record.place, failed=record.failed)
        return await self.read(record)

    def _fingerprint(self, file: BinaryIO) -> str:
        head = hashlib.sha256(file.read(HEAD_BYTES)).hexdigest()[:32]
        self._total = file.seek(0, 2)
        file.seek(0)
        if self._total == 0:
            raise ImportProblem(f"{self.path} is empty")
        return f"{self._total}:{head}"

    def _placed(self, cursor: str, print_of: str) -> Place:
        known = msgspec.json.decode(cursor, type=_Cursor)
        if known.file != print_of:
            raise ImportProblem(
                f"{self.path} was changed since this import began: start a new one; what was taken"
                " in already is known then"
            )
        return known.place


def _some(records: Iterator[Record]) -> list[Record]:
    """Take a page's worth of records; nothing when there are no more."""
    taken: list[Record] = []
    size = 0
    for record in itertools.islice(records, PAGE_FOUND):
        taken.append(record)
        size += record.size
        if size >= PAGE_BYTES:
            break
    return taken
