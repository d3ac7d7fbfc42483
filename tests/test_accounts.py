"""States tell the operator how everything does; switches hold for every process and keep nothing.

Faked: time. Real: the in-memory store, shared by two processes' switches.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from hub.accounts import SWITCHES, States, Switches
from hub.documents import State
from hub.metrics import Metrics
from hub.store.memory import MemoryStore
from hub.testing.clock import FakeClock
from tests.store.spaces import item

CONFIGURED = {
    "chat:main": {"inbound": "on", "outbound": "on"},
    "chat:quiet": {"inbound": "store-only", "outbound": "off"},
}


# --- states --------------------------------------------------------------------------------------


def test_a_state_keeps_since_when_it_is_so_and_why() -> None:
    clock = FakeClock()
    metrics = Metrics()
    states = States(clock, metrics)
    states.add("account", "chat:main", "Our shop")
    began = clock.now()
    clock.advance(10)
    states.set("account", "chat:main", "down", "no answer", next_try_s=30)
    held = states.get("account", "chat:main")
    assert held is not None
    assert (held.state, held.reason, held.label) == ("down", "no answer", "Our shop")
    assert held.since == clock.now() > began
    assert held.next_try_at == clock.now() + timedelta(seconds=30)
    clock.advance(10)
    states.set("account", "chat:main", "down", "still none")
    assert (held.since, held.reason) == (clock.now() - timedelta(seconds=10), "still none")
    assert held.next_try_at is None


def test_the_metric_of_an_account_is_one_while_it_is_ok() -> None:
    metrics = Metrics()
    states = States(FakeClock(), metrics)
    states.add("account", "chat:main")
    states.add("backend", "desk", state="ok")

    def up() -> float | None:
        labels = {"channel": "chat", "account": "main"}
        return metrics.registry.get_sample_value("omniline_account_up", labels)

    states.set("account", "chat:main", "ok")
    assert up() == 1
    states.set("account", "chat:main", "degraded", "slow")
    assert up() == 0
    states.set("backend", "desk", "down", "502")
    assert [each.name for each in states.all()] == ["chat:main", "desk"]


def test_what_an_account_brought_last_is_remembered() -> None:
    clock = FakeClock()
    states = States(clock, Metrics())
    states.add("account", "chat:main")
    clock.advance(5)
    states.heard("chat:main")
    states.heard("chat:unknown")
    held = states.get("account", "chat:main")
    assert held is not None
    assert held.last_message_at == clock.now()
    assert states.get("account", "chat:unknown") is None


# --- switches ------------------------------------------------------------------------------------


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def test_the_configuration_holds_until_somebody_sets_a_switch(store: MemoryStore) -> None:
    switches = Switches(store, CONFIGURED)
    await switches.refresh()
    assert switches.inbound("chat", "main") == "on"
    assert switches.inbound("chat", "quiet") == "store-only"
    assert switches.inbound("chat", "unknown") == "on"
    assert (switches.outbound_on("chat", "main"), switches.outbound_on("chat", "quiet")) == (
        True,
        False,
    )
    assert switches.outbound_off() == ["chat:quiet"]
    await switches.set("chat:quiet", "outbound", "on")
    assert switches.outbound_off() == []
    await switches.set("chat:main", "inbound", "off")
    assert switches.all() == {
        "all": {"inbound": "on", "outbound": "on"},
        "chat:main": {"inbound": "off", "outbound": "on"},
        "chat:quiet": {"inbound": "store-only", "outbound": "on"},
    }


async def test_all_sends_can_be_stopped_at_once(store: MemoryStore) -> None:
    switches = Switches(store, CONFIGURED)
    await switches.set("all", "outbound", "off")
    assert not switches.outbound_on("chat", "main")
    assert switches.outbound_off() == ["chat:main", "chat:quiet"]
    await switches.set("all", "outbound", "on")
    assert switches.outbound_on("chat", "main")


async def test_other_processes_see_a_switch_when_they_look(store: MemoryStore) -> None:
    one, other = Switches(store, CONFIGURED), Switches(store, CONFIGURED)
    await one.set("chat:main", "inbound", "off")
    assert other.inbound("chat", "main") == "on"
    await other.refresh()
    assert other.inbound("chat", "main") == "off"


async def test_switches_set_at_once_by_two_processes_are_both_kept(store: MemoryStore) -> None:
    many = [Switches(store, CONFIGURED) for _ in range(5)]
    table = store.table(State)
    get = table.get

    async def slow_get(ident: str) -> State | None:
        found = await get(ident)
        await asyncio.sleep(0)  # somebody else comes between the look and the write
        return found

    for each in many:
        each._table.get = slow_get  # type: ignore[method-assign]
    names = ["chat:main", "chat:quiet", "all"]
    values = [("outbound", "off"), ("inbound", "off")]
    jobs = [
        (name, *value)
        for name in names
        for value in values
        if (name, value[0]) != ("all", "inbound")
    ]
    await asyncio.gather(*(each.set(*job) for each, job in zip(many, jobs, strict=False)))
    held = await table.get(SWITCHES)
    assert held is not None
    assert held.rev == len(jobs)
    assert held.value == {
        "chat:main": {"outbound": "off", "inbound": "off"},
        "chat:quiet": {"outbound": "off", "inbound": "off"},
        "all": {"outbound": "off"},
    }


@pytest.mark.parametrize(
    ("name", "switch", "value", "problem"),
    [
        ("chat:unknown", "inbound", "on", "no account chat:unknown"),
        ("chat:main", "inbound", "perhaps", "inbound is one of on, store-only, off"),
        ("chat:main", "outbound", "store-only", "outbound is one of on, off"),
        ("chat:main", "sideways", "on", "sideways is one of"),
    ],
)
async def test_what_is_no_switch_is_refused(
    store: MemoryStore, name: str, switch: str, value: str, problem: str
) -> None:
    switches = Switches(store, CONFIGURED)
    with pytest.raises(ValueError, match=problem):
        await switches.set(name, switch, value)
    assert await store.table(State).get(SWITCHES) is None


async def test_switching_on_again_lets_the_router_have_what_was_held(store: MemoryStore) -> None:
    switches = Switches(store, CONFIGURED)
    await store.inbox.put(
        [
            item(id="in_1", account="quiet", open=False, held=True),
            item(id="in_2", account="main", open=False, held=True),
        ]
    )
    await switches.set("chat:quiet", "inbound", "off")
    assert await store.inbox.unrouted(10, 1000) == []
    await switches.set("chat:quiet", "inbound", "on")
    assert [each.id for each in await store.inbox.unrouted(10, 1000)] == ["in_1"]


async def test_what_was_held_by_mistake_is_released_for_accounts_that_are_on(
    store: MemoryStore,
) -> None:
    """Another process had not seen the switch yet, or the configuration was changed."""
    switches = Switches(store, CONFIGURED)
    await store.inbox.put(
        [
            item(id="in_1", account="main", open=False, held=True),
            item(id="in_2", account="quiet", open=False, held=True),
        ]
    )
    assert await switches.release_held() == 1
    assert [each.id for each in await store.inbox.unrouted(10, 1000)] == ["in_1"]
    assert await switches.release_held() == 0
