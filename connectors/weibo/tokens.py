"""The access token lives for about a year, and nobody but the account's owner can renew it.

So its end is announced in time, and once Weibo has refused it nothing is sent with it.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

from connectors.weibo.errors import REBIND, TokenRefused
from hub import Clock

LIFE = timedelta(days=365)
WARN_DAYS = (3, 14, 30)
TRY_AGAIN_S = 3600.0


def ending(bound_on: date | None, now: datetime) -> str:
    """Return what an operator should know of the token's end, "" while it is far away.

    It changes 30, 14 and 3 days before the end, and at the end.
    """
    if bound_on is None:
        return ""
    ends = bound_on + LIFE
    left = (ends - now.date()).days
    if left <= 0:
        return f"the access token's year was over on {ends.isoformat()}: {REBIND}"
    stage = next((days for days in WARN_DAYS if left <= days), None)
    if stage is None:
        return ""
    return f"the access token ends on {ends.isoformat()}, within {stage} days: {REBIND}"


class Brake:
    """Once the token was refused nothing goes to Weibo with it, but for one try an hour.

    The numbers of these errors are unverified, and an owner may lift a block at Weibo's side: so
    the hub comes back by itself. A new token needs a restart, which begins anew.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._refused: TokenRefused | None = None
        self._try_at = 0.0

    def check(self) -> None:
        """Raise the last refusal again, without asking Weibo, until it is time for another try."""
        if self._refused is None:
            return
        if self._clock.monotonic() < self._try_at:
            raise TokenRefused(self._refused.reason, code=self._refused.code)
        self._try_at = self._clock.monotonic() + TRY_AGAIN_S

    def refused(self, failure: TokenRefused) -> None:
        self._refused = failure
        self._try_at = self._clock.monotonic() + TRY_AGAIN_S

    def worked(self) -> None:
        self._refused = None
