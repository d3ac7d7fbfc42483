"""The mail channel's connector: one mailbox, read by IMAP and answered by SMTP."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar

import msgspec

from connectors.mail import autoreplies, checking, composing, history, samples, sent
from connectors.mail.composing import Attachment, Envelope
from connectors.mail.held import Holding, Mailbox
from connectors.mail.imap import tls_context
from connectors.mail.logins import Logins
from connectors.mail.outcomes import LoginBrake
from connectors.mail.parsing import Parser
from connectors.mail.reading import read_mail
from connectors.mail.settings import MailSettings, insecurities
from connectors.mail.smtp import Submission
from connectors.mail.taking import Taker, instance_of, unkept
from connectors.mail.tokens import message_id_for, tokens_for
from hub import (
    Account,
    Connector,
    ConnectorContext,
    Deliver,
    Incoming,
    Outgoing,
    Polled,
    Refused,
    Request,
    StoreError,
    Verified,
)
from normalizer.addresses import mailbox
from normalizer.capabilities import Capabilities
from normalizer.drafts import AnyDraft
from normalizer.outcomes import Accepted, Misconfigured, Rejected, Temporary
from normalizer.parts import Text

MAX_FILES_BYTES = 25_000_000  # of one mail, before base64 makes a third more of it


class MailConnector(Connector[MailSettings]):
    """One mailbox."""

    channel: ClassVar[str] = "mail"
    settings: ClassVar[type[msgspec.Struct]] = MailSettings
    capabilities: ClassVar[Capabilities] = Capabilities(
        sends=composing.SENDS,
        max_text_chars=100_000,
        max_parts=50,
        max_media_bytes=MAX_FILES_BYTES,
        threads=True,
        delivery_receipts=True,
        returns=3,
        conversation="thread",
        reaches=frozenset({"mail"}),  # also a mailbox that a login named, and that never wrote
    )

    def __init__(self, account: Account[MailSettings], context: ConnectorContext) -> None:
        super().__init__(account, context)
        settings = account.settings
        self._tls: ssl.SSLContext | None = None
        self._parser = Parser(settings.limits.parse_s)
        self._taker = Taker(settings, context, self._parser)
        self._logins = logins = Logins(settings, context)
        self._mailbox = Mailbox(settings, self._imap_tls, logins, LoginBrake(context.clock))
        self._submission = Submission(settings, self._smtp_tls, logins, LoginBrake(context.clock))

    # --- there is no webhook -------------------------------------------------------------------

    def verify(self, request: Request) -> Verified:
        raise Refused("mail has no webhook", status=404)

    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        """Read a mail without its files; what a hub keeps of one is for ``read_history``."""
        return read_mail(
            verified.payload, box=self._taker.box, received_at=verified.request.received_at
        ).drafts

    def check_settings(self) -> Sequence[str]:
        return tuple(insecurities(self.account.settings, insecure=self.account.insecure))

    # --- in ------------------------------------------------------------------------------------

    async def hold(self, cursor: str | None, deliver: Deliver) -> None:
        async with self._logins.kept_fresh():
            await Holding(self._mailbox, self._taker, cursor, deliver).run()

    async def history(self, since: datetime, cursor: str | None) -> Polled:
        return await history.page(self._mailbox, self._taker, since, cursor)

    async def read_history(self, raw: bytes, folder: str) -> Incoming:
        raw, was_in = unkept(raw)
        folder = folder or was_in or "inbox"
        taken = await self._taker.take(raw, folder=folder, internal_date=None)
        return taken if taken is not None else Incoming(drafts=())  # the hub's own: known already

    # --- out -----------------------------------------------------------------------------------

    async def send(self, message: Outgoing) -> Accepted:
        settings = self.account.settings
        composing.refuse_unsendable(settings, message)
        envelope = composing.compose(
            settings,
            message,
            await self._files(message),
            instance=instance_of(self.context),
            tokens=tokens_for(settings, message, self._taker.box.reply_key),
            now=self.context.clock.now(),
        )
        if message.automatic and message.answers is not None:
            await autoreplies.reserve(self.context, message)
        said = await self._submission.send(envelope)
        self.context.log.info("mail_accepted", entry=message.entry, queue=said)
        if settings.save_sent:
            await sent.save_copy(self._mailbox, envelope)
        return Accepted(vendor_ids=(envelope.message_id,), at=self.context.clock.now())

    async def find_sent(self, message: Outgoing) -> Accepted | None:
        key = self._taker.box.reply_key
        ident = message_id_for(self.account.settings, message, key)
        return await sent.find(self._mailbox, ident)

    async def _files(self, message: Outgoing) -> list[Attachment]:
        """Read the files of a message. Raises Rejected for too much or what is not there."""
        found: list[Attachment] = []
        size = 0
        for media in composing.files_of(message):
            if media.blob is None:
                raise Rejected(f"the file {media.name or 'of this answer'} is not in the store")
            size += media.size or 0
            if size <= MAX_FILES_BYTES:
                try:
                    data = await self.context.blobs.read(media.blob)
                except StoreError as error:
                    raise Temporary(f"a file of this answer cannot be read: {error}") from error
                found.append(Attachment(media=media, data=data))
                size += len(data) - (media.size or 0)
            if size > MAX_FILES_BYTES:
                raise Rejected(
                    f"the files have more than {MAX_FILES_BYTES} bytes: send a link instead",
                    code="5.3.4",
                )
        return found

    # --- life ----------------------------------------------------------------------------------

    async def check(self) -> Sequence[str]:
        settings = self.account.settings
        submission = self._submission if settings.smtp_host else None
        return await checking.problems(self._logins, self._mailbox, submission, self._probe())

    def warnings(self) -> Sequence[str]:
        said = self._logins.warning()
        return (said,) if said else ()

    async def simulate(self, sample: str = "") -> Mapping[str, str]:
        """Send samples to the mailbox itself, by its own submission server."""
        settings = self.account.settings
        if not settings.smtp_host:
            raise Misconfigured(
                f"smtp_host is not set: write to {settings.address} from any other mailbox"
            )
        done = {}
        for name in [each for each in samples.SAMPLES if sample in ("", each)]:
            mail = samples.envelope(name, settings.address, self.context.clock.now())
            done[name] = f"mailed to {settings.address}: {await self._submission.send(mail)}"
        return done

    async def stop(self) -> None:
        await self._logins.close()
        await self._submission.close()
        await self._parser.close()

    def _probe(self) -> Envelope | None:
        """Return a mail to oneself, marked as the hub's own, so that it never becomes an entry."""
        settings = self.account.settings
        if not (settings.check_sends and settings.smtp_host):
            return None
        now = self.context.clock.now()
        message = Outgoing(
            entry="",
            key=f"check_{now:%Y%m%d%H%M%S%f}",
            address=str(mailbox(settings.address)),
            parts=(Text(text="A check that this mailbox can send to itself. Delete it."),),
            subject="omniline check",
        )
        return composing.compose(
            settings,
            message,
            (),
            instance=instance_of(self.context),
            tokens=tokens_for(settings, message, self._taker.box.reply_key),
            now=now,
        )

    def _imap_tls(self) -> ssl.SSLContext | None:
        return None if self.account.settings.imap_tls == "none" else self._context()

    def _smtp_tls(self) -> ssl.SSLContext | None:
        return None if self.account.settings.smtp_tls == "none" else self._context()

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            try:
                self._tls = tls_context(self.account.settings.ca_file)
            except OSError as error:
                raise Misconfigured(f"ca_file cannot be read: {error.strerror}") from error
        return self._tls
