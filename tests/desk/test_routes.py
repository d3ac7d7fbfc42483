"""Agents' routes: what they answer, what they refuse, and what the hub hears of it."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from hub.testing.clock import FakeClock
from hub.testing.services import FakeServices
from normalizer.tickets import Change, Priority, Status, TicketRef
from plugins.desk.backend import DeskBackend
from tests.desk.support import ROOT, Http, entry, open_ticket, requester, told

# What is refused before anything is stored needs no second store.
IN_MEMORY = pytest.mark.parametrize("store", ["memory"], indirect=True)


@pytest.fixture
async def ticket(backend: DeskBackend) -> TicketRef:
    return await open_ticket(backend)


@pytest.fixture
def path(ticket: TicketRef) -> str:
    return f"{ROOT}/tickets/{ticket.id}"


def kinds(services: FakeServices) -> list[str]:
    return [event.kind for event in services.events]


# --- reading -----------------------------------------------------------------------------------


async def test_a_ticket_shows_what_it_is_and_its_entries(
    backend: DeskBackend, ticket: TicketRef, path: str, http: Http
) -> None:
    await backend.append(
        ticket, entry("ent_2", "小心", author="agent", internal=True), reopen=False
    )
    body = await told(await http.get(path), 200)
    shown = body["ticket"]
    assert shown == {
        "id": ticket.id,
        "number": "D-1001",
        "backend": "counter",
        "conversation": "cnv_1",
        "subject": "Parcel 1",
        "requester": {"id": "cus_1", "name": "李雷"},
        "queue": "support",
        "status": "new",
        "priority": "normal",
        "assignee": "",
        "tags": [],
        "created_at": "2026-03-02T09:00:00Z",
        "updated_at": "2026-03-02T09:00:00Z",
        "entry_count": 2,
        "erased": False,
        "rev": 2,
    }
    seen = [(one["order"], one["author"], one["text"], one["internal"]) for one in body["entries"]]
    assert seen == [(1, "customer", "Where is it?", False), (2, "agent", "小心", True)]
    assert body["next_before"] is None


async def test_entries_are_paged_backwards_from_the_last(
    backend: DeskBackend, ticket: TicketRef, path: str, http: Http
) -> None:
    for number in range(2, 8):
        await backend.append(ticket, entry(f"ent_{number}", str(number)), reopen=False)
    seen: list[list[int]] = []
    before: int | None = 100
    while before is not None:
        body = await told(await http.get(path, params={"limit": 3, "before": before}), 200)
        seen.append([one["order"] for one in body["entries"]])
        before = body["next_before"]
    assert seen == [[5, 6, 7], [2, 3, 4], [1]]


async def test_the_list_is_newest_first_and_pages_without_gap_or_double(
    backend: DeskBackend, services: FakeServices, http: Http
) -> None:
    """Some tickets share their time of change, as those of one batch do."""
    assert isinstance(services.clock, FakeClock)
    refs = []
    for number in range(7):
        services.clock.advance(number % 2)
        refs.append(await open_ticket(backend, number))
    services.clock.advance(1)
    await backend.append(refs[0], entry("late"), reopen=False)
    seen: list[str] = []
    params: dict[str, Any] = {"limit": 3}
    while True:
        body = await told(await http.get(f"{ROOT}/tickets", params=params), 200)
        seen += [one["id"] for one in body["tickets"]]
        if body["next_cursor"] is None:
            break
        params["cursor"] = body["next_cursor"]
    assert len(seen) == 7
    assert set(seen) == {ref.id for ref in refs}
    assert seen[0] == refs[0].id
    whole = await told(await http.get(f"{ROOT}/tickets"), 200)
    times = [one["updated_at"] for one in whole["tickets"]]
    assert times == sorted(times, reverse=True)
    assert [one["id"] for one in whole["tickets"]] == seen


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({}, {1, 2, 3}),
        ({"status": "solved"}, {2}),
        ({"queue": "billing"}, {3}),
        ({"assignee": "hanmeimei"}, {2}),
        ({"assignee": ""}, {1, 3}),
        ({"q": "d-1003"}, {3}),
        ({"q": "快递"}, {2}),
        ({"q": "(50%"}, {3}),
        ({"q": "."}, set()),
        ({"q": "王芳"}, {3}),
        ({"status": "new", "q": "parcel"}, {1}),
        ({"unknown": "ignored"}, {1, 2, 3}),
    ],
)
async def test_the_list_is_filtered(
    backend: DeskBackend, http: Http, params: dict[str, str], found: set[int]
) -> None:
    refs = {
        1: await open_ticket(backend, 1, subject="PARCEL"),
        2: await open_ticket(backend, 2, subject="我的快递"),
        3: await open_ticket(
            backend, 3, subject="Refund (50%)", queue="billing", requester=requester(name="王芳")
        ),
    }
    await backend.change(refs[2], Change(status=Status.SOLVED, assignee="hanmeimei"))
    body = await told(await http.get(f"{ROOT}/tickets", params=params), 200)
    assert {one["id"] for one in body["tickets"]} == {refs[number].id for number in found}


async def test_a_cursor_is_good_for_its_own_filters_only(backend: DeskBackend, http: Http) -> None:
    for number in range(3):
        await open_ticket(backend, number)
    url = f"{ROOT}/tickets"
    first = await told(await http.get(url, params={"limit": 1}), 200)
    cursor = first["next_cursor"]
    await told(await http.get(url, params={"limit": 2, "cursor": cursor}), 200)
    for params in ({"cursor": cursor, "q": "x"}, {"cursor": cursor[:-4] + "AAAA"}, {"cursor": "é"}):
        body = await told(await http.get(url, params=params), 400)
        assert body["type"].endswith("/cursor-invalid")


@IN_MEMORY
@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=",
        "limit=１",
        "status=done",
        "q=%00",
        "assignee=" + "a" * 101,
        "cursor=",
    ],
)
async def test_a_query_that_cannot_be_is_refused(http: Http, query: str) -> None:
    await told(await http.get(f"{ROOT}/tickets?{query}"), 400)


@pytest.mark.parametrize(
    "ident", ["1", "tkt_", "tkt_" + "0" * 26, "tkt_" + "z" * 26, "%00", "x" * 999]
)
async def test_a_ticket_that_is_not_there_is_not_found(http: Http, ident: str) -> None:
    await told(await http.get(f"{ROOT}/tickets/{ident}"), 404)
    await told(await http.patch(f"{ROOT}/tickets/{ident}", json={}), 404)
    for what in ("answers", "notes"):
        await told(await http.post(f"{ROOT}/tickets/{ident}/{what}", json={"text": "x"}), 404)


# --- writing -----------------------------------------------------------------------------------


async def test_an_answer_is_kept_told_to_the_hub_and_opens_a_new_ticket(
    services: FakeServices, ticket: TicketRef, path: str, http: Http
) -> None:
    answer = {"text": "On its way 🚚", "agent": "hmm", "agent_name": "韩梅梅"}
    body = await told(await http.post(f"{path}/answers", json=answer), 201)
    assert body["ticket"]["status"] == "open"
    assert body["entry"]["text"] == "On its way 🚚"
    assert (body["entry"]["agent"], body["entry"]["author_name"]) == ("hmm", "韩梅梅")
    [said, status] = services.events
    assert services.said[0].backend == "counter"
    assert said.kind == "entry"
    assert said.ticket_id == ticket.id
    assert said.entry is not None
    assert (said.entry.text, said.entry.author, said.entry.internal) == (
        "On its way 🚚",
        "agent",
        False,
    )
    assert said.data["agent"] == "hmm"
    assert (status.kind, status.data["value"]) == ("status", "open")
    assert not said.by_us


async def test_an_answer_may_set_the_status_and_else_leaves_it(
    backend: DeskBackend, services: FakeServices, ticket: TicketRef, path: str, http: Http
) -> None:
    answer = {"text": "Is it there?", "status": "waiting_customer"}
    body = await told(await http.post(f"{path}/answers", json=answer), 201)
    assert body["ticket"]["status"] == "waiting_customer"
    body = await told(await http.post(f"{path}/answers", json={"text": "And?"}), 201)
    assert body["ticket"]["status"] == "waiting_customer"
    assert kinds(services) == ["entry", "status", "entry"]


async def test_a_note_is_internal_and_changes_no_status(
    services: FakeServices, path: str, http: Http
) -> None:
    body = await told(await http.post(f"{path}/notes", json={"text": "a regular"}), 201)
    assert body["entry"]["internal"]
    assert body["entry"]["agent"] == "console"
    assert body["ticket"]["status"] == "new"
    [event] = services.events
    assert event.entry is not None
    assert event.entry.internal


async def test_a_change_does_what_it_says_and_tells_each_thing_that_changed(
    services: FakeServices, ticket: TicketRef, path: str, http: Http
) -> None:
    first = {"add_tags": ["vip", "late"], "priority": "high"}
    await told(await http.patch(path, json=first), 200)
    change = {
        "status": "solved",
        "priority": "high",
        "assignee": "hmm",
        "queue": "billing",
        "add_tags": ["refund", "vip"],
        "remove_tags": ["late"],
        "rev": 2,
    }
    body = await told(await http.patch(path, json=change), 200)
    shown = body["ticket"]
    assert [shown[name] for name in ("status", "priority", "assignee", "queue", "tags", "rev")] == [
        "solved",
        "high",
        "hmm",
        "billing",
        ["vip", "refund"],
        3,
    ]
    told_now = {event.kind: event.data for event in services.said[1].events}
    assert told_now == {
        "assignee": {"value": "hmm", "by": "console"},
        "tags": {"tags": ["vip", "refund"], "by": "console"},
        "changed": {"queue": "billing", "by": "console"},
        "status": {"value": "solved", "raw": "solved", "by": "console"},
    }
    again = await told(await http.patch(path, json={**change, "rev": 3}), 200)
    assert again["ticket"]["rev"] == 3
    assert len(services.said) == 2


async def test_a_change_of_something_older_is_a_conflict(
    backend: DeskBackend, services: FakeServices, ticket: TicketRef, path: str, http: Http
) -> None:
    """A customer who wrote in between is somebody who spoke: nothing is closed over their head."""
    rev = (await told(await http.get(path), 200))["ticket"]["rev"]
    await backend.append(ticket, entry("ent_2", "wait!"), reopen=True)
    body = await told(await http.patch(path, json={"status": "closed", "rev": rev}), 409)
    assert body["type"].endswith("/conflict")
    assert body["rev"] == rev + 1
    answer = {"text": "Closed.", "rev": rev}
    await told(await http.post(f"{path}/answers", json=answer), 409)
    assert (await backend.read(ticket))["status"] == "new"
    assert services.events == []
    await told(await http.post(f"{path}/answers", json={**answer, "rev": rev + 1}), 201)


async def test_changes_at_the_same_time_are_all_kept(path: str, http: Http) -> None:
    changes = [{"add_tags": [f"tag{number}"]} for number in range(10)]
    await asyncio.gather(*(http.patch(path, json=change) for change in changes))
    shown = (await told(await http.get(path), 200))["ticket"]
    assert set(shown["tags"]) == {f"tag{number}" for number in range(10)}
    assert shown["rev"] == 11


async def test_a_queue_that_is_not_there_is_refused_with_those_that_are(
    backend: DeskBackend, ticket: TicketRef, path: str, http: Http
) -> None:
    body = await told(await http.patch(path, json={"queue": "biling", "status": "solved"}), 422)
    assert "support, billing" in body["detail"]
    assert (await backend.read(ticket))["status"] == "new"


async def test_a_ticket_takes_a_hundred_tags_and_no_more(path: str, http: Http) -> None:
    for start in range(0, 100, 20):
        tags = [f"t{number}" for number in range(start, start + 20)]
        await told(await http.patch(path, json={"add_tags": tags}), 200)
    await told(await http.patch(path, json={"add_tags": ["one more"]}), 422)
    await told(await http.patch(path, json={"add_tags": ["one more"], "remove_tags": ["t0"]}), 200)


# --- telling the hub ---------------------------------------------------------------------------


async def test_what_the_hub_could_not_hear_is_told_by_the_poll(
    backend: DeskBackend, services: FakeServices, path: str, http: Http
) -> None:
    """The agent's work is kept and acknowledged even while the hub can take nothing in."""
    cursor = (await backend.poll(None)).cursor
    services.overloaded = True
    await told(await http.post(f"{path}/answers", json={"text": "On its way"}), 201)
    await told(await http.patch(path, json={"status": "solved"}), 200)
    assert services.events == []
    events = (await backend.poll(cursor)).events
    assert [event.kind for event in events] == ["entry", "status", "status"]


async def test_an_event_has_the_same_id_at_once_and_by_poll(
    backend: DeskBackend, services: FakeServices, path: str, http: Http
) -> None:
    cursor = (await backend.poll(None)).cursor
    await told(await http.post(f"{path}/answers", json={"text": "On its way"}), 201)
    await told(await http.post(f"{path}/notes", json={"text": "or not"}), 201)
    change = {"status": "solved", "priority": "urgent", "assignee": "hmm", "add_tags": ["x"]}
    await told(await http.patch(path, json=change), 200)
    polled = (await backend.poll(cursor)).events
    assert list(polled) == services.events
    assert len({event.dedupe_id for event in polled}) == len(polled) == 7


async def test_a_change_of_the_hubs_own_is_marked_in_the_log(
    backend: DeskBackend, services: FakeServices, ticket: TicketRef
) -> None:
    cursor = (await backend.poll(None)).cursor
    await backend.change(ticket, Change(priority=Priority.LOW))
    [event] = (await backend.poll(cursor)).events
    assert (event.kind, event.by_us) == ("priority", True)
    assert services.events == []


# --- idempotency -------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["answers", "notes"])
async def test_the_same_request_under_the_same_key_is_one_entry(
    services: FakeServices, path: str, http: Http, what: str
) -> None:
    async def post() -> dict[str, Any]:
        headers = {"Idempotency-Key": "k1"}
        return await told(
            await http.post(f"{path}/{what}", json={"text": "once"}, headers=headers), 201
        )

    bodies = await asyncio.gather(*(post() for _ in range(5)))
    assert len({body["entry"]["id"] for body in bodies}) == 1
    assert (await told(await http.get(path), 200))["ticket"]["entry_count"] == 2
    assert len([event for event in services.events if event.kind == "entry"]) == 1


async def test_another_request_under_the_same_key_is_a_conflict(path: str, http: Http) -> None:
    headers = {"Idempotency-Key": "k1"}
    url = f"{path}/answers"
    await told(await http.post(url, json={"text": "one"}, headers=headers), 201)
    for other in (
        {"text": "two"},
        {"text": "one", "status": "solved"},
        {"text": "one", "agent": "x"},
    ):
        body = await told(await http.post(url, json=other, headers=headers), 409)
        assert body["type"].endswith("/idempotency-conflict")
    body = await told(await http.post(f"{path}/notes", json={"text": "one"}, headers=headers), 409)
    assert body["type"].endswith("/idempotency-conflict")


async def test_a_retry_is_answered_like_the_first_even_when_the_ticket_moved_on(
    backend: DeskBackend, ticket: TicketRef, path: str, http: Http
) -> None:
    headers = {"Idempotency-Key": "k1"}
    answer = {"text": "one", "rev": 1}
    first = await told(await http.post(f"{path}/answers", json=answer, headers=headers), 201)
    await backend.append(ticket, entry("ent_2"), reopen=True)
    again = await told(await http.post(f"{path}/answers", json=answer, headers=headers), 201)
    assert again["entry"] == first["entry"]


async def test_two_callers_may_choose_the_same_key(
    services: FakeServices, path: str, http: Http
) -> None:
    headers = {"Idempotency-Key": "k1"}
    await told(await http.post(f"{path}/notes", json={"text": "one"}, headers=headers), 201)
    app = services.web_app("desk:write", name="another")
    async with TestClient(TestServer(app)) as other:
        await told(await other.post(f"{path}/notes", json={"text": "two"}, headers=headers), 201)


@IN_MEMORY
@pytest.mark.parametrize("key", ["", "a b", "k" * 201, "é"])
async def test_a_key_of_another_form_is_refused(path: str, http: Http, key: str) -> None:
    headers = {"Idempotency-Key": key}
    await told(await http.post(f"{path}/notes", json={"text": "x"}, headers=headers), 400)


# --- bodies ------------------------------------------------------------------------------------


@IN_MEMORY
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"text": "\xff"}', 400),
        (b'{"text": NaN}', 400),
        (b"[" * 100_000, 400),
        (b"[]", 422),
        (b"null", 422),
        (b"{}", 422),
        (b'{"text": null}', 422),
        (b'{"text": 1}', 422),
        (b'{"text": ""}', 422),
        (b'{"text": " \\n\\u3000"}', 422),
        (b'{"text": "a\\u0000b"}', 422),
        (b'{"text": "\\ud800"}', 422),
        (b'{"text": "\\udc00\\ud800"}', 422),
        (b'{"text": "x", "agent": "\\udfff"}', 422),
        (b'{"text": "x", "agent": "a\\nb"}', 422),
        (b'{"text": "x", "more": 1}', 422),
        (b'{"text": "' + b"x" * 32_001 + b'"}', 422),
        (b'{"text": "' + b"x" * 2_000_000 + b'"}', 413),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_body_that_cannot_be_is_refused_and_nothing_is_kept(
    path: str, http: Http, body: bytes, status: int
) -> None:
    headers = {"Content-Type": "application/json"}
    for what in ("answers", "notes"):
        sent = await http.post(f"{path}/{what}", data=io.BytesIO(body), headers=headers)
        await told(sent, status)
    assert (await told(await http.get(path), 200))["ticket"]["rev"] == 1


@IN_MEMORY
@pytest.mark.parametrize(
    "change",
    [
        {"status": "done"},
        {"status": None},
        {"priority": 1},
        {"assignee": None},
        {"queue": ""},
        {"add_tags": [""]},
        {"add_tags": ["x"] * 21},
        {"add_tags": "x"},
        {"rev": 0},
        {"rev": 1.5},
        {"rev": "1"},
        {"rev": True},
        {"subject": "other"},
    ],
)
async def test_a_change_that_cannot_be_is_refused(
    path: str, http: Http, change: dict[str, Any]
) -> None:
    await told(await http.patch(path, json=change), 422)


async def test_a_whole_number_may_be_written_with_a_point(path: str, http: Http) -> None:
    await told(await http.patch(path, json={"status": "open", "rev": 1.0}), 200)


async def test_a_body_that_is_not_declared_as_json_is_refused(path: str, http: Http) -> None:
    headers = {"Content-Type": "text/plain"}
    await told(await http.post(f"{path}/notes", data=b'{"text": "x"}', headers=headers), 415)


async def test_an_emoji_written_as_two_escapes_is_one_character(path: str, http: Http) -> None:
    headers = {"Content-Type": "application/json"}
    body = await told(
        await http.post(f"{path}/notes", data=b'{"text": "\\ud83d\\ude9a"}', headers=headers), 201
    )
    assert body["entry"]["text"] == "🚚"


# --- rights ------------------------------------------------------------------------------------


async def test_reading_and_writing_need_their_own_scopes(
    services: FakeServices, path: str, ticket: TicketRef
) -> None:
    reading = ((path, "GET"), (f"{ROOT}/tickets", "GET"))
    writing = ((path, "PATCH"), (f"{path}/answers", "POST"), (f"{path}/notes", "POST"))
    for scope, allowed, refused in (
        ("desk:read", reading, writing),
        ("desk:write", writing, reading),
    ):
        async with TestClient(TestServer(services.web_app(scope))) as client:
            for url, method in allowed:
                response = await client.request(method, url, json={"text": "x"})
                assert response.status != 403
            for url, method in refused:
                response = await client.request(method, url, json={"text": "x"})
                assert response.status == 403


async def test_a_key_for_some_accounts_sees_no_ticket(
    services: FakeServices, path: str, http: Http
) -> None:
    """A ticket holds what its customer wrote by every account."""
    app = services.web_app("desk:read", "desk:write", accounts=["wechat:shop"])
    async with TestClient(TestServer(app)) as client:
        for url, method in ((path, "GET"), (f"{ROOT}/tickets", "GET"), (f"{path}/notes", "POST")):
            body = await told(await client.request(method, url, json={"text": "x"}), 403)
            assert body["type"].endswith("/forbidden")
    assert (await told(await http.get(path), 200))["ticket"]["rev"] == 1


async def test_a_caller_without_a_key_is_the_system(
    services: FakeServices, ticket: TicketRef
) -> None:
    """As when the hub itself calls a route."""
    app = web.Application()
    for _, route in services.routes:
        app.router.add_route(route.method, route.path, route.handler)
    async with TestClient(TestServer(app)) as client:
        sent = await client.post(f"/tickets/{ticket.id}/notes", json={"text": "x"})
        assert (await told(sent, 201))["entry"]["agent"] == "system"
