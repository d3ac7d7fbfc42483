"""Files at Twilio go from there when the hub has them, or has erased them, and not before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from connectors.sms import SmsConnector
from connectors.sms.twilio_files import MOST_AT_ONCE, FileDoc
from hub.documents import Entry
from hub.testing import FakeServices
from hub.testing.clock import START
from hub.testing.fake_vendor import Mood
from normalizer.drafts import Message
from normalizer.outcomes import RateLimited
from normalizer.parts import Image, Media, MediaState
from tests.sms.fake_twilio import NUMBER, SID, FakeTwilio
from tests.sms.making import THEIRS, TO, at_work, posted, said

MMS = "MM" + "3" * 32


@pytest.fixture
async def vendor() -> AsyncIterator[FakeTwilio]:
    async with FakeTwilio() as vendor:
        yield vendor


class Shelf:
    """A connector at work, and the entry of a message with a picture as the hub has it."""

    def __init__(self, vendor: FakeTwilio, connector: SmsConnector, services: FakeServices) -> None:
        self.vendor = vendor
        self.connector = connector
        self.services = services
        self.url = f"{vendor.url}/2010-04-01/Accounts/{SID}/Messages/{MMS}/Media/ME1"
        vendor.files["ME1"] = (b"GIF89a", "image/gif")

    def pushed(self) -> Message:
        form = {"AccountSid": SID, "MessageSid": MMS, "From": THEIRS, "To": NUMBER, "Body": ""}
        form |= {"NumMedia": "1", "MediaUrl0": self.url, "MediaContentType0": "image/gif"}
        (draft,) = said(self.connector, posted(self.connector, form))
        assert isinstance(draft, Message)
        return draft

    async def fetch(self) -> None:
        media = Media(vendor_ref=self.url, state=MediaState.PENDING)
        fetched = await self.connector.fetch_media(media, TO)
        assert b"".join([chunk async for chunk in fetched.stream]) == b"GIF89a"

    async def has(self, state: MediaState | None) -> None:
        """Let the hub have the entry of the pushed message; None: it was erased."""
        part = Image(media=Media(vendor_ref=self.url, state=state or MediaState.READY))
        entry = Entry(
            id=self.connector.context.entry_id(self.pushed()),
            address="adr_1",
            position=1,
            at=START,
            received_at=START,
            channel="sms",
            account="main",
            parts=(part,) if state else (),
            erased=state is None,
        )
        await self.services.store.table(Entry).put([entry])

    async def docs(self) -> list[FileDoc]:
        return await self.services.store.table(FileDoc).find({})


async def working(vendor: FakeTwilio, **more: Any) -> AsyncIterator[Shelf]:
    table = {**vendor.table, **more}
    async with at_work({"provider": "twilio", "twilio": table}) as (connector, services):
        yield Shelf(vendor, connector, services)


@pytest.mark.parametrize("state", [MediaState.READY, None], ids=["stored", "erased"])
async def test_a_file_goes_when_the_hub_has_it_or_erased_it_and_not_before(
    vendor: FakeTwilio, state: MediaState | None
) -> None:
    async for shelf in working(vendor):
        await shelf.fetch()
        await shelf.connector.poll(None)
        await shelf.has(MediaState.PENDING)
        await shelf.connector.poll(None)
        assert not vendor.deleted, "nobody knows yet whether it was stored"
        await shelf.has(state)
        vendor.mood = Mood.AWAY
        with pytest.raises(RateLimited):
            await shelf.connector.poll(None)
        assert len(await shelf.docs()) == 1, "Twilio was busy: it is still to be deleted"
        vendor.mood = Mood.WELL
        await shelf.connector.poll(None)
        assert vendor.deleted == [f"{MMS}/ME1"]
        assert not await shelf.docs()


async def test_a_refused_file_stays_at_twilio_for_a_person_to_look_at(vendor: FakeTwilio) -> None:
    async for shelf in working(vendor):
        await shelf.fetch()
        await shelf.has(MediaState.REJECTED)
        await shelf.connector.poll(None)
        assert not vendor.deleted
        assert not await shelf.docs()


async def test_an_account_may_leave_its_files_there(vendor: FakeTwilio) -> None:
    async for shelf in working(vendor, keep_at_twilio=True):
        await shelf.fetch()
        await shelf.has(MediaState.READY)
        await shelf.connector.poll(None)
        assert not vendor.deleted
        assert not await shelf.docs()


async def test_files_that_wait_stand_in_no_others_way_and_not_for_ever(vendor: FakeTwilio) -> None:
    async for shelf in working(vendor):
        old = START - timedelta(days=6, hours=23)
        waiting = [
            FileDoc(id=f"main/ME{n}x", account="main", entry=f"ent_{n}", ref="-", at=old)
            for n in range(MOST_AT_ONCE)
        ]
        await shelf.services.store.table(FileDoc).insert(waiting)
        await shelf.fetch()
        await shelf.has(MediaState.READY)
        for _ in range(2):
            await shelf.connector.poll(None)
        assert vendor.deleted == [f"{MMS}/ME1"]
        assert len(await shelf.docs()) == MOST_AT_ONCE
        shelf.services.clock.advance(7200)  # type: ignore[attr-defined]
        await shelf.connector.poll(None)
        assert not await shelf.docs(), "a week is enough"
