"""Numbers that are forwarded to themselves: the same call would come in for ever.

A carrier that forwards our own number back to us tells so in ForwardedFrom. One such call may be
meant (one of our numbers forwarded to another); a second one by the same caller within a minute
goes round. What was seen is kept in this process, for a minute, and never more than a bound:
with several processes a loop goes round once more for each of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from datetime import datetime, timedelta

from connectors.ivr.requests import CallRequest

WINDOW = timedelta(seconds=60)
MOST = 10_000


class LoopGuard:
    """Remembers forwarded calls of the last minute."""

    def __init__(self, own_numbers: Collection[str]) -> None:
        self._own = frozenset(own_numbers)
        self._seen: deque[tuple[datetime, str, str, str]] = deque(maxlen=MOST)

    def note(self, request: CallRequest, at: datetime) -> None:
        """Remember a new call. A repetition of a request is not another call."""
        while self._seen and self._seen[0][0] < at - 2 * WINDOW:
            self._seen.popleft()
        if request.forwarded_from in self._own:
            seen = (request.caller, request.forwarded_from, request.call)
            if not any(each[1:] == seen for each in self._seen):
                self._seen.append((at, *seen))

    def goes_round(self, request: CallRequest, at: datetime) -> bool:
        """Say whether another call like this one came within the minute before it."""
        if request.forwarded_from not in self._own:
            return False
        return any(
            (caller, forwarded) == (request.caller, request.forwarded_from)
            and call != request.call
            and abs(at - when) <= WINDOW
            for when, caller, forwarded, call in self._seen
        )
