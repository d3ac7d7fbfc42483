"""Files of messages through a real hub: the message is there at once, each file ends somehow.

Real: hub, MongoDB, HTTP, Pillow. The vendor of the files is tests/media/vendor.py, which checks
the key that it is sent and misbehaves by the file's name.
"""

from __future__ import annotations

import io
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image as Picture

from hub.api.views import entry_view
from hub.console.lines import lines
from hub.documents import AmendmentDoc, Entry, FeedRow, Job
from hub.media.keeping import ROLES, blob_of, fitted_copy
from hub.testing.samples.webhook import Push
from normalizer.parts import MEDIA_PARTS, Image, Media, MediaState
from plugins.desk.documents import DeskEntry
from tests.media.pictures import bomb, noise, photo, with_archive
from tests.media.vendor import FileVendor, file_vendor
from tests.support.hubs import RunningHub, running_hub

SETTINGS = """
[hub.media]
timeout_s = 2.0
scan_timeout_s = 1.0
max_bytes = 1000000
private_hosts = ["127.0.0.1"]
"""
DESK = """
[[backends]]
type = "desk"
name = "desk"
"""


@pytest.fixture
async def vendor() -> AsyncIterator[FileVendor]:
    async with file_vendor() as vendor:
        yield vendor


@pytest.fixture
async def hub(
    mongo_url: str, mongo_db_name: str, tmp_path: Path, vendor: FileVendor
) -> AsyncIterator[RunningHub]:
    async with running_hub(
        mongo_url,
        mongo_db_name,
        tmp_path,
        hub={"plugin_modules": ["tests.media.connector", "tests.media.scanner"]},
        accounts=("main",),
        more=f'files_url = "{vendor.url}"\n{DESK}{SETTINGS}',
    ) as hub:
        yield hub


async def send(hub: RunningHub, ident: str, *parts: Any, sender: str = "ann", **more: str) -> str:
    """Let the vendor tell of a message with files; return its entry's id."""
    text = msgspec.json.encode(parts).decode()
    kind = more.pop("type", "files")
    at = int(time.time() * 1000)
    await hub.push(Push(id=ident, sender=sender, at=at, type=kind, text=text, **more))
    return hub.entry_id(ident, sender)


def media_of(entry: Entry) -> list[Media]:
    return [part.media for part in entry.parts if isinstance(part, MEDIA_PARTS)]


async def ended(hub: RunningHub, ident: str) -> list[Media]:
    """Return the media of an entry when none is pending any more."""

    async def look() -> list[Media] | None:
        entry = await hub.hub.store.table(Entry).get(ident)
        if entry is None or any(each.state is MediaState.PENDING for each in media_of(entry)):
            return None
        return media_of(entry)

    found: list[Media] = await hub.until(f"the files of {ident}", look)
    return found


async def no_jobs(hub: RunningHub) -> None:
    """Return when nothing is left to do, and no outcome is on its way that makes more of it."""
    jobs, inbox = hub.hub.store.table(Job), hub.hub.store.inbox

    async def look() -> bool:
        done = await jobs.count({"live": True}) == 0 and (await inbox.backlog())[0] == 0
        return done and await jobs.count({"live": True}) == 0

    await hub.until("all jobs to be done", look)


# --- what comes in -------------------------------------------------------------------------------


async def test_a_photo_is_stored_stripped_with_a_thumbnail_and_its_original(
    hub: RunningHub, vendor: FileVendor
) -> None:
    vendor.files["photo-1"] = (photo(orientation=6), "image/jpeg")
    ident = await send(hub, "m1", "看", {"kind": "image", "ref": "photo-1", "name": "../猫.jpg"})
    (media,) = await ended(hub, ident)
    assert (media.state, media.mime, media.name) == (MediaState.READY, "image/jpeg", "猫.jpg")
    assert (media.width, media.height) == (400, 640)
    assert (media.scan, media.reason, media.declared) == ("unscanned", "", "")
    assert media.thumb is not None
    assert media.original is not None
    for blob, size in ((media.blob, (400, 640)), (media.thumb.blob, (225, 360))):
        answered = await hub.call("GET", f"/api/v1/attachments/{blob}?entry={ident}")
        assert answered.status == 200
        assert answered.headers["Content-Type"] == "image/jpeg"
        shown = Picture.open(io.BytesIO(answered.body))
        assert not shown.getexif()
        assert shown.size == size
    answered = await hub.call("GET", f"/api/v1/attachments/{media.original.blob}")
    assert answered.body == vendor.files["photo-1"][0]
    assert "attachment" in answered.headers["Content-Disposition"]


async def test_a_message_is_there_while_its_file_is_still_being_fetched(
    hub: RunningHub, vendor: FileVendor
) -> None:
    ident = await send(hub, "m1", "text", {"ref": "held-file", "name": "a.txt"})
    entry = await hub.entry(ident)
    assert [each.state for each in media_of(entry)] == [MediaState.PENDING]
    shown = await hub.get(f"/api/v1/entries/{ident}")
    assert "held-file" not in str(shown)
    vendor.gate.set()
    (media,) = await ended(hub, ident)
    assert (media.state, media.mime) == (MediaState.READY, "text/plain")
    shown = await hub.get(f"/api/v1/entries/{ident}")
    assert "held-file" not in str(shown)
    assert shown["entry"]["parts"][1]["media"]["blob"] == media.blob
    rows = await hub.hub.store.table(FeedRow).find({"ref": ident}, sort=[("_id", 1)])
    assert [row.type for row in rows] == ["message.received", "message.media_changed"]


@pytest.mark.parametrize(
    ("ref", "state", "reason"),
    [
        ("gone-file", "lost", "the vendor no longer has the file"),
        ("forbidden-file", "rejected", "the vendor answered 451"),
        ("huge-file", "rejected", "too large"),
        ("program", "rejected", "application/vnd.microsoft.portable-executable"),
        ("file-infected", "rejected", "the scanner scanner found EICAR"),
    ],
)
async def test_a_file_that_is_not_taken_ends_with_its_reason(
    hub: RunningHub, ref: str, state: str, reason: str
) -> None:
    ident = await send(hub, "m1", {"ref": ref, "name": "a.pdf"})
    (media,) = await ended(hub, ident)
    assert media.state == state
    assert reason in media.reason
    assert media.blob is None
    assert media.name == "a.pdf"
    page = await hub.get(f"/api/v1/customers/{await hub.customer('ann')}/timeline")
    assert page["entries"][0]["parts"][0]["media"]["reason"] == media.reason


@pytest.mark.parametrize(
    ("ref", "asked"), [("busy-file", 2), ("flaky-file", 3), ("cut-file", 2), ("slow-file", 1)]
)
async def test_a_vendor_in_trouble_is_asked_again(
    hub: RunningHub, vendor: FileVendor, ref: str, asked: int
) -> None:
    ident = await send(hub, "m1", {"ref": ref})
    (media,) = await ended(hub, ident)
    assert media.state is MediaState.READY
    assert vendor.asked[ref] == asked
    answered = await hub.call("GET", f"/api/v1/attachments/{media.blob}")
    assert answered.body.decode().startswith(ref)
    assert len(answered.body) == media.size


async def test_a_vendor_that_never_answers_holds_up_nothing_else(
    hub: RunningHub, vendor: FileVendor
) -> None:
    for number in range(12):
        await send(hub, f"m{number}", {"ref": f"never-{number}"})
    began = time.monotonic()
    entry = await hub.message("and this?", ident="text")
    answered = await hub.post(
        f"/api/v1/customers/{await hub.customer('ann')}/replies",
        {"channel": "sample", "parts": [{"type": "text", "text": "yes"}]},
        once="r1",
    )
    assert answered.status == 202, answered

    async def sent() -> bool:
        return bool(hub.connector.sent)

    await hub.until("the answer to leave", sent)
    assert time.monotonic() - began < 2.0
    assert entry.position

    async def tried_again() -> bool:
        return vendor.asked["never-0"] >= 2

    await hub.until("another try", tried_again)


async def test_what_the_bytes_are_is_told_and_not_what_is_claimed(hub: RunningHub) -> None:
    ident = await send(hub, "m1", {"kind": "image", "ref": "lying"})
    (media,) = await ended(hub, ident)
    assert (media.mime, media.declared) == ("text/html", "image/jpeg")
    answered = await hub.call("GET", f"/api/v1/attachments/{media.blob}")
    assert "attachment" in answered.headers["Content-Disposition"]
    assert answered.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_picture_bomb_is_refused(hub: RunningHub, vendor: FileVendor) -> None:
    vendor.files["photo-b"] = (bomb(), "image/png")
    (media,) = await ended(hub, await send(hub, "m1", {"kind": "image", "ref": "photo-b"}))
    assert media.state is MediaState.REJECTED
    assert "million pixels" in media.reason


async def test_a_polyglots_original_is_not_kept(hub: RunningHub, vendor: FileVendor) -> None:
    vendor.files["photo-p"] = (with_archive(photo()), "image/jpeg")
    (media,) = await ended(hub, await send(hub, "m1", {"kind": "image", "ref": "photo-p"}))
    assert media.state is MediaState.READY
    assert media.original is None
    copy = await hub.hub.store.blobs.read(media.blob or "")
    assert b"PK\x05\x06" not in copy


async def test_a_damaged_picture_is_a_download_and_nothing_to_look_at(
    hub: RunningHub, vendor: FileVendor
) -> None:
    vendor.files["photo-d"] = (photo()[:900], "image/jpeg")
    (media,) = await ended(hub, await send(hub, "m1", {"kind": "image", "ref": "photo-d"}))
    assert (media.state, media.mime) == (MediaState.READY, "application/octet-stream")
    assert "damaged" in media.reason
    assert media.thumb is None


# --- scanners ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "scan", "reason"),
    [
        ("file-clean", "clean", ""),
        ("file", "unscanned", ""),
        ("file-breaks", "unscanned", "the scanner scanner did not answer"),
        ("file-odd", "unscanned", "the scanner scanner did not answer"),
    ],
)
async def test_a_file_shows_what_scanners_said(
    hub: RunningHub, ref: str, scan: str, reason: str
) -> None:
    (media,) = await ended(hub, await send(hub, "m1", {"ref": ref}))
    assert (media.state, media.scan, media.reason) == (MediaState.READY, scan, reason)


async def test_a_scanner_that_hangs_leaves_a_file_unscanned(hub: RunningHub) -> None:
    began = time.monotonic()
    (media,) = await ended(hub, await send(hub, "m1", {"ref": "file-hangs"}))
    assert (media.state, media.scan) == (MediaState.READY, "unscanned")
    assert "did not answer" in media.reason
    assert time.monotonic() - began < 8.0


async def test_where_scanning_is_required_a_file_waits_for_its_scanner(
    mongo_url: str, mongo_db_name: str, tmp_path: Path, vendor: FileVendor
) -> None:
    async with running_hub(
        mongo_url,
        mongo_db_name,
        tmp_path,
        hub={"plugin_modules": ["tests.media.connector", "tests.media.scanner"]},
        accounts=("main",),
        more=f'files_url = "{vendor.url}"\n{SETTINGS}scan_required = true\n',
    ) as hub:
        vendor.files["doubtful"] = (b"the scanner breaks at this", "text/plain")
        ident = await send(hub, "m1", {"ref": "doubtful"})
        fine = await send(hub, "m2", {"ref": "file-clean"})
        (media,) = await ended(hub, fine)
        assert (media.state, media.scan) == (MediaState.READY, "clean")

        async def asked() -> bool:
            return vendor.asked["doubtful"] >= 2

        await hub.until("another try", asked)
        assert media_of(await hub.entry(ident))[0].state is MediaState.PENDING
        vendor.files["doubtful"] = (b"by now it is clean", "text/plain")
        (media,) = await ended(hub, ident)
        assert (media.state, media.scan) == (MediaState.READY, "clean")


# --- stopping ------------------------------------------------------------------------------------


async def test_a_hub_that_stops_does_not_wait_for_a_vendor_and_goes_on_after_its_start(
    mongo_url: str, mongo_db_name: str, tmp_path: Path, vendor: FileVendor
) -> None:
    text = f'files_url = "{vendor.url}"\n{SETTINGS.replace("2.0", "60.0")}'
    options: dict[str, Any] = {
        "hub": {"plugin_modules": ["tests.media.connector"]},
        "accounts": ("main",),
        "more": text,
    }
    async with running_hub(mongo_url, mongo_db_name, tmp_path, **options) as hub:
        ident = await send(hub, "m1", {"ref": "held-file"})

        async def asked() -> bool:
            return vendor.asked["held-file"] > 0

        await hub.until("the download to begin", asked)
        stops = time.monotonic()
    assert time.monotonic() - stops < 10.0
    vendor.gate.set()
    async with running_hub(mongo_url, mongo_db_name, tmp_path, **options) as hub:
        (media,) = await ended(hub, ident)
        assert media.state is MediaState.READY


# --- stored by a connector -----------------------------------------------------------------------


async def test_a_file_that_a_connector_stored_is_checked_and_its_raw_blob_goes(
    hub: RunningHub,
) -> None:
    raw = await hub.hub.store.blobs.put(photo(), metadata={"mime": "image/jpeg"})
    ident = await send(hub, "m1", {"kind": "image", "blob": raw, "name": "a.jpg"})
    (media,) = await ended(hub, ident)
    assert media.state is MediaState.READY
    assert media.blob != raw
    await no_jobs(hub)
    assert await hub.hub.store.blobs.metadata(raw) is None
    assert media.thumb is not None


async def test_an_unchecked_blob_is_in_no_view(hub: RunningHub, vendor: FileVendor) -> None:
    raw = await hub.hub.store.blobs.put(b"file-blocks" + b" x" * 99, metadata={})
    ident = await send(hub, "m1", {"blob": raw, "name": "file-blocks"})
    entry = await hub.entry(ident)
    if media_of(entry)[0].state is MediaState.PENDING:
        assert raw not in str(await hub.get(f"/api/v1/entries/{ident}"))
    (media,) = await ended(hub, ident)
    assert raw not in str(await hub.get(f"/api/v1/entries/{ident}"))
    assert media.state is MediaState.READY


async def test_a_repeated_message_with_the_bytes_stored_again_leaves_no_second_copy(
    hub: RunningHub,
) -> None:
    first = await hub.hub.store.blobs.put(b"the contract", metadata={})
    again = await hub.hub.store.blobs.put(b"the contract", metadata={})
    ident = await send(hub, "m1", {"blob": first})
    (media,) = await ended(hub, ident)
    await send(hub, "m1", {"blob": again})

    async def gone() -> bool:
        return await hub.hub.store.blobs.metadata(again) is None

    await hub.until("the second copy to go", gone)
    assert await hub.hub.store.blobs.read(media.blob or "") == b"the contract"


# --- order ---------------------------------------------------------------------------------------


async def test_a_result_that_comes_after_an_edit_finds_its_file_where_it_is_now(
    hub: RunningHub, vendor: FileVendor
) -> None:
    ident = await send(hub, "m1", {"ref": "held-1"})
    await hub.entry(ident)
    await send(hub, "e1", "first", "second", {"ref": "held-1"}, type="edit", ref="m1")

    async def edited() -> bool:
        return len((await hub.entry(ident)).parts) == 3

    await hub.until("the edit", edited)
    vendor.gate.set()
    (media,) = await ended(hub, ident)
    assert media.state is MediaState.READY
    assert vendor.asked["held-1"] == 1


async def test_a_file_that_an_edit_brings_is_fetched_and_the_other_one_does_not_come_back(
    hub: RunningHub, vendor: FileVendor
) -> None:
    ident = await send(hub, "m1", {"ref": "file-old"})
    (old,) = await ended(hub, ident)
    await send(hub, "e1", {"ref": "file-new"}, type="edit", ref="m1")

    async def fetched() -> bool:
        media = media_of(await hub.entry(ident))
        return media[0].vendor_ref == "file-new" and media[0].state is MediaState.READY

    await hub.until("the new file", fetched)
    (new,) = media_of(await hub.entry(ident))
    assert new.blob != old.blob
    assert vendor.asked["file-new"] == 1


async def test_a_result_that_comes_after_a_recall_brings_nothing_back(
    hub: RunningHub, vendor: FileVendor
) -> None:
    ident = await send(hub, "m1", {"ref": "held-1"})
    await hub.entry(ident)
    await send(hub, "r1", type="recall", ref="m1")

    async def recalled() -> bool:
        return (await hub.entry(ident)).recalled

    await hub.until("the recall", recalled)
    vendor.gate.set()
    await no_jobs(hub)
    assert (await hub.entry(ident)).parts == ()


async def test_an_erasure_while_a_download_runs_leaves_nothing(
    hub: RunningHub, vendor: FileVendor
) -> None:
    ident = await send(hub, "m1", {"kind": "image", "ref": "held-photo"})
    await hub.entry(ident)

    async def asked() -> bool:
        return vendor.asked["held-photo"] > 0

    await hub.until("the download to begin", asked)
    customer = await hub.customer("ann")
    answered = await hub.call("DELETE", f"/api/v1/customers/{customer}", once="erase")
    assert answered.status in (200, 202), answered

    async def erased() -> bool:
        return (await hub.entry(ident)).erased

    await hub.until("the erasure", erased)
    vendor.gate.set()
    await no_jobs(hub)
    jobs = await hub.hub.store.table(Job).find({"kind": "media"})
    assert len(jobs) == 1
    for role in ROLES:
        assert await hub.hub.store.blobs.metadata(blob_of(jobs[0], 1, role)) is None
    for amendment in await hub.hub.store.table(AmendmentDoc).find({"target": ident}):
        assert amendment.data == {}


# --- tickets, feed, console ----------------------------------------------------------------------


async def test_a_ticket_has_the_message_at_once_and_one_note_when_its_files_have_ended(
    hub: RunningHub, vendor: FileVendor
) -> None:
    ident = await send(
        hub, "m1", "two files", {"ref": "held-1", "name": "a.txt"}, {"ref": "gone-2", "name": "b"}
    )
    entries = hub.hub.store.table(DeskEntry)

    async def told() -> list[DeskEntry]:
        return await entries.find({})

    (first,) = await hub.until("the message on its ticket", told)
    assert first.key == ident
    vendor.gate.set()
    await ended(hub, ident)
    await no_jobs(hub)
    notes = [each for each in await entries.find({}) if each.key != ident]
    assert len(notes) == 1
    assert "a.txt: text/plain" in notes[0].text
    assert "b could not be fetched: the vendor no longer has the file" in notes[0].text


async def test_the_feed_gives_links_for_copies_and_thumbnails(hub: RunningHub) -> None:
    ident = await send(hub, "m1", {"kind": "image", "ref": "photo"})
    (media,) = await ended(hub, ident)
    assert media.thumb is not None
    page = await hub.get("/feed/v1/events")
    changed = [each for each in page["events"] if each["type"].endswith("media_changed.v1")]
    shown = changed[-1]["data"]["entry"]["parts"][0]["media"]
    assert media.thumb.blob in shown["thumb"]["url"]
    assert (media.blob or "") in shown["url"]
    assert "vendor_ref" not in str(changed)
    answered = await hub.call("GET", shown["thumb"]["url"].removeprefix(hub.hub.web.public_url))
    assert answered.status == 200


async def test_the_page_shows_a_thumbnail_that_leads_to_the_picture(
    hub: RunningHub, vendor: FileVendor
) -> None:
    vendor.files["photo-d"] = (photo()[:900], "image/jpeg")
    ident = await send(
        hub,
        "m1",
        {"kind": "image", "ref": "photo", "name": "cat.jpg"},
        {"kind": "image", "ref": "photo-d", "name": "torn.jpg"},
        {"ref": "gone-3", "name": "old.pdf"},
    )
    good, torn, _ = await ended(hub, ident)
    (line,) = lines([entry_view(await hub.entry(ident))], [], "", "", whole=True)
    blocks = line.blocks
    assert good.thumb is not None
    assert (blocks[0].kind, blocks[0].text) == ("image", "cat.jpg")
    assert good.thumb.blob in blocks[0].thumb
    assert (good.blob or "?") in blocks[0].url
    assert (blocks[1].kind, blocks[1].thumb) == ("link", "")
    assert (torn.blob or "?") in blocks[1].url
    told = [block.text for block in blocks if block.kind == "hint"]
    assert any("torn.jpg: no preview" in text for text in told)
    assert any("old.pdf could not be fetched: the vendor no longer" in text for text in told)


async def test_the_changes_of_an_entry_do_not_show_the_vendors_reference(hub: RunningHub) -> None:
    ident = await send(hub, "m1", {"ref": "file-with-a-token"})
    await ended(hub, ident)
    shown = await hub.get(f"/api/v1/entries/{ident}")
    assert [change["kind"] for change in shown["changes"]] == ["media"]
    assert "file-with-a-token" not in str(shown)


# --- going out -----------------------------------------------------------------------------------


async def test_an_answer_with_a_large_picture_leaves_with_a_smaller_copy(hub: RunningHub) -> None:
    await hub.message("a picture, please")
    source = noise((900, 700))
    uploaded = await hub.call("POST", "/api/v1/attachments?name=big.png", data=source, once="u1")
    assert uploaded.status == 201, uploaded
    blob = uploaded.json["id"]
    answered = await hub.post(
        f"/api/v1/customers/{await hub.customer('ann')}/replies",
        {"channel": "sample", "parts": [{"type": "image", "media": {"blob": blob}}]},
        once="r1",
    )
    assert answered.status == 202, answered

    async def sent() -> bool:
        return bool(hub.connector.sent)

    await hub.until("the answer to leave", sent)
    (part,) = hub.connector.sent[0].parts
    assert isinstance(part, Image)
    assert part.media.blob == fitted_copy(blob)
    assert await hub.hub.store.blobs.read(blob) == source
    entry = await hub.entry(answered.json["entry"]["id"])
    assert media_of(entry)[0].blob == blob


async def test_an_answer_with_a_file_that_cannot_fit_fails_with_the_reason(hub: RunningHub) -> None:
    await hub.message("a picture, please")
    damaged = noise((900, 700), "JPEG")[:90_000]  # over the channel's limit, so it is opened
    # As a hub keeps it whose operator lets pictures leave as they are (media.send_uncleaned).
    known = {"kind": "attachment", "checked": "as_it_is", "mime": "image/jpeg"}
    blob = await hub.hub.store.blobs.put(damaged, metadata={**known, "size": len(damaged)})
    answered = await hub.post(
        f"/api/v1/customers/{await hub.customer('ann')}/replies",
        {"channel": "sample", "parts": [{"type": "image", "media": {"blob": blob}}]},
        once="r1",
    )
    assert answered.status == 202, answered

    async def failed() -> bool:
        entry = await hub.entry(answered.json["entry"]["id"])
        return entry.delivery is not None and entry.delivery.state == "failed"

    await hub.until("the answer to fail", failed)
    entry = await hub.entry(answered.json["entry"]["id"])
    assert entry.delivery is not None
    assert "damaged" in entry.delivery.reason
    assert hub.connector.sent == []
