"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from normalizer.model import milliseconds

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class FakeClock:
    """A :class:`hub.Clock` set by hand. The wall clock is in UTC, ``monotonic`` in seconds."""

    def __init__(self, now: datetime = START) -> None:
        self._now = milliseconds(now)
        self._monotonic = 0.0

    def now(self) -> datetime:
        return milliseconds(self._now)

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> datetime:
        """Let time pass on both clocks; return the new moment. Time never goes back."""
        if seconds < 0:
            raise ValueError("time does not go back: advance by 0 or more seconds")
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds
        return self.now()
