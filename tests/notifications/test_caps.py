"""Frequency caps hold in every span, whatever order notifications are asked for in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.notifications.caps import Cap, possible_at, take
from hub.notifications.policy import DAY, WEEK

START = datetime(2026, 3, 2, tzinfo=UTC)
CAPS = (Cap(3, DAY), Cap(10, WEEK))
BUSY = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
HOURS = st.lists(st.integers(0, 24 * 30), max_size=60)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def test_a_day_takes_its_number_and_the_next_comes_when_the_first_is_a_day_old() -> None:
    held = [at(0), at(1), at(2)]
    assert not take(CAPS, at(3), held)
    assert possible_at(CAPS, at(3), held) == at(24)
    assert take(CAPS, at(24), held)


def test_a_week_is_full_though_its_days_are_not() -> None:
    held = [at(16 * n) for n in range(10)]
    assert not take(CAPS, at(160), held)
    assert possible_at(CAPS, at(160), held) == at(168)


def test_what_is_planned_for_later_counts_where_it_leaves() -> None:
    planned = [at(72), at(73), at(74)]
    assert take(CAPS, at(0), planned)
    assert not take(CAPS, at(60), planned)
    assert possible_at(CAPS, at(60), planned) == at(96)


def test_without_caps_everything_is_taken() -> None:
    assert take((), at(0), [at(0)] * 1000)


@BUSY
@given(asked=HOURS)
def test_no_span_ever_has_too_many(asked: list[int]) -> None:
    taken: list[datetime] = []
    for hours in asked:
        if take(CAPS, at(hours), taken):
            taken.append(at(hours))
    for cap in CAPS:
        for start in taken:
            assert sum(start <= each < start + cap.span for each in taken) <= cap.most


@BUSY
@given(asked=HOURS, hours=st.integers(0, 24 * 30))
def test_what_is_called_possible_is_and_nothing_before_it_was(asked: list[int], hours: int) -> None:
    taken: list[datetime] = []
    for each in asked:
        if take(CAPS, at(each), taken):
            taken.append(at(each))
    free = possible_at(CAPS, at(hours), taken)
    assert take(CAPS, free, taken)
    moment = at(hours)
    while moment < free:
        assert not take(CAPS, moment, taken)
        moment += timedelta(hours=1)
