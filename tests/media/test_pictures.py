"""Opening strangers' pictures: copies show the same and carry nothing else; bombs are refused.

Real: Pillow, the process it runs in, its limits. Nothing is faked.
"""

from __future__ import annotations

import io
import time
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import pytest
from PIL import Image

from hub.media.pictures import MAX_FRAMES, THUMB_SIDE, Copies, Pictures
from normalizer.outcomes import Rejected
from tests.media.pictures import PLACE, bomb, encoded, moving, noise, photo, with_archive

MAX_PIXELS = 40_000_000


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    return Pictures(tmp_path / "files", seconds=20.0, max_pixels=MAX_PIXELS)


def as_file(data: bytes) -> BinaryIO:
    file = TemporaryFile()  # noqa: SIM115 - handed on
    file.write(data)
    file.flush()
    return file


def read(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


async def cleaned(pictures: Pictures, data: bytes) -> Copies:
    with as_file(data) as file:
        return await pictures.cleaned(file)


async def test_a_copy_has_no_metadata_at_all(pictures: Pictures) -> None:
    source = photo()
    assert Image.open(io.BytesIO(source)).getexif().get_ifd(0x8825)[2] == PLACE
    copies = await cleaned(pictures, source)
    for copy in (read(copies.copy), read(copies.thumb)):
        shown = Image.open(io.BytesIO(copy))
        assert not shown.getexif()
        for secret in (b"Exif", b"MakerOfCameras", b"a secret comment"):
            assert secret not in copy
    copies.close()


@pytest.mark.parametrize(
    ("orientation", "size", "red_corner"),
    [
        (1, (640, 400), (5, 200)),
        (3, (640, 400), (635, 200)),
        (6, (400, 640), (200, 5)),
        (8, (400, 640), (200, 635)),
    ],
)
async def test_a_picture_that_lies_on_its_side_stands_up(
    pictures: Pictures, orientation: int, size: tuple[int, int], red_corner: tuple[int, int]
) -> None:
    copies = await cleaned(pictures, photo(orientation=orientation))
    shown = Image.open(io.BytesIO(read(copies.copy)))
    assert shown.size == size
    assert copies.shape is not None
    assert (copies.shape.width, copies.shape.height) == size
    red, _, blue = shown.convert("RGB").getpixel(red_corner)  # type: ignore[misc]
    assert red > 200
    assert blue < 60
    copies.close()


@pytest.mark.parametrize(
    ("kind", "mime"),
    [
        ("JPEG", "image/jpeg"),
        ("PNG", "image/png"),
        ("GIF", "image/png"),
        ("WEBP", "image/webp"),
        ("BMP", "image/png"),
    ],
)
async def test_a_copy_is_of_a_type_that_every_browser_shows(
    pictures: Pictures, kind: str, mime: str
) -> None:
    copies = await cleaned(pictures, encoded(Image.new("RGB", (900, 300), "green"), kind))
    assert copies.shape is not None
    assert copies.shape.mime == mime
    assert Image.open(io.BytesIO(read(copies.copy))).get_format_mimetype() == mime
    assert copies.thumb_shape is not None
    assert (copies.thumb_shape.width, copies.thumb_shape.height) == (THUMB_SIDE, THUMB_SIDE // 3)
    copies.close()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "YCbCr"])
async def test_a_picture_of_any_colour_mode_can_be_shown(pictures: Pictures, mode: str) -> None:
    kind = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    copies = await cleaned(pictures, encoded(Image.new(mode, (40, 30)), kind))
    assert not copies.unreadable
    assert Image.open(io.BytesIO(read(copies.copy))).size == (40, 30)
    copies.close()


async def test_what_is_transparent_stays_so(pictures: Pictures) -> None:
    copies = await cleaned(pictures, encoded(Image.new("RGBA", (50, 50), (9, 9, 9, 0)), "PNG"))
    shown = Image.open(io.BytesIO(read(copies.copy)))
    assert shown.getpixel((10, 10)) == (9, 9, 9, 0)
    copies.close()


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
async def test_a_moving_picture_moves_on_and_is_cut_when_it_is_long(
    pictures: Pictures, kind: str
) -> None:
    few = await cleaned(pictures, moving(kind, 5))
    assert Image.open(io.BytesIO(read(few.copy))).n_frames == 5  # type: ignore[attr-defined]
    many = await cleaned(pictures, moving(kind, MAX_FRAMES + 50))
    frames = Image.open(io.BytesIO(read(many.copy))).n_frames  # type: ignore[attr-defined]
    assert 1 < frames <= MAX_FRAMES
    few.close()
    many.close()


async def test_a_bomb_is_refused_by_its_header(pictures: Pictures) -> None:
    data = bomb()
    assert len(data) < 200_000
    began = time.monotonic()
    with pytest.raises(Rejected, match="more than 40 million pixels"):
        await cleaned(pictures, data)
    assert time.monotonic() - began < 10


async def test_a_picture_that_takes_too_long_is_refused_and_its_process_ends(
    tmp_path: Path,
) -> None:
    hangs = tmp_path / "hangs.py"
    hangs.write_text("import time; time.sleep(600)")
    slow = Pictures(tmp_path, seconds=0.5, max_pixels=MAX_PIXELS, program=hangs)
    with pytest.raises(Rejected, match="too long"):
        await cleaned(slow, photo())


async def test_a_picture_process_that_dies_refuses_that_picture_only(tmp_path: Path) -> None:
    dies = tmp_path / "dies.py"
    dies.write_text("import os; os.kill(os.getpid(), 9)")
    broken = Pictures(tmp_path, seconds=10, max_pixels=MAX_PIXELS, program=dies)
    with pytest.raises(Rejected, match="cannot be opened safely"):
        await cleaned(broken, photo())


@pytest.mark.parametrize(
    "data",
    [
        photo()[:900],
        b"\xff\xd8\xff\xe0" + b"junk" * 50,
        b"GIF89a" + b"\0" * 20,
        b"RIFF....WEBPjunk",
    ],
)
async def test_a_damaged_picture_is_told_as_such(pictures: Pictures, data: bytes) -> None:
    copies = await cleaned(pictures, data)
    assert "damaged" in copies.unreadable
    assert copies.shape is None
    copies.close()


async def test_a_copy_of_a_polyglot_is_a_picture_and_nothing_else(pictures: Pictures) -> None:
    copies = await cleaned(pictures, with_archive(photo()))
    copy = read(copies.copy)
    assert b"PK\x05\x06" not in copy
    assert b"payload" not in copy
    copies.close()


async def test_a_picture_is_shrunk_until_it_fits(pictures: Pictures) -> None:
    source = noise((1600, 1200))
    assert len(source) > 2_000_000
    with as_file(source) as file, TemporaryFile() as into:
        shape = await pictures.shrunk(
            file, into, max_bytes=200_000, types=frozenset({"image/jpeg", "image/png"})
        )
        copy = read(into)
    assert len(copy) <= 200_000
    shown = Image.open(io.BytesIO(copy))
    assert (shown.get_format_mimetype(), shown.size) == (shape.mime, (shape.width, shape.height))
    assert abs(shown.width / shown.height - 4 / 3) < 0.01


async def test_a_picture_that_cannot_be_made_to_fit_is_refused(pictures: Pictures) -> None:
    with as_file(noise((800, 600))) as file, TemporaryFile() as into:
        with pytest.raises(Rejected, match="cannot be made smaller"):
            await pictures.shrunk(file, into, max_bytes=200, types=frozenset({"image/jpeg"}))
        with pytest.raises(Rejected, match="cannot be made to fit"):
            await pictures.shrunk(file, into, max_bytes=10_000, types=frozenset({"image/heic"}))
