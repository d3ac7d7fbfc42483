"""An answer's parts as the messages that carry them: each is one call, and one of the window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from connectors.wechat.texts import clean, split
from hub import Outgoing
from normalizer.outcomes import Rejected, Unsupported
from normalizer.parts import (
    AnyPart,
    Audio,
    File,
    Image,
    Link,
    Location,
    Media,
    QuickReplies,
    Text,
    Video,
)

SENDS = frozenset({"text", "image", "audio", "video", "file", "location", "link", "quick_replies"})
IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif"})
VOICE_TYPES = frozenset({"audio/amr", "audio/mpeg", "audio/mp3"})
VIDEO_TYPES = frozenset({"video/mp4"})
MAX_IMAGE_BYTES = 2 * 1024 * 1024  # the vendor's pages disagree: the smaller one
MAX_VOICE_BYTES = 2 * 1024 * 1024
MAX_VOICE_S = 60.0
MAX_VIDEO_BYTES = 10 * 1024 * 1024
MAX_CALLS = 5  # as many as the longer window allows
MAX_OPTIONS = 20
_TITLE_CHARS, _DESCRIPTION_CHARS = 64, 500


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A file to give to WeChat first; ``kind`` is image, voice or video."""

    kind: str
    blob: str
    mime: str


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """One message: its type, what is in it, and the file whose media_id goes in as well."""

    kind: str
    content: Mapping[str, Any]
    upload: Upload | None = None


LinkTo = Callable[[Media], str]
"""Return an address from which a customer can fetch a file for a while. Raises Rejected."""


def compose(message: Outgoing, link_to: LinkTo) -> list[Piece]:
    """Return the messages for an answer. Raises Unsupported or Rejected, with nothing sent."""
    pieces: list[Piece] = []
    parts = list(message.parts)
    for part in parts:
        if part.__struct_config__.tag not in SENDS:
            raise Unsupported(
                f"WeChat carries no {part.__struct_config__.tag}: send a link to it instead"
            )
    while parts:
        part = parts.pop(0)
        following = parts[0] if parts else None
        if isinstance(part, Text) and isinstance(following, QuickReplies):
            pieces.append(_menu(following, part.text))
            parts.pop(0)
        else:
            pieces += _pieces(part, link_to)
    if not pieces:
        raise Rejected("there is nothing to send: the answer is empty")
    if len(pieces) > MAX_CALLS:
        raise Rejected(
            f"this answer needs {len(pieces)} messages, and WeChat allows {MAX_CALLS} until the"
            " customer writes again: make it shorter"
        )
    return pieces


def calls_for(message: Outgoing) -> int:
    """Return how many messages of the window an answer needs. Never raises: sending tells."""
    if message.template:
        return 1
    try:
        return len(compose(message, lambda media: ""))
    except (Unsupported, Rejected):
        return 1


def _pieces(part: AnyPart, link_to: LinkTo) -> Sequence[Piece]:
    match part:
        case Text():
            said = clean(part.text)
            if not said.strip():
                raise Rejected("WeChat takes no empty texts")
            return [Piece(kind="text", content={"content": each}) for each in split(said)]
        case Image():
            return [_picture(part.media)]
        case Audio():
            long = (part.media.duration_s or 0) > MAX_VOICE_S
            if long or not _fits(part.media, VOICE_TYPES, MAX_VOICE_BYTES):
                return [_by_link(part.media, link_to)]
            return [_file("voice", part.media)]
        case Video():
            if not _fits(part.media, VIDEO_TYPES, MAX_VIDEO_BYTES):
                return [_by_link(part.media, link_to)]
            title = clean(part.media.name)[:_TITLE_CHARS]
            return [_file("video", part.media, title=title, description="")]
        case File():
            return [_by_link(part.media, link_to)]
        case Location():
            return [Piece(kind="text", content={"content": _place(part)})]
        case Link():
            return [_article(part.title or part.url, part.text, part.url)]
        case QuickReplies():
            return [_menu(part, "")]
        case _:
            raise Unsupported("WeChat cannot carry this")


def _fits(media: Media, types: frozenset[str], most: int) -> bool:
    return media.mime in types and (media.size or 0) <= most


def _picture(media: Media) -> Piece:
    """Pictures were made to fit before, all that are any."""
    if not _fits(media, IMAGE_TYPES, MAX_IMAGE_BYTES):
        raise Rejected(
            f"{media.name or 'the picture'} is {media.mime or 'of unknown type'} with"
            f" {media.size or 0} bytes, and WeChat takes {', '.join(sorted(IMAGE_TYPES))} of at"
            f" most {MAX_IMAGE_BYTES}"
        )
    return _file("image", media)


def _file(kind: str, media: Media, **content: str) -> Piece:
    upload = Upload(kind=kind, blob=stored(media), mime=media.mime)
    return Piece(kind=kind, content=content, upload=upload)


def stored(media: Media) -> str:
    """Return the blob of a file. Raises Rejected for one that is not in the store."""
    if media.blob is None:
        raise Rejected(f"the file {media.name or 'of this answer'} is not in the store")
    return media.blob


def _by_link(media: Media, link_to: LinkTo) -> Piece:
    """Return a card that leads to a file which WeChat itself does not take."""
    return _article(media.name or "文件", media.mime, link_to(media))


def _place(part: Location) -> str:
    """There is no message for places: a text with label and coordinates can be copied."""
    return "\n".join(line for line in (clean(part.label), f"{part.lat:.6f},{part.lon:.6f}") if line)


def _article(title: str, text: str, url: str) -> Piece:
    """A link is a news message of one article; more than one is refused since 2018."""
    article = {
        "title": clean(title)[:_TITLE_CHARS],
        "description": clean(text)[:_DESCRIPTION_CHARS],
        "url": url,
        "picurl": "",
    }
    return Piece(kind="news", content={"articles": [article]})


def _menu(part: QuickReplies, head: str) -> Piece:
    """Options to tap on; the tap comes back as a text with the option's id."""
    if not 1 <= len(part.replies) <= MAX_OPTIONS:
        raise Rejected(f"WeChat takes 1 to {MAX_OPTIONS} options to choose from")
    head = clean(head)
    options = [
        {"id": clean(reply.value) or str(number), "content": clean(reply.label)}
        for number, reply in enumerate(part.replies, 1)
    ]
    size = len(head.encode()) + sum(len(option["content"].encode()) for option in options)
    if size > 2048:
        raise Rejected("text and options together have more than 2048 bytes: shorten the text")
    return Piece(
        kind="msgmenu", content={"head_content": head, "list": options, "tail_content": ""}
    )
