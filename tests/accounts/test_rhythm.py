"""Odd silences are found soon, and chance, bursts, campaigns and clock changes raise no alarm.

Accounts are simulated hour by hour from seeds: learned for some weeks, then watched. The counts
of false alarms and the delays are bounds that the formula of docs/decisions/0013 promises.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.accounts.rhythm import (
    LEAST_EXPECTED,
    Rhythm,
    burstiness,
    evidence,
    expected,
    is_odd,
    learn,
    needed,
    slot_of,
    usual,
    weekly,
)
from tests.support.scale import scaled

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
WEEK = timedelta(days=7)
HOUR = timedelta(hours=1)

Rate = Callable[[datetime], float]


def always(rate: float) -> Rate:
    return lambda _: rate


def office(rate: float) -> Rate:
    """A shop that is open on weekdays from 8 to 18, with a quiet hour at noon."""

    def at(moment: datetime) -> float:
        if moment.weekday() >= 5 or not 8 <= moment.hour < 18:
            return 0.0
        return rate / 2 if moment.hour == 12 else rate

    return at


def around_the_clock(rate: float) -> Rate:
    """More by day than by night."""
    return lambda moment: rate * (1.0 + 0.8 * math.sin((moment.hour - 6) / 24 * 2 * math.pi))


def _messages(
    rng: random.Random, rate: Rate, start: datetime, until: datetime, burst: int = 1
) -> list[datetime]:
    """Return when messages come: independent, or in bursts of ``burst`` on average."""
    found: list[datetime] = []
    moment = start
    while moment < until:
        here = rate(moment) / burst
        second = 0.0
        while here > 0:
            second += rng.expovariate(here / 3600)
            if second >= 3600:
                break
            size = 1 if burst == 1 else 1 + int(rng.expovariate(1 / burst))
            found += [moment + timedelta(seconds=min(3599.0, second + 20 * n)) for n in range(size)]
        moment += HOUR
    return sorted(found)


def _learned(messages: list[datetime], start: datetime, until: datetime) -> Rhythm:
    counts: dict[datetime, int] = {}
    for each in messages:
        hour = each.replace(minute=0, second=0, microsecond=0)
        counts[hour] = counts.get(hour, 0) + 1
    rhythm, hour = Rhythm(), start
    while hour < until:
        rhythm = learn(rhythm, hour, counts.get(hour, 0))
        hour += HOUR
    return rhythm


def _account(
    seed: int, rate: Rate, weeks: int = 4, burst: int = 1
) -> tuple[random.Random, Rhythm, datetime]:
    rng = random.Random(seed)
    until = MONDAY + weeks * WEEK
    return rng, _learned(_messages(rng, rate, MONDAY, until, burst), MONDAY, until), until


def _false_alarms(seed: int, rate: Rate, *, weeks: int = 4, burst: int = 1) -> int:
    """Return how many gaps of a further, healthy week would be called odd."""
    rng, rhythm, start = _account(seed, rate, weeks, burst)
    times = [start, *_messages(rng, rate, start, start + WEEK, burst), start + WEEK]
    gaps = sorted(itertools.pairwise(times), key=lambda gap: gap[0] - gap[1])
    # Only long gaps can be odd: the rest of a busy week is not worth looking at.
    return sum(is_odd(rhythm, *gap) for gap in gaps[:60])


# --- chance --------------------------------------------------------------------------------------

ACCOUNTS: dict[str, tuple[Rate, int]] = {
    "a steady one, busy": (always(40), 1),
    "a steady one": (always(3), 1),
    "day and night": (around_the_clock(12), 1),
    "office hours": (office(12), 1),
    "office hours, few": (office(2), 1),
    "bursts of five": (around_the_clock(10), 5),
    "bursts of twenty in office hours": (office(20), 20),
    "rare bursts": (always(1), 15),
}


@pytest.mark.soak
@pytest.mark.parametrize("name", ACCOUNTS)
@pytest.mark.parametrize("weeks", [2, 4])
def test_a_healthy_account_raises_no_false_alarm(name: str, weeks: int) -> None:
    """At most one in twenty weeks, even for bursts and after two weeks of learning only."""
    rate, burst = ACCOUNTS[name]
    watched = scaled(20, 400)
    alarms = sum(_false_alarms(seed, rate, weeks=weeks, burst=burst) for seed in range(watched))
    assert alarms <= watched / 20, f"{alarms} false alarms in {watched} weeks"


@pytest.mark.soak
def test_independent_messages_raise_far_fewer() -> None:
    """Promised is one in a thousand weeks with the rhythm known; it is learned from four."""
    watched = scaled(60, 2000)
    alarms = sum(_false_alarms(seed, around_the_clock(12)) for seed in range(watched))
    assert alarms <= max(0, watched // 500), f"{alarms} false alarms in {watched} weeks"


@pytest.mark.parametrize("weeks", [0, 1])
def test_a_new_account_raises_no_alarm(weeks: int) -> None:
    _, rhythm, start = _account(1, always(100), weeks)
    assert not is_odd(rhythm, start, start + WEEK)


def test_a_rare_account_raises_no_alarm() -> None:
    for seed in range(20):
        _, rhythm, start = _account(seed, always(15 / 168))
        assert not is_odd(rhythm, start, start + 4 * WEEK)


def test_a_closed_shop_is_not_silent() -> None:
    """From Friday's last message to Monday's first nothing is due."""
    _, rhythm, start = _account(3, office(30))
    friday = start + timedelta(days=4, hours=17, minutes=50)
    monday = start + timedelta(days=7, hours=8, minutes=10)
    assert not is_odd(rhythm, friday, monday)


def test_a_clock_put_forward_makes_no_alarm() -> None:
    """Everything comes an hour later, as UTC sees it."""
    rng, rhythm, start = _account(4, office(30))
    later = [each + HOUR for each in _messages(rng, office(30), start, start + timedelta(days=5))]
    gaps = zip([start, *later], [*later, start + timedelta(days=5)], strict=True)
    assert not any(is_odd(rhythm, *gap) for gap in gaps)


def test_a_campaign_does_not_make_its_hour_usual_nor_blind_the_watch() -> None:
    _, rhythm, start = _account(5, around_the_clock(12))
    before = (usual(rhythm, 10), burstiness(rhythm))
    flooded = learn(rhythm, start + timedelta(hours=10), 5000)
    assert usual(flooded, 10) <= before[0] * 1.6
    assert burstiness(flooded) <= before[1] * 1.1


# --- real silences -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "within"),
    [
        (always(300), timedelta(minutes=6)),
        (always(60), timedelta(minutes=30)),
        (always(12), timedelta(hours=3)),
        (always(2), timedelta(hours=24)),
    ],
)
def test_a_real_silence_is_found_within_its_bound(rate: Rate, within: timedelta) -> None:
    for seed in range(scaled(4, 100)):
        _, rhythm, start = _account(seed, rate)
        since = start + timedelta(days=1, hours=14, minutes=5)
        assert is_odd(rhythm, since, since + within)


def test_a_silence_in_office_hours_is_found_on_the_same_day() -> None:
    for seed in range(scaled(10, 100)):
        _, rhythm, start = _account(seed, office(12))
        since = start + timedelta(days=1, hours=9)
        assert is_odd(rhythm, since, since + timedelta(hours=8))


def test_a_silence_of_a_bursty_account_is_found_later_but_found() -> None:
    for seed in range(scaled(10, 100)):
        _, rhythm, start = _account(seed, always(20), burst=5)
        assert not is_odd(rhythm, start, start + timedelta(minutes=45))
        assert is_odd(rhythm, start, start + timedelta(hours=12))


# --- the formula ---------------------------------------------------------------------------------

COUNTS = st.lists(st.integers(0, 400), min_size=0, max_size=4)
RHYTHMS = st.lists(COUNTS, min_size=1, max_size=24).map(
    lambda day: Rhythm(hours=tuple(tuple(day[slot % len(day)]) for slot in range(168)))
)
MOMENTS = st.integers(0, 4 * 7 * 24 * 60).map(lambda minutes: MONDAY + timedelta(minutes=minutes))
SPANS = st.integers(0, 10 * 24 * 60).map(lambda minutes: timedelta(minutes=minutes))


@given(RHYTHMS, MOMENTS, SPANS, SPANS)
@settings(max_examples=scaled(60, 1000), deadline=None)
def test_a_longer_silence_is_never_less_odd(
    rhythm: Rhythm, since: datetime, span: timedelta, more: timedelta
) -> None:
    shorter = expected(rhythm, since, since + span)
    longer = expected(rhythm, since, since + span + more)
    if span + more <= timedelta(days=14):
        assert longer >= shorter - 1e-9
        assert is_odd(rhythm, since, since + span + more) or not is_odd(rhythm, since, since + span)


@given(RHYTHMS, MOMENTS, SPANS)
@settings(max_examples=scaled(60, 1000), deadline=None)
def test_nothing_is_odd_before_five_messages_were_due(
    rhythm: Rhythm, since: datetime, span: timedelta
) -> None:
    due = expected(rhythm, since, since + span)
    if due < LEAST_EXPECTED:
        assert not is_odd(rhythm, since, since + span)
    assert 0 <= evidence(due, burstiness(rhythm)) <= due
    assert needed(rhythm) >= math.log(1000)
    assert due <= weekly(rhythm) * (span / WEEK + 1) + 1e-9


def test_the_chance_is_what_the_distribution_says() -> None:
    """Nothing in a Poisson of mean 7, and in a negative binomial of mean 7 and variance 28."""
    assert evidence(7, 1.0) == 7
    size = 7 / (4 - 1)
    assert evidence(7, 4.0) == pytest.approx(-size * math.log(1 / 4))


def test_an_hour_is_the_mean_of_its_weeks_without_the_best() -> None:
    rhythm = Rhythm()
    for week, count in enumerate((8, 10)):
        rhythm = learn(rhythm, MONDAY + week * WEEK, count)
    assert usual(rhythm, 0) == 9
    for week, count in enumerate((300, 12, 14), start=2):
        rhythm = learn(rhythm, MONDAY + week * WEEK, count)
    assert rhythm.hours[0] == (10, 300, 12, 14), "four weeks are kept"
    assert usual(rhythm, 0) == 12
    assert slot_of(MONDAY + timedelta(days=2, hours=3, minutes=59)) == 51
