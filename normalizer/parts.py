"""What a message is made of: a closed set of parts, plus one for what plugins bring along."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeAlias

from normalizer.model import Model


class Part(Model, tag_field="type", frozen=True, kw_only=True):
    """One piece of a message, in the order in which the customer sees them."""


class MediaState(StrEnum):
    """Whether the bytes of a media part are at hand."""

    READY = "ready"  # in the blob store
    PENDING = "pending"  # still at the vendor, a job fetches it
    REJECTED = "rejected"  # refused by size, type or scan
    LOST = "lost"  # the vendor no longer has it


class Rendition(Model, frozen=True, kw_only=True):
    """Another form of a medium's bytes: a thumbnail, or the original of a re-encoded picture."""

    blob: str
    mime: str = ""
    size: int | None = None  # bytes
    sha256: str | None = None  # hex
    width: int | None = None  # pixels
    height: int | None = None


class Media(Model, frozen=True, kw_only=True):
    """Bytes that belong to a part: in the hub's blob store, or still at the vendor.

    A connector sets ``vendor_ref`` for a file that is still at the vendor, or ``blob`` for bytes
    that it has stored, and the state ``pending``: the hub fetches and checks. Of a picture,
    ``blob`` is then a copy without metadata, which is safe to show.
    """

    mime: str = ""
    size: int | None = None  # bytes
    name: str = ""
    blob: str | None = None
    vendor_ref: str | None = None  # what the connector needs to fetch it
    sha256: str | None = None  # hex
    width: int | None = None  # pixels
    height: int | None = None
    duration_s: float | None = None
    state: MediaState = MediaState.READY
    reason: str = ""  # why it was refused or lost, or what was not done, in plain words
    scan: str = ""  # "clean", "infected", "unscanned"; "" = nobody looked
    declared: str = ""  # the type the sender claimed, where the bytes say otherwise
    thumb: Rendition | None = None
    original: Rendition | None = None  # as it came, where `blob` is a re-encoded copy


class Transcript(Model, frozen=True, kw_only=True):
    """What was said in an audio or video part, and who wrote it down."""

    text: str
    by: str  # "vendor" or the name of a provider


class Button(Model, frozen=True, kw_only=True):
    """Something to press: opens ``url`` or answers with ``value``."""

    label: str
    url: str = ""
    value: str = ""


class Text(Part, tag="text", frozen=True, kw_only=True):
    text: str
    format: str = "plain"  # "plain" or "md-lite"
    quoted: str = ""  # what quoted-reply trimming took away from a mail
    source: str = ""  # "asr" when a machine heard it


class Image(Part, tag="image", frozen=True, kw_only=True):
    media: Media


class Audio(Part, tag="audio", frozen=True, kw_only=True):
    media: Media
    transcript: Transcript | None = None


class Video(Part, tag="video", frozen=True, kw_only=True):
    media: Media
    thumbnail: Media | None = None


class File(Part, tag="file", frozen=True, kw_only=True):
    media: Media


class Location(Part, tag="location", frozen=True, kw_only=True):
    lat: float
    lon: float
    label: str = ""
    datum: str = "wgs84"  # WeChat reports gcj02


class Link(Part, tag="link", frozen=True, kw_only=True):
    url: str
    title: str = ""
    text: str = ""


class Card(Part, tag="card", frozen=True, kw_only=True):
    title: str
    text: str = ""
    image: Media | None = None
    buttons: tuple[Button, ...] = ()


class QuickReplies(Part, tag="quick_replies", frozen=True, kw_only=True):
    replies: tuple[Button, ...]


class Form(Part, tag="form", frozen=True, kw_only=True):
    """Questions on the way out, answers (name to value) on the way in."""

    fields: tuple[dict[str, Any], ...] = ()
    answers: dict[str, str] = {}


class Calendar(Part, tag="calendar", frozen=True, kw_only=True):
    method: str
    summary: str = ""
    start: str = ""  # RFC 3339
    organizer: str = ""


class Unsupported(Part, tag="unsupported", frozen=True, kw_only=True):
    """Something the connector does not know; the raw request keeps the rest."""

    what: str
    text: str = ""


class Extension(Part, tag="ext", frozen=True, kw_only=True):
    """A plugin's own part: ``name`` is namespaced (``acme.coupon``), ``fallback`` is mandatory.

    Whoever does not know the name shows the fallback text.
    """

    name: str
    fallback: str
    data: dict[str, Any] = {}


AnyPart: TypeAlias = (
    Text
    | Image
    | Audio
    | Video
    | File
    | Location
    | Link
    | Card
    | QuickReplies
    | Form
    | Calendar
    | Unsupported
    | Extension
)
MEDIA_PARTS = (Image, Audio, Video, File)


def plain_text(parts: tuple[AnyPart, ...]) -> str:
    """Return what a reader without pictures is told: used for tickets, search and previews."""
    return "\n".join(line for line in map(_as_text, parts) if line)


def _as_text(part: AnyPart) -> str:
    match part:
        case Text():
            return part.text
        case Image() | Audio() | Video() | File():
            name = f": {part.media.name}" if part.media.name else ""
            said = f" {part.transcript.text}" if isinstance(part, Audio) and part.transcript else ""
            return f"[{type(part).__struct_config__.tag}{name}]{said}"
        case Location():
            return f"[{_words('location', part.label, f'{part.lat:.6f},{part.lon:.6f}')}]"
        case Link():
            return "\n".join(line for line in (_words(part.title, part.url), part.text) if line)
        case Card():
            buttons = (_words(button.label, button.url) for button in part.buttons)
            return "\n".join(line for line in (part.title, part.text, *buttons) if line)
        case QuickReplies():
            return " / ".join(reply.label for reply in part.replies)
        case Form():
            return "\n".join(f"{name}: {value}" for name, value in part.answers.items())
        case Calendar():
            return f"[{_words('calendar', part.method, part.summary, part.start)}]"
        case Unsupported():
            return part.text or f"[{part.what}]"
        case Extension():
            return part.fallback


def _words(*words: str) -> str:
    return " ".join(word for word in words if word)
