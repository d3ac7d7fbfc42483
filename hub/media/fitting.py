"""Copies of files that fit what a channel takes; the originals stay as they are.

The sender asks for them before ``connector.send``. A copy has a name that follows from its
source's, so that a second attempt finds it and an erasure takes it away with its source.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryFile

from msgspec.structs import replace

from hub.config import MediaSettings
from hub.media.downloads import Download, chunks, digest_of, megabytes
from hub.media.keeping import KIND, fitted_copy
from hub.media.pictures import Pictures, files_folder
from hub.media.sniffing import PICTURES
from hub.store.interface import BlobStore, StoreError
from hub.strays import Strays
from normalizer.capabilities import Capabilities
from normalizer.outcomes import Rejected, Temporary
from normalizer.parts import MEDIA_PARTS, AnyPart, Media, MediaState

FIT_S = 10.0  # for all files of a message: less than a worker has for an attempt to send
PICTURE_S = 8.0
MAX_SOURCE_BYTES = 256 * 1024 * 1024
_ANY_SIZE = 2**62


class Fitter:
    """Makes parts fit, by re-encoding pictures; other files either fit or are refused."""

    def __init__(
        self, blobs: BlobStore, pictures: Pictures, folder: Path, strays: Strays | None = None
    ) -> None:
        self._strays = strays
        self._blobs = blobs
        self._pictures = pictures
        self._folder = folder

    @classmethod
    def for_hub(
        cls, blobs: BlobStore, settings: MediaSettings, data_dir: Path, strays: Strays
    ) -> Fitter:
        seconds = min(PICTURE_S, settings.picture_timeout_s)
        pictures = Pictures(files_folder(data_dir), seconds=seconds, max_pixels=settings.max_pixels)
        return cls(blobs, pictures, files_folder(data_dir), strays)

    async def fit(
        self, parts: tuple[AnyPart, ...], capabilities: Capabilities, channel: str
    ) -> tuple[AnyPart, ...]:
        """Return the parts as ``channel`` takes them; those that fit are the same objects.

        Raises Rejected, with a reason for the agent, when a file cannot be made to fit, and
        Temporary while the blob store cannot be read. Nothing was sent when it raises.
        """
        try:
            async with asyncio.timeout(FIT_S):
                return await self._all(parts, capabilities, channel)
        except TimeoutError as error:
            raise Temporary("making the files fit takes too long now") from error

    async def _all(
        self, parts: tuple[AnyPart, ...], capabilities: Capabilities, channel: str
    ) -> tuple[AnyPart, ...]:
        fitted = []
        for part in parts:
            if isinstance(part, MEDIA_PARTS):
                media = await self._fitted(part.media, capabilities, channel)
                part = part if media is part.media else replace(part, media=media)
            fitted.append(part)
        return tuple(fitted)

    async def _fitted(self, media: Media, can: Capabilities, channel: str) -> Media:
        name = media.name or "the file"
        if media.state is not MediaState.READY or media.blob is None:
            raise Rejected(f"{name} is not stored, so it cannot be sent")
        picture = media.mime in PICTURES
        types = can.image_types if picture else can.media_types
        limits = [can.max_media_bytes, can.max_image_bytes if picture else None]
        limit = min((each for each in limits if each is not None), default=_ANY_SIZE)
        wrong_type = bool(types) and media.mime not in types
        size = await self._size(media)
        if not wrong_type and size <= limit:
            return media
        if picture:
            return await self._shrunk(media, limit, types)
        if wrong_type:
            raise Rejected(f"{name} is of the type {media.mime}, which {channel} does not take")
        raise Rejected(f"{name} has {megabytes(size)}, and {channel} takes {megabytes(limit)}")

    async def _size(self, media: Media) -> int:
        if media.size is not None:
            return media.size
        try:
            known = await self._blobs.metadata(media.blob or "")
        except StoreError as error:
            raise Temporary(str(error)) from error
        size = (known or {}).get("size")
        return size if isinstance(size, int) else 0  # unknown: the vendor will say

    async def _shrunk(self, media: Media, limit: int, types: frozenset[str]) -> Media:
        assert media.blob is not None
        blob = fitted_copy(media.blob)
        wish = f"{limit}|{','.join(sorted(types))}"
        try:
            known = await self._blobs.metadata(blob)
            if known is not None and known.get("wish") == wish:
                return _copy(media, blob, dict(known))
            if known is not None:  # for a channel with other limits
                await self._blobs.delete(blob)
            with Download(self._folder) as source, TemporaryFile(dir=self._folder) as into:
                stream = self._blobs.stream(media.blob)
                await source.read(stream, limit=MAX_SOURCE_BYTES)
                shape = await self._pictures.shrunk(source.file, into, max_bytes=limit, types=types)
                size, sha256 = await asyncio.to_thread(digest_of, into)
                made = {
                    "kind": KIND,
                    "name": media.name,
                    "mime": shape.mime,
                    "size": size,
                    "sha256": sha256,
                    "width": shape.width,
                    "height": shape.height,
                    "wish": wish,
                }
                if self._strays is not None:
                    await self._strays.copy_of(media.blob, blob)
                await self._blobs.put(chunks(into), metadata=made, blob=blob)
                if await self._blobs.metadata(media.blob) is None:
                    # Whoever erased it has looked for a copy before this one was there.
                    await self._blobs.delete(blob)
                    raise Rejected("the file was erased while it was made to fit")
        except StoreError as error:
            raise Temporary(str(error)) from error
        return _copy(media, blob, made)


def _copy(media: Media, blob: str, made: dict[str, object]) -> Media:
    return replace(
        media,
        blob=blob,
        mime=str(made["mime"]),
        size=made["size"],
        sha256=made["sha256"],
        width=made["width"],
        height=made["height"],
    )
