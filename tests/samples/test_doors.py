"""The doors in a whole hub: polls, held connections and hints, on a real MongoDB.

The vendors are servers of this test; what they said has to be in the timeline exactly once,
whatever happens to the hub in between. Leases and waits are shortened.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import hub.doors
from hub.app import Hub
from hub.config.loader import load_text
from hub.documents import Entry, InboxItem
from hub.doors import reason_of
from hub.overload import Overload
from hub.steps import watchers
from hub.store.interface import Unavailable
from hub.testing.fake_vendor import FakeVendor, Mood
from hub.testing.samples.hint import SampleHint
from hub.testing.samples.poll import SamplePoll
from hub.testing.samples.webhook import signed_headers
from normalizer.outcomes import Temporary
from normalizer.parts import plain_text
from tests.samples.vendors import HttpVendor, LineVendor
from tests.support.hubs import config_text
from tests.support.mongo import OwnMongod

SECRET = "hints-are-signed-with-this"
SPACE_KEY = base64.b64encode(b"two hubs of a test share a space").decode()
WAIT_S = 15.0
LEASE_S = 1.0


@pytest.fixture(autouse=True)
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Short waits; returns how often in a row a door had failed, each time that it did."""
    attempts: list[int] = []

    def backoff_s(attempt: int) -> float:
        attempts.append(attempt)
        return 0.05

    monkeypatch.setattr(hub.doors, "LEASE_S", LEASE_S)
    monkeypatch.setattr(hub.doors, "PAUSE_S", 0.05)
    monkeypatch.setattr(hub.doors, "SETTLED_S", 0.3)
    monkeypatch.setattr(hub.doors, "backoff_s", backoff_s)
    monkeypatch.setattr(SamplePoll, "poll_every_s", 0.05)
    return attempts


@pytest.fixture
def step() -> Iterator[dict[str, Callable[[], None]]]:
    """The watchers of the numbered steps, taken away afterwards."""
    yield watchers
    watchers.clear()


@pytest.fixture
async def http() -> AsyncIterator[HttpVendor]:
    async with HttpVendor() as vendor:
        yield vendor


@pytest.fixture
async def lines() -> AsyncIterator[LineVendor]:
    async with LineVendor() as vendor:
        yield vendor


class Space:
    """Where the hubs of a test keep their things."""

    def __init__(self, mongo_url: str, database: str, folder: Path) -> None:
        self.mongo_url = mongo_url
        self.database = database
        self.folder = folder
        self.hubs = 0

    @asynccontextmanager
    async def hub(self, channel: str, vendor: FakeVendor, **settings: Any) -> AsyncIterator[Hub]:
        self.hubs += 1
        module = channel.removeprefix("sample_")
        account = {"channel": channel, "key": "main", **vendor.settings, **settings}
        text = config_text(
            self.mongo_url,
            self.database,
            self.folder / f"hub{self.hubs}",
            hub={
                "plugin_modules": [f"hub.testing.samples.{module}"],
                "space_key": SPACE_KEY,
                "router_lease_s": 1.0,
            },
            accounts=(),
            more="\n".join(["[[accounts]]", *(f"{k} = {_toml(v)}" for k, v in account.items())]),
        )
        async with Hub(load_text(text)) as running:
            yield running


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


@pytest.fixture
def space(mongo_url: str, mongo_db_name: str, tmp_path: Path) -> Space:
    return Space(mongo_url, mongo_db_name, tmp_path)


async def until(goal: str, look: Callable[[], Any]) -> None:
    ends = time.monotonic() + WAIT_S
    while True:
        found = look()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return
        assert time.monotonic() < ends, f"waited {WAIT_S} s for {goal}"
        await asyncio.sleep(0.01)


async def texts(running: Hub) -> list[str]:
    entries = await running.store.table(Entry).find({}, sort=[("position", 1)])
    return [plain_text(entry.parts) for entry in entries]


async def arrived(running: Hub, expected: Sequence[str]) -> None:
    """Wait until these texts are in the timeline, in this order, and nothing else is."""

    async def enough() -> bool:
        return len(await texts(running)) >= len(expected)

    await until(f"{len(expected)} entries", enough)
    assert await texts(running) == list(expected)


def state(running: Hub, channel: str) -> Any:
    found = running.states.get("account", f"{channel}:main")
    assert found is not None
    return found


async def polled(vendor: HttpVendor, times: int = 2) -> None:
    """Wait for so many further polls."""
    before = len(vendor.calls)
    async with vendor.asked, asyncio.timeout(WAIT_S):
        await vendor.asked.wait_for(lambda: len(vendor.calls) >= before + times)


# --- poll --------------------------------------------------------------------------------------


async def test_polled_messages_are_in_the_timeline_exactly_once(
    space: Space, http: HttpVendor
) -> None:
    """Nothing of before the account's start, everything of after it, in order."""
    await http.says("before the account was set up")
    async with space.hub("sample_poll", http) as running:
        await until("the present end", lambda: "position" in http.calls)
        expected = [f"text {number}" for number in range(30)]
        for text in expected:
            await http.says(text)
        await arrived(running, expected)
        await polled(http)
        assert await texts(running) == expected
        items = await running.store.table(InboxItem).find({})
        assert {(item.door, item.channel) for item in items} == {("poll", "sample_poll")}
        assert all(b'"sender":"ann"' in item.raw for item in items)
        assert state(running, "sample_poll").state == "ok"
        assert state(running, "sample_poll").last_message_at is not None


async def test_a_restart_goes_on_behind_the_last_cursor(space: Space, http: HttpVendor) -> None:
    async with space.hub("sample_poll", http) as first:
        await until("the present end", lambda: "position" in http.calls)
        await http.says("one")
        await arrived(first, ["one"])
    await http.says("while nobody polled")
    async with space.hub("sample_poll", http) as second:
        await arrived(second, ["one", "while nobody polled"])
    assert http.calls.count("position") == 1


async def test_a_cursor_is_stored_after_its_items_and_a_crash_between_doubles_nothing(
    space: Space, http: HttpVendor, step: dict[str, Callable[[], None]]
) -> None:
    crashes: list[str] = []

    def crash() -> None:
        if len(http.messages) == 5 and len(crashes) < 2:
            crashes.append(http.calls[-1])
            raise RuntimeError("the process died between the items and their cursor")

    async with space.hub("sample_poll", http) as running:
        await until("the present end", lambda: "position" in http.calls)
        await polled(http)
        step["doors.1"] = crash
        expected = [f"text {number}" for number in range(5)]
        http.gate.clear()
        for text in expected:
            await http.says(text)
        http.gate.set()
        await until("two crashes", lambda: len(crashes) == 2)
        await http.says("afterwards")
        await arrived(running, [*expected, "afterwards"])
        await polled(http)
        assert await texts(running) == [*expected, "afterwards"]
        again = [call for call in http.calls if call == crashes[-1]]
        assert len(again) >= 2, "the page was not asked for a second time"
        items = await running.store.table(InboxItem).find({})
        assert len(items) > 6, "the same items came in twice, and were dropped by their keys"


async def test_a_poll_that_fails_is_down_with_its_reason_and_recovers(
    space: Space, http: HttpVendor, tried: list[int]
) -> None:
    async with space.hub("sample_poll", http) as running:
        await until("a good poll", lambda: len(http.calls) > 2)
        http.mood = Mood.REFUSES
        await until("the failure", lambda: state(running, "sample_poll").state == "down")
        down = state(running, "sample_poll")
        assert down.reason == "the vendor refused the request"
        assert down.next_try_at is not None
        assert down.next_try_at - running.clock.now() < timedelta(seconds=1)
        await until("further tries", lambda: tried[-1] >= 3)
        assert tried == list(range(1, len(tried) + 1)), "the wait grows with each failure"
        http.mood = Mood.WELL
        await until("the recovery", lambda: state(running, "sample_poll").state == "ok")
        assert state(running, "sample_poll").reason == ""
        before = len(tried)
        http.mood = Mood.REFUSES
        await until("another failure", lambda: len(tried) > before)
        assert tried[before] == 1, "a poll that worked ends the row of failures"


async def test_a_token_that_is_not_accepted_is_a_misconfiguration(
    space: Space, http: HttpVendor
) -> None:
    async with space.hub("sample_poll", http, token="another") as running:
        await until("the failure", lambda: state(running, "sample_poll").state == "misconfigured")
        assert "token" in state(running, "sample_poll").reason


async def test_a_poll_that_hangs_is_cut(
    space: Space, http: HttpVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub.doors, "POLL_DEADLINE_S", 0.2)
    async with space.hub("sample_poll", http) as running:
        await until("a good poll", lambda: len(http.calls) > 2)
        http.gate.clear()
        await until("the cut", lambda: state(running, "sample_poll").state == "down")
        assert "took longer" in state(running, "sample_poll").reason
        http.gate.set()
        await http.says("after all")
        await arrived(running, ["after all"])


async def test_polls_pause_while_the_hub_is_busy(
    space: Space, http: HttpVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spooling, lagging, full: the vendor is not asked, and the state says why."""
    busy = False
    monkeypatch.setattr(Overload, "busy", property(lambda self: busy))
    async with space.hub("sample_poll", http) as running:
        await until("a good poll", lambda: len(http.calls) > 2)
        busy = True
        await until("the pause", lambda: state(running, "sample_poll").state == "paused")
        asked = len(http.calls)
        await http.says("later")
        since = state(running, "sample_poll").next_try_at
        await until("more looks", lambda: state(running, "sample_poll").next_try_at != since)
        assert len(http.calls) == asked
        assert await texts(running) == []
        busy = False
        await arrived(running, ["later"])
        await until("the state", lambda: state(running, "sample_poll").state == "ok")


async def test_polls_pause_while_inbound_is_switched_off(space: Space, http: HttpVendor) -> None:
    async with space.hub("sample_poll", http) as running:
        await until("a good poll", lambda: len(http.calls) > 2)
        await running.switches.set("sample_poll:main", "inbound", "off")
        await until("the pause", lambda: state(running, "sample_poll").state == "paused")
        await http.says("later")
        await running.switches.set("sample_poll:main", "inbound", "on")
        await arrived(running, ["later"])


@pytest.mark.real_mongo
async def test_what_is_said_while_mongodb_is_away_is_polled_afterwards(
    http: HttpVendor, tmp_path: Path
) -> None:
    """Polls do not go to the spool, as their cursor cannot: they wait, and lose nothing."""
    with OwnMongod() as server:
        space = Space(server.url, "doors", tmp_path)
        async with space.hub("sample_poll", http) as running:
            await until("the present end", lambda: "position" in http.calls)
            await http.says("before")
            await arrived(running, ["before"])
            server.freeze()
            try:
                await http.says("meanwhile 1")
                await http.says("meanwhile 2")
                await until("a word", lambda: state(running, "sample_poll").state != "ok")
            finally:
                server.thaw()
            await http.says("after")
            await arrived(running, ["before", "meanwhile 1", "meanwhile 2", "after"])


# --- hint --------------------------------------------------------------------------------------


async def hint_to(running: Hub, *, secret: str = SECRET) -> int:
    body = b'{"type":"news"}'
    headers = signed_headers(secret.encode(), int(time.time()), body)
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{running.url}/in/sample_hint/main", data=body, headers=headers) as answer,
    ):
        return answer.status


async def test_a_hint_wakes_the_poll_at_once(
    space: Space, http: HttpVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SampleHint, "poll_every_s", 600.0)
    async with space.hub("sample_hint", http, secrets=[SECRET]) as running:
        await until("the first poll", lambda: state(running, "sample_hint").next_try_at)
        await http.says("news")
        assert await hint_to(running) == 200
        await arrived(running, ["news"])


async def test_only_a_request_that_is_believed_and_a_hint_wakes_the_poll(
    space: Space, http: HttpVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers do not make the hub call its vendors, and neither does every message."""
    woken: list[str] = []
    monkeypatch.setattr(hub.doors.Doors, "hint", lambda self, told: woken.append(told.channel))
    async with space.hub("sample_hint", http, secrets=[SECRET]) as running:
        assert await hint_to(running, secret="a-stranger-guesses-this") == 403
        assert woken == []
        assert await hint_to(running) == 200
        assert woken == ["sample_hint"]
        monkeypatch.setattr(SampleHint, "hint", lambda self, verified: None)
        assert await hint_to(running) == 200
        assert woken == ["sample_hint"]


async def test_a_hint_during_a_poll_is_followed_by_another(
    space: Space, http: HttpVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page under way may have been made before the news."""
    monkeypatch.setattr(SampleHint, "poll_every_s", 600.0)
    async with space.hub("sample_hint", http, secrets=[SECRET]) as running:
        await until("the first poll", lambda: state(running, "sample_hint").next_try_at)
        http.gate.clear()
        assert await hint_to(running) == 200
        await until("the poll", lambda: len(http.calls) == 2)
        await http.says("news")
        assert await hint_to(running) == 200
        http.gate.set()
        await arrived(running, ["news"])


async def test_a_missed_hint_is_repaired_by_the_interval(
    space: Space, http: HttpVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SampleHint, "poll_every_s", 0.1)
    async with space.hub("sample_hint", http, secrets=[SECRET]) as running:
        await until("the first poll", lambda: state(running, "sample_hint").next_try_at)
        await http.says("nobody gave a hint")
        await arrived(running, ["nobody gave a hint"])


async def test_a_hint_reaches_the_process_that_polls(
    space: Space, http: HttpVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The webhook comes to any process; one of them holds the door."""
    monkeypatch.setattr(SampleHint, "poll_every_s", 600.0)
    async with space.hub("sample_hint", http, secrets=[SECRET]) as first:
        await until("the first poll", lambda: state(first, "sample_hint").next_try_at)
        async with space.hub("sample_hint", http, secrets=[SECRET]) as second:
            await http.says("news")
            assert await hint_to(second) == 200
            await arrived(first, ["news"])
            assert http.calls.count("position") == 1
            assert "another process" in state(second, "sample_hint").reason


# --- held --------------------------------------------------------------------------------------


async def test_held_messages_are_in_the_timeline_exactly_once(
    space: Space, lines: LineVendor
) -> None:
    """Over connections that break, and a restart of the hub."""
    await lines.says("before the account was set up")
    async with space.hub("sample_held", lines) as running:
        await until("the connection", lambda: state(running, "sample_held").state == "ok")
        await until("the welcome", lambda: lines.hellos == ["end"])
        await lines.hang_up()
        await until("another connection", lambda: len(lines.hellos) == 2)
        for number in range(10):
            await lines.says(f"text {number}")
        await lines.hang_up()
        for number in range(10, 20):
            await lines.says(f"text {number}")
        await arrived(running, [f"text {number}" for number in range(20)])
        items = await running.store.table(InboxItem).find({})
        assert {item.door for item in items} == {"hold"}
    await lines.says("while nobody listened")
    async with space.hub("sample_held", lines) as running:
        await arrived(running, [*(f"text {n}" for n in range(20)), "while nobody listened"])
    assert lines.hellos.count("end") <= 2, "the present end is asked for at the beginning only"
    assert lines.most_connections == 1


async def test_a_crash_between_a_held_item_and_its_cursor_doubles_nothing(
    space: Space, lines: LineVendor, step: dict[str, Callable[[], None]]
) -> None:
    crashes: list[int] = []

    def crash() -> None:
        if len(lines.messages) == 3 and not crashes:
            crashes.append(len(lines.messages))
            raise RuntimeError("the process died between the item and its cursor")

    async with space.hub("sample_held", lines) as running:
        await until("the connection", lambda: lines.hellos == ["end"])
        await until("the state", lambda: state(running, "sample_held").state == "ok")
        step["doors.1"] = crash
        for number in range(3):
            await lines.says(f"text {number}")
        await until("the crash", lambda: crashes)
        await until("another connection", lambda: len(lines.hellos) == 2)
        await lines.says("afterwards")
        await arrived(running, ["text 0", "text 1", "text 2", "afterwards"])


async def test_connections_that_end_at_once_are_made_with_growing_waits(
    space: Space, lines: LineVendor, tried: list[int]
) -> None:
    lines.mood = Mood.SWALLOWS
    async with space.hub("sample_held", lines) as running:
        await until("several tries", lambda: len(tried) >= 4)
        assert tried[:4] == [1, 2, 3, 4]
        assert state(running, "sample_held").state == "down"
        assert "closed the connection" in state(running, "sample_held").reason
        lines.mood = Mood.WELL
        await until("the recovery", lambda: state(running, "sample_held").state == "ok")
        await until("trust", lambda: lines.connections == 1)


async def test_a_held_connection_is_given_up_while_inbound_is_off(
    space: Space, lines: LineVendor
) -> None:
    async with space.hub("sample_held", lines) as running:
        await until("the connection", lambda: state(running, "sample_held").state == "ok")
        await running.switches.set("sample_held:main", "inbound", "off")
        await until("the end of it", lambda: lines.connections == 0)
        await until("the state", lambda: state(running, "sample_held").state == "paused")
        await lines.says("later")
        await running.switches.set("sample_held:main", "inbound", "on")
        await arrived(running, ["later"])


# --- leases ------------------------------------------------------------------------------------


def counting_claims(running: Hub, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with each try of a hub to get a door."""
    lanes = running.store.lanes
    claim = lanes.claim
    claims: list[str] = []

    async def counted(wanted: Sequence[str], owner: str, seconds: float) -> Any:
        claims.extend(lane for lane in wanted if lane.startswith("door:"))
        return await claim(wanted, owner, seconds)

    monkeypatch.setattr(lanes, "claim", counted)
    return claims


async def test_one_process_holds_a_door_and_hands_it_over_when_it_stops(
    space: Space, lines: LineVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with space.hub("sample_held", lines) as first:
        await until("the connection", lambda: len(lines.hellos) == 1)
        async with space.hub("sample_held", lines) as second:
            claims = counting_claims(second, monkeypatch)
            await until("tries to get the door", lambda: len(claims) >= 4)
            assert len(lines.hellos) == 1, "two processes hold the same door"
            await lines.says("one")
            await arrived(second, ["one"])
            await first.doors.close()
            await until("the hand-over", lambda: len(lines.hellos) == 2)
            await lines.says("two")
            await arrived(second, ["one", "two"])
    assert lines.hellos == ["end", "1"]
    assert lines.most_connections == 1


async def test_a_door_is_left_when_its_lease_cannot_be_renewed(
    space: Space, lines: LineVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewal that fails once is repeated; when the lease runs out the work has ended before."""
    monkeypatch.setattr(hub.doors, "LEASE_S", 4.0)  # outlives a stall of a busy machine
    async with AsyncExitStack() as stack:
        holder = await stack.enter_async_context(space.hub("sample_held", lines))
        await until("a connection", lambda: len(lines.hellos) == 1)
        other = await stack.enter_async_context(space.hub("sample_held", lines))
        renew = holder.store.lanes.renew
        failures: list[str] = []

        async def failing(lease: Any, seconds: float) -> bool:
            if lease.lane.startswith("door:") and (len(failures) != 1 or broken):
                failures.append(lease.lane)
                raise Unavailable("the database is away")
            return await renew(lease, seconds)

        broken = False
        monkeypatch.setattr(holder.store.lanes, "renew", failing)
        await until("a failed renewal", lambda: len(failures) == 1)
        await lines.says("still held")
        await arrived(holder, ["still held"])
        assert len(lines.hellos) == 1
        broken = True
        await until("the other one", lambda: len(lines.hellos) >= 2)
        assert lines.most_connections == 1
        await lines.says("by the other")
        await arrived(other, ["still held", "by the other"])


# --- reasons -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Temporary("the vendor is busy"), "the vendor is busy"),
        (
            ValueError("bad answer from https://api.example/v2?access_token=abc&x=1, sorry"),
            "ValueError: bad answer from https://api.example/v2?... sorry",
        ),
        (OSError("no route"), "OSError: no route"),
    ],
)
def test_reasons_are_for_operators_and_hold_no_tokens(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
