"""Reading a file within bounds: never more than the limit, nothing left on the disk."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.media.downloads import Download, chunks, digest_of, megabytes
from normalizer.outcomes import Rejected, Temporary


class Source:
    """A stream that counts what was taken of it."""

    def __init__(self, pieces: int, size: int = 100) -> None:
        self.taken = 0
        self._pieces = pieces
        self._size = size

    async def stream(self) -> AsyncIterator[bytes]:
        for _ in range(self._pieces):
            self.taken += 1
            yield b"z" * self._size


async def test_what_was_read_is_there_with_its_digest(tmp_path: Path) -> None:
    with Download(tmp_path) as download:
        await download.read(Source(30).stream(), limit=3000)
        assert download.size == 3000
        assert download.sha256 == hashlib.sha256(b"z" * 3000).hexdigest()
        assert digest_of(download.file) == (3000, download.sha256)
        assert b"".join([chunk async for chunk in chunks(download.file)]) == b"z" * 3000


async def test_reading_ends_at_the_limit(tmp_path: Path) -> None:
    source = Source(1000)
    with Download(tmp_path) as download, pytest.raises(Rejected, match="too large"):
        await download.read(source.stream(), limit=1000)
    assert source.taken == 11


async def test_a_promise_over_the_limit_is_enough(tmp_path: Path) -> None:
    source = Source(1000)
    with Download(tmp_path) as download, pytest.raises(Rejected, match="too large"):
        await download.read(source.stream(), limit=1000, promised=1001)
    assert source.taken == 0


async def test_fewer_bytes_than_promised_are_worth_another_try(tmp_path: Path) -> None:
    with Download(tmp_path) as download, pytest.raises(Temporary, match="300 of 400"):
        await download.read(Source(3).stream(), limit=1000, promised=400)


async def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with Download(tmp_path) as download, pytest.raises(Rejected, match="empty"):
        await download.read(Source(0).stream(), limit=1000)


async def test_the_file_has_no_name_that_a_crash_could_leave_behind(tmp_path: Path) -> None:
    with Download(tmp_path) as download:
        await download.read(Source(3).stream(), limit=1000)
        assert os.listdir(tmp_path) == []


def test_sizes_are_told_for_people() -> None:
    assert [megabytes(size) for size in (10, 4096, 200_000, 5 << 20)] == [
        "1 KB",
        "4 KB",
        "0.2 MB",
        "5.0 MB",
    ]
    assert digest_of(io.BytesIO(b""))[0] == 0
