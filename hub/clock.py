"""The time, as a value that can be replaced in tests."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

from normalizer.model import milliseconds


class Clock(Protocol):
    """Wall clock in UTC, cut to milliseconds, and a monotonic clock in seconds."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return milliseconds(datetime.now(UTC))

    def monotonic(self) -> float:
        return time.monotonic()
