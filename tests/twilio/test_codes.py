"""Error codes: each code of the contract's two tables has its class, and unknown ones are safe."""

from __future__ import annotations

import pytest

from connectors._twilio.codes import CODES, SIP, Kind, failure, look_up
from normalizer.outcomes import (
    Failure,
    Gone,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
)

# code: what a create call that was answered with it means, and whether it is permanent as the
# error of a status callback.
TABLE: dict[int, tuple[type[Failure], bool]] = {
    20003: (Misconfigured, True),
    20404: (Rejected, True),
    20001: (Rejected, True),
    **dict.fromkeys(range(21601, 21607), (Rejected, True)),
    20429: (RateLimited, False),
    20500: (OutcomeUnknown, False),
    20503: (OutcomeUnknown, False),
    20512: (OutcomeUnknown, False),
    21211: (Rejected, True),
    21217: (Rejected, True),
    21408: (Rejected, True),
    21610: (Unreachable, True),
    21611: (Temporary, False),
    21612: (Rejected, True),
    21614: (Rejected, True),
    21617: (Rejected, True),
    21620: (Rejected, True),
    21623: (Rejected, True),
    12300: (Rejected, True),
    11200: (Rejected, True),
    11205: (Rejected, True),
    11206: (Rejected, True),
    30001: (Temporary, False),
    30002: (Misconfigured, True),
    30003: (Temporary, False),
    30004: (Unreachable, True),
    30005: (Rejected, True),
    30006: (Rejected, True),
    30007: (Rejected, True),
    30008: (Temporary, False),
    30034: (Rejected, True),
    30032: (Rejected, True),
    30036: (Temporary, False),
    63016: (Unreachable, True),
    # voice
    11100: (Rejected, True),
    12100: (Rejected, True),
    12200: (Rejected, True),
    13214: (Rejected, True),
    13223: (Rejected, True),
    13227: (Rejected, True),
    13338: (Rejected, True),
    13617: (Rejected, True),
    21201: (Rejected, True),
    21210: (Rejected, True),
    21212: (Rejected, True),
    21213: (Rejected, True),
    21214: (Unreachable, True),
    21215: (Rejected, True),
    21216: (Rejected, True),
    21220: (Gone, True),
    31205: (Misconfigured, True),
    31005: (Temporary, False),
    53000: (Temporary, False),
    32001: (Temporary, False),
    # nobody knows these
    30999: (Rejected, True),
    39999: (Rejected, True),
    99999: (Rejected, True),
}


@pytest.mark.parametrize(("code", "expected"), TABLE.items())
def test_a_code_has_its_class(code: int, expected: tuple[type[Failure], bool]) -> None:
    kind, permanent = expected
    status = 429 if code == 20429 else 401 if code == 20003 else 400
    told = failure(status, code, words="see +8613800138000")
    assert type(told) is kind
    assert told.code == str(code)
    assert told.reason
    assert "13800138000" not in told.reason
    assert look_up(code).permanent is permanent


def test_every_listed_code_stands_in_this_table() -> None:
    assert CODES.keys() <= TABLE.keys()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (500, OutcomeUnknown),
        (502, OutcomeUnknown),
        (503, OutcomeUnknown),
        (429, RateLimited),
        (401, Misconfigured),
        (403, Misconfigured),
        (400, Rejected),
        (404, Rejected),
        (302, Rejected),
    ],
)
def test_without_a_code_the_status_decides(status: int, kind: type[Failure]) -> None:
    assert type(failure(status, None)) is kind


def test_reading_that_failed_changed_nothing_and_is_worth_another_try() -> None:
    assert type(failure(500, 20500, changing=False)) is Temporary
    assert type(failure(502, None, changing=False)) is Temporary


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("", 5.0), ("soon", 5.0), ("999999", 3600.0), ("0", 1.0)]
)
def test_the_wait_that_twilio_asks_for_is_kept_within_reason(header: str, seconds: float) -> None:
    told = failure(429, 20429, retry_after=header)
    assert isinstance(told, RateLimited)
    assert told.retry_after == seconds


def test_twilios_own_words_are_shown_where_the_code_says_nothing() -> None:
    told = failure(400, 21999, words="The 'To' number +8613800138000 is odd")
    assert "is odd" in told.reason
    assert "21999" in told.reason


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (486, Kind.RETRY),
        (480, Kind.RETRY),
        (503, Kind.RETRY),
        (404, Kind.PERMANENT),
        (484, Kind.PERMANENT),
        (603, Kind.PERMANENT),
    ],
)
def test_a_sip_answer_has_its_class(code: int, kind: Kind) -> None:
    assert SIP[code].kind is kind
