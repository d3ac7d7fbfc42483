"""Files: what is taken, what its bytes say it is, how much of it, and how it is served."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from connectors.site.errors import SiteError
from connectors.site.settings import Limits
from connectors.site.sniffing import sniff
from connectors.site.uploads import UploadDoc
from hub.documents import Entry
from tests.site.conftest import MakeSite
from tests.site.space import Answer, Running, Tab

KEY = "018bcfe5-6800-7a10-9c3e-0d6f5a1b2c3d"


def png(width: int = 1, height: int = 1) -> bytes:
    """Return a PNG; only its header says how large it is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" + b"\xff\0\0" * min(width, 10))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def jpeg(width: int, height: int) -> bytes:
    frame = struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00"
    return b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xc0" + frame + b"\xff\xd9"


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0" * 20


def webp(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + size


def archive(**names: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as packed:
        for name, text in names.items():
            packed.writestr(name.replace("__", "/").replace("_dot_", "."), text)
    return made.getvalue()


DOCX = archive(**{"[Content_Types]_dot_xml": "<x/>", "word__document_dot_xml": "<x/>"})
XLSX = archive(**{"[Content_Types]_dot_xml": "<x/>", "xl__workbook_dot_xml": "<x/>"})
MACROS = archive(**{"[Content_Types]_dot_xml": "<x/>", "word__vbaProject_dot_bin": "x"})
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"\xef\xbb\xbf\n <!DOCTYPE html><script>alert(1)</script>"

KINDS: dict[str, tuple[bytes, str, str]] = {
    "png": (png(3, 2), "image", "image/png"),
    "jpeg": (jpeg(30, 20), "image", "image/jpeg"),
    "gif": (gif(3, 2), "image", "image/gif"),
    "webp": (webp(3, 2), "image", "image/webp"),
    "mp3": (b"ID3\x03\0\0\0\0\0\x00" + b"\0" * 50, "audio", "audio/mpeg"),
    "wav": (b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 30, "audio", "audio/wav"),
    "mp4": (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0" * 20, "video", "video/mp4"),
    "pdf": (b"%PDF-1.7\n%%EOF\n", "file", "application/pdf"),
    "zip": (archive(a_dot_txt="x"), "file", "application/zip"),
    "docx": (
        DOCX,
        "file",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    "xlsx": (XLSX, "file", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    "text": ("运单号 SF123\n".encode(), "file", "text/plain"),
    "gb18030 text": ("运单号，已发货\n".encode("gb18030"), "file", "text/plain"),
    "csv": (b"a,b\n1,2\n", "file", "text/plain"),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_type_is_read_from_the_bytes(name: str) -> None:
    """Each kind of file that is taken is known by its content."""
    data, kind, mime = KINDS[name]
    found = sniff(data, Limits())
    assert (found.kind, found.mime) == (kind, mime)


@pytest.mark.parametrize("make", [png, jpeg, gif, webp])
def test_the_measures_of_an_image_are_read_from_its_header(
    make: Callable[[int, int], bytes],
) -> None:
    """Width and height without decoding a pixel; too many pixels are refused."""
    found = sniff(make(640, 480), Limits())
    assert (found.width, found.height) == (640, 480)
    with pytest.raises(SiteError) as refused:
        sniff(make(9000, 9000), Limits())
    assert refused.value.code == "too_large"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (SVG, "unsupported_type"),
        (HTML, "unsupported_type"),
        (b"<?xml version='1.0'?><a/>", "unsupported_type"),
        (b"MZ\x90\0" + b"\0" * 100, "unsupported_type"),
        (b"\x7fELF" + b"\0" * 100, "unsupported_type"),
        (bytes(range(256)), "unsupported_type"),
        (MACROS, "upload_rejected"),
        (b"PK\x03\x04" + b"\0" * 40, "upload_rejected"),
        (b"\x89PNG\r\n\x1a\n\0\0", "upload_rejected"),
    ],
    ids=["svg", "html", "xml", "exe", "elf", "binary", "macros", "broken zip", "broken png"],
)
def test_dangerous_and_unknown_files_are_refused(data: bytes, code: str) -> None:
    """Nothing that a browser would run, nothing nobody knows."""
    with pytest.raises(SiteError) as refused:
        sniff(data, Limits())
    assert refused.value.code == code


# --- over HTTP -----------------------------------------------------------------------------------


async def begin(tab: Tab, data: bytes, mime: str, name: str = "a", **more: Any) -> Answer:
    asked = {"name": name, "mime": mime, "bytes": len(data), **more}
    return await tab.call("POST", "/uploads", json=asked)


async def upload(tab: Tab, data: bytes, mime: str, name: str = "a") -> str:
    begun = await begin(tab, data, mime, name)
    assert begun.status == 201, begun.body
    put = await tab.running.call("PUT", begun.json["put_url"], data=data)
    assert put.json["state"] == "ready", put.body
    return str(begun.json["upload_id"])


async def test_an_upload_becomes_a_part_that_both_sides_can_fetch(running: Running) -> None:
    """POST, PUT, msg.send; the entry holds the blob, the visitor a link of ten minutes."""
    tab = await (await running.visitor()).connect()
    picture = png(3, 2)
    ident = await upload(tab, picture, "image/png", "订单 截图.png")
    part = {"type": "image", "upload_id": ident}

    await tab.say("msg.send", client_msg_id=KEY, parts=[part])
    new = await tab.expect("msg.new")

    (shown,) = new["parts"]
    assert (shown["type"], shown["mime"], shown["bytes"]) == ("image", "image/png", len(picture))
    assert (shown["w"], shown["h"], shown["name"]) == (3, 2, "订单 截图.png")
    (entry,) = await running.space.entries(kind="message")
    media = entry.parts[0].media  # type: ignore[union-attr]
    assert await running.space.store.blobs.read(media.blob) == picture
    assert media.sha256 == hashlib.sha256(picture).hexdigest()
    fetched = await running.call("GET", shown["url"], origin=None)
    assert fetched.body == picture
    assert fetched.headers["Content-Type"] == "image/png"
    assert fetched.headers["X-Content-Type-Options"] == "nosniff"
    assert fetched.headers["Content-Disposition"].startswith("inline;")
    assert fetched.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"


async def test_a_part_of_a_film_can_be_asked_for_as_players_do(running: Running) -> None:
    """Safari asks for two bytes first, and plays nothing where it gets more."""
    tab = await (await running.visitor()).connect()
    film = KINDS["mp4"][0] + bytes(range(256)) * 2000
    ident = await upload(tab, film, "video/mp4", "film.mp4")
    await tab.say("msg.send", client_msg_id=KEY, parts=[{"type": "video", "upload_id": ident}])
    url = (await tab.expect("msg.new"))["parts"][0]["url"]
    size = len(film)
    for asked, start, stop in (
        ("bytes=0-1", 0, 2),
        ("bytes=100-", 100, size),
        ("bytes=-7", size - 7, size),
        (f"bytes=300000-{size * 2}", 300_000, size),
    ):
        part = await running.call("GET", url, headers={"Range": asked}, origin=None)
        assert (part.status, part.body) == (206, film[start:stop]), asked
        assert part.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
    behind = await running.call("GET", url, headers={"Range": f"bytes={size}-"}, origin=None)
    assert (behind.status, behind.headers["Content-Range"]) == (416, f"bytes */{size}")
    for odd in ("bytes=0-1,5-6", "lines=1-2", "bytes=x", "bytes=5-1"):
        whole = await running.call("GET", url, headers={"Range": odd}, origin=None)
        assert (whole.status, whole.body) == (200, film), odd
        assert whole.headers["Accept-Ranges"] == "bytes"


async def test_a_part_is_what_the_bytes_are(running: Running) -> None:
    """A client that calls a text an image has sent a file."""
    tab = await (await running.visitor()).connect()
    begun = await begin(tab, b"just text", "image/png", "photo.png")
    await running.call("PUT", begun.json["put_url"], data=b"just text")
    part = {"type": "image", "upload_id": begun.json["upload_id"]}

    await tab.say("msg.send", client_msg_id=KEY, parts=[part])

    (shown,) = (await tab.expect("msg.new"))["parts"]
    assert (shown["type"], shown["mime"]) == ("file", "text/plain")
    fetched = await running.call("GET", shown["url"])
    assert fetched.headers["Content-Disposition"].startswith("attachment;")
    assert fetched.headers["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize("data", [SVG, HTML])
async def test_markup_is_refused_whatever_it_is_called(running: Running, data: bytes) -> None:
    """An SVG named .png with an image's type: the upload is rejected and cannot be sent."""
    tab = await (await running.visitor()).connect()
    begun = await begin(tab, data, "image/png", "cat.png")
    put = await running.call("PUT", begun.json["put_url"], data=data)
    part = {"type": "image", "upload_id": begun.json["upload_id"]}
    await tab.say("msg.send", client_msg_id=KEY, parts=[part])
    rejected = await tab.expect("msg.rejected")
    state = await tab.call("GET", f"/uploads/{begun.json['upload_id']}")

    assert (put.status, put.code) == (415, "unsupported_type")
    assert rejected["code"] == "upload_rejected"
    assert state.json["state"] == "rejected"
    assert running.space.store.blobs._blobs == {}  # type: ignore[attr-defined]


async def test_markup_of_an_agent_is_a_download_as_well(running: Running) -> None:
    """An SVG in an answer is served as an attachment that a browser never runs."""
    tab = await (await running.visitor()).connect()
    await tab.sends("hello", KEY)
    (entry,) = await running.space.entries(kind="message")
    blob = await running.space.store.blobs.put(SVG)
    media = {"mime": "image/svg+xml", "size": len(SVG), "name": "a.svg", "blob": blob}
    await running.space.agent(
        "reply", conversation=entry.conversation, parts=[{"type": "image", "media": media}]
    )

    url = (await tab.expect("msg.new", seq="2"))["parts"][0]["url"]
    fetched = await running.call("GET", url)

    assert fetched.headers["Content-Disposition"].startswith("attachment;")
    assert fetched.headers["Content-Type"] == "application/octet-stream"
    assert "sandbox" in fetched.headers["Content-Security-Policy"]


async def test_a_download_link_is_bound_and_ends(running: Running) -> None:
    """After ten minutes, for another file or with another signature it opens nothing."""
    tab = await (await running.visitor()).connect()
    ident = await upload(tab, png(), "image/png")
    await tab.say("msg.send", client_msg_id=KEY, parts=[{"type": "image", "upload_id": ident}])
    new = await tab.expect("msg.new")
    url = new["parts"][0]["url"]

    other_file = await running.call("GET", url.replace("/0?", "/1?"))
    forged = await running.call("GET", url[:-2] + "xx")
    later = url.replace("exp=", "exp=9")
    stretched = await running.call("GET", later)
    running.clock.advance(601)
    late = await running.call("GET", url)
    tab = await running.visitor(visitor_token=tab.visitor_token)
    page = await tab.call("GET", f"/conversations/{new['conversation_id']}/messages")
    again = await running.call("GET", page.json["messages"][0]["parts"][0]["url"])

    assert {each.code for each in (other_file, forged, stretched)} == {"auth_required"}
    assert late.code == "upload_expired"
    assert again.body == png()


async def test_a_recalled_file_is_gone(running: Running) -> None:
    """The link that was given out before the recall leads to nothing."""
    tab = await (await running.visitor()).connect()
    ident = await upload(tab, png(), "image/png")
    await tab.say("msg.send", client_msg_id=KEY, parts=[{"type": "image", "upload_id": ident}])
    new = await tab.expect("msg.new")
    await tab.say("msg.recall", conversation_id=new["conversation_id"], seq="1")
    await tab.expect("msg.recalled")

    gone = await running.call("GET", new["parts"][0]["url"])

    assert (gone.status, gone.code) == (404, "conversation_not_found")


async def test_sizes_are_checked_before_and_while_the_bytes_come(make_site: MakeSite) -> None:
    """Too large by its own word; too large by its bytes; another hash than announced."""
    running = await make_site(limits={"image_bytes": 1000, "file_bytes": 2000})
    visitor = await running.visitor()
    announced = await begin(visitor, b"x" * 1001, "image/png")
    begun = await begin(visitor, png(), "image/png")
    more = await running.call("PUT", begun.json["put_url"], data=png() + b"x")
    wrong = await begin(visitor, png(), "image/png", sha256="0" * 64)
    other = await running.call("PUT", wrong.json["put_url"], data=png())
    # A file's limit is larger, but what turns out to be an image has the image's.
    sneaky = png() + b"\0" * 1500
    begun = await begin(visitor, sneaky, "application/pdf")
    as_file = await running.call("PUT", begun.json["put_url"], data=sneaky)

    assert (announced.status, announced.code) == (413, "too_large")
    assert more.code == "too_large"
    assert (other.status, other.code) == (422, "upload_rejected")
    assert as_file.code == "too_large"


async def test_the_day_has_a_limit_and_anonymous_visitors_half_of_it(
    make_site: MakeSite,
) -> None:
    """The next UTC day it is free again; what was rejected does not count."""
    running = await make_site(limits={"upload_bytes_per_day": 2000})
    visitor, user = await running.visitor(), await running.user("10086")
    text = b"x" * 600
    await upload(visitor, text, "text/plain")
    refused = await begin(visitor, text, "text/plain")
    for _ in range(3):
        await upload(user, text, "text/plain")
    refused_user = await begin(user, text, "text/plain")
    running.clock.advance(86400)
    again = await running.visitor(visitor_token=visitor.visitor_token)

    assert (refused.status, refused.code) == (429, "rate_limited")
    assert refused.json["retry_after_ms"] == 15 * 3600 * 1000  # midnight, from nine o'clock
    assert refused_user.code == "rate_limited"
    assert (await begin(again, text, "text/plain")).status == 201


async def test_ten_uploads_a_minute(running: Running) -> None:
    """The eleventh waits for six seconds."""
    visitor = await running.visitor()
    answers = [await begin(visitor, b"x", "text/plain") for _ in range(11)]
    assert [answer.status for answer in answers] == [201] * 10 + [429]
    running.clock.advance(6)
    assert (await begin(visitor, b"x", "text/plain")).status == 201


async def test_ten_parts_are_a_message_and_eleven_are_not(running: Running) -> None:
    """The limit of parts holds for text and files together."""
    tab = await (await running.visitor()).connect()
    part = {"type": "text", "text": "x"}
    await tab.say("msg.send", client_msg_id=KEY, parts=[part] * 11)
    assert (await tab.expect("msg.rejected"))["code"] == "too_large"
    await tab.say("msg.send", client_msg_id=KEY, parts=[part] * 10)
    assert len((await tab.expect("msg.new"))["parts"]) == 10


async def test_a_put_link_is_signed_and_works_once(running: Running) -> None:
    """Without its signature nothing is taken; repeating it changes nothing."""
    visitor = await running.visitor()
    begun = await begin(visitor, b"hello", "text/plain")
    url = begun.json["put_url"]
    unsigned = await running.call("PUT", url.partition("?")[0], data=b"hello")
    first = await running.call("PUT", url, data=b"hello")
    second = await running.call("PUT", url, data=b"other")

    assert unsigned.code == "auth_required"
    assert first.json == second.json
    (blob,) = running.space.store.blobs._blobs.values()  # type: ignore[attr-defined]
    assert blob[0] == b"hello"


async def test_an_upload_is_usable_after_the_login(running: Running) -> None:
    """Chosen before, sent after: it is the same person."""
    tab = await (await running.visitor()).connect()
    ident = await upload(tab, png(), "image/png")
    re = await tab.say("auth.identify", identity_token=running.identity("10086"))
    await tab.expect("ack", re=re)

    await tab.say("msg.send", client_msg_id=KEY, parts=[{"type": "image", "upload_id": ident}])

    assert (await tab.expect("msg.new"))["parts"][0]["type"] == "image"


async def test_bytes_that_have_not_arrived_cannot_be_sent(running: Running) -> None:
    """The message waits for nothing: it is rejected, and the client uploads first."""
    tab = await (await running.visitor()).connect()
    begun = await begin(tab, b"hello", "text/plain")
    part = {"type": "file", "upload_id": begun.json["upload_id"]}
    await tab.say("msg.send", client_msg_id=KEY, parts=[part])
    assert (await tab.expect("msg.rejected"))["code"] == "upload_rejected"
    running.clock.advance(601)
    await tab.say("msg.send", client_msg_id=KEY, parts=[part])
    assert (await tab.expect("msg.rejected"))["code"] == "upload_expired"


async def test_what_no_message_named_is_thrown_away_after_a_day(running: Running) -> None:
    """Used files stay, however old; unused ones go with their bytes."""
    tab = await (await running.visitor()).connect()
    used = await upload(tab, png(), "image/png")
    await upload(tab, b"never sent", "text/plain")
    await tab.say("msg.send", client_msg_id=KEY, parts=[{"type": "image", "upload_id": used}])
    await tab.expect("msg.new")
    assert await running.site.uploads.sweep() == 0
    running.clock.advance(86400 + 1)

    assert await running.site.uploads.sweep() == 1

    (left,) = await running.space.store.table(UploadDoc).find({})
    assert left.id == used
    assert len(running.space.store.blobs._blobs) == 1  # type: ignore[attr-defined]
    (entry,) = await running.space.store.table(Entry).find({"seq": 1})
    assert await running.space.store.blobs.read(entry.parts[0].media.blob)  # type: ignore[union-attr]


async def test_an_upload_that_is_thrown_away_can_no_longer_be_named(running: Running) -> None:
    """Whichever comes first, the message or the sweep: no message names bytes that are gone."""
    tab = await (await running.visitor()).connect()
    late, named = await upload(tab, png(), "image/png"), await upload(tab, png(), "image/png")
    uploads, table = running.site.uploads, running.space.store.table(UploadDoc)
    stale = {doc.id: doc for doc in await table.find({})}
    assert await uploads._withdrawn(stale[late])
    for ident in (late, named):
        part = {"type": "image", "upload_id": ident}
        await tab.say("msg.send", client_msg_id=f"message-{ident[-8:]}", parts=[part])
    assert (await tab.expect("msg.rejected"))["code"] == "upload_rejected"
    await tab.expect("msg.new")
    assert not await uploads._withdrawn(stale[named])


async def test_a_file_in_two_messages_is_stored_twice(running: Running) -> None:
    """What becomes of one of them does not take the other's away; an edit names its own."""
    tab = await (await running.visitor()).connect()
    part = {"type": "image", "upload_id": await upload(tab, png(), "image/png")}
    for key in ("message-one", "message-two"):
        await tab.say("msg.send", client_msg_id=key, parts=[part])
        await tab.expect("msg.new", client_msg_id=key)
    one, two = await running.space.entries(kind="message")
    blobs = [str(entry.parts[0].media.blob) for entry in (one, two)]  # type: ignore[union-attr]
    assert blobs[0] != blobs[1]

    await running.space.store.blobs.delete(blobs[0])  # as the hub does when it has made its copy
    edit = {"conversation_id": one.thread, "parts": [{"type": "text", "text": "这张"}, part]}
    await tab.say("msg.edit", seq="1", **edit)
    shown = (await tab.expect("msg.edited"))["parts"]
    (edited, _) = await running.space.entries(kind="message")
    assert edited.parts[1].media.blob == blobs[0]  # type: ignore[union-attr]
    assert [each["type"] for each in shown] == ["text", "image"]
    await tab.say("msg.send", client_msg_id="message-three", parts=[part])
    assert (await tab.expect("msg.rejected"))["code"] == "upload_expired"
