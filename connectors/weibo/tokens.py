"""The access token lives for about a year, and nobody but the account's owner can renew it.

So its end is announced in time, and once Weibo has refused it nothing is sent with it.
"""

from __future__ import annotations

import asyncio
from datetime import date, datetime, timedelta
from typing import Any

import msgspec

from connectors.weibo.errors import REBIND, TokenRefused
from hub import Clock

LIFE = timedelta(days=365)
WARN_DAYS = (3, 14, 30)
LOOK_S = 6 * 3600.0
TRY_AGAIN_S = 3600.0


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to say of a token's age. ``stage`` grows less: 30, 14, 3, 0 days."""

    stage: int
    text: str


def notice(bound_on: date | None, now: datetime) -> Notice | None:
    """Return what an operator should know of the token's end, None while it is far away."""
    if bound_on is None:
        return None
    ends = bound_on + LIFE
    left = (ends - now.date()).days
    if left <= 0:
        return Notice(
            stage=0, text=f"the access token's year was over on {ends.isoformat()}: {REBIND}"
        )
    for stage in WARN_DAYS:
        if left <= stage:
            days = "day" if left == 1 else "days"
            return Notice(
                stage=stage,
                text=f"the access token ends in {left} {days}, on {ends.isoformat()}: {REBIND}",
            )
    return None


class Watch:
    """Tells of the token's end at start, and once at each stage after it."""

    def __init__(self, bound_on: date | None, clock: Clock, log: Any) -> None:
        self._bound_on = bound_on
        self._clock = clock
        self._log = log
        self._told: int | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.look()
        if self._bound_on is not None:
            self._task = asyncio.create_task(self._run(), name="weibo-token-watch")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def look(self) -> None:
        found = notice(self._bound_on, self._clock.now())
        if found is None or found.stage == self._told:
            return
        self._told = found.stage
        tell = self._log.error if found.stage <= WARN_DAYS[0] else self._log.warning
        tell("weibo_token_ends", advice=found.text)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()


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
