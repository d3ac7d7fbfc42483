"""When to try again, as values computed in one place."""

from __future__ import annotations

import random
from datetime import timedelta

FIRST_S = 2.0
LONGEST_S = 15 * 60.0
GIVE_UP = timedelta(hours=72)
SETTLE_FIRST_S = 5.0
SETTLE_FOR_S = 60.0
MISCONFIGURED_S = 300.0
LEAST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 24 * 3600.0


def backoff_s(attempts: int, *, jitter: float | None = None) -> float:
    """Return the wait before the next try: doubling from 2 s to 15 min, half of it random."""
    full = min(LONGEST_S, FIRST_S * 2.0 ** min(attempts - 1, 20))
    share = random.random() if jitter is None else jitter
    return full / 2 + full / 2 * share


def pause_s(retry_after: float) -> float:
    """Return a vendor's word on when to come back as something that can be waited for."""
    if not retry_after >= LEAST_PAUSE_S:  # also what is no number
        return LEAST_PAUSE_S
    return min(retry_after, LONGEST_PAUSE_S)
