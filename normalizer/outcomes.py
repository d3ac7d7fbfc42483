"""What can become of an attempt to reach the outside: one closed list for channels and backends.

The outside says what happened by returning :class:`Accepted` or raising one of the
:class:`Failure` classes; the hub decides what follows. An exception that is none of these is
treated as :class:`OutcomeUnknown`, because the call may have been carried out.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from normalizer.drafts import DeliveryState
from normalizer.model import Model


class Accepted(Model, frozen=True, kw_only=True):
    """The vendor took it. ``vendor_ids`` are what its receipts will name.

    ``data`` is what else there is to know of it (parts, price), kept with the outcome.
    """

    vendor_ids: tuple[str, ...] = ()
    state: DeliveryState = DeliveryState.ACCEPTED
    at: datetime | None = None
    data: dict[str, Any] = {}


class Verdict(StrEnum):
    """The names under which outcomes are stored and shown."""

    ACCEPTED = "accepted"
    TEMPORARY = "temporary"
    RATE_LIMITED = "rate_limited"
    REJECTED = "rejected"
    UNREACHABLE = "unreachable"
    UNSUPPORTED = "unsupported"
    MISCONFIGURED = "misconfigured"
    GONE = "gone"
    OUTCOME_UNKNOWN = "outcome_unknown"


class Failure(Exception):
    """Base of everything that can go wrong outside. ``reason`` is what the operator reads."""

    verdict: Verdict
    retry: bool = False  # may the hub try again by itself?

    def __init__(self, reason: str, *, code: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class Temporary(Failure):
    """Surely not done, and worth another try: refused connection, 503, busy."""

    verdict = Verdict.TEMPORARY
    retry = True


class RateLimited(Failure):
    """Not done: come back ``retry_after`` seconds later. ``scope`` says what has to pause."""

    verdict = Verdict.RATE_LIMITED
    retry = True

    def __init__(
        self, reason: str, *, retry_after: float, scope: str = "account", code: str = ""
    ) -> None:
        super().__init__(reason, code=code)
        self.retry_after = retry_after
        self.scope = scope


class Rejected(Failure):
    """This request can never work: too long, bad format, a missing queue."""

    verdict = Verdict.REJECTED


class Unreachable(Failure):
    """The person cannot be reached here now: opted out, window closed, blocked, unfollowed.

    ``gone``: there is no such address, see :attr:`Capabilities.returns`.
    """

    verdict = Verdict.UNREACHABLE

    def __init__(self, reason: str, *, code: str = "", gone: bool = False) -> None:
        super().__init__(reason, code=code)
        self.gone = gone


class Unsupported(Failure):
    """The channel cannot say this at all."""

    verdict = Verdict.UNSUPPORTED


class Misconfigured(Failure):
    """Credentials, rights or settings: an operator has to act; nothing is dropped meanwhile."""

    verdict = Verdict.MISCONFIGURED
    retry = True


class Gone(Failure):
    """The target was merged, deleted or closed for ever; ``successor`` if there is one."""

    verdict = Verdict.GONE

    def __init__(self, reason: str, *, successor: str | None = None, code: str = "") -> None:
        super().__init__(reason, code=code)
        self.successor = successor


class OutcomeUnknown(Failure):
    """Sent, and no clear answer. Never blindly repeated."""

    verdict = Verdict.OUTCOME_UNKNOWN
