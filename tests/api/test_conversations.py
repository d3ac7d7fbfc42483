"""Working on conversations over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from hub.documents import Conversation
from tests.support.hubs import RunningHub


@pytest.fixture
async def case(api: RunningHub) -> str:
    entry = await api.message("hello")
    return f"/api/v1/conversations/{entry.conversation}"


async def done(api: RunningHub, path: str, body: Any = None) -> Any:
    answered = await api.post(path, body)
    assert answered.status == 200, answered
    assert answered.json["state"] == "done"
    return answered.json["conversation"]


async def test_a_conversation_is_claimed_once(api: RunningHub, case: str) -> None:
    assert (await done(api, f"{case}/claim", {"agent": "li"}))["assignee"] == "li"
    assert (await done(api, f"{case}/claim", {"agent": "li"}))["assignee"] == "li"
    refused = await api.post(f"{case}/claim", {"agent": "wang"})
    assert (refused.status, refused.problem) == (409, "claimed")
    assert (await done(api, f"{case}/claim", {"agent": "wang", "force": True}))[
        "assignee"
    ] == "wang"
    not_theirs = await api.post(f"{case}/release", {"agent": "li"})
    assert (not_theirs.status, not_theirs.problem) == (409, "claimed")
    assert (await done(api, f"{case}/release"))["assignee"] == ""
    assert (await done(api, f"{case}/transfer", {"to": "zhao"}))["assignee"] == "zhao"


async def test_tags_priority_and_rest_are_set(api: RunningHub, case: str) -> None:
    assert (await done(api, f"{case}/tag", {"add": ["vip", "refund"]}))["tags"] == [
        "vip",
        "refund",
    ]
    assert (await done(api, f"{case}/tag", {"remove": ["vip"]}))["tags"] == ["refund"]
    assert (await done(api, f"{case}/priority", {"priority": "urgent"}))["priority"] == "urgent"
    until = "2030-01-02T03:04:05+08:00"
    snoozed = await done(api, f"{case}/snooze", {"until": until})
    assert snoozed["snoozed_until"] == "2030-01-01T19:04:05Z"
    assert (await done(api, f"{case}/snooze", {"until": None}))["snoozed_until"] is None
    for path, body in (
        ("tag", {}),
        ("priority", {"priority": "vital"}),
        ("snooze", {"until": "2030-01-02T03:04:05"}),
        ("snooze", {"until": "0001-01-01T00:00:00+14:00"}),
        ("close", {"why": "done"}),
    ):
        refused = await api.post(f"{case}/{path}", body)
        assert (refused.status, refused.problem) == (422, "bad-request"), path


async def test_a_conversation_is_closed_and_opened_again(api: RunningHub, case: str) -> None:
    assert (await done(api, f"{case}/close"))["state"] == "closed"
    assert (await api.get("/api/v1/conversations"))["conversations"] == []
    closed = await api.get("/api/v1/conversations", params={"state": "closed"})
    assert [each["id"] for each in closed["conversations"]] == [case.rpartition("/")[2]]
    assert (await done(api, f"{case}/reopen"))["state"] == "open"


async def test_entries_get_a_conversation_of_their_own_and_come_back(
    api: RunningHub, case: str
) -> None:
    second = await api.message("something else")
    fresh = await done(api, f"{case}/split", {"entries": [second.id]})
    assert fresh["id"] != case.rpartition("/")[2]
    moved = await api.get(f"/api/v1/entries/{second.id}")
    assert moved["entry"]["conversation"] == fresh["id"]
    into = await done(
        api, f"/api/v1/conversations/{fresh['id']}/join", {"into": case.rpartition("/")[2]}
    )
    assert into["id"] == case.rpartition("/")[2]
    joined = await api.get(f"/api/v1/conversations/{fresh['id']}")
    assert (joined["state"], joined["joined_into"]) == ("closed", into["id"])


async def test_the_list_is_filtered_and_paged_by_last_activity(api: RunningHub) -> None:
    for number in range(5):
        await api.message("hello", sender=f"s{number}")
    mine = (await api.get("/api/v1/conversations"))["conversations"][2]["id"]
    await done(api, f"/api/v1/conversations/{mine}/claim", {"agent": "li"})

    async def ids(**params: Any) -> list[str]:
        found = []
        while True:
            page = await api.get("/api/v1/conversations", params={"limit": 2, **params})
            found += [each["id"] for each in page["conversations"]]
            if page["next_cursor"] is None:
                return found
            params["cursor"] = page["next_cursor"]

    held = await api.hub.store.table(Conversation).find({})
    newest = sorted(held, key=lambda each: (each.active_at, each.id), reverse=True)
    assert await ids() == [each.id for each in newest]
    assert await ids(assignee="li") == [mine]
    assert set(await ids(assignee="none")) == {each.id for each in held} - {mine}
    assert len(await ids(channel="sample")) == 5
    assert await ids(channel="mail") == []
    assert await ids(state="closed") == []
