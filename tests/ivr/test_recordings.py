"""Recordings: fetched with credentials from Twilio only, written down, and deleted there in time.

Twilio's API is `fake_twilio.FakeApi`; the store is in memory, and what the hub would have folded
is put into it by hand.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import format_datetime
from types import ModuleType
from typing import Any

import aiohttp
import pytest

from connectors.ivr.recordings import NOT_YET, RecordingDoc
from connectors.ivr.tidying import MOST_AT_ONCE
from hub.documents import Entry
from hub.testing import FakeServices
from normalizer.drafts import Amendment, Message
from normalizer.keys import dedupe_key
from normalizer.outcomes import Gone, Misconfigured, RateLimited, Rejected, Temporary
from normalizer.parts import Audio, Media, MediaState
from tests.ivr.calling import NIGHT, WORKING, Desk
from tests.ivr.fake_twilio import ACCOUNT_SID, NUMBER, FakeApi

RECORDING = f"RE{1:032x}"
CALL = f"CA{1:032x}"
CALLER = "tel::e164:+8613800138000"
SOUND = b"ID3 a sound"


class Shelf:
    """An account whose API is the fake, and the store behind it."""

    def __init__(self, desk: Desk, services: FakeServices, api: FakeApi) -> None:
        self.desk = desk
        self.connector = desk.connector
        self.services = services
        self.api = api

    async def fetch(self, ref: str = RECORDING) -> bytes:
        media = Media(vendor_ref=ref, state=MediaState.PENDING)
        fetched = await self.connector.fetch_media(media, CALLER)
        return b"".join([chunk async for chunk in fetched.stream])

    async def docs(self) -> list[RecordingDoc]:
        return await self.services.store.table(RecordingDoc).find({})

    async def fold(self, state: MediaState, **more: Any) -> None:
        """Put the entry into the store as the hub has it when its file was dealt with."""
        [doc] = await self.docs()
        blob = await self.services.store.blobs.put(SOUND, metadata={})
        media = Media(vendor_ref=doc.ref, state=state, blob=blob, mime="audio/mpeg")
        now = self.desk.clock.now()
        entry = Entry(
            id=doc.entry,
            address="adr_1",
            position=1,
            at=now,
            received_at=now,
            channel="ivr",
            account="main",
            parts=(Audio(media=media),),
            **more,
        )
        await self.services.store.table(Entry).put([entry])


@pytest.fixture
async def shelf() -> AsyncIterator[Shelf]:
    async with FakeApi() as api, aiohttp.ClientSession() as http:
        yield await _shelf(api, http)


async def _shelf(api: FakeApi, http: aiohttp.ClientSession, **more: Any) -> Shelf:
    services = FakeServices(
        http=http, private_hosts=["127.0.0.1"], public_url="https://hub.example"
    )
    desk = Desk(at=WORKING, services=services, api_url=api.url, **more)
    services.clock = desk.clock
    api.files[RECORDING] = SOUND
    await desk.connector.start()
    return Shelf(desk, services, api)


async def test_a_recording_is_fetched_as_mp3_with_credentials(shelf: Shelf) -> None:
    try:
        assert await shelf.fetch() == SOUND
        assert shelf.api.asked[-1][0] == (
            f"/2010-04-01/Accounts/{ACCOUNT_SID}/Recordings/{RECORDING}.mp3"
        )
        shelf.api.password = "another"
        with pytest.raises(Misconfigured):
            await shelf.fetch()
    finally:
        await shelf.services.fetcher.close()


async def test_a_file_that_is_not_there_yet_is_tried_again_and_not_for_ever(shelf: Shelf) -> None:
    try:
        shelf.api.not_yet[RECORDING] = 2
        for _ in range(2):
            with pytest.raises(Temporary, match="not have the recording ready yet"):
                await shelf.fetch()
        assert await shelf.fetch() == SOUND
        shelf.api.not_yet[RECORDING] = 100
        for _ in range(NOT_YET):
            with pytest.raises(Temporary):
                await shelf.fetch()
        with pytest.raises(Gone):
            await shelf.fetch()
    finally:
        await shelf.services.fetcher.close()


@pytest.mark.parametrize("trouble", [503, 429, -1])
async def test_a_twilio_in_trouble_loses_no_recording(shelf: Shelf, trouble: int) -> None:
    """Nothing is given up: the file is fetched later, and deleted later; `check` says what is."""
    try:
        await shelf.fetch()
        await shelf.fold(MediaState.READY)
        shelf.api.trouble = trouble
        with pytest.raises(RateLimited if trouble == 429 else Temporary):
            await shelf.fetch()
        await shelf.connector._tidying.tidy()
        assert len(await shelf.docs()) == 1, "it is still to be deleted"
        with pytest.raises(RateLimited if trouble == 429 else Temporary):
            await shelf.connector._tidying.look_up_calls()
        [told] = await shelf.connector.check()
        assert " " in told
        shelf.api.trouble = 0
        await shelf.connector._tidying.tidy()
        assert shelf.api.deleted == [RECORDING]
    finally:
        await shelf.services.fetcher.close()


@pytest.mark.parametrize(
    "ref", ["", "RE1", "../Calls", f"{RECORDING}.mp3?x=", f"https://b.example/{RECORDING}", "x/y/z"]
)
async def test_only_ids_of_recordings_are_fetched(shelf: Shelf, ref: str) -> None:
    """What a draft names is never made into another address."""
    with pytest.raises(Rejected):
        await shelf.fetch(ref)
    assert not shelf.api.asked


async def test_a_recording_goes_at_twilio_when_the_hub_has_it_and_not_before(shelf: Shelf) -> None:
    try:
        await shelf.fetch(f"{CALL}/{RECORDING}")
        await shelf.connector._tidying.tidy()
        assert not shelf.api.deleted, "nobody knows yet whether it was stored"
        await shelf.fold(MediaState.PENDING)
        await shelf.connector._tidying.tidy()
        assert not shelf.api.deleted
        await shelf.fold(MediaState.READY)
        await shelf.connector._tidying.tidy()
        assert shelf.api.deleted == [RECORDING]
        assert not await shelf.docs()
    finally:
        await shelf.services.fetcher.close()


async def test_a_refused_file_stays_at_twilio_for_a_person_to_look_at(shelf: Shelf) -> None:
    try:
        await shelf.fetch()
        await shelf.fold(MediaState.REJECTED)
        await shelf.connector._tidying.tidy()
        assert not shelf.api.deleted
        assert not await shelf.docs()
    finally:
        await shelf.services.fetcher.close()


async def test_what_was_erased_here_is_erased_there(shelf: Shelf) -> None:
    try:
        await shelf.fetch()
        await shelf.fold(MediaState.READY)
        [doc] = await shelf.docs()
        [entry] = await shelf.services.store.table(Entry).find({})
        await shelf.services.store.table(Entry).put([_erased(entry)])
        assert doc.entry == entry.id
        await shelf.connector._tidying.tidy()
        assert shelf.api.deleted == [RECORDING]
    finally:
        await shelf.services.fetcher.close()


def _erased(entry: Entry) -> Entry:
    return Entry(
        id=entry.id,
        address=entry.address,
        position=1,
        at=entry.at,
        received_at=entry.at,
        channel="ivr",
        account="main",
        erased=True,
    )


async def _fails(audio: bytes, mime: str, language: str) -> str:
    raise RuntimeError("the provider is away")


async def test_a_provider_writes_down_what_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, with the bytes and the menu's language; until then the entry says who it waits for."""
    asked = []

    async def transcribe(audio: bytes, mime: str, language: str) -> str:
        asked.append((audio, mime, language))
        return "请给我回电。"

    module = ModuleType("acme_speech")
    module.transcribe = _fails  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "acme_speech", module)
    async with FakeApi() as api, aiohttp.ClientSession() as http:
        shelf = await _shelf(api, http, transcriber="acme_speech:transcribe", keep_at_twilio=True)
        try:
            words = shelf.connector._recordings.transcript_words
            assert words == "transcript: waits for acme_speech:transcribe"
            await shelf.fetch()
            await shelf.fold(MediaState.READY)
            await shelf.connector._tidying.tidy()
            assert await shelf.docs(), "it failed, so it is asked again"
            module.transcribe = transcribe  # type: ignore[attr-defined]
            for _ in range(2):
                await shelf.connector._tidying.tidy()
            assert asked == [(SOUND, "audio/mpeg", "zh-CN")]
            [taken] = shelf.services.taken
            [told] = taken.drafts
            assert isinstance(told, Amendment)
            assert told.target.vendor_id == RECORDING
            assert told.data["transcript"] == {
                "ref": RECORDING,
                "text": "请给我回电。",
                "by": "acme_speech:transcribe",
            }
            assert not api.deleted, "keep_at_twilio"
        finally:
            await shelf.services.fetcher.close()


async def test_what_cannot_be_written_down_stands_in_no_other_recordings_way(shelf: Shelf) -> None:
    """A provider may fail at some recordings for days; newer ones are dealt with all the same."""
    table = shelf.services.store.table(RecordingDoc)
    waiting = [
        RecordingDoc(
            id=f"main/RE{number:032x}",
            account="main",
            entry=f"ent_{number}",
            ref=f"RE{number:032x}",
            at=shelf.desk.clock.now() - timedelta(hours=1),
        )
        for number in range(100, 100 + MOST_AT_ONCE)
    ]
    await shelf.fetch()
    await shelf.fold(MediaState.READY)
    await table.insert(waiting)
    try:
        for _ in range(2):
            await shelf.connector._tidying.tidy()
        assert shelf.api.deleted == [RECORDING]
        assert len(await shelf.docs()) == MOST_AT_ONCE, "the others are tried again"
    finally:
        await shelf.services.fetcher.close()


# --- what was never told -------------------------------------------------------------------------


def _listed(desk: Desk, *, minutes_ago: float, number: int, **more: str) -> dict[str, Any]:
    """Return a call that is over, as Twilio lists it."""
    at = format_datetime(desk.clock.now() - timedelta(minutes=minutes_ago))
    return {
        "sid": f"CA{number:032x}",
        "from": "+8613800138000",
        "to": NUMBER,
        "status": "completed",
        "direction": "inbound",
        "duration": "17",
        "parent_call_sid": None,
        "start_time": at,
        "end_time": at,
        **more,
    }


def _recording(desk: Desk, call: int, number: int, **more: str) -> dict[str, Any]:
    return {
        "sid": f"RE{number:032x}",
        "call_sid": f"CA{call:032x}",
        "status": "completed",
        "duration": "34",
        "source": "RecordVerb",
        "date_created": format_datetime(desk.clock.now()),
        **more,
    }


async def _taken(shelf: Shelf, *, looks: int = 2) -> dict[str, Any]:
    """Look up what was never told; return the drafts by their keys, each told once."""
    told: dict[str, Any] = {}
    for _ in range(looks):
        shelf.services.taken.clear()
        await shelf.connector._tidying.look_up_calls()
        for taken in shelf.services.taken:
            for draft in taken.drafts:
                key = dedupe_key("ivr", "main", draft)
                assert key not in told, "one look was enough"
                told[key] = draft
    return told


async def test_a_message_whose_callback_was_lost_is_found_and_is_the_same_message(
    shelf: Shelf,
) -> None:
    """Twilio may tell it once and never again: who left it would wait for an answer for ever."""
    desk = Desk(at=NIGHT)
    call = await desk.call().rings()
    await call.leaves_a_message(34)
    await call.deliver()
    [voicemail] = desk.messages
    try:
        await shelf.connector._tidying.begin()
        shelf.api.calls = [
            _listed(shelf.desk, minutes_ago=0, number=1, **{"from": call.fields["From"]}),
            _listed(shelf.desk, minutes_ago=0, number=2, status="in-progress"),
        ]
        shelf.api.recordings = [
            _recording(shelf.desk, 1, 1),
            _recording(shelf.desk, 1, 2, source="DialVerb"),
            _recording(shelf.desk, 2, 3, status="processing"),
            _recording(shelf.desk, 2, 4, source="StartCallRecordingAPI"),  # somebody else's
            _recording(shelf.desk, 9, 5),  # of another number's call
        ]
        told = await _taken(shelf)
        [found] = [each for each in told.values() if isinstance(each, Message)]
        assert dedupe_key("ivr", "main", found) == dedupe_key("ivr", "main", voicemail)
        assert (found.parts, found.event) == (voicemail.parts, "voicemail")
        recorded = [
            each.data["step"]
            for each in told.values()
            if isinstance(each, Amendment) and each.data.get("event") == "call.recorded"
        ]
        assert recorded == [f"recording_RE{2:032x}"]
    finally:
        await shelf.services.fetcher.close()


async def test_what_was_over_before_the_account_came_to_the_hub_is_left_alone(shelf: Shelf) -> None:
    """Calls that another system took are no work here; one that began here is, and its end."""
    try:
        shelf.api.calls = [
            _listed(shelf.desk, minutes_ago=30, number=1, status="no-answer"),
            _listed(shelf.desk, minutes_ago=30, number=2),
            _listed(shelf.desk, minutes_ago=30, number=3),
        ]
        old = format_datetime(shelf.desk.clock.now() - timedelta(minutes=30))
        shelf.api.recordings = [_recording(shelf.desk, 2, 1, date_created=old)]
        await _began(shelf, 3)
        told = await _taken(shelf)
        assert {number for number in range(1, 5) if f"CA{number:032x}" in repr(told)} == {3}
        shelf.desk.clock.advance(600)
        shelf.api.calls.append(_listed(shelf.desk, minutes_ago=1, number=4, status="no-answer"))
        [missed] = [each for each in (await _taken(shelf)).values() if isinstance(each, Message)]
        assert missed.event == "call.missed"
    finally:
        await shelf.services.fetcher.close()


async def _began(shelf: Shelf, number: int) -> None:
    """Let the hub know of a call from when it rang."""
    desk = Desk(at=WORKING)
    await desk.call(number).rings()
    ringing = desk.drafts[0]
    now = shelf.desk.clock.now()
    context = shelf.services.connector_context("ivr", "main")
    entry = Entry(
        id=context.entry_id(ringing),  # type: ignore[arg-type]
        address="adr_1",
        position=1,
        at=now,
        received_at=now,
        channel="ivr",
        account="main",
    )
    await shelf.services.store.table(Entry).put([entry])
