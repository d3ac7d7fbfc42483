"""Recordings: fetched with credentials from Twilio only, written down, and deleted there in time.

Twilio's API is `fake_twilio.FakeApi`; the store is in memory, and what the hub would have folded
is put into it by hand.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import aiohttp
import pytest

from connectors.ivr.recordings import NOT_YET, RecordingDoc
from hub.documents import Entry
from hub.testing import FakeServices
from normalizer.drafts import Amendment
from normalizer.outcomes import Gone, Misconfigured, RateLimited, Rejected, Temporary
from normalizer.parts import Audio, Media, MediaState
from tests.ivr.calling import WORKING, Desk
from tests.ivr.fake_twilio import ACCOUNT_SID, FakeApi

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
