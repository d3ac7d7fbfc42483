"""Old mails for an import: by day of arrival, in pages that fit into memory, resumable.

The cursor names the folder, its UIDVALIDITY and the last UID. The Sent folder goes first: what
our side wrote names the mail it answers (References), so that customers' answers to it, which
often name nothing else, find their thread. Dedupe makes an interrupted page harmless.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from connectors.mail.folders import stub
from connectors.mail.held import Mailbox
from connectors.mail.imap import AT_ONCE, Head, Imap
from connectors.mail.taking import Taker
from hub import Incoming, Polled
from normalizer.outcomes import Failure, Rejected

PAGE = 50
PAGE_BYTES = 20_000_000


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where an import stands."""

    folder: str = "inbox"
    validity: int = 0
    uid: int = 0
    sent_first: bool = False  # an import that an older release began reads the inbox first


async def page(mailbox: Mailbox, taker: Taker, since: datetime, cursor: str | None) -> Polled:
    """Return the next page of what arrived at ``since`` or later."""
    try:
        place = _start(mailbox)
        if cursor is not None:
            place = msgspec.json.decode(cursor, type=Place)
    except msgspec.DecodeError as error:
        raise Rejected("this is no cursor of a mailbox's history: begin anew") from error
    imap = await mailbox.open()
    try:
        return await _page(imap, mailbox, taker, since, place)
    finally:
        await imap.close()


async def _page(
    imap: Imap, mailbox: Mailbox, taker: Taker, since: datetime, place: Place
) -> Polled:
    is_sent = place.folder == "sent"
    folder = await mailbox.sent_folder(imap) if is_sent else mailbox.settings.inbox
    if not folder:
        return _polled([], *_behind(place, place, mailbox))
    selected = await imap.select(folder)
    last = place.uid if place.validity == selected.uid_validity else 0
    day = (since - timedelta(days=1)).date()
    uids = [uid for uid in await imap.uids_since(day) if uid > last]
    chunk = uids[:AT_ONCE]
    heads = await imap.heads(chunk) if chunk else {}
    items: list[Incoming] = []
    taken = size = 0
    for uid in chunk:
        head = heads.get(uid)
        wanted = head is not None and (head.internal_date is None or head.internal_date >= since)
        if head is not None and wanted:
            if items and (len(items) >= PAGE or size + head.size > PAGE_BYTES):
                break
            item = await _item(imap, taker, head, mailbox.settings.limits.mail_bytes, place.folder)
            items += [item] if item is not None else []
            size += min(head.size, mailbox.settings.limits.mail_bytes)
        last = uid
        taken += 1
    here = replace(place, validity=selected.uid_validity, uid=last)
    if taken < len(uids):
        return _polled(items, here, True)
    return _polled(items, *_behind(place, here, mailbox))


def _start(mailbox: Mailbox) -> Place:
    sent_first = mailbox.settings.watch_sent
    return Place(folder="sent" if sent_first else "inbox", sent_first=sent_first)


def _behind(place: Place, here: Place, mailbox: Mailbox) -> tuple[Place, bool]:
    """Return where to go on behind a folder's end, and whether there is more."""
    if place.sent_first and place.folder == "sent":
        return Place(folder="inbox", sent_first=True), True
    if not place.sent_first and place.folder == "inbox" and mailbox.settings.watch_sent:
        return Place(folder="sent"), True
    return here, False


async def _item(
    imap: Imap, taker: Taker, head: Head, most_bytes: int, role: str
) -> Incoming | None:
    try:
        if head.size > most_bytes:
            return await taker.take_stub(await stub(imap, head), folder=role)
        raw = await imap.body(head.uid, head.size)
    except Failure as failure:
        if imap.broken:
            raise
        return Incoming(drafts=(), failed=f"UID {head.uid} cannot be fetched: {failure.reason}")
    if not raw:  # deleted meanwhile
        return None
    return await taker.take(raw, folder=role, internal_date=head.internal_date)


def _polled(items: list[Incoming], place: Place, more: bool) -> Polled:
    return Polled(items=items, cursor=msgspec.json.encode(place).decode(), more=more)
