"""RFC 9457 problem documents: every type of error that the API answers with, in one list."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from hub.planning.rules import Refusal

TYPE_BASE = "https://omniline.dev/problems/"

# type -> title: what happened in general. ``detail`` says what happened now and what to do.
TYPES: dict[str, str] = {
    "bad-request": "The request is not valid",
    "unauthorized": "Who are you?",
    "forbidden": "This key may not do that",
    "not-found": "There is no such thing",
    "method-not-allowed": "Not with this method",
    "conflict": "Somebody else changed it",
    "idempotency-conflict": "This Idempotency-Key was used for something else",
    "conversation-moved-on": "Somebody spoke in between",
    "conversation-final": "This conversation is closed for good",
    "claimed": "Somebody else has it",
    "erased": "This was erased",
    "recalled": "This was recalled",
    "edit-unsupported": "The channel cannot edit",
    "edit-window-passed": "Too late to edit",
    "recall-unsupported": "The channel cannot recall",
    "recall-window-passed": "Too late to recall",
    "unsupported": "The channel cannot carry this",
    "template-needed": "The channel carries approved templates only",
    "consent-withdrawn": "The customer does not want this",
    "consent-missing": "The customer has not agreed to this",
    "frequency-capped": "The customer gets enough of this",
    "quiet-hours": "Quiet hours last longer than this is of use",
    "already-sent": "Too late to cancel",
    "unreachable": "Nobody can be reached there",
    "cursor-invalid": "This cursor is not ours",
    "cursor-expired": "This cursor is older than what is kept",
    "too-large": "Too large",
    "unsupported-media-type": "Not in this format",
    "rate-limited": "Too many requests",
    "unavailable": "Not now",
    "internal": "Something went wrong on our side",
}


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What every error answers with; some types carry members of their own beside these."""

    type: str
    title: str
    status: int
    detail: str


_BY_STATUS = {
    400: "bad-request",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    409: "conflict",
    410: "erased",
    413: "too-large",
    415: "unsupported-media-type",
    422: "bad-request",
    429: "rate-limited",
    503: "unavailable",
}


def problem_response(kind: str, detail: str, status: int, **more: Any) -> web.Response:
    """Answer with a problem document; ``more`` are extension members."""
    if kind not in TYPES:  # a plugin's refusal in words of its own
        kind = _BY_STATUS.get(status, "bad-request")
    body = {
        "type": TYPE_BASE + kind,
        "title": TYPES[kind],
        "status": status,
        "detail": detail,
        **more,
    }
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/problem+json"
    )


def problem(status: int, detail: str) -> web.Response:
    """Answer with the problem document that goes with a bare HTTP status."""
    return problem_response(_BY_STATUS.get(status, "bad-request"), detail, status)


def refused(refusal: Refusal) -> web.Response:
    """Answer with the problem document of a refusal, and the headers that go with its status."""
    response = problem_response(refusal.error, refusal.detail, refusal.status, **refusal.more)
    if refusal.status == 429 and "retry_after" in refusal.more:
        response.headers["Retry-After"] = str(refusal.more["retry_after"])
    return response
