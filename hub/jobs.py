"""Lanes: everything that leaves the hub, in order, by one worker at a time.

    1 claim a lane -> 2 mark the job as being sent -> 3 call the outside -> 4 keep the outcome
    in the job -> 5 put its item into the inbox -> 6 the job is done

A crashed worker's lane is found when its lease ends; whoever takes over a job that was being
sent treats it as unknown: it is looked up, never blindly sent again. A job is written under the
lease it was taken with, so that a worker who was only too slow changes nothing any more.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec
import structlog
from msgspec.structs import replace

from hub.clock import Clock
from hub.documents import DeadLetter, Job
from hub.ids import encode128
from hub.inbox_writer import Overloaded
from hub.retry import (
    GIVE_UP,
    MISCONFIGURED_S,
    SETTLE_FIRST_S,
    SETTLE_FOR_S,
    backoff_s,
    pause_s,
)
from hub.steps import reached
from hub.store.interface import LaneLease, Store, StoreError
from normalizer.drafts import Outcome
from normalizer.masking import masked
from normalizer.outcomes import (
    Failure,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
    Unsupported,
)

log = structlog.get_logger(__name__)

DUE_AT_ONCE = 200
LANE_BATCH = 20
IDLE_POLL_S = 0.5
DONE_KEPT = timedelta(days=7)
SETTLE_FOR = timedelta(seconds=SETTLE_FOR_S)
TOO_SLOW_S = 1.0
# A lane whose call takes longer only waits: it does not keep others from being started.
WAITS_AFTER_S = 0.05
SHUT_PARKS_S = 30.0  # a lane whose account is shut is looked at again then, at the latest
OFF_PARKS_S = 1.0  # the same of one that is switched off: nobody looks before it is on again
MOST_WAITING = 4  # times the lanes that run side by side

Result = dict[str, Any]
TakeIn = Callable[[str, str, Outcome], Awaitable[None]]


class Paused(Exception):
    """The job may not run now (a switch is off); it costs no attempt."""

    def __init__(self, reason: str, seconds: float = 30.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.seconds = seconds


class _LaneLost(Exception):
    """Another worker has the lane by now, or somebody else has changed the job."""


class Obsolete(Exception):
    """There is nothing left to do: what the job is about was erased or recalled meanwhile."""

    def __init__(self, reason: str, result: Result | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.result = result


class Handler(Protocol):
    """What a kind of job does. One attempt each; no retries, no sleeping inside."""

    async def run(self, job: Job) -> Result | None:
        """Do it and return what the router has to know (None = nothing)."""
        ...

    async def look_up(self, job: Job) -> Result | None:
        """Find out what became of an attempt in doubt: the result if it was done, None if it
        surely was not. Raises Unsupported, Rejected or Unreachable when nobody can say; anything
        else means: ask again."""
        ...

    def settle_s(self, job: Job) -> float:
        """How long after an attempt a look-up may miss what it did."""
        ...

    def failed(self, job: Job, failure: Failure) -> Result | None:
        """Return what the router has to know of a final failure."""
        ...

    def holds_lane(self, job: Job) -> bool:
        """Whether later jobs must not pass this one while it is in doubt."""
        ...

    async def address_of(self, job: Job) -> tuple[str, str]:
        """Return (channel, account) under which the outcome comes in."""
        ...


class Gate(Protocol):
    """Which accounts (``channel:account``) may be called now; see :mod:`hub.outbound.gate`."""

    def shut(self) -> Collection[str]:
        """Return the accounts for which nothing may be taken up."""
        ...

    def off(self) -> Collection[str]:
        """Return the accounts by which nothing may leave: what is in doubt is still settled."""
        ...

    def room(self, account: str) -> int | None:
        """Return how many more jobs may be taken up; None = any number."""
        ...

    def wait_s(self, account: str, job: str) -> float:
        """Return how long a job has to wait; 0 lets it go, and :meth:`left` has to follow."""
        ...

    def left(self, account: str, job: str) -> None:
        """A job that was let go is back."""
        ...


class _Open:
    """A gate that is never shut."""

    def shut(self) -> Collection[str]:
        return ()

    def off(self) -> Collection[str]:
        return ()

    def room(self, account: str) -> int | None:
        return None

    def wait_s(self, account: str, job: str) -> float:
        return 0.0

    def left(self, account: str, job: str) -> None:
        return


class _Place:
    """One lane at work: for which account or backend, and since when it waits for it."""

    def __init__(self, party: str, task: asyncio.Task[None]) -> None:
        self.party = party
        self.task = task
        self.calls_since: float | None = None  # the event loop's time

    def waits(self, now: float) -> bool:
        return self.calls_since is not None and now - self.calls_since > WAITS_AFTER_S


class LaneWorkers:
    """Finds lanes with due jobs, claims them and runs them side by side.

    ``at_once`` lanes are at work; those that only wait for an answer do not count, up to
    ``MOST_WAITING`` times as many. One account or backend never has more than three quarters of
    ``at_once``: however long a stuck one makes its lanes wait, the others are served.
    """

    def __init__(
        self,
        store: Store,
        handlers: Mapping[str, Handler],
        take_in: TakeIn,
        clock: Clock,
        *,
        owner: str,
        lease_s: float = 30.0,
        at_once: int = 8,
        gate: Gate | None = None,
    ) -> None:
        self._store = store
        self._jobs = store.table(Job)
        self._handlers = handlers
        self._take_in = take_in
        self._clock = clock
        self._owner = owner
        self._lease_s = lease_s
        self._at_once = at_once
        self._share = max(1, at_once - at_once // 4)
        self.gate: Gate = gate or _Open()
        self._running: dict[str, _Place] = {}
        self._stopping = False
        self.wake = asyncio.Event()
        self.gave_up: Callable[[], None] = lambda: None  # there is one more dead letter

    async def run(self) -> None:
        """Work until :meth:`stop`; lanes at work finish the job at hand.

        Cancelled, it ends at once, and what was being sent is as after a crash.
        """
        try:
            await self._find_work()
            if self._running:
                await asyncio.wait([place.task for place in self._running.values()])
        except asyncio.CancelledError:
            tasks = [place.task for place in self._running.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def _find_work(self) -> None:
        while not self._stopping:
            try:
                started = await self._start_lanes()
            except StoreError as error:
                log.warning("lanes_not_claimed", reason=str(error))
                started = 0
            except Exception:
                log.exception("lane_search_failed")
                started = 0
            if not started:
                with suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_POLL_S):
                        await self.wake.wait()
                self.wake.clear()

    def stop(self) -> None:
        self._stopping = True
        self.wake.set()

    async def _start_lanes(self) -> int:
        room = self._room()
        if room <= 0:
            tasks = [place.task for place in self._running.values()]
            await asyncio.wait(tasks, timeout=WAITS_AFTER_S, return_when=asyncio.FIRST_COMPLETED)
            return 1
        taken = {*self._running, *await self._store.lanes.parked()}
        held = Counter(place.party for place in self._running.values())
        full = {party for party, count in held.items() if party and count >= self._share}
        due = await self._jobs.find(
            {
                "live": True,
                "kind": {"$in": sorted(self._handlers)},
                "due_at": {"$lte": self._clock.now()},
                **({"lane": {"$nin": sorted(taken)}} if taken else {}),
                **_none_of("account", full),
                **_none_of("backend", {name.removeprefix(_BACKEND) for name in full}),
                **_but_outcomes(self.gate.shut(), self.gate.off()),
            },
            sort=[("due_at", 1)],
            limit=DUE_AT_ONCE,
        )
        lanes = self._chosen(due, held, room)
        leases = await self._store.lanes.claim(list(lanes), self._owner, self._lease_s)
        for lease in leases:
            reached("jobs.1")
            task = asyncio.create_task(self._work(lease), name=f"lane {lease.lane}")
            self._running[lease.lane] = _Place(lanes[lease.lane], task)
            task.add_done_callback(self._left)
        return len(leases)

    def _room(self) -> int:
        """Return how many lanes may be started: those that only wait take no place."""
        now = asyncio.get_running_loop().time()
        waiting = sum(place.waits(now) for place in self._running.values())
        most = MOST_WAITING * self._at_once - len(self._running)
        return min(most, self._at_once - len(self._running) + waiting)

    def _chosen(self, due: list[Job], held: Counter[str], room: int) -> dict[str, str]:
        """Return the lanes to claim, and whose they are: nobody gets more than its share."""
        lanes: dict[str, str] = {}
        for job in due:
            if len(lanes) == room:
                break
            party = _party(job)
            if job.lane in lanes or (party and held[party] >= self._share):
                continue
            allowed = self.gate.room(job.account) if _calls(job) else None
            if allowed is not None and held[party] >= allowed:
                continue
            lanes[job.lane] = party
            held[party] += 1
        return lanes

    def _left(self, task: asyncio.Task[None]) -> None:
        self._running = {
            lane: place for lane, place in self._running.items() if place.task is not task
        }
        self.wake.set()

    # --- one lane ------------------------------------------------------------------------------

    async def _work(self, lease: LaneLease) -> None:
        park_s = 0.0
        try:
            park_s = await self._run_lane(lease)
        except _LaneLost as lost:
            log.warning("lane_lost", lane=lease.lane, reason=str(lost))
        except StoreError as error:
            log.warning("lane_interrupted", lane=lease.lane, reason=str(error))
            park_s = 1.0
        except Exception:
            log.exception("lane_failed", lane=lease.lane)
            park_s = 5.0
        try:
            await self._store.lanes.release(lease, park_s=park_s)
        except StoreError as error:
            log.warning("lane_not_released", lane=lease.lane, reason=str(error))

    async def _run_lane(self, lease: LaneLease) -> float:
        """Run the lane's jobs in order; return for how long the lane has to rest."""
        while not self._stopping:
            jobs = await self._jobs.find(
                {"lane": lease.lane, "live": True}, sort=[("position", 1)], limit=LANE_BATCH
            )
            if not jobs:
                return 0.0
            for job in jobs:
                wait_s = (job.due_at - self._clock.now()).total_seconds()
                if wait_s > 0:
                    return wait_s
                rest_s = await self._admitted(job, lease)
                if rest_s > 0 or self._stopping:
                    return rest_s
        return 0.0

    async def _admitted(self, job: Job, lease: LaneLease) -> float:
        """Run a job if its account may be called now; return for how long the lane has to rest."""
        if job.state == "ready" and job.account in self.gate.off():
            return OFF_PARKS_S
        calls = _calls(job)
        wait_s = self.gate.wait_s(job.account, job.id) if calls else 0.0
        if wait_s > 0:
            return min(wait_s, SHUT_PARKS_S)
        try:
            ends = asyncio.get_running_loop().time() + self._lease_s / 2
            if not await self._store.lanes.renew(lease, self._lease_s):
                raise _LaneLost("its lease ended before the next job")
            return await self._run_job(job, lease, ends)
        finally:
            if calls:
                self.gate.left(job.account, job.id)

    @contextmanager
    def _calling(self, job: Job) -> Iterator[None]:
        """Note for how long a lane waits for the outside."""
        place = self._running.get(job.lane)
        if place is not None:
            place.calls_since = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            if place is not None:
                place.calls_since = None

    async def _run_job(self, job: Job, lease: LaneLease, ends: float) -> float:
        """Bring a job one attempt further. Return 0 when the lane can go on with the next.

        ``ends`` is when half of the lease is over (the event loop's time): no call outlives it.
        """
        handler = self._handlers[job.kind]
        if job.state == "outcome":
            return await self._tell(await self._take(job, lease))
        if job.state in ("sending", "settling"):
            return await self._settle(await self._take(job, lease), handler, ends)
        sending = await self._take(
            job, lease, state="sending", attempts=job.attempts + 1, reason=""
        )
        if asyncio.get_running_loop().time() >= ends:
            return await self._not_done(sending, TOO_SLOW_S, "the database was too slow")
        reached("jobs.2")
        try:
            with self._calling(job):
                async with asyncio.timeout_at(ends):
                    result = await handler.run(sending)
        except Paused as paused:
            return await self._not_done(sending, paused.seconds, paused.reason)
        except Obsolete as obsolete:
            log.info("job_obsolete", job=job.id, kind=job.kind, reason=obsolete.reason)
            return await self._done(sending, obsolete.result)
        except RateLimited as limited:
            return await self._not_done(sending, limited.retry_after, limited.reason)
        except Misconfigured as error:
            return await self._not_done(sending, MISCONFIGURED_S, error.reason)
        except Temporary as error:
            since = sending.failing_since or self._clock.now()
            if self._clock.now() - since > GIVE_UP:
                return await self._give_up(sending, handler, error)
            again = replace(sending, failing_since=since)
            return await self._again(again, backoff_s(sending.attempts), error.reason)
        except OutcomeUnknown as error:
            return await self._in_doubt(sending, handler, error.reason)
        except Failure as failure:
            return await self._give_up(sending, handler, failure)
        except TimeoutError:
            return await self._in_doubt(sending, handler, "no answer in time")
        except Exception as error:
            log.exception("job_failed", job=job.id, kind=job.kind)
            return await self._in_doubt(sending, handler, f"{type(error).__name__}: {error}")
        reached("jobs.3")
        return await self._done(sending, result)

    async def _not_done(self, sending: Job, seconds: float, reason: str) -> float:
        """Wait for something that is not the job's fault: it costs no attempt.

        ``seconds`` may be an outside's own word. It is never none at all: a lane that rests for
        no time goes on with the next job, which would overtake this one.
        """
        free = replace(sending, attempts=sending.attempts - 1, failing_since=None)
        return await self._again(free, pause_s(seconds), reason)

    async def _again(self, job: Job, seconds: float, reason: str) -> float:
        told = masked(reason)  # backends' words may name people
        log.info("job_again", job=job.id, kind=job.kind, seconds=round(seconds, 1), reason=told)
        due_at = self._clock.now() + timedelta(seconds=seconds)
        await self._keep(job, state="ready", due_at=due_at, settle_until=None, reason=reason)
        return seconds

    # --- whose job it is -----------------------------------------------------------------------

    async def _take(self, job: Job, lease: LaneLease, **changes: Any) -> Job:
        """Make the job this lease's. Raises _LaneLost when somebody else was there first."""
        if job.state == "sending":
            log.warning("job_taken_over", job=job.id, kind=job.kind)
        taken = replace(job, lease=lease.token, **changes)
        expect = {"live": True, "state": job.state, "lease": job.lease or None}
        if not await self._jobs.swap(taken, expect):
            raise _LaneLost(f"{job.id} was taken or changed by somebody else")
        return taken

    async def _keep(self, job: Job, **changes: Any) -> Job:
        """Write what became of the job. Raises _LaneLost when another lease has it."""
        kept = replace(job, **changes)
        if not await self._jobs.swap(kept, {"live": True, "lease": job.lease}):
            raise _LaneLost(f"{job.id} was taken over by another worker")
        return kept

    # --- in doubt ------------------------------------------------------------------------------

    async def _in_doubt(self, job: Job, handler: Handler, reason: str) -> float:
        log.warning("job_in_doubt", job=job.id, kind=job.kind, reason=masked(reason))
        return await self._keep_settling(job, self._until(job, handler), reason)

    def _until(self, job: Job, handler: Handler) -> datetime:
        """Return until when a doubt that begins now may be settled by look-ups."""
        return self._clock.now() + timedelta(seconds=handler.settle_s(job)) + SETTLE_FOR

    async def _settle(self, job: Job, handler: Handler, ends: float) -> float:
        """Find out what became of an attempt that nobody knows the end of."""
        until = job.settle_until or self._until(job, handler)
        try:
            with self._calling(job):
                async with asyncio.timeout_at(ends):
                    result = await handler.look_up(job)
        except Paused as paused:
            until = max(until, self._until(job, handler))
            return await self._keep_settling(job, until, paused.reason, pause_s(paused.seconds))
        except Obsolete as obsolete:
            return await self._done(replace(job, reason=""), obsolete.result)
        except Unsupported:
            if handler.holds_lane(job):
                return await self._keep_settling(job, until, "nobody can say what became of it")
            return await self._unknown(job, handler)
        except (Rejected, Unreachable) as failure:
            return await self._unknown(replace(job, reason=failure.reason), handler)
        except Exception as error:  # noqa: BLE001 - kept as the job's reason; the doubt goes on
            if self._clock.now() < until or handler.holds_lane(job):
                reason = f"look-up failed: {type(error).__name__}: {error}"
                return await self._keep_settling(job, until, reason)
            return await self._unknown(job, handler)
        if result is not None:
            return await self._done(replace(job, reason=""), result)
        if self._clock.now() < until - SETTLE_FOR:
            return await self._keep_settling(job, until, "not there, but it may still turn up")
        return await self._again(job, 0.001, "the look-up says it was not done")

    async def _keep_settling(
        self, job: Job, until: datetime, reason: str, seconds: float = SETTLE_FIRST_S
    ) -> float:
        due_at = self._clock.now() + timedelta(seconds=seconds)
        await self._keep(job, state="settling", settle_until=until, due_at=due_at, reason=reason)
        return seconds

    async def _unknown(self, job: Job, handler: Handler) -> float:
        """Step aside: a person has to look. The lane goes on."""
        failure = OutcomeUnknown(job.reason or "it was sent and no answer came")
        return await self._give_up(job, handler, failure)

    # --- the end -------------------------------------------------------------------------------

    async def _give_up(self, job: Job, handler: Handler, failure: Failure) -> float:
        log.error("job_gave_up", job=job.id, kind=job.kind, reason=masked(failure.reason))
        reason = f"{failure.verdict}: {failure.reason}"
        return await self._done(
            replace(job, reason=reason, failing_since=None), handler.failed(job, failure)
        )

    async def _done(self, job: Job, result: Result | None) -> float:
        """Keep the end in the job before anybody is told, so that it is told once."""
        if result is None and not job.reason:
            await self._finish(job)
            return 0.0
        kept = await self._keep(job, state="outcome", outcome=result or {})
        reached("jobs.4")
        return await self._tell(kept)

    async def _tell(self, job: Job) -> float:
        """Let the outcome come in as an item; it stays in the job until that is durable."""
        channel, account = await self._handlers[job.kind].address_of(job)
        if job.reason:
            letter = self._dead_letter(job, channel, account)
            if not await self._store.table(DeadLetter).insert([letter]):
                self.gave_up()
        if job.outcome:
            draft = Outcome(
                key=f"{job.id}:{job.attempts}:{job.outcome.get('state', '')}",
                at=self._clock.now(),
                job=job.id,
                kind=job.kind,
                entry=job.entry,
                conversation=job.conversation,
                backend=job.backend,
                result=job.outcome,
            )
            try:
                await self._take_in(channel, account, draft)
            except Overloaded as error:
                log.warning("outcome_waits", job=job.id, reason=str(error))
                return 1.0
        reached("jobs.5")
        await self._finish(job)
        return 0.0

    def _dead_letter(self, job: Job, channel: str, account: str) -> DeadLetter:
        """Return the letter of a job that gave up; telling it twice makes the same one."""
        verdict, _, reason = job.reason.partition(": ")
        now = self._clock.now()
        tail = hashlib.sha256(f"{job.id}|{job.attempts}".encode()).digest()[:10]
        sorts_by = int(job.due_at.timestamp() * 1000)
        return DeadLetter(
            id=f"ded_{encode128(sorts_by << 80 | int.from_bytes(tail))}",
            kind="job",
            reason=reason,
            stage=f"{job.kind}:{verdict}",
            channel=channel,
            account=account,
            ref=job.id,
            at=now,
            day=f"{now:%Y-%m-%d}",
            state="open",
            attempts=job.attempts,
        )

    async def _finish(self, job: Job) -> None:
        state = "done" if not job.reason else "dead"
        outcome = {name: told for name, told in job.outcome.items() if name not in _PERSONAL}
        expire_at = self._clock.now() + DONE_KEPT
        await self._keep(job, live=False, state=state, outcome=outcome, expire_at=expire_at)
        reached("jobs.6")


_BACKEND = "backend "
_PERSONAL = frozenset({"profile"})  # of an outcome: not kept here once it is in the inbox


def _party(job: Job) -> str:
    """Return who is called: an account or a backend; "" where nobody is."""
    return job.account or (f"{_BACKEND}{job.backend}" if job.backend else "")


def _calls(job: Job) -> bool:
    """Whether an account is called for the job's next step; an outcome is only told."""
    return bool(job.account) and job.state != "outcome"


def _but_outcomes(shut: Collection[str], off: Collection[str]) -> dict[str, Any]:
    """Leave out the accounts that are shut, but not what is to be told of them.

    Of those that are switched off, what was begun before is still looked up.
    """
    if not shut and not off:
        return {}
    return {
        "$or": [
            {"state": "outcome"},
            {"state": {"$ne": "ready"}, "account": {"$nin": sorted(shut)}},
            {"account": {"$nin": sorted({*shut, *off})}},
        ]
    }


def _none_of(field: str, names: Collection[str]) -> dict[str, Any]:
    return {field: {"$nin": sorted(names)}} if names else {}


def to_result(value: Any) -> Result:
    """Return a struct as the plain values that an outcome holds."""
    plain: Result = msgspec.to_builtins(value)
    return plain
