"""How many sends a vendor allows in a period: which counters a send has to have a place in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from hub.outbound.ledger import Counter
from normalizer.capabilities import Capabilities, Quota

_KEPT = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Counted(msgspec.Struct, frozen=True):
    """A quota and the counter of its present period."""

    quota: Quota
    counter: Counter


def counters(
    can: Capabilities,
    channel: str,
    account: str,
    address: str,
    now: datetime,
    *,
    template: bool = True,
) -> list[Counted]:
    """Return the counters of all quotas of an account for a send to ``address`` (an ``adr_``).

    Those that count templates alone are left out for what is no ``template``.
    """
    found = []
    for quota in can.quotas:
        if quota.templates and not template:
            continue
        starts, ends = period(quota, now)
        whose = f"{channel}:{account}"
        if quota.per == "address":
            whose = f"{whose}|{address}"
        counter = Counter(
            id=f"quota|{whose}|{quota.name}|{round(starts.timestamp())}",
            places=quota.sends,
            ends=ends,
            kept_until=ends + _KEPT,
        )
        found.append(Counted(quota, counter))
    return found


def period(quota: Quota, now: datetime) -> tuple[datetime, datetime]:
    """Return when the present period began and when it ends, in UTC."""
    since = (now - _EPOCH).total_seconds() - quota.offset_s
    starts = _EPOCH + timedelta(seconds=since // quota.period_s * quota.period_s + quota.offset_s)
    return starts, starts + timedelta(seconds=quota.period_s)
