"""Every error a client can be told, with its HTTP status and its WebSocket close code."""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    """``close`` is 0 where a socket stays open; ``retry``: the same request may work later."""

    http: int
    close: int = 0
    retry: bool = False


CODES: dict[str, Code] = {
    "bad_frame": Code(400, 4400),
    "auth_required": Code(401, 4401),
    "token_expired": Code(401, 4401),
    "identity_invalid": Code(401),
    "identity_expired": Code(401),
    "origin_forbidden": Code(403, 4403),
    "site_disabled": Code(403, 4403),
    "visitor_blocked": Code(403, 4403),
    "conversation_not_found": Code(404),
    "hello_timeout": Code(408, 4408, retry=True),
    "idempotency_conflict": Code(409),
    "conversation_closed": Code(409),
    "edit_window_passed": Code(409),
    "recall_window_passed": Code(409),
    "recall_unsupported": Code(409),
    "replaced": Code(409, 4409),
    "too_large": Code(413, 1009),
    "unsupported_type": Code(415),
    "upload_rejected": Code(422),
    "upload_expired": Code(410),
    "rate_limited": Code(429, 4429, retry=True),
    "consent_required": Code(451),
    "unavailable": Code(503, 4503, retry=True),
    "draining": Code(503, 1012, retry=True),
    "internal": Code(500, 1011, retry=True),
}

# Errors after which a session cannot go on: the socket is closed with the error's close code.
FATAL = frozenset(
    {
        "auth_required",
        "token_expired",
        "origin_forbidden",
        "site_disabled",
        "visitor_blocked",
        "hello_timeout",
        "replaced",
        "draining",
    }
)


class SiteError(Exception):
    """A refusal that the client is told. ``message`` is for its developer, not its user."""

    def __init__(self, code: str, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def status(self) -> int:
        return CODES[self.code].http

    @property
    def close(self) -> int:
        return CODES[self.code].close

    @property
    def retry_after_ms(self) -> int | None:
        return None if self.retry_after_s is None else max(1, int(self.retry_after_s * 1000))
