"""The accounts' states as metrics, for the whole space, made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hub.accounts.states import STATE_NAMES, AccountState
from hub.clock import Clock

_LABELS = ("channel", "account")


class AccountMeasures(Collector):
    """``omniline_account_state``, ``_lag_seconds`` and ``_last_message_age_seconds``.

    An account whose lag or last message nobody knows has no sample: an alarm on age then says
    nothing instead of something wrong.
    """

    def __init__(self, states: Callable[[], Sequence[AccountState]], clock: Clock) -> None:
        self._states = states
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        now = self._clock.now()
        state = GaugeMetricFamily(
            "omniline_account_state",
            "1 for the state that the account is in, 0 for the others.",
            labels=(*_LABELS, "state"),
        )
        lag = GaugeMetricFamily(
            "omniline_account_lag_seconds",
            "How far the account's door is behind its vendor.",
            labels=_LABELS,
        )
        age = GaugeMetricFamily(
            "omniline_account_last_message_age_seconds",
            "How long ago the account brought something.",
            labels=_LABELS,
        )
        for each in self._states():
            if each.kind != "account":
                continue
            channel, _, key = each.name.partition(":")
            for name in STATE_NAMES:
                state.add_metric((channel, key, name), float(name == each.state))
            lag_s = each.lag_s(now)
            if lag_s is not None:
                lag.add_metric((channel, key), lag_s)
            if each.last_message_at is not None:
                age_s = max(0.0, (now - each.last_message_at).total_seconds())
                age.add_metric((channel, key), age_s)
        return (state, lag, age)
