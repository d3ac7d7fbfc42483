"""Pause, resume, skip and check of an account, through a running hub's API and the command line.

Real: hub, MongoDB, HTTP, the sample connectors. Faked: the vendor, a server that checks its token
and can be given a message that nobody can read.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hub.accounts.trying import check_account
from hub.cli import cli
from hub.contract import Polled
from hub.documents import Entry
from hub.testing.samples.poll import SamplePoll
from normalizer.outcomes import Misconfigured
from normalizer.parts import plain_text
from tests.samples.vendors import TOKEN, HttpVendor, LineVendor
from tests.support.hubs import RunningHub, config_text, running_hub

POLLED = "sample_poll:main"
PUSHED = "sample:main"


def _account(vendor: HttpVendor, token: str = TOKEN) -> str:
    url = vendor.settings["url"]
    return (
        f'[[accounts]]\nchannel = "sample_poll"\nkey = "main"\nurl = "{url}"\ntoken = "{token}"\n'
    )


@pytest.fixture
async def vendor() -> AsyncIterator[HttpVendor]:
    async with HttpVendor() as playing:
        yield playing


@pytest.fixture
async def hub(
    mongo_url: str,
    mongo_db_name: str,
    tmp_path: Path,
    vendor: HttpVendor,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[RunningHub]:
    """A hub with an account that is pushed to and one that polls."""
    monkeypatch.setattr("hub.doors.PAUSE_S", 0.05)
    monkeypatch.setattr(SamplePoll, "poll_every_s", 0.05)
    modules = {"plugin_modules": ["hub.testing.samples.webhook", "hub.testing.samples.poll"]}
    async with running_hub(
        mongo_url, mongo_db_name, tmp_path, hub=modules, accounts=["main"], more=_account(vendor)
    ) as running:
        async with vendor.asked:
            await vendor.asked.wait_for(lambda: "position" in vendor.calls)
        yield running


async def _texts(hub: RunningHub) -> list[str]:
    entries = await hub.hub.store.table(Entry).find({}, sort=[("position", 1)])
    return [plain_text(entry.parts) for entry in entries]


async def _arrived(hub: RunningHub, *texts: str) -> None:
    async def all_there() -> bool:
        return await _texts(hub) == list(texts)

    await hub.until(f"{texts}", all_there)


async def _state(hub: RunningHub, name: str, wanted: str) -> Any:
    async def so() -> Any:
        shown = await hub.get(f"/api/v1/accounts/{name}")
        return shown if shown["state"] == wanted else None

    return await hub.until(f"{name} to be {wanted}", so)


# --- pause and resume ----------------------------------------------------------------------------


async def test_a_paused_account_keeps_what_is_pushed_and_routes_it_when_resumed(
    hub: RunningHub,
) -> None:
    paused = await hub.post(f"/api/v1/accounts/{PUSHED}/pause", {"why": "spring cleaning"})
    assert (paused.status, paused.json["state"]) == (200, "paused"), paused
    assert paused.json["pause"]["why"] == "spring cleaning"
    assert "spring cleaning; what arrives is kept" in paused.json["reason"]
    assert paused.json["switches"] == {
        "name": PUSHED,
        "inbound": "store-only",
        "outbound": "off",
    }
    await hub.push(b'{"id":"m1","sender":"ann","at":1772442000000,"text":"hello"}')
    assert await _texts(hub) == []
    resumed = await hub.post(f"/api/v1/accounts/{PUSHED}/resume")
    assert (resumed.json["state"], resumed.json["pause"]) == ("ok", None), resumed
    await _arrived(hub, "hello")


async def test_a_paused_poll_stands_still_and_misses_nothing(
    hub: RunningHub, vendor: HttpVendor
) -> None:
    paused = await hub.post(f"/api/v1/accounts/{POLLED}/pause")
    assert paused.json["switches"]["inbound"] == "off"

    async def stands() -> bool:
        found = hub.hub.states.get("account", POLLED)
        return found is not None and found.state == "paused"

    await hub.until("the door to stand still", stands)
    asked = len(vendor.calls)
    await vendor.says("while you were away")
    again = await hub.post(f"/api/v1/accounts/{POLLED}/pause", {"why": "another reason"})
    assert again.json["pause"]["why"] == "", "the first pause stands"
    assert len(vendor.calls) == asked
    await hub.post(f"/api/v1/accounts/{POLLED}/resume")
    await _arrived(hub, "while you were away")


async def test_a_poll_tells_how_far_behind_it_is_and_a_webhook_cannot(hub: RunningHub) -> None:
    async def known() -> Any:
        return (await hub.get(f"/api/v1/accounts/{POLLED}"))["lag_s"] is not None

    await hub.until("the lag to be known", known)
    assert (await hub.get(f"/api/v1/accounts/{POLLED}"))["lag_s"] < 5
    assert (await hub.get(f"/api/v1/accounts/{PUSHED}"))["lag_s"] is None


async def test_what_a_webhook_brings_is_the_accounts_last_message(hub: RunningHub) -> None:
    assert (await hub.get(f"/api/v1/accounts/{PUSHED}"))["last_message_at"] is None
    await hub.push(b'{"id":"m1","sender":"ann","at":1772442000000,"text":"hello"}')
    assert (await hub.get(f"/api/v1/accounts/{PUSHED}"))["last_message_at"] is not None


# --- rights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["pause", "resume", "skip", "check"])
async def test_operating_needs_its_scope_and_the_account(hub: RunningHub, action: str) -> None:
    path = f"/api/v1/accounts/{PUSHED}/{action}"
    reader = await hub.make_key("accounts:read")
    assert (await hub.post(path, key=reader)).status == 403
    elsewhere = await hub.make_key("switches:write", accounts=[POLLED])
    assert (await hub.post(path, key=elsewhere)).status == 404
    assert (await hub.post(f"/api/v1/accounts/sample:none/{action}")).status == 404
    assert (await hub.post(f"/api/v1/accounts/odd/{action}")).status == 404
    assert (await hub.post(path, {"unknown": 1})).status == 422


# --- skip ----------------------------------------------------------------------------------------


def _poison(vendor: HttpVendor) -> None:
    """Put something into the vendor's list that the connector cannot read."""
    vendor.messages.append({"id": 5, "sender": None})  # type: ignore[arg-type]


async def test_a_stuck_poll_passes_the_one_thing_and_it_is_a_dead_letter(
    hub: RunningHub, vendor: HttpVendor
) -> None:
    """It rests for minutes after many failures, and skips at once all the same."""
    await vendor.says("before")
    await _arrived(hub, "before")
    _poison(vendor)
    await vendor.says("behind")
    stuck = await _state(hub, POLLED, "down")
    assert stuck["can_skip"]
    skipped = await hub.post(f"/api/v1/accounts/{POLLED}/skip", {"why": "it is garbage"})
    assert (skipped.status, skipped.json["state"]) == (200, "done"), skipped
    await _arrived(hub, "before", "behind")
    await _state(hub, POLLED, "ok")

    async def letters() -> Any:
        return (await hub.get("/api/v1/dead-letters"))["dead_letters"]

    (letter,) = await hub.until("the dead letter", letters)
    assert letter["account"] == "main"
    assert "skipped by" in letter["reason"]
    assert "it is garbage" in letter["reason"]


async def test_a_stuck_connection_passes_the_one_thing_too(
    mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    """Whatever it held before and behind arrives; the wait after a failure is cut short."""
    async with LineVendor() as vendor:
        facts = "".join(
            f"{name} = {json.dumps(value)}\n" for name, value in vendor.settings.items()
        )
        held = f'[[accounts]]\nchannel = "sample_held"\nkey = "main"\n{facts}'
        modules = {"plugin_modules": ["hub.testing.samples.held"]}
        async with running_hub(
            mongo_url, mongo_db_name, tmp_path, hub=modules, accounts=(), more=held
        ) as hub:
            await _state(hub, "sample_held:main", "ok")
            await vendor.says("before")
            await _arrived(hub, "before")
            vendor.messages.append({"seq": 2, "id": 5})  # type: ignore[arg-type]
            await vendor.says("behind")
            await _state(hub, "sample_held:main", "down")
            skipped = await hub.post("/api/v1/accounts/sample_held:main/skip")
            assert skipped.json["state"] == "done", skipped
            await _arrived(hub, "before", "behind")


async def test_a_skip_is_for_the_place_it_was_asked_at(hub: RunningHub, vendor: HttpVendor) -> None:
    """The vendor mends the thing before the door comes to it: nothing healthy is passed."""
    doors = hub.hub.doors
    _poison(vendor)
    await _state(hub, POLLED, "down")
    skips = doors._skips
    skip = await skips.ask(POLLED, ("poll",), by="key:ann", why="", clock=hub.hub.clock)
    assert await skips.ask(POLLED, ("poll",), by="key:bob", why="", clock=hub.hub.clock) == skip
    assert await skips.due("poll", POLLED, "another place") is None
    assert (await skips.read(skip)).state == "refused"
    assert "gone on by itself" in (await skips.read(skip)).detail


async def test_what_is_not_stuck_or_cannot_skip_is_not_skipped(
    hub: RunningHub, vendor: HttpVendor
) -> None:
    await _state(hub, POLLED, "ok")
    healthy = await hub.post(f"/api/v1/accounts/{POLLED}/skip")
    assert (healthy.status, healthy.problem) == (409, "conflict")
    assert "not stuck" in healthy.json["detail"]
    pushed = await hub.post(f"/api/v1/accounts/{PUSHED}/skip")
    assert (pushed.status, pushed.problem) == (409, "conflict")
    assert "cannot skip" in pushed.json["detail"]


async def test_a_connector_that_passes_more_than_one_thing_is_not_believed(
    hub: RunningHub, vendor: HttpVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    _poison(vendor)
    await _state(hub, POLLED, "down")

    async def stays(self: SamplePoll, cursor: str) -> Polled:
        return Polled(items=(), cursor=cursor)

    monkeypatch.setattr(SamplePoll, "skip", stays)
    refused = await hub.post(f"/api/v1/accounts/{POLLED}/skip")
    assert refused.json["state"] == "refused", refused
    assert "exactly one thing" in refused.json["detail"]


# --- check ---------------------------------------------------------------------------------------


async def test_credentials_are_tried_in_the_running_hub(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    well = await hub.post(f"/api/v1/accounts/{POLLED}/check")
    assert (well.json["ok"], well.json["problems"]) == (True, []), well
    monkeypatch.setattr("tests.samples.vendors.TOKEN", "the vendor has another one")
    wrong = await hub.post(f"/api/v1/accounts/{POLLED}/check")
    assert wrong.json["problems"] == ["the vendor does not accept the token: look at `token`"], (
        wrong
    )


async def test_whatever_a_check_does_is_a_sentence_in_time(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = hub.hub.connectors[("sample_poll", "main")]

    async def told(check: Any) -> str:
        monkeypatch.setattr(connector, "check", check)
        (problem,) = (await check_account(connector, deadline_s=0.05)).problems
        return problem

    async def hangs() -> list[str]:
        await asyncio.Event().wait()
        return []

    async def raises() -> list[str]:
        raise KeyError("token")

    async def refused() -> list[str]:
        raise ConnectionRefusedError(111, "nobody there")

    async def fails() -> list[str]:
        raise Misconfigured("the token is missing: set `token`")

    assert "no answer within 0.05 s" in await told(hangs)
    assert "a fault of the plugin" in await told(raises)
    assert "cannot be reached" in await told(refused)
    assert await told(fails) == "the token is missing: set `token`"


# --- the command line ----------------------------------------------------------------------------


@pytest.fixture
def config(mongo_url: str, mongo_db_name: str, tmp_path: Path) -> Path:
    """A configuration whose polled account has nobody at its address."""
    path = tmp_path / "omniline.toml"
    polled = (
        '[[accounts]]\nchannel = "sample_poll"\nkey = "main"\n'
        'url = "http://127.0.0.1:9"\ntoken = "t"\n'
    )
    modules = {"plugin_modules": ["hub.testing.samples.webhook", "hub.testing.samples.poll"]}
    path.write_text(
        config_text(mongo_url, mongo_db_name, tmp_path, hub=modules, accounts=["main"], more=polled)
    )
    path.chmod(0o600)
    return path


def _omniline(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


def test_accounts_are_seen_paused_and_resumed_without_a_running_hub(config: Path) -> None:
    where = ("--config", str(config))
    listed = _omniline("accounts", "list", *where)
    assert listed.exit_code == 0, listed.output
    assert "sample_poll:main" in listed.output
    assert "no process runs it" in listed.output
    paused = _omniline("accounts", "pause", *where, POLLED, "--why", "moving")
    assert paused.exit_code == 0, paused.output
    assert f"{POLLED}: paused (paused by cli:" in paused.output
    assert "moving" in _omniline("accounts", "show", *where, POLLED).output
    resumed = _omniline("accounts", "resume", *where, POLLED)
    assert f"{POLLED}: starting" in resumed.output
    assert "was not paused" in _omniline("accounts", "resume", *where, POLLED).output
    unknown = _omniline("accounts", "pause", *where, "mail:none")
    assert unknown.exit_code == 2
    assert f"there are: {PUSHED}, {POLLED}" in unknown.output
    stuck = _omniline("accounts", "skip", *where, POLLED)
    assert stuck.exit_code == 1
    assert "not stuck" in stuck.output


def test_check_tries_everything_and_says_what_is_wrong_where(config: Path) -> None:
    where = ("--config", str(config))
    checked = _omniline("check", *where)
    assert checked.exit_code == 1, checked.output
    assert f"ok: account {PUSHED}" in checked.output
    assert f"- account {POLLED}: the vendor cannot be reached" in checked.output
    only = _omniline("check", *where, "--account", PUSHED)
    assert (only.exit_code, "all is well" in only.output) == (0, True), only.output
    assert POLLED not in only.output
    told = json.loads(_omniline("check", *where, "--json").output)
    assert told["ok"] is False
    assert {each["name"]: bool(each["problems"]) for each in told["findings"]} == {
        PUSHED: False,
        POLLED: True,
    }
    unknown = _omniline("check", *where, "--account", "mail:none")
    assert unknown.exit_code == 2
