"""What the bytes of a file are, whatever anybody says about them."""

from __future__ import annotations

import re
from typing import BinaryIO

import puremagic

from normalizer.media import UNKNOWN_MIME, mime_type

ENDS_BYTES = 64 * 1024  # of a file's beginning and end that are looked at
PICTURES = frozenset(
    {"image/jpeg", "image/png", "image/gif", "image/webp", "image/bmp", "image/avif"}
)
SHOWABLE = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})

# Signatures that puremagic does not know, or not by a media type. The first one that fits counts.
_HEADS: tuple[tuple[bytes, str], ...] = (
    (b"MZ", "application/vnd.microsoft.portable-executable"),
    (b"\x7fELF", "application/x-elf"),
    (b"\xcf\xfa\xed\xfe", "application/x-mach-binary"),
    (b"\xce\xfa\xed\xfe", "application/x-mach-binary"),
    (b"\xca\xfe\xba\xbe", "application/java-vm"),
    (b"dex\n", "application/x-dex"),
    (b"L\x00\x00\x00\x01\x14\x02\x00", "application/x-ms-shortcut"),
    (b"#!AMR", "audio/amr"),
    (b"#!", "text/x-shellscript"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
)
_BITMAP = re.compile(rb"BM.{4}\0\0\0\0", re.DOTALL)
# Atomic groups: what was skipped is never tried again, so no file makes this slow.
_PROLOGUE = rb"(?>\s+|<\?xml[^>]*+>|<!--(?>.*?-->)|<!doctype svg[^>]*+>)*+"
_SVG = re.compile(_PROLOGUE + rb"<svg[\s>]", re.IGNORECASE | re.DOTALL)
_HTML = re.compile(
    _PROLOGUE + rb"<(?:!doctype html|html|head|body|script|iframe|meta)[\s>]",
    re.IGNORECASE | re.DOTALL,
)
_ZIP_END = b"PK\x05\x06"
_MARKUP = re.compile(rb"<(?:script|html|svg|iframe|\?php|%@)[\s>]", re.IGNORECASE)

_ZIP = "application/zip"
_OLE = "application/x-ole-storage"
# A claim is believed where it only says more exactly what the bytes say already.
_ON_ZIP = re.compile(
    r"application/(?:vnd\.openxmlformats-officedocument\.|vnd\.oasis\.opendocument\."
    r"|epub\+zip|x-zip-compressed|zip\Z)"
)
_ON_OLE = re.compile(r"application/(?:msword|vnd\.ms-(?:excel|powerpoint|outlook))\Z")
_ON_TEXT = frozenset(
    {"text/plain", "text/csv", "text/calendar", "text/markdown", "text/vcard", "application/json"}
)


def sniff(data: bytes) -> str:
    """Return the media type of some bytes; ``application/octet-stream`` if nobody knows them."""
    known = _by_signature(data)
    if known:
        return known
    try:
        found = puremagic.magic_string(data)
    except puremagic.PureError:
        found = []
    if found and found[0].mime_type:
        return mime_type(found[0].mime_type)
    return "text/plain" if _is_text(data) else UNKNOWN_MIME


def sniff_file(file: BinaryIO, declared: str = "") -> str:
    """Return the media type of a file, by its ends; ``declared`` may only make it more exact."""
    head, tail = ends(file)
    found = sniff(head if not tail else head + tail)
    return _more_exact(found, declared)


def ends(file: BinaryIO) -> tuple[bytes, bytes]:
    """Return the beginning and, where the file is longer than that, the end of it."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(ENDS_BYTES)
    file.seek(max(ENDS_BYTES, size - ENDS_BYTES))
    return head, file.read(ENDS_BYTES)


def second_format(file: BinaryIO) -> str:
    """Return what else a picture can be read as, "" if there is no sign of it.

    A file can be a picture for one program and an archive or a page for another; its original
    is then not handed out.
    """
    head, tail = ends(file)
    both = head + tail
    if _ZIP_END in both[-ENDS_BYTES:]:
        return "an archive"
    if b"%PDF-" in head[:1024]:
        return "a PDF"
    return "a page or a program" if _MARKUP.search(both) else ""


def _by_signature(data: bytes) -> str:
    for signature, mime in _HEADS:
        if data.startswith(signature):
            return mime
    if _BITMAP.match(data):
        return "image/bmp"
    head = data[:4096].removeprefix(b"\xef\xbb\xbf")
    if _SVG.match(head):
        return "image/svg+xml"
    return "text/html" if _HTML.match(head) else ""


def _is_text(data: bytes) -> bool:
    if b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" or ENDS_BYTES - 4 <= error.start < (
            ENDS_BYTES + 4
        )  # a character that the cut between the two ends divided
    return True


def _more_exact(found: str, declared: str) -> str:
    declared = mime_type(declared) if declared else ""
    if _ON_ZIP.match(found) or found == _ZIP:
        return declared if _ON_ZIP.match(declared) else found
    if _ON_OLE.match(found) or found == _OLE:
        return declared if _ON_OLE.match(declared) else found
    if found == "text/plain":
        return declared if declared in _ON_TEXT else found
    return found
