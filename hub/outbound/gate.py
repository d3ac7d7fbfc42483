"""Which accounts may be called now: pauses that vendors ask for, a pace, and a breaker.

All of it is this process' own view, kept in memory: with several worker processes each learns
by its own calls, and each has its own pace (docs/decisions/0009). Nothing here costs a job an
attempt: a job of an account that is shut is not taken up at all.

The breaker: several failures in a row that say nothing about the message (no connection, busy,
no answer) open it for a while, twice as long each time. Then one job is let through as a probe;
an answer of any kind closes it, another failure opens it again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta

import structlog

from hub.accounts import StateName
from hub.clock import Clock
from hub.retry import MISCONFIGURED_S, pause_s
from normalizer.outcomes import (
    Failure,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Temporary,
    Unsupported,
)

log = structlog.get_logger(__name__)

TRIPS_AFTER = 5  # failures in a row
OPEN_FIRST_S = 10.0
OPEN_LONGEST_S = 300.0
DOWN_AFTER = 3  # openings in a row, from which on the account is not degraded but down
PROBE_WAIT_S = 1.0  # what others wait while the probe is out
PACE_AHEAD_S = 1.0  # how far ahead turns are given out; more jobs are not taken up
TURNS_KEPT = timedelta(seconds=60)

Tell = Callable[[str, StateName, str, float | None], None]
"""(account, state, reason, seconds until the next try)"""


class _Account:
    """What this process knows of one account."""

    def __init__(self) -> None:
        self.failures = 0
        self.openings = 0  # in a row
        self.open = False
        self.until: datetime | None = None  # nothing is started before
        self.probe: str | None = None  # the job that is let through
        self.turn: datetime | None = None  # when the next job may go, where there is a pace
        self.turns: dict[str, datetime] = {}
        self.told = False  # a problem was told that is not over yet


class AccountGate:
    """One per process. Accounts are named ``channel:account``."""

    def __init__(
        self,
        clock: Clock,
        *,
        pace: Callable[[str], float | None] = lambda account: None,
        tell: Tell = lambda account, state, reason, next_try_s: None,
        off: Callable[[], Collection[str]] = lambda: (),
    ) -> None:
        self._clock = clock
        self._pace = pace  # sends a second
        self._tell = tell
        self._off = off
        self._accounts: dict[str, _Account] = {}

    # --- asked by the lanes ----------------------------------------------------------------------

    def shut(self) -> Collection[str]:
        """Return the accounts for which nothing may be taken up now."""
        now = self._clock.now()
        return [name for name, held in self._accounts.items() if _is_shut(held, now)]

    def off(self) -> Collection[str]:
        """Return the accounts that people have switched off."""
        return self._off()

    def room(self, account: str) -> int | None:
        """Return how many more jobs may be taken up; None = any number."""
        held = self._accounts.get(account)
        if held is None:
            return None
        if _is_shut(held, self._clock.now()):
            return 0
        return 1 if held.open else None

    def wait_s(self, account: str, job: str) -> float:
        """Return how long a job has to wait; 0 lets it go, and :meth:`left` has to follow."""
        now = self._clock.now()
        held = self._accounts.setdefault(account, _Account())
        if held.until is not None and now < held.until:
            return (held.until - now).total_seconds()
        if held.open:
            if held.probe not in (None, job):
                return PROBE_WAIT_S
            held.probe = job
            return 0.0
        return self._turn_s(held, account, job, now)

    def left(self, account: str, job: str) -> None:
        """A job that was let go is back, whatever became of it."""
        held = self._accounts.get(account)
        if held is not None and held.probe == job:
            held.probe = None

    def _turn_s(self, held: _Account, account: str, job: str, now: datetime) -> float:
        rate = self._pace(account)
        if not rate:
            return 0.0
        turn = held.turns.pop(job, None)
        if turn is None:
            turn = max(now, held.turn or now)
            held.turn = turn + timedelta(seconds=1 / rate)
            held.turns = {
                each: at for each, at in held.turns.items() if at > now - TURNS_KEPT
            }  # another process may have run them
        if turn <= now:
            return 0.0
        held.turns[job] = turn
        return (turn - now).total_seconds()

    # --- told by those who called ----------------------------------------------------------------

    def worked(self, account: str) -> None:
        """The account answered, whatever it said."""
        held = self._accounts.get(account)
        if held is None:
            return
        if held.open:
            log.info("breaker_closed", account=account)
        held.failures = held.openings = 0
        held.open = False
        if held.told and (held.until is None or held.until <= self._clock.now()):
            held.told = False
            self._tell(account, "ok", "", None)

    def failed(self, account: str, failure: Failure | None, reason: str = "") -> None:
        """An attempt failed; None: it raised something else, or was cut."""
        match failure:
            case RateLimited():
                self.worked(account)
                if failure.scope == "account":
                    seconds = pause_s(failure.retry_after)
                    self.pause(account, seconds, f"the vendor limits us: {failure.reason}")
            case Misconfigured():
                self.pause(account, MISCONFIGURED_S, failure.reason, state="misconfigured")
            case Unsupported():
                return  # nobody was called
            case Temporary() | OutcomeUnknown() | None:
                self._failed(account, failure.reason if failure is not None else reason)
            case _:
                self.worked(account)  # it says something about the message, not the account

    def pause(
        self, account: str, seconds: float, reason: str, *, state: StateName = "degraded"
    ) -> None:
        """Let nothing of an account go for a while."""
        held = self._accounts.setdefault(account, _Account())
        until = self._clock.now() + timedelta(seconds=seconds)
        held.until = max(until, held.until or until)
        self._say(held, account, state, reason)

    def _failed(self, account: str, reason: str) -> None:
        held = self._accounts.setdefault(account, _Account())
        held.failures += 1
        if held.until is not None and held.until > self._clock.now():
            return  # it was under way when the others failed
        if not held.open and held.failures < TRIPS_AFTER:
            return
        held.open = True
        held.openings += 1
        seconds = min(OPEN_LONGEST_S, OPEN_FIRST_S * 2.0 ** min(held.openings - 1, 20))
        held.until = self._clock.now() + timedelta(seconds=seconds)
        state: StateName = "down" if held.openings >= DOWN_AFTER else "degraded"
        times = f"{held.failures} sends failed in a row, the last one: {reason}"
        log.warning("breaker_opened", account=account, seconds=seconds, failures=held.failures)
        self._say(held, account, state, times)

    def _say(self, held: _Account, account: str, state: StateName, reason: str) -> None:
        held.told = True
        assert held.until is not None
        left = (held.until - self._clock.now()).total_seconds()
        self._tell(account, state, reason, left)


def _is_shut(held: _Account, now: datetime) -> bool:
    if held.until is not None and now < held.until:
        return True
    if held.open:
        return held.probe is not None
    return held.turn is not None and held.turn > now + timedelta(seconds=PACE_AHEAD_S)
