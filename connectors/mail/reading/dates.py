"""When a mail was written, as far as its Date header can be believed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_tz

_CHINA = timezone(timedelta(hours=8))
_CST = re.compile(r"\bCST\b")
MOST_APART = timedelta(days=2)


def written_at(text: str, internal_date: datetime | None) -> datetime | None:
    """Return the time of a Date header in UTC, or None where it is none.

    No zone, or ``-0000``, is read as UTC. ``CST`` is China's time where that fits the mailbox's
    own date better than America's, and without one, because that is who writes to this hub.
    With ``internal_date`` a date that is over two days off is not believed.
    """
    moment = _parsed(text)
    if moment is None:
        return internal_date
    if _CST.search(text):
        china = moment.replace(tzinfo=_CHINA)
        if internal_date is None or abs(china - internal_date) < abs(moment - internal_date):
            moment = china
    moment = moment.astimezone(UTC)
    if internal_date is not None and abs(moment - internal_date) > MOST_APART:
        return internal_date
    return moment


def _parsed(text: str) -> datetime | None:
    if len(text) > 200:
        return None
    try:
        parsed = parsedate_tz(text)
        if parsed is None:
            return None
        year, month, day, hour, minute, second = parsed[:6]
        offset = parsed[9] or 0
        zone = timezone(timedelta(seconds=offset if abs(offset) < 86_400 else 0))
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=zone)
        return moment if 1980 <= moment.year <= 9000 else None
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError):
        return None  # what parsedate_tz raises for dates that are none
