"""From an answer to the bytes of a mail: own serialisation, threaded, free of injection.

The standard library folds a Message-ID longer than its line into encoded words, which destroys
threading (so Outlook's long ids would). The ids are therefore written here, one to a line, and
only the rest by the library; with a longer line for all headers it would make encoded words
that no client reads.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from typing import Any

import msgspec

from connectors.mail.settings import MailSettings
from hub import Outgoing
from normalizer.addresses import parse_address
from normalizer.media import file_name, mime_type
from normalizer.outcomes import Rejected, Unreachable, Unsupported
from normalizer.parts import MEDIA_PARTS, Link, Media, Text
from normalizer.text import clean_line

SENDS = frozenset({"text", "link", "image", "audio", "video", "file"})
MAX_REFERENCES = 21  # the first, which names the thread, and the last twenty
SUBJECT_CHARS = 60  # of a first mail that has none
PREFIX = re.compile(r"\s*(?:re|aw|sv|antw|回复|答复|回覆|返信)(?:\[\d+\])?\s*[:：]", re.IGNORECASE)
_ID = re.compile(r"<[!-;=?-~]{1,900}>")
_NO_REPLY = re.compile(r"(mailer-daemon|postmaster|no-?reply|do-?not-?reply)(\+|@)")


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    media: Media
    data: bytes


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A mail as it goes to the server. ``sender`` "" is the null sender of automatic mails."""

    message_id: str
    sender: str
    recipient: str
    data: bytes
    utf8: bool = False  # needs SMTPUTF8


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What finds an answer again: its id, and addresses of one's own ("" = not used)."""

    message_id: str
    reply_to: str = ""
    bounce: str = ""


def refuse_unsendable(settings: MailSettings, message: Outgoing) -> None:
    """Raise what keeps a message from ever being a mail."""
    if not settings.smtp_host:
        raise Unsupported("this account cannot send: smtp_host is not set")
    for part in message.parts:
        kind = str(part.__struct_config__.tag)
        if kind not in SENDS:
            raise Unsupported(f"a mail carries no {kind} part")
    if not message.parts:
        raise Rejected("a mail needs a text or a file")
    recipient = parse_address(message.address)
    if recipient.scheme != "mail":
        raise Unsupported("this address is no mailbox")
    if recipient.kind not in ("mailbox", "unverified"):
        raise Unreachable("whoever wrote this gave no address to answer to")
    if message.automatic:
        answered = message.answers.data if message.answers is not None else {}
        if answered.get("automatic_because") or _NO_REPLY.match(recipient.id):
            raise Unreachable("an automatic mail never answers an automatic sender")


def compose(
    settings: MailSettings,
    message: Outgoing,
    attachments: Sequence[Attachment],
    *,
    instance: str,
    tokens: Tokens,
    now: datetime,
) -> Envelope:
    """Return the mail of a message that :func:`refuse_unsendable` let pass."""
    recipient = parse_address(message.address).id
    utf8 = not recipient.isascii()
    mail = EmailMessage(policy=SMTPUTF8 if utf8 else SMTP.clone(cte_type="7bit"))
    local, _, domain = settings.own_address.rpartition("@")
    mail["From"] = HeaderAddress(_sender_name(settings, message), local, domain)
    local, _, domain = recipient.rpartition("@")
    mail["To"] = HeaderAddress("", local, domain)
    mail["Subject"] = _subject(message)
    mail["Date"] = format_datetime(now)
    mail["X-Hub-Instance"] = instance
    if message.automatic:
        replied = message.answers is not None
        mail["Auto-Submitted"] = "auto-replied" if replied else "auto-generated"
        mail["X-Auto-Response-Suppress"] = "All"
        mail["Precedence"] = "bulk"
    _add_content(mail, message, attachments)
    own = settings.own_address
    return Envelope(
        message_id=tokens.message_id,
        sender="" if message.automatic else tokens.bounce or own,
        recipient=recipient,
        data=_ids(message, tokens) + mail.as_bytes(),
        utf8=utf8,
    )


# --- headers -------------------------------------------------------------------------------------


def _ids(message: Outgoing, tokens: Tokens) -> bytes:
    answered: Mapping[str, Any] = message.answers.data if message.answers is not None else {}
    lines = [f"Message-ID: {tokens.message_id}"]
    last = _found(answered.get("message_id"))[-1:]
    if last:
        lines.append(f"In-Reply-To: {last[0]}")
    chain = list(dict.fromkeys([*_found(answered.get("references")), *last]))
    if len(chain) > MAX_REFERENCES:
        chain = [chain[0], *chain[-(MAX_REFERENCES - 1) :]]
    if chain:
        lines.append("References: " + "\r\n ".join(chain))
    if tokens.reply_to:
        lines.append(f"Reply-To: {tokens.reply_to}")
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def _found(ids: Any) -> list[str]:
    """Return the Message-IDs in a text or list; whatever else is in there does not matter."""
    if isinstance(ids, list | tuple):
        ids = " ".join(each for each in ids if isinstance(each, str))
    return _ID.findall(ids) if isinstance(ids, str) else []


def _subject(message: Outgoing) -> str:
    subject = clean_line(message.subject, 300).strip()
    answered = message.answers
    if not subject and answered is not None:
        subject = clean_line(answered.subject, 300).strip()
        if not PREFIX.match(subject):
            subject = f"Re: {subject}".strip()
    if not subject:
        texts = [part.text.strip() for part in message.parts if isinstance(part, Text)]
        first = texts[0].partition("\n")[0] if texts else ""
        subject = clean_line(first, SUBJECT_CHARS)
    return subject


def _sender_name(settings: MailSettings, message: Outgoing) -> str:
    names = (clean_line(message.sender_name, 100), clean_line(settings.name, 100))
    return " - ".join(name for name in names if name)


# --- content -------------------------------------------------------------------------------------


def _add_content(mail: EmailMessage, message: Outgoing, attachments: Sequence[Attachment]) -> None:
    lines = []
    for part in message.parts:
        match part:
            case Text():
                lines.append(part.text)
            case Link():
                lines.append("\n".join(filter(None, (part.title, part.url, part.text))))
            case _:
                pass  # a file, attached below
    text = "\n\n".join(lines).encode("utf-8", "replace").decode()
    if text or not attachments:
        mail.set_content(text, charset="utf-8")
        mail.add_alternative(_html(text), subtype="html", charset="utf-8")
    for each in attachments:
        main, _, sub = mime_type(each.media.mime).partition("/")
        if main in ("message", "multipart"):
            main, sub = "application", "octet-stream"  # they would have to stand unencoded
        name = file_name(each.media.name or "file")
        mail.add_attachment(each.data, maintype=main, subtype=sub, filename=name)


# What RFC 3986 allows: Chinese text goes on behind an address without a blank.
_URL = re.compile(r"https?://[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]{1,2000}")
_INDENTED = re.compile(r"^ |(?<= ) ", re.MULTILINE)


def _html(text: str) -> str:
    body = []
    position = 0
    for found in _URL.finditer(text):
        bare = _without_the_sentence_s(found.group())
        url = html.escape(bare)
        body += [html.escape(text[position : found.start()]), f'<a href="{url}">{url}</a>']
        position = found.start() + len(bare)
    body.append(html.escape(text[position:]))
    indented = _INDENTED.sub("\N{NO-BREAK SPACE}", "".join(body))
    lines = indented.replace("\n", "<br>\n")
    return f"<html><body><div>{lines}</div></body></html>\n"


def _without_the_sentence_s(url: str) -> str:
    """Return an address without the full stop or bracket of the sentence around it."""
    while url:
        bare = url.rstrip(".,;:!?'*")
        if bare.endswith(")") and bare.count("(") < bare.count(")"):
            bare = bare[:-1]
        if bare == url:
            return url
        url = bare
    return url


def files_of(message: Outgoing) -> list[Media]:
    """Return the files to attach, in order."""
    return [part.media for part in message.parts if isinstance(part, MEDIA_PARTS)]
