"""From a push to a draft. Pure.

The text of a type other than text and mention is the platform's own caption ("sent a picture"),
and is dropped where the type is understood.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.weibo.envelope import Push, key_of
from connectors.weibo.events import KEYWORDS, event_of, keyword_of
from normalizer.addresses import Address
from normalizer.drafts import AnyDraft, Event, Message
from normalizer.parts import (
    AnyPart,
    Audio,
    Image,
    Location,
    Media,
    MediaState,
    Text,
    Unsupported,
)

MENTION = "mention"  # in a message's data: the id of the post or comment
_KNOWN = frozenset({"text", "position", "image", "voice", "event", "mention"})
_REF = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_ESCAPED = re.compile(r"&(amp|lt|gt|quot|#39);")
_PLAIN = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "#39": "'"}


def drafts_of(push: Push, *, channel: str, account: str) -> Sequence[AnyDraft]:
    """Return what a push says. Raises ``ValueError`` for one without a sender."""
    if not push.sender:
        raise ValueError("the push names no sender_id")
    address = Address(scheme=channel, account=account, kind="uid", id=push.sender)
    key = dedupe_key(push)
    if push.type == "event":
        return _event(key, push, address, event_of(push))
    if push.type == "text" and (order := KEYWORDS.get(keyword_of(push.text))):
        return _event(key, push, address, (order, {"keyword": push.text.strip()}))
    if push.type == "mention":
        return (_mention(key, push, address),)
    return (Message(key=key, at=push.at, address=address, parts=(_part(push),)),)


def dedupe_key(push: Push) -> str:
    """Return ``created_at:type:hash``; the hub adds channel, account and sender.

    The vendor proposes sender and created_at alone, which would drop the second of two messages
    of one second. What stays: two identical texts within a second are one.
    """
    at = f"{push.at:%Y-%m-%dT%H:%M:%SZ}" if push.at is not None else ""
    return f"{at}:{push.type if push.type in _KNOWN else 'other'}:{push.fingerprint}"


def unescaped(text: str) -> str:
    """Undo one HTML escaping, as some of Weibo's APIs do one; ``&copy=`` in a URL stays."""
    return _ESCAPED.sub(lambda found: _PLAIN[found[1]], text)


def _event(
    key: str, push: Push, address: Address, named: tuple[str, dict[str, Any]] | None
) -> Sequence[AnyDraft]:
    if named is None:
        return ()
    name, data = named
    return (Event(key=key, at=push.at, address=address, name=name, data=data),)


def _mention(key: str, push: Push, address: Address) -> Message:
    """A post or comment that names the account: the world can read it, and it is a thread."""
    ref = key_of(push.data, "key")
    if not _REF.match(ref):
        ref = push.fingerprint
    return Message(
        key=key,
        at=push.at,
        address=address,
        parts=(_said(push),),
        thread=f"mention:{ref}",
        public=True,
        data={MENTION: ref, "subtype": key_of(push.data, "subtype")},
    )


def _part(push: Push) -> AnyPart:
    match push.type:
        case "text":
            return _said(push)
        case "image":
            media = _media(push.data)
            return Image(media=media) if media is not None else _unsupported(push)
        case "voice":
            media = _media(push.data)
            return Audio(media=media) if media is not None else _unsupported(push)
        case "position":
            return _position(push) or _unsupported(push)
        case _:
            return _unsupported(push)


def _said(push: Push) -> AnyPart:
    """Faces such as [doge] stay as they are, and so do t.cn links, which nobody opens here."""
    return Text(text=unescaped(push.text)) if push.text.strip() else _unsupported(push)


def _media(data: Mapping[str, Any]) -> Media | None:
    """``tovfid`` is what the receiver's token may read; ``vfid`` is the sender's."""
    ref = key_of(data, "tovfid")
    return Media(vendor_ref=ref, state=MediaState.PENDING) if _REF.match(ref) else None


def _position(push: Push) -> Location | None:
    lat = _degrees(push.data.get("latitude"), 90.0)
    lon = _degrees(push.data.get("longitude"), 180.0)
    return Location(lat=lat, lon=lon) if lat is not None and lon is not None else None


def _degrees(value: Any, most: float) -> float | None:
    """Return a coordinate, which is documented as a decimal text."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and abs(found) <= most else None


def _unsupported(push: Push) -> Unsupported:
    return Unsupported(what=push.type[:64] or "unknown", text=unescaped(push.text))
