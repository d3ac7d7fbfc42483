"""Lanes: in order, side by side, each job really done once whatever dies, nothing forgotten.

Faked: the outside (it counts what really happened to it), the router (it keeps what it is told),
time. Real: both stores. What may be asserted: what happened outside, what was told, what the jobs
say in the end.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import MutableSequence
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from structlog.typing import EventDict

from hub import steps
from hub.documents import Job
from hub.jobs import Obsolete, Paused, to_result
from hub.outbound import AccountGate
from hub.retry import (
    GIVE_UP,
    LEAST_PAUSE_S,
    LONGEST_PAUSE_S,
    LONGEST_S,
    MISCONFIGURED_S,
    SETTLE_FIRST_S,
    SETTLE_FOR_S,
    backoff_s,
)
from hub.store.interface import Unavailable
from hub.testing.clock import START
from normalizer.outcomes import (
    Failure,
    Gone,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
    Unsupported,
)
from normalizer.tickets import TicketRef
from tests.jobs.world import DONE, LOST, Crash, World, job


def crash_at(step: str, nth: int = 1) -> None:
    """Let the process die when it reaches a step for the nth time."""
    left = nth

    def crash() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            del steps.watchers[step]
            raise Crash(step)

    steps.watchers[step] = crash


# --- order ---------------------------------------------------------------------------------------


async def test_a_lane_runs_in_order_of_position_and_each_outcome_is_told(world: World) -> None:
    await world.give(*(job(f"job_{n}") for n in (3, 1, 5, 2, 4)))
    async with world.working():
        await world.finished("job_1", "job_2", "job_3", "job_4", "job_5")
    assert world.outside.done == ["job_1", "job_2", "job_3", "job_4", "job_5"]
    assert [told.job for told in world.told] == world.outside.done
    assert set(world.told_as) == {("chat", "main")}
    assert world.told[0].key == "job_1:1:accepted"
    done = await world.job("job_1")
    assert (done.state, done.attempts, done.live) == ("done", 1, False)
    assert done.expire_at is not None
    assert done.expire_at > world.clock.now()
    assert await world.store.lanes.parked() == set()


async def test_lanes_run_side_by_side_and_jobs_of_a_lane_one_after_the_other(world: World) -> None:
    gate = asyncio.Event()
    world.outside.gates = {f"{lane}_1": gate for lane in "abc"}
    for lane in "abc":
        await world.give(job(f"{lane}_1", lane), job(f"{lane}_2", lane))
    async with world.working():
        await world.until("three lanes", lambda: len(world.outside.started) == 3)
        assert sorted(world.outside.started) == ["a_1", "b_1", "c_1"]
        gate.set()
        await world.finished("a_2", "b_2", "c_2")


async def test_no_more_lanes_run_at_once_than_there_is_room_for(world: World) -> None:
    gates = {f"{lane}_1": asyncio.Event() for lane in "abc"}
    world.outside.gates = gates
    await world.give(*(job(f"{lane}_1", lane) for lane in "abc"))
    async with world.working(at_once=2):
        await world.until("two lanes", lambda: len(world.outside.started) == 2)
        assert len(await world.store.lanes.parked()) == 2
        gates[world.outside.started[0]].set()
        await world.until("the third lane", lambda: len(world.outside.started) == 3)
        for gate in gates.values():
            gate.set()
        await world.finished("a_1", "b_1", "c_1")


async def test_an_account_that_is_switched_off_costs_nobody_anything(world: World) -> None:
    """Ten thousand answers may wait for it: none is so much as looked at before it is on again."""
    off = {"chat:off"}
    waiting = [job(f"job_{n}", f"send:{n}", account="chat:off") for n in range(1, 30)]
    await world.give(*waiting, job("job_99", "send:other", account="chat:on"))
    async with world.working(gate=AccountGate(world.clock, off=lambda: off)) as workers:
        await world.finished("job_99")
        await world.until("the lane to be left", lambda: not workers.busy)
        assert [task.get_name() for task in workers.ended] == ["lane send:other"]
        assert await world.job("job_1") == waiting[0]
        off.clear()
        workers.wake.set()
        await world.finished(*(each.id for each in waiting))
    assert len(world.outside.done) == 30


async def test_what_was_begun_is_looked_up_though_its_account_is_switched_off_since(
    world: World,
) -> None:
    """Nothing leaves by that, and what comes behind it waits."""
    off: set[str] = set()
    world.outside.plan["job_1"] = [LOST]
    await world.give(job("job_1", account="chat:main"), job("job_2", account="chat:main"))
    async with world.working(gate=AccountGate(world.clock, off=lambda: off)) as workers:
        await world.in_state("job_1", "settling")
        off.add("chat:main")
        await world.later(SETTLE_FIRST_S)
        await world.finished("job_1")
        await world.until("the lane to be left", lambda: not workers.busy)
        assert world.outside.started == ["job_1"]
        off.clear()
        await world.finished("job_2", tick_s=1.0)
    assert world.states == {"job_1": "accepted", "job_2": "accepted"}


async def test_what_is_not_due_waits_and_so_does_all_behind_it(world: World) -> None:
    await world.give(job("job_1", due_at=START + timedelta(seconds=30)), job("job_2"))
    async with world.working():
        await world.until("the lane to rest", lambda: world.store.lanes.parked())
        assert world.outside.started == []
        await world.later(31)
        await world.finished("job_1", "job_2")
    assert world.outside.done == ["job_1", "job_2"]


async def test_a_job_without_a_result_tells_nothing(world: World) -> None:
    world.outside.plan["job_1"] = [None]
    await world.give(job("job_1"))
    async with world.working():
        await world.finished("job_1")
    assert world.told == []
    assert (await world.job("job_1")).state == "done"


async def test_two_processes_share_the_lanes_and_do_nothing_twice(world: World) -> None:
    jobs = [job(f"job_{lane}_{n}", f"lane {lane}", n) for lane in range(6) for n in range(1, 6)]
    await world.give(*jobs)
    async with world.working("one", at_once=3), world.working("two", at_once=3):
        await world.finished(*(each.id for each in jobs))
    assert Counter(world.outside.done) == Counter(each.id for each in jobs)
    for lane in range(6):
        mine = [ident for ident in world.outside.done if ident.startswith(f"job_{lane}_")]
        assert mine == sorted(mine)


# --- what the outside says -----------------------------------------------------------------------


async def test_temporary_failures_are_tried_again_later_and_nothing_passes_them(
    world: World,
) -> None:
    world.outside.plan["job_1"] = [Temporary("busy"), Temporary("still busy")]
    await world.give(job("job_1"), job("job_2"))
    async with world.working():
        waiting = await world.in_state("job_1", "ready")
        assert (waiting.attempts, waiting.reason) == (1, "busy")
        assert 1.0 <= (waiting.due_at - world.clock.now()).total_seconds() <= 2.0
        await world.later(2.1)
        waiting = await world.in_state("job_1", "ready", tries=2)
        assert waiting.attempts == 2
        assert 2.0 <= (waiting.due_at - world.clock.now()).total_seconds() <= 4.0
        await world.later(4.1)
        await world.finished("job_1", "job_2")
    assert world.outside.started == ["job_1", "job_1", "job_1", "job_2"]
    assert (await world.job("job_1")).attempts == 3
    assert (await world.job("job_1")).state == "done"


@pytest.mark.parametrize(
    ("failure", "wait_s"),
    [
        (RateLimited("slow down", retry_after=77), 77),
        (Misconfigured("no rights"), MISCONFIGURED_S),
        (Paused("switched off", 33), 33),
        (RateLimited("at once, it says", retry_after=0), LEAST_PAUSE_S),
        (RateLimited("for ever", retry_after=float("inf")), LONGEST_PAUSE_S),
        (RateLimited("no number", retry_after=float("nan")), LEAST_PAUSE_S),
    ],
    ids=["rate limited", "misconfigured", "paused", "no wait", "for ever", "no number"],
)
async def test_what_is_not_the_jobs_fault_costs_no_attempt(
    world: World, failure: Exception, wait_s: float
) -> None:
    world.outside.plan["job_1"] = [failure, failure]
    await world.give(job("job_1"), job("job_2"))
    async with world.working():
        for tries in (1, 2):
            waiting = await world.in_state("job_1", "ready", tries=tries)
            assert waiting.attempts == 0
            assert waiting.due_at == world.clock.now() + timedelta(seconds=wait_s)
            assert str(failure) == waiting.reason
            await world.later(wait_s + 0.1)
        await world.finished("job_1", "job_2")
    assert world.outside.done == ["job_1", "job_2"]
    assert (await world.job("job_1")).attempts == 1
    assert await world.letters() == []


async def test_temporary_trouble_that_does_not_end_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert timedelta(hours=72) == GIVE_UP
    monkeypatch.setattr("hub.jobs.GIVE_UP", timedelta(hours=3))  # fewer tries for the test
    world.outside.plan["job_1"] = [Temporary(f"busy {n}") for n in range(100)]
    await world.give(job("job_1"), job("job_2"))
    async with world.working():
        await world.finished("job_1", "job_2", tick_s=LONGEST_S)
    (letter,) = await world.letters()
    assert timedelta(hours=3) < letter.at - START < timedelta(hours=4)
    assert (letter.kind, letter.ref, letter.stage) == ("job", "job_1", "send:temporary")
    assert world.states == {"job_1": "failed", "job_2": "accepted"}
    assert world.outside.done == ["job_2"]


async def test_only_failures_in_a_row_count_towards_giving_up(world: World) -> None:
    """An account that was switched off for a week is no reason to give up at the first hiccup."""
    world.outside.plan["job_1"] = [
        Temporary("busy"),
        Paused("switched off", GIVE_UP.total_seconds() * 2),
        Temporary("busy again"),
    ]
    await world.give(job("job_1"))
    async with world.working():
        await world.finished("job_1", tick_s=3600)
    assert world.outside.done == ["job_1"]
    assert await world.letters() == []


@pytest.mark.parametrize(
    "failure",
    [
        Rejected("too long"),
        Unreachable("opted out"),
        Unsupported("no pictures"),
        Gone("closed for ever"),
    ],
    ids=lambda failure: failure.verdict,
)
async def test_a_final_failure_is_told_and_kept_for_a_person_and_the_lane_goes_on(
    world: World, failure: Failure
) -> None:
    world.outside.plan["job_1"] = [failure]
    await world.give(job("job_1"), job("job_2"))
    gave_up = Mock()
    async with world.working() as workers:
        workers.gave_up = gave_up
        await world.finished("job_1", "job_2")
    gave_up.assert_called_once_with()
    assert world.states == {"job_1": "failed", "job_2": "accepted"}
    assert world.told[0].result["reason"] == failure.reason
    (letter,) = await world.letters()
    assert (letter.kind, letter.ref, letter.state) == ("job", "job_1", "open")
    assert (letter.reason, letter.stage) == (failure.reason, f"send:{failure.verdict}")
    assert (letter.channel, letter.account, letter.attempts) == ("chat", "main", 1)
    dead = await world.job("job_1")
    assert (dead.state, dead.live) == ("dead", False)
    assert world.outside.started == ["job_1", "job_2"]


@pytest.mark.parametrize(
    ("failure", "event"),
    [(Temporary, "job_again"), (OutcomeUnknown, "job_in_doubt"), (Rejected, "job_gave_up")],
)
async def test_what_a_backend_says_of_people_is_kept_for_the_operator_and_not_logged(
    world: World, logs: MutableSequence[EventDict], failure: type[Failure], event: str
) -> None:
    said = "no requester li@example.com, +8613800138000"
    world.outside.plan["job_1"] = [failure(said)]
    await world.give(job("job_1"))
    async with world.working():
        held = await world.in_state_of("job_1", lambda job: said in job.reason)
    assert said in held.reason
    (line,) = [each for each in logs if each["event"] == event]
    assert line["reason"] == "no requester ***, ***"


@pytest.mark.parametrize("result", [None, {"state": "failed", "code": "recalled"}])
async def test_what_is_obsolete_is_over_and_no_failure(world: World, result: Any) -> None:
    world.outside.plan["job_1"] = [Obsolete("it was recalled", result)]
    world.outside.plan["job_2"] = [LOST]
    world.outside.looks["job_2"] = [Obsolete("it was erased", result)]
    await world.give(job("job_1"), job("job_2"), job("job_3"))
    async with world.working():
        await world.finished("job_1", "job_2", "job_3", tick_s=1.0)
    assert await world.letters() == []
    assert [(await world.job(f"job_{n}")).state for n in (1, 2, 3)] == ["done"] * 3
    told = {"job_1": "failed", "job_2": "failed"} if result else {}
    assert world.states == {**told, "job_3": "accepted"}


# --- in doubt ------------------------------------------------------------------------------------


async def test_what_was_done_without_an_answer_is_found_and_not_done_again(world: World) -> None:
    world.outside.plan["job_1"] = [LOST]
    await world.give(job("job_1"), job("job_2"))
    async with world.working():
        doubtful = await world.in_state("job_1", "settling")
        assert doubtful.due_at == world.clock.now() + timedelta(seconds=SETTLE_FIRST_S)
        assert world.outside.looked_up == [], "the outside needs a moment"
        await world.later(SETTLE_FIRST_S)
        await world.finished("job_1", "job_2")
    assert world.outside.done == ["job_1", "job_2"]
    assert world.states == {"job_1": "accepted", "job_2": "accepted"}
    assert (await world.job("job_1")).state == "done"


async def test_what_is_surely_not_there_is_sent_again(world: World) -> None:
    world.outside.plan["job_1"] = [OutcomeUnknown("reset before it was done")]
    await world.give(job("job_1"), job("job_2"))
    async with world.working():
        await world.in_state("job_1", "settling")
        await world.finished("job_1", "job_2", tick_s=1.0)
    assert world.outside.started == ["job_1", "job_1", "job_2"]
    assert world.outside.done == ["job_1", "job_2"]
    assert (await world.job("job_1")).attempts == 2


async def test_what_nobody_can_say_is_shown_to_a_person_and_the_lane_goes_on(
    world: World,
) -> None:
    world.outside.can_look = False
    world.outside.plan["job_1"] = [LOST]
    await world.give(job("job_1"), job("job_2"))
    async with world.working():
        await world.in_state("job_1", "settling")
        await world.finished("job_1", "job_2", tick_s=1.0)
    assert world.outside.done == ["job_1", "job_2"], "it is never blindly sent again"
    assert world.states == {"job_1": "unknown", "job_2": "accepted"}
    (letter,) = await world.letters()
    assert (letter.stage, letter.reason) == ("send:outcome_unknown", "no answer")


async def test_what_holds_its_lane_waits_until_somebody_can_say(world: World) -> None:
    world.outside.can_look = False
    world.outside.holds = True
    world.outside.plan["job_1"] = [LOST]
    await world.give(job("job_1"), job("job_2"))
    async with world.working():
        await world.in_state("job_1", "settling")
        await world.until(
            "many look-ups", lambda: len(world.outside.looked_up) > 20, tick_s=SETTLE_FIRST_S
        )
        assert world.outside.started == ["job_1"]
        world.outside.can_look = True
        await world.finished("job_1", "job_2", tick_s=1.0)
    assert world.outside.done == ["job_1", "job_2"]
    assert world.states == {"job_1": "accepted", "job_2": "accepted"}
    assert await world.letters() == []


async def test_look_ups_that_fail_are_repeated_for_a_minute_and_no_longer(world: World) -> None:
    world.outside.plan["job_1"] = [LOST]
    world.outside.looks["job_1"] = [Temporary("away"), RateLimited("slow", retry_after=9)]
    world.outside.looks["job_1"] += [ValueError("a bug")] * 100
    await world.give(job("job_1"), job("job_2"))
    async with world.working():
        doubtful = await world.in_state("job_1", "settling")
        assert doubtful.settle_until == world.clock.now() + timedelta(seconds=SETTLE_FOR_S)
        await world.finished("job_1", "job_2", tick_s=1.0)
    assert len(world.outside.looked_up) >= SETTLE_FOR_S / SETTLE_FIRST_S - 3
    assert len(world.outside.looked_up) <= SETTLE_FOR_S / SETTLE_FIRST_S + 2
    assert world.states == {"job_1": "unknown", "job_2": "accepted"}
    (letter,) = await world.letters()
    assert letter.reason == "look-up failed: ValueError: a bug"


async def test_look_ups_that_fail_go_on_where_the_lane_is_held(world: World) -> None:
    world.outside.holds = True
    world.outside.plan["job_1"] = [LOST]
    world.outside.looks["job_1"] = [Temporary("away")] * 30
    await world.give(job("job_1"))
    async with world.working():
        await world.in_state("job_1", "settling")
        await world.finished("job_1", tick_s=SETTLE_FIRST_S)
    assert world.clock.now() - START > timedelta(seconds=2 * SETTLE_FOR_S)
    assert world.states == {"job_1": "accepted"}


@pytest.mark.parametrize("failure", [Rejected("erased"), Unreachable("erased")])
async def test_a_look_up_that_will_never_succeed_holds_nothing_up(
    world: World, failure: Failure
) -> None:
    world.outside.holds = True
    world.outside.plan["job_1"] = [LOST]
    world.outside.looks["job_1"] = [failure]
    await world.give(job("job_1"), job("job_2"))
    async with world.working():
        await world.in_state("job_1", "settling")
        await world.finished("job_1", "job_2", tick_s=1.0)
    assert world.states == {"job_1": "unknown", "job_2": "accepted"}
    (letter,) = await world.letters()
    assert letter.reason == "erased"


async def test_a_paused_look_up_waits_without_an_end(world: World) -> None:
    """The account may be configured in another process only."""
    world.outside.plan["job_1"] = [LOST]
    world.outside.looks["job_1"] = [Paused("not configured here", 60.0)] * 10
    await world.give(job("job_1"))
    async with world.working():
        await world.in_state("job_1", "settling")
        await world.finished("job_1", tick_s=30.0)
    assert world.states == {"job_1": "accepted"}


async def test_not_there_is_not_believed_while_the_outside_may_lag(world: World) -> None:
    """An eventual look-up (Jira: three minutes) would make a twin otherwise."""
    world.outside.settles_s = 180.0
    world.outside.plan["job_1"] = [LOST]
    world.outside.hides = lambda: world.clock.now() < START + timedelta(seconds=170)
    await world.give(job("job_1"))
    async with world.working():
        await world.in_state("job_1", "settling")
        await world.finished("job_1", tick_s=SETTLE_FIRST_S)
    assert world.outside.done == ["job_1"]
    assert world.states == {"job_1": "accepted"}


async def test_not_there_is_believed_once_the_outside_has_settled(world: World) -> None:
    world.outside.settles_s = 180.0
    world.outside.plan["job_1"] = [OutcomeUnknown("it was not done")]
    await world.give(job("job_1"))
    async with world.working():
        await world.in_state("job_1", "settling")
        await world.until("another try", lambda: len(world.outside.started) == 2, tick_s=1.0)
        await world.finished("job_1", tick_s=1.0)
    assert world.clock.now() - START >= timedelta(seconds=180)
    assert world.outside.done == ["job_1"]


async def test_no_answer_in_half_a_lease_is_a_doubt(world: World) -> None:
    world.outside.gates["job_1"] = asyncio.Event()
    await world.give(job("job_1"))
    async with world.working(lease_s=0.2):
        doubtful = await world.in_state("job_1", "settling")
        assert doubtful.reason == "no answer in time"
        world.outside.gates["job_1"].set()
        await world.finished("job_1", tick_s=1.0)
    assert world.outside.done == ["job_1"]


async def test_an_unforeseen_error_is_a_doubt(world: World) -> None:
    world.outside.plan["job_1"] = [ZeroDivisionError("in a connector")]
    await world.give(job("job_1"))
    async with world.working():
        doubtful = await world.in_state("job_1", "settling")
        assert doubtful.reason == "ZeroDivisionError: in a connector"
        await world.finished("job_1", tick_s=1.0)
    assert world.outside.done == ["job_1"]


# --- dying ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("step", [step for step in steps.STEPS if step.startswith("jobs.")])
async def test_a_process_that_dies_at_a_step_forgets_and_doubles_nothing(
    world: World, step: str, nth: int
) -> None:
    """A second one finds its lanes when the leases end, and looks up what was in flight."""
    idents = ["a_1", "a_2", "b_1", "b_2", "c_1"]
    await world.give(*(job(ident, f"send:{ident[0]}") for ident in idents))
    crash_at(step, nth)
    await world.work_until_it_crashes("one")
    await world.later(31)
    async with world.working("two"):
        await world.finished(*idents, tick_s=1.0)
    assert Counter(world.outside.done) == Counter(idents)
    assert world.states == dict.fromkeys(idents, "accepted")
    assert {key.partition(":")[0] for key in world.told_keys} == set(idents)
    for lane in "ab":
        assert [i for i in world.outside.done if i[0] == lane] == [f"{lane}_1", f"{lane}_2"]
    assert [(await world.job(ident)).state for ident in idents] == ["done"] * len(idents)


@pytest.mark.parametrize("step", ["jobs.4", "jobs.5"])
async def test_a_failure_is_one_dead_letter_even_if_the_process_dies_on_it(
    world: World, step: str
) -> None:
    world.outside.plan["job_1"] = [Rejected("too long")]
    await world.give(job("job_1"), job("job_2"))
    crash_at(step)
    await world.work_until_it_crashes("one")
    await world.later(31)
    async with world.working("two"):
        await world.finished("job_1", "job_2", tick_s=0.1)
    assert len(await world.letters()) == 1
    assert world.states == {"job_1": "failed", "job_2": "accepted"}
    assert len({told.key for told in world.told if told.job == "job_1"}) == 1
    assert world.outside.started == ["job_1", "job_2"]


async def test_a_second_failure_after_a_redrive_is_another_letter(world: World) -> None:
    world.outside.plan["job_1"] = [Rejected("once"), Rejected("twice")]
    await world.give(job("job_1"))
    async with world.working():
        await world.finished("job_1")
        dead = await world.job("job_1")
        redriven = {"live": True, "state": "ready", "lease": "", "outcome": {}, "reason": ""}
        await world.store.table(Job).put([_changed(dead, **redriven)])
        await world.finished("job_1")
    assert [letter.reason for letter in await world.letters()] == ["once", "twice"]
    assert len(world.told_keys) == 2


async def test_a_send_that_hangs_is_cut_when_there_is_no_more_time_and_left_in_doubt(
    world: World,
) -> None:
    """Its job stays as a crash would leave it: whoever takes it over looks it up."""
    world.outside.gates["job_1"] = asyncio.Event()
    await world.give(job("job_1"))
    workers = world.workers()
    task = asyncio.create_task(workers.run())
    await world.until("the send", lambda: world.outside.started == ["job_1"])
    workers.stop()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not workers.busy
    assert len(workers.ended) == 1
    held = await world.job("job_1")
    assert (held.state, held.live) == ("sending", True)
    assert world.told == []


async def test_what_a_dead_worker_was_sending_is_looked_up_first(world: World) -> None:
    world.outside.done.append("job_1")  # by a process that could not say so any more
    await world.give(job("job_1", state="sending", attempts=1, lease="tok_dead"), job("job_2"))
    async with world.working():
        await world.finished("job_1", "job_2", tick_s=0.1)
    assert world.outside.started == ["job_2"]
    assert world.outside.looked_up == ["job_1"]
    assert world.states == {"job_1": "accepted", "job_2": "accepted"}


@pytest.mark.parametrize("late", [Temporary("busy"), Rejected("no"), LOST, DONE, None])
async def test_a_worker_that_was_too_slow_changes_nothing_any_more(world: World, late: Any) -> None:
    """Its call ends after another one has taken the lane over and brought the job to its end."""
    gate = asyncio.Event()
    world.outside.gates["job_1"] = gate
    world.outside.plan["job_1"] = [late]
    world.outside.looks["job_1"] = [{"state": "accepted", "by": "look-up"}]
    await world.give(job("job_1"))
    async with world.working("slow") as slow:
        await world.until("the call", lambda: world.outside.started == ["job_1"])
        await world.later(31)
        async with world.working("two"):
            await world.finished("job_1", tick_s=0.1)
            after = await world.job("job_1")
            gate.set()
            await world.until("the slow one's end", lambda: not slow.busy)
    assert await world.job("job_1") == after
    assert (after.live, after.state) == (False, "done")
    assert [told.result for told in world.told] == [{"state": "accepted", "by": "look-up"}]
    assert await world.letters() == []


async def test_a_worker_that_lost_its_lane_starts_no_further_job(world: World) -> None:
    gate = asyncio.Event()
    world.outside.gates["job_1"] = gate
    await world.give(job("job_1"), job("job_2"))
    async with world.working("slow") as slow:
        await world.until("the call", lambda: world.outside.started == ["job_1"])
        await world.later(31)
        (lease,) = await world.store.lanes.claim(["send:a"], "two", 300)
        gate.set()
        await world.until("the slow one's end", lambda: not slow.busy)
        assert world.outside.started == ["job_1"]
        await world.store.lanes.release(lease)
        await world.finished("job_1", "job_2", tick_s=0.1)
    assert world.outside.done == ["job_1", "job_2"]


async def test_a_job_that_somebody_else_has_changed_is_read_again(world: World) -> None:
    """Between reading the lane and taking the job: it is not run as it was."""
    await world.give(job("job_1"), job("job_2"))
    jobs = world.store.table(Job)
    renew = world.store.lanes.renew

    async def renew_late(lease: Any, seconds: float) -> bool:
        world.store.lanes.renew = renew  # type: ignore[method-assign]
        await jobs.put([_changed(await world.job("job_1"), live=False, state="dead")])
        return await renew(lease, seconds)

    world.store.lanes.renew = renew_late  # type: ignore[method-assign]
    async with world.working():
        await world.finished("job_2")
    assert world.outside.started == ["job_2"]


def _changed(old: Job, **changes: Any) -> Job:
    return Job(**{**{name: getattr(old, name) for name in old.__struct_fields__}, **changes})


# --- telling -------------------------------------------------------------------------------------


async def test_an_outcome_waits_in_its_job_while_the_inbox_takes_nothing(world: World) -> None:
    world.overloaded = 3
    await world.give(job("job_1"), job("job_2"))
    async with world.working():
        kept = await world.in_state("job_1", "outcome")
        assert (kept.live, kept.outcome) == (True, DONE)
        assert world.told == []
        assert world.outside.started == ["job_1"], "what comes after waits, too"
        await world.finished("job_1", "job_2", tick_s=1.0)
    assert world.outside.done == ["job_1", "job_2"]
    assert [told.job for told in world.told] == ["job_1", "job_2"]


async def test_an_outcome_that_a_dead_worker_kept_is_told_without_another_call(
    world: World,
) -> None:
    kept = job("job_1", state="outcome", attempts=1, outcome=DONE, lease="tok_dead")
    await world.give(kept)
    async with world.working():
        await world.finished("job_1")
    assert world.outside.started == world.outside.looked_up == []
    assert [told.key for told in world.told] == ["job_1:1:accepted"]


# --- stopping and trouble ------------------------------------------------------------------------


async def test_stopping_finishes_the_job_at_hand_and_gives_the_lane_back(world: World) -> None:
    gate = asyncio.Event()
    world.outside.gates["job_1"] = gate
    await world.give(job("job_1"), job("job_2"))
    workers = world.workers()
    run = asyncio.create_task(workers.run())
    await world.until("the call", lambda: world.outside.started == ["job_1"])
    workers.stop()
    await asyncio.sleep(0)
    assert not run.done()
    gate.set()
    async with asyncio.timeout(10):
        await run
    assert world.outside.done == ["job_1"]
    assert world.states == {"job_1": "accepted"}
    assert (await world.job("job_2")).state == "ready"
    assert await world.store.lanes.parked() == set()


async def test_a_database_that_is_away_for_a_moment_stops_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = {"claim": 1, "renew": 1, "release": 1}

    def failing_once(name: str) -> None:
        real = getattr(world.store.lanes, name)

        async def call(*args: Any, **options: Any) -> Any:
            if left[name]:
                left[name] -= 1
                raise Unavailable("an election")
            return await real(*args, **options)

        monkeypatch.setattr(world.store.lanes, name, call)

    for name in left:
        failing_once(name)
    await world.give(job("job_1"))
    async with world.working():
        await world.finished("job_1", tick_s=5.0)
    assert left == {"claim": 0, "renew": 0, "release": 0}
    assert world.outside.done == ["job_1"]


async def test_a_kind_that_nobody_knows_keeps_its_own_lane_only(world: World) -> None:
    await world.give(job("job_1", "odd", kind="of another release"), job("job_2", "send:a"))
    async with world.working():
        await world.finished("job_2")
    odd = await world.job("job_1")
    assert odd.live  # it waits for a worker that knows it
    assert odd.attempts == 0


async def test_an_unforeseen_error_in_the_search_is_survived(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = world.store.lanes.parked
    broken = [True]

    async def parked() -> set[str]:
        if broken:
            broken.pop()
            raise ZeroDivisionError
        return await real()

    monkeypatch.setattr(world.store.lanes, "parked", parked)
    await world.give(job("job_1"))
    async with world.working():
        await world.finished("job_1")
    assert not broken


async def test_a_slow_database_leaves_no_call_without_a_lease(world: World) -> None:
    """If taking the job used the time up, it is put back instead of being sent."""
    await world.give(job("job_1"))
    async with world.working(lease_s=0.0):
        await world.until("the lane to rest", lambda: world.store.lanes.parked())
        waiting = await world.job("job_1")
    assert world.outside.started == []
    assert (waiting.attempts, waiting.reason) == (0, "the database was too slow")


# --- values --------------------------------------------------------------------------------------


def test_waits_double_up_to_a_quarter_of_an_hour_and_half_of_them_is_chance() -> None:
    assert [backoff_s(n, jitter=1.0) for n in (1, 2, 3, 4)] == [2, 4, 8, 16]
    assert [backoff_s(n, jitter=0.0) for n in (1, 2, 3)] == [1, 2, 4]
    assert backoff_s(10_000, jitter=1.0) == LONGEST_S
    drawn = {backoff_s(5) for _ in range(50)}
    assert len(drawn) > 10
    assert all(16 <= each <= 32 for each in drawn)


def test_structs_become_plain_results() -> None:
    assert to_result(TicketRef(id="7", number="#7")) == {"id": "7", "number": "#7"}
