"""Quiet hours on the customer's clock: midnight, both changes of the clocks, odd zone names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.notifications.quiet import QuietHours, read_quiet_hours, zone_of

BERLIN = ZoneInfo("Europe/Berlin")
SHANGHAI = ZoneInfo("Asia/Shanghai")


def span(text: str) -> QuietHours:
    quiet = read_quiet_hours(text)
    assert quiet is not None
    return quiet


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "hours", "zone", "at", "leaves"),
    [
        ("by day", "21:00-08:00", SHANGHAI, "2026-03-02T04:00", "2026-03-02T04:00"),
        ("in the evening", "21:00-08:00", SHANGHAI, "2026-03-02T14:30", "2026-03-03T00:00"),
        ("after midnight", "21:00-08:00", SHANGHAI, "2026-03-02T18:30", "2026-03-03T00:00"),
        ("as it begins", "21:00-08:00", SHANGHAI, "2026-03-02T13:00", "2026-03-03T00:00"),
        ("as it ends", "21:00-08:00", SHANGHAI, "2026-03-03T00:00", "2026-03-03T00:00"),
        ("within one day", "12:00-14:00", SHANGHAI, "2026-03-02T05:59", "2026-03-02T06:00"),
        ("over the year", "21:00-08:00", UTC, "2026-12-31T23:00", "2027-01-01T08:00"),
        ("the night is short", "21:00-08:00", BERLIN, "2026-03-28T21:00", "2026-03-29T06:00"),
        ("the night is long", "21:00-08:00", BERLIN, "2026-10-24T20:00", "2026-10-25T07:00"),
        ("ends in the gap", "21:00-02:30", BERLIN, "2026-03-28T21:00", "2026-03-29T01:30"),
        (
            "ends in the repeated hour",
            "21:00-02:30",
            BERLIN,
            "2026-10-24T20:00",
            "2026-10-25T00:30",
        ),
        ("repeats in the hour", "21:00-02:30", BERLIN, "2026-10-25T01:10", "2026-10-25T01:30"),
        ("begins in the gap", "02:30-08:00", BERLIN, "2026-03-29T01:00", "2026-03-29T06:00"),
        ("before the gap", "02:30-08:00", BERLIN, "2026-03-29T00:59", "2026-03-29T00:59"),
    ],
)
def test_what_comes_in_quiet_hours_leaves_when_they_are_over(
    name: str, hours: str, zone: ZoneInfo, at: str, leaves: str
) -> None:
    assert span(hours).over_at(utc(at), zone) == utc(leaves), name


@given(
    minutes=st.integers(0, 10 * 366 * 1440),
    start=st.integers(0, 1439),
    length=st.integers(1, 1439),
    zone=st.sampled_from(
        ["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Shanghai", "UTC"]
    ),
)
def test_it_never_leaves_in_quiet_hours_and_waits_no_longer_than_a_day(
    minutes: int, start: int, length: int, zone: str
) -> None:
    at = utc("2020-01-01") + timedelta(minutes=minutes)
    end = (start + length) % 1440
    text = f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"
    quiet, place = span(text), ZoneInfo(zone)
    leaves = quiet.over_at(at, place)
    assert not quiet.covers(leaves.astimezone(place).time())
    assert at <= leaves <= at + timedelta(hours=25)
    assert (leaves == at) is not quiet.covers(at.astimezone(place).time())


@pytest.mark.parametrize("text", ["", "21-08", "24:00-08:00", "21:00-08:60", "08:00-08:00", "x"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quiet hours"):
        read_quiet_hours(text)


@given(name=st.text(max_size=300) | st.text("./AZaz_0", max_size=40))
def test_whatever_a_profile_says_there_is_a_time_zone(name: str) -> None:
    assert datetime(2026, 3, 2, tzinfo=zone_of(name)).utcoffset() is not None


def test_none_is_none_and_a_span_is_written_as_it_is_read() -> None:
    assert read_quiet_hours("none") is None
    assert str(span("21:00-08:05")) == "21:00-08:05"


@pytest.mark.parametrize("name", ["", "Mars/Base", "../../etc/passwd", "Asia", "/etc/hosts", "\0"])
def test_a_time_zone_that_does_not_exist_is_passed_over(name: str) -> None:
    assert zone_of(name, "Asia/Shanghai") == SHANGHAI
    assert zone_of(name) is UTC
