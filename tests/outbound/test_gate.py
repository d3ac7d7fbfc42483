"""The gate: pauses, pace and breaker of an account, by a clock that stands still."""

from __future__ import annotations

from typing import Any

import pytest

from hub.outbound.gate import OPEN_FIRST_S, PROBE_WAIT_S, TRIPS_AFTER, AccountGate
from hub.retry import pause_s
from hub.testing.clock import FakeClock
from normalizer.outcomes import (
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unsupported,
)

A = "chat:main"
BUSY = Temporary("busy")


class Told:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.said: list[tuple[Any, ...]] = []
        self.rate: float | None = None
        self.gate = AccountGate(
            self.clock, pace=lambda account: self.rate, tell=lambda *told: self.said.append(told)
        )

    def trip(self) -> None:
        for _ in range(TRIPS_AFTER):
            self.gate.failed(A, BUSY)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.mark.parametrize("failure", [BUSY, OutcomeUnknown("no answer"), None])
def test_failures_in_a_row_open_the_breaker_and_others_go_on(told: Told, failure: Any) -> None:
    for _ in range(TRIPS_AFTER - 1):
        told.gate.failed(A, failure, "cut")
        assert told.gate.room(A) is None
    told.gate.failed(A, failure, "cut")
    assert list(told.gate.shut()) == [A]
    assert told.gate.wait_s(A, "job_1") == OPEN_FIRST_S
    assert told.gate.room("chat:other") is None
    (said,) = told.said
    assert said[:2] == (A, "degraded")
    assert said[3] == OPEN_FIRST_S


@pytest.mark.parametrize("answer", [None, Rejected("no"), RateLimited("no", retry_after=1)])
def test_an_answer_in_between_starts_the_count_anew(told: Told, answer: Any) -> None:
    for _ in range(TRIPS_AFTER - 1):
        told.gate.failed(A, BUSY)
    if answer is None:
        told.gate.worked(A)
    else:
        told.gate.failed(A, answer)
    told.clock.advance(2)
    told.gate.failed(A, BUSY)
    assert told.gate.wait_s(A, "job_1") == 0


def test_one_probe_is_let_through_and_closes_the_breaker(told: Told) -> None:
    told.trip()
    told.clock.advance(OPEN_FIRST_S)
    assert told.gate.room(A) == 1
    assert told.gate.wait_s(A, "job_1") == 0
    assert told.gate.wait_s(A, "job_2") == PROBE_WAIT_S
    assert list(told.gate.shut()) == [A]
    told.gate.worked(A)
    told.gate.left(A, "job_1")
    assert told.gate.wait_s(A, "job_2") == 0
    assert told.gate.room(A) is None
    assert told.said[-1][:2] == (A, "ok")


def test_a_probe_that_called_nobody_closes_nothing(told: Told) -> None:
    """A look-up that the channel does not have."""
    told.trip()
    told.clock.advance(OPEN_FIRST_S)
    assert told.gate.wait_s(A, "job_1") == 0
    told.gate.failed(A, Unsupported("no look-up"))
    told.gate.left(A, "job_1")
    assert told.gate.room(A) == 1


def test_a_probe_that_fails_opens_it_twice_as_long_and_in_the_end_it_is_down(told: Told) -> None:
    told.trip()
    for opening in (2, 3):
        told.clock.advance(OPEN_FIRST_S * 2 ** (opening - 2))
        assert told.gate.wait_s(A, "job_1") == 0
        told.gate.failed(A, BUSY)
        told.gate.left(A, "job_1")
        assert told.gate.wait_s(A, "job_1") == OPEN_FIRST_S * 2 ** (opening - 1)
    assert [said[1] for said in told.said] == ["degraded", "degraded", "down"]
    told.clock.advance(1000)
    for _ in range(20):
        told.gate.failed(A, BUSY)
        told.clock.advance(1000)
    assert told.said[-1][3] <= 300


def test_a_probe_that_never_called_leaves_the_place_to_the_next(told: Told) -> None:
    """Its answer was recalled, or its window closed."""
    told.trip()
    told.clock.advance(OPEN_FIRST_S)
    assert told.gate.wait_s(A, "job_1") == 0
    told.gate.left(A, "job_1")
    assert told.gate.wait_s(A, "job_2") == 0


def test_those_under_way_when_it_opened_do_not_open_it_further(told: Told) -> None:
    told.trip()
    for _ in range(10):
        told.gate.failed(A, BUSY)
    assert told.gate.wait_s(A, "job_1") == OPEN_FIRST_S
    assert len(told.said) == 1


def test_a_limit_of_the_account_pauses_all_of_it_and_one_of_an_address_does_not(told: Told) -> None:
    told.gate.failed(A, RateLimited("slow down", retry_after=30, scope="address"))
    assert told.gate.wait_s(A, "job_1") == 0
    told.gate.failed(A, RateLimited("slow down", retry_after=30))
    assert told.gate.wait_s(A, "job_1") == 30
    told.gate.failed(A, RateLimited("slow down", retry_after=5))
    assert told.gate.wait_s(A, "job_1") == 30, "the longer word stands"
    told.clock.advance(30)
    assert told.gate.wait_s(A, "job_1") == 0
    told.gate.worked(A)
    assert [said[1] for said in told.said] == ["degraded", "degraded", "ok"]


def test_wrong_credentials_stop_the_account_and_are_shown(told: Told) -> None:
    told.gate.failed(A, Misconfigured("make a new token"))
    assert told.gate.room(A) == 0
    assert told.said == [(A, "misconfigured", "make a new token", 300.0)]


def test_a_pace_gives_turns_and_keeps_them(told: Told) -> None:
    told.rate = 4
    waits = [told.gate.wait_s(A, f"job_{n}") for n in range(4)]
    assert waits == [0.0, 0.25, 0.5, 0.75]
    assert told.gate.room(A) is None
    told.clock.advance(0.25)
    assert told.gate.wait_s(A, "job_1") == 0
    assert told.gate.wait_s(A, "job_2") == 0.25
    assert told.gate.wait_s(A, "job_9") == 0.75


def test_no_more_is_taken_up_than_a_second_of_turns(told: Told) -> None:
    told.rate = 2
    for n in range(4):
        told.gate.wait_s(A, f"job_{n}")
    assert list(told.gate.shut()) == [A]
    told.clock.advance(1)
    assert list(told.gate.shut()) == []


@pytest.mark.parametrize(
    ("said", "waited"),
    [(5, 5), (0, 0.1), (-3, 0.1), (float("nan"), 0.1), (float("inf"), 86400), (1e18, 86400)],
)
def test_a_vendors_times_are_bounded(said: float, waited: float) -> None:
    assert pause_s(said) == waited
