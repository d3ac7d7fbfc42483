"""Quiet hours: a span of the day, on the customer's clock, in which nothing leaves unasked."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

import msgspec

_SPAN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)\Z")
NONE = "none"


class QuietHours(msgspec.Struct, frozen=True):
    """From ``start`` up to, not including, ``end`` on the wall clock; may go over midnight."""

    start: time
    end: time

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"

    def covers(self, wall: time) -> bool:
        wall = wall.replace(tzinfo=None, fold=0)
        if self.start < self.end:
            return self.start <= wall < self.end
        return wall >= self.start or wall < self.end

    def over_at(self, at: datetime, zone: tzinfo) -> datetime:
        """Return ``at`` if it is not quiet then, else when it is no longer. Both in UTC.

        Where a change of the clocks repeats the hour in which it ends, it ends as often: what
        falls into the repeated part waits for the second end. An end that the clocks leap over
        comes when the hour after it has as many minutes.
        """
        while self.covers((local := at.astimezone(zone)).time()):
            day = local.date()
            if local.time().replace(fold=0) >= self.end:
                day += timedelta(days=1)
            first = datetime.combine(day, self.end, zone).astimezone(UTC)
            second = datetime.combine(day, self.end, zone).replace(fold=1).astimezone(UTC)
            at = first if first > at else second
        return at


def read_quiet_hours(text: str) -> QuietHours | None:
    """Read ``21:00-08:00``; ``none`` is None. Raises ``ValueError`` for anything else."""
    if text == NONE:
        return None
    found = _SPAN.match(text)
    if found is None:
        raise ValueError('quiet hours are written as "21:00-08:00", or "none"')
    hours = [int(each) for each in found.groups()]
    start, end = time(hours[0], hours[1]), time(hours[2], hours[3])
    if start == end:
        raise ValueError("quiet hours that end when they begin would never let anything leave")
    return QuietHours(start, end)


def zone_of(*names: str) -> tzinfo:
    """Return the first of these time zones that exists; UTC if none does.

    Names come from profiles, so anything may stand there.
    """
    for name in names:
        if not name:
            continue
        try:
            return ZoneInfo(name)
        except (ValueError, KeyError, OSError):  # no such zone, a folder, a path out of the data
            continue
    return UTC
