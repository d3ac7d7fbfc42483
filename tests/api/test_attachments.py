"""Attachments over HTTP: what is uploaded, who may read it, and how it is handed out."""

from __future__ import annotations

from hashlib import sha256
from io import BytesIO
from typing import Any

import pytest
from msgspec.structs import replace
from PIL import Image

from hub.api.attachments import AT_ONCE_BYTES, MAX_BYTES, Attachments
from hub.api.keys import ApiKey
from hub.api.parts import ImageInput, MediaInput, command_parts
from hub.api.people import People
from hub.api.uploads import Uploads
from hub.documents import Entry
from hub.inbox_writer import Overloaded
from hub.media.sniffing import sniff
from hub.signed_links import link_signature
from normalizer.parts import File, Media
from tests.media.pictures import photo
from tests.support.hubs import Answered, RunningHub

PDF = b"%PDF-1.7 " + b"\0" * 40
NO_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0" * 40
PAGE = b"<html><script>alert(1)</script></html>"


async def upload(api: RunningHub, data: bytes, name: str = "", **more: Any) -> Answered:
    return await api.call(
        "POST", "/api/v1/attachments", data=data, params={"name": name} if name else {}, **more
    )


async def test_what_is_uploaded_is_what_its_bytes_are(api: RunningHub) -> None:
    made = await upload(api, PDF, "../../etc/发票.png", headers={"Content-Type": "image/png"})
    assert made.status == 201, made
    told = made.json
    assert (told["mime"], told["name"], told["size"]) == ("application/pdf", "发票.png", len(PDF))
    read = await api.call("GET", made.headers["Location"])
    assert read.body == PDF
    assert read.headers["Content-Type"] == "application/pdf"
    assert read.headers["Content-Disposition"].startswith("attachment; filename*=UTF-8''%E5%8F%91")
    assert read.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in read.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (NO_PNG, "image/png"),
        (b"%PDF-1.7 ...", "application/pdf"),
        (PAGE, "text/html"),
        ("你好".encode(), "text/plain"),
        (b"\0\1\2\xff", "application/octet-stream"),
    ],
)
def test_types_are_told_from_the_bytes(data: bytes, mime: str) -> None:
    assert sniff(data) == mime


async def test_a_pages_script_is_a_download_and_runs_nowhere(api: RunningHub) -> None:
    made = await upload(api, PAGE, "a.html")
    read = await api.call("GET", made.headers["Location"])
    assert read.headers["Content-Disposition"].startswith("attachment")
    assert read.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"


async def test_an_upload_is_repeated_under_its_key(api: RunningHub) -> None:
    first = await upload(api, PDF, "a.pdf", once="u1")
    again = await upload(api, PDF, "a.pdf", once="u1")
    assert again.json == first.json
    other = await upload(api, b"other", "a.pdf", once="u1")
    assert (other.status, other.problem) == (409, "idempotency-conflict")


async def test_what_is_too_large_or_empty_is_refused(api: RunningHub) -> None:
    large = await upload(api, b"\0" * (MAX_BYTES + 1))
    assert (large.status, large.problem) == (413, "too-large")
    empty = await upload(api, b"")
    assert (empty.status, empty.problem) == (422, "bad-request")
    assert (await upload(api, b"\0" * MAX_BYTES)).status == 201


async def test_too_many_uploads_at_once_have_to_come_again(api: RunningHub) -> None:
    attachments = Attachments(api.hub, People(api.hub.store), Uploads(api.hub))
    rooms = [attachments._room(MAX_BYTES) for _ in range(AT_ONCE_BYTES // MAX_BYTES)]
    for room in rooms:
        room.__enter__()
    with pytest.raises(Overloaded), attachments._room(1):
        pass
    for room in rooms:
        room.__exit__(None, None, None)
    with attachments._room(1):
        pass


async def test_a_link_needs_no_key_until_it_expires(api: RunningHub) -> None:
    made = await upload(api, PDF, "a.pdf")
    linked = await api.post(f"{made.headers['Location']}/links", {"minutes": 5})
    assert linked.status == 201, linked
    path = linked.json["url"].removeprefix(api.hub.url)
    assert (await api.call("GET", path, key="")).body == PDF
    later = path.replace("expires=", "expires=9")
    forged = await api.call("GET", later, key="")
    assert (forged.status, forged.problem) == (404, "not-found")
    assert (await api.call("GET", made.headers["Location"], key="")).status == 401


async def test_an_old_link_is_told_so(api: RunningHub) -> None:
    made = await upload(api, PDF)
    ident = made.json["id"]
    signature = link_signature(api.hub.key, ident, 1000)
    path = f"/api/v1/attachments/{ident}/signed?expires=1000&signature={signature}"
    answered = await api.call("GET", path, key="")
    assert (answered.status, answered.problem) == (410, "cursor-expired")


async def test_a_limited_key_reads_its_own_uploads_and_its_entries_attachments(
    api: RunningHub,
) -> None:
    theirs = (await upload(api, PDF)).json["id"]
    entry = await api.message("see the picture")
    table = api.hub.store.table(Entry)
    part = File(media=Media(blob=theirs, mime="application/pdf"))
    await table.put([replace(entry, parts=(part,))])
    key = await api.make_key("admin", accounts=["sample:main"])
    path = f"/api/v1/attachments/{theirs}"
    assert (await api.call("GET", path, key=key)).status == 404
    named = await api.call("GET", path, key=key, params={"entry": entry.id})
    assert named.body == PDF
    stranger = await api.make_key("admin", accounts=["sample:second"])
    foreign = await api.call("GET", path, key=stranger, params={"entry": entry.id})
    assert foreign.status == 404
    own = await upload(api, PDF, key=key)
    assert (await api.call("GET", own.headers["Location"], key=key)).body == PDF
    assert (await api.call("GET", own.headers["Location"], key=stranger)).status == 404


async def test_a_vendors_raw_request_is_no_attachment(api: RunningHub) -> None:
    blob = await api.hub.store.blobs.put(b"raw", metadata={"kind": "raw", "item": "in_1"})
    assert (await api.call("GET", f"/api/v1/attachments/{blob}")).status == 404
    await api.message("hello")
    customer = await api.customer("ann")
    body = {"parts": [{"type": "file", "media": {"blob": blob}}]}
    refused = await api.post(f"/api/v1/customers/{customer}/replies", body)
    assert (refused.status, refused.problem) == (422, "bad-request")


async def test_a_picture_is_stored_as_it_may_leave(api: RunningHub) -> None:
    """Upright and without metadata, in every message that names it; what cannot be is refused."""
    made = await upload(api, photo(orientation=6), "a.jpg", once="p1")
    again = await upload(api, photo(orientation=6), "a.jpg", once="p1")
    assert again.json == made.json
    stored = (await api.call("GET", made.headers["Location"])).body
    assert (made.json["size"], made.json["sha256"]) == (len(stored), sha256(stored).hexdigest())
    assert not Image.open(BytesIO(stored)).getexif()
    damaged = await upload(api, NO_PNG)
    assert (damaged.status, damaged.problem) == (422, "bad-request")
    assert "damaged" in damaged.json["detail"]

    # What a release before this one stored is freed of its metadata when it is named.
    known = {"kind": "attachment", "by": "key_1", "name": "b.jpg", "mime": "image/jpeg"}
    old = await api.hub.store.blobs.put(photo(), metadata=known)
    caller = ApiKey(id="key_1", name="k", scopes=frozenset())
    parts = [ImageInput(media=MediaInput(blob=blob)) for blob in (made.json["id"], old, old)]
    named = await command_parts([*parts], Uploads(api.hub), caller, "r1")
    told = [each["media"] for each in named]
    assert told[0]["blob"] == made.json["id"]
    assert told[1] == told[2]
    assert [(media["width"], media["height"]) for media in told[:2]] == [(400, 640), (640, 400)]
    assert told[1]["blob"] != old
    copy = await api.hub.store.blobs.read(told[1]["blob"])
    assert not Image.open(BytesIO(copy)).getexif()
