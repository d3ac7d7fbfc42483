"""Pictures for tests: with a place in them, on their side, moving, damaged, and too large."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any

from PIL import Image

PLACE = (39.0, 54.0, 15.0)  # what must not be in any copy


def photo(size: tuple[int, int] = (640, 400), *, orientation: int = 1, **more: Any) -> bytes:
    """Return a JPEG with GPS data; its left half is red, its right half blue."""
    picture = Image.new("RGB", size, "red")
    picture.paste("blue", (size[0] // 2, 0, size[0], size[1]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "MakerOfCameras"
    place = exif.get_ifd(0x8825)
    place.update({1: "N", 2: PLACE, 3: "E", 4: (116.0, 23.0, 0.0)})
    out = io.BytesIO()
    picture.save(out, "JPEG", exif=exif, comment=b"a secret comment", **more)
    return out.getvalue()


def encoded(picture: Image.Image, kind: str, **more: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **more)
    return out.getvalue()


def noise(size: tuple[int, int], kind: str = "PNG") -> bytes:
    """Return a picture that compresses badly."""
    return encoded(Image.effect_noise(size, 90).convert("RGB"), kind)


def moving(kind: str, frames: int, size: tuple[int, int] = (60, 40)) -> bytes:
    drawn = [Image.new("RGB", size, (index * 7 % 256, 30, 90)) for index in range(frames)]
    return encoded(drawn[0], kind, save_all=True, append_images=drawn[1:], duration=50, loop=0)


def bomb(side: int = 30_000) -> bytes:
    """Return a small PNG that says it has ``side`` x ``side`` pixels, all of them there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    row = b"\0" * (1 + (side + 7) // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def with_archive(picture: bytes) -> bytes:
    """Return a file that is a picture and an archive at once."""
    out = io.BytesIO(picture)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("payload.class", b"\xca\xfe\xba\xbe")
    return out.getvalue()
