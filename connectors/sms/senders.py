"""Who wrote: a phone number that is a person's, or a name that only this account knows.

Short codes, service numbers and names such as ``ACME`` are no numbers of people. They become
addresses of the account (``sms:main:sender:10086``), which nothing ever merges, and which cannot
be answered.
"""

from __future__ import annotations

import hashlib

from normalizer.addresses import Address, phone
from normalizer.outcomes import Unreachable

WHATSAPP = "whatsapp"
_VIAS = (WHATSAPP, "messenger", "rcs")
MAX_NAME_CHARS = 64
NOBODY = "withheld"  # what an empty sender becomes


def split_via(text: str) -> tuple[str, str]:
    """Return (way, rest) of ``whatsapp:+86...``; the way of a plain number is "".

    The phone number parser drops such a prefix without a word, so it is cut off before.
    """
    way, colon, rest = text.strip().partition(":")
    return (way.lower(), rest) if colon and way.lower() in _VIAS else ("", text.strip())


def sender_address(text: str, account: str, *, region: str, international: bool) -> Address:
    """Return the address of whoever a message is from.

    ``international``: numbers come with a plus sign, so that one without it is a short code.
    ``region`` decides the others.
    """
    number = phone(text, region) if text.startswith("+") or not international else None
    if number is not None:
        return number
    name = "".join(char for char in text if char.isprintable()).strip() or NOBODY
    if len(name) > MAX_NAME_CHARS:  # nobody's name: still one sender of its own
        name = f"{name[:MAX_NAME_CHARS]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return Address(scheme="sms", account=account, kind="sender", id=name)


def number_of(address: Address) -> str:
    """Return the E.164 number to send to. Raises Unreachable for what is none."""
    if address.scheme == "tel":
        return address.id
    raise Unreachable(
        "a short code, a service number or a name cannot be answered by SMS: take another channel",
        code="no_number",
    )
