"""A whole hub with a WeChat account: MongoDB and HTTP are real, the vendor is the strict fake.

One hub serves each story, because a hub is dear: what is asserted stands in the order of the
story.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from connectors.wechat.samples import body_of
from connectors.wechat.samples import push as signed
from hub.clock import SystemClock
from hub.documents import DeadLetter, Entry
from normalizer.addresses import Address
from tests.media.pictures import noise, photo
from tests.support.hubs import RunningHub, running_hub
from tests.support.scale import scaled
from tests.wechat.fake_wechat import APP_SECRET, APPID, LIMITS, OPENID, TEMPLATE, FakeWechat
from tests.wechat.support import AES_KEY, TOKEN, settings

pytestmark = pytest.mark.real_mongo
WAIT_S = 30.0
SEND = "/cgi-bin/message/custom/send"


class Shop:
    """The hub, WeChat, and its customers."""

    def __init__(self, hub: RunningHub, vendor: FakeWechat) -> None:
        self.hub = hub
        self.vendor = vendor
        self.settings = settings(mode="safe")
        self._number = 24307213612345000

    async def pushed(self, inner: str, *, who: str = OPENID) -> None:
        """Let WeChat push something once, and be told that all is well."""
        await self.deliver(body_of(self.settings, SystemClock(), inner, sender=who))

    async def deliver(self, body: bytes) -> None:
        sample = signed(self.settings, SystemClock(), "t", body, plain=False)
        answered = await self.hub.call(
            "POST",
            f"/in/wechat/shop?{sample.request.query_string}",
            key="",
            headers={"Content-Type": "text/xml"},
            data=sample.request.body,
        )
        assert (answered.status, answered.body) == (200, b"success"), answered

    async def says(self, text: str, *, who: str = OPENID) -> Entry:
        self._number += 1
        inner = f"<MsgType>text</MsgType><Content>{text}</Content><MsgId>{self._number}</MsgId>"
        await self.pushed(inner, who=who)
        ident = self.entry_id(f"msg:{self._number}", who)
        return await self.hub.entry(ident)

    def entry_id(self, key: str, who: str = OPENID) -> str:
        address = f"wechat:shop:openid:{who}"
        return self.hub.hub.key.hashed("ent", f"entry|wechat|shop|{address}|{key}")

    async def customer(self, who: str = OPENID) -> str:
        address = str(Address(scheme="wechat", account="shop", kind="openid", id=who))
        page = await self.hub.get("/api/v1/customers", params={"address": address})
        return str(page["customers"][0]["id"])

    async def answered(self, text: str, *, who: str = OPENID, **said: Any) -> str:
        """Let an agent answer; return the entry's id."""
        said = said or {"parts": [{"type": "text", "text": text}]}
        self._number += 1
        path = f"/api/v1/customers/{await self.customer(who)}/replies"
        done = await self.hub.post(path, said, once=str(self._number))
        assert done.status == 202, done
        return str(done.json["entry_id"])

    async def answers(self, text: str, *wanted: str, **said: Any) -> Entry:
        """The same; return the entry once it is in one of the states ``wanted``."""
        return await self.state(await self.answered(text, **said), *wanted)

    async def state(self, ident: str, *wanted: str) -> Entry:
        ends = time.monotonic() + WAIT_S
        while True:
            entry = await self.hub.hub.store.table(Entry).get(ident)
            if entry is not None and entry.delivery and entry.delivery.state in wanted:
                return entry
            assert time.monotonic() < ends, f"no {wanted}: {entry}"
            await asyncio.sleep(0.01)


@pytest.fixture
async def shop(mongo_url: str, mongo_db_name: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with AsyncExitStack() as stack:
        vendor = await stack.enter_async_context(FakeWechat())
        more = f"""
[hub.media]
private_hosts = ["127.0.0.1"]
[[accounts]]
channel = "wechat"
key = "shop"
appid = "{APPID}"
app_secret = "{APP_SECRET}"
tokens = ["{TOKEN}"]
encoding_aes_keys = ["{AES_KEY}"]
api_url = "{vendor.url}"
serve_token = true
[[accounts]]
channel = "wechat"
key = "trial"
appid = "{APPID}"
tokens = ["{TOKEN}"]
mode = "plain"
"""
        running = running_hub(mongo_url, mongo_db_name, tmp_path, accounts=(), more=more)
        yield Shop(await stack.enter_async_context(running), vendor)


async def test_a_customer_writes_and_is_answered_within_what_wechat_allows(shop: Shop) -> None:
    vendor = shop.vendor
    asked = await shop.says("你好😀")
    assert asked.address == shop.hub.hub.key.hashed("adr", f"wechat:shop:openid:{OPENID}")

    # Edge 2: what cannot be parsed is acknowledged, and kept.
    await shop.pushed("<Content>no type</Content>")
    letters = await shop.hub.until(
        "a dead letter", lambda: shop.hub.hub.store.table(DeadLetter).find({})
    )
    assert "no MsgType" in letters[0].reason

    await a_plain_query_with_other_words_is_refused(shop)

    # An answer goes out, and its place in the window is taken.
    first = await shop.answers("很快发货", "accepted")
    assert vendor.bodies[-1]["text"] == {"content": "很快发货"}
    page = await shop.hub.get(f"/api/v1/customers/{await shop.customer()}")
    windows = {each["name"]: each for each in page["limits"][0]["windows"]}
    assert (windows["message"]["open"], windows["message"]["sends_left"]) == (True, 4)
    assert windows["action"]["open"] is False

    # A lost answer never becomes a second message.
    vendor.trouble, vendor.trouble_at = ["lost"], SEND
    lost = await shop.answered("arrives, perhaps")
    await files_come_in_and_the_vendors_console_is_told_of(shop)
    await the_token_is_served_to_its_scope_and_no_other(shop)
    await shop.state(lost, "unknown")
    assert [got.text for got in vendor.got()].count("arrives, perhaps") == 1

    # A picture that is too large for WeChat leaves as a copy that fits; the original stays.
    big = noise((1000, 1000))
    assert len(big) > LIMITS["image"]
    made = await shop.hub.call(
        "POST", "/api/v1/attachments?name=big.png", data=big, headers={"Content-Type": "image/png"}
    )
    assert made.status == 201, made
    part = {"type": "image", "media": {"blob": made.json["id"]}}
    sent = await shop.answers("", "accepted", parts=[part])
    ((kind, taken, _, name),) = shop.vendor.uploads.values()
    assert (kind, name.partition(".")[0]) == ("image", "image")
    assert len(taken) <= LIMITS["image"]
    assert await shop.hub.hub.store.blobs.read(sent.parts[0].media.blob) == big  # type: ignore

    # A long one takes as many places as it has messages, and the sixth is refused unasked.
    await shop.answers("长" * 600, "accepted")
    asked_before = vendor.calls[SEND]
    refused = await shop.answers("x" * 2100, "failed")
    assert refused.delivery is not None
    assert refused.delivery.code == "window_spent"
    assert vendor.calls[SEND] == asked_before

    # Who unfollows is not written to, but for templates; and a receipt may overtake the answer.
    await shop.pushed("<MsgType>event</MsgType><Event>unsubscribe</Event>")
    closed = await shop.answers("too late", "failed")
    assert closed.delivery is not None
    assert closed.delivery.code == "window_closed"
    assert "订单发货" in closed.delivery.reason  # the template that fits
    assert vendor.calls[SEND] == asked_before

    async def receipt(msgid: str) -> None:
        await shop.pushed(
            f"<MsgType>event</MsgType><Event>TEMPLATESENDJOBFINISH</Event><MsgID>{msgid}</MsgID>"
            "<Status>success</Status>"
        )

    vendor.before_answer = receipt
    params = {"first": "您好", "order": "1234", "remark": "谢谢"}
    template = {"template": {"name": TEMPLATE, "params": params}}
    sent = await shop.answers("by template", "delivered", **template)
    assert "订单：1234" in sent.parts[0].text  # type: ignore[union-attr]

    # Nothing came out of it that was not meant to.
    assert first.delivery is not None
    assert len({first.id, lost, sent.id}) == 3
    assert vendor.issued == 1

    # Another system that takes the token away again and again is told of in the account's state.
    for _ in range(2):
        vendor.expire()
        await shop.answers("by template", "delivered", **template)
    vendor.expire()
    await shop.answered("by template", **template)

    async def told() -> bool:
        account = await shop.hub.get("/api/v1/accounts/wechat:shop")
        shown = str(account)
        return "misconfigured" in shown and "another system refreshes this token" in shown

    await shop.hub.until("the account's state", told)


async def a_plain_query_with_other_words_is_refused(shop: Shop) -> None:
    """At the door of the account in plain mode: first its own words, then a forger's."""
    held, clock = settings(mode="plain"), SystemClock()
    inner = "<MsgType>event</MsgType><Event>VIEW</Event><EventKey>{}</EventKey>"
    mine, forged = (body_of(held, clock, inner.format(word)) for word in ("mine", "forged"))
    query = signed(held, clock, "t", mine, plain=True).request.query_string
    for body, status in ((mine, 200), (forged, 403), (mine, 200)):
        told = await shop.hub.call("POST", f"/in/wechat/trial?{query}", key="", data=body)
        assert told.status == status


async def the_token_is_served_to_its_scope_and_no_other(shop: Shop) -> None:
    url = "/api/v1/x/wechat/shop/token"
    served = await shop.hub.get(url, key=await shop.hub.make_key("wechat:token"))
    assert served["access_token"] == shop.vendor.token
    for key in (
        await shop.hub.make_key("customers:read"),
        await shop.hub.make_key("wechat:token", accounts=["wechat:other"]),
    ):
        assert (await shop.hub.call("GET", url, key=key)).status == 403
    wrong = await shop.hub.call("POST", url, {"no": 1}, key=await shop.hub.make_key("wechat:token"))
    assert (wrong.status, wrong.problem) == (422, "bad-request")


async def files_come_in_and_the_vendors_console_is_told_of(shop: Shop) -> None:
    """Of another customer, so that nobody's window opens anew."""
    data, who = photo(), "oHubUserPic"
    shop.vendor.files["m-1"] = lambda: web.Response(body=data, content_type="image/jpeg")
    await shop.pushed(
        "<MsgType>image</MsgType><PicUrl>http://mmbiz.qpic.cn/a/0</PicUrl>"
        "<MediaId>m-1</MediaId><MsgId>1</MsgId>",
        who=who,
    )

    async def fetched() -> Any:
        entry = await shop.hub.hub.store.table(Entry).get(shop.entry_id("msg:1", who))
        media = entry.parts[0].media if entry is not None else None  # type: ignore[union-attr]
        return media if media is not None and media.state == "ready" else None

    media = await shop.hub.until("the picture", fetched)
    assert media.mime == "image/jpeg"

    await shop.pushed("<MsgType>event</MsgType><Event>kf_create_session</Event>", who=who)
    page = await shop.hub.until(
        "the line in the timeline", lambda: _line(shop, who, "console.session_began")
    )
    assert "does not reach the hub" in page["data"]["text"]


async def _line(shop: Shop, who: str, event: str) -> Any:
    page = await shop.hub.get(f"/api/v1/customers/{await shop.customer(who)}/timeline")
    found = [each for each in page["entries"] if each.get("event") == event]
    return found[0] if found else None


@pytest.mark.soak
async def test_mixed_pushes_delivered_three_times_overlapping_are_one_entry_each(
    shop: Shop,
) -> None:
    """WeChat repeats what is not answered in time, and the second may overtake the first.

    Edges 2, 8 and 9 on the way: ordering is by the vendor's time and then by arrival.
    """
    count = scaled(90, 1000)
    chance = random.Random(4)
    clock = SystemClock()
    pushes: dict[str, bytes] = {}
    for number in range(count):
        who = f"oHubUser{number % 7:04d}"
        match number % 4:
            case 0 | 1:  # MsgId has been seen to repeat across users
                ident = number // 7
                inner = f"<MsgType>text</MsgType><Content>n{number}</Content><MsgId>{ident}</MsgId>"
                key = f"msg:{ident}"
            case 2:
                inner = (
                    f"<MsgType>event</MsgType><Event>CLICK</Event><EventKey>k{number}</EventKey>"
                )
                key = f"CLICK:k{number}"
            case _:
                inner = f"<MsgType>hologram</MsgType><MsgId>h{number}</MsgId>"
                key = f"msg:h{number}"
        pushes[f"{who}|{key}"] = body_of(shop.settings, clock, inner, sender=who)
    deliveries = [body for body in pushes.values() for _ in range(3)]
    chance.shuffle(deliveries)
    gate = asyncio.Semaphore(24)

    async def deliver(body: bytes) -> None:
        async with gate:
            await shop.deliver(body)

    await asyncio.gather(*(deliver(body) for body in deliveries))

    async def all_there() -> list[Entry]:
        found = await shop.hub.hub.store.table(Entry).find({"channel": "wechat"})
        return found if len(found) >= len(pushes) else []

    ends = time.monotonic() + WAIT_S * 4
    while not (entries := await all_there()):
        assert time.monotonic() < ends
        await asyncio.sleep(0.05)
    for body in chance.sample(sorted(pushes.values()), 10):  # and once more, late
        await shop.deliver(body)
    await shop.says("the last one", who="oHubUserLast")
    entries = await all_there()
    assert len(entries) == len(pushes) + 1
    assert len({entry.id for entry in entries}) == len(entries)
    assert await shop.hub.hub.store.table(DeadLetter).find({}) == []
