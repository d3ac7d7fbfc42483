"""Mails as customers write them, for ``omniline simulate``: sent to the account's own mailbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid

from connectors.mail.composing import Envelope

CUSTOMER = "Simulated Customer <simulated.customer@example.com>"


def question() -> EmailMessage:
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = "订单 SF1024 什么时候发货？"
    mail.set_content("在吗？我想问一下订单 SF1024 什么时候发货 😀\n\nLi Wei\n")
    return mail


def answer_with_a_picture() -> EmailMessage:
    """Both kinds of text, what was answered below it, and a file."""
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = "Re: Your parcel"
    mail.set_content("The box is broken, see the picture.\n\n> Your parcel has arrived.\n")
    mail.add_alternative(
        "<p>The box is <b>broken</b>, see the picture.</p>"
        "<blockquote>Your parcel has arrived.</blockquote>",
        subtype="html",
    )
    mail.add_attachment(_DOT, maintype="image", subtype="gif", filename="箱子.gif")
    return mail


_DOT = bytes.fromhex(
    "47494638396101000100800000c0392b00000021f90400000000002c00000000010001000002024401003b"
)
SAMPLES: Mapping[str, Callable[[], EmailMessage]] = {
    "question": question,
    "picture": answer_with_a_picture,
}


def envelope(name: str, mailbox: str, now: datetime) -> Envelope:
    """Return a sample as it goes to the account's submission server.

    Servers let an account send in its own name only: that stands on the envelope.
    """
    mail = SAMPLES[name]()
    mail["From"] = CUSTOMER
    mail["To"] = mailbox
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = ident = make_msgid(domain="example.com")
    return Envelope(
        message_id=ident, sender=mailbox, recipient=mailbox, data=mail.as_bytes(), utf8=False
    )
