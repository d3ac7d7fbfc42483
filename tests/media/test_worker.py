"""What a media job does where the whole hub is not needed: doubts, giving up, and no Pillow.

The worker is real, over the in-memory store; the connector gives what a test tells it to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from hub.config import MediaSettings
from hub.contract import Connector, Fetched
from hub.documents import AddressDoc, Entry, Job
from hub.jobs import Paused
from hub.media.pictures import Pictures
from hub.media.scanning import Scanned, Scanners
from hub.media.worker import MOST_IN_DOUBT, MediaWorker
from hub.testing import MemoryStore
from hub.testing.clock import START
from normalizer.outcomes import (
    Failure,
    Gone,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unsupported,
)
from normalizer.parts import Image, Media, MediaState
from tests.media.pictures import photo


class Vendor:
    """Stands for a connector: gives a file, or raises what it is told to."""

    def __init__(self) -> None:
        self.data = photo()
        self.raises: Exception | None = None

    async def fetch_media(self, media: Media, address: str) -> Fetched:
        assert address == "sample:main:user:ann"
        if self.raises is not None:
            raise self.raises
        return Fetched(stream=self._stream(), mime="image/jpeg", name="a.jpg")

    async def _stream(self) -> AsyncIterator[bytes]:
        yield self.data


class NoScanners:
    async def scan(self, media: Media, file: Any) -> Scanned:
        return Scanned(state="unscanned")


class World:
    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.vendor = Vendor()
        self.configured = True
        self.pictures = Pictures(folder, seconds=20, max_pixels=1_000_000)
        self.worker = MediaWorker(
            self.store,
            lambda *_: cast(Connector[Any], self.vendor) if self.configured else None,
            cast(Scanners, NoScanners()),
            self.pictures,
            MediaSettings(max_bytes=200_000, timeout_s=5.0),
            folder,
        )

    async def job(self, **more: Any) -> Job:
        media = Media(vendor_ref="v1", state=MediaState.PENDING)
        await self.store.table(Entry).put(
            [
                Entry(
                    id="ent_1",
                    address="adr_1",
                    position=1,
                    at=START,
                    received_at=START,
                    channel="sample",
                    account="main",
                    parts=(Image(media=media),),
                )
            ]
        )
        await self.store.table(AddressDoc).put(
            [AddressDoc(id="adr_1", scheme="sample", address="sample:main:user:ann")]
        )
        return Job(
            **{
                "id": "job_1",
                "lane": "media:ent_1:0",
                "kind": "media",
                "position": 1,
                "due_at": START,
                "state": "sending",
                "attempts": 1,
                "entry": "ent_1",
                "args": {"index": 0, "ref": "v1"},
                **more,
            }
        )

    def blobs(self) -> list[str]:
        return sorted(self.store.blobs._blobs)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_photo_becomes_three_blobs_under_the_names_of_its_attempt(world: World) -> None:
    result = await world.worker.run(await world.job())
    assert result is not None
    assert result["state"] == "ready"
    media = result["media"]
    named = [media["blob"], media["thumb"]["blob"], media["original"]["blob"]]
    assert world.blobs() == sorted(named)


async def test_an_attempt_takes_away_what_one_before_it_left(world: World) -> None:
    """The first attempt's process dies after it stored everything: nobody hears of its blobs."""
    await world.worker.run(await world.job(attempts=1))
    left = world.blobs()
    result = await world.worker.run(await world.job(attempts=2))
    assert result is not None
    assert not set(left) & set(world.blobs())
    assert len(world.blobs()) == 3


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        (Gone("expired"), "lost"),
        (Rejected("never"), "rejected"),
        (Unsupported("no files here"), "rejected"),
    ],
)
async def test_what_will_never_work_ends_with_its_reason(
    world: World, failure: Failure, state: str
) -> None:
    world.vendor.raises = failure
    result = await world.worker.run(await world.job())
    assert result is not None
    assert (result["state"], result["media"]["reason"]) == (state, failure.reason)


@pytest.mark.parametrize(
    "failure", [Temporary("503"), RateLimited("429", retry_after=9), Misconfigured("token")]
)
async def test_what_may_work_later_is_left_to_the_lanes(world: World, failure: Failure) -> None:
    world.vendor.raises = failure
    with pytest.raises(type(failure)):
        await world.worker.run(await world.job())
    assert world.blobs() == []


async def test_a_connectors_own_mistake_is_worth_another_try(world: World) -> None:
    world.vendor.raises = KeyError("media_id")
    with pytest.raises(Temporary, match="KeyError"):
        await world.worker.run(await world.job())


async def test_a_full_disk_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(file: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(world.pictures, "cleaned", full)
    with pytest.raises(Temporary, match="OSError"):
        await world.worker.run(await world.job())
    assert world.blobs() == []


async def test_a_file_that_was_given_up_can_be_fetched_after_all(world: World) -> None:
    """A redrive runs the same job once more, under new names."""
    job = await world.job(attempts=9, args={"index": 0, "ref": "v1", "round": 1})
    entry = await world.store.table(Entry).get("ent_1")
    assert entry is not None
    lost = Media(vendor_ref="v1", state=MediaState.LOST, reason="given up")
    await world.store.table(Entry).put([replace(entry, parts=(Image(media=lost),))])
    result = await world.worker.run(job)
    assert result is not None
    assert result["state"] == "ready"
    assert "reason" not in result["media"]


async def test_an_account_that_is_not_here_is_waited_for(world: World) -> None:
    world.configured = False
    with pytest.raises(Paused):
        await world.worker.run(await world.job())


async def test_a_file_at_which_processes_die_is_given_up(world: World) -> None:
    assert await world.worker.look_up(await world.job(attempts=MOST_IN_DOUBT - 1)) is None
    with pytest.raises(Rejected, match="no attempt came to an end"):
        await world.worker.look_up(await world.job(attempts=MOST_IN_DOUBT))
    tired = await world.job(attempts=MOST_IN_DOUBT, failing_since=START)
    assert await world.worker.look_up(tired) is None  # those attempts came to an end


async def test_what_was_given_up_says_so(world: World) -> None:
    job = await world.job()
    late = world.worker.failed(job, Temporary("the vendor answered 503"))
    assert late is not None
    assert (late["state"], late["keep_source"]) == ("lost", True)
    assert late["media"]["reason"] == "given up: the vendor answered 503"
    deadly = world.worker.failed(job, OutcomeUnknown("no attempt came to an end"))
    assert deadly is not None
    assert deadly["state"] == "rejected"


async def test_without_pillow_a_picture_is_a_download_without_a_preview(world: World) -> None:
    world.pictures.available = False
    result = await world.worker.run(await world.job())
    assert result is not None
    media = result["media"]
    assert media["mime"] == "application/octet-stream"
    assert media["declared"] == "image/jpeg"
    assert "no preview" in media["reason"]
    assert "thumb" not in media
    assert await world.store.blobs.read(media["blob"]) == world.vendor.data
