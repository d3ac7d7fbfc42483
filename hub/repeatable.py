"""Jobs that may be done twice: where it is not known whether one was done, it is done again."""

from __future__ import annotations

from hub.documents import Job
from hub.jobs import Result
from normalizer.outcomes import Failure


class Repeatable:
    """What the handlers of such jobs have in common; see :class:`hub.jobs.Handler`.

    Nobody is asked what became of an attempt, the router hears nothing of one that failed for
    good, and the jobs of a lane stay in order.
    """

    async def look_up(self, job: Job) -> Result | None:
        return None

    def settle_s(self, job: Job) -> float:
        return 0.0

    def failed(self, job: Job, failure: Failure) -> Result | None:
        return None

    def holds_lane(self, job: Job) -> bool:
        return True
