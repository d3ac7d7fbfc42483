"""Twilio's error codes, and what the hub does about each.

From Twilio's error and warning dictionary, as contracts have it for messages and calls. Twilio
says that codes may be refined at any time, so an unknown one is a failure that is not repeated.
Codes other than 11205, 13338, 13617, 21213, 21214, 21610, 21612, 21614, 30003 and 30006 are
unverified.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from normalizer.outcomes import (
    Failure,
    Gone,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
)

RETRY_AFTER_S = 5.0  # where Twilio names no time; the hub adds jitter
MAX_RETRY_AFTER_S = 3600.0


class Kind(StrEnum):
    """What a code means for what was asked."""

    AUTH = "auth"  # credentials: nothing works until an operator acts
    CONFIG = "config"  # this can never work as the account is set up
    PERMANENT = "permanent"  # this can never work
    UNREACHABLE = "unreachable"  # this person cannot be reached here
    ENDED = "ended"  # what it was about is over
    RATE = "rate"  # too many at once
    RETRY = "retry"  # later
    RETRY_ONCE = "retry_once"  # later, once: after that it is permanent
    UNCLEAR = "unclear"  # Twilio failed: it may have been done


class Code(msgspec.Struct, frozen=True):
    """``means`` is what happened, ``do`` what the operator does about it."""

    kind: Kind
    means: str
    do: str = ""

    @property
    def permanent(self) -> bool:
        """The same message to the same person will fail again."""
        return self.kind not in _WORTH_ANOTHER_TRY

    @property
    def sentence(self) -> str:
        return f"{self.means}. {self.do}." if self.do else self.means


_WORTH_ANOTHER_TRY = frozenset({Kind.RATE, Kind.RETRY, Kind.RETRY_ONCE, Kind.UNCLEAR})
_NUMBER = "Look at the number under Phone Numbers in Twilio's console"
_GEO = "Allow the country under Geo permissions in Twilio's console"
_HOST = "Make the hub's public_url reachable from the internet, and look at its log"
_BUG = "Report it as a bug of the connector"

CODES: dict[int, Code] = {
    # --- both channels ---
    20001: Code(Kind.CONFIG, "Twilio refused a parameter", _BUG),
    20003: Code(
        Kind.AUTH, "Twilio refused the credentials", "Check account_sid and auth_token or api_key"
    ),
    20404: Code(Kind.CONFIG, "Twilio does not know the account or the resource"),
    20429: Code(Kind.RATE, "Too many requests at Twilio at once"),
    20500: Code(Kind.UNCLEAR, "Twilio had an internal error"),
    20503: Code(Kind.UNCLEAR, "Twilio's service was unavailable"),
    21211: Code(Kind.PERMANENT, "The recipient's number is not valid"),
    21217: Code(Kind.PERMANENT, "The recipient's number is not valid"),
    11200: Code(Kind.CONFIG, "Twilio got an HTTP error from a webhook", _HOST),
    11205: Code(Kind.CONFIG, "Twilio could not connect to a webhook within its time", _HOST),
    11206: Code(Kind.CONFIG, "Twilio could not read a webhook's HTTP answer", _HOST),
    12300: Code(Kind.CONFIG, "Twilio got an answer of the wrong content type", _HOST),
    # --- messages: creating them ---
    21408: Code(Kind.CONFIG, "Messages to this country are not enabled", _GEO),
    21601: Code(Kind.CONFIG, "The sending number cannot send messages", _NUMBER),
    21602: Code(Kind.CONFIG, "The message has no text"),
    21603: Code(Kind.CONFIG, "The sender is missing", "Set number or messaging_service_sid"),
    21604: Code(Kind.CONFIG, "The recipient is missing", _BUG),
    21605: Code(Kind.PERMANENT, "The text is too long", "Split it"),
    21606: Code(Kind.CONFIG, "The sending number is not this account's, or cannot send", _NUMBER),
    21610: Code(Kind.UNREACHABLE, "The recipient opted out of this number, until they send START"),
    21611: Code(Kind.RETRY, "The sending number's queue is full"),
    21612: Code(Kind.PERMANENT, "This sender cannot reach this recipient's network"),
    21614: Code(Kind.PERMANENT, "The recipient's number is a landline"),
    21617: Code(Kind.PERMANENT, "The text is too long", "Split it"),
    21620: Code(Kind.PERMANENT, "Twilio refused the address of a file", _HOST),
    21623: Code(Kind.PERMANENT, "Twilio could not fetch a file", _HOST),
    63016: Code(Kind.UNREACHABLE, "WhatsApp's 24-hour window is shut", "Send a template"),
    # --- messages: what became of them ---
    30001: Code(Kind.RETRY, "The message waited too long in Twilio's queue"),
    30002: Code(Kind.AUTH, "The Twilio account is suspended", "Write to Twilio's support"),
    30003: Code(Kind.RETRY_ONCE, "The handset is off or out of reach"),
    30004: Code(Kind.UNREACHABLE, "The recipient or their carrier blocks this sender"),
    30005: Code(Kind.PERMANENT, "The recipient's number is unknown"),
    30006: Code(Kind.PERMANENT, "The recipient is a landline, or their carrier is out of reach"),
    30007: Code(Kind.PERMANENT, "The carrier took the text for spam", "Review what it says"),
    30008: Code(Kind.RETRY_ONCE, "The carrier gave no reason"),
    30032: Code(Kind.CONFIG, "The toll-free number is not registered", "Register it at Twilio"),
    30034: Code(Kind.CONFIG, "The number is not registered for A2P 10DLC", "Register it at Twilio"),
    30036: Code(Kind.RETRY, "The message's time ran out before it was delivered"),
    # --- calls ---
    11100: Code(Kind.PERMANENT, "A URL in the call's document is not valid", _BUG),
    12100: Code(Kind.PERMANENT, "Twilio could not read the call's document", _BUG),
    12200: Code(Kind.PERMANENT, "The call's document breaks Twilio's schema", _BUG),
    13227: Code(Kind.CONFIG, "Calls to this destination are not enabled", _GEO),
    21201: Code(Kind.PERMANENT, "No number to call was given"),
    21210: Code(Kind.CONFIG, "The calling number is not verified", _NUMBER),
    21212: Code(Kind.CONFIG, "The calling number is not valid", _NUMBER),
    21213: Code(Kind.CONFIG, "The calling number is missing", _NUMBER),
    21214: Code(Kind.UNREACHABLE, "The number cannot be called for now"),
    21215: Code(Kind.CONFIG, "Calls to this country are not enabled", _GEO),
    21216: Code(Kind.CONFIG, "Calls to this number are blocked", _GEO),
    21220: Code(Kind.ENDED, "The call is over already"),
}

# Whole families that are not listed one by one: from, up to, what they mean.
FAMILIES: tuple[tuple[int, int, Code], ...] = (
    (13000, 13999, Code(Kind.PERMANENT, "Twilio could not carry out a step of the call", _BUG)),
    (20500, 20599, Code(Kind.UNCLEAR, "Twilio had an internal error")),
    (31200, 31299, Code(Kind.AUTH, "A browser phone's token is not valid any more")),
    (31000, 31999, Code(Kind.RETRY, "A browser phone lost its connection")),
    (32000, 32999, Code(Kind.RETRY_ONCE, "The SIP side failed", "Look at the SIP trunk")),
    (53000, 53999, Code(Kind.RETRY, "A browser phone lost its media")),
)
UNKNOWN = Code(Kind.PERMANENT, "Twilio gave a code that is not known here")

# SipResponseCode of a call that was not answered.
SIP: dict[int, Code] = {
    404: Code(Kind.PERMANENT, "The number is unknown"),
    480: Code(Kind.RETRY, "The phone is unavailable"),
    484: Code(Kind.PERMANENT, "The number is incomplete"),
    486: Code(Kind.RETRY, "The line is busy"),
    503: Code(Kind.RETRY, "The carrier has trouble"),
    603: Code(Kind.PERMANENT, "The call was declined"),
}


def look_up(code: int) -> Code:
    """Return what a code means; of one that nobody listed, that it is not repeated."""
    if code in CODES:
        return CODES[code]
    for first, last, family in FAMILIES:
        if first <= code <= last:
            return family
    return UNKNOWN


def failure(
    status: int,
    code: int | None,
    *,
    words: str = "",
    retry_after: str = "",
    changing: bool = True,
) -> Failure:
    """Return what an answer of the API means, as one of normalizer.outcomes' failures.

    ``words`` are Twilio's own, shown without numbers where the code says nothing. ``changing``:
    the call was to do something, so that a 5xx leaves it in doubt.
    """
    known = _known(status, code)
    number = str(code if code is not None else status)
    reason = known.sentence if known is not UNKNOWN else _reason(status, code, words)
    match known.kind:
        case Kind.AUTH:
            return Misconfigured(reason, code=number)
        case Kind.RATE:
            return RateLimited(reason, retry_after=_seconds(retry_after), code=number)
        case Kind.RETRY | Kind.RETRY_ONCE:
            return Temporary(reason, code=number)
        case Kind.UNCLEAR:
            return (OutcomeUnknown if changing else Temporary)(reason, code=number)
        case Kind.UNREACHABLE:
            return Unreachable(reason, code=number)
        case Kind.ENDED:
            return Gone(reason, code=number)
        case _:
            return Rejected(reason, code=number)


def _known(status: int, code: int | None) -> Code:
    if code is not None:
        found = look_up(code)
        if found is not UNKNOWN:
            return found
    if status >= 500:
        return Code(Kind.UNCLEAR, f"Twilio failed with status {status}")
    if status == 429:
        return CODES[20429]
    if status in (401, 403) and code is None:
        return CODES[20003]
    return UNKNOWN


def _reason(status: int, code: int | None, words: str) -> str:
    said = re.sub(r"\+?\d{5,}", "…", " ".join(words.split()))[:200]
    about = f"code {code}" if code is not None else f"status {status}"
    return f"Twilio refused it ({about}){': ' + said if said else ''}"


def _seconds(retry_after: str) -> float:
    if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 7:
        return min(max(float(retry_after), 1.0), MAX_RETRY_AFTER_S)
    return RETRY_AFTER_S
