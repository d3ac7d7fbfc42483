"""An answer's parts as the messages that carry them: each is one call, and one of the window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from connectors.wechat.texts import clean, split
from hub import Outgoing
from normalizer.outcomes import Rejected, Unsupported
from normalizer.parts import (
    AnyPart,
    Audio,
    Image,
    Link,
    Location,
    Media,
    QuickReplies,
    Text,
    Video,
)

SENDS = frozenset({"text", "image", "audio", "video", "location", "link", "quick_replies"})
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
    media: Media


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """One message: its type, what is in it, and the file whose media_id goes in as well."""

    kind: str
    content: Mapping[str, Any]
    upload: Upload | None = None


def compose(message: Outgoing) -> list[Piece]:
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
        if isinstance(part, Text) and parts and isinstance(parts[0], QuickReplies):
            pieces.append(_menu(parts.pop(0), part.text))
        else:
            pieces += _pieces(part)
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
        return len(compose(message))
    except (Unsupported, Rejected):
        return 1


def _pieces(part: AnyPart) -> Sequence[Piece]:
    match part:
        case Text():
            said = clean(part.text)
            if not said.strip():
                raise Rejected("WeChat takes no empty texts")
            return [Piece(kind="text", content={"content": each}) for each in split(said)]
        case Image():
            return [_file("image", part.media, IMAGE_TYPES, MAX_IMAGE_BYTES, {})]
        case Audio():
            if (part.media.duration_s or 0) > MAX_VOICE_S:
                raise Rejected(f"WeChat takes voice of at most {MAX_VOICE_S:g} seconds")
            return [_file("voice", part.media, VOICE_TYPES, MAX_VOICE_BYTES, {})]
        case Video():
            named = {"title": clean(part.media.name)[:_TITLE_CHARS], "description": ""}
            return [_file("video", part.media, VIDEO_TYPES, MAX_VIDEO_BYTES, named)]
        case Location():
            return [Piece(kind="text", content={"content": _place(part)})]
        case Link():
            return [_article(part)]
        case QuickReplies():
            return [_menu(part, "")]
        case _:
            raise Unsupported("WeChat cannot carry this")


def _file(
    kind: str, media: Media, types: frozenset[str], most: int, content: Mapping[str, Any]
) -> Piece:
    """Return a message with a file. Pictures were made to fit before; other files were not."""
    name = media.name or "the file"
    if media.mime not in types:
        raise Rejected(
            f"{name} is of the type {media.mime or 'unknown'}, and WeChat takes as {kind}"
            f" {', '.join(sorted(types))} only"
        )
    if (media.size or 0) > most:
        raise Rejected(f"{name} has {media.size} bytes, and WeChat takes {most} as {kind}")
    return Piece(kind=kind, content=content, upload=Upload(kind=kind, media=media))


def _place(part: Location) -> str:
    """There is no message for places: a text with label and coordinates can be copied."""
    return "\n".join(line for line in (clean(part.label), f"{part.lat:.6f},{part.lon:.6f}") if line)


def _article(part: Link) -> Piece:
    """A link is a news message of one article; more than one is refused since 2018."""
    article = {
        "title": clean(part.title or part.url)[:_TITLE_CHARS],
        "description": clean(part.text)[:_DESCRIPTION_CHARS],
        "url": part.url,
        "picurl": "",
    }
    return Piece(kind="news", content={"articles": [article]})


def _menu(part: AnyPart, head: str) -> Piece:
    """Options to tap on; the tap comes back as a text with the option's id."""
    assert isinstance(part, QuickReplies)
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
