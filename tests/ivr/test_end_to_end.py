"""A whole hub with a phone account: calls over HTTP, MongoDB, recordings fetched and played.

One hub for everything here. Twilio's voice side and its API are `fake_twilio`.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
import random
import struct
import wave
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from yarl import URL

from hub.api.views import entry_view
from hub.console.lines import lines
from hub.documents import Conversation, Entry, InboxItem
from hub.simulate import simulate_channel
from normalizer.parts import MediaState
from tests.ivr.calling import example_menu
from tests.ivr.fake_twilio import ACCOUNT_SID, NUMBER, TOKEN, Call, FakeApi
from tests.support.hubs import RunningHub, running_hub
from tests.support.scale import scaled

pytestmark = pytest.mark.real_mongo


def sound() -> bytes:
    """Return a fifth of a second of a tone, as a WAV file: what a player takes."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        tone = (round(8000 * math.sin(number / 5)) for number in range(1600))
        out.writeframes(b"".join(struct.pack("<h", each) for each in tone))
    return file.getvalue()


def toml(value: Any) -> str:
    """Return a value as TOML writes it on one line."""
    if isinstance(value, dict):
        return (
            f"{{{', '.join(f'{json.dumps(key)} = {toml(each)}' for key, each in value.items())}}}"
        )
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def account(folder: Path, api: FakeApi) -> str:
    """Return the account, with the docs' menu at hours that never end."""
    menu = example_menu()
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    menu["hours"]["office"] |= {"week": {day: ["00:00-24:00"] for day in days}, "closed": []}
    lines = [f"{json.dumps(name)} = {toml(value)}" for name, value in menu.items()]
    (folder / "hotline.toml").write_text("\n".join(lines), "utf-8")
    return f"""
[hub.media]
private_hosts = ["127.0.0.1"]

[[accounts]]
channel = "ivr"
key = "main"
label = "Hotline"
account_sid = "{ACCOUNT_SID}"
auth_tokens = ["{TOKEN}"]
api_url = "{api.url}"
numbers = ["{NUMBER}"]
menu_file = {str(folder / "hotline.toml")!r}
tidy_every_s = 0
"""


class Hotline:
    """A running hub, and calls to it over HTTP."""

    def __init__(self, hub: RunningHub, api: FakeApi, http: aiohttp.ClientSession) -> None:
        self.hub = hub
        self.api = api
        self._http = http

    @property
    def connector(self) -> Any:
        return self.hub.hub.connectors[("ivr", "main")]

    def call(self, number: int, **fields: str) -> Call:
        door = f"{self.hub.hub.url}/in/ivr/main"
        return Call(self._post, door=door, number=number, now=lambda: datetime.now(UTC), **fields)

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> Any:
        async with self._http.post(
            URL(url, encoded=True), data=body, headers=headers, allow_redirects=False
        ) as answer:
            return answer.status, answer.headers.get("Content-Type", ""), await answer.read()

    async def entries(self, **where: Any) -> list[Entry]:
        return await self.hub.hub.store.table(Entry).find(
            {"channel": "ivr", **where}, sort=[("position", 1)]
        )

    async def one(self, what: str, wanted: Any, **where: Any) -> Entry:
        """Return the first entry for which ``wanted`` holds, as soon as there is one."""

        async def look() -> Entry | None:
            return next((each for each in await self.entries(**where) if wanted(each)), None)

        found: Entry = await self.hub.until(what, look)
        return found

    async def routed(self) -> None:
        """Wait until nothing lies in the inbox unrouted."""

        async def look() -> bool:
            return not await self.hub.hub.store.table(InboxItem).count({"open": True}, limit=1)

        await self.hub.until("an empty inbox", look)

    async def feed(self) -> list[dict[str, Any]]:
        page = await self.hub.get("/feed/v1/events?limit=1000")
        return [event for event in page["events"] if event.get("hubchannel") == "ivr"]


@pytest.fixture
async def hotline(mongo_url: str, mongo_db_name: str, tmp_path: Path) -> AsyncIterator[Hotline]:
    async with (
        FakeApi() as api,
        running_hub(
            mongo_url, mongo_db_name, tmp_path, accounts=(), more=account(tmp_path, api)
        ) as hub,
        aiohttp.ClientSession() as http,
    ):
        yield Hotline(hub, api, http)


def steps(entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = entry.data.get("call", {})
    return found


async def test_calls_as_the_timeline_the_feed_and_the_agents_see_them(hotline: Hotline) -> None:
    """A conversation with its recording, a voicemail, a call back, withheld numbers, a lost end."""
    await hotline.connector._tidying.begin()
    await _a_conversation_is_one_entry_with_a_recording_to_play(hotline)
    await _a_voicemail_and_a_call_back_are_work_to_do(hotline)
    await _withheld_numbers_are_somebody_else_each_time(hotline)
    await _payment_data_is_nowhere_in_the_database(hotline)
    await _an_end_that_was_never_told_is_looked_up(hotline)
    await _the_account_is_checked_at_twilio(hotline)
    await _samples_are_played_to_the_running_hub(hotline)
    await _a_code_says_who_calls(hotline)


async def _a_conversation_is_one_entry_with_a_recording_to_play(hotline: Hotline) -> None:
    hotline.api.files[f"RE{1:032x}"] = sound()
    hotline.api.not_yet[f"RE{1:032x}"] = 1
    call = await hotline.call(1).rings()
    ringing = await hotline.one("the call", lambda each: each.event == "call.ringing")
    assert not steps(ringing), "it is there while it rings"
    await call.presses("0")
    await call.is_answered(talks_s=60)
    await call.deliver(order=lambda waiting: waiting.reverse())
    done = await hotline.one(
        "the recording",
        lambda each: any(part.media.state is MediaState.READY for part in each.parts),
        event="call.ringing",
    )
    assert done.id == ringing.id
    assert {"path_001", "transfer_001", "answered_001", "ended"} <= steps(done).keys()
    assert steps(done)["ended"]["duration_s"] == 126
    assert len(await hotline.entries()) == 1, "one call is one entry"
    told = [event["type"] for event in await hotline.feed()]
    for name in ("ringing", "input", "transferred", "answered", "recorded", "ended"):
        assert told.count(f"omniline.call.{name}.v1") == 1, (name, told)
    # The agent sees and hears it, and that nobody wrote it down.
    view = await hotline.hub.get(f"/api/v1/entries/{done.id}")
    entry = view.get("entry", view)
    [audio] = [part for part in entry["parts"] if part["type"] == "audio"]
    blob = audio["media"]["blob"]
    played = await hotline.hub.call("GET", f"/api/v1/attachments/{blob}?entry={done.id}")
    assert (played.status, played.body) == (200, sound())
    [line] = lines([entry_view(done)], [], "", "", whole=True)
    shown = [block.text for block in line.blocks]
    assert shown[:3] == ["Call ended", "main: pressed 0", "Transferred to Mei"]
    assert {"Answered by Mei", "Talked to Mei for 1 min"} <= set(shown)
    assert [text for text in shown if "min" in text][-1] == "Ended after 2 min 6 s"
    assert any(block.kind == "link" and blob in block.url for block in line.blocks)
    [words] = [step["text"] for step in steps(done).values() if "transcript" in step]
    assert words.endswith("no transcript: no provider configured")
    # Only now may it go at Twilio.
    assert not hotline.api.deleted
    await hotline.connector._tidying.tidy()
    assert hotline.api.deleted == [f"RE{1:032x}"]
    await hotline.connector._tidying.tidy()
    assert hotline.api.deleted == [f"RE{1:032x}"]


async def _a_voicemail_and_a_call_back_are_work_to_do(hotline: Hotline) -> None:
    hotline.api.files[f"RE{1:032x}"] = sound()
    call = await hotline.call(2, caller="+8613900139000").rings()
    await call.presses("0")
    await call.nobody_answers()
    await call.nobody_answers("busy")
    await call.leaves_a_message(12, hangs_up=True)
    await call.deliver()
    voicemail = await hotline.one(
        "the voicemail, fetched",
        lambda each: each.parts[0].media.state is MediaState.READY,
        event="voicemail",
    )
    [missed] = await hotline.entries(event="call.missed")
    back = await hotline.call(3, caller="+8613700137000").rings()
    await back.presses("3")
    await back.presses("1#")
    await back.presses("1")
    request = await hotline.one(
        "the time", lambda each: "morning" in each.parts[0].text, event="call.callback_requested"
    )
    assert request.parts[0].text == "Please call back +8613700137000, in the morning."
    conversations = hotline.hub.hub.store.table(Conversation)
    for entry in (voicemail, missed, request):
        found = await conversations.get(entry.conversation)
        assert found is not None
        assert found.state == "open"
    assert voicemail.conversation == missed.conversation != request.conversation


async def _withheld_numbers_are_somebody_else_each_time(hotline: Hotline) -> None:
    for number, caller in ((11, "anonymous"), (12, "anonymous"), (13, "+266696687")):
        call = await hotline.call(number, caller=caller).rings()
        await call.hangs_up()
        await call.deliver()
    await hotline.routed()
    rung = [
        entry
        for entry in await hotline.entries(event="call.ringing")
        if entry.data.get("can_be_called_back") is False
    ]
    assert len({entry.address for entry in rung}) == 3
    customers = await hotline.hub.get("/api/v1/customers?limit=200")
    owners = [
        customer["id"]
        for customer in customers["customers"]
        if any("anonymous" in address["address"] for address in customer["addresses"])
    ]
    assert len(owners) == 3
    for customer in customers["customers"]:
        assert len(customer["addresses"]) == 1, "a caller id links nothing"


async def _payment_data_is_nowhere_in_the_database(hotline: Hotline) -> None:
    card, number = "5105105105105100", "+8613600136000"
    with structlog.testing.capture_logs() as logged:
        call = await hotline.call(21, caller=number).rings()
        await call.presses("2")
        await call.presses(f"{card}#")
        await call.hangs_up()
        await call.deliver()
        await hotline.routed()
    assert card not in repr(logged)
    assert number not in repr(logged)
    items = await hotline.hub.hub.store.table(InboxItem).find({})
    assert items
    for kept in (*items, *await hotline.entries()):
        assert card not in repr(kept)


async def _an_end_that_was_never_told_is_looked_up(hotline: Hotline) -> None:
    call = await hotline.call(31, caller="+8613500135000").rings()
    await call.hangs_up()
    call.callbacks.clear()  # lost
    now = datetime.now(UTC)
    hotline.api.calls = [
        {
            "sid": call.sid,
            "from": "+8613500135000",
            "to": NUMBER,
            "status": "completed",
            "direction": "inbound",
            "duration": "17",
            "parent_call_sid": None,
            "start_time": now.strftime("%a, %d %b %Y %H:%M:%S +0000"),
            "end_time": now.strftime("%a, %d %b %Y %H:%M:%S +0000"),
        }
    ]
    for _ in range(2):
        await hotline.connector._tidying.look_up_calls()
    done = await hotline.one(
        "the end",
        lambda each: each.data["call_id"] == call.sid and "ended" in steps(each),
        event="call.ringing",
    )
    assert steps(done)["ended"]["text"] == "Ended after 17 s"
    told = [event for event in await hotline.feed() if event["type"] == "omniline.call.ended.v1"]
    assert len([each for each in told if each["data"]["entry"]["id"] == done.id]) == 1


async def _the_account_is_checked_at_twilio(hotline: Hotline) -> None:
    """Numbers that are not there, that lead elsewhere, without a fallback; wrong credentials."""
    check = hotline.connector.check
    [missing] = await check()
    assert f"{NUMBER} is not a number of this account at Twilio" in missing
    door = f"{hotline.hub.hub.url}/in/ivr/main"
    number = {"phone_number": NUMBER, "voice_url": door, "status_callback": ""}
    hotline.api.numbers = [number]
    [status, fallback] = await check()
    assert f"write {door}/status there" in status
    assert "fallback" in fallback
    number |= {"status_callback": f"{door}/status", "voice_fallback_url": "https://b.example/"}
    assert not await check()
    hotline.api.password = "another"
    [refused] = await check()
    assert "credentials" in refused
    assert TOKEN not in refused


async def _samples_are_played_to_the_running_hub(hotline: Hotline) -> None:
    """`omniline simulate ivr`: every one is signed for this hub, and taken."""
    hub = hotline.hub.hub
    played = [each async for each in simulate_channel(hub.config, "ivr", to=hub.url)]
    assert len(played) == 12
    assert not [str(each) for each in played if each.refused]
    assert played[0].answer.startswith("<?xml")


async def _a_code_says_who_calls(hotline: Hotline) -> None:
    """Two numbers are one person once the code that one was given is typed by the other."""
    known = await hotline.call(41, caller="+8615900159001").rings()
    await known.hangs_up()
    await hotline.routed()
    customer = await _customer_of(hotline, "+8615900159001")
    made = await hotline.hub.post(f"/api/v1/customers/{customer}/codes", {}, once="one-code")
    caller = await hotline.call(42, caller="+8615900159002").rings()
    await caller.presses("4")
    assert "code" in made.json, made
    await caller.presses(made.json["code"])
    await hotline.one("the line that says so", lambda each: each.event == "contact.identified")
    assert await _customer_of(hotline, "+8615900159002") == customer


async def _customer_of(hotline: Hotline, number: str) -> str:
    page = await hotline.hub.get("/api/v1/customers", params={"address": f"tel::e164:{number}"})
    [customer] = page["customers"]
    return str(customer["id"])


async def test_overlapping_repetitions_give_each_entry_once(hotline: Hotline) -> None:
    """Each of many calls is delivered three times at once, in any order: one entry each."""
    count = scaled(5, 150)
    chance = random.Random(7)
    calls = []
    for number in range(count):
        call = await hotline.call(1000 + number, caller=f"+86138{number:08d}").rings()
        await call.presses("0")
        if number % 2:
            await call.nobody_answers()
            await call.nobody_answers()
            await call.hangs_up()
        else:
            await call.hangs_up()
        for callback in list(call.callbacks):
            call.callbacks += [callback, callback]
        chance.shuffle(call.callbacks)
        calls.append(call)

    async def again(call: Call) -> None:
        sent = list(call.sent)
        await asyncio.gather(
            call.deliver(), *(call.send(url, fields) for url, fields in sent for _ in range(2))
        )

    await asyncio.gather(*(again(call) for call in calls))
    await hotline.routed()
    entries = await hotline.entries()
    assert [entry.event for entry in entries].count("call.ringing") == count
    assert [entry.event for entry in entries].count("call.missed") == count
    assert len(entries) == 2 * count
    for entry in entries:
        if entry.event == "call.ringing":
            assert steps(entry)["ended"]["state"] == "completed"
