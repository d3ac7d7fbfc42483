"""What leads an answer or a bounce back to its thread or message: ids and addresses of our own."""

from __future__ import annotations

import hashlib
import re

from connectors.mail.composing import Tokens
from connectors.mail.reading.tokens import bounce_token, message_id, reply_token
from connectors.mail.settings import MailSettings
from hub import Outgoing

_ID = re.compile(r"[a-z0-9_]{1,40}\Z")


def message_id_for(settings: MailSettings, message: Outgoing, key: bytes) -> str:
    """Return the Message-ID of a message: the same on every attempt, known before the first.

    It names entry and thread, so that an answer finds both even where nothing else survives.
    """
    if _ID.match(message.entry) and _ID.match(message.thread):
        return message_id(message.entry, message.thread, settings.domain, key)
    digest = hashlib.sha256(f"{message.entry}|{message.key}".encode()).hexdigest()[:40]
    return f"<hub.{digest}@{settings.domain}>"


def tokens_for(settings: MailSettings, message: Outgoing, key: bytes) -> Tokens:
    """Return the tokens that the account's server can deliver, for one message."""
    reply = settings.reply_token and _ID.match(message.thread)
    bounce = settings.bounce_token and _ID.match(message.entry)
    return Tokens(
        message_id=message_id_for(settings, message, key),
        reply_to=_tagged(settings, reply_token(message.thread, key)) if reply else "",
        bounce=_tagged(settings, bounce_token(message.entry, key)) if bounce else "",
    )


def _tagged(settings: MailSettings, token: str) -> str:
    local, _, domain = settings.own_address.rpartition("@")
    return f"{local}+{token}@{domain}"
