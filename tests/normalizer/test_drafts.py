"""Drafts: a closed set that is written to the inbox and read back, also by another release."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.capabilities import Capabilities
from normalizer.drafts import (
    Actor,
    AnyDraft,
    Command,
    DeliveryState,
    Draft,
    Event,
    Message,
    Outcome,
    Scope,
)
from normalizer.model import Direction, milliseconds
from normalizer.parts import Text
from normalizer.tickets import (
    Attachment,
    BackendCapabilities,
    BackendEvent,
    Lookup,
    NewTicket,
    Page,
    Priority,
    Requester,
    TicketEntry,
)
from tests.normalizer.samples import FAN, NOON, SAMPLES

DRAFTS: dict[str, AnyDraft] = {name: draft for name, (_, _, draft) in SAMPLES.items()} | {
    "command": Command(
        key="k", name="reply", actor=Actor(kind="agent", id="7"), args={"parts": [{"a": [1]}]}
    ),
    "outcome": Outcome(key="k", job="job_1", kind="send", result={"state": "accepted"}),
}


@pytest.mark.parametrize("name", DRAFTS)
def test_a_draft_reads_back_from_the_inbox_by_its_tag(name: str) -> None:
    draft = DRAFTS[name]
    written = msgspec.json.encode([draft])
    assert msgspec.json.decode(written)[0]["draft"] == draft.__struct_config__.tag
    assert msgspec.json.decode(written, type=tuple[AnyDraft, ...]) == (draft,)


def test_the_samples_show_every_draft_there_is() -> None:
    assert {type(draft) for draft in DRAFTS.values()} == set(Draft.__subclasses__())


@pytest.mark.parametrize(
    "written",
    [
        b'{"draft":"telepathy","key":"1"}',
        b'{"key":"1"}',
        b'{"draft":"event","key":"1"}',
        b'{"draft":"event","key":"1","name":"x","address":{"scheme":"a","kind":"b"}}',
        b'{"draft":"outcome","key":1,"job":"j","kind":"send"}',
        b'{"draft":"outcome","key":"1","job":"j","kind":"send","at":"yesterday"}',
        b'{"draft":"outcome","key":"1","job":"j","kind":"send","scope":"world"}',
    ],
)
def test_what_is_no_draft_is_refused(written: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(written, type=AnyDraft)  # type: ignore[arg-type]


def test_fields_of_a_newer_release_are_skipped_and_missing_ones_have_their_defaults() -> None:
    written = (
        b'{"draft":"message","key":"1","mood":"happy","parts":[{"type":"text","text":"hi"}],'
        b'"address":{"scheme":"wechat","account":"shop","kind":"openid","id":"oHubUser0001"}}'
    )
    read = msgspec.json.decode(written, type=AnyDraft)  # type: ignore[arg-type]
    assert read == Message(key="1", address=FAN, parts=(Text(text="hi"),))
    assert (read.scope, read.direction, read.at) == (Scope.SENDER, Direction.IN, None)


def test_only_what_differs_from_the_defaults_is_written() -> None:
    event = Event(key="1", address=FAN, name="contact.followed")
    assert msgspec.json.decode(msgspec.json.encode(event)).keys() == {
        *("draft", "key", "address", "name")
    }


def test_two_drafts_never_share_their_data() -> None:
    one, other = (Event(key="1", address=FAN, name="x") for _ in range(2))
    one.data["a"] = 1
    assert other.data == {}


def test_milliseconds_are_utc_and_a_naive_time_is_refused() -> None:
    shanghai = timezone(timedelta(hours=8))
    moment = datetime(2023, 11, 15, 6, 13, 20, 123_999, tzinfo=shanghai)
    assert milliseconds(moment) == NOON.replace(microsecond=123_000)
    assert milliseconds(moment).utcoffset() == timedelta(0)
    with pytest.raises(ValueError, match="time zone"):
        milliseconds(datetime(2023, 11, 15))  # noqa: DTZ001 - that is what is refused


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)))  # noqa: DTZ001
def test_a_stored_time_reads_back_equal(moment: datetime) -> None:
    stored = milliseconds(moment.replace(tzinfo=timezone(timedelta(hours=-5))))
    assert msgspec.json.decode(msgspec.json.encode(stored), type=datetime) == stored
    assert milliseconds(stored) == stored


def test_a_connector_that_declares_nothing_can_send_nothing() -> None:
    can = Capabilities()
    assert not can.sends
    assert not any((can.typing, can.read_receipts, can.profile, can.templates))
    assert can.edit_window_s is can.recall_window_s is None


def test_the_ticket_model_reads_back_as_it_was_written() -> None:
    entry = TicketEntry(
        key="ent_1",
        author="customer",
        channel="wechat",
        occurred_at=NOON,
        text="在吗",
        attachments=(
            Attachment(filename="a.pdf", content_type="application/pdf", size=1, url="https://x/1"),
        ),
    )
    ticket = NewTicket(
        key="cnv_1",
        requester=Requester(hub_id="cus_1", display_name="张三", phones=("+8613800138000",)),
        subject="订单",
        first=entry,
    )
    assert msgspec.json.decode(msgspec.json.encode(ticket), type=NewTicket) == ticket
    assert ticket.priority is Priority.NORMAL
    event = BackendEvent(dedupe_id="z:1", ticket_id="1", kind="entry", at=NOON, entry=entry)
    page = Page(events=[event], cursor="c")
    assert msgspec.json.decode(msgspec.json.encode(page), type=Page) == page
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"ticket_lookup": "maybe", "entry_lookup": "none"}, BackendCapabilities)
    fresh = BackendCapabilities(ticket_lookup=Lookup.FRESH, entry_lookup=Lookup.NONE)
    assert not fresh.closed_is_final


def test_the_states_of_a_delivery_are_the_frozen_ones() -> None:
    """They are stored and sent; a new one may be added, none may be renamed."""
    assert [str(state) for state in DeliveryState] == [
        *("received", "queued", "sending", "accepted", "delivered", "read", "failed", "unknown")
    ]
