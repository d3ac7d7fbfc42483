"""An upload is one message's: others get copies, and one that no message names is swept.

The store is the in-memory twin; no picture is opened here.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from hub.api.keys import ApiKey
from hub.api.uploads import Uploads
from hub.config import HubSettings
from hub.documents import Operation
from hub.ids import SpaceKey
from hub.metrics import Metrics
from hub.planning.commands import operation_id
from hub.planning.rules import Refusal
from hub.store.memory import MemoryStore
from hub.sweeping import Sweeper
from hub.testing.clock import FakeClock

CALLER = ApiKey(id="key_1", name="shop", scopes=frozenset())
PDF = b"%PDF-1.7 a price list"
DAY = 86_400


class World:
    def __init__(self, folder: Path) -> None:
        self.settings = HubSettings(data_dir=folder)
        self.key = SpaceKey(b"k" * 32)
        self.clock = FakeClock()
        self.store = MemoryStore()
        self.uploads = Uploads(cast(Any, self))

    async def uploaded(self) -> str:
        blob, _ = await self.uploads.keep(CALLER, f"up-{self.clock.now()}", PDF, "prices.pdf")
        return blob

    async def named(self, blob: str, key: str) -> str:
        ready, known = await self.uploads.named(CALLER, blob, key)
        assert (known["mime"], known["name"]) == ("application/pdf", "prices.pdf")
        assert await self.store.blobs.read(ready) == PDF
        return ready


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("release", ["this", "one before"])
async def test_each_request_that_names_an_upload_has_bytes_of_its_own(
    world: World, release: str
) -> None:
    """The first has the upload, others copies; repeated under its key, a request has the same."""
    upload = await world.uploaded()
    if release == "one before":  # it wrote no row, and did not say that it looked at the file
        known = dict(await world.store.blobs.metadata(upload) or {})
        del known["checked"]
        upload = await world.store.blobs.put(PDF, metadata=known)
    first, second = await asyncio.gather(world.named(upload, "r1"), world.named(upload, "r2"))
    assert upload in (first, second)
    assert first != second
    assert [await world.named(upload, key) for key in ("r1", "r2")] == [first, second]
    third = await world.named(upload, "r3")
    await world.store.blobs.delete(upload)  # the customer of the first was erased
    assert await world.store.blobs.read(third) == PDF
    with pytest.raises(Refusal, match="upload it first"):
        await world.uploads.named(CALLER, upload, "r4")


async def test_a_request_that_was_refused_leaves_its_upload_to_the_next(world: World) -> None:
    upload = await world.uploaded()
    await world.named(upload, "refused")
    await world.uploads.not_named(CALLER, [upload], "refused")
    assert await world.named(upload, "again") == upload
    await world.uploads.not_named(CALLER, [upload], "refused")  # it is no longer its to give
    assert await world.named(upload, "third") != upload


@pytest.mark.parametrize(("state", "stays"), [("done", True), ("refused", False), ("", True)])
async def test_an_upload_of_a_request_that_was_refused_later_is_swept_in_the_end(
    world: World, state: str, stays: bool
) -> None:
    """As when the customer was erased in between. What nobody knows the end of stays."""
    upload = await world.uploaded()
    copy = [await world.named(upload, key) for key in ("other", "asked")][1]
    if state:
        operation = operation_id(world.key, "api|key_1|asked")
        told = Operation(
            id=operation, name="reply", state=state, at=world.clock.now(), digest="", status=200
        )
        await world.store.table(Operation).put([told])
    sweeper = Sweeper(world.store, world.clock, Metrics())
    for _ in range(70):
        await sweeper.sweep()
        world.clock.advance(DAY)
    assert (await world.store.blobs.metadata(copy) is not None) is stays
    assert await world.store.blobs.metadata(upload) is not None


async def test_an_upload_that_no_message_names_is_swept(world: World) -> None:
    """After the days of the setting; one that was named, and its copies, stay."""
    named, unsent = await world.uploaded(), ""
    copies = [await world.named(named, key) for key in ("r1", "r2")]
    world.clock.advance(29 * DAY)
    unsent = await world.uploaded()
    sweeper = Sweeper(world.store, world.clock, Metrics())
    world.clock.advance(29 * DAY)
    assert not await sweeper.sweep()
    world.clock.advance(2 * DAY)
    assert await sweeper.sweep() == {"unnamed": 1}
    assert sorted(world.store.blobs._blobs) == sorted(copies)
    with pytest.raises(Refusal, match="upload it first"):
        await world.uploads.named(CALLER, unsent, "late")
