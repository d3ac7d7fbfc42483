"""Frequency caps: at most so many notifications in any span of a day or a week.

Spans slide: five in the evening and five the next morning are ten within a day. Times are those
at which notifications leave, so what is asked for today and held until Thursday counts then.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec


class Cap(msgspec.Struct, frozen=True):
    """At most ``most`` within ``span``."""

    most: int
    span: timedelta

    def takes(self, at: datetime, others: Sequence[datetime]) -> bool:
        """Say whether one more at ``at`` leaves no span with too many. ``others`` are sorted."""
        near = [each for each in others if abs(each - at) < self.span]
        near.insert(bisect_right(near, at), at)
        return all(
            bisect_left(near, start + self.span) - place <= self.most
            for place, start in enumerate(near)
            if start <= at
        )


def take(caps: Iterable[Cap], at: datetime, others: Iterable[datetime]) -> bool:
    """Say whether every cap has room for one more at ``at``."""
    held = sorted(others)
    return all(cap.takes(at, held) for cap in caps)


def possible_at(caps: Iterable[Cap], at: datetime, others: Iterable[datetime]) -> datetime:
    """Return the first moment from ``at`` on at which every cap has room for one more.

    Room comes up only when a former one is a whole span old, so only those moments are tried.
    """
    caps, held = list(caps), sorted(others)
    moments = sorted({each + cap.span for each in held for cap in caps if each + cap.span > at})
    return next((each for each in [at, *moments] if take(caps, each, held)), at)
