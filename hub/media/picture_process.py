"""The process that opens a stranger's picture: no secrets, bounded memory and time, one picture.

It is started as a program of its own, with the picture, the copy and the thumbnail as open files,
and is told what to do by one line of JSON (:class:`hub.media.pictures` says what). It answers by
one line: ``{"width", "height", "mime", "thumb": {...} | null}`` or ``{"refused": why}``, or
``{"unreadable": why}``. It imports nothing of the hub, so that it starts fast and knows nothing.
"""

from __future__ import annotations

import io
import json
import os
import resource
import sys
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO

from PIL import Image, ImageCms, ImageFile, ImageOps, ImageSequence

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF")
QUALITY = 88
THUMB_QUALITY = 80
SHRINK_QUALITIES = (85, 70, 55)
SHRINK_STEPS = 8  # each takes about a third of the pixels away
MIMES = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}
STILL = {
    "JPEG": "JPEG",
    "MPO": "JPEG",  # what telephones write: a JPEG with a depth or a brightness map behind it
    "BMP": "PNG",
    "PNG": "PNG",
    "GIF": "PNG",
    "WEBP": "WEBP",
    "AVIF": "JPEG",
}


class Refused(Exception):
    """The picture is not taken; the message is for people."""


def main() -> None:
    task = json.loads(sys.argv[1])
    megabytes = int(task["memory_mb"])
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    seconds = int(task["seconds"])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    Image.MAX_IMAGE_PIXELS = int(task["max_pixels"])
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with os.fdopen(int(task["source"]), "rb") as source:
            source.seek(0)
            answer = shrink(source, task) if task["do"] == "shrink" else clean(source, task)
    except Refused as refused:
        answer = {"refused": str(refused)}
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        answer = {"refused": too_many_pixels(Image.MAX_IMAGE_PIXELS)}
    except MemoryError:
        answer = {"refused": "the picture needs too much memory"}
    except Exception as error:  # noqa: BLE001 - a broken picture may fail in any way; it is told
        answer = {"unreadable": f"{type(error).__name__}"}
    sys.stdout.write(json.dumps(answer))


# --- as it is shown ------------------------------------------------------------------------------


def clean(source: BinaryIO, task: dict[str, Any]) -> dict[str, Any]:
    """Write a copy without metadata, upright, and a thumbnail."""
    picture = opened(source, task)
    frames = frame_count(picture)
    moving = frames > 1 and picture.format in ("GIF", "WEBP")
    if moving and frames * picture.width * picture.height > int(task["max_moving_pixels"]):
        moving = False
    still = upright(picture)
    if moving:
        kind = str(picture.format)
        save_moving(picture, kind, int(task["copy"]), int(task["max_frames"]))
    else:
        kind = STILL[str(picture.format)]
        save(still, kind, int(task["copy"]), QUALITY)
    told: dict[str, Any] = {"width": still.width, "height": still.height, "mime": MIMES[kind]}
    side = int(task["thumb_side"])
    small = still.copy()
    small.thumbnail((side, side))
    form = "PNG" if has_alpha(small) else "JPEG"
    save(small, form, int(task["thumb"]), THUMB_QUALITY)
    told["thumb"] = {"width": small.width, "height": small.height, "mime": MIMES[form]}
    return told


def opened(source: BinaryIO, task: dict[str, Any]) -> Image.Image:
    """Open a picture by its header only, and refuse one that is too large to be unpacked."""
    most = int(task["max_pixels"])
    picture = Image.open(source, formats=FORMATS)
    if picture.width * picture.height > most:
        raise Refused(too_many_pixels(most))
    return picture


def too_many_pixels(most: int) -> str:
    return f"the picture has more than {most / 1_000_000:g} million pixels"


def frame_count(picture: Image.Image) -> int:
    return int(getattr(picture, "n_frames", 1))


def upright(picture: Image.Image) -> Image.Image:
    """Return the first frame as it is meant to be seen: turned, in sRGB, 8 bits a channel."""
    profile = picture.info.get("icc_profile")
    picture.seek(0)
    turned = ImageOps.exif_transpose(picture)
    assert turned is not None
    if turned.mode.startswith("I;16") or turned.mode == "I":
        turned = turned.point(lambda value: value / 256).convert("L")
    if turned.mode == "P" or (turned.mode in ("L", "RGB") and "transparency" in turned.info):
        turned = turned.convert("RGBA" if "transparency" in turned.info else "RGB")
    if turned.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        turned = turned.convert("RGB")
    if profile and turned.mode in ("RGB", "RGBA", "CMYK"):
        turned = in_srgb(turned, profile)
    if turned.mode == "CMYK":
        turned = turned.convert("RGB")
    turned.info.clear()
    return turned


def in_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """Apply the colour profile, which goes with the other metadata."""
    try:
        changed = ImageCms.profileToProfile(
            picture,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            outputMode="RGB" if picture.mode == "CMYK" else picture.mode,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture  # a broken profile: the colours are a little off, and that is all
    return changed if changed is not None else picture


def has_alpha(picture: Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA")


def flat(picture: Image.Image) -> Image.Image:
    """Return the picture on white, for formats without transparency."""
    if not has_alpha(picture):
        return picture
    colours = picture.convert("RGBA")
    ground = Image.new("RGB", colours.size, "white")
    ground.paste(colours, mask=colours.getchannel("A"))
    return ground


def save(picture: Image.Image, kind: str, fd: int, quality: int) -> None:
    """Write a picture without any metadata."""
    with os.fdopen(os.dup(fd), "w+b") as file:
        file.truncate(0)
        file.seek(0)
        if kind == "JPEG":
            flat(picture).save(file, "JPEG", quality=quality, optimize=True)
        elif kind == "WEBP":
            picture.save(file, "WEBP", quality=quality, exif=b"", xmp=b"", icc_profile=b"")
        else:
            picture.save(file, kind)


def save_moving(picture: Image.Image, kind: str, fd: int, max_frames: int) -> None:
    """Write an animation frame by frame, so that what stood between the frames is gone."""
    durations: list[int] = []

    def frames() -> Iterator[Image.Image]:
        for number, frame in enumerate(ImageSequence.Iterator(picture)):
            if number >= max_frames:
                return
            durations.append(max(20, int(frame.info.get("duration") or 100)))
            drawn = frame.convert("RGBA")
            drawn.info.clear()
            yield drawn

    every = list(frames())
    with os.fdopen(os.dup(fd), "w+b") as file:
        file.truncate(0)
        file.seek(0)
        more = {"disposal": 2} if kind == "GIF" else {"quality": QUALITY}
        every[0].save(
            file, kind, save_all=True, append_images=every[1:], duration=durations, loop=0, **more
        )


# --- as a channel takes it -----------------------------------------------------------------------


def shrink(source: BinaryIO, task: dict[str, Any]) -> dict[str, Any]:
    """Write a copy of at most ``max_bytes`` in one of the types ``kinds``, as good as possible."""
    kinds: list[str] = task["kinds"]
    most = int(task["max_bytes"])
    still = upright(opened(source, task))
    kind = "JPEG" if "JPEG" in kinds else kinds[0]
    if has_alpha(still) and "PNG" in kinds and "JPEG" in kinds:
        save(still, "PNG", int(task["copy"]), QUALITY)
        if size_of(int(task["copy"])) <= most:
            return {"width": still.width, "height": still.height, "mime": MIMES["PNG"]}
    for _ in range(SHRINK_STEPS):
        for quality in SHRINK_QUALITIES if kind != "PNG" else SHRINK_QUALITIES[:1]:
            save(still, kind, int(task["copy"]), quality)
            if size_of(int(task["copy"])) <= most:
                return {"width": still.width, "height": still.height, "mime": MIMES[kind]}
        size = (max(1, still.width * 4 // 5), max(1, still.height * 4 // 5))
        still = still.resize(size, Image.Resampling.LANCZOS)
    raise Refused(f"the picture cannot be made smaller than {most} bytes and still be seen")


def size_of(fd: int) -> int:
    return os.fstat(fd).st_size


if __name__ == "__main__":
    main()
