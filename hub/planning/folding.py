"""How later changes become part of an entry, whatever order they arrive in.

One rule for every aspect of an entry: of all amendments that touch it, the greatest by
(rank, vendor sequence, time, position) wins. Ranks are in the tables below; terminal states
rank highest. As the winner is a maximum, folding them one by one in any order gives the same.

==============  ===================  =====================================================
amendment       aspect               effect
==============  ===================  =====================================================
edit            content              parts are replaced, ``rev`` counts up
recall          content (terminal)   parts are taken away, ``recalled`` is set
state           delivery or seen     delivery state, code and reason
call            call.<step>          data of the step is kept under ``data.call``; one with
                                     ``final`` outranks others; ``parts`` of the steps are the
                                     parts of an event; a ``transcript`` {ref, text, by} goes to
                                     the audio part of that vendor_ref
media           media.<which>        the media of one part is replaced, now and after an edit;
                                     kept under ``data.media``, by vendor_ref if it has one
move            conversation         the entry is in another conversation
==============  ===================  =====================================================
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from hub.documents import AmendmentDoc, Delivery, Entry, Fold
from hub.planning.media import referenced
from normalizer.drafts import AmendmentKind, DeliveryState
from normalizer.parts import MEDIA_PARTS, AnyPart, Audio, Media, Transcript

STATE_RANK = {
    DeliveryState.RECEIVED: 0,
    DeliveryState.QUEUED: 0,
    DeliveryState.SENDING: 1,
    DeliveryState.UNKNOWN: 2,  # a look-up or a receipt may still clear it up
    DeliveryState.ACCEPTED: 3,
    DeliveryState.DELIVERED: 4,
    DeliveryState.FAILED: 5,  # a bounce comes after the acceptance
    DeliveryState.READ: 6,  # who has read it has got it
}
# Each redrive of a send outranks all that was said about the one before. What a vendor says of
# a redriven send carries its round too: see `round_of` and `Alias.round`.
_ROUND = 10


def round_of(entry: Entry) -> int:
    """Return the redrive that the entry's delivery state is from; 0 = it was not redriven."""
    held = entry.folds.get("delivery")
    return held.rank // _ROUND if held is not None else 0


def fold(entry: Entry, amendments: Iterable[AmendmentDoc]) -> Entry:
    """Return the entry with the amendments folded in. An erased entry stays as it is."""
    if entry.erased:
        return entry
    for amendment in amendments:
        entry = _fold_one(entry, amendment)
    return entry


def _fold_one(entry: Entry, amendment: AmendmentDoc) -> Entry:
    kind = AmendmentKind(amendment.kind)
    aspect = _aspect(kind, amendment.data)
    if kind is AmendmentKind.EDIT:
        entry = replace(entry, rev=entry.rev + 1)
    key = Fold(
        rank=_rank(kind, amendment.data),
        seq=amendment.seq,
        at=amendment.at,
        position=amendment.position,
    )
    held = entry.folds.get(aspect)
    if held is not None and _order(held) >= _order(key):
        return entry
    entry = replace(entry, folds={**entry.folds, aspect: key})
    return _apply(entry, kind, amendment)


def _order(fold_key: Fold) -> tuple[Any, ...]:
    return (fold_key.rank, fold_key.seq, fold_key.at, fold_key.position)


def _aspect(kind: AmendmentKind, data: dict[str, Any]) -> str:
    match kind:
        case AmendmentKind.EDIT | AmendmentKind.RECALL:
            return "content"
        case AmendmentKind.STATE:
            return "seen" if data.get("by") == "agent" else "delivery"
        case AmendmentKind.CALL:
            return f"call.{data.get('step', '')}"
        case AmendmentKind.MEDIA:
            return f"media.{_which_media(data)}"
        case AmendmentKind.MOVE:
            return "conversation"


def _rank(kind: AmendmentKind, data: dict[str, Any]) -> int:
    if kind is AmendmentKind.RECALL:
        return 1
    if kind is AmendmentKind.STATE:
        return STATE_RANK[DeliveryState(data["state"])] + _ROUND * int(data.get("round", 0))
    return int(kind is AmendmentKind.CALL and data.get("final") is True)


def _apply(entry: Entry, kind: AmendmentKind, amendment: AmendmentDoc) -> Entry:
    data = amendment.data
    match kind:
        case AmendmentKind.EDIT:
            parts = referenced(msgspec.convert(data["parts"], tuple[AnyPart, ...]))
            return replace(entry, parts=_with_media(parts, entry.data.get("media", {})))
        case AmendmentKind.RECALL:
            return replace(entry, parts=(), recalled=True)
        case AmendmentKind.STATE:
            told = Delivery(
                state=DeliveryState(data["state"]),
                code=data.get("code", ""),
                reason=data.get("reason", ""),
                at=amendment.at,
            )
            if data.get("by") == "agent":
                return replace(entry, seen=told)
            return replace(entry, delivery=told)
        case AmendmentKind.CALL:
            calls = {**entry.data.get("call", {}), data.get("step", ""): data}
            told_of = replace(entry, data={**entry.data, "call": calls})
            return replace(told_of, parts=_call_parts(told_of, calls))
        case AmendmentKind.MEDIA:
            known = {**entry.data.get("media", {}), _which_media(data): data["media"]}
            parts = _with_media(entry.parts, known)
            return replace(entry, parts=parts, data={**entry.data, "media": known})
        case AmendmentKind.MOVE:
            return replace(entry, conversation=data["conversation"])


def _call_parts(entry: Entry, calls: dict[str, dict[str, Any]]) -> tuple[AnyPart, ...]:
    """Return the parts that an entry has with these steps of its call."""
    parts = entry.parts
    if entry.kind == "event":
        found = [calls[step].get("parts", ()) for step in sorted(calls)]
        grown = [msgspec.convert(each, tuple[AnyPart, ...]) for each in found]
        parts = tuple(part for each in grown for part in each)
        parts = _with_media(referenced(parts), entry.data.get("media", {}))
    said = {}
    for step in sorted(calls):
        told = calls[step].get("transcript")
        if isinstance(told, dict) and told.get("ref"):
            said[told["ref"]] = Transcript(
                text=str(told.get("text", "")), by=str(told.get("by", ""))
            )
    return tuple(
        replace(part, transcript=said[part.media.vendor_ref])
        if isinstance(part, Audio) and part.media.vendor_ref in said
        else part
        for part in parts
    )


def _which_media(data: dict[str, Any]) -> str:
    """Name the media that was fetched: an edit may have put another part in its place."""
    return str(data["media"].get("vendor_ref") or data["index"])


def _with_media(parts: tuple[AnyPart, ...], known: dict[str, Any]) -> tuple[AnyPart, ...]:
    return tuple(_part_with_media(part, index, known) for index, part in enumerate(parts))


def _part_with_media(part: AnyPart, index: int, known: dict[str, Any]) -> AnyPart:
    if not isinstance(part, MEDIA_PARTS):
        return part
    ref = part.media.vendor_ref
    told = known.get(ref) if ref else None
    if told is None:
        told = known.get(str(index))
    if told is None:
        return part
    return replace(part, media=replace(msgspec.convert(told, Media), vendor_ref=ref))
