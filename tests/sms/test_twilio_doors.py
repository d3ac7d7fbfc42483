"""What webhooks missed is polled; files are fetched from Twilio's hosts and nobody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
from aiohttp import web

from connectors.sms import SmsConnector
from hub import Polled
from hub.testing.clock import START, FakeClock
from normalizer.drafts import AnyDraft, Event, Message
from normalizer.keys import dedupe_key
from normalizer.outcomes import Gone, Misconfigured, Rejected
from normalizer.parts import Image, Media, MediaState
from tests.sms.fake_twilio import KEY, NUMBER, SID, FakeTwilio
from tests.sms.making import THEIRS, TO, at_work, posted, said


@pytest.fixture
async def vendor() -> AsyncIterator[FakeTwilio]:
    async with FakeTwilio() as vendor:
        yield vendor


def drafts_of(polled: Polled) -> list[AnyDraft]:
    return [draft for item in polled.items for draft in item.drafts]


def keys(drafts: Sequence[AnyDraft]) -> list[str]:
    return [dedupe_key("sms", "main", draft) for draft in drafts]


async def test_a_polled_message_is_the_one_that_the_webhook_brings(vendor: FakeTwilio) -> None:
    """Words, pictures and wishes: the same keys, so that the hub knows them already."""
    async with at_work(vendor.settings) as (connector, _):
        start = (await connector.poll(None)).cursor
        vendor.files["ME1"] = (b"GIF89a", "image/gif")
        vendor.receives("在吗", THEIRS)
        vendor.receives("", THEIRS, files=["ME1"])
        vendor.receives("STOP", THEIRS)
        polled = drafts_of(await connector.poll(start))
        pushed: list[AnyDraft] = []
        for each in vendor.messages:
            form = {
                "AccountSid": SID,
                "MessageSid": each["sid"],
                "From": each["from"],
                "To": each["to"],
                "Body": each["body"],
                "NumMedia": each["num_media"],
            }
            if each["files"]:
                uri = f"/2010-04-01/Accounts/{SID}/Messages/{each['sid']}/Media/ME1"
                form |= {"MediaUrl0": f"{vendor.url}{uri}", "MediaContentType0": "image/gif"}
            pushed += said(connector, posted(connector, form))
    assert keys(polled) == keys(pushed)
    assert isinstance(polled[1], Message)
    assert isinstance(pushed[1], Message)
    assert polled[1].parts == pushed[1].parts
    assert isinstance(polled[1].parts[0], Image)
    assert isinstance(polled[2], Event)
    assert all(draft.at is not None for draft in polled), "the list knows when"


async def test_a_whatsapp_message_whose_webhook_failed_is_polled_as_well(
    vendor: FakeTwilio,
) -> None:
    """Twilio lists it under `whatsapp:` and the number, and nowhere else."""
    async with at_work(vendor.settings) as (connector, _):
        cursor = (await connector.poll(None)).cursor
        lost = vendor._made(
            f"whatsapp:{THEIRS}", f"whatsapp:{NUMBER}", "在吗", "inbound", "received"
        )
        vendor.messages.append(lost)
        polled = await connector.poll(cursor)
        (draft,) = drafts_of(polled)
        assert not drafts_of(await connector.poll(polled.cursor))
    form = {"AccountSid": SID, "MessageSid": lost["sid"], "From": lost["from"], "To": lost["to"]}
    pushed = said(connector, posted(connector, {**form, "Body": "在吗", "NumMedia": "0"}))
    assert keys([draft]) == keys(pushed)
    assert isinstance(draft, Message)
    assert draft.data["via"] == "whatsapp"


async def test_what_shows_up_late_is_not_missed(vendor: FakeTwilio) -> None:
    clock = FakeClock()
    vendor.now = clock.now
    async with at_work(vendor.settings, clock=clock) as (connector, _):
        cursor = (await connector.poll(None)).cursor
        clock.advance(100)
        vendor.receives("second", THEIRS)
        cursor = (await connector.poll(cursor)).cursor
        vendor.now = lambda: START + timedelta(seconds=40)
        vendor.receives("first, listed late", THEIRS)
        (draft,) = drafts_of(await connector.poll(cursor))
    assert isinstance(draft, Message)


async def test_a_downtime_of_days_is_caught_up(vendor: FakeTwilio) -> None:
    clock = FakeClock()
    vendor.now = clock.now
    async with at_work(vendor.settings, clock=clock) as (connector, _):
        vendor.receives("before", THEIRS)
        cursor = (await connector.poll(None)).cursor
        for _day in range(3):
            clock.advance(86_400)
            vendor.receives("meanwhile", THEIRS)
        polled = await connector.poll(cursor)
        assert len(drafts_of(polled)) == 3
        assert not drafts_of(await connector.poll(polled.cursor))


async def test_our_own_messages_and_other_numbers_are_not_polled(vendor: FakeTwilio) -> None:
    async with at_work(vendor.settings) as (connector, _):
        cursor = (await connector.poll(None)).cursor
        vendor.messages.append(vendor._made(NUMBER, NUMBER, "x", "outbound-api", "sent"))
        vendor.messages.append(vendor._made(THEIRS, "+15550001111", "x", "inbound", "received"))
        assert not drafts_of(await connector.poll(cursor))


async def test_a_message_that_is_still_coming_is_taken_when_it_is_whole(vendor: FakeTwilio) -> None:
    async with at_work(vendor.settings) as (connector, _):
        cursor = (await connector.poll(None)).cursor
        coming = vendor.receives("half", THEIRS)
        coming["status"] = "receiving"
        polled = await connector.poll(cursor)
        assert not polled.items
        coming |= {"status": "received", "body": "whole"}
        (draft,) = drafts_of(await connector.poll(polled.cursor))
        assert isinstance(draft, Message)


async def test_a_message_that_cannot_be_read_lets_the_others_pass(vendor: FakeTwilio) -> None:
    async with at_work(vendor.settings) as (connector, _):
        cursor = (await connector.poll(None)).cursor
        vendor.receives("good", THEIRS)
        vendor.receives("\ud800", THEIRS)
        vendor.messages[-1]["from"] = None
        polled = await connector.poll(cursor)
        assert len(polled.items) == 2
        assert polled.items[0].drafts


# --- files ---------------------------------------------------------------------------------------


def media(url: str) -> Media:
    return Media(vendor_ref=url, state=MediaState.PENDING)


async def fetched(connector: SmsConnector, url: str) -> bytes:
    found = await connector.fetch_media(media(url), TO)
    return b"".join([chunk async for chunk in found.stream])


@pytest.fixture
async def elsewhere() -> AsyncIterator[tuple[str, list[str]]]:
    """A content network under another name; what Authorization it was shown."""
    shown: list[str] = []

    async def serve(request: web.Request) -> web.Response:
        shown.append(request.headers.get("Authorization", ""))
        return web.Response(body=b"picture", content_type="image/jpeg")

    app = web.Application()
    app.router.add_get("/file", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://localhost:{runner.addresses[0][1]}/file", shown
    await runner.cleanup()


async def working(vendor: FakeTwilio, *hosts: str) -> AsyncIterator[SmsConnector]:
    table = {**vendor.table, "media_hosts": list(hosts)}
    async with at_work({"provider": "twilio", "twilio": table}) as (connector, _):
        yield connector


async def test_a_file_is_fetched_with_credentials_that_go_no_further(
    vendor: FakeTwilio, elsewhere: tuple[str, list[str]]
) -> None:
    place, shown = elsewhere
    host = place.split("/")[2]
    url = f"{vendor.url}/2010-04-01/Accounts/{SID}/Messages/MM1/Media/ME1"
    async for connector in working(vendor, host):
        vendor.files["ME1"] = (b"direct", "image/jpeg")
        assert await fetched(connector, url) == b"direct"
        vendor.redirect_to = place
        assert await fetched(connector, url) == b"picture"
        assert all(given.startswith("Basic ") for given in vendor.seen_authorization)
        assert await fetched(connector, place) == b"picture"
        assert shown == ["", ""], "no credentials for another host"
    async for connector in working(vendor):
        with pytest.raises(Rejected, match="not one of the vendor's hosts"):
            await fetched(connector, url)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/x",
        "http://api.twilio.com.evil.example/",
        "https://api.twilio.com@evil.example/",
        "http://127.0.0.1:1/",
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "https://[",
        "",
    ],
)
async def test_a_file_is_fetched_from_twilios_hosts_only(vendor: FakeTwilio, url: str) -> None:
    async for connector in working(vendor, "*.twilio.com"):
        with pytest.raises(Rejected):
            await fetched(connector, url)
    assert not vendor.seen_authorization


async def test_a_file_that_is_gone_and_refused_credentials_are_told_apart(
    vendor: FakeTwilio,
) -> None:
    url = f"{vendor.url}/2010-04-01/Accounts/{SID}/Messages/MM1/Media/ME9"
    async for connector in working(vendor):
        with pytest.raises(Gone):
            await fetched(connector, url)
    wrong = {**vendor.table, "api_key": KEY, "api_key_secret": "wrong"}
    async with at_work({"provider": "twilio", "twilio": wrong}) as (connector, _):
        with pytest.raises(Misconfigured):
            await fetched(connector, url)
