"""What is shown: from changes of a timeline to the frames of one session.

Events come in the order of the feed. An answer is shown when it has left: that is when it gets
its place in the thread; receipts follow. Whatever a client gets twice, it drops by
(conversation_id, seq, rev); so after a reconnect it is better told twice than not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from connectors.site.audience import Audience
from connectors.site.frames import (
    ConvState,
    Frame,
    MessageFrame,
    MsgEdited,
    MsgNew,
    MsgRecalled,
    ReceiptOut,
    SenderOut,
    rfc3339,
)
from connectors.site.settings import SiteSettings
from hub import ConnectorContext, Entry, Seen
from normalizer.drafts import DeliveryState
from normalizer.model import Direction, Role
from normalizer.parts import (
    AnyPart,
    Audio,
    Button,
    Card,
    File,
    Form,
    Image,
    Link,
    Location,
    Media,
    MediaState,
    QuickReplies,
    Text,
    Video,
    plain_text,
)

_ARRIVED = (DeliveryState.ACCEPTED, DeliveryState.DELIVERED, DeliveryState.READ)
_KINDS = {Role.CUSTOMER: "visitor", Role.AGENT: "agent", Role.BOT: "bot", Role.SYSTEM: "system"}
MakeLink = Callable[[str, str, int], str]
"""From (thread, entry, index of the part) to the address of its bytes."""


class Renderer:
    """Makes frames for one session. ``cursor`` signs a position for its visitor."""

    def __init__(
        self,
        settings: SiteSettings,
        context: ConnectorContext,
        audience: Audience,
        link: MakeLink,
        cursor: Callable[[int], str],
    ) -> None:
        self._settings = settings
        self._context = context
        self._audience = audience
        self._link = link
        self._cursor = cursor
        self._shown: set[str] = set()

    def see(self, audience: Audience) -> None:
        """Go on with what the session may see by now."""
        self._audience = audience

    async def frames(self, seen: Seen) -> list[Frame]:
        """Return what this change means to the session; most often one frame or none."""
        cursor = self._cursor(seen.position)
        entry = seen.entry
        if entry is None:
            state = _conversation_state(seen, self._settings)
            if state is None or not self._audience.primary:
                return []
            closed = {"by": "agent", "reason": str(seen.data.get("reason", ""))}
            return [
                ConvState(
                    conversation_id=self._audience.primary,
                    state=state,
                    closed=closed if state == "closed" else None,
                    cursor=cursor,
                )
            ]
        if entry.seq == 0 or not entry.thread:
            return []  # a note, an event, an answer that has not left
        match seen.type:
            case "message.received":
                return self._first(entry, cursor)
            case "message.sent":
                # Answers written in the hub show up when they have left; others are there.
                return self._first(entry, cursor) if "delivery" not in entry.folds else []
            case "message.delivery_changed":
                return self._delivery(entry, seen, cursor)
            case "message.seen":
                return self._agents_receipt(entry, seen, cursor)
            case "message.edited" if visible(entry):
                self._shown.add(entry.id)
                return [self._message(MsgEdited, entry, cursor)]
            case "message.redacted" if visible(entry):
                self._shown.add(entry.id)
                return [self._message(MsgRecalled, entry, cursor)]
        return []

    def _first(self, entry: Entry, cursor: str) -> list[Frame]:
        if entry.id in self._shown or not visible(entry):
            return []
        self._shown.add(entry.id)
        return [self._message(MsgNew, entry, cursor)]

    def _delivery(self, entry: Entry, seen: Seen, cursor: str) -> list[Frame]:
        state = seen.data.get("state", "")
        if state not in _ARRIVED:
            return []
        frames = self._first(entry, cursor)
        if state != DeliveryState.ACCEPTED:
            frames.append(self._receipt(entry, "visitor", str(state), cursor))
        return frames

    def _agents_receipt(self, entry: Entry, seen: Seen, cursor: str) -> list[Frame]:
        state = str(seen.data.get("state", ""))
        if state == DeliveryState.READ and not self._settings.read_receipts_to_visitor:
            state = DeliveryState.DELIVERED
        if state not in (DeliveryState.DELIVERED, DeliveryState.READ):
            return []
        return [self._receipt(entry, "agent", state, cursor)]

    def _receipt(self, entry: Entry, by: str, state: str, cursor: str) -> ReceiptOut:
        seq = str(entry.seq)
        return ReceiptOut(
            conversation_id=entry.thread or "",
            by=by,
            delivered_seq=seq,
            read_seq=seq if state == DeliveryState.READ else "",
            cursor=cursor,
        )

    def listed(self, entry: Entry) -> MsgNew:
        """Return a message as the REST pages have it."""
        frame = self._message(MsgNew, entry, "")
        assert isinstance(frame, MsgNew)
        return frame

    def _message(self, kind: type[MessageFrame], entry: Entry, cursor: str) -> MessageFrame:
        gone = entry.recalled or entry.erased
        return kind(
            conversation_id=entry.thread or "",
            seq=str(entry.seq),
            rev=str(entry.rev),
            ts=rfc3339(entry.at),
            sender=self._sender(entry),
            parts=[] if gone else self._parts(entry),
            client_msg_id=entry.client_id,
            server_msg_id=entry.id,
            reply_to_seq=str(entry.data.get("reply_to_seq", "")),
            subject=entry.subject,
            event=entry.event,
            edited=entry.rev > 0,
            recalled=gone,
            state=self._state(entry),
            cursor=cursor,
        )

    def _state(self, entry: Entry) -> str:
        told = entry.seen if entry.direction is Direction.IN else entry.delivery
        state = str(told.state) if told else "sent"
        if state not in ("delivered", "read"):
            return "sent"
        hidden = entry.direction is Direction.IN and not self._settings.read_receipts_to_visitor
        return "delivered" if hidden else state

    def _sender(self, entry: Entry) -> SenderOut:
        name = entry.sender.name if self._settings.agent_names_to_visitor else ""
        if entry.sender.role is Role.CUSTOMER:
            name = ""
        return SenderOut(kind=_KINDS[entry.sender.role], name=name)

    def _parts(self, entry: Entry) -> list[dict[str, Any]]:
        def link(index: int) -> str:
            return self._link(entry.thread or "", entry.id, index)

        return [part_out(part, link, index) for index, part in enumerate(entry.parts)]


def visible(entry: Entry) -> bool:
    """Say whether the customer may see the entry by now."""
    if entry.seq == 0 or entry.kind != "message":
        return False
    if entry.direction is Direction.IN:
        return True
    return entry.delivery is not None and entry.delivery.state in _ARRIVED


def _conversation_state(seen: Seen, settings: SiteSettings) -> str | None:
    match seen.type:
        case "conversation.opened":
            return "queued_offline" if settings.availability == "offline" else "opened"
        case "conversation.closed":
            return "closed"
        case "conversation.reopened":
            return "reopened"
    return None


# --- parts ---------------------------------------------------------------------------------------


def part_out(part: AnyPart, link: Callable[[int], str], index: int) -> dict[str, Any]:
    """Return a part as clients get it; what they do not know becomes text."""
    match part:
        case Text():
            return {"type": "text", "text": part.text, "format": part.format}
        case Image() | Audio() | Video() | File():
            tag = str(part.__struct_config__.tag)
            return {"type": tag, **_media_out(part.media, link(index))}
        case Location():
            return {"type": "location", "lat": part.lat, "lon": part.lon, "label": part.label}
        case Link():
            return {"type": "link", "url": part.url, "title": part.title or part.text}
        case Card():
            card: dict[str, Any] = {"type": "card", "title": part.title, "text": part.text}
            if part.image is not None:
                card["image"] = _media_out(part.image, link(index))
            card["buttons"] = [_button_out(button) for button in part.buttons]
            return card
        case QuickReplies():
            return {"type": "quick_replies", "replies": [_button_out(b) for b in part.replies]}
        case Form():
            return {"type": "form", "fields": list(part.fields), "answers": part.answers}
    return {"type": "text", "text": plain_text((part,)), "format": "plain"}


def _media_out(media: Media, url: str) -> dict[str, Any]:
    # A visitor's own file can be fetched by the visitor while the hub still looks at it.
    state = MediaState.READY if media.blob else media.state
    out: dict[str, Any] = {
        "url": url if media.blob else "",
        "mime": media.mime,
        "bytes": media.size,
        "name": media.name,
        "w": media.width,
        "h": media.height,
        "duration_s": media.duration_s,
        "state": str(state),
    }
    return {name: value for name, value in out.items() if value is not None}


def _button_out(button: Button) -> dict[str, str]:
    return {
        name: value for name, value in msgspec.to_builtins(button).items() if isinstance(value, str)
    }
