"""Who calls: a number, an address of a softphone, or somebody who does not say.

A caller id proves nothing: carriers pass on what they are told. So it is `seen`, never more.
"""

from __future__ import annotations

import re

from normalizer.addresses import Address, phone

CHANNEL = "ivr"
WITHHELD_WORDS = frozenset(
    {"", "anonymous", "restricted", "unavailable", "unknown", "private", "blocked", "withheld"}
)
# How carriers spell ANONYMOUS, UNAVAILABLE, UNKNOWN, BLOCKED and RESTRICTED on a keypad. Two of
# them begin like Chinese numbers.
WITHHELD_NUMBERS = frozenset({"+266696687", "+86282452253", "+8656696", "+2562533", "+7378742833"})
_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f]")


def is_withheld(caller: str) -> bool:
    """Say whether ``From`` stands for a caller who does not show a number."""
    text = _CONTROL.sub("", caller)
    bare = "+" + text.lstrip("+") if text.lstrip("+").isdigit() else text
    return text.lower() in WITHHELD_WORDS or bare in WITHHELD_NUMBERS


def caller_address(caller: str, call: str, account: str) -> Address:
    """Return where a caller is reached. Who shows no number is somebody else in every call."""
    if is_withheld(caller):
        return Address(scheme=CHANNEL, account=account, kind="anonymous", id=call)
    for kind in ("client", "sip"):
        if caller.startswith(f"{kind}:"):
            return Address(scheme=CHANNEL, account=account, kind=kind, id=_bounded(caller))
    # A number without its country's code is not completed: of whom would it be?
    found = phone(caller) if caller.lstrip().startswith("+") else None
    if found is not None:
        return found
    return Address(scheme=CHANNEL, account=account, kind="caller", id=_bounded(caller))


def can_be_called(caller: str) -> str:
    """Return a caller's number in E.164, or nothing where there is none to call back."""
    if is_withheld(caller):
        return ""
    found = phone(caller) if caller.lstrip().startswith("+") else None
    return found.id if found is not None else ""


def typed_number(digits: str, region: str) -> str:
    """Return a number that was typed on the phone in E.164, or nothing for what is none.

    ``region`` (ISO 3166-1 alpha-2) is the country of a number without a country code.
    """
    found = phone(digits, region)
    return found.id if found is not None and not is_withheld(found.id) else ""


def spaced(digits: str) -> str:
    """Return digits as they are read out one by one, and not as a quantity."""
    return " ".join(digits)


def _bounded(text: str) -> str:
    return _CONTROL.sub("", text)[:200] or "unknown"
