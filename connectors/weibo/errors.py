"""What Weibo's errors mean.

They come as ``{"request", "error_code", "error"}``, mostly with HTTP 400 or 403 and sometimes with
200 (unverified), the code as a number or as a text: so the body is asked before the status. The
table of codes changed between copies of the page: where the words are known, they decide.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from normalizer.outcomes import (
    Failure,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
)

BUSY_S = 60.0
HOUR_S = 3600
MOST_WAIT_S = 24 * 3600.0
REBIND = (
    "the account needs re-binding: open 管理中心 > 粉丝服务 > 高级功能 > 开发者模式 as its owner,"
    " bind the app again, put the new token into access_token and its day into token_bound, and"
    " restart the hub"
)


class TokenRefused(Misconfigured):
    """The token is used up, expired or revoked: only the account's owner can help."""


class ApiError(msgspec.Struct, frozen=True, kw_only=True):
    """An error as Weibo told it. ``code`` is 0 where it is no number."""

    code: int
    text: str

    @property
    def said(self) -> str:
        return f"{self.code} {self.text}".strip()


def read_error(body: bytes) -> ApiError | None:
    """Return the error that a body tells, whatever the status; None if it tells none."""
    fields = json_object(body)
    if fields is None or fields.get("error_code") in (None, "", 0, "0"):
        return None
    code = fields["error_code"]
    text = fields.get("error")
    words = text if isinstance(text, str) else ""
    if isinstance(code, str) and not (code.isascii() and code.isdigit()):
        words, code = f"{code} {words}".strip(), 0
    try:
        number = int(code)
    except (TypeError, ValueError, OverflowError):
        number = 0
    return ApiError(code=number, text=words[:300])


def json_object(body: bytes) -> Mapping[str, Any] | None:
    """Return the JSON object that a body is, None if it is something else."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def failure_of(error: ApiError, now: datetime) -> Failure:
    """Return what an error means. ``now`` (UTC) tells when the hour of a limit is over."""
    make = _by_words(error.text) or _by_code(error.code)
    failure = make(error, now)
    failure.code = str(error.code) if error.code else "error"
    return failure


def failure_of_status(status: int, retry_after: str = "") -> Failure | None:
    """Return what a status means whose body tells no error; None for 200."""
    said = f"Weibo answered with HTTP {status} and without a reason"
    code = f"http_{status}"
    match status:
        case 200:
            return None
        case 429:
            return RateLimited(said, retry_after=_seconds(retry_after), code=code)
        case 408 | 503:
            return Temporary(said, code=code)
        case 401 | 403:
            advice = "look at the network's rules, at Weibo's list of allowed addresses"
            return Misconfigured(f"{said}: {advice}", code=code)
        case 400 | 413 | 422:
            return Rejected(said, code=code)
        case status if 300 <= status < 500:
            advice = "look at reply_url, api_url and upload_url"
            return Misconfigured(f"{said}: {advice}", code=code)
        case _:
            return OutcomeUnknown(said, code=code)


def _seconds(retry_after: str) -> float:
    known = retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 8
    return min(float(retry_after), MOST_WAIT_S) if known else BUSY_S


# --- the table -----------------------------------------------------------------------------------

_Make = Callable[[ApiError, datetime], Failure]


def _busy(error: ApiError, now: datetime) -> Failure:
    return Temporary(f"Weibo cannot do it now ({error.said})")


def _hour(error: ApiError, now: datetime) -> Failure:
    left = HOUR_S - (now.minute * 60 + now.second)
    return RateLimited(f"Weibo's limit for this hour is reached ({error.said})", retry_after=left)


def _too_fast(error: ApiError, now: datetime) -> Failure:
    return RateLimited(f"the account sends too much ({error.said})", retry_after=BUSY_S)


def _address_limited(error: ApiError, now: datetime) -> Failure:
    return Misconfigured(
        f"Weibo refuses the hub's IP address ({error.said}): allow it in the app's settings"
    )


def _permission(error: ApiError, now: datetime) -> Failure:
    return Misconfigured(
        f"the app lacks a permission ({error.said}): ask for the fans-service scope at Weibo's"
        " open platform, for the verified account"
    )


def _our_mistake(error: ApiError, now: datetime) -> Failure:
    return Rejected(f"Weibo does not understand the request ({error.said}): tell Omniline's makers")


def _refused(error: ApiError, now: datetime) -> Failure:
    return Rejected(f"Weibo refuses the message ({error.said})")


def _nobody(error: ApiError, now: datetime) -> Failure:
    return Unreachable(f"there is no such person on Weibo any more ({error.said})")


def _not_now(error: ApiError, now: datetime) -> Failure:
    return Unreachable(
        f"Weibo lets no message through to this person ({error.said}): they follow the account no"
        " more, have blocked it, or have not written lately. Wait for them, or take another channel"
    )


def _rebind(error: ApiError, now: datetime) -> Failure:
    return TokenRefused(f"Weibo does not accept the token ({error.said}): {REBIND}")


_CODES: Mapping[int, _Make] = {
    **dict.fromkeys((10001, 10002, 10003, 10009, 10010, 10011), _busy),
    10004: _address_limited,
    10012: _refused,
    **dict.fromkeys((10005, 10014), _permission),
    10006: _our_mistake,
    **dict.fromkeys((10007, 10008, 10016, 10017, 10018, 10020, 10021), _our_mistake),
    10013: _nobody,
    **dict.fromkeys((10022, 10023, 10024), _hour),
    20003: _nobody,
    20016: _too_fast,
    **dict.fromkeys((20017, 20018, 20019, 20020, 20021), _refused),
    **dict.fromkeys(range(20301, 20310), _not_now),
}
ALARMS = frozenset({"10004", "10012"})  # somebody should look, whatever becomes of the message

_WORDS: tuple[tuple[re.Pattern[str], _Make], ...] = (
    (
        re.compile(
            r"(?:expired|invalid)_(?:access_)?token|token_expired|token (?:has )?expired"
            r"|token has already been used|token (?:was )?(?:revoked|rejected)"
            r"|accessor was revoked|auth fail?e?d",
            re.IGNORECASE,
        ),
        _rebind,
    ),
    (re.compile(r"out of rate limit", re.IGNORECASE), _hour),
    (re.compile(r"permission denied|insufficient app permission", re.IGNORECASE), _permission),
    (
        re.compile(
            r"system error|service unavailable|remote service error|system is busy|rpc error"
            r"|job expired",
            re.IGNORECASE,
        ),
        _busy,
    ),
)


def _by_words(text: str) -> _Make | None:
    return next((make for pattern, make in _WORDS if pattern.search(text)), None)


def _by_code(code: int) -> _Make:
    if 21300 <= code < 21400:
        return _rebind
    return _CODES.get(code, _refused)  # 284xx, the fans service's own, as well
