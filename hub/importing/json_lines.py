"""JSON lines: one object a line, UTF-8."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from hub.clock import Clock
from hub.importing.files import FileSource, Place, Record
from hub.importing.found import Found
from hub.importing.rows import Columns, read_row

MAX_LINE_BYTES = 4 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class JsonLines(FileSource):
    name = "jsonl"

    def __init__(
        self, path: Path, columns: Columns, clock: Clock, accounts: frozenset[str]
    ) -> None:
        super().__init__(path)
        columns.check()
        self._columns = columns
        self._clock = clock
        self._accounts = accounts
        self._names: set[str] = set()

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"file": str(self.path.resolve()), "columns": msgspec.to_builtins(self._columns)}

    @property
    def ignored(self) -> frozenset[str]:
        return self._columns.unread(self._names)

    def records(self, file: BinaryIO, start: Place) -> Generator[Record, None, None]:
        file.seek(start.at)
        at, line = start.at, start.line
        while text := file.readline(MAX_LINE_BYTES + 1):
            line += 1
            began, place, failed = at, f"line {line}, byte {at}", ""
            at += len(text)
            if len(text) > MAX_LINE_BYTES:
                failed = f"the line has more than {MAX_LINE_BYTES} bytes"
                while not text.endswith(b"\n") and (text := file.readline(MAX_LINE_BYTES)):
                    at += len(text)
                text = b""
            if began == 0:
                text = text.removeprefix(_BOM)
            if not text.strip() and not failed:
                continue
            behind = Place(at=at, line=line)
            value, failed = (None, failed) if failed else _object(text)
            yield Record(place=place, behind=behind, value=value, size=len(text), failed=failed)

    async def read(self, record: Record) -> Found:
        self._names |= record.value.keys()
        folder = self.path.resolve().parent
        return read_row(
            record.value, record.place, self._columns, self._accounts, folder, self._clock.now()
        )


def _object(text: bytes) -> tuple[dict[str, Any] | None, str]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return None, f"this is no JSON: {_where(error)}; each line has to be one object, in UTF-8"
    if not isinstance(value, dict):
        return None, "this is JSON, and no object: each line has to be one"
    return value, ""


def _where(error: Exception) -> str:
    """Return what the decoder says of the place, never a piece of the line."""
    if isinstance(error, msgspec.DecodeError):
        return str(error)[:120]
    return "it nests too deep" if isinstance(error, RecursionError) else "bytes that are no UTF-8"
