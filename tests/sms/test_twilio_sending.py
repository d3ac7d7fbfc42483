"""Sends by Twilio: what is posted, how failures are told, and that nothing is posted twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from connectors._twilio.rest import DEADLINE_S
from connectors.sms import SmsConnector
from connectors.sms.twilio_provider import TwilioProvider
from hub.notifications import NOTIFICATION
from hub.testing import FakeServices, Mood
from hub.testing.clock import FakeClock
from normalizer.drafts import Event
from normalizer.outcomes import (
    Accepted,
    Failure,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
    Unsupported,
)
from normalizer.parts import Audio, Image, Location, Media, Text
from tests.sms.fake_twilio import NUMBER, FakeTwilio
from tests.sms.making import THEIRS, answering, at_work, message


@pytest.fixture
async def vendor() -> AsyncIterator[FakeTwilio]:
    async with FakeTwilio() as vendor:
        yield vendor


@pytest.fixture
async def working(vendor: FakeTwilio) -> AsyncIterator[tuple[SmsConnector, FakeServices]]:
    async with at_work(vendor.settings) as made:
        yield made


async def accepted(connector: SmsConnector, *parts: Any, **more: Any) -> Accepted:
    found = await connector.send(message(*parts, **more))
    assert isinstance(found, Accepted)
    return found


async def test_what_is_posted(
    vendor: FakeTwilio, working: tuple[SmsConnector, FakeServices]
) -> None:
    connector, _ = working
    told = await accepted(connector, "您好 +&=😀")
    (form,) = vendor.posts
    assert form == [
        ("To", THEIRS),
        ("From", NUMBER),
        ("Body", "您好 +&=😀"),
        ("StatusCallback", f"{connector.context.public_url}/status"),
        ("ValidityPeriod", "36000"),
    ]
    assert told.vendor_ids == (vendor.sent[0]["sid"],)
    assert told.data["encoding"] == "ucs2"
    assert told.data["parts"] == 1
    assert told.data["billed_parts"] == "1"


async def test_an_answer_leaves_from_the_number_that_was_written_to() -> None:
    other = "+15005550009"
    async with (
        FakeTwilio(numbers=[NUMBER, other]) as vendor,
        at_work(vendor.settings) as (connector, _),
    ):
        await accepted(connector, "hi", answers=answering(to=other), key="job_1")
        await accepted(connector, "hi", answers=answering(to="+19995550000"), key="job_2")
        await accepted(connector, "hi", answers=answering(to=other, via="whatsapp"), key="job_3")
        assert [each["from"] for each in vendor.sent] == [other, NUMBER, f"whatsapp:{other}"]
        assert vendor.sent[2]["to"] == f"whatsapp:{THEIRS}"


async def test_a_messaging_service_sends_what_answers_no_number_of_ours(vendor: FakeTwilio) -> None:
    table = {**vendor.table, "messaging_service_sid": "MG1", "smart_encoded": True}
    async with at_work({"provider": "twilio", "twilio": table}) as (connector, _):
        await accepted(connector, "hi")
    form = dict(vendor.posts[0])
    assert form["MessagingServiceSid"] == "MG1"
    assert "From" not in form
    assert form["SmartEncoded"] == "true"


async def test_a_host_with_an_underscore_gets_no_receipts_and_check_says_so(
    vendor: FakeTwilio, working: tuple[SmsConnector, FakeServices]
) -> None:
    connector, services = working
    services.public_url = "https://my_hub.example"
    await accepted(connector, "hi")
    assert "StatusCallback" not in dict(vendor.posts[0])
    assert any("underscore" in problem for problem in await connector.check())


async def test_files_are_handed_over_by_links_that_end(
    vendor: FakeTwilio, working: tuple[SmsConnector, FakeServices]
) -> None:
    connector, _ = working
    media = Media(blob="blob-1", mime="image/png", name="a.png", size=900_000)
    await accepted(connector, Text(text="look"), Image(media=media), Image(media=media))
    links = [value for name, value in vendor.posts[0] if name == "MediaUrl"]
    assert len(links) == 2
    assert "/api/v1/attachments/blob-1/signed?expires=" in links[0]
    large = Audio(media=Media(blob="blob-2", mime="audio/mpeg", size=900_000))
    with pytest.raises(Rejected, match="send a link"):
        await connector.send(message(large))
    with pytest.raises(Rejected, match="not in the store"):
        await connector.send(message(Image(media=Media(mime="image/png", name="a.png"))))
    with pytest.raises(Rejected, match="at most 10"):
        await connector.send(message(*[Image(media=media)] * 11))
    with pytest.raises(Unsupported):
        await connector.send(message(Location(lat=1, lon=2)))
    assert len(vendor.posts) == 1


async def test_a_text_over_twilios_limit_is_refused_before_it_is_posted(
    vendor: FakeTwilio, working: tuple[SmsConnector, FakeServices]
) -> None:
    connector, _ = working
    await accepted(connector, "长" * 1600)
    with pytest.raises(Rejected, match="1600"):
        await connector.send(message("长" * 1601))
    assert len(vendor.posts) == 1


async def test_a_short_code_cannot_be_answered(
    vendor: FakeTwilio, working: tuple[SmsConnector, FakeServices]
) -> None:
    connector, _ = working
    with pytest.raises(Unreachable, match="another channel"):
        await connector.send(message("hi", to="sms:main:sender:10086"))
    assert not vendor.posts


async def test_who_opted_out_of_a_number_is_not_reached_by_it(
    vendor: FakeTwilio, working: tuple[SmsConnector, FakeServices]
) -> None:
    connector, services = working
    vendor.opted_out.add((NUMBER, THEIRS))
    with pytest.raises(Unreachable, match="opted out") as caught:
        await connector.send(message("hi"))
    assert caught.value.code == "21610"
    (taken,) = services.taken
    (event,) = taken.drafts
    assert isinstance(event, Event)
    assert (event.name, event.data["scope"]) == ("contact.opted_out", NUMBER)
    services.overloaded = True  # what cannot be kept now does not change what became of the send
    with pytest.raises(Unreachable):
        await connector.send(message("hi", key="job_2"))
    vendor.opted_out.clear()
    await accepted(connector, "hi")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((401, {"code": 20003}), Misconfigured),
        ((429, {"code": 20429}), RateLimited),
        ((400, {"code": 21614}), Rejected),
        ((400, {"code": 21611}), Temporary),
        ((500, {"code": 20500}), OutcomeUnknown),
        ((502, "<html>"), OutcomeUnknown),
        ((503, "<html>"), OutcomeUnknown),
        ((201, {"status": "queued"}), OutcomeUnknown),  # which message?
        ((201, {"sid": "SM1", "status": "failed", "error_code": 30007}), Rejected),
        ((201, {"sid": "SM1", "status": "failed", "error_code": None}), Rejected),
        ("lose", OutcomeUnknown),
    ],
)
async def test_an_answer_is_told_as_what_it_is_and_never_repeated(
    vendor: FakeTwilio,
    working: tuple[SmsConnector, FakeServices],
    answer: Any,
    kind: type[Failure],
) -> None:
    connector, _ = working
    vendor.script = [answer]
    with pytest.raises(Failure) as caught:
        await connector.send(message("hi"))
    assert type(caught.value) is kind
    assert len(vendor.posts) == 1


async def test_a_vendor_that_hangs_is_left_at_the_deadline(
    vendor: FakeTwilio, working: tuple[SmsConnector, FakeServices]
) -> None:
    """The deadline is the REST client's: tests/twilio/test_rest.py waits for a short one."""
    connector, _ = working
    assert isinstance(connector.provider, TwilioProvider)
    rest = connector.provider._rest()
    assert rest._deadline_s == DEADLINE_S <= 15


# --- what became of a message whose answer was lost ----------------------------------------------


async def test_a_lost_answer_is_found_by_its_number_and_words(
    vendor: FakeTwilio, working: tuple[SmsConnector, FakeServices]
) -> None:
    connector, _ = working
    vendor.script = ["lose"]
    with pytest.raises(OutcomeUnknown):
        await connector.send(message("在路上了"))
    found = await connector.find_sent(message("在路上了"))
    assert found is not None
    assert found.vendor_ids == (vendor.sent[0]["sid"],)
    again = await connector.find_sent(message("在路上了"))
    assert again is not None
    assert again.vendor_ids == found.vendor_ids
    assert len(vendor.posts) == 1


async def test_what_twilio_queues_and_what_it_has_sent_are_both_found(
    vendor: FakeTwilio, working: tuple[SmsConnector, FakeServices]
) -> None:
    """A queued message has no date, and is not in a list by date."""
    connector, _ = working
    for number, date in enumerate((None, "Mon, 02 Mar 2026 09:20:00 +0000")):
        vendor.script = ["lose"]
        outgoing = message(f"text {number}", key=f"job_{number}")
        with pytest.raises(OutcomeUnknown):
            await connector.send(outgoing)
        vendor.sent[-1]["date_sent"] = date
        assert await connector.find_sent(outgoing) is not None


async def test_a_message_among_many_to_the_same_number_is_found(vendor: FakeTwilio) -> None:
    clock = FakeClock()
    vendor.now = clock.now
    async with at_work(vendor.settings, clock=clock) as (connector, _):
        for number in range(250):
            text = f"old {number}"
            vendor.messages.append(vendor._made(NUMBER, THEIRS, text, "outbound-api", "sent"))
        clock.advance(3600)
        vendor.script = ["lose"]
        with pytest.raises(OutcomeUnknown):
            await connector.send(message("old 7"))
        found = await connector.find_sent(message("old 7"))
        assert found is not None
        assert found.vendor_ids == (vendor.sent[-1]["sid"],)


async def test_what_never_arrived_is_sure_after_a_while(vendor: FakeTwilio) -> None:
    clock = FakeClock()
    async with at_work(vendor.settings, clock=clock) as (connector, _):
        vendor.script = [(502, "<html>")]
        with pytest.raises(OutcomeUnknown):
            await connector.send(message("hi"))
        with pytest.raises(RateLimited) as caught:
            await connector.find_sent(message("hi"))
        assert caught.value.scope == "address", "the account goes on"
        clock.advance(21)
        assert await connector.find_sent(message("hi")) is None


async def test_the_same_words_of_another_answer_are_not_taken_for_this_one(
    vendor: FakeTwilio,
) -> None:
    """ "yes" was sent before, and a second "yes" never arrived: it is not there."""
    clock = FakeClock()
    async with at_work(vendor.settings, clock=clock) as (connector, _):
        await accepted(connector, "yes", key="job_1")
        vendor.script = [(500, {"code": 20500})]
        with pytest.raises(OutcomeUnknown):
            await connector.send(message("yes", key="job_2"))
        clock.advance(21)
        assert await connector.find_sent(message("yes", key="job_2")) is None


async def test_two_lost_answers_with_the_same_words_are_two_messages(
    vendor: FakeTwilio, working: tuple[SmsConnector, FakeServices]
) -> None:
    connector, _ = working
    vendor.script = ["lose", "lose"]
    for key in ("job_1", "job_2"):
        with pytest.raises(OutcomeUnknown):
            await connector.send(message("ok", key=key))
    found = [await connector.find_sent(message("ok", key=key)) for key in ("job_1", "job_2")]
    ids = [each.vendor_ids for each in found if each is not None]
    assert sorted(ids) == [(each["sid"],) for each in vendor.sent]


async def test_what_was_sent_long_before_is_not_looked_at(vendor: FakeTwilio) -> None:
    clock = FakeClock()
    vendor.now = clock.now
    async with at_work(vendor.settings, clock=clock) as (connector, _):
        vendor.messages.append(
            vendor._made(NUMBER, THEIRS, "hello", "outbound-api", "sent")  # by another system
        )
        clock.advance(timedelta(hours=1).total_seconds())
        vendor.script = [(500, {"code": 20500})]
        with pytest.raises(OutcomeUnknown):
            await connector.send(message("hello"))
        clock.advance(21)
        assert await connector.find_sent(message("hello")) is None


async def test_look_alikes_that_twilio_put_in_are_the_same_words(
    vendor: FakeTwilio, working: tuple[SmsConnector, FakeServices]
) -> None:
    connector, _ = working
    vendor.script = ["lose"]
    with pytest.raises(OutcomeUnknown):
        await connector.send(message("It’s “fine” – yes…"))
    vendor.sent[0]["body"] = 'It\'s "fine" - yes...'
    assert await connector.find_sent(message("It’s “fine” – yes…")) is not None


async def test_what_was_never_posted_is_not_there(
    vendor: FakeTwilio, working: tuple[SmsConnector, FakeServices]
) -> None:
    connector, _ = working
    assert await connector.find_sent(message("hi")) is None
    assert not vendor.posts


async def test_a_look_up_in_trouble_says_so(
    vendor: FakeTwilio, working: tuple[SmsConnector, FakeServices]
) -> None:
    connector, _ = working
    vendor.script = ["lose"]
    with pytest.raises(OutcomeUnknown):
        await connector.send(message("hi"))
    vendor.mood = Mood.AWAY
    with pytest.raises(RateLimited):
        await connector.find_sent(message("hi"))


# --- automatic messages --------------------------------------------------------------------------


async def test_notifications_are_no_answers_and_are_not_stopped(vendor: FakeTwilio) -> None:
    """Five parcels in ten minutes are five messages that the shop asked for."""
    async with at_work(vendor.settings) as (connector, _):
        for number in range(5):
            told = {"event": NOTIFICATION, "automatic": True}
            await accepted(connector, f"parcel {number}", key=f"job_{number}", **told)
        assert len(vendor.sent) == 5


async def test_edge_9_automatic_messages_stop_after_three_in_ten_minutes(
    vendor: FakeTwilio,
) -> None:
    clock = FakeClock()
    async with at_work(vendor.settings, clock=clock) as (connector, _):
        for number in range(3):
            await accepted(connector, "auto", key=f"job_{number}", automatic=True)
        with pytest.raises(Unreachable, match="automatic"):
            await connector.send(message("auto", key="job_9", automatic=True))
        await accepted(connector, "a person", key="job_10")
        other = "tel::e164:+8613900139000"
        await accepted(connector, "auto", key="job_11", automatic=True, to=other)
        clock.advance(601)
        await accepted(connector, "auto", key="job_12", automatic=True)


async def test_check_tells_what_is_wrong_at_twilio(
    vendor: FakeTwilio, working: tuple[SmsConnector, FakeServices]
) -> None:
    connector, services = working
    services.public_url = "https://hub.example"
    vendor.sms_url = "https://old.example/sms"
    (problem,) = await connector.check()
    assert f"set its webhook to {connector.context.public_url}" in problem
    vendor.sms_url = connector.context.public_url
    assert not await connector.check()
    vendor.mood = Mood.REFUSES
    assert any("credentials" in each for each in await connector.check())
