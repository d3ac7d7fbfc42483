"""What the tests of accounts share: a clock set by hand, a store, and a process' view."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hub.accounts import States, Switches
from hub.accounts.overview import Overview
from hub.accounts.reports import Reporter
from hub.metrics import Metrics
from hub.store.memory import MemoryStore
from hub.testing.clock import FakeClock

CONFIGURED: Mapping[str, Mapping[str, str]] = {
    "chat:main": {"inbound": "on", "outbound": "on"},
    "chat:quiet": {"inbound": "store-only", "outbound": "off"},
}


class Process:
    """One process of the hub, as far as accounts go."""

    def __init__(self, store: MemoryStore, clock: FakeClock, owner: str) -> None:
        self.metrics = Metrics()
        self.clock = clock
        self.states = States(clock, self.metrics)
        for name in CONFIGURED:
            self.states.add("account", name, state="ok")
        self.switches = Switches(store, CONFIGURED)
        self.overview = Overview(store, self.states, self.switches, owner=owner)
        self.reporter = Reporter(store, self.states, clock, owner=owner, role="run")

    async def sees(self, name: str = "chat:main") -> str:
        """Return the state and the reason of an account, as this process answers them."""
        await self.switches.refresh()
        (found,) = [each for each in await self.overview.read() if each.name == name]
        return f"{found.state}: {found.reason}" if found.reason else found.state


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> MemoryStore:
    return MemoryStore(clock=clock)


@pytest.fixture
def one(store: MemoryStore, clock: FakeClock) -> Process:
    return Process(store, clock, "one")


@pytest.fixture
def other(store: MemoryStore, clock: FakeClock) -> Process:
    return Process(store, clock, "other")
