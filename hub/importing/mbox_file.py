"""An mbox: messages one behind the other, each below a line `From ...`.

A separator is a line that starts with ``From ``, holds a time and a year, and is followed by a
header: a sentence of a mail that begins with "From" is none, whether or not its writer escaped
it. ``>From`` is given back as ``From`` (mboxrd: one ``>`` of any number goes). What a message
says is read by the account's connector.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from hub.contract import Connector
from hub.importing.files import FileSource, Place, Record
from hub.importing.found import Found, ImportProblem

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 256 * 1024  # longer ones are read in pieces
_CLOCK = re.compile(rb"\b\d{1,2}:\d{2}")
_YEAR = re.compile(rb"\b(?:19|20)\d{2}\b")
_HEADER = re.compile(rb"[!-9;-~]{1,100}[ \t]*:|>?From ")
_ESCAPED = re.compile(rb">+From ")


class MboxFile(FileSource):
    name = "mbox"

    def __init__(self, path: Path, connector: Connector[Any], folder: str = "") -> None:
        super().__init__(path)
        channel, key = connector.account.channel, connector.account.key
        if not connector.reads_history():
            raise ImportProblem(f"the channel {channel} reads no archives: use jsonl or csv")
        if folder not in ("", "sent"):
            raise ImportProblem("the folder is `sent`, or none")
        self._connector = connector
        self._folder = folder
        self.account = f"{channel}:{key}"

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "file": str(self.path.resolve()),
            "account": self.account,
            "folder": self._folder,
        }

    def records(self, file: BinaryIO, start: Place) -> Generator[Record, None, None]:
        number = start.record
        for begin, end, raw, size in split(file, start.at):
            number += 1
            failed = ""
            if size > MAX_MESSAGE_BYTES:
                failed = f"the message has more than {MAX_MESSAGE_BYTES} bytes"
            elif not raw.strip():
                failed = "there is nothing below the separator"
            yield Record(
                place=f"message {number}, byte {begin}",
                behind=Place(at=end, record=number),
                value=raw,
                size=len(raw),
                failed=failed,
            )
        if number == 0:
            raise ImportProblem(
                f"{self.path} is no mbox: it has to begin with a line like"
                " `From li@example.com Sat Jan  3 01:05:34 2024`"
            )

    async def read(self, record: Record) -> Found:
        account = self._connector.account
        found = Found(place=record.place, channel=account.channel, account=account.key)
        return await read_message(self._connector, record.value, self._folder, found)


async def read_message(connector: Connector[Any], raw: bytes, folder: str, found: Found) -> Found:
    """Let a connector read a message; whatever it raises is about this one only."""
    try:
        said = await connector.read_history(raw, folder)
    except Exception as error:  # noqa: BLE001 - its reason is shown with the place
        return _failed(found, f"the connector cannot read it: {type(error).__name__}")
    if said.failed:
        return _failed(found, said.failed)
    return Found(
        place=found.place,
        channel=found.channel,
        account=found.account,
        drafts=tuple(said.drafts),
        raw=said.raw or raw,
    )


def _failed(found: Found, reason: str) -> Found:
    return Found(place=found.place, channel=found.channel, account=found.account, failed=reason)


def split(file: BinaryIO, start: int = 0) -> Generator[tuple[int, int, bytes, int], None, None]:
    """Yield (where it begins, where it ends, the message, its size) for each message.

    Of one over the bound only the beginning is kept. Nothing is yielded for a file whose first
    words are no separator.
    """
    file.seek(start)
    lines = _lines(file, start)
    at, line, whole = next(lines, (start, b"", True))
    while line and not line.strip():  # blank lines, and a mark of bytes, before the first
        at, line, whole = next(lines, (at, b"", True))
    if not line.removeprefix(b"\xef\xbb\xbf").startswith(b"From "):
        return
    begin, kept, size = at, bytearray(), 0
    held: tuple[int, bytes] | None = None  # a line that may be a separator: the next one tells
    fresh = True  # at the start of a line
    for at, line, whole in lines:
        if held is not None:
            if _HEADER.match(line):
                yield begin, held[0], _trimmed(kept), size
                begin, kept, size = held[0], bytearray(), 0
            else:
                size += len(held[1])
                kept += held[1]
            held = None
        if fresh and _may_separate(line):
            held = (at, line)
        else:
            size += len(line)
            if size <= MAX_MESSAGE_BYTES:
                kept += line[1:] if fresh and _ESCAPED.match(line) else line
        fresh = whole
    if held is not None:
        size += len(held[1])
        kept += held[1]
    yield begin, file.tell(), _trimmed(kept), size


def _lines(file: BinaryIO, at: int) -> Generator[tuple[int, bytes, bool], None, None]:
    """Yield (place, line, whether it is whole); a long line comes in pieces."""
    while line := file.readline(MAX_LINE_BYTES):
        yield at, line, line.endswith(b"\n")
        at += len(line)


def _may_separate(line: bytes) -> bool:
    if not line.startswith(b"From ") or len(line) > 1000:
        return False
    return bool(_CLOCK.search(line) and _YEAR.search(line))


def _trimmed(kept: bytearray) -> bytes:
    """Return the message without the blank line that the archive put behind it."""
    raw = bytes(kept)
    for end in (b"\r\n\r\n", b"\n\n"):
        if raw.endswith(end):
            return raw[: -len(end) // 2]
    return raw
