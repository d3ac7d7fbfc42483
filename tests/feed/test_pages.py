"""Pages of the feed: nothing is missed, doubled or reordered, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from hub.documents import FeedRow
from hub.feed import reader as reading
from hub.feed.access import Selection
from hub.feed.cursors import Cursors
from hub.feed.pages import MAX_PAGE_BYTES
from normalizer.drafts import Amendment, AmendmentKind, Target
from tests.feed.world import World


def positions(events: list[dict[str, Any]]) -> list[int]:
    return [int(event["sequence"]) for event in events]


async def test_two_readers_miss_nothing_while_others_write_at_full_speed(here: World) -> None:
    """Both read while 600 messages are written, each at its own pace, and get 1, 2, 3 ..."""
    key = await here.key()
    writing = True

    async def write(sender: int) -> None:
        for number in range(30):
            await here.say(f"s{sender}", f"number {number}")

    async def read(limit: int, wait: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            done = not writing
            page = await here.page(key, cursor=cursor, limit=limit, wait=wait)
            found += page["events"]
            cursor = page["next_cursor"]
            if done and not page["has_more"] and not page["events"]:
                return found

    readers = [asyncio.create_task(read(7, 1)), asyncio.create_task(read(1000, 0))]
    await asyncio.gather(*(write(sender) for sender in range(20)))
    end = await here.routed()
    writing = False
    for reader in readers:
        events = await reader
        assert positions(events) == list(range(1, end + 1))
        assert len({event["id"] for event in events}) == end
        said = [event for event in events if event["type"] == "omniline.message.received.v1"]
        assert len(said) == 600
        for sender in {event["partitionkey"] for event in said}:
            texts = [e["data"]["entry"]["text"] for e in said if e["partitionkey"] == sender]
            assert texts == [f"number {number}" for number in range(30)]


async def test_reading_from_every_cursor_gives_the_same_rest(here: World) -> None:
    key = await here.key()
    for number in range(5):
        await here.say("ann", str(number))
    end = await here.routed()
    cursors, cursor = [], ""
    for _ in range(end):
        page = await here.page(key, cursor=cursor, limit=1)
        cursor = page["next_cursor"]
        cursors.append(cursor)
    assert not page["has_more"]
    for number, each in enumerate(cursors, start=1):
        rest = await here.all(key, cursor=each)
        assert positions(rest) == list(range(number + 1, end + 1))


async def test_the_envelope_is_a_cloud_event_and_the_same_bytes_each_time(here: World) -> None:
    key = await here.key()
    await here.say("ann", "你好😀")
    await here.routed()
    async with here.session.get(f"{here.url}/feed/v1/events", headers=key) as first:
        once = await first.read()
    async with here.session.get(f"{here.url}/feed/v1/events", headers=key) as second:
        assert await second.read() == once
    assert first.headers["Cache-Control"] == "no-store"
    (event,) = (e for e in msgspec.json.decode(once)["events"] if "message" in e["type"])
    assert event["specversion"] == "1.0"
    assert event["source"] == f"/hub/{here.hub.settings.database}"
    assert event["subject"] == f"customer/{event['partitionkey']}"
    assert event["id"].startswith("evt_")
    assert len(event["sequence"]) == 20
    assert event["dataschema"] == "https://hub.example/schemas/omniline.message.received.v1.json"
    assert event["hubchannel"] == "sample"
    assert event["correlationid"] == event["data"]["entry"]["conversation"]
    assert event["causationid"].startswith("in_")
    assert event["data"]["entry"]["text"] == "你好😀"
    assert not [name for name, value in event.items() if value is None]


async def test_tail_starts_now_and_a_long_poll_ends_with_the_first_event(here: World) -> None:
    key = await here.key()
    await here.say("ann", "before")
    await here.routed()
    page = await here.page(key, cursor="tail")
    assert page["events"] == []
    assert not page["has_more"]
    waiting = asyncio.create_task(here.page(key, cursor=page["next_cursor"], wait=25))
    began = time.monotonic()
    await here.say("ann", "after")
    events = (await waiting)["events"]
    assert time.monotonic() - began < 5
    assert [event["data"]["entry"]["text"] for event in events] == ["after"]


async def test_a_long_poll_for_something_else_goes_on_waiting_and_its_cursor_moves(
    here: World,
) -> None:
    key = await here.key()
    start = (await here.page(key, cursor="tail", types="ticket.*"))["next_cursor"]
    waiting = asyncio.create_task(here.page(key, cursor=start, types="ticket.*", wait=1))
    await here.say("ann")
    end = await here.routed()
    page = await waiting
    assert page["events"] == []
    assert Cursors(here.hub.key).read(page["next_cursor"]).position == end


async def test_filters_leave_out_and_the_cursor_passes_what_they_leave_out(here: World) -> None:
    key = await here.key()
    for sender in ("ann", "bob"):
        await here.say(sender, f"by {sender}")
    await here.say("ann", type="followed")
    end = await here.routed()
    everything = await here.all(key)
    ann = next(e for e in everything if e["data"].get("entry", {}).get("text") == "by ann")
    customer = ann["partitionkey"]
    for query, wanted in (
        ({"types": "message.*"}, lambda e: ".message." in e["type"]),
        (
            {"types": "customer.created, contact.*"},
            lambda e: "customer.created" in e["type"] or "contact.followed" in e["type"],
        ),
        ({"customer": customer}, lambda e: e.get("partitionkey") == customer),
        ({"channel": "sample", "limit": 1}, lambda e: e.get("hubchannel") == "sample"),
        ({"channel": "wechat"}, lambda e: False),
        (
            {"customer": customer, "types": "message.*"},
            lambda e: e.get("partitionkey") == customer and ".message." in e["type"],
        ),
    ):
        found = await here.all(key, **query)
        assert positions(found) == positions([e for e in everything if wanted(e)]), query
        last = await here.page(key, **{**query, "limit": 1000})
        assert Cursors(here.hub.key).read(last["next_cursor"]).position == end
    assert "omniline.contact.followed.v1" in {event["type"] for event in everything}


async def test_a_merged_customer_is_found_under_either_id(here: World) -> None:
    key = await here.key()
    await here.say("ann")
    await here.say("bob")
    await here.routed()
    created = await here.all(key, types="customer.created")
    ann, bob = (event["partitionkey"] for event in created)
    await here.command("merge", customer=ann, other=bob, evidence={"kind": "agent"})
    await here.say("bob", "merged")
    await here.routed()
    for ident in (ann, bob):
        found = await here.all(key, customer=ident)
        assert {event["partitionkey"] for event in found} == {ann, bob}
        assert found[-1]["data"]["entry"]["text"] == "merged"


@pytest.mark.parametrize(
    "query",
    [
        {"cursor": "nonsense"},
        {"cursor": "ÿ"},
        {"limit": "0"},
        {"limit": "1001"},
        {"wait": "26"},
        {"wait": "-1"},
        {"type": "message.*"},
        {"types": "omniline message"},
        {"customer": "42"},
    ],
)
async def test_what_is_not_understood_is_refused(here: World, query: dict[str, str]) -> None:
    problem = await here.page(await here.key(), status=400, **query)
    assert problem["status"] == 400
    assert problem["detail"]


async def test_a_cursor_of_other_filters_or_another_hub_is_refused(here: World) -> None:
    key = await here.key()
    await here.say("ann")
    await here.routed()
    cursor = (await here.page(key, types="message.*"))["next_cursor"]
    await here.page(key, types="message.*", cursor=cursor)
    for query in ({}, {"types": "message.sent"}, {"types": "message.*", "channel": "mail"}):
        problem = await here.page(key, status=400, cursor=cursor, **query)
        assert problem["type"].endswith("/cursor-invalid")
    forged = cursor[:20] + ("A" if cursor[20] != "A" else "B") + cursor[21:]
    await here.page(key, status=400, types="message.*", cursor=forged)


async def test_a_cursor_behind_which_events_are_gone_is_told_where_to_go_on(here: World) -> None:
    key = await here.key()
    await here.say("ann")
    end = await here.routed()
    early = (await here.page(key, limit=1))["next_cursor"]
    early_one = (await here.page(key, limit=1, types="*"))["next_cursor"]
    await here.hub.store.table(FeedRow).delete({"_id": {"$lte": end - 1}})
    for query in ({"cursor": early}, {"cursor": early_one, "types": "*"}):
        problem = await here.page(key, status=410, **query)
        assert problem["type"].endswith("/cursor-expired")
        page = await here.page(key, **{**query, "cursor": problem["earliest_cursor"]})
        assert positions(page["events"]) == [end]
    assert positions(await here.all(key)) == [end]


async def test_a_feed_of_which_all_is_gone_still_tells_who_missed_something(here: World) -> None:
    key = await here.key()
    await here.say("ann")
    await here.routed()
    early = (await here.page(key, limit=1))["next_cursor"]
    late = (await here.page(key, cursor="tail"))["next_cursor"]
    await here.hub.store.table(FeedRow).delete({})
    await here.page(key, status=410, cursor=early)
    assert (await here.page(key, cursor=late))["events"] == []
    assert (await here.page(key))["events"] == []


async def test_a_cursor_from_before_the_database_was_restored_has_expired(here: World) -> None:
    key = await here.key()
    await here.say("ann")
    end = await here.routed()
    cursors = Cursors(here.hub.key)
    now = cursors.read((await here.page(key))["next_cursor"])
    selection = Selection()
    for generation, position in ((now.generation - 1, end), (now.generation, end + 1)):
        text = cursors.text(generation, position, selection)
        problem = await here.page(key, status=410, cursor=text)
        assert problem["type"].endswith("/cursor-expired")


async def test_a_page_is_at_most_a_mebibyte_and_an_event_60_kibibytes(here: World) -> None:
    """30 events of 60 KiB do not fit; the rest comes with the next page, whole and in order."""
    key = await here.key()
    for number in range(30):
        await here.say("ann", f"{number} " + "字" * 30_000)
    end = await here.routed()
    async with here.session.get(
        f"{here.url}/feed/v1/events", params={"limit": 1000}, headers=key
    ) as answer:
        raw = await answer.read()
    page = msgspec.json.decode(raw)
    assert page["has_more"]
    assert len(raw) < MAX_PAGE_BYTES + 1000
    events = page["events"] + await here.all(key, cursor=page["next_cursor"])
    assert positions(events) == list(range(1, end + 1))
    for event in events:
        if ".message." in event["type"]:
            assert len(msgspec.json.encode(event)) <= 60 * 1024
            assert event["data"]["truncated"] is True
            entry = event["data"]["entry"]
            assert event["dataref"] == f"https://hub.example/api/v1/entries/{entry['id']}"
            assert len(entry["text"]) == 8000


async def test_batches_are_bare_arrays_with_the_cursor_beside_them(here: World) -> None:
    key = await here.key()
    await here.say("ann")
    end = await here.routed()
    accept = {"Accept": "application/cloudevents-batch+json"}
    async with here.session.get(
        f"{here.url}/feed/v1/events", params={"types": "message.*"}, headers={**key, **accept}
    ) as answer:
        batch = msgspec.json.decode(await answer.read())
    assert answer.headers["Content-Type"] == "application/cloudevents-batch+json; charset=UTF-8"
    assert [event["type"] for event in batch] == ["omniline.message.received.v1"]
    cursor = answer.headers["Hub-Next-Cursor"]
    assert Cursors(here.hub.key).read(cursor).position == end
    following = answer.links["next"]["url"]
    assert following.query == {"types": "message.*", "cursor": cursor}
    async with here.session.get(
        here.url + str(following.relative()), headers={**key, **accept}
    ) as answer:
        assert await answer.json(content_type=None) == []


async def test_what_was_erased_is_a_tombstone_under_the_same_id(here: World) -> None:
    key = await here.key()
    await here.say("ann", "my secret")
    await here.say("bob", "stays")
    await here.routed()
    before = await here.all(key)
    customer = next(e for e in before if "customer.created" in e["type"])["partitionkey"]
    mine = {e["sequence"]: e["id"] for e in before if e["partitionkey"] == customer}
    await here.command("erase", customer=customer)
    await here.routed()
    after = await here.all(key)
    assert "my secret" not in str(after)
    assert [e["id"] for e in after[: len(before)]] == [e["id"] for e in before]
    for event in after[: len(before)]:
        erased = event["sequence"] in mine
        assert event.get("erased", False) is erased
        assert (event["data"] is None) is erased
    assert after[-1]["type"] == "omniline.customer.erased.v1"
    assert after[-1]["data"] == {"customer": customer}


async def test_an_edited_message_shows_its_words_of_now_and_its_revision(here: World) -> None:
    """Also under the event that told of it first; the events keep their ids and order."""
    key = await here.key()
    await here.say("ann", "frist")
    await here.routed()
    before = await here.all(key, types="message.*")
    edit = Amendment(
        key="e1",
        target=Target(entry=before[0]["data"]["entry"]["id"]),
        kind=AmendmentKind.EDIT,
        data={"parts": [{"type": "text", "text": "first"}]},
    )
    await here.hub.services.take_in("sample", "main", [edit], door="poll")
    await here.routed()
    after = await here.all(key, types="message.*")
    assert [event["type"] for event in after] == [
        "omniline.message.received.v1",
        "omniline.message.edited.v1",
    ]
    assert after[0]["id"] == before[0]["id"]
    for event in after:
        assert event["data"]["entry"]["text"] == "first"
        assert event["data"]["entry"]["revision"] == 1


async def test_a_hole_between_positions_raises_an_alarm_and_is_passed(
    here: World, capsys: pytest.CaptureFixture[str]
) -> None:
    key = await here.key()
    for _ in range(3):
        await here.say("ann")
    end = await here.routed()
    await here.hub.store.table(FeedRow).delete({"_id": end - 1})
    found = positions(await here.all(key))
    assert found == [each for each in range(1, end + 1) if each != end - 1]
    assert "feed_has_a_gap" in capsys.readouterr().out


async def test_a_read_of_rare_events_is_bounded_and_says_how_far_it_came(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is filtered out is looked at in windows: no request looks at the whole feed."""
    monkeypatch.setattr(reading, "WINDOW", 4)
    monkeypatch.setattr(reading, "WINDOWS", 2)
    key = await here.key()
    for _ in range(15):
        await here.say("ann")
    await here.say("ann", type="followed")
    end = await here.routed()
    cursor, calls = "", 0
    while True:
        page = await here.page(key, types="contact.*", cursor=cursor)
        calls += 1
        cursor = page["next_cursor"]
        assert Cursors(here.hub.key).read(cursor).position == min(8 * calls, end)
        if not page["has_more"]:
            break
        assert page["events"] == []
    assert positions(page["events"]) == [end]
    assert calls == -(-end // 8)
