"""From a mail's bytes to what the hub takes in: read, keep the files, say what could not be read.

Files go into the blob store before the mail is delivered. If the process dies in between, the
mail comes again with new blobs, and the hub takes the first ones away some time later.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
import structlog
from msgspec.structs import replace

from connectors.mail.parse_child import Task
from connectors.mail.parsing import ParseError, Parser
from connectors.mail.reading import MAX_MAIL_BYTES, Box, MailFile
from connectors.mail.settings import MailSettings
from hub import Clock, ConnectorContext, Incoming
from normalizer.parts import Media

log = structlog.get_logger(__name__)


class Stub(msgspec.Struct, frozen=True, kw_only=True):
    """What is fetched of a mail that is too large. ``size`` is the whole mail's, in bytes."""

    headers: bytes
    size: int
    internal_date: datetime | None
    beginning: bytes = b""  # of its first text
    beginning_headers: bytes = b""  # that part's own


_FOLDER = b"X-Hub-Folder: "  # in front of the head of a kept mail; below, anybody may write it


def kept(raw: bytes, folder: str) -> bytes:
    """Return a mail that cannot be read now as it is kept, so that it can be read later."""
    return _FOLDER + folder.encode("ascii") + b"\r\n" + raw


def unkept(raw: bytes) -> tuple[bytes, str]:
    """Return a mail and the folder it was kept with, "" for one that was not kept by the hub."""
    line, _, rest = raw.partition(b"\r\n")
    folder = line.removeprefix(_FOLDER) if line.startswith(_FOLDER) else b""
    return (rest, folder.decode("ascii")) if folder in (b"inbox", b"sent") else (raw, "")


class Taker:
    """Makes :class:`hub.Incoming` of mails, whatever they hold."""

    def __init__(self, settings: MailSettings, context: ConnectorContext, parser: Parser) -> None:
        self._settings = settings
        self._context = context
        self._parser = parser
        self.box = Box(
            own=settings.own,
            authserv_ids=frozenset(settings.authserv_ids),
            reply_key=context.secret("reply-token"),
            instance=instance_of(context),
        )

    @property
    def clock(self) -> Clock:
        return self._context.clock

    async def take(
        self, raw: bytes, *, folder: str, internal_date: datetime | None
    ) -> Incoming | None:
        """Return what to deliver; None for a mail that the hub itself wrote.

        What cannot be read becomes ``Incoming(failed=...)``. Raises what the blob store raises.
        """
        return await self._read(self._task(raw, folder, internal_date))

    async def take_stub(self, stub: Stub, *, folder: str) -> Incoming | None:
        """Return a note for a mail that is too large to fetch; None as for :meth:`take`."""
        task = replace(
            self._task(stub.headers, folder, stub.internal_date),
            size=stub.size,
            beginning=stub.beginning,
            beginning_headers=stub.beginning_headers,
        )
        return await self._read(task)

    def _task(self, raw: bytes, folder: str, internal_date: datetime | None) -> Task:
        return Task(
            raw=raw,
            box=self._box(folder),
            received_at=self.clock.now(),
            internal_date=internal_date,
        )

    async def _read(self, task: Task) -> Incoming | None:
        try:
            mail = await self._parser.read(task)
        except ParseError as error:
            return Incoming(drafts=(), raw=kept(task.raw, task.box.folder), failed=str(error))
        if mail.own or not mail.drafts:
            log.debug("mail_passed", own=mail.own)
            return None
        if mail.files:
            blobs = {each.ref: await self._put(each) for each in mail.files}
            mail = mail.with_blobs(blobs)
        return Incoming(drafts=mail.drafts, raw=task.raw)

    def _box(self, folder: str) -> Box:
        return Box(
            own=self.box.own,
            authserv_ids=self.box.authserv_ids,
            reply_key=self.box.reply_key,
            instance=self.box.instance,
            folder=folder,
            # Above its own bound only the head of a mail is fetched: what is here is to be read.
            max_mail_bytes=max(self._settings.limits.mail_bytes, MAX_MAIL_BYTES),
        )

    async def _put(self, file: MailFile) -> str:
        media: Media = file.media
        metadata = {"kind": "mail", "name": media.name, "mime": media.mime}
        return await self._context.store_file(file.data, metadata)


def instance_of(context: ConnectorContext) -> str:
    """Return what this account writes into X-Hub-Instance: a name, not a secret."""
    return context.secret("instance").hex()[:16]
