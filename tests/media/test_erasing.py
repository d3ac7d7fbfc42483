"""Erasing a customer leaves no file of theirs, whatever was going on, and nobody else loses one.

Real: hub, MongoDB, HTTP, Pillow; for single steps the parts themselves over the in-memory store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from hub.documents import CORE, AddressDoc, Entry, InboxItem, Job, StrayBlob
from hub.ids import SpaceKey
from hub.intake import RAW_INLINE_BYTES
from hub.media.fitting import Fitter
from hub.media.keeping import fitted_copy
from hub.media.pictures import Pictures, Shape
from hub.planning.rules import Route, Rules
from hub.preparing import Preparer, encode_drafts
from hub.router import Router
from hub.store.memory import MemoryStore
from hub.store.mongo import MongoBlobs
from hub.strays import COPY_LOOK, Strays
from hub.testing.clock import START, FakeClock
from hub.testing.samples.webhook import Push
from normalizer.addresses import Address, canonical
from normalizer.capabilities import Capabilities
from normalizer.drafts import DeliveryState, Message
from normalizer.outcomes import Rejected
from normalizer.parts import Image, Media, MediaState, Text
from tests.media.pictures import noise
from tests.media.test_media import ended, no_jobs, send
from tests.media.vendor import FileVendor, file_vendor
from tests.support.hubs import RunningHub, running_hub

WITHIN_S = 30.0


@pytest.fixture
async def vendor() -> AsyncIterator[FileVendor]:
    async with file_vendor() as vendor:
        yield vendor


async def all_blobs(hub: RunningHub) -> set[str]:
    blobs = hub.hub.store.blobs
    assert isinstance(blobs, MongoBlobs)
    return {str(each.id) for each in await blobs._bucket.find({})}


async def answered(hub: RunningHub, sender: str, upload: str) -> Entry:
    """Answer with an uploaded picture, and return the answer once the vendor has it."""
    made = await hub.post(
        f"/api/v1/customers/{await hub.customer(sender)}/replies",
        {"parts": [{"type": "image", "media": {"blob": upload}}]},
        once=f"to-{sender}",
    )
    assert made.status == 202, made

    async def left() -> Entry | None:
        entry = await hub.hub.store.table(Entry).get(made.json["entry_id"])
        done = entry is not None and entry.delivery is not None
        if not done or entry.delivery.state is not DeliveryState.ACCEPTED:  # type: ignore[union-attr]
            return None
        return entry

    entry: Entry = await hub.until(f"the answer to {sender}", left)
    return entry


async def test_an_erasure_leaves_no_blob_of_a_person_and_takes_nobody_elses(
    mongo_url: str, mongo_db_name: str, tmp_path: Path, vendor: FileVendor
) -> None:
    """Original, copy, thumbnail, a large raw request, the upload of an answer, its smaller copy.

    One upload was sent to two people: each has a file of their own.
    """
    more = f'files_url = "{vendor.url}"\n[hub.media]\nprivate_hosts = ["127.0.0.1"]\n'
    async with running_hub(
        mongo_url,
        mongo_db_name,
        tmp_path,
        hub={"plugin_modules": ["tests.media.connector"]},
        accounts=("main",),
        more=more,
    ) as hub:
        (theirs,) = await ended(hub, await send(hub, "m1", {"kind": "image", "ref": "photo"}))
        (others,) = await ended(
            hub, await send(hub, "m2", {"kind": "image", "ref": "photo"}, sender="bob")
        )
        push = Push(id="m3", sender="ann", at=1, type="text", text="")
        room = RAW_INLINE_BYTES - len(repr(push)) - 20
        await hub.push(Push(id="m3", sender="ann", at=1, type="text", text="x" * room))
        entry = await hub.entry(hub.entry_id("m3", "ann"))
        item = await hub.hub.store.table(InboxItem).get(entry.source)
        assert item is not None
        assert item.raw_blob is not None
        made = await hub.call("POST", "/api/v1/attachments", data=noise((500, 400)))
        upload = made.json["id"]
        sent = {name: await answered(hub, name, upload) for name in ("ann", "bob")}
        blobs = {name: one.parts[0].media.blob for name, one in sent.items()}  # type: ignore[union-attr]
        assert blobs["ann"] == upload
        assert blobs["bob"] != upload
        await no_jobs(hub)
        before = await all_blobs(hub)
        assert {item.raw_blob, upload, fitted_copy(upload), str(theirs.blob)} <= before

        customer = await hub.customer("ann")
        await hub.call("DELETE", f"/api/v1/customers/{customer}", once="erase")

        async def erased() -> bool:
            return (await hub.entry(sent["ann"].id)).erased

        await hub.until("the erasure", erased)
        await no_jobs(hub)
        bobs = str(blobs["bob"])
        assert others.thumb is not None
        assert others.original is not None
        files = {others.blob, others.thumb.blob, others.original.blob}
        assert await all_blobs(hub) == {*files, bobs, fitted_copy(bobs)}
        again = await hub.post(
            f"/api/v1/customers/{await hub.customer('bob')}/replies",
            {"parts": [{"type": "image", "media": {"blob": upload}}]},
        )
        assert (again.status, again.problem) == (422, "bad-request")
        rows = {row.id for row in await hub.hub.store.table(StrayBlob).find({})}
        assert rows == {bobs, fitted_copy(bobs)}


# --- between two steps ---------------------------------------------------------------------------


async def test_a_copy_that_is_made_while_its_source_is_erased_goes_as_well(
    tmp_path: Path,
) -> None:
    """The cleaner looked for the copy before it was there; and the process may die right then."""
    store, clock = MemoryStore(), FakeClock()
    blob = await store.blobs.put(b"x" * 999)

    class Erased(Pictures):
        async def shrunk(self, file: BinaryIO, into: BinaryIO, **_: Any) -> Shape:
            into.write(b"small")
            await store.blobs.delete(blob)
            await store.blobs.delete(fitted_copy(blob))
            return Shape(mime="image/jpeg", width=1, height=1)

    pictures = Erased(tmp_path, seconds=5, max_pixels=1000)
    fitter = Fitter(store.blobs, pictures, tmp_path, Strays(store, clock))
    media = Media(blob=blob, mime="image/png", size=999, state=MediaState.READY)
    with pytest.raises(Rejected, match="erased while"):
        await fitter.fit((Image(media=media),), Capabilities(max_media_bytes=10), "pigeon")
    assert store.blobs._blobs == {}
    (row,) = await store.table(StrayBlob).find({})
    assert (row.id, row.source, row.due_at) == (fitted_copy(blob), blob, START + COPY_LOOK)


async def nowhere(batch: Any) -> list[Route | None]:
    return [None for _ in batch]


async def test_the_raw_request_of_a_message_that_comes_too_late_goes(tmp_path: Path) -> None:
    """Its sender was erased while it waited in a spool: nothing readable is kept of it."""
    store, clock, key = MemoryStore(), FakeClock(), SpaceKey(b"k" * 32)
    await store.prepare(CORE)
    ann = Address(scheme="chat", account="main", kind="user", id="ann")
    address = AddressDoc(
        id=key.hashed("adr", canonical(ann)),
        scheme="chat",
        erased=True,
        erased_up_to=START + timedelta(hours=1),
    )
    await store.table(AddressDoc).put([address])
    draft = Message(key="m1", address=ann, parts=(Text(text="hello"),))
    late = InboxItem(
        id="in_1",
        channel="chat",
        account="main",
        received_at=START,
        door="webhook",
        drafts=encode_drafts([draft]),
        raw_blob="blb_raw",
        open=True,
    )
    await store.inbox.put([late])
    preparer = Preparer("CN")
    router = Router(
        store,
        preparer,
        lambda: Rules(key=key, now=START, capabilities=lambda channel: Capabilities()),
        nowhere,
        clock,
        owner="test",
    )
    task = asyncio.create_task(router.run())
    async with asyncio.timeout(WITHIN_S):
        while (await store.inbox.backlog())[0]:
            await asyncio.sleep(0.005)
    router.stop()
    await task
    preparer.close()
    (job,) = await store.table(Job).find({"kind": "erase"})
    assert (job.task, job.args) == ("blobs", {"blobs": ["blb_raw"]})
    kept = await store.table(InboxItem).get("in_1")
    assert kept is not None
    assert (kept.raw_blob, kept.drafts) == (None, b"")
