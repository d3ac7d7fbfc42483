"""CSV as spreadsheets write it: a header, quoted fields that may hold line ends, any encoding.

The encoding is the one of the byte order mark; without one UTF-8, and where that does not fit
GB18030, which spreadsheets in China write. Anything else has to be said.
"""

from __future__ import annotations

import codecs
import csv
import io
import threading
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from hub.clock import Clock
from hub.importing.files import FileSource, Place, Record
from hub.importing.found import Found, ImportProblem
from hub.importing.rows import Columns, read_row

MAX_FIELD_CHARS = 1024 * 1024
MAX_COLUMNS = 500
_CHUNK = 1024 * 1024
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\x84\x31\x95\x33", "gb18030"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_DELIMITERS = ",;\t|"
_limit = threading.Lock()  # the csv module's limit is the whole process's


class CsvRows(FileSource):
    name = "csv"

    def __init__(
        self,
        path: Path,
        columns: Columns,
        clock: Clock,
        accounts: frozenset[str],
        *,
        encoding: str = "",
        delimiter: str = "",
    ) -> None:
        super().__init__(path)
        columns.check()
        if encoding:
            try:
                codecs.lookup(encoding)
            except LookupError as error:
                raise ImportProblem(f"there is no encoding {encoding!r}") from error
        if len(delimiter) > 1:
            raise ImportProblem("the delimiter is one character")
        self._columns = columns
        self._clock = clock
        self._accounts = accounts
        self._encoding = encoding
        self._delimiter = delimiter
        self._names: set[str] = set()

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "file": str(self.path.resolve()),
            "columns": msgspec.to_builtins(self._columns),
            "encoding": self._encoding,
            "delimiter": self._delimiter,
        }

    @property
    def ignored(self) -> frozenset[str]:
        return self._columns.unread(self._names)

    def records(self, file: BinaryIO, start: Place) -> Generator[Record, None, None]:
        encoding = self._encoding or detected(file, self.path)
        file.seek(0)
        text = io.TextIOWrapper(file, encoding, errors="surrogateescape", newline="")
        try:
            yield from self._rows(text, file, start)
        finally:
            text.detach()

    def _rows(self, text: io.TextIOWrapper, file: BinaryIO, start: Place) -> Iterator[Record]:
        head = text.readline(MAX_FIELD_CHARS).removeprefix("\ufeff")
        delimiter = self._delimiter or max(_DELIMITERS, key=head.count)
        header = self._header(head, text, delimiter)
        first_line = head.count("\n") or 1
        reader = csv.reader(text, delimiter=delimiter, strict=False)
        number = 0
        while True:
            failed, row = "", []
            began = reader.line_num
            try:
                with _limit:
                    before = csv.field_size_limit(MAX_FIELD_CHARS)
                    try:
                        row = next(reader)
                    finally:
                        csv.field_size_limit(before)
            except StopIteration:
                return
            except csv.Error:
                failed = (
                    f"a field has more than {MAX_FIELD_CHARS} characters: is a quote not closed?"
                )
            if not row and not failed:
                continue
            number += 1
            if number <= start.record:
                continue
            if not failed and len(row) > len(header):
                failed = f"it has {len(row)} fields, the header has {len(header)}"
            yield Record(
                place=f"line {first_line + began + 1}, row {number}",
                behind=Place(at=_told(file), line=first_line + reader.line_num, record=number),
                value=dict(zip(header, row, strict=False)),
                size=sum(len(field) for field in row),
                failed=failed,
            )

    def _header(self, head: str, text: io.TextIOWrapper, delimiter: str) -> list[str]:
        header = [name.strip() for name in next(csv.reader([head], delimiter=delimiter), [])]
        if len(header) > MAX_COLUMNS:
            raise ImportProblem(f"{self.path} has more than {MAX_COLUMNS} columns")
        self._names = set(header)
        missing = [
            f"{name} ({self._columns.map.get(name, name)!r})"
            for name in ("channel", "account", "address", "direction", "at")
            if name not in self._columns.fixed and self._columns.map.get(name, name) not in header
        ]
        if missing:
            raise ImportProblem(
                f"{self.path} has no column for {', '.join(missing)}; its columns are"
                f" {', '.join(header[:40])}. Say --map FIELD=COLUMN, or --set FIELD=VALUE"
            )
        return header

    async def read(self, record: Record) -> Found:
        folder = self.path.resolve().parent
        return read_row(
            record.value, record.place, self._columns, self._accounts, folder, self._clock.now()
        )


def _told(file: BinaryIO) -> int:
    """Return how far the file was read: for showing, a buffer ahead of the row."""
    return file.tell()


def detected(file: BinaryIO, path: Path) -> str:
    """Return the encoding of a file. Raises ImportProblem when it is none that is tried."""
    head = file.read(4)
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    for name in ("utf-8", "gb18030"):
        decoder = codecs.getincrementaldecoder(name)()
        file.seek(0)
        try:
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        return name
    raise ImportProblem(f"{path} is neither UTF-8 nor GB18030: say --encoding")
