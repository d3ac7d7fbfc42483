"""What agents upload, as it leaves: pictures without metadata and upright, other files untouched.

Real: Pillow and the process it runs in. Nothing is faked but Pillow's absence.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
from pathlib import Path

import pytest
import structlog
from PIL import Image

from hub.config import MediaSettings
from hub.media.outgoing import Outgoing, OutgoingFiles
from hub.media.pictures import Pictures
from hub.media.sniffing import sniff
from normalizer.outcomes import Rejected
from tests.media.pictures import encoded, noise, photo

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40
TIFF = encoded(Image.new("RGB", (8, 8), "red"), "TIFF")
DAMAGED = photo()[:900]
HUGE = encoded(Image.new("1", (1200, 1200)), "PNG")


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    return Pictures(tmp_path, seconds=20.0, max_pixels=1_000_000)


async def left(
    pictures: Pictures, folder: Path, data: bytes, name: str = "", *, send_uncleaned: bool = False
) -> tuple[Outgoing, bytes]:
    """Return a file as it leaves, and its bytes."""
    files = OutgoingFiles(pictures, folder, send_uncleaned=send_uncleaned)
    async with files.ready(data, sniff(data), name) as made:
        if isinstance(made.data, bytes):
            return made, made.data
        return made, b"".join([chunk async for chunk in made.data])


def of_a_telephone() -> bytes:
    """Return what many telephones write: two pictures in one file, the second a map."""
    first, second = Image.new("RGB", (60, 40), "red"), Image.new("RGB", (60, 40), "blue")
    exif = Image.Exif()
    exif[0x013B] = "Wang the seller"
    return encoded(first, "MPO", save_all=True, append_images=[second], exif=exif)


@pytest.mark.parametrize(
    ("data", "name", "size", "mime", "named"),
    [
        (photo(orientation=6), "猫.jpg", (400, 640), "image/jpeg", "猫.jpg"),
        (of_a_telephone(), "IMG_1.JPG", (60, 40), "image/jpeg", "IMG_1.JPG"),
        (noise((30, 20), "BMP"), "scan.v2.bmp", (30, 20), "image/png", "scan.v2.png"),
    ],
    ids=["a photo on its side", "two pictures in one", "a bitmap"],
)
async def test_a_picture_leaves_upright_and_without_metadata(
    pictures: Pictures,
    tmp_path: Path,
    data: bytes,
    name: str,
    size: tuple[int, int],
    mime: str,
    named: str,
) -> None:
    made, copy = await left(pictures, tmp_path, data, name)
    assert (made.checked, made.mime, made.name) == ("clean", mime, named)
    assert (made.size, made.sha256) == (len(copy), hashlib.sha256(copy).hexdigest())
    shown = Image.open(io.BytesIO(copy))
    assert shown.size == size == (made.width, made.height)
    assert not shown.getexif()
    for secret in (b"Exif", b"MakerOfCameras", b"Wang the seller", b"a secret comment"):
        assert secret not in copy


@pytest.mark.parametrize("data", [b"%PDF-1.7 GPS", "你好".encode(), b"<svg></svg>", b"\0\1\2"])
async def test_another_file_leaves_as_it_is(
    pictures: Pictures, tmp_path: Path, data: bytes
) -> None:
    made, sent = await left(pictures, tmp_path, data, "a.bmp")
    assert (sent, made.checked, made.name, made.size) == (data, "as_it_is", "a.bmp", len(data))
    assert made.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("data", "why"),
    [(HEIC, "of this kind"), (TIFF, "of this kind"), (DAMAGED, "damaged"), (HUGE, "1 million")],
    ids=["heic", "tiff", "damaged", "huge"],
)
async def test_a_picture_that_cannot_be_cleaned_is_refused_unless_the_operator_wants_it(
    pictures: Pictures, tmp_path: Path, data: bytes, why: str
) -> None:
    with pytest.raises(Rejected, match=rf"{why}.*place.*save it as JPEG or PNG"):
        await left(pictures, tmp_path, data)
    made, sent = await left(pictures, tmp_path, data, send_uncleaned=True)
    assert (sent, made.checked) == (data, "as_it_is")


async def test_without_pillow_a_picture_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the operator decided that it may leave as it is; the start says which."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for wanted, said in ((False, "refused"), (True, "keep_metadata")):
        with structlog.testing.capture_logs() as logs:
            files = OutgoingFiles.for_hub(MediaSettings(send_uncleaned=wanted), tmp_path)
        assert [line["event"] for line in logs][-1] == f"agents_pictures_{said}"
        if wanted:
            async with files.ready(photo(), "image/jpeg", "") as made:
                assert (made.data, made.checked) == (photo(), "as_it_is")
        else:
            with pytest.raises(Rejected, match=r"ask the operator to install omniline\[media\]"):
                async with files.ready(photo(), "image/jpeg", ""):
                    pass
