"""What is said about media and links, made safe to show, to store and to hand on.

The bytes themselves are looked at where they are fetched; here are only the claims.
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from normalizer.parts import Media, Rendition
from normalizer.text import clean_line, cut, identifier

MAX_NAME_BYTES = 200
MAX_URL_CHARS = 4_096
MAX_REASON_CHARS = 300
UNKNOWN_MIME = "application/octet-stream"
SCAN_STATES = frozenset({"clean", "infected", "unscanned"})

# RFC 6838, section 4.2
_MIME = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_URL = re.compile(r"(?:https?://[^\s/?#\\]|mailto:[^\s]|tel:[^\s])[^\s\\<>\"]*\Z", re.IGNORECASE)
_NOT_IN_NAME = re.compile(r"[<>:\"|?*]")  # what Windows does not allow, or takes for a stream
_MAX_SUFFIX_BYTES = 20
_INT64_MAX = 2**63 - 1


def file_name(name: str) -> str:
    """Return a name under which a file can be shown and saved, on any system.

    The last part of a path, without control and bidirectional characters, without dots or
    blanks around it, at most 200 bytes of UTF-8 of which the suffix is kept; never empty.
    """
    name = clean_line(name.replace("\\", "/").rpartition("/")[2], MAX_URL_CHARS)
    name = _NOT_IN_NAME.sub("_", name).strip(". ")
    if len(name.encode()) > MAX_NAME_BYTES:
        stem, dot, suffix = name.rpartition(".")
        if not stem or len(suffix.encode()) > _MAX_SUFFIX_BYTES:
            stem, dot, suffix = name, "", ""
        room = MAX_NAME_BYTES - len((dot + suffix).encode())
        name = (_cut_bytes(stem, room).rstrip(". ") + dot + suffix).strip(". ")
    return name or "file"


def _cut_bytes(text: str, limit: int) -> str:
    whole = text.encode()[:limit].decode("utf-8", "ignore")
    return cut(text, len(whole))


def mime_type(text: str) -> str:
    """Return ``type/subtype`` in lower case, without parameters; octet-stream if it is none."""
    mime = text.partition(";")[0].strip().lower()
    return mime if _MIME.match(mime) else UNKNOWN_MIME


def safe_url(text: str) -> str:
    """Return ``text`` if it is an absolute http, https, mailto or tel URL, else ``""``.

    Browsers ignore white space and control characters in a URL, so both are taken out first:
    what they would follow is what is looked at.
    """
    if len(text) > MAX_URL_CHARS:
        return ""
    url = "".join(clean_line(text.strip().replace(" ", "%20"), 4 * MAX_URL_CHARS).split())
    return url if len(url) <= MAX_URL_CHARS and _URL.match(url) else ""


def clean_media(media: Media) -> Media:
    """Return ``media`` with a safe name and type, and without impossible measures."""
    cleaned = replace(
        media,
        mime=mime_type(media.mime) if media.mime else "",
        name=file_name(media.name) if media.name else "",
        size=_measure(media.size, 0),
        width=_measure(media.width, 1),
        height=_measure(media.height, 1),
        duration_s=_duration(media.duration_s),
        sha256=_sha256(media.sha256),
        blob=media.blob and identifier(media.blob),
        vendor_ref=media.vendor_ref and identifier(media.vendor_ref),
        reason=clean_line(media.reason, MAX_REASON_CHARS),
        scan=media.scan if media.scan in SCAN_STATES else "",
        declared=mime_type(media.declared) if media.declared else "",
        thumb=media.thumb and _clean_rendition(media.thumb),
        original=media.original and _clean_rendition(media.original),
    )
    return media if cleaned == media else cleaned


def _clean_rendition(rendition: Rendition) -> Rendition:
    return replace(
        rendition,
        blob=identifier(rendition.blob),
        mime=mime_type(rendition.mime) if rendition.mime else "",
        size=_measure(rendition.size, 0),
        sha256=_sha256(rendition.sha256),
        width=_measure(rendition.width, 1),
        height=_measure(rendition.height, 1),
    )


def _measure(value: int | None, least: int) -> int | None:
    return value if value is not None and least <= value <= _INT64_MAX else None


def _duration(value: float | None) -> float | None:
    # NaN compares false with everything, and falls out here with the infinities.
    return value if value is not None and 0 <= value < float("inf") else None


def _sha256(text: str | None) -> str | None:
    lowered = text.lower() if text else ""
    return lowered if _SHA256.match(lowered) else None
