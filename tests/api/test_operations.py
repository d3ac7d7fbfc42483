"""Running the hub over HTTP: accounts, switches, operations, dead letters, stories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hub.config.loader import load_text
from hub.contract import Verified
from hub.documents import DeadLetter, InboxItem, Job
from hub.ids import event_id
from hub.replay import redrive, replay_unrouted
from hub.store.interface import StoreError
from hub.story import tell_story
from normalizer.drafts import Message
from normalizer.outcomes import Accepted, Rejected
from normalizer.parts import Text
from tests.support.hubs import RunningHub, config_text

HI = {"parts": [{"type": "text", "text": "hi"}]}
BROKEN = b"no JSON at all"


async def letters(api: RunningHub, count: int = 1) -> Sequence[Any]:
    async def look() -> Any:
        page = await api.get("/api/v1/dead-letters")
        return page["dead_letters"] if len(page["dead_letters"]) >= count else None

    found: Sequence[Any] = await api.until("a dead letter", look)
    return found


def mend(api: RunningHub) -> None:
    """Ship a connector that can read what it could not."""

    def parse(verified: Verified) -> Sequence[Message]:
        address = api.address("ann")
        text = verified.payload.decode()
        return (Message(key="mended", address=address, parts=(Text(text=text),)),)

    api.connector.parse = parse  # type: ignore[method-assign, assignment]


# --- accounts ------------------------------------------------------------------------------------


async def test_accounts_tell_their_state_and_what_waits(api: RunningHub) -> None:
    await api.message("hello")
    found = await api.get("/api/v1/accounts")
    assert [(each["name"], each["state"]) for each in found["accounts"]] == [
        ("sample:main", "ok"),
        ("sample:second", "ok"),
    ]
    assert found["accounts"][0]["switches"] == {
        "name": "sample:main",
        "inbound": "on",
        "outbound": "on",
    }
    assert found["backlog"]["spooling"] is False


async def test_a_switch_works_at_once(api: RunningHub) -> None:
    body = {"name": "sample:main", "inbound": "off"}
    switched = await api.call("PUT", "/api/v1/switches", body)
    assert switched.status == 200, switched
    board = {each["name"]: each for each in (await api.get("/api/v1/switches"))["switches"]}
    assert board["sample:main"]["inbound"] == "off"
    assert board["sample:second"]["inbound"] == "on"
    await api.push(b"{}", expect=404)
    unknown = await api.call("PUT", "/api/v1/switches", {"name": "mail:x", "inbound": "off"})
    assert (unknown.status, unknown.problem) == (404, "not-found")
    for broken in ({"name": "all"}, {"name": "all", "outbound": "store-only"}):
        assert (await api.call("PUT", "/api/v1/switches", broken)).status == 422


async def test_an_operation_tells_why_it_was_refused(api: RunningHub) -> None:
    entry = await api.message("hello")
    path = f"/api/v1/conversations/{entry.conversation}"
    await api.post(f"{path}/claim", {"agent": "li"})
    refused = await api.post(f"{path}/claim", {"agent": "wang"}, once="c1")
    assert refused.problem == "claimed"
    unknown = await api.call("GET", "/api/v1/operations/op_" + "0" * 26)
    assert (unknown.status, unknown.problem) == (404, "not-found")


# --- dead letters of the inbox -------------------------------------------------------------------


async def test_what_could_not_be_read_is_shown_and_read_again_after_the_fix(
    api: RunningHub,
) -> None:
    await api.push(BROKEN)
    (letter,) = await letters(api)
    assert (letter["kind"], letter["stage"], letter["account"]) == ("inbox", "parse", "main")
    measured = api.hub.metrics.registry.get_sample_value
    assert measured("omniline_dead_letters_total") == 1
    assert measured("omniline_router_leading") == 1
    assert measured("omniline_spool_records") == 0
    detail = await api.get(f"/api/v1/dead-letters/{letter['id']}")
    assert detail["request"]["body"] == BROKEN.decode()
    assert "x-sample-signature" not in detail["request"]["headers"]
    path = f"/api/v1/dead-letters/{letter['id']}/redrive"
    still = await api.post(path)
    assert (still.status, still.problem) == (409, "conflict")
    assert "still cannot read it" in still.json["detail"]
    mend(api)
    again = await api.post(path)
    assert (again.status, again.json["state"]) == (202, "redriven"), again
    entry = await api.entry(api.entry_id("mended", "ann"))
    assert entry.source == letter["ref"]
    assert entry.parts == (Text(text=BROKEN.decode()),)
    assert (await api.get("/api/v1/dead-letters"))["dead_letters"] == []
    done = await api.get("/api/v1/dead-letters", params={"state": "redriven"})
    assert [each["id"] for each in done["dead_letters"]] == [letter["id"]]
    twice = await api.post(path)
    assert (twice.status, twice.problem) == (409, "conflict")


async def test_an_item_that_is_redriven_twice_is_one_entry(api: RunningHub) -> None:
    """A crash between putting the item back and noting it does no harm."""
    await api.push(BROKEN)
    (letter,) = await letters(api)
    mend(api)
    table = api.hub.store.table(DeadLetter)
    held = await table.get(letter["id"])
    assert held is not None
    await api.post(f"/api/v1/dead-letters/{letter['id']}/redrive")
    await api.entry(api.entry_id("mended", "ann"))
    await table.put([held])
    assert (await api.post(f"/api/v1/dead-letters/{letter['id']}/redrive")).status == 202

    async def routed() -> Any:
        item = await api.hub.store.table(InboxItem).get(letter["ref"])
        return item is not None and not item.open

    await api.until("the item to be routed again", routed)
    page = await api.get(f"/api/v1/customers/{await api.customer('ann')}/timeline")
    assert len(page["entries"]) == 1


async def test_a_person_who_was_erased_does_not_come_back(api: RunningHub) -> None:
    await api.message("hello")
    await api.push(BROKEN)
    (letter,) = await letters(api)
    mend(api)
    await api.call("DELETE", f"/api/v1/customers/{await api.customer('ann')}")
    refused = await api.post(f"/api/v1/dead-letters/{letter['id']}/redrive")
    assert (refused.status, refused.problem) == (410, "erased")


async def test_the_command_line_redrives_and_wakes_up(
    api: RunningHub, mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    config = load_text(config_text(mongo_url, mongo_db_name, tmp_path))
    store = api.hub.store
    await api.push(BROKEN)
    (letter,) = await letters(api)
    assert await redrive(config, store, [letter["id"]], dry_run=True) == 1
    with pytest.raises(StoreError, match="still cannot read it"):
        await redrive(config, store, [], every=True)
    entry = await api.message("hello")
    assert await redrive(config, store, [entry.source]) == 1
    assert await replay_unrouted(store) == 0
    lost = InboxItem(
        id=entry.source.replace("in_0", "in_1"),
        channel="sample",
        account="main",
        received_at=entry.received_at,
        door="webhook",
    )
    await store.table(InboxItem).insert([lost])
    assert await replay_unrouted(store, dry_run=True) == 1
    assert await replay_unrouted(store) == 1

    async def routed() -> Any:
        item = await store.table(InboxItem).get(lost.id)
        return item is not None and item.routed_at is not None

    await api.until("the item to be routed", routed)


# --- dead letters of jobs ------------------------------------------------------------------------


async def test_an_answer_that_was_given_up_is_sent_after_all(api: RunningHub) -> None:
    await api.message("hello")
    customer = f"/api/v1/customers/{await api.customer('ann')}"
    sent: list[Any] = []

    async def refuse(message: Any) -> Accepted:
        raise Rejected("the vendor says no")

    async def accept(message: Any) -> Accepted:
        sent.append(message)
        return Accepted()

    api.connector.send = refuse  # type: ignore[method-assign]
    ident = (await api.post(f"{customer}/replies", HI)).json["entry_id"]
    (letter,) = await letters(api)
    assert (letter["kind"], letter["reason"]) == ("job", "the vendor says no")

    async def state() -> str:
        found = await api.get(f"/api/v1/entries/{ident}")
        return str(found["entry"]["delivery"]["state"])

    async def failed() -> bool:
        return await state() == "failed"

    async def over() -> bool:
        job = await api.hub.store.table(Job).get(letter["ref"])
        return job is not None and not job.live

    await api.until("the failure to be told", failed)
    await api.until("the job to end", over)
    api.connector.send = accept  # type: ignore[method-assign]
    redriven = await api.post(f"/api/v1/dead-letters/{letter['id']}/redrive")
    assert redriven.status == 202, redriven

    async def accepted() -> bool:
        return await state() == "accepted"

    await api.until("the answer to be accepted", accepted)
    assert [message.entry for message in sent] == [ident]


# --- stories -------------------------------------------------------------------------------------


async def test_every_id_of_a_message_leads_to_its_story(api: RunningHub) -> None:
    entry = await api.message("hello")
    stories = []
    for ident in (entry.source, entry.id, event_id(api.hub.tail.generation, entry.position)):
        stories.append((await api.get(f"/api/v1/trace/{ident}"))["story"])
    assert [[line["what"] for line in story] for story in stories] == [
        [line["what"] for line in stories[0]]
    ] * 3
    told = {line["what"]: line for line in stories[0]}
    assert {"received", "verified", "parsed", "routed", "entry", "feed: message.received"} <= set(
        told
    )
    assert told["entry"]["id"] == entry.id
    assert told["received"]["id"] == entry.source
    assert told["feed: message.received"]["id"] == event_id(api.hub.tail.generation, entry.position)
    assert "hello" not in str(stories)


async def test_the_story_of_an_answer_tells_command_send_and_receipt(api: RunningHub) -> None:
    await api.message("hello")
    customer = f"/api/v1/customers/{await api.customer('ann')}"
    replied = (await api.post(f"{customer}/replies", HI)).json
    job = api.hub.key.hashed("job", f"{replied['entry_id']}|send")

    async def told() -> Any:
        found = await api.call("GET", f"/api/v1/trace/{job}")
        lines = {line["what"]: line for line in found.json["story"]}
        return lines if "amended: state" in lines and "done" in lines["send"]["details"] else None

    lines = await api.until("the whole story", told)
    assert lines["command reply"]["details"] == "done"
    assert lines["command reply"]["id"] == replied["operation"]
    assert lines["send"]["id"] == job
    assert lines["amended: state"]["details"] == "accepted"


async def test_the_story_of_a_failure_ends_in_its_dead_letter(api: RunningHub) -> None:
    await api.push(BROKEN)
    (letter,) = await letters(api)
    found = await api.get(f"/api/v1/trace/{letter['ref']}")
    lines = {line["what"]: line for line in found["story"]}
    assert "DecodeError" in lines["not parsed"]["details"]
    assert lines["dead letter"]["id"] == letter["id"]


async def test_nothing_is_told_of_what_is_not_known(api: RunningHub) -> None:
    for prefix in ("in", "ent", "job", "evt"):
        ident = f"{prefix}_" + "7" + "z" * 25
        assert await tell_story(api.hub.store, api.hub.key, ident) == []
        assert (await api.call("GET", f"/api/v1/trace/{ident}")).status == 404
