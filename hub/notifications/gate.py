"""The last look at a notification, by the worker, just before it leaves.

The router decided when it was asked for; hours may have passed. Consent may have been withdrawn
since, what it says may be of no use any more, and a worker that was held up may have come to it
in the middle of the night.
"""

from __future__ import annotations

from datetime import datetime

from hub.documents import Consent, Entry, Job, Notice
from hub.jobs import Obsolete, Paused
from hub.notifications import NOTIFICATION
from hub.notifications.consents import objection
from hub.notifications.quiet import read_quiet_hours, zone_of
from hub.store.interface import Store
from normalizer.drafts import DeliveryState

_REASONS = {
    "withdrawn": "consent was withdrawn before it was sent",
    "missing": "consent no longer stood when it was to be sent",
}


async def may_leave(store: Store, entry: Entry, job: Job, now: datetime) -> None:
    """Return if the entry may be sent now; what is no notification always may.

    Raises ``Obsolete`` with the outcome ``failed`` and its reason when it never may again, and
    ``Paused`` until quiet hours are over. Store errors pass: nothing has left the hub yet.
    """
    if entry.event != NOTIFICATION or not entry.automatic:
        return
    notice = await store.table(Notice).get(entry.id)
    if notice is None or (notice.expires_at is not None and now >= notice.expires_at):
        raise _never(job, "expired", "it expired before it could be sent")
    if notice.cancelled_at is not None:
        raise _never(job, "cancelled", "it was cancelled before it was sent")
    consents = await store.table(Consent).find({"address": entry.address})
    states = {consent.purpose: consent.state for consent in consents}
    against = objection(states, notice.purpose, needs_grant=notice.needs_grant)
    if against is not None:
        raise _never(job, f"consent_{against}", _REASONS[against])
    quiet = read_quiet_hours(notice.quiet_hours)
    over_at = quiet.over_at(now, zone_of(notice.time_zone)) if quiet is not None else now
    if over_at > now:
        raise Paused(f"quiet hours until {over_at.isoformat()}", (over_at - now).total_seconds())


def _never(job: Job, code: str, reason: str) -> Obsolete:
    result = {"state": str(DeliveryState.FAILED), "code": code, "reason": reason}
    if "round" in job.args:  # what a redriven send says outranks what was said of it before
        result["round"] = job.args["round"]
    return Obsolete(reason, result)
