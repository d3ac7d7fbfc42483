"""The watch counts what processes heard, learns the hours that count, and says who is silent.

Faked: time. The processes share an in-memory store and report as in a hub.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from hub.accounts.overview import SILENCES
from hub.accounts.reports import Report
from hub.accounts.rhythm import Rhythm
from hub.accounts.silence import SilenceWatch, coverage, rhythm_key
from hub.documents import State
from hub.store.memory import MemoryStore
from hub.testing.clock import FakeClock
from tests.accounts.conftest import Process

TWELVE_AN_HOUR = Rhythm(hours=((12, 12, 12, 12),) * 168)
AT = datetime(2026, 3, 2, 9, tzinfo=UTC)


@pytest.fixture
def watch(store: MemoryStore, one: Process, clock: FakeClock) -> SilenceWatch:
    return SilenceWatch(store, one.overview, one.switches, clock)


async def _knows(store: MemoryStore, name: str = "chat:main") -> None:
    value = msgspec.to_builtins(TWELVE_AN_HOUR)
    await store.table(State).put([State(id=rhythm_key(name), value=value, rev=1)])


async def _counts(store: MemoryStore, name: str = "chat:main") -> list[tuple[int, ...]]:
    held = await store.table(State).get(rhythm_key(name))
    hours = msgspec.convert(held.value, Rhythm).hours if held is not None else ()
    return [counts for counts in hours if counts]


async def _pass(process: Process, seconds: float, every_s: float = 60.0) -> None:
    """Let time pass while the process goes on reporting."""
    for _ in range(int(seconds / every_s)):
        process.clock.advance(every_s)
        await process.reporter.report()


# --- finding -------------------------------------------------------------------------------------


async def test_a_silent_account_is_degraded_with_since_when_and_what_is_usual(
    store: MemoryStore, one: Process, watch: SilenceWatch
) -> None:
    await _knows(store)
    await _pass(one, 300)
    one.states.heard("chat:main")
    await _pass(one, 3600)
    await watch.look()
    assert await one.sees() == "ok", "an hour at 12 an hour may be chance"
    await _pass(one, 1800)
    await watch.look()
    assert await one.sees() == (
        "degraded: nothing since 2026-03-02 09:05 UTC, usually 12 an hour at this time"
    )
    assert await one.sees("chat:quiet") == "ok", "nobody knows its rhythm"


async def test_a_message_ends_a_silence_at_once(
    store: MemoryStore, one: Process, other: Process, watch: SilenceWatch
) -> None:
    await _knows(store)
    await _pass(one, 7200)
    await watch.look()
    assert (await one.sees()).startswith("degraded: nothing since")
    one.states.heard("chat:main")
    assert await one.sees() == "ok"
    await one.reporter.report()
    assert await other.sees() == "ok", "before the watch looks again"
    await watch.look()
    assert (await store.table(State).get(SILENCES)).value == {}  # type: ignore[union-attr]


async def test_a_silence_outlives_the_process_that_found_it(
    store: MemoryStore, one: Process, other: Process, watch: SilenceWatch, clock: FakeClock
) -> None:
    await _knows(store)
    await _pass(one, 7200)
    await watch.look()
    told = await one.sees()
    clock.advance(60)  # nobody reports any more
    await other.reporter.report()
    await SilenceWatch(store, other.overview, other.switches, clock).look()
    assert await other.sees() == told


async def test_nobody_is_silent_while_nobody_listened(
    store: MemoryStore, one: Process, watch: SilenceWatch, clock: FakeClock
) -> None:
    """Paused, switched off, down, or no hub: no alarm, and none right after it is over."""
    await _knows(store)
    await one.switches.pause("chat:main", inbound="off", by="key:ann", at=clock.now())
    await _pass(one, 7200)
    await watch.look()
    assert (await one.sees()).startswith("paused: ")
    await one.switches.resume("chat:main")
    one.states.set("account", "chat:main", "down", "no answer")
    await _pass(one, 7200)
    await watch.look()
    assert await one.sees() == "down: no answer"
    one.states.set("account", "chat:main", "ok")
    await _pass(one, 1800)
    await watch.look()
    assert await one.sees() == "ok", "it is well for half an hour only"
    clock.advance(10 * 3600)
    late = Process(store, clock, "late")
    await late.reporter.report()
    await SilenceWatch(store, late.overview, late.switches, clock).look()
    assert await late.sees() == "ok", "the hub was away, not the account"


# --- learning ------------------------------------------------------------------------------------


async def test_an_hour_is_learned_once_from_what_all_processes_counted(
    store: MemoryStore, one: Process, other: Process, watch: SilenceWatch, clock: FakeClock
) -> None:
    await watch.look()  # from now on hours are learned
    for _ in range(60):
        one.states.heard("chat:main")
        other.states.heard("chat:main")
        clock.advance(60)
        await one.reporter.report()
        await other.reporter.report()
    await watch.look()
    assert await _counts(store) == [], "the last reports of the hour may still come"
    await _pass(one, 180)
    await watch.look()
    await watch.look()
    assert await _counts(store) == [(120,)]
    assert await _counts(store, "chat:quiet") == [(0,)]


async def test_what_a_process_counted_before_it_died_is_learned(
    store: MemoryStore, one: Process, other: Process, watch: SilenceWatch
) -> None:
    await watch.look()
    for _ in range(30):
        other.states.heard("chat:main")
    await other.reporter.report()
    await _pass(one, 3780)
    await watch.look()
    assert await _counts(store) == [(30,)]


async def test_hours_that_would_teach_silence_are_not_learned(
    store: MemoryStore, one: Process, watch: SilenceWatch, clock: FakeClock
) -> None:
    """An hour in which the hub was away for long, the account was down, or silent."""
    await watch.look()
    await _pass(one, 1800)
    clock.advance(1980)
    await watch.look()
    assert await _counts(store) == [], "nobody was there for half of it"
    one.states.set("account", "chat:main", "down", "no answer")
    await _pass(one, 3600)
    await watch.look()
    assert await _counts(store) == []
    assert await _counts(store, "chat:quiet") == [(0,)]
    one.states.set("account", "chat:main", "ok")
    await _knows(store)
    await _pass(one, 2 * 3600)
    await watch.look()
    assert (await one.sees()).startswith("degraded: nothing since")
    await _pass(one, 3600)
    await watch.look()
    assert set(await _counts(store)) == {(12, 12, 12, 12)}


async def test_a_silence_that_lasts_for_days_is_the_new_rhythm(
    store: MemoryStore, one: Process, watch: SilenceWatch
) -> None:
    await _knows(store)
    await _pass(one, 2 * 3600)
    await watch.look()
    for _ in range(3 * 24 + 3):
        await _pass(one, 3600, every_s=600)
        await watch.look()
    learned = [counts for counts in await _counts(store) if counts != (12, 12, 12, 12)]
    assert learned
    assert set(learned) == {(12, 12, 12, 0)}


def _report(began_at: datetime, at: datetime) -> Report:
    return Report(id="x", role="run", began_at=began_at, at=at, expire_at=at)


@pytest.mark.parametrize(
    ("spans", "share"),
    [
        ([], 0.0),
        ([(-60, 120)], 1.0),
        ([(0, 30)], 0.5),
        ([(0, 30), (15, 45)], 0.75),
        ([(0, 15), (30, 60)], 0.75),
        ([(-30, -10), (70, 90)], 0.0),
    ],
)
def test_how_much_of_an_hour_somebody_was_there(spans: list[tuple[int, int]], share: float) -> None:
    reports = [
        _report(AT + timedelta(minutes=begin), AT + timedelta(minutes=end)) for begin, end in spans
    ]
    assert coverage(reports, AT) == share
