"""A file on its way in, on the disk and without a name: it is gone when the process is."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from normalizer.outcomes import Rejected, Temporary

CHUNK_BYTES = 256 * 1024
MIB = 1024 * 1024


class Download:
    """Bytes that were read up to a limit. ``file`` has no name in the file system."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__
        self.size = 0
        self.sha256 = ""

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.file.close()

    async def read(
        self, stream: AsyncIterator[bytes], *, limit: int, promised: int | None = None
    ) -> None:
        """Take the bytes of ``stream``.

        Raises Rejected for a file over ``limit`` bytes, as soon as that is known, and for an
        empty one; Temporary when less came than was ``promised``.
        """
        if promised is not None and promised > limit:
            raise Rejected(too_large(promised, limit))
        digest = hashlib.sha256()
        async for chunk in stream:
            self.size += len(chunk)
            if self.size > limit:
                raise Rejected(too_large(self.size, limit))
            digest.update(chunk)
            self.file.write(chunk)
        if promised is not None and self.size < promised:
            raise Temporary(f"the download broke off after {self.size} of {promised} bytes")
        if not self.size:
            raise Rejected("the file is empty")
        self.file.flush()
        self.sha256 = digest.hexdigest()


async def chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    """Yield what is in a file, from its start."""
    place = 0
    while True:
        file.seek(place)
        chunk = file.read(CHUNK_BYTES)
        if not chunk:
            return
        place += len(chunk)
        yield chunk


def digest_of(file: BinaryIO) -> tuple[int, str]:
    """Return size and SHA-256 (hex) of a file."""
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return file.tell(), digest.hexdigest()


def too_large(size: int, limit: int) -> str:
    """Return why a file is refused; ``size`` is what is known so far."""
    return f"the file is too large: at least {megabytes(size)}, and {megabytes(limit)} are taken"


def megabytes(size: int) -> str:
    """Return a size for people: ``3.4 MB``, ``12 KB``."""
    return f"{size / MIB:.1f} MB" if size >= MIB // 10 else f"{max(1, size // 1024)} KB"
