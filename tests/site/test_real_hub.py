"""The site channel in a whole hub: real MongoDB, router, workers and feed; nothing is faked.

What the in-memory space cannot show: that MongoDB answers the channel's own questions alike,
that answers leave by the workers, and that a stopping hub sends its visitors away in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from hub.clock import SystemClock
from hub.documents import Entry, StrayBlob
from normalizer.parts import Media, MediaState
from tests.media.pictures import photo
from tests.site.space import SECRET, SERVER_KEY, SITE, Browsers
from tests.support.hubs import RunningHub, running_hub

pytestmark = pytest.mark.real_mongo

ACCOUNT = f"""
[[accounts]]
channel = "site"
key = "{SITE}"
site_id = "{SITE}"
origins = ["https://www.example.com"]
identity_keys = [{{ kid = "k1", alg = "HS256", key = "{SECRET}" }}]
server_keys = ["{SERVER_KEY}"]
limits = {{ message_burst = 50, receipts_every_s = 0.1 }}
"""


@pytest.fixture
async def hub(mongo_url: str, mongo_db_name: str, tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(
        mongo_url, mongo_db_name, tmp_path, accounts=("main",), more=ACCOUNT
    ) as running:
        yield running


@pytest.fixture
async def site(hub: RunningHub) -> AsyncIterator[Browsers]:
    async with aiohttp.ClientSession() as http:
        browsers = Browsers(f"{hub.hub.url}/site/{SITE}", http, SystemClock())
        yield browsers
        await browsers.close()


async def answer(hub: RunningHub, entry: Entry, text: str) -> None:
    """Let an agent answer through the API."""
    page = await hub.get(f"/api/v1/entries/{entry.id}")
    done = await hub.post(
        f"/api/v1/customers/{page['customer']}/replies",
        {"channel": "site", "parts": [{"type": "text", "text": text}]},
        once=f"answer-{entry.id}-{len(text)}",
    )
    assert done.status in (200, 202), done


async def test_a_chat_goes_both_ways_through_the_whole_hub(hub: RunningHub, site: Browsers) -> None:
    """Message, echo, answer by API, receipts back to the entry, and the same after a resume."""
    tab = await (await site.visitor()).connect()
    new = await tab.sends("在吗？我要开发票😀", "message-one")
    entry = await hub.entry(new["server_msg_id"])
    await answer(hub, entry, "您好")
    shown = await tab.expect("msg.new", seq="2")
    await tab.say("receipt", conversation_id=new["conversation_id"], read_seq="2")
    await tab.expect("receipt", by="visitor", read_seq="2")
    cursor = tab.cursor
    await tab.hang_up()
    await answer(hub, entry, "还在吗？")

    async def left() -> Any:
        found = await hub.hub.store.table(Entry).find({"thread": new["conversation_id"], "seq": 3})
        return found

    await hub.until("the second answer", left)
    again = await (await tab.another()).connect(cursor=cursor)
    missed = await again.expect("msg.new")

    assert entry.parts[0].text == "在吗？我要开发票😀"  # type: ignore[union-attr]
    assert shown["parts"][0]["text"] == "您好"
    assert (missed["seq"], missed["parts"][0]["text"]) == ("3", "还在吗？")
    read = await hub.entry(shown["server_msg_id"])
    assert read.delivery is not None
    assert read.delivery.state == "read"


async def test_a_login_links_and_both_threads_are_seen(hub: RunningHub, site: Browsers) -> None:
    """The compare-and-swap of the visitor's row and the questions for bound visitors."""
    tab = await (await site.visitor()).connect()
    before = await tab.sends("before", "message-one")
    re = await tab.say("auth.identify", identity_token=site.identity("10086", name="李雷"))
    await tab.expect("ack", re=re)
    after = await tab.sends("after", "message-two")

    elsewhere = await site.user("10086")

    threads = {each["conversation_id"] for each in elsewhere.session["conversations"]}
    assert threads == {before["conversation_id"], after["conversation_id"]}
    entries = [await hub.entry(each["server_msg_id"]) for each in (before, after)]
    pages = [await hub.get(f"/api/v1/entries/{entry.id}") for entry in entries]
    assert pages[0]["customer"] == pages[1]["customer"]
    re = await tab.say("auth.logout")
    left = await tab.expect("ack", re=re)
    assert left["visitor_id"] != tab.visitor


async def test_an_in_app_message_is_sent_by_the_workers(hub: RunningHub, site: Browsers) -> None:
    """Ordered for a user nobody has seen; the row, the badge and the states are MongoDB's."""
    headers = {"Authorization": f"Bearer {SERVER_KEY}", "Idempotency-Key": "once"}
    body = {
        "to": {"user_ids": ["10086"]},
        "title": "您的订单已发货",
        "body": "运单号 SF1234567890",
        "actions": [{"label": "查看物流", "url": "https://www.example.com/o/77"}],
    }
    for _ in range(2):
        ordered = await site.call("POST", "/inbox", origin=None, headers=headers, json=body)
        assert (ordered.status, ordered.json["accepted"]) == (202, ["10086"])
    tab = await site.user("10086")

    async def listed() -> Any:
        return (await tab.call("GET", "/inbox")).json["items"]

    (item,) = await hub.until("the item", listed)
    assert (item["title"], item["state"]) == ("您的订单已发货", "unread")
    assert (await tab.call("GET", "/inbox/count")).json["unread"] == 1
    done = await tab.call("POST", "/inbox/read-all", json={"up_to_id": item["id"]})
    assert done.json["read"] == 1
    assert (await tab.call("GET", "/inbox")).json["unread"] == 0


async def test_agents_see_a_visitors_picture_without_its_metadata(
    hub: RunningHub, site: Browsers
) -> None:
    """As with any vendor's file: scanned, a copy and a thumbnail; the original is a download.

    The visitor sees it at once, and the copy later. An agent's picture has none either.
    """
    tab = await (await site.visitor()).connect()
    picture = photo(orientation=6)
    begun = await tab.call(
        "POST", "/uploads", json={"name": "截图.jpg", "mime": "image/jpeg", "bytes": len(picture)}
    )
    put = await site.call("PUT", begun.json["put_url"], data=picture)
    assert put.json["state"] == "ready", put.body
    part = {"type": "image", "upload_id": begun.json["upload_id"]}
    await tab.say("msg.send", client_msg_id="message-one", parts=[part])
    new = await tab.expect("msg.new")
    assert new["parts"][0]["state"] == "ready"

    async def checked() -> Media | None:
        entry = await hub.hub.store.table(Entry).get(new["server_msg_id"])
        media = entry.parts[0].media if entry else Media()  # type: ignore[union-attr]
        return media if media.state is MediaState.READY else None

    media = await hub.until("the picture", checked)
    assert (media.width, media.height, media.scan) == (400, 640, "unscanned")
    page = await hub.get(f"/api/v1/entries/{new['server_msg_id']}")
    for blob in (page["entry"]["parts"][0]["media"]["blob"], media.thumb.blob):
        seen = await hub.call("GET", f"/api/v1/attachments/{blob}")
        assert b"MakerOfCameras" not in seen.body
    shown = await site.call("GET", new["parts"][0]["url"])
    assert shown.body == await hub.hub.store.blobs.read(media.blob)
    assert await hub.hub.store.blobs.read(media.original.blob) == picture

    strays = hub.hub.store.table(StrayBlob)
    assert await strays.count({}) == 0, "the message names it: it is never swept"

    made = await hub.call("POST", "/api/v1/attachments?name=a.jpg", data=picture)
    answered = await hub.post(
        f"/api/v1/customers/{page['customer']}/replies",
        {"parts": [{"type": "image", "media": {"blob": made.json["id"]}}]},
    )
    assert answered.status == 202, answered
    answer = (await tab.expect("msg.new", seq="2"))["parts"][0]
    assert (answer["w"], answer["h"]) == (400, 640)
    left = (await site.call("GET", answer["url"])).body
    assert not Image.open(BytesIO(left)).getexif()
    assert b"MakerOfCameras" not in left


async def test_typing_crosses_the_hub(hub: RunningHub, site: Browsers) -> None:
    """A hint on the signal bus reaches the tab of the address that it names."""
    tab = await (await site.visitor()).connect()
    new = await tab.sends("hello", "message-one")
    entry = await hub.entry(new["server_msg_id"])
    payload = {"address": entry.address, "thread": entry.thread, "by": "agent", "on": True}

    await hub.hub.services.signal(f"site/{SITE}/typing", payload)

    assert (await tab.expect("typing"))["by"] == "agent"


async def test_a_stopping_hub_sends_its_visitors_away(
    mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    """going_away, then close 1012, within the time that a restart may take."""
    async with aiohttp.ClientSession() as http:
        async with running_hub(
            mongo_url, mongo_db_name, tmp_path, accounts=("main",), more=ACCOUNT
        ) as running:
            site = Browsers(f"{running.hub.url}/site/{SITE}", http, SystemClock())
            tab = await (await site.visitor()).connect()
            closing = asyncio.create_task(tab.closed())
        assert await closing == 1012
        assert "going_away" in [frame["t"] for frame in tab.kept]
