"""What a file is, found out from its bytes; names and declared types are never believed."""

from __future__ import annotations

import struct
import zipfile
from io import BytesIO

import msgspec
import puremagic

from connectors.site.errors import SiteError
from connectors.site.settings import Limits

# What the bytes of a type are served and stored as, and which kind of part they may be.
_IMAGES = {
    "image/png": "image/png",
    "image/jpeg": "image/jpeg",
    "image/gif": "image/gif",
    "image/webp": "image/webp",
    "image/heif": "image/heic",
    "image/heic": "image/heic",
}
_AUDIO = {
    "audio/mpeg": "audio/mpeg",
    "audio/wave": "audio/wav",
    "audio/x-wav": "audio/wav",
    "audio/wav": "audio/wav",
    "audio/ogg": "audio/ogg",
    "application/ogg": "audio/ogg",
    "audio/mp4": "audio/mp4",
    "audio/x-m4a": "audio/mp4",
    "audio/aac": "audio/aac",
    "audio/amr": "audio/amr",
    "audio/flac": "audio/flac",
}
_VIDEO = {
    "video/mp4": "video/mp4",
    "video/webm": "video/webm",
    "video/quicktime": "video/quicktime",
}
_OFFICE = "application/vnd.openxmlformats-officedocument"
_FILES = {
    "application/pdf": "application/pdf",
    "application/msword": "application/msword",
    "application/vnd.ms-excel": "application/vnd.ms-excel",
    "application/vnd.ms-powerpoint": "application/vnd.ms-powerpoint",
}
# The folder in which a document of Office Open XML has its content.
_OFFICE_FOLDERS = {
    "word/": f"{_OFFICE}.wordprocessingml.document",
    "xl/": f"{_OFFICE}.spreadsheetml.sheet",
    "ppt/": f"{_OFFICE}.presentationml.presentation",
}
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_MARKUP = (b"<!doctype", b"<html", b"<svg", b"<?xml", b"<script", b"<head", b"<body", b"<iframe")

# What browsers may show in place; everything else is a download.
INLINE = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", *_AUDIO.values(), *_VIDEO.values()}
)


class Sniffed(msgspec.Struct, frozen=True, kw_only=True):
    """``kind`` is the kind of part: image, audio, video or file."""

    kind: str
    mime: str
    width: int | None = None
    height: int | None = None


def declared_kind(mime: str) -> str:
    """Return what a declared type claims to be. Raises SiteError for what is never taken."""
    mime = mime.partition(";")[0].strip().lower()
    if mime in _IMAGES:
        return "image"
    if mime in _AUDIO or mime.startswith("audio/"):
        return "audio"
    if mime in _VIDEO:
        return "video"
    if mime in ("image/svg+xml", "text/html", "application/xhtml+xml") or mime.endswith("xml"):
        raise SiteError("unsupported_type", "SVG, HTML and XML files are not taken")
    if mime.startswith(("image/", "video/")):
        raise SiteError("unsupported_type", f"{mime[:60]} files are not taken")
    return "file"


def max_bytes(kind: str, limits: Limits) -> int:
    return {
        "image": limits.image_bytes,
        "audio": limits.audio_bytes,
        "video": limits.video_bytes,
        "file": limits.file_bytes,
    }[kind]


def sniff(data: bytes, limits: Limits) -> Sniffed:
    """Return what the bytes are. Raises :class:`SiteError` (unsupported_type, upload_rejected)."""
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(_MARKUP):
        raise SiteError("unsupported_type", "SVG, HTML and XML files are not taken")
    for mime in _guesses(data):
        if mime in _IMAGES:
            return _image(data, _IMAGES[mime], limits)
        for kind, table in (("audio", _AUDIO), ("video", _VIDEO), ("file", _FILES)):
            if mime in table:
                return Sniffed(kind=kind, mime=table[mime])
    if data.startswith(b"PK\x03\x04"):
        return Sniffed(kind="file", mime=_zip_mime(data))
    if data.startswith(_OLE):
        return Sniffed(kind="file", mime="application/x-ole-storage")
    if _is_text(data):
        return Sniffed(kind="file", mime="text/plain")
    raise SiteError("unsupported_type", "files of this type are not taken")


def _guesses(data: bytes) -> list[str]:
    # A zip is looked into below: by its first bytes alone every office type is as likely.
    if data.startswith((b"PK\x03\x04", _OLE)):
        return []
    try:
        found = puremagic.magic_string(data)
    except (puremagic.PureError, ValueError, IndexError, struct.error):
        return []
    return [match.mime_type for match in found if match.confidence >= 0.3]


def _zip_mime(data: bytes) -> str:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            names = archive.namelist()[:1000]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
        raise SiteError("upload_rejected", "the archive is damaged") from error
    if any(name.lower().endswith("vbaproject.bin") for name in names):
        raise SiteError("upload_rejected", "documents with macros are not taken")
    if "[Content_Types].xml" in names:
        for folder, mime in _OFFICE_FOLDERS.items():
            if any(name.startswith(folder) for name in names):
                return mime
    return "application/zip"


def _is_text(data: bytes) -> bool:
    if b"\0" in data:
        return False
    for charset in ("utf-8", "gb18030"):
        try:
            text = data.decode(charset)
        except UnicodeDecodeError:
            continue
        return not any(ord(char) < 32 and char not in "\t\r\n\f" for char in text[:65536])
    return False


# --- images --------------------------------------------------------------------------------------


def _image(data: bytes, mime: str, limits: Limits) -> Sniffed:
    size = _size(data, mime)
    if size is None:
        return Sniffed(kind="image", mime=mime)
    width, height = size
    if width * height > limits.image_pixels:
        raise SiteError("too_large", f"an image has at most {limits.image_pixels} pixels")
    return Sniffed(kind="image", mime=mime, width=width or None, height=height or None)


def _size(data: bytes, mime: str) -> tuple[int, int] | None:
    """Return width and height from the header, without decoding the picture."""
    try:
        match mime:
            case "image/png":
                return struct.unpack(">II", data[16:24])
            case "image/gif":
                return struct.unpack("<HH", data[6:10])
            case "image/jpeg":
                return _jpeg_size(data)
            case "image/webp":
                return _webp_size(data)
    except (struct.error, IndexError) as error:
        raise SiteError("upload_rejected", "the image is damaged") from error
    return None


_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while True:
        while data[at] != 0xFF:
            at += 1
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker in _FRAMES:
            height, width = struct.unpack(">HH", data[at + 3 : at + 7])
            return width, height
        if marker not in _NO_LENGTH:
            at += struct.unpack(">H", data[at : at + 2])[0]


def _webp_size(data: bytes) -> tuple[int, int] | None:
    match data[12:16]:
        case b"VP8 ":
            width, height = struct.unpack("<HH", data[26:30])
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return (
                int.from_bytes(data[24:27], "little") + 1,
                int.from_bytes(data[27:30], "little") + 1,
            )
    return None
