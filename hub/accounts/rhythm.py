"""How often an account is usually heard, and which silence is odd. Pure; docs/decisions/0013.

An account's week has 168 hours (UTC). Of each hour the counts of the last four weeks are kept.
A silence is odd when an account with this rhythm falls silent for so long by chance at most once
in a thousand weeks, and at least five messages were due.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import msgspec

HOURS = 168
WEEKS = 4
ENOUGH_WEEKS = 2  # fewer counts of an hour say nothing: a new account raises no alarm
ONCE_IN_WEEKS = 1000.0
LEAST_EXPECTED = 5.0
LEAST_WEEKLY = 20.0  # an account that is heard less often is rare: no silence of it is odd
LONGEST = timedelta(days=14)  # what lies further back adds nothing
_OUTLIERS = 3  # hours of the week: a campaign must not make the whole account look irregular
_HOUR = timedelta(hours=1)


class Rhythm(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of each hour of the week, oldest first, at most four."""

    hours: tuple[tuple[int, ...], ...] = ((),) * HOURS


def slot_of(moment: datetime) -> int:
    """Return which hour of the week a moment is in: Monday 00:00 UTC is 0."""
    return moment.weekday() * 24 + moment.hour


def learn(rhythm: Rhythm, hour: datetime, count: int) -> Rhythm:
    """Return the rhythm after one more hour."""
    slot = slot_of(hour)
    counts = (*rhythm.hours[slot], count)[-WEEKS:]
    return Rhythm(hours=(*rhythm.hours[:slot], counts, *rhythm.hours[slot + 1 :]))


def usual(rhythm: Rhythm, slot: int) -> float:
    """Return how often the account is heard in this hour of the week; 0 where nobody knows.

    Of three or four weeks the best one is left out: a campaign is not usual.
    """
    counts = rhythm.hours[slot % HOURS]
    if len(counts) < ENOUGH_WEEKS:
        return 0.0
    kept = sorted(counts)[:-1] if len(counts) > ENOUGH_WEEKS else counts
    return sum(kept) / len(kept)


def weekly(rhythm: Rhythm) -> float:
    """Return how often the account is heard in a week."""
    return sum(usual(rhythm, slot) for slot in range(HOURS))


def burstiness(rhythm: Rhythm) -> float:
    """Return variance over mean of the hourly counts: 1 for independent messages, more for bursts.

    The mean over the hours of the week, without the three strangest ones.
    """
    found = []
    for counts in rhythm.hours:
        mean = sum(counts) / len(counts) if len(counts) >= ENOUGH_WEEKS else 0.0
        if mean > 0:
            variance = sum((each - mean) ** 2 for each in counts) / (len(counts) - 1)
            found.append(variance / mean)
    kept = sorted(found)[: max(1, len(found) - _OUTLIERS)] if found else [1.0]
    return max(1.0, sum(kept) / len(kept))


def expected(rhythm: Rhythm, since: datetime, until: datetime) -> float:
    """Return how many messages are due between two moments, on the safe side.

    Each hour counts as the quietest of itself and its neighbours: opening hours that begin
    later than usual, and clocks that are put forward, make no alarm.
    """
    moment = max(since, until - LONGEST)
    due = 0.0
    while moment < until:
        ends = min(until, moment.replace(minute=0, second=0, microsecond=0) + _HOUR)
        slot = slot_of(moment)
        quietest = min(usual(rhythm, slot + near) for near in (-1, 0, 1))
        due += quietest * ((ends - moment) / _HOUR)
        moment = ends
    return due


def evidence(due: float, bursts: float) -> float:
    """Return minus the logarithm of the chance to hear nothing when ``due`` messages are due.

    Poisson for independent messages; for bursts a negative binomial of the same variance.
    """
    if bursts <= 1.0 + 1e-9:
        return due
    return due * math.log(bursts) / (bursts - 1.0)


def needed(rhythm: Rhythm) -> float:
    """Return the evidence from which a silence is odd: the busier, the more often chance tries."""
    return math.log(ONCE_IN_WEEKS * max(1.0, weekly(rhythm)))


def is_odd(rhythm: Rhythm, since: datetime, until: datetime) -> bool:
    """Say whether hearing nothing between two moments is too improbable to be chance."""
    if weekly(rhythm) < LEAST_WEEKLY:
        return False
    due = expected(rhythm, since, until)
    return due >= LEAST_EXPECTED and evidence(due, burstiness(rhythm)) >= needed(rhythm)
