"""A change that has settled is told once; what flaps is not told; a person's doing at once.

Faked: time, and the router (commands are kept). Through a real hub: test_processes.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from hub.accounts.telling import SETTLE_LONGEST_S, SETTLE_S, Teller, settle_s
from hub.planning.rules import Refusal
from hub.store.interface import Unavailable
from hub.store.memory import MemoryStore
from hub.testing.clock import FakeClock
from tests.accounts.conftest import Process

NAME = "chat:main"


class Feed:
    """Keeps the commands that it is given, once for each key, as the router does."""

    def __init__(self) -> None:
        self.commands: dict[str, Mapping[str, Any]] = {}
        self.away = False

    async def run(self, name: str, args: Mapping[str, Any], **more: Any) -> Mapping[str, Any]:
        assert (name, more["actor"]) == ("account_changed", "hub:accounts")
        assert "channel" not in more, "it would be held back with the account's own items"
        if self.away:
            raise Unavailable("no database")
        if self.commands.setdefault(more["key"], args) != args:
            raise Refusal("idempotency-conflict", "told before")
        return {}

    @property
    def told(self) -> list[str]:
        return [f"{each['was']} -> {each['state']}" for each in self.commands.values()]


class Telling:
    """A process that tells what it sees."""

    def __init__(self, process: Process, store: MemoryStore) -> None:
        self.process = process
        self.feed = Feed()
        self.store = store
        self.teller = self.restarted()

    def restarted(self) -> Teller:
        self.teller = Teller(self.store, self.feed.run, self.process.clock)
        return self.teller

    async def look(self, state: str = "", after_s: float = 0.0) -> list[str]:
        """Let the account be so, let time pass, and return what was told until now."""
        if state:
            self.process.states.set("account", NAME, state, f"it is {state}")  # type: ignore[arg-type]
            await self.teller.look(await self.process.overview.read())
        self.process.clock.advance(after_s)
        await self.teller.look(await self.process.overview.read())
        return self.feed.told


@pytest.fixture
def telling(one: Process, store: MemoryStore) -> Telling:
    return Telling(one, store)


async def test_well_from_the_start_is_no_news(telling: Telling) -> None:
    assert await telling.look("ok", SETTLE_S + 1) == []


async def test_a_change_is_told_once_when_it_has_settled(telling: Telling) -> None:
    await telling.look("ok")
    assert await telling.look("down", SETTLE_S - 1) == []
    assert await telling.look(after_s=1) == ["ok -> down"]
    assert await telling.look(after_s=1000) == ["ok -> down"]
    (told,) = telling.feed.commands.values()
    assert told["reason"] == "it is down"
    assert told["since"] == "2026-03-02T09:00:00+00:00"


async def test_what_flaps_is_not_told(telling: Telling) -> None:
    await telling.look("ok")
    for _ in range(50):
        await telling.look("down", SETTLE_S / 2)
        await telling.look("ok", SETTLE_S / 2)
    assert telling.feed.told == []


async def test_who_changes_often_has_to_settle_longer(telling: Telling) -> None:
    """Just slowly enough to be told at first, for an hour: a few events, and the last is true."""
    await telling.look("ok")
    for _ in range(150):
        await telling.look("down", SETTLE_S + 2)
        await telling.look("ok", SETTLE_S + 2)
    assert 2 <= len(telling.feed.told) <= 20
    await telling.look("down", SETTLE_LONGEST_S + 1)
    assert telling.feed.told[-1].endswith("-> down")
    assert settle_s(0) == SETTLE_S
    assert settle_s(50) == SETTLE_LONGEST_S


async def test_down_from_the_start_is_told(telling: Telling) -> None:
    assert await telling.look("misconfigured", SETTLE_S) == [" -> misconfigured"]


async def test_starting_is_not_told(telling: Telling) -> None:
    await telling.look("ok")
    assert await telling.look("starting", 1000) == []
    assert await telling.look("ok", 1000) == []


async def test_a_pause_is_told_at_once(telling: Telling, one: Process, clock: FakeClock) -> None:
    await telling.look("ok")
    await one.switches.pause(NAME, inbound="off", by="key:ann", at=clock.now(), why="moving")
    assert await telling.look() == ["ok -> paused"]
    (told,) = telling.feed.commands.values()
    assert "paused by key:ann" in told["reason"]


async def test_a_door_that_waits_for_the_hub_is_not_paused_by_a_person(telling: Telling) -> None:
    """A short absence of the database is nothing to tell."""
    await telling.look("ok")
    await telling.look("paused", SETTLE_S / 2)
    assert await telling.look("ok", SETTLE_S / 2) == []


async def test_another_process_goes_on_from_what_was_told(telling: Telling) -> None:
    await telling.look("ok")
    await telling.look("down", SETTLE_S)
    telling.restarted()
    assert await telling.look(after_s=1000) == ["ok -> down"]
    assert await telling.look("ok", SETTLE_S * 2) == ["ok -> down", "down -> ok"]


async def test_a_change_told_before_a_crash_is_not_told_twice(
    telling: Telling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told and not noted: the next one gives it the same key, and goes on."""
    await telling.look("ok")

    async def dies(*args: object) -> None:
        raise Unavailable("the process dies here")

    monkeypatch.setattr(telling.teller, "_keep", dies)
    with pytest.raises(Unavailable):
        await telling.look("down", SETTLE_S)
    telling.restarted()
    await telling.look()
    telling.process.clock.advance(SETTLE_S * 3)
    assert await telling.look() == ["ok -> down"]
    assert await telling.look("ok", SETTLE_S * 3) == ["ok -> down", "down -> ok"]


async def test_what_could_not_be_told_is_told_later(telling: Telling) -> None:
    await telling.look("ok")
    telling.feed.away = True
    with pytest.raises(Unavailable):
        await telling.look("down", SETTLE_S)
    telling.feed.away = False
    assert await telling.look() == ["ok -> down"]
