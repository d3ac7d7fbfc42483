"""The Sent folder, from our side: copies of what the hub sent, and looking up what is in doubt."""

from __future__ import annotations

import asyncio

import structlog

from connectors.mail.composing import Envelope
from connectors.mail.held import Mailbox
from normalizer.outcomes import Accepted, Failure, Temporary, Unsupported

log = structlog.get_logger(__name__)

COPY_S = 15.0  # a copy is not worth holding up the next answer for longer


async def save_copy(mailbox: Mailbox, envelope: Envelope) -> None:
    """Put a copy of an accepted mail into Sent. A failure is told in the log only: it was sent."""
    try:
        async with asyncio.timeout(COPY_S):
            imap = await mailbox.open()
            try:
                folder = await mailbox.sent_folder(imap)
                if folder:
                    await imap.append(folder, envelope.data)
            finally:
                await imap.close()
    except (Failure, TimeoutError) as error:
        log.warning("sent_copy_not_saved", reason=getattr(error, "reason", "it took too long"))


async def find(mailbox: Mailbox, message_id: str) -> Accepted:
    """Return the mail in doubt if it is in Sent.

    Raises Unsupported where the server has no Sent folder, and Temporary while the mail is not
    in it: that never says that it was not sent, because the copy is made later or not at all.
    So a mail in doubt is never sent again by itself.
    """
    imap = await mailbox.open()
    try:
        folder = await mailbox.sent_folder(imap)
        if not folder:
            raise Unsupported("the mailbox has no Sent folder to look it up in")
        await imap.select(folder)
        if await imap.uids_with_id(message_id):
            return Accepted(vendor_ids=(message_id,))
    finally:
        await imap.close()
    raise Temporary("it is not in the Sent folder, which does not say that it was not sent")
