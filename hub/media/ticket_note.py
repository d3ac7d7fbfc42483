"""What a ticket is told when the files of a message have all ended: stored, or with a reason."""

from __future__ import annotations

from datetime import datetime

from hub.documents import Entry
from hub.media.downloads import megabytes
from normalizer.parts import MEDIA_PARTS, Media, MediaState
from normalizer.tickets import Attachment, TicketEntry

_WORDS = {
    MediaState.PENDING: "is still being fetched",
    MediaState.REJECTED: "was refused",
    MediaState.LOST: "could not be fetched",
}


def files_note(entry: Entry, key: str, at: datetime, files_url: str) -> TicketEntry:
    """Return an internal note with the files of ``entry``, and with links where there is a URL.

    The message itself was on the ticket before: it does not wait for its files.
    """
    files = [part.media for part in entry.parts if isinstance(part, MEDIA_PARTS)]
    return TicketEntry(
        key=key,
        author="system",
        channel=entry.channel,
        occurred_at=at,
        text="\n".join(["Files of the message:", *(f"- {_line(media)}" for media in files)]),
        internal=True,
        attachments=tuple(
            Attachment(
                filename=media.name or media.blob,
                content_type=media.mime,
                size=media.size or 0,
                url=f"{files_url}/api/v1/attachments/{media.blob}?entry={entry.id}",
            )
            for media in files
            if files_url and media.state is MediaState.READY and media.blob
        ),
    )


def _line(media: Media) -> str:
    name = media.name or "a file without a name"
    if media.state is MediaState.READY:
        size = f", {megabytes(media.size)}" if media.size is not None else ""
        said = f" ({media.reason})" if media.reason else ""
        return f"{name}: {media.mime}{size}{said}"
    reason = f": {media.reason}" if media.reason else ""
    return f"{name} {_WORDS[media.state]}{reason}"
