"""From the bytes of a mail to drafts: pure, bounded, and never surprised.

Read in this order: :mod:`limits`, :mod:`charsets`, :mod:`headers`, :mod:`structure` and
:mod:`transfer` (what the bytes are), :mod:`content` with :mod:`invites`, :mod:`tnef` and
:mod:`enclosed` (what the mail says), :mod:`trust` (who says it), :mod:`automatic`,
:mod:`threads`, :mod:`tokens`, :mod:`dates` and :mod:`bounces` (what it is about), and
:mod:`reader`, which ties them together.

The sheet is contracts/email.md sections 2 to 7. How MIME is taken apart is our own, because what
hostile mail does to the standard library's parser cannot be bounded from outside; see
docs/decisions/0014-mail-is-read-in-place.md.
"""

from __future__ import annotations

from connectors.mail.reading.content import MailFile
from connectors.mail.reading.limits import MAX_MAIL_BYTES, MailRefused
from connectors.mail.reading.reader import Box, ReadMail, read_headers, read_mail
from connectors.mail.reading.tokens import (
    bounce_token,
    message_id,
    read_bounce_token,
    read_message_id,
    read_reply_token,
    reply_token,
)

__all__ = [
    "MAX_MAIL_BYTES",
    "Box",
    "MailFile",
    "MailRefused",
    "ReadMail",
    "bounce_token",
    "message_id",
    "read_bounce_token",
    "read_headers",
    "read_mail",
    "read_message_id",
    "read_reply_token",
    "reply_token",
]
