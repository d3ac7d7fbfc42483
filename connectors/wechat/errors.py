"""What WeChat's error codes mean, in the hub's closed list of failures.

WeChat answers 200 to everything; the word is ``errcode`` in the body (contracts: section 7).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone

from normalizer.outcomes import (
    Failure,
    Gone,
    Misconfigured,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
)

TOKEN_REFUSED = frozenset({40001, 40014, 42001})
MEDIA_UNKNOWN = 40007
DAILY_QUOTA = 45009  # of the call that was made: each has a quota of its own
DUPLICATE = 45065  # of a client_msg_id: it was sent before
NOT_ALLOWED = frozenset({48001, 48008, 50001})
RESTRICTED = frozenset({48004, 50002})  # for a violation: the whole account, or one call of it
BUSY = -1
A_MINUTE_S = 60.0
CHINA = timezone(timedelta(hours=8))  # quotas begin anew at midnight there

ANOTHER_SYSTEM = (
    "another system refreshes this token: the access token was refused three times in ten minutes."
    " Let one system alone fetch it: set token_server here, or serve_token here and let the other"
    " system fetch it from the hub, and take the AppSecret out of it"
)
NO_RIGHT = (
    "WeChat does not allow this call to the account: have the account verified. Without the right"
    ' to customer-service messages set rights = "passive": customers get nothing but passive_reply,'
    " within 5 seconds, and templates"
)

Make = Callable[[str, str], Failure]

_RID = re.compile(r"\s*rid:\s*([0-9A-Za-z-]{1,64})\s*")
_ADDRESS = re.compile(r"\b(\d{1,3}(?:\.\d{1,3}){3})\b")


def _told(kind: type[Failure], reason: str, code: str = "") -> Make:
    return lambda said, number: kind(f"{reason} ({number}: {said})", code=code or number)


def _not_on_list(said: str, number: str) -> Failure:
    found = _ADDRESS.search(said)
    host = found[1] if found else "of this hub"
    return Misconfigured(
        f"WeChat takes no calls from the address {host}: put it on the IP allow-list of the"
        " account (Basic configuration, in the console)",
        code=number,
    )


_CONFIG = _told(Misconfigured, "WeChat refuses appid or app_secret: look at both in the console")
_STRANGER = _told(
    Unreachable, "WeChat knows no such person on this account: OpenIDs are of one account each"
)
_NOT_FOLLOWING = _told(
    Unreachable, "this person does not follow the account any more", "not_following"
)
_BLOCKED = _told(Unreachable, "this person takes no messages of the account", "user_blocked")
_TOO_LARGE = _told(Rejected, "this is too long or too large for WeChat")
_MEDIA = _told(Rejected, "WeChat does not take this file")
_MALFORMED = _told(Rejected, "WeChat could not read the message: tell the makers of the hub")
_RIGHTS = _told(Misconfigured, NO_RIGHT)
_RESTRICTED = _told(
    Misconfigured, "WeChat has restricted the account for a violation: look into its console"
)

TABLE: Mapping[int, Make] = {
    -1: _told(Temporary, "WeChat is busy"),
    **dict.fromkeys((40013, 40125, 41002, 41004), _CONFIG),
    **dict.fromkeys((40164, 61004), _not_on_list),
    **dict.fromkeys((40003, 46004), _STRANGER),
    **dict.fromkeys((43004, 50005), _NOT_FOLLOWING),
    **dict.fromkeys((43019, 48002), _BLOCKED),
    45015: _told(
        Unreachable,
        "too long ago that this person did something: send a template, or wait until they write",
        "window_closed",
    ),
    45047: _told(
        Unreachable,
        "no more messages until this person does something: send a template, or wait",
        "window_spent",
    ),
    **dict.fromkeys((45001, 45002, 45007, 45008), _TOO_LARGE),
    **dict.fromkeys((40004, 40005, 40006, 40008, 40009, 40010, 40011, 40012, 40137), _MEDIA),
    40007: _told(Gone, "WeChat no longer has the file, or never had it"),
    **dict.fromkeys((40033, 44002, 44003, 44004, 47001), _MALFORMED),
    47003: _told(Rejected, "the values do not fit the template's blanks"),
    43101: _told(Unreachable, "this person refused this kind of message", "refused_by_the_person"),
    45066: lambda said, number: RateLimited(
        # Of this one message's key: nobody else has to wait.
        "WeChat asks to wait a minute",
        retry_after=A_MINUTE_S,
        scope="address",
        code=number,
    ),
    45067: _MALFORMED,
    **dict.fromkeys(sorted(NOT_ALLOWED), _RIGHTS),
    **dict.fromkeys(sorted(RESTRICTED), _RESTRICTED),
    87009: _told(Misconfigured, "WeChat refuses the signature of our API calls"),
    **dict.fromkeys(
        sorted(TOKEN_REFUSED), _told(Misconfigured, "WeChat refuses a token it has just issued")
    ),
}


def failure(number: int, said: str, now: datetime) -> Failure:
    """Return what an errcode means; ``said`` is errmsg without secrets. Others are refusals."""
    said = without_rid(said)[:200]
    code = str(number)
    if number == DAILY_QUOTA:
        return RateLimited(
            "the account's calls for today are used up: its quota begins anew at midnight in China",
            retry_after=until_midnight_s(now),
            code=code,
        )
    if number == 45011:
        return RateLimited("too many calls in a minute", retry_after=A_MINUTE_S, code=code)
    make = TABLE.get(number)
    return make(said, code) if make else Rejected(f"WeChat refused: {said} ({code})", code=code)


def until_midnight_s(now: datetime) -> float:
    """Return the seconds until the vendor's next day."""
    there = now.astimezone(CHINA)
    midnight = (there + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return max(A_MINUTE_S, (midnight - there).total_seconds())


def rid(said: str) -> str:
    """Return the request's id at WeChat, which its support asks for; "" if there is none."""
    found = _RID.search(said)
    return found[1] if found else ""


def without_rid(said: str) -> str:
    return _RID.sub(" ", said).strip()
