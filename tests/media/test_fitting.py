"""Copies for channels with limits: they fit, the original stays, and what cannot fit is refused.

Real: Pillow in its process. The blob store is the in-memory twin.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from PIL import Image as Picture

from hub.media.fitting import Fitter
from hub.media.keeping import fitted_copy
from hub.media.pictures import Pictures
from hub.testing import MemoryStore
from normalizer.capabilities import Capabilities
from normalizer.outcomes import Rejected
from normalizer.parts import File, Image, Media, MediaState, Text
from tests.media.pictures import encoded, noise

NARROW = Capabilities(
    sends=frozenset({"text", "image", "file"}),
    max_media_bytes=500_000,
    max_image_bytes=100_000,
    image_types=frozenset({"image/jpeg", "image/png"}),
    media_types=frozenset({"application/pdf"}),
)


class World:
    def __init__(self, folder: Path) -> None:
        self.blobs = MemoryStore().blobs
        pictures = Pictures(folder, seconds=20, max_pixels=40_000_000)
        self.fitter = Fitter(self.blobs, pictures, folder)

    async def media(self, data: bytes, mime: str, name: str = "a") -> Media:
        blob = await self.blobs.put(data, metadata={"size": len(data)})
        return Media(blob=blob, mime=mime, size=len(data), name=name)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_what_fits_is_left_as_it_is(world: World) -> None:
    small = encoded(Picture.new("RGB", (9, 9)), "PNG")
    parts = (
        Text(text="hello"),
        Image(media=await world.media(small, "image/png")),
        File(media=await world.media(b"%PDF", "application/pdf")),
    )
    fitted = await world.fitter.fit(parts, NARROW, "pigeon")
    assert all(after is before for after, before in zip(fitted, parts, strict=True))
    huge = (Image(media=await world.media(noise((900, 700)), "image/png")),)
    assert await world.fitter.fit(huge, Capabilities(), "post") == huge


async def test_a_large_picture_is_sent_smaller_and_its_original_is_kept(world: World) -> None:
    source = noise((1200, 900))
    part = Image(media=await world.media(source, "image/png"))
    (fitted,) = await world.fitter.fit((part,), NARROW, "pigeon")
    assert isinstance(fitted, Image)
    assert fitted.media.blob != part.media.blob
    copy = await world.blobs.read(fitted.media.blob or "")
    assert len(copy) == fitted.media.size
    assert len(copy) <= 100_000
    assert fitted.media.sha256 == hashlib.sha256(copy).hexdigest()
    shown = Picture.open(io.BytesIO(copy))
    assert shown.size == (fitted.media.width, fitted.media.height)
    assert shown.get_format_mimetype() == fitted.media.mime
    assert await world.blobs.read(part.media.blob or "") == source


async def test_a_picture_of_another_type_is_re_encoded(world: World) -> None:
    source = encoded(Picture.new("RGB", (300, 200), "teal"), "WEBP")
    part = Image(media=await world.media(source, "image/webp"))
    (fitted,) = await world.fitter.fit((part,), NARROW, "pigeon")
    assert isinstance(fitted, Image)
    assert fitted.media.mime in ("image/jpeg", "image/png")


async def test_a_second_attempt_takes_the_same_copy(world: World) -> None:
    part = Image(media=await world.media(noise((700, 500)), "image/png"))
    once = await world.fitter.fit((part,), NARROW, "pigeon")
    world.fitter._pictures = None  # type: ignore[assignment]  # nothing is opened again
    assert await world.fitter.fit((part,), NARROW, "pigeon") == once


async def test_a_channel_with_other_limits_gets_a_copy_of_its_own(world: World) -> None:
    part = Image(media=await world.media(noise((700, 500)), "image/png"))
    await world.fitter.fit((part,), NARROW, "pigeon")
    tiny = Capabilities(max_image_bytes=20_000, image_types=frozenset({"image/jpeg"}))
    (fitted,) = await world.fitter.fit((part,), tiny, "post")
    assert isinstance(fitted, Image)
    assert fitted.media.blob == fitted_copy(part.media.blob or "")
    assert len(await world.blobs.read(fitted.media.blob or "")) <= 20_000


@pytest.mark.parametrize(
    ("size", "mime", "reason"),
    [
        (600_000, "application/pdf", r"report has 0.6 MB, and pigeon takes 0.5 MB"),
        (10, "application/zip", "report is of the type application/zip, which pigeon does not"),
    ],
)
async def test_a_file_that_does_not_fit_is_refused_with_a_reason(
    world: World, size: int, mime: str, reason: str
) -> None:
    part = File(media=await world.media(b"x" * size, mime, "report"))
    with pytest.raises(Rejected, match=reason):
        await world.fitter.fit((part,), NARROW, "pigeon")


async def test_a_file_that_is_not_stored_is_refused(world: World) -> None:
    waiting = Media(vendor_ref="v1", state=MediaState.PENDING, name="a.pdf")
    with pytest.raises(Rejected, match=r"a\.pdf is not stored"):
        await world.fitter.fit((File(media=waiting),), NARROW, "pigeon")
