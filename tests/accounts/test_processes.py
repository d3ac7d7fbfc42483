"""Accounts in whole hubs: a change in the feed, two processes with one answer, one of them killed.

Real: hubs (in the test's process and as processes of their own), MongoDB, HTTP. Faked: the vendor.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub.accounts.reports import LASTS_S
from hub.api.keys import create_key
from hub.clock import SystemClock
from hub.documents import InboxItem
from hub.testing.fake_vendor import Mood
from hub.testing.samples.poll import SamplePoll
from tests.samples.vendors import TOKEN, HttpVendor
from tests.support.hubs import RunningHub, running_hub
from tests.support.mongo import OwnMongod
from tests.support.processes import HubProcess
from tests.support.truth import store_of

POLLED = "sample_poll:main"
MODULES = ("hub.testing.samples.webhook", "hub.testing.samples.poll")
WAIT_S = 45.0


@pytest.fixture
async def vendor() -> AsyncIterator[HttpVendor]:
    async with HttpVendor() as playing:
        yield playing


def _account(vendor: HttpVendor) -> str:
    url = vendor.settings["url"]
    return (
        f'[[accounts]]\nchannel = "sample_poll"\nkey = "main"\nurl = "{url}"\ntoken = "{TOKEN}"\n'
    )


async def _until(goal: str, look: Callable[[], Awaitable[Any]]) -> Any:
    ends = time.monotonic() + WAIT_S
    while not (found := await look()):
        assert time.monotonic() < ends, f"waited {WAIT_S} s for {goal}"
        await asyncio.sleep(0.05)
    return found


# --- the feed ------------------------------------------------------------------------------------


@pytest.fixture
async def hub(
    mongo_url: str,
    mongo_db_name: str,
    tmp_path: Path,
    vendor: HttpVendor,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[RunningHub]:
    monkeypatch.setattr("hub.doors.backoff_s", lambda _: 0.05)
    monkeypatch.setattr("hub.accounts.telling.SETTLE_S", 0.2)
    monkeypatch.setattr("hub.accounts.keeper.EVERY_S", 0.05)
    monkeypatch.setattr(SamplePoll, "poll_every_s", 0.05)
    async with running_hub(
        mongo_url,
        mongo_db_name,
        tmp_path,
        hub={"plugin_modules": list(MODULES)},
        accounts=["main"],
        more=_account(vendor),
    ) as running:
        yield running


async def _changes(hub: RunningHub, key: str | None = None) -> list[dict[str, Any]]:
    page = await hub.get(
        "/feed/v1/events", params={"types": "account.*"}, **({"key": key} if key else {})
    )
    return [event for event in page["events"] if event["data"]["account"] == POLLED]


async def test_a_settled_change_is_one_event_of_the_feed(
    hub: RunningHub, vendor: HttpVendor
) -> None:
    async def well() -> bool:
        shown = await hub.get(f"/api/v1/accounts/{POLLED}")
        return shown["state"] == "ok" and shown["lag_s"] is not None

    await hub.until("the account to be well", well)
    vendor.mood = Mood.AWAY

    async def down() -> Any:
        return [each for each in await _changes(hub) if each["data"]["state"] == "down"]

    event = (await hub.until("the change", down))[0]
    assert event["type"] == "omniline.account.state_changed.v1"
    assert event["hubchannel"] == "sample_poll"
    assert "subject" not in event, "it is about no customer"
    assert event["data"]["reason"] == "the vendor is busy"
    assert event["causationid"].startswith("in_")
    vendor.mood = Mood.WELL

    async def well_again() -> Any:
        return (await _changes(hub))[-1]["data"]["state"] == "ok"

    await hub.until("the account to be well again", well_again)
    told = await _changes(hub)
    assert [each["data"].get("was", "") for each in told[1:]] == [
        each["data"]["state"] for each in told[:-1]
    ], "each change is told once: it begins where the one before it ended"
    assert all(each["data"].get("was") != each["data"]["state"] for each in told)


async def test_a_pause_is_in_the_feed_for_those_who_may_see_the_account(hub: RunningHub) -> None:
    """Though what the account itself brings is held back meanwhile."""
    asked = {"why": "moving house", "inbound": "store-only"}
    await hub.post(f"/api/v1/accounts/{POLLED}/pause", asked)

    async def paused() -> Any:
        return [each for each in await _changes(hub) if each["data"]["state"] == "paused"]

    (event,) = await hub.until("the pause", paused)
    assert "moving house" in event["data"]["reason"]
    mine = await hub.make_key("feed:read", accounts=[POLLED])
    assert await _changes(hub, mine)
    other = await hub.make_key("feed:read", accounts=["sample:main"])
    assert await _changes(hub, other) == []


async def test_one_account_that_is_down_does_not_make_the_hub_unready(
    hub: RunningHub, vendor: HttpVendor
) -> None:
    vendor.mood = Mood.AWAY

    async def down() -> bool:
        return str((await hub.get(f"/api/v1/accounts/{POLLED}"))["state"]) == "down"

    await hub.until("the account to be down", down)
    assert (await hub.call("GET", "/readyz", key="")).status == 200

    async def measured() -> bool:
        text = (await hub.call("GET", "/metrics", key="")).body.decode()
        wanted = 'omniline_account_state{account="main",channel="sample_poll",state="down"} 1.0'
        return wanted in text

    await hub.until("the metric", measured)


async def test_nobody_but_the_hub_tells_how_accounts_do(hub: RunningHub) -> None:
    """A plugin that gives the hub's own command is refused."""
    told = await hub.hub.services.run_command(
        "account_changed",
        {"account": POLLED, "state": "down", "since": "2026-03-02T09:00:00Z"},
        key="forged",
        actor="plugin:desk",
    )
    assert (told["state"], told["error"]) == ("refused", "forbidden")


async def test_a_process_that_only_serves_sees_a_pause_too(
    hub: RunningHub, mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    """What it is pushed is kept for later, though the pause was asked of another process."""
    push = b'{"id":"m1","sender":"ann","at":1772442000000,"text":"hello"}'
    async with running_hub(
        mongo_url,
        mongo_db_name,
        tmp_path,
        hub={"plugin_modules": [MODULES[0]]},
        accounts=["main"],
        role="serve",
    ) as serving:
        await hub.post("/api/v1/accounts/sample:main/pause", {"why": "moving"})

        async def paused() -> bool:
            shown = await serving.get("/api/v1/accounts/sample:main")
            return shown["state"] == "paused" and shown["switches"]["inbound"] == "store-only"

        await hub.until("the other process to see the pause", paused)
        await serving.push(push)
        held = await hub.hub.store.table(InboxItem).find({"held": True})
        assert [item.account for item in held] == ["main"]


# --- two processes -------------------------------------------------------------------------------


@pytest.mark.timeout(180)
async def test_two_processes_answer_the_same_and_a_killed_one_has_no_say(
    vendor: HttpVendor, tmp_path: Path
) -> None:
    """The one that holds the door sees it fail, both say so; killed, only what lives counts."""
    with OwnMongod() as mongod:
        hubs = [
            HubProcess(
                tmp_path / name,
                mongod.url,
                "accounts",
                name=name,
                modules=MODULES,
                more="\n" + _account(vendor),
            )
            for name in ("first", "second")
        ]
        first, second = hubs
        try:
            await first.start()
            async with store_of(mongod.url, "accounts") as store:
                _, key = await create_key(store, SystemClock(), "test", ["admin"])
            async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as http:

                async def shown(hub: HubProcess) -> Any:
                    async with http.get(f"{hub.url}/api/v1/accounts/{POLLED}") as answer:
                        assert answer.status == 200, await answer.text()
                        return await answer.json()

                async def say(state: str, *those: HubProcess) -> None:
                    async def all_do() -> bool:
                        return {(await shown(each))["state"] for each in those} == {state}

                    await _until(f"{[each.name for each in those]} to say {state}", all_do)

                await say("ok", first)
                await second.start()  # the first one holds the door
                vendor.mood = Mood.AWAY
                await say("down", first, second)
                first.kill()
                vendor.mood = Mood.WELL
                killed = time.monotonic()
                await say("ok", second)
                assert time.monotonic() - killed < LASTS_S + 15
                assert (await shown(second))["lag_s"] is not None, "it holds the door by now"
                assert await second.stop() == 0
        finally:
            for each in hubs:
                await each.close()
