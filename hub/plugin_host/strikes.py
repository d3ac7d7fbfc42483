"""When a plugin that keeps failing is left alone, and when it is tried again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Admission = Literal["call", "trial", "skip"]
Turn = Literal["suspended", "recovered"] | None

FAILURES = 5  # in a row
HANGS = 2  # each costs the others a whole deadline, so fewer of them are borne
SUSPENDED_S = 60.0


class Strikes:
    """The failures of one plugin at one hook.

    ``FAILURES`` failures in a row, or ``HANGS`` hangs without ``FAILURES`` good answers in a row
    between them, suspend it for ``SUSPENDED_S`` seconds. Then a single call tries whether it has
    recovered. Every call is bracketed by :meth:`admit` and :meth:`settle` or :meth:`abandon`.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._until: float | None = None
        self._trying = False
        self._good = 0
        self.failures = 0
        self.hangs = 0
        self.reason = ""

    @property
    def state(self) -> Literal["ok", "failing", "suspended", "trying"]:
        if self._until is not None:
            return "trying" if self._trying else "suspended"
        return "failing" if self.failures else "ok"

    @property
    def retry_in_s(self) -> float:
        """Seconds until a suspended plugin is tried again; 0 when it is not suspended."""
        return max(0.0, self._until - self._monotonic()) if self._until is not None else 0.0

    def admit(self) -> Admission:
        """Say whether the plugin may be called now."""
        if self._until is None:
            return "call"
        if self._trying or self.retry_in_s > 0:
            return "skip"
        self._trying = True
        return "trial"

    def settle(self, admission: Admission, failure: str = "", *, hang: bool = False) -> Turn:
        """Take down how a call went; ``failure`` is empty when it went well."""
        if failure:
            return self._failed(admission, failure, hang)
        if admission == "trial":
            self._until, self._trying = None, False
            self.failures = self.hangs = self._good = 0
            return "recovered"
        if self._until is None:  # else it was called before the suspension, and answers late
            self.failures = 0
            self._good += 1
            if self._good >= FAILURES:
                self.hangs = 0
        return None

    def abandon(self, admission: Admission) -> None:
        """Take down that the caller went away before the plugin could answer."""
        if admission == "trial":
            self._trying = False

    def _failed(self, admission: Admission, failure: str, hang: bool) -> Turn:
        self.reason = failure
        self._good = 0
        self.failures += 1
        self.hangs += hang
        worn = self._until is None and (self.failures >= FAILURES or self.hangs >= HANGS)
        if worn or admission == "trial":
            self._until, self._trying = self._monotonic() + SUSPENDED_S, False
            return "suspended"
        return None
