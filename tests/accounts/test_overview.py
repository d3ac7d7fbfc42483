"""All processes answer the same about an account, and a dead one has no say.

Faked: time; the processes share an in-memory store. With real processes: test_processes.py.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from hub.accounts import SENDING
from hub.accounts.measures import AccountMeasures
from hub.accounts.overview import HEARD
from hub.accounts.reports import LASTS_S
from hub.documents import State
from hub.store.interface import Unavailable
from hub.store.memory import MemoryStore
from tests.accounts.conftest import Process


async def test_the_worst_of_what_several_parts_say_is_shown_until_it_is_taken_back(
    one: Process,
) -> None:
    one.states.set("account", "chat:main", "degraded", "sends are slow", aspect="sends")
    one.states.set("account", "chat:main", "ok")
    assert await one.sees() == "degraded: sends are slow"
    one.states.set("account", "chat:main", "down", "no answer")
    assert await one.sees() == "down: no answer"
    one.states.set("account", "chat:main", "ok")
    one.states.clear("account", "chat:main", "sends")
    assert await one.sees() == "ok"


async def test_what_one_process_sees_the_other_tells(one: Process, other: Process) -> None:
    one.states.set("account", "chat:main", "down", "no answer")
    assert await other.sees() == "ok"
    await one.reporter.look()
    assert await other.sees() == "down: no answer"
    one.states.set("account", "chat:main", "ok")
    await one.reporter.look()
    assert await other.sees() == "ok"


async def test_who_holds_the_door_knows_best(one: Process, other: Process) -> None:
    one.states.set("account", "chat:main", "ok")
    one.states.level("account", "chat:main")
    other.states.set("account", "chat:main", "down", "it was mine until a moment ago")
    other.states.set(
        "account", "chat:main", "ok", "another process holds this door", elsewhere=True
    )
    await one.reporter.look()
    await other.reporter.look()
    assert await one.sees() == "ok"
    assert await other.sees() == "ok"
    (told,) = [each for each in other.overview.last if each.name == "chat:main"]
    assert told.level_at == one.clock.now()


async def test_a_process_that_died_does_not_count_any_more(one: Process, other: Process) -> None:
    one.states.set("account", "chat:main", "down", "no answer")
    await one.reporter.look()
    one.clock.advance(LASTS_S / 2)
    await one.reporter.look()
    one.clock.advance(LASTS_S - 1)
    assert await other.sees() == "down: no answer", "it may be slow"
    one.clock.advance(1.1)
    assert await other.sees() == "ok"


async def test_without_the_database_a_process_tells_what_it_sees_itself(
    one: Process, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> set[str]:
        raise Unavailable("the database is away")

    monkeypatch.setattr(store.lanes, "parked", away)
    one.states.set("account", "chat:main", "degraded", "slow")
    assert [each.state for each in await one.overview.read()] == ["degraded", "ok"]


async def test_the_latest_message_counts_whoever_took_it(one: Process, other: Process) -> None:
    one.states.heard("chat:main")
    heard_at = one.clock.now()
    await one.reporter.look()
    one.clock.advance(3)
    (told,) = [each for each in await other.overview.read() if each.name == "chat:main"]
    assert told.last_message_at == heard_at


# --- pauses --------------------------------------------------------------------------------------


async def test_a_paused_account_is_paused_for_everybody_with_who_and_why(
    one: Process, other: Process
) -> None:
    one.states.set("account", "chat:main", "down", "no answer")
    at = one.clock.now()
    await one.switches.pause(
        "chat:main", inbound="store-only", by="key:ops", at=at, why="the vendor moves house"
    )
    wanted = (
        "paused: paused by key:ops at 2026-03-02 09:00 UTC: the vendor moves house;"
        " what arrives is kept"
    )
    assert await one.sees() == wanted
    assert await other.sees() == wanted
    assert other.switches.inbound("chat", "main") == "store-only"
    assert not other.switches.outbound_on("chat", "main")
    assert await other.switches.resume("chat:main")
    assert await one.sees() == "down: no answer"
    assert one.switches.outbound_on("chat", "main")


async def test_resuming_gives_back_what_was_before_whoever_paused_twice(one: Process) -> None:
    switches, at = one.switches, one.clock.now()
    await switches.set("chat:main", "outbound", "off")
    assert await switches.pause("chat:main", inbound="off", by="key:ann", at=at)
    assert not await switches.pause("chat:main", inbound="store-only", by="key:bob", at=at)
    pause = switches.pause_of("chat:main")
    assert pause is not None
    assert pause.by == "key:ann"
    assert switches.inbound("chat", "main") == "off"
    assert await switches.resume("chat:main")
    assert switches.all()["chat:main"] == {"inbound": "on", "outbound": "off"}
    assert not await switches.resume("chat:main"), "it was not paused any more"
    await switches.pause("chat:quiet", inbound="off", by="key:ann", at=at)
    await switches.resume("chat:quiet")
    assert switches.all()["chat:quiet"] == {"inbound": "store-only", "outbound": "off"}


async def test_a_switch_set_by_hand_ends_a_pause(one: Process) -> None:
    await one.switches.pause("chat:main", inbound="off", by="key:ann", at=one.clock.now())
    await one.switches.set("chat:main", "inbound", "on")
    assert one.switches.pause_of("chat:main") is None
    assert await one.sees() == "ok"


@pytest.mark.parametrize("name", ["chat:unknown", "all"])
async def test_only_an_account_can_be_paused(one: Process, name: str) -> None:
    with pytest.raises(ValueError, match=f"there is no account {name}"):
        await one.switches.pause(name, inbound="off", by="key:ann", at=one.clock.now())
    with pytest.raises(ValueError, match=f"there is no account {name}"):
        await one.switches.resume(name)


# --- metrics -------------------------------------------------------------------------------------


async def test_metrics_tell_state_lag_and_age_and_nothing_that_nobody_knows(one: Process) -> None:
    registry = one.metrics.registry
    registry.register(AccountMeasures(one.states.all, one.clock))

    def value(name: str, account: str = "main", **labels: str) -> float | None:
        known = {"channel": "chat", "account": account, **labels}
        return registry.get_sample_value(f"omniline_account_{name}", known)

    one.states.set("account", "chat:main", "degraded", "slow")
    one.states.level("account", "chat:main", one.clock.now() - timedelta(seconds=90))
    one.states.heard("chat:main")
    one.clock.advance(10)
    assert value("state", state="degraded") == 1
    assert value("state", state="ok") == 0
    assert value("lag_seconds") == 100
    assert value("last_message_age_seconds") == 10
    assert value("state", "quiet", state="ok") == 1
    assert value("lag_seconds", "quiet") is None
    assert value("last_message_age_seconds", "quiet") is None


async def test_a_process_that_cannot_send_is_heard_though_another_one_holds_the_door(
    one: Process, other: Process
) -> None:
    """Only what it says of the door counts less."""
    one.states.set("account", "chat:main", "ok")
    other.states.set(
        "account", "chat:main", "ok", "another process holds this door", elsewhere=True
    )
    other.states.set("account", "chat:main", "down", "no answer", aspect=SENDING)
    await other.reporter.look()
    assert await one.sees() == "down: no answer"
    other.states.clear("account", "chat:main", SENDING)
    await other.reporter.look()
    assert await one.sees() == "ok"


async def test_a_restart_does_not_forget_when_an_account_brought_something(
    one: Process, store: MemoryStore
) -> None:
    """Told by the report that a process leaves behind, and kept when that has expired."""

    async def told(process: Process) -> datetime | None:
        await process.sees()
        (found,) = [each for each in process.overview.last if each.name == "chat:main"]
        return found.last_message_at

    one.states.heard("chat:main")
    heard_at = one.clock.now()
    await one.reporter.report()
    one.clock.advance(2 * LASTS_S)  # it died
    assert await told(Process(store, one.clock, "two")) == heard_at
    await one.sees()
    await one.overview.keep_heard()
    await one.overview.keep_heard()  # nothing new: nothing is written
    kept = await store.table(State).get(HEARD)
    assert kept is not None
    assert (kept.value, kept.rev) == ({"chat:main": heard_at}, 1)
    store._collections["account_reports"].clear()
    three = Process(store, one.clock, "three")
    assert await told(three) == heard_at
    three.states.heard("chat:main")
    assert await told(three) == one.clock.now()
