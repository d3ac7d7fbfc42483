"""kill -9 of the worker at every step of a download: each file ends stored, none is forgotten.

Real: hubs as processes, MongoDB, HTTP, Pillow. The hub kills itself without goodbye when it
reaches a step, or is killed at any moment; another one goes on from there.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pymongo
import pytest

from hub.documents import DeadLetter, Entry, Job
from hub.planning.media import blobs_in
from hub.steps import STEPS
from hub.store.mongo import MongoStore
from hub.testing.samples.webhook import Push, signed_headers
from normalizer.parts import MEDIA_PARTS, Media, MediaState
from tests.media.vendor import FileVendor, file_vendor
from tests.support.processes import SECRET, HubProcess
from tests.support.scale import scaled
from tests.support.truth import routed, store_of

pytestmark = pytest.mark.xdist_group("faults")

STOPS = [step for step in STEPS if step.startswith(("media.", "jobs."))]
CYCLES = scaled(10, 200)
GIVEN_UP = "no attempt came to an end"
WITHIN_S = scaled(60.0, 1800.0)
SETTINGS = """
files_url = "{url}"
[hub.media]
timeout_s = 1.0
scan_timeout_s = 0.5
picture_timeout_s = 5.0
private_hosts = ["127.0.0.1"]
"""


@pytest.fixture
async def vendor() -> AsyncIterator[FileVendor]:
    async with file_vendor() as vendor:
        yield vendor


def a_hub(folder: Path, mongo_url: str, database: str, vendor: FileVendor) -> HubProcess:
    return HubProcess(
        folder,
        mongo_url,
        database,
        modules=("tests.media.connector", "tests.media.scanner"),
        more=SETTINGS.format(url=vendor.url),
    )


async def push(url: str, ident: str, *refs: str) -> bool:
    """Tell of a message with files; say whether it was acknowledged."""
    files = [{"kind": "image" if "photo" in ref else "file", "ref": ref} for ref in refs]
    now = time.time()
    body = msgspec.json.encode(
        Push(
            id=ident,
            sender=f"s{len(ident) % 3}",
            at=int(now * 1000),
            type="files",
            text=msgspec.json.encode(files).decode(),
        )
    )
    headers = signed_headers(SECRET.encode(), int(now), body)
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
            session.post(f"{url}/in/sample/main", data=body, headers=headers) as answer,
        ):
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def media_in(store: MongoStore) -> list[Media]:
    entries = await store.table(Entry).find({})
    return [
        part.media for entry in entries for part in entry.parts if isinstance(part, MEDIA_PARTS)
    ]


async def all_ended(store: MongoStore) -> list[Media]:
    """Return all media once none is pending and no job is left."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            await routed(store, WITHIN_S)
            media = await media_in(store)
            pending = any(each.state is MediaState.PENDING for each in media)
            if not pending and not await store.table(Job).count({"live": True}):
                return media
            await asyncio.sleep(0.1)


def assert_no_strays(mongo_url: str, database: str, media: list[Media]) -> None:
    """What is in the blob store is what entries name, whole, and nothing else."""
    named = sorted(blobs_in(msgspec.to_builtins(media)))
    with pymongo.MongoClient[dict[str, object]](mongo_url) as client:
        space = client[database]
        assert sorted(space["blobs.files"].distinct("_id")) == named
        assert sorted(space["blobs.chunks"].distinct("files_id")) == named


async def test_a_stop_at_any_step_forgets_no_file_and_leaves_no_stray(
    tmp_path: Path, mongod_url: str, mongo_db_name: str, vendor: FileVendor
) -> None:
    hub = a_hub(tmp_path, mongod_url, mongo_db_name, vendor)
    try:
        for number, step in enumerate(STOPS):
            await hub.start({"OMNILINE_STOP_AT": f"{step}:1"})
            assert await push(hub.url, f"m{number}", f"photo-{number}", f"file-{number}")
            assert await hub.died() == -9, f"the hub never reached {step}"
        await hub.start()
        async with store_of(mongod_url, mongo_db_name) as store:
            media = await all_ended(store)
            assert len(media) == 2 * len(STOPS)
            assert {each.state for each in media} == {MediaState.READY}
            assert await store.table(DeadLetter).count({}) == 0
        assert_no_strays(mongod_url, mongo_db_name, media)
        assert await hub.stop() == 0
    finally:
        await hub.close()


@pytest.mark.soak
@pytest.mark.timeout(scaled(240, 3600))
async def test_kills_at_any_moment_forget_no_file(
    tmp_path: Path, mongod_url: str, mongo_db_name: str, vendor: FileVendor
) -> None:
    chance = random.Random(7)
    kinds = ("photo", "file", "slow-file", "flaky-file", "cut-file", "gone-file")
    hub = a_hub(tmp_path, mongod_url, mongo_db_name, vendor)
    told: dict[str, list[str]] = {}
    try:
        for cycle in range(CYCLES):
            await hub.start()
            for number in range(3):
                ident = f"m{cycle}-{number}"
                refs = [f"{chance.choice(kinds)}-{ident}-{each}" for each in range(2)]
                if await push(hub.url, ident, *refs):
                    told[ident] = refs
            await asyncio.sleep(chance.uniform(0.0, 1.2))  # any moment: that is the test
            hub.kill()
            await hub.died()
        await hub.start()
        async with store_of(mongod_url, mongo_db_name) as store:
            media = await all_ended(store)
            letters = await store.table(DeadLetter).find({})
        # Whoever is killed at it a dozen times in a row is given up, and says so.
        assert all(GIVEN_UP in letter.reason for letter in letters), letters
        ends = {each.vendor_ref: each for each in media}
        given_up = 0
        for ref in (ref for refs in told.values() for ref in refs):
            assert ref in ends, f"{ref} is forgotten"
            if ends[ref].state is MediaState.READY:
                assert not ref.startswith("gone")
                continue
            assert ends[ref].state is MediaState.LOST, ends[ref]
            assert ends[ref].reason
            given_up += not ref.startswith("gone")
        assert given_up <= len(letters) <= CYCLES // 20
        assert_no_strays(mongod_url, mongo_db_name, media)
        assert await hub.stop() == 0
    finally:
        await hub.close()
