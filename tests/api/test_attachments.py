"""Attachments over HTTP: what is uploaded, who may read it, and how it is handed out."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from hub.api.attachments import AT_ONCE_BYTES, MAX_BYTES, Attachments, sniff
from hub.api.people import People
from hub.documents import Entry
from hub.inbox_writer import Overloaded
from hub.signed_links import link_signature
from normalizer.parts import File, Media
from tests.support.hubs import Answered, RunningHub

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0" * 40
PAGE = b"<html><script>alert(1)</script></html>"


async def upload(api: RunningHub, data: bytes, name: str = "", **more: Any) -> Answered:
    return await api.call(
        "POST", "/api/v1/attachments", data=data, params={"name": name} if name else {}, **more
    )


async def test_what_is_uploaded_is_what_its_bytes_are(api: RunningHub) -> None:
    made = await upload(api, PNG, "../../etc/发票.pdf", headers={"Content-Type": "application/pdf"})
    assert made.status == 201, made
    told = made.json
    assert (told["mime"], told["name"], told["size"]) == ("image/png", "发票.pdf", len(PNG))
    read = await api.call("GET", made.headers["Location"])
    assert read.body == PNG
    assert read.headers["Content-Type"] == "image/png"
    assert read.headers["Content-Disposition"].startswith("attachment; filename*=UTF-8''%E5%8F%91")
    assert read.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in read.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (PNG, "image/png"),
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
    first = await upload(api, PNG, "a.png", once="u1")
    again = await upload(api, PNG, "a.png", once="u1")
    assert again.json == first.json
    other = await upload(api, b"other", "a.png", once="u1")
    assert (other.status, other.problem) == (409, "idempotency-conflict")


async def test_what_is_too_large_or_empty_is_refused(api: RunningHub) -> None:
    large = await upload(api, b"\0" * (MAX_BYTES + 1))
    assert (large.status, large.problem) == (413, "too-large")
    empty = await upload(api, b"")
    assert (empty.status, empty.problem) == (422, "bad-request")
    assert (await upload(api, b"\0" * MAX_BYTES)).status == 201


async def test_too_many_uploads_at_once_have_to_come_again(api: RunningHub) -> None:
    attachments = Attachments(api.hub, People(api.hub.store))
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
    made = await upload(api, PNG, "a.png")
    linked = await api.post(f"{made.headers['Location']}/links", {"minutes": 5})
    assert linked.status == 201, linked
    path = linked.json["url"].removeprefix(api.hub.url)
    assert (await api.call("GET", path, key="")).body == PNG
    later = path.replace("expires=", "expires=9")
    forged = await api.call("GET", later, key="")
    assert (forged.status, forged.problem) == (404, "not-found")
    assert (await api.call("GET", made.headers["Location"], key="")).status == 401


async def test_an_old_link_is_told_so(api: RunningHub) -> None:
    made = await upload(api, PNG)
    ident = made.json["id"]
    signature = link_signature(api.hub.key, ident, 1000)
    path = f"/api/v1/attachments/{ident}/signed?expires=1000&signature={signature}"
    answered = await api.call("GET", path, key="")
    assert (answered.status, answered.problem) == (410, "cursor-expired")


async def test_a_limited_key_reads_its_own_uploads_and_its_entries_attachments(
    api: RunningHub,
) -> None:
    theirs = (await upload(api, PNG)).json["id"]
    entry = await api.message("see the picture")
    table = api.hub.store.table(Entry)
    part = File(media=Media(blob=theirs, mime="image/png"))
    await table.put([replace(entry, parts=(part,))])
    key = await api.make_key("admin", accounts=["sample:main"])
    path = f"/api/v1/attachments/{theirs}"
    assert (await api.call("GET", path, key=key)).status == 404
    named = await api.call("GET", path, key=key, params={"entry": entry.id})
    assert named.body == PNG
    stranger = await api.make_key("admin", accounts=["sample:second"])
    foreign = await api.call("GET", path, key=stranger, params={"entry": entry.id})
    assert foreign.status == 404
    own = await upload(api, PNG, key=key)
    assert (await api.call("GET", own.headers["Location"], key=key)).body == PNG
    assert (await api.call("GET", own.headers["Location"], key=stranger)).status == 404


async def test_a_vendors_raw_request_is_no_attachment(api: RunningHub) -> None:
    blob = await api.hub.store.blobs.put(b"raw", metadata={"kind": "raw", "item": "in_1"})
    assert (await api.call("GET", f"/api/v1/attachments/{blob}")).status == 404
    await api.message("hello")
    customer = await api.customer("ann")
    body = {"parts": [{"type": "file", "media": {"blob": blob}}]}
    refused = await api.post(f"/api/v1/customers/{customer}/replies", body)
    assert (refused.status, refused.problem) == (422, "bad-request")
