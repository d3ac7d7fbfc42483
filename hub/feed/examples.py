"""One example of every type of event, rendered by the code that renders the real ones."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from hub.documents import (
    AddressDoc,
    Conversation,
    Customer,
    Delivery,
    Entry,
    EntrySender,
    FeedRow,
    TicketLink,
)
from hub.feed.events import CHANNEL_EVENT, TYPES, Face, Loaded, render
from normalizer.drafts import DeliveryState
from normalizer.model import Direction, Role
from normalizer.parts import Image, Media, Text

_AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
_CUSTOMER = "cus_01jnb2f4m8x7c9k5t3v6w0y1z2"
_OTHER = "cus_01jnb2g6q1r4d8h2n5s7v9x3y0"
_ADDRESS = "adr_4c7k2m9p1r5t8v3x6z0b2d4f7h"
_ENTRY = "ent_6d1f3h5k7m9p2r4t6v8x0z2b4c"
_ANSWER = "ent_2k4m6p8r0t1v3x5z7b9d1f3h5k"
_NOTE = "ent_1m3p5r7t9v2x4z6b8d0f1h3k5m"
_CALL = "ent_3p5r7t9v1x2z4b6d8f0h1k3m5p"
_FOLLOWED = "ent_5r7t9v1x3z4b6d8f0h2k3m5p7r"
_CONVERSATION = "cnv_01jnb2f4n0a1b2c3d4e5f6g7h8"
_ITEM = "in_01jnb2f4kz9y8x7w6v5t4s3r2q"
_BACKEND = "helpdesk"
_TOLD: dict[str, dict[str, Any]] = {
    "message.delivery_changed": {"state": "delivered"},
    "message.seen": {"state": "read"},
    "message.removed": {"import": "imp_01jnb2f4n0a1b2c3d4e5f6g7h8"},
    "customer.removed": {"import": "imp_01jnb2f4n0a1b2c3d4e5f6g7h8"},
    "customer.updated": {"link": "lnk_01jnb2h0a1b2c3d4e5f6g7h8j9"},
    "customer.merged": {"link": "lnk_01jnb2h0a1b2c3d4e5f6g7h8j9", "into": _OTHER},
    "customer.split": {"link": "lnk_01jnb2h0a1b2c3d4e5f6g7h8j9"},
    "customer.link_suggested": {"trust": "seen", "evidence": "caller_id", "customer": _OTHER},
    "consent.changed": {"purpose": "marketing", "state": "withdrawn", "source": "wechat:shop"},
    "conversation.closed": {"reason": "solved"},
    "conversation.entry_moved": {"from": "cnv_01jnb1z0a1b2c3d4e5f6g7h8j9"},
    "account.state_changed": {
        "state": "down",
        "was": "ok",
        "reason": "the vendor cannot be reached",
        "last_message_at": _AT,
    },
    "ticket.linked": {"backend": _BACKEND, "ticket": "4711", "status": "open"},
    "ticket.status_changed": {"backend": _BACKEND, "ticket": "4711", "status": "solved"},
}
_REFS = {
    "message.sent": _ANSWER,
    "message.delivery_changed": _ANSWER,
    "note.added": _NOTE,
    "call.changed": _CALL,
}


def examples(base_url: str) -> Mapping[str, dict[str, Any]]:
    """Return an event of each type of the table, and one that a connector named."""
    face = Face(space="omniline", base_url=base_url, generation=1_772_000_000)
    found = {}
    for position, name in enumerate([*TYPES, "contact.followed"], start=1):
        loaded = _loaded(recalled=name == "message.redacted", edited=name == "message.edited")
        event = render(_row(name, position), loaded, face)
        key = name if name in TYPES else CHANNEL_EVENT.name
        found[key] = msgspec.json.decode(event.body)
    return found


def _row(name: str, position: int) -> FeedRow:
    area = name.partition(".")[0]
    about_entry = area in ("message", "note", "call", "contact") or name.endswith("entry_moved")
    if area == "contact":
        ref = _FOLLOWED
    elif about_entry:
        ref = _REFS.get(name, _ENTRY)
    else:
        ref = _CUSTOMER if area in ("customer", "consent") else _CONVERSATION
    if area == "account":
        return FeedRow(
            id=position,
            type=name,
            at=_AT,
            recorded_at=_AT + timedelta(milliseconds=120),
            ref="wechat:shop",
            channel="wechat",
            account="shop",
            cause=_ITEM,
            data=_TOLD[name],
        )
    channel = "hub" if name == "note.added" else "wechat"
    return FeedRow(
        id=position,
        type=name,
        at=_AT,
        recorded_at=_AT + timedelta(milliseconds=120),
        customer=_CUSTOMER,
        conversation=None if area in ("customer", "consent") else _CONVERSATION,
        address=_ADDRESS,
        ref=ref,
        channel=channel if about_entry else "",
        account="shop" if channel == "wechat" and about_entry else "",
        cause=_ITEM if about_entry else "",
        data=_TOLD.get(name, {}),
    )


def _loaded(*, recalled: bool, edited: bool) -> Loaded:
    photo = Image(
        media=Media(mime="image/jpeg", size=48_213, blob="blb_01jnb2f4kz0a1b2c3d4e5f6g7h")
    )
    said = _entry(
        _ENTRY,
        parts=() if recalled else (Text(text="订单什么时候发货？"), photo),
        recalled=recalled,
        rev=1 if edited else 0,
    )
    answer = _entry(
        _ANSWER,
        direction=Direction.OUT,
        sender=EntrySender(role=Role.AGENT, name="Mei", ref="agent-7"),
        parts=(Text(text="今天下午发货。"),),
        delivery=Delivery(state=DeliveryState.DELIVERED, at=_AT),
    )
    note = _entry(
        _NOTE,
        kind="note",
        channel="hub",
        account="",
        direction=Direction.INTERNAL,
        sender=EntrySender(role=Role.AGENT, name="Mei", ref="agent-7"),
        parts=(Text(text="Wants it before Friday."),),
    )
    call = _entry(
        _CALL,
        kind="event",
        event="call.started",
        sender=EntrySender(role=Role.SYSTEM),
        data={"call": {"ended": {"step": "ended", "duration_s": 126}}},
    )
    followed = _entry(
        _FOLLOWED, kind="event", event="contact.followed", sender=EntrySender(role=Role.SYSTEM)
    )
    conversation = Conversation(
        id=_CONVERSATION,
        customer=_CUSTOMER,
        root=_ADDRESS,
        policy="customer",
        state="open",
        opened_at=_AT,
        active_at=_AT,
        backends=(_BACKEND,),
        tickets=(TicketLink(backend=_BACKEND, id="4711", number="4711", status="open"),),
    )
    return Loaded(
        entries={each.id: each for each in (said, answer, note, call, followed)},
        addresses={_ADDRESS: AddressDoc(id=_ADDRESS, scheme="wechat", customer=_CUSTOMER)},
        conversations={_CONVERSATION: conversation},
        customers={_CUSTOMER: Customer(id=_CUSTOMER, created_at=_AT, seen_at=_AT)},
    )


def _entry(ident: str, **fields: Any) -> Entry:
    known: dict[str, Any] = {
        "address": _ADDRESS,
        "position": 1,
        "at": _AT,
        "received_at": _AT + timedelta(milliseconds=80),
        "channel": "wechat",
        "account": "shop",
        "conversation": _CONVERSATION,
        "source": _ITEM,
    }
    return Entry(id=ident, **{**known, **fields})
