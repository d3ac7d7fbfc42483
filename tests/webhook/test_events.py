"""What the receiver tells becomes the hub's events, once each, whatever else is in the request."""

from __future__ import annotations

import json
from collections.abc import MutableSequence, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.typing import EventDict

from hub import Refused, Secret
from normalizer.tickets import BackendEvent
from plugins.webhook import WebhookBackend
from plugins.webhook.signing import Signer
from tests.webhook.strict import OTHER_SECRET, SECRET
from tests.webhook.support import made

NOW = datetime(2026, 3, 2, 9, 10, tzinfo=UTC)
AT = "2026-03-02T17:05:00.123456+08:00"


@pytest.fixture
def backend() -> WebhookBackend:
    return made("https://erp.example/")


def told(backend: WebhookBackend, body: Any, ident: str = "msg_1") -> Sequence[BackendEvent]:
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    headers = Signer([Secret(SECRET)]).headers(ident, NOW, raw)
    return backend.parse_webhook(headers, raw, NOW)


def event(kind: str = "entry.created", ident: str = "evt-1", **data: Any) -> dict[str, Any]:
    if kind == "entry.created":
        data = {"entry": "7", "text": "It leaves today.", **data}
    return {"id": ident, "type": kind, "at": AT, "ticket": "1001", "data": data}


def test_an_agents_answer_is_told_with_who_wrote_it_in_utc(backend: WebhookBackend) -> None:
    (answer,) = told(backend, event(agent={"id": "hmm", "name": "韩梅梅"}))
    assert (answer.kind, answer.ticket_id) == ("entry", "1001")
    assert answer.dedupe_id == "entry:1001:7"
    assert answer.at == datetime(2026, 3, 2, 9, 5, 0, 123000, tzinfo=UTC)
    assert answer.entry is not None
    assert (answer.entry.text, answer.entry.author) == ("It leaves today.", "agent")
    assert (answer.entry.author_name, answer.data["agent"]) == ("韩梅梅", "hmm")
    assert (answer.entry.internal, answer.by_us, answer.already_sent) == (False, False, False)


def test_notes_and_what_the_receiver_sent_itself_are_told_as_such(backend: WebhookBackend) -> None:
    (note,) = told(backend, event(internal=True))
    assert note.entry is not None
    assert note.entry.internal
    (sent,) = told(backend, event(already_sent=True))
    assert sent.already_sent


@pytest.mark.parametrize("ours", [{"key": "ent_1"}, {"by_hub": True}])
def test_what_the_hub_wrote_is_told_as_ours(backend: WebhookBackend, ours: dict[str, Any]) -> None:
    said = event(**({} if "by_hub" in ours else ours))
    (echo,) = told(backend, {**said, **({"by_hub": True} if "by_hub" in ours else {})})
    assert echo.by_us


def test_files_are_given_as_links_and_only_those_of_the_web(backend: WebhookBackend) -> None:
    files = [
        {"url": "https://erp.example/f/1", "filename": "label.pdf"},
        {"url": "https://erp.example/f/2"},
        {"url": "javascript:alert(1)", "filename": "x"},
        {"url": "file:///etc/passwd"},
    ]
    (answer,) = told(backend, event(attachments=files))
    assert answer.entry is not None
    assert answer.entry.text == (
        "It leaves today.\nlabel.pdf: https://erp.example/f/1\nfile: https://erp.example/f/2"
    )
    (bare,) = told(backend, event(text="", attachments=files[:1]))
    assert bare.entry is not None
    assert bare.entry.text == "label.pdf: https://erp.example/f/1"


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        (
            "ticket.status_changed",
            {"status": "solved", "raw_status": "Done"},
            ("status", {"value": "solved", "raw": "Done"}),
        ),
        (
            "ticket.status_changed",
            {"status": "on_hold"},
            ("status", {"value": "on_hold", "raw": "on_hold"}),
        ),
        ("ticket.priority_changed", {"priority": "high"}, ("priority", {"value": "high"})),
        ("ticket.assignee_changed", {"assignee": ""}, ("assignee", {"value": ""})),
        ("ticket.tags_changed", {"tags": ["a"]}, ("tags", {"value": "", "tags": ["a"]})),
        ("ticket.merged", {"into": "1002"}, ("merged", {"value": "1002"})),
        ("ticket.deleted", {}, ("deleted", {"value": ""})),
    ],
)
def test_changes_of_a_ticket_are_told(
    backend: WebhookBackend, kind: str, data: dict[str, Any], expected: tuple[str, Any]
) -> None:
    (changed,) = told(backend, event(kind, **data))
    assert (changed.kind, changed.data) == expected
    assert changed.dedupe_id == "event:evt-1"


def test_an_entry_is_the_same_in_whichever_request_it_comes(backend: WebhookBackend) -> None:
    first = told(backend, event(ident="evt-1"), "msg_1")
    second = told(backend, {"events": [event(ident="evt-2")]}, "msg_2")
    assert first[0].dedupe_id == second[0].dedupe_id


def test_what_has_no_id_is_named_by_its_request_and_place(backend: WebhookBackend) -> None:
    said = event("ticket.deleted")
    del said["id"]
    events = told(backend, {"events": [said, said]}, "msg_1")
    again = told(backend, {"events": [said, said]}, "msg_1")
    other = told(backend, {"events": [said]}, "msg_2")
    assert [each.dedupe_id for each in events] == ["event:msg_1:0", "event:msg_1:1"]
    assert events == again
    assert other[0].dedupe_id == "event:msg_2:0"


def test_an_unknown_type_is_passed_over_and_logged(
    backend: WebhookBackend, logs: MutableSequence[EventDict]
) -> None:
    events = told(backend, {"events": [event("ticket.teleported"), event()]})
    assert [each.kind for each in events] == ["entry"]
    assert [line["event"] for line in logs] == ["webhook_event_of_unknown_type"]


@pytest.mark.parametrize(
    "broken",
    [
        {"type": "entry.created"},
        event() | {"data": {"entry": "7"}},
        event() | {"at": "yesterday"},
        event() | {"at": "2026-03-02T09:00:00"},
        event() | {"ticket": ""},
        event() | {"ticket": 7},
        event(text="x" * 100_001),
        event(attachments=[{"url": "https://a.example/"}] * 21),
        event("ticket.status_changed", status="exploded"),
        event("ticket.tags_changed", tags=["x"] * 101),
        {"type": 7},
        [],
        None,
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_an_event_that_cannot_be_read_is_told_as_that_beside_the_others(
    backend: WebhookBackend, broken: Any, logs: MutableSequence[EventDict]
) -> None:
    first, second = told(backend, {"events": [broken, event()]})
    assert (first.kind, first.ticket_id) == ("unreadable", "")
    assert 0 < len(first.data["reason"]) <= 200
    assert second.kind == "entry"
    assert [line["event"] for line in logs] == ["webhook_event_unreadable"]
    assert "It leaves today" not in str(logs), "no personal data in a log"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"7", b"\xff", b"{", b'{"events": {}}', b'{"a":' * 5000]
)
def test_what_is_no_object_of_json_is_refused(backend: WebhookBackend, body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        told(backend, body)
    assert refused.value.status == 400


def test_more_events_than_can_be_taken_are_refused(backend: WebhookBackend) -> None:
    with pytest.raises(Refused) as refused:
        told(backend, {"events": [event()] * 101})
    assert refused.value.status == 413


def test_callbacks_may_have_secrets_of_their_own() -> None:
    backend = made("https://erp.example/", callback_secrets=(Secret(OTHER_SECRET),))
    raw = json.dumps(event()).encode()
    for secret, believed in ((OTHER_SECRET, True), (SECRET, False)):
        headers = Signer([Secret(secret)]).headers("msg_1", NOW, raw)
        if believed:
            assert backend.parse_webhook(headers, raw, NOW)
        else:
            with pytest.raises(Refused):
                backend.parse_webhook(headers, raw, NOW)


def test_nothing_is_looked_at_before_the_signature(backend: WebhookBackend) -> None:
    headers = Signer([Secret(OTHER_SECRET)]).headers("msg_1", NOW, b"{")
    with pytest.raises(Refused) as refused:
        backend.parse_webhook(headers, b"{", NOW)
    assert refused.value.status == 401
