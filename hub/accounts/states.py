"""One process' view of everything that can be up or down."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from hub.clock import Clock
from hub.metrics import Metrics

StateName = Literal["starting", "ok", "degraded", "down", "paused", "misconfigured"]
STATE_NAMES: tuple[StateName, ...] = (
    "starting",
    "ok",
    "degraded",
    "down",
    "paused",
    "misconfigured",
)
# Of several things said about one account the worst is shown.
SEVERITY: dict[StateName, int] = {
    "ok": 0,
    "starting": 1,
    "degraded": 2,
    "paused": 3,
    "down": 4,
    "misconfigured": 5,
}
DOOR = "door"
SENDING = "sending"


class AccountState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How one account, backend or component does, and what it waits for."""

    kind: str  # account, backend, component
    name: str
    label: str = ""
    state: StateName = "starting"
    reason: str = ""
    since: datetime
    last_message_at: datetime | None = None
    next_try_at: datetime | None = None
    level_at: datetime | None = None  # the door has brought everything up to this moment
    elsewhere: bool = False  # the door's word, and another process holds it: it counts less
    by_person: bool = False  # somebody paused it

    def lag_s(self, now: datetime) -> float | None:
        """Return how far behind the door is, in seconds; None where nobody can know (webhooks)."""
        if self.level_at is None:
            return None
        return max(0.0, (now - self.level_at).total_seconds())


class _Aspect(msgspec.Struct, frozen=True):
    """What one part of the hub says about an account."""

    state: StateName
    reason: str
    next_try_at: datetime | None


class States:
    """This process' view. Several parts may speak about one account, each in its own ``aspect``.

    The door speaks in ``door``, who sends in ``sending``. The worst is shown.
    """

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._states: dict[tuple[str, str], AccountState] = {}
        self._aspects: dict[tuple[str, str], dict[str, _Aspect]] = {}
        self._elsewhere: set[tuple[str, str]] = set()  # whose doors other processes hold
        self._heard: Counter[tuple[str, datetime]] = Counter()

    def add(self, kind: str, name: str, label: str = "", *, state: StateName = "starting") -> None:
        self._states[(kind, name)] = AccountState(
            kind=kind, name=name, label=label, state=state, since=self._clock.now()
        )
        self._aspects[(kind, name)] = {DOOR: _Aspect(state, "", None)}

    def set(
        self,
        kind: str,
        name: str,
        state: StateName,
        reason: str = "",
        *,
        next_try_s: float | None = None,
        aspect: str = DOOR,
        elsewhere: bool = False,
    ) -> None:
        """Say how something does, as far as ``aspect`` goes.

        ``elsewhere``: another process holds the door and knows better.
        """
        next_try_at = None
        if next_try_s is not None:
            next_try_at = self._clock.now() + timedelta(seconds=next_try_s)
        self._aspects[(kind, name)][aspect] = _Aspect(state, reason, next_try_at)
        if aspect == DOOR:
            self._elsewhere.discard((kind, name))
            if elsewhere:
                self._elsewhere.add((kind, name))
                self._states[(kind, name)].level_at = None
        self._show(kind, name)

    def clear(self, kind: str, name: str, aspect: str) -> None:
        """Take back what an aspect said: there is nothing to say any more."""
        self._aspects[(kind, name)].pop(aspect, None)
        self._show(kind, name)

    def _show(self, kind: str, name: str) -> None:
        held = self._states[(kind, name)]
        aspects = self._aspects[(kind, name)]
        which = max(aspects, key=lambda each: SEVERITY[aspects[each].state])
        worst = aspects[which]
        held.elsewhere = which == DOOR and (kind, name) in self._elsewhere
        if held.state != worst.state:
            held.state, held.since = worst.state, self._clock.now()
        held.reason = worst.reason
        held.next_try_at = worst.next_try_at
        if kind == "account":
            channel, _, account = name.partition(":")
            self._metrics.account_up.labels(channel, account).set(worst.state == "ok")

    def now(self) -> datetime:
        return self._clock.now()

    def level(self, kind: str, name: str, at: datetime | None = None) -> None:
        """The door has brought everything up to ``at`` (now)."""
        held = self._states.get((kind, name))
        if held is not None:
            held.level_at = at or self._clock.now()

    def heard(self, name: str) -> None:
        """An account brought something."""
        held = self._states.get(("account", name))
        if held is not None:
            now = self._clock.now()
            held.last_message_at = now
            self._heard[(name, hour_of(now))] += 1

    def counted(self, *, before: datetime | None = None) -> dict[tuple[str, datetime], int]:
        """Return how often each account was heard in each hour; forget hours ``before``."""
        if before is not None:
            self._heard = Counter(
                {key: count for key, count in self._heard.items() if key[1] >= before}
            )
        return dict(self._heard)

    def all(self) -> list[AccountState]:
        return list(self._states.values())

    def get(self, kind: str, name: str) -> AccountState | None:
        return self._states.get((kind, name))


def hour_of(moment: datetime) -> datetime:
    """Return when the hour of a moment (UTC) began."""
    return moment.replace(minute=0, second=0, microsecond=0)
