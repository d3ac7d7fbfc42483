"""What an agent reads: entries and conversations as lines of one page, in the order of a chat.

Everything that decides is here; the template and the script only put the words into elements.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from hub.api.views import ConversationView, DeliveryView, EntryView
from hub.feed.events import media_url
from hub.media.sniffing import SHOWABLE
from normalizer.drafts import DeliveryState
from normalizer.model import Direction, Role
from normalizer.parts import (
    Audio,
    Card,
    File,
    Form,
    Image,
    Link,
    Location,
    Media,
    MediaState,
    Part,
    Text,
    Video,
    plain_text,
)

HUES = 8
MOST_QUOTED = 20_000  # characters that a page carries of what a mail quotes
_STATES = {
    DeliveryState.QUEUED: ("Queued", "wait"),
    DeliveryState.SENDING: ("Sending …", "wait"),
    DeliveryState.UNKNOWN: ("Sent? No answer came", "doubt"),
    DeliveryState.ACCEPTED: ("Sent ✓", "good"),
    DeliveryState.DELIVERED: ("Delivered ✓✓", "good"),
    DeliveryState.READ: ("Read ✓✓", "read"),
    DeliveryState.FAILED: ("Not sent", "bad"),
}
_MEDIA = {
    MediaState.PENDING: "is being fetched",
    MediaState.REJECTED: "was refused",
    MediaState.LOST: "could not be fetched",
}
_CLOSED = {
    "solved": "solved",
    "silence": "after a long silence",
    "agent": "by an agent",
    "joined": "joined into another one",
    "too_many": "too many were open",
    "erased": "erased",
}


class Block(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of a line: ``kind`` is text, quoted, image, link or hint. ``url`` is safe to follow.

    What is ``quoted`` is folded: the page shows it when somebody asks for it.
    """

    kind: str
    text: str = ""
    url: str = ""
    thumb: str = ""  # of an image: what the page itself shows


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. ``version`` changes with what is to be seen, so that a page changes only that.

    ``kind`` is said, note, event or mark; ``side`` is in or out; ``tone`` colours ``state``.
    """

    id: str
    kind: str
    at: datetime
    side: str = ""
    channel: str = ""
    hue: int = 0
    who: str = ""
    subject: str = ""
    blocks: tuple[Block, ...] = ()
    state: str = ""
    tone: str = ""
    why: str = ""
    flags: tuple[str, ...] = ()
    version: str = ""


def hue(text: str) -> int:
    """Return one of a few colours, always the same for the same text."""
    return zlib.crc32(text.encode()) % HUES


def lines(
    entries: Sequence[EntryView],
    conversations: Iterable[ConversationView],
    customer: str,
    base: str,
    *,
    whole: bool,
) -> list[Line]:
    """Return a page, oldest first. ``entries`` are newest first, as the API gives them.

    ``customer`` is the name of those who speak without one, ``base`` the path of the hub,
    ``whole`` says that nothing is before the first entry.
    """
    said = [_line(entry, customer, base) for entry in reversed(entries)]
    placed: list[tuple[datetime, float, Line]] = [
        (line.at, number, line) for number, line in enumerate(said)
    ]
    since = None if whole or not said else said[0].at
    first_of = {
        entry.conversation: (entry.at, len(said) - 1 - place)
        for place, entry in enumerate(entries)
        if entry.conversation and entry.kind == "message"
    }
    for conversation in conversations:
        opened, *closed = _marks(conversation)
        at, number = first_of.get(conversation.id, (opened.at, len(said)))
        placed.append((min(at, opened.at), number - 0.5, opened))
        placed += [(mark.at, len(said), mark) for mark in closed]
    placed.sort(key=lambda each: each[:2])
    return [_versioned(line) for _, _, line in placed if since is None or line.at >= since]


def _versioned(line: Line) -> Line:
    return replace(line, version=f"{zlib.crc32(msgspec.json.encode(line)):08x}")


# --- entries -------------------------------------------------------------------------------------


def _line(entry: EntryView, customer: str, base: str) -> Line:
    if entry.kind == "event":
        return Line(
            id=entry.id,
            kind="event",
            at=entry.at,
            channel=entry.channel,
            hue=hue(entry.channel),
            blocks=(Block(kind="text", text=_event_text(entry)), *_grown(entry, base)),
        )
    note = entry.kind == "note"
    state, tone, why = _state(entry.delivery) if entry.direction is Direction.OUT else ("", "", "")
    flags = {"edited": entry.revision > 0 and not entry.recalled, "automatic": entry.automatic}
    flags |= {"public": entry.public, "imported": entry.historical}
    return Line(
        id=entry.id,
        kind="note" if note else "said",
        at=entry.at,
        side="" if note else ("in" if entry.direction is Direction.IN else "out"),
        channel="" if note else entry.channel,
        hue=hue(entry.channel),
        who=_who(entry, customer),
        subject=entry.subject,
        blocks=_blocks(entry, base),
        state=state,
        tone=tone,
        why=why,
        flags=tuple(name for name, is_so in flags.items() if is_so),
    )


def _who(entry: EntryView, customer: str) -> str:
    if entry.sender.name:
        return entry.sender.name
    if entry.direction is Direction.IN:
        return customer
    return {Role.BOT: "Bot", Role.SYSTEM: "Omniline"}.get(entry.sender.role, "Agent")


def _state(delivery: DeliveryView | None) -> tuple[str, str, str]:
    if delivery is None:
        return "", "", ""
    state, tone = _STATES.get(delivery.state, (str(delivery.state), ""))
    return state, tone, delivery.reason or delivery.code


def _event_text(entry: EntryView) -> str:
    name = next((step["event"] for step in _call(entry) if _is_over(step)), entry.event)
    words = " ".join(name.replace("_", " ").split(".")).capitalize() or "Event"
    told = entry.data.get("text")
    return f"{words}: {told}" if isinstance(told, str) and told else words


def _call(entry: EntryView) -> list[dict[str, Any]]:
    """Return the steps of a call in their order, final ones last."""
    steps = entry.data.get("call")
    known = [
        each
        for each in (steps.values() if isinstance(steps, dict) else ())
        if isinstance(each, dict)
    ]
    return sorted(known, key=lambda each: (each.get("final") is True, str(each.get("at"))))


def _is_over(step: dict[str, Any]) -> bool:
    return step.get("final") is True and isinstance(step.get("event"), str)


def _grown(entry: EntryView, base: str) -> Iterable[Block]:
    """Yield what an event has become since: the steps of a call, and what was recorded of it."""
    for step in _call(entry):
        if isinstance(step.get("text"), str):
            yield Block(kind="hint", text=step["text"])
    for part in entry.parts:
        if not isinstance(part, Text):
            yield from _part(part, entry.id, base)


def _blocks(entry: EntryView, base: str) -> tuple[Block, ...]:
    if entry.recalled:
        return (Block(kind="hint", text="This message was recalled."),)
    shown = [block for part in entry.parts for block in _part(part, entry.id, base)]
    if entry.event and isinstance(entry.data.get("text"), str):
        shown.append(Block(kind="hint", text=entry.data["text"]))
    return tuple(shown) or (Block(kind="hint", text="(empty)"),)


def _part(part: Part, entry: str, base: str) -> Iterable[Block]:
    match part:
        case Text():
            yield Block(kind="text", text=part.text)
            if part.quoted:
                most = part.quoted[:MOST_QUOTED]
                cut = "" if len(most) == len(part.quoted) else " …"
                yield Block(kind="quoted", text=f"{most.strip()}{cut}")
        case Image() | Audio() | Video() | File():
            yield from _media(part, part.media, entry, base)
            if isinstance(part, Audio) and part.transcript is not None:
                yield Block(kind="hint", text=f"“{part.transcript.text}”")
        case Link():
            yield Block(kind="link", text=part.title or part.url, url=safe(part.url))
            if part.text:
                yield Block(kind="text", text=part.text)
        case Card():
            yield Block(
                kind="text", text="\n".join(each for each in (part.title, part.text) if each)
            )
            for button in part.buttons:
                yield Block(kind="link", text=button.label, url=safe(button.url))
        case Location():
            yield Block(
                kind="text", text=f"📍 {part.label or 'Location'} {part.lat:.5f}, {part.lon:.5f}"
            )
        case Form():
            for name, value in part.answers.items():
                yield Block(kind="text", text=f"{name}: {value}")
        case _:
            yield Block(kind="text", text=plain_text((part,)))  # type: ignore[arg-type]


def _media(part: Part, media: Media, entry: str, base: str) -> Iterable[Block]:
    kind = str(part.__struct_config__.tag)
    name = media.name or kind.capitalize()
    if media.state is not MediaState.READY or not media.blob:
        why = f": {media.reason}" if media.reason else "."
        yield Block(kind="hint", text=f"{name} {_MEDIA.get(media.state, 'is not here')}{why}")
        return
    url = media_url(base, media.blob, entry)
    thumb = media_url(base, media.thumb.blob, entry) if media.thumb else ""
    shown = kind == "image" and media.mime in ("", *SHOWABLE)
    yield Block(kind="image" if shown else "link", text=name, url=url, thumb=thumb)
    if media.reason:
        yield Block(kind="hint", text=f"{name}: {media.reason}")
    if media.declared and media.declared != media.mime:
        yield Block(kind="hint", text=f"{name} was sent as {media.declared}")


def safe(url: str) -> str:
    """Return a link as it is, or nothing for one that a page must not lead to."""
    try:
        place = urlsplit(url)
    except ValueError:
        return ""
    return url if place.scheme in ("http", "https") and place.netloc else ""


# --- conversations -------------------------------------------------------------------------------


def _marks(conversation: ConversationView) -> Iterable[Line]:
    """Yield where a conversation begins, which goes before its first message, and where it ends."""
    tickets = tuple(
        Block(
            kind="link",
            text=f"Ticket {ticket.number or ticket.id} · {ticket.status or 'linked'}",
            url=safe(ticket.url),
        )
        for ticket in conversation.tickets
    )
    opened = Block(kind="text", text=f"Conversation opened{_named(conversation)}")
    yield Line(
        id=f"{conversation.id}:opened",
        kind="mark",
        at=conversation.opened_at,
        blocks=(opened, *tickets),
    )
    if conversation.closed_at is not None:
        why = _CLOSED.get(conversation.closed_by, conversation.closed_by)
        closed = Block(kind="text", text=f"Conversation closed{f': {why}' if why else ''}")
        yield Line(
            id=f"{conversation.id}:closed",
            kind="mark",
            at=conversation.closed_at,
            blocks=(closed,),
        )


def _named(conversation: ConversationView) -> str:
    return f": {conversation.subject}" if conversation.subject else ""
