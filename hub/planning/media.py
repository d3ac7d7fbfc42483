"""Media of entries: the jobs that fetch and check them, and what their outcomes change.

A medium is known by its ``vendor_ref`` for all of its life, wherever an edit puts it; one whose
bytes a connector stored itself gets a reference that names its blob.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from hub.documents import Conversation, Entry, InboxItem, Job
from hub.planning.rules import Rules
from hub.planning.ticket_jobs import ticket_job
from hub.planning.workspace import Workspace
from normalizer.drafts import Message
from normalizer.parts import MEDIA_PARTS, AnyPart, Media, MediaState

JOB = "media"
IMPORT_JOB = "media_import"  # of old messages: workers of their own do them, a few at once
KINDS = frozenset({JOB, IMPORT_JOB})
STORED = "blob:"
IMPORT_DELAY = timedelta(seconds=5)


def referenced(parts: tuple[AnyPart, ...]) -> tuple[AnyPart, ...]:
    """Give every pending medium a reference, by which its result will be known."""
    return tuple(_referenced(part) for part in parts)


def _referenced(part: AnyPart) -> AnyPart:
    media = part.media if isinstance(part, MEDIA_PARTS) else None
    if media is None or media.state is not MediaState.PENDING or media.vendor_ref is not None:
        return part
    if media.blob is None:
        lost = replace(media, state=MediaState.LOST, reason="nobody knows where the file is")
        return replace(part, media=lost)
    return replace(part, media=replace(media, vendor_ref=f"{STORED}{media.blob}"))


def source_of(media: Media) -> str | None:
    """Return the blob that holds a pending medium's bytes; None = they are at the vendor."""
    return source_in(media.vendor_ref or "")


def source_in(ref: str) -> str | None:
    return ref.removeprefix(STORED) if ref.startswith(STORED) else None


def pending(parts: Iterable[AnyPart]) -> list[tuple[int, Media]]:
    return [
        (index, part.media)
        for index, part in enumerate(parts)
        if isinstance(part, MEDIA_PARTS) and part.media.state is MediaState.PENDING
    ]


def media_jobs(ws: Workspace, rules: Rules, entry: Entry, *, fresh: bool) -> None:
    """Make one job for each pending medium of an entry. ``fresh``: it has none yet."""
    if entry.recalled or entry.erased:
        return
    waiting = {media.vendor_ref or "": index for index, media in reversed(pending(entry.parts))}
    for ref, index in waiting.items():
        ident = rules.key.hashed("job", f"{entry.id}|media|{ref}")
        if not fresh and ws.get(Job, ident) is not None:
            continue
        ws.new(
            Job(
                id=ident,
                lane=f"media:{entry.id}:{ident[4:]}",
                kind=IMPORT_JOB if entry.historical else JOB,
                position=entry.position if fresh else ws.position,
                due_at=rules.now + (IMPORT_DELAY if entry.historical else timedelta()),
                live=True,
                state="ready",
                entry=entry.id,
                args={"index": index, "ref": ref},
            )
        )


# --- what came of it -----------------------------------------------------------------------------


def result_for(entry: Entry, result: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the amendment's data, and the blobs that nobody needs once it is folded in."""
    told = msgspec.convert(result["media"], Media)
    before = _by_ref(entry, told.vendor_ref)
    source = source_of(told)
    if told.state is not MediaState.READY and before is not None:
        keeps = bool(result.get("keep_source"))
        told = replace(
            before,
            state=told.state,
            reason=told.reason,
            scan=told.scan,
            blob=before.blob if keeps else None,
        )
        source = None if keeps else source
    data = {"index": result["index"], "media": msgspec.to_builtins(told)}
    return data, [source] if source is not None else []


def _by_ref(entry: Entry, ref: str | None) -> Media | None:
    for part in entry.parts:
        if isinstance(part, MEDIA_PARTS) and part.media.vendor_ref == ref:
            return part.media
    return None


def tell_tickets(ws: Workspace, rules: Rules, entry: Entry, cause: str) -> None:
    """When the last file of a message has ended, its tickets are told of all of them."""
    over = not pending(entry.parts) and not entry.recalled
    if not over or entry.conversation is None or entry.historical:
        return
    conversation = ws.need(Conversation, entry.conversation)
    for backend in conversation.backends:
        ticket_job(
            ws, rules, conversation, backend, "media", f"{cause}|media|{backend}", entry=entry.id
        )


# --- what nobody needs ---------------------------------------------------------------------------


def unneeded(draft: Message, known: Entry | None) -> list[str]:
    """Return the blobs of a message that makes no entry, but for those that ``known`` has."""
    kept = set(blobs_in(msgspec.to_builtins((known.parts, known.data)))) if known else set()
    theirs = blobs_in(msgspec.to_builtins(draft.parts))
    return [blob for blob in dict.fromkeys(theirs) if blob not in kept]


def drop_blobs(ws: Workspace, rules: Rules, cause: str, blobs: Iterable[str]) -> None:
    """Make the job that takes blobs away which no entry names; doing it twice is harmless."""
    doomed = list(dict.fromkeys(blobs))
    ident = rules.key.hashed("job", f"{cause}|blobs")
    if not doomed or ws.get(Job, ident) is not None:
        return
    ws.new(
        Job(
            id=ident,
            lane=f"blobs:{ident[4:]}",
            kind="erase",
            task="blobs",
            position=ws.position,
            due_at=rules.now,
            live=True,
            state="ready",
            args={"blobs": doomed},
        )
    )


def blobs_in(value: Any) -> list[str]:
    """Return every blob that is named somewhere in there: media, thumbnails, older revisions."""
    if isinstance(value, dict):
        own = [value["blob"]] if isinstance(value.get("blob"), str) else []
        return own + [blob for each in value.values() for blob in blobs_in(each)]
    if isinstance(value, list | tuple):
        return [blob for each in value for blob in blobs_in(each)]
    return []


def repeated(
    ws: Workspace, rules: Rules, item: InboxItem, draft: Message, known: Entry | None
) -> None:
    """A message that is known, or came too late, brought files along that nobody will name."""
    if any(isinstance(part, MEDIA_PARTS) and part.media.blob for part in draft.parts):
        drop_blobs(ws, rules, f"{item.id}|{draft.key}", unneeded(draft, known))
