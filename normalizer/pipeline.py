"""From a connector's drafts to what is stored: an ordered tuple of small pure steps.

A step takes a draft and returns it, changed or not; it does no I/O, reads no clock and never
raises for what a stranger wrote. Doing all of them twice changes nothing more. They are written
for the common case, a short text in which there is nothing to do: whatever needs no change is
handed on as the same object.

============  =================================================================================
step          does
============  =================================================================================
identifiers   makes vendors' ids and keys encodable, and times UTC in milliseconds
texts         Unicode, control and bidirectional characters, lengths (:mod:`normalizer.text`)
data          bounds and cleans what is attached to a draft, for JSON and BSON
addresses     gives every address its canonical form, or makes it a ``sender`` of the channel
media         names, types and measures of files, and links (:mod:`normalizer.media`)
limits        bounds the number of parts and their size together
============  =================================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace

from normalizer.addresses import MAX_ID_CHARS, Address, AddressError, mailbox, phone
from normalizer.drafts import (
    Amendment,
    AnyDraft,
    Command,
    Event,
    Evidence,
    Identity,
    Message,
    Outcome,
    Profile,
    Receipt,
    Sender,
    Target,
    ThreadLabel,
)
from normalizer.media import clean_media, safe_url
from normalizer.model import milliseconds
from normalizer.parts import (
    AnyPart,
    Audio,
    Button,
    Calendar,
    Card,
    Extension,
    File,
    Form,
    Image,
    Link,
    Location,
    Media,
    QuickReplies,
    Text,
    Transcript,
    Unsupported,
    Video,
)
from normalizer.text import (
    MAX_NAME_CHARS,
    clean_data,
    clean_line,
    clean_text,
    cut,
    identifier,
)

MAX_PARTS = 100
MAX_PARTS_BYTES = 4 * 1024 * 1024  # as JSON; a stored document holds 16 MiB
MAX_LABEL_DAYS = 3650  # for which a thread is found by a label
MAX_CHOICES = 50  # buttons of a card, quick replies, fields of a form


class StepContext(msgspec.Struct, frozen=True, kw_only=True):
    """Where a draft came in. ``default_region`` (ISO 3166-1) reads numbers without a country."""

    channel: str
    account: str = ""
    default_region: str = "CN"


Step: TypeAlias = Callable[[AnyDraft, StepContext], AnyDraft]


def normalize(
    draft: AnyDraft, context: StepContext, steps: tuple[Step, ...] | None = None
) -> AnyDraft:
    """Return ``draft`` after ``steps`` (:data:`STEPS` by default), in their order."""
    for step in STEPS if steps is None else steps:
        draft = step(draft, context)
    return draft


S = TypeVar("S", bound=msgspec.Struct)
V = TypeVar("V")


def _with(struct: S, /, **fields: Any) -> S:
    """Return ``struct`` with these fields; the same object if none of them is new."""
    for name, field in fields.items():
        if field is not getattr(struct, name):
            return replace(struct, **fields)
    return struct


def _each(values: tuple[V, ...], change: Callable[[V], V]) -> tuple[V, ...]:
    for value in values:
        if change(value) is not value:
            return tuple(map(change, values))
    return values


# --- identifiers -----------------------------------------------------------------------------


def identifiers(draft: AnyDraft, context: StepContext) -> AnyDraft:
    """Make keys and ids encodable without making two of them equal; times UTC, or unknown."""
    key, at = identifier(draft.key), _utc(draft.at)
    if key is not draft.key or at is not draft.at:
        draft = replace(draft, key=key, at=at)
    match draft:
        case Message():
            return _with(
                draft,
                thread=identifier(draft.thread),
                reply_to=_maybe(draft.reply_to, identifier),
                vendor_ids=_each(draft.vendor_ids, identifier),
                continues=_each(draft.continues, identifier),
                labels=_each(draft.labels, _label),
            )
        case Event():
            return _with(
                draft,
                thread=identifier(draft.thread),
                vendor_ids=_each(draft.vendor_ids, identifier),
            )
        case Amendment():
            return _with(draft, target=_target(draft.target), seq=_seq(draft.seq))
        case Receipt():
            return _with(
                draft,
                target=_target(draft.target),
                seq=_seq(draft.seq),
                code=identifier(draft.code),
            )
        case Outcome():
            return _with(
                draft,
                job=identifier(draft.job),
                kind=identifier(draft.kind),
                entry=_maybe(draft.entry, identifier),
                conversation=_maybe(draft.conversation, identifier),
                backend=identifier(draft.backend),
            )
        case _:
            return draft


def _maybe(value: V | None, change: Callable[[V], V]) -> V | None:
    return None if value is None else change(value)


def _utc(at: datetime | None) -> datetime | None:
    if at is None or (at.tzinfo is UTC and at.microsecond % 1000 == 0):
        return at
    try:
        return milliseconds(at)
    except (ValueError, OverflowError):
        return None  # without a zone, or at the end of the calendar: received_at is used


def _label(label: ThreadLabel) -> ThreadLabel:
    days = None if label.days is None else min(max(label.days, 0), MAX_LABEL_DAYS)
    return _with(label, name=identifier(label.name), days=days)


def _target(target: Target) -> Target:
    return _with(
        target,
        entry=_maybe(target.entry, identifier),
        vendor_id=_maybe(target.vendor_id, identifier),
        thread=_maybe(target.thread, identifier),
        up_to_seq=_seq(target.up_to_seq),
    )


def _seq(seq: int | None) -> int | None:
    return seq if seq is None or -(2**63) <= seq < 2**63 else None


# --- texts -----------------------------------------------------------------------------------


def texts(draft: AnyDraft, context: StepContext) -> AnyDraft:
    """Clean everything that people read."""
    match draft:
        case Message():
            parts = _each(draft.parts, _part_texts)
            simple = not (draft.subject or draft.event or draft.sender or draft.profile)
            if simple and parts is draft.parts:
                return draft
            return _with(
                draft,
                parts=parts,
                subject=clean_line(draft.subject),
                event=clean_line(draft.event),
                sender=_maybe(draft.sender, _sender_texts),
                profile=_maybe(draft.profile, _profile_texts),
            )
        case Event():
            return _with(
                draft,
                name=clean_line(draft.name),
                text=clean_text(draft.text),
                profile=_maybe(draft.profile, _profile_texts),
            )
        case Amendment():
            return _with(draft, by=_maybe(draft.by, _sender_texts))
        case Receipt():
            return _with(draft, reason=clean_line(draft.reason))
        case Identity():
            return _with(
                draft,
                role_event=clean_line(draft.role_event),
                evidence=_evidence_texts(draft.evidence),
                profile=_maybe(draft.profile, _profile_texts),
            )
        case Command():
            actor = _with(
                draft.actor,
                kind=clean_line(draft.actor.kind),
                id=identifier(draft.actor.id),
                name=clean_line(draft.actor.name, MAX_NAME_CHARS),
            )
            return _with(draft, name=clean_line(draft.name), actor=actor)
        case Outcome():
            return draft


def _sender_texts(sender: Sender) -> Sender:
    return _with(sender, name=clean_line(sender.name, MAX_NAME_CHARS), ref=identifier(sender.ref))


def _profile_texts(profile: Profile) -> Profile:
    return _with(
        profile,
        name=clean_line(profile.name, MAX_NAME_CHARS),
        locale=clean_line(profile.locale, MAX_NAME_CHARS),
        mailbox=clean_line(profile.mailbox),
        phone=clean_line(profile.phone),
        attributes=clean_data(profile.attributes),
    )


def _evidence_texts(evidence: Evidence) -> Evidence:
    return _with(
        evidence,
        kind=clean_line(evidence.kind),
        ref=identifier(evidence.ref),
        note=clean_text(evidence.note),
    )


_FORMATS = ("plain", "md-lite")


def _part_texts(part: AnyPart) -> AnyPart:
    match part:
        case Text():
            text = clean_text(part.text)
            simple = part.format == "plain" and not part.quoted and not part.source
            if simple and text is part.text:
                return part
            return _with(
                part,
                text=text,
                quoted=clean_text(part.quoted),
                source=clean_line(part.source),
                format=part.format if part.format in _FORMATS else "plain",
            )
        case Audio():
            return _with(part, transcript=_maybe(part.transcript, _transcript_texts))
        case Location():
            label = clean_line(part.label)
            # Not a number is smaller than nothing, and neither is it larger.
            if not (-90 <= part.lat <= 90 and -180 <= part.lon <= 180):
                return Unsupported(what="location", text=label)
            return _with(part, label=label, datum=clean_line(part.datum))
        case Link():
            return _with(part, title=clean_line(part.title), text=clean_text(part.text))
        case Card():
            return _with(
                part,
                title=clean_line(part.title),
                text=clean_text(part.text),
                buttons=_each(part.buttons[:MAX_CHOICES], _button_texts),
            )
        case QuickReplies():
            return _with(part, replies=_each(part.replies[:MAX_CHOICES], _button_texts))
        case Form():
            return _with(part, fields=_fields(part.fields), answers=clean_data(part.answers))
        case Calendar():
            return _with(
                part,
                method=clean_line(part.method),
                summary=clean_line(part.summary),
                start=clean_line(part.start),
                organizer=clean_line(part.organizer),
            )
        case Unsupported():
            return _with(part, what=clean_line(part.what), text=clean_text(part.text))
        case Extension():
            return _with(
                part,
                name=clean_line(part.name),
                fallback=clean_text(part.fallback),
                data=clean_data(part.data),
            )
        case _:
            return part


def _transcript_texts(transcript: Transcript) -> Transcript:
    return _with(transcript, text=clean_text(transcript.text), by=clean_line(transcript.by))


def _button_texts(button: Button) -> Button:
    return _with(button, label=clean_line(button.label), value=clean_text(button.value))


def _fields(fields: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    """Clean a form's fields under one common bound."""
    cleaned = tuple(clean_data({"fields": list(fields[:MAX_CHOICES])}).get("fields", ()))
    return fields if cleaned == fields else cleaned


# --- data ------------------------------------------------------------------------------------

_Parts = tuple[AnyPart, ...]


def data(draft: AnyDraft, context: StepContext) -> AnyDraft:
    """Clean what a connector, a caller or a worker attached.

    The parts of an edit and of a reply, and the media of a finished download, pass the same
    steps as those of a message: what cannot come in by the door must not by the window.
    """
    match draft:
        case Message() | Event():
            return _with(draft, data=clean_data(draft.data))
        case Amendment():
            return _with(draft, data=_structured(draft.data))
        case Command():
            return _with(draft, args=_structured(draft.args))
        case Outcome():
            return _with(draft, result=_structured(draft.result))
        case _:
            return draft


def _structured(values: dict[str, Any]) -> dict[str, Any]:
    cleaned = clean_data(values)
    if "parts" in cleaned:
        parts = _converted(cleaned["parts"], _Parts, _clean_parts)
        cleaned = {**cleaned, "parts": parts}
    if "media" in cleaned:
        cleaned = {**cleaned, "media": _converted(cleaned["media"], _OnlyMedia, clean_media)}
    return values if cleaned == values else cleaned


class _OnlyMedia(Media, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Media, and not something else of that name, of which fields would be lost."""


def _converted(value: Any, kind: Any, change: Callable[[Any], Any]) -> Any:
    try:
        struct = msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return value
    return msgspec.json.decode(msgspec.json.encode(change(struct)))


def _clean_parts(parts: _Parts) -> _Parts:
    return _limited(_each(_each(parts, _part_texts), _part_media))


# --- addresses -------------------------------------------------------------------------------


def addresses(draft: AnyDraft, context: StepContext) -> AnyDraft:
    """Give addresses the form that is hashed, and a profile's claims the form that is shown."""
    match draft:
        case Message() | Event():
            address = _address(draft.address, context)
            if address is not draft.address:
                draft = replace(draft, address=address)
            if isinstance(draft, Message) and draft.sender is not None:
                draft = _with(draft, sender=_sender_address(draft.sender, context))
        case Amendment() | Receipt():
            if draft.address is not None:
                draft = _with(draft, address=_address(draft.address, context))
            if isinstance(draft, Amendment) and draft.by is not None:
                draft = _with(draft, by=_sender_address(draft.by, context))
            return draft
        case Identity():
            draft = _with(
                draft,
                address=_address(draft.address, context),
                same_as=_address(draft.same_as, context),
            )
        case Command() | Outcome():
            return draft
    if draft.profile is not None:
        draft = _with(draft, profile=_claims(draft.profile, context))
    return draft


def _sender_address(sender: Sender, context: StepContext) -> Sender:
    if sender.address is None:
        return sender
    return _with(sender, address=_address(sender.address, context))


def _address(address: Address, context: StepContext) -> Address:
    ident = identifier(address.id).strip()
    match address.scheme, address.kind:
        case "mail", "mailbox":
            found = _mailbox(ident)
        case "tel", "e164":
            found = phone(ident, context.default_region)
        case _:
            return _with(
                address,
                scheme=identifier(address.scheme),
                account=identifier(address.account),
                kind=identifier(address.kind),
                id=_short(ident) if address.kind == "sender" else ident,
            )
    if found is None:
        # Never an exception, and never a number or mailbox that others could share.
        return replace(
            address,
            scheme=context.channel,
            account=address.account or context.account,
            kind="sender",
            id=_short(ident),
        )
    same = found.id == address.id and not address.account
    return address if same else replace(address, account="", id=found.id)


def _mailbox(text: str) -> Address | None:
    try:
        return mailbox(text)
    except AddressError:
        return None


def _short(ident: str) -> str:
    """Return a literal sender within the bound of an address; different ones stay different."""
    if len(ident) <= MAX_ID_CHARS:
        return ident
    digest = hashlib.sha256(ident.encode()).hexdigest()
    return f"{cut(ident, 400).strip()}~{digest}"


def _claims(profile: Profile, context: StepContext) -> Profile:
    box = _mailbox(profile.mailbox) if profile.mailbox else None
    number = phone(profile.phone, context.default_region) if profile.phone else None
    return _with(
        profile,
        mailbox=box.id if box else profile.mailbox,
        phone=number.id if number else profile.phone,
    )


# --- media -----------------------------------------------------------------------------------


def media(draft: AnyDraft, context: StepContext) -> AnyDraft:
    """Make files and links safe to show. A link that is none stays readable as text."""
    match draft:
        case Message():
            parts = _each(draft.parts, _part_media)
            if parts is not draft.parts:
                draft = replace(draft, parts=parts)
        case Event() | Identity():
            pass
        case _:
            return draft
    if draft.profile is None or not draft.profile.avatar:
        return draft
    avatar = safe_url(draft.profile.avatar)
    if avatar == draft.profile.avatar:
        return draft
    return replace(draft, profile=replace(draft.profile, avatar=avatar))


def _part_media(part: AnyPart) -> AnyPart:
    match part:
        case Text():
            return part
        case Image() | Audio() | File():
            return _with(part, media=clean_media(part.media))
        case Video():
            return _with(
                part,
                media=clean_media(part.media),
                thumbnail=_maybe(part.thumbnail, clean_media),
            )
        case Link():
            url = safe_url(part.url)
            if not url:
                said = "\n".join(line for line in (part.title, part.text, part.url) if line)
                return Text(text=clean_text(said))
            return part if url == part.url else replace(part, url=url)
        case Card():
            return _with(
                part,
                image=_maybe(part.image, clean_media),
                buttons=_each(part.buttons, _button_link),
            )
        case QuickReplies():
            return _with(part, replies=_each(part.replies, _button_link))
        case _:
            return part


def _button_link(button: Button) -> Button:
    url = safe_url(button.url) if button.url else ""
    if url == button.url:
        return button
    label = button.label if url else clean_line(f"{button.label} ({button.url})")
    return replace(button, url=url, label=label)


# --- limits ----------------------------------------------------------------------------------


def limits(draft: AnyDraft, context: StepContext) -> AnyDraft:
    """Bound the parts of a message; what is cut is counted in a last part of its own."""
    if isinstance(draft, Message) and len(draft.parts) > 1:
        return _with(draft, parts=_limited(draft.parts))
    return draft


def _limited(parts: _Parts) -> _Parts:
    kept = size = 0
    for part in parts[:MAX_PARTS]:
        size += len(msgspec.json.encode(part))
        if size > MAX_PARTS_BYTES:
            break
        kept += 1
    if kept == len(parts):
        return parts
    kept = min(kept, MAX_PARTS - 1)
    note = Unsupported(what="parts", text=f"[{len(parts) - kept} more parts]")
    return (*parts[:kept], note)


STEPS: tuple[Step, ...] = (identifiers, texts, data, addresses, media, limits)
