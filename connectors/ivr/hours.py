"""Opening hours: is somebody there at this moment? Decided when the phone rings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from connectors.ivr.menus import WEEKDAYS, Hours

_SPAN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)\Z")
DAY_MINUTES = 24 * 60


def is_open(hours: Hours, at: datetime) -> bool:
    """Say whether ``at`` (any zone) lies within the hours, on the clock of their own zone.

    A day in ``special`` has its own spans (a make-up working day on a Sunday), whatever the
    week says; else a day in ``closed`` has none; else the weekday decides.
    """
    local = at.astimezone(ZoneInfo(hours.time_zone))
    day = local.date().isoformat()
    if day in hours.special:
        spans = hours.special[day]
    elif day in hours.closed:
        spans = []
    else:
        spans = hours.week.get(WEEKDAYS[local.weekday()], [])
    minute = local.hour * 60 + local.minute
    return any(begin <= minute < end for begin, end in map(_minutes, spans))


def problems(hours: Hours) -> Iterator[str]:
    """Yield what is wrong with opening hours, a sentence each."""
    try:
        ZoneInfo(hours.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield f"there is no time zone {hours.time_zone!r}: write an IANA name, Asia/Shanghai"
    for day in (*hours.closed, *hours.special):
        if not _is_date(day):
            yield f"{day!r} is no date: write 2026-10-01"
    for day in hours.closed:
        if day in hours.special:
            yield f"{day} is closed and has hours of its own: keep one of the two"
    for where, spans in (*hours.week.items(), *hours.special.items()):
        yield from _wrong_spans(where, spans)


def _wrong_spans(where: str, spans: list[str]) -> Iterator[str]:
    read = []
    for span in spans:
        begin, end = _minutes(span)
        if begin >= end:
            yield f"{where}: {span!r} is no span: write 09:00-18:00; it ends by 24:00 at the latest"
        else:
            read.append((begin, end))
    read.sort()
    if any(before[1] > after[0] for before, after in pairwise(read)):
        yield f"{where}: two spans overlap"


def _minutes(span: str) -> tuple[int, int]:
    """Return begin and end in minutes of the day; (0, 0) for what is no span."""
    found = _SPAN.match(span)
    if found is None:
        return 0, 0
    hour, minute, until_hour, until_minute = map(int, found.groups())
    end = until_hour * 60 + until_minute
    return (hour * 60 + minute, end) if end <= DAY_MINUTES else (0, 0)


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
