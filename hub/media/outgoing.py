"""Pictures that agents send: what leaves is a copy without metadata, upright, on every channel.

A photo tells more than what is on it: where it was taken, by whose telephone, who edited it. What
an agent uploads is re-encoded when it arrives, in the same process and within the same bounds as
customers' pictures (:mod:`hub.media.pictures`), and only the copy is stored: nothing else can
leave by mistake. Other files go as they are.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path, PurePosixPath

import msgspec
import structlog

from hub.config import MediaSettings
from hub.media.downloads import chunks, digest_of
from hub.media.pictures import Copies, Pictures, files_folder
from hub.media.sniffing import PICTURES
from normalizer.outcomes import Rejected

log = structlog.get_logger(__name__)

# Photographs that hold metadata as well, in formats that are not opened here.
CLOSED_PICTURES = frozenset({"image/heic", "image/heif", "image/jp2", "image/jxl", "image/tiff"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "image/gif": ".gif", "image/webp": ".webp"}


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it may leave. ``size`` in bytes, ``sha256`` in hex, both of ``data``.

    ``checked`` is "clean" for a copy of a picture, which has its measures in pixels, and
    "as_it_is" for everything else.
    """

    data: bytes | AsyncIterator[bytes]
    name: str
    mime: str
    size: int
    sha256: str
    checked: str
    width: int | None = None
    height: int | None = None


class OutgoingFiles:
    """Makes what agents upload ready to leave."""

    def __init__(self, pictures: Pictures, folder: Path, *, send_uncleaned: bool) -> None:
        self._pictures = pictures
        self._folder = folder
        self._send_uncleaned = send_uncleaned

    @classmethod
    def for_hub(cls, settings: MediaSettings, data_dir: Path) -> OutgoingFiles:
        """Say at the start, once, what becomes of agents' pictures where none can be opened."""
        pictures = Pictures.for_hub(settings, data_dir)
        if not pictures.available:
            log.warning(
                "agents_pictures_keep_metadata"
                if settings.send_uncleaned
                else "agents_pictures_refused",
                advice="install omniline[media]: pictures then leave without their metadata",
            )
        folder = files_folder(data_dir)
        return cls(pictures, folder, send_uncleaned=settings.send_uncleaned)

    @asynccontextmanager
    async def ready(self, data: bytes, mime: str, name: str) -> AsyncIterator[Outgoing]:
        """Yield a file as it may leave; ``mime`` is what its bytes are.

        Raises Rejected, with a reason for the agent, for a picture that cannot be freed of its
        metadata, and Temporary when the picture process cannot be started now.
        """
        with ExitStack() as files:
            copies = None
            if is_picture(data, mime):
                copies = await self._copies(data, mime, files)
            if copies is None:
                yield await asyncio.to_thread(_as_it_is, data, mime, name)
            else:
                yield await _copy(copies, mime, name)

    async def _copies(self, data: bytes, mime: str, files: ExitStack) -> Copies | None:
        """Return the copies of a picture; None where it may leave as it is."""
        why = "pictures of this kind are not opened here"
        if mime in PICTURES:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            source = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed with files
            files.callback(source.close)
            await asyncio.to_thread(source.write, data)
            source.flush()
            try:
                copies = await self._pictures.cleaned(source)
            except Rejected as refused:
                why = refused.reason
            else:
                files.callback(copies.close)
                if copies.shape is not None:
                    return copies
                why = copies.unreadable.removeprefix("no preview: ")
        if self._send_uncleaned:
            return None
        remedy = "save it as JPEG or PNG"
        if not self._pictures.available:
            remedy = "ask the operator to install omniline[media]"
        raise Rejected(
            f"{why}, so it cannot be freed of what a picture tells of itself, such as the place"
            f" where it was taken: {remedy}"
        )


def is_picture(data: bytes, mime: str) -> bool:
    """Say whether these bytes are a picture that may hold metadata, whoever can open it."""
    heif = data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS
    return heif or mime in PICTURES or mime in CLOSED_PICTURES


async def _copy(copies: Copies, mime: str, name: str) -> Outgoing:
    assert copies.shape is not None
    size, sha256 = await asyncio.to_thread(digest_of, copies.copy)
    return Outgoing(
        data=chunks(copies.copy),
        name=name if copies.shape.mime == mime else renamed(name, copies.shape.mime),
        mime=copies.shape.mime,
        size=size,
        sha256=sha256,
        checked="clean",
        width=copies.shape.width,
        height=copies.shape.height,
    )


def renamed(name: str, mime: str) -> str:
    """Return the name of a picture that became one of another type: its suffix says so."""
    return str(PurePosixPath(name).with_suffix(_SUFFIXES[mime])) if name else ""


def _as_it_is(data: bytes, mime: str, name: str) -> Outgoing:
    sha256 = hashlib.sha256(data).hexdigest()
    return Outgoing(
        data=data, name=name, mime=mime, size=len(data), sha256=sha256, checked="as_it_is"
    )
