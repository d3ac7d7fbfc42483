"""SMS through a whole hub: in once, out once, receipts in any order, templates where needed.

Real: hub, MongoDB, HTTP. Twilio and Aliyun are played by the strict fakes.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode

import pytest

from hub.documents import DeadLetter, Entry, InboxItem
from normalizer.addresses import Address
from normalizer.drafts import Event
from normalizer.model import Direction
from tests.media.pictures import photo
from tests.sms.fake_domestic import PUSH_SECRET, FakeAliyun
from tests.sms.fake_twilio import KEY, KEY_SECRET, NUMBER, SID, TOKEN, FakeTwilio
from tests.support.hubs import RunningHub, running_hub
from tests.support.scale import scaled
from tests.twilio.signing import sign

PUSHES = scaled(60, 1000)
ANN, BOB, CAI = "+8613800138000", "+8613900139000", "+8613700137000"
CALLER, DAN = "+8613600136000", "+8613500135000"
SECOND = "+15005550007"


def accounts(twilio: FakeTwilio, aliyun: FakeAliyun) -> str:
    templates = ", ".join(
        "{" + ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}"
                        for name, value in each.items()) + "}"
        for each in aliyun.table["templates"]
    )  # fmt: skip
    return f"""
[hub.media]
private_hosts = ["127.0.0.1"]

[[accounts]]
channel = "sms"
key = "tw"
provider = "twilio"
[accounts.twilio]
account_sid = "{SID}"
auth_tokens = ["{TOKEN}"]
api_key = "{KEY}"
api_key_secret = "{KEY_SECRET}"
numbers = ["{NUMBER}", "{SECOND}"]
api_url = "{twilio.url}"

[[accounts]]
channel = "sms"
key = "ali"
provider = "aliyun"
[accounts.aliyun]
access_key_id = "{aliyun.KEY_ID}"
access_key_secret = "{aliyun.KEY_SECRET}"
sign_name = "{aliyun.SIGN}"
templates = [{templates}]
push_secrets = ["{PUSH_SECRET}"]
allowed_ips = ["127.0.0.0/8"]
api_url = "{aliyun.url}"
"""


class World:
    def __init__(self, hub: RunningHub, twilio: FakeTwilio, aliyun: FakeAliyun) -> None:
        self.hub = hub
        self.twilio = twilio
        self.aliyun = aliyun

    async def twilio_posts(self, path: str = "", **fields: str) -> int:
        form = {"AccountSid": SID, **fields}
        url = f"{self.hub.hub.url}/in/sms/tw{path}"
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Twilio-Signature": sign(TOKEN, url, form.items()),
        }
        told = await self.hub.call(
            "POST", f"/in/sms/tw{path}", key="", headers=headers, data=urlencode(form).encode()
        )
        return told.status

    async def aliyun_posts(self, kind: str, *items: dict[str, Any]) -> Any:
        told = await self.hub.call("POST", f"/in/sms/ali/{PUSH_SECRET}/{kind}", list(items), key="")
        assert told.status == 200, told
        return told.json

    async def receipt(self, message: dict[str, Any], status: str) -> None:
        """Call back where the message said, as the vendor would."""
        assert message["callback"] == f"{self.hub.hub.url}/in/sms/tw/status"
        assert (
            await self.twilio_posts(
                "/status", MessageSid=message["sid"], MessageStatus=status, To=message["to"]
            )
            == 200
        )

    async def customer(self, number: str) -> str:
        async def known() -> Any:
            page = await self.hub.get(
                "/api/v1/customers", params={"address": f"tel::e164:{number}"}
            )
            return page["customers"]

        found = await self.hub.until(f"the customer {number}", known)
        return f"/api/v1/customers/{found[0]['id']}"

    async def replies(self, path: str, text: str) -> str:
        body = {"parts": [{"type": "text", "text": text}]}
        told = await self.hub.post(f"{path}/replies", body, once=text.encode().hex())
        assert told.status == 202, told
        return str(told.json["entry_id"])

    async def settled(self, entry: str, *states: str) -> Entry:
        async def there() -> Any:
            found = await self.hub.hub.store.table(Entry).get(entry)
            delivery = found.delivery if found is not None else None
            return found if delivery is not None and delivery.state in states else None

        found: Entry = await self.hub.until(f"{entry} being {states}", there)
        return found


@pytest.fixture
async def world(mongo_url: str, mongo_db_name: str, tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        twilio = await stack.enter_async_context(FakeTwilio(numbers=(NUMBER, SECOND)))
        aliyun = await stack.enter_async_context(FakeAliyun())
        twilio.now = aliyun.now = lambda: datetime.now(UTC)
        hub = await stack.enter_async_context(
            running_hub(mongo_url, mongo_db_name, tmp_path, more=accounts(twilio, aliyun))
        )
        yield World(hub, twilio, aliyun)


async def test_sms_in_and_out(world: World) -> None:
    """One hub, everything in turn: starting one costs more than all that is asked of it here."""
    await every_push_is_one_entry(world)
    await a_forged_push_is_refused(world)
    await a_receipt_that_overtakes_the_send_is_not_lost(world)
    await a_lost_answer_is_looked_up_and_nothing_is_sent_twice(world)
    await what_surely_did_not_arrive_is_sent_again(world)
    await an_answer_leaves_by_the_number_and_the_way_that_was_written_to(world)
    await a_picture_is_fetched_and_stored(world)
    await a_picture_on_its_way_out_can_be_fetched_by_the_vendor(world)
    await a_text_is_counted_before_it_is_sent(world)
    await an_opt_out_is_told_and_kept(world)
    await a_template_only_account_refuses_free_text_and_sends_templates(world)
    await who_only_called_is_texted_when_somebody_says_so(world)
    await samples_are_taken_as_the_vendors_own_and_once(world)


async def an_answer_leaves_by_the_number_and_the_way_that_was_written_to(world: World) -> None:
    """Of two numbers the second, or WhatsApp: `reply_to` decides, or else what was said last."""
    said = [(DAN, SECOND, "by text"), (f"whatsapp:{DAN}", f"whatsapp:{NUMBER}", "by WhatsApp")]
    asked = []
    for number, (theirs, ours, text) in enumerate(said):
        sid = f"SMcc{number:030d}"
        await world.twilio_posts(MessageSid=sid, From=theirs, To=ours, Body=text, NumMedia="0")
        customer = await world.customer(DAN)

        async def there(text: str = text, customer: str = customer) -> Any:
            page = await world.hub.get(f"{customer}/timeline")
            return [each["id"] for each in page["entries"] if each["text"] == text]

        asked += await world.hub.until(f"{text} in the timeline", there)
        await world.settled(await world.replies(customer, f"to {text}"), "accepted")
    again = {"parts": [{"type": "text", "text": "again"}], "reply_to": asked[0]}
    told = await world.hub.post(f"{customer}/replies", again, once="again")
    await world.settled(told.json["entry_id"], "accepted")
    sent = {each["body"]: (each["from"], each["to"]) for each in world.twilio.sent}
    assert {text: sent[text] for text in ("to by text", "to by WhatsApp", "again")} == {
        "to by text": (SECOND, DAN),
        "to by WhatsApp": (f"whatsapp:{NUMBER}", f"whatsapp:{DAN}"),
        "again": (SECOND, DAN),
    }


async def who_only_called_is_texted_when_somebody_says_so(world: World) -> None:
    """A number that another channel knows: somebody says by which account it is texted."""
    call = Event(
        key="call",
        address=Address(scheme="tel", kind="e164", id=CALLER),
        name="call.ringing",
    )
    hub = world.hub.hub
    await hub.services.take_in("sample", "main", [call], door="webhook")
    customer = await world.customer(CALLER)
    shown = await world.hub.get(customer)
    [address] = shown["customer"]["addresses"]
    assert [(way["channel"], way["account"]) for way in address["also_by"]] == [
        ("sms", "ali"),
        ("sms", "tw"),
    ]
    body = {"parts": [{"type": "text", "text": "您刚才来电"}], "channel": "sms"}
    unclear = await world.hub.post(f"{customer}/replies", body, once="which")
    assert (unclear.status, unclear.problem) == (422, "bad-request")
    assert unclear.json["detail"] == "name the account of sms as well: ali, tw"
    refused = await world.hub.post(f"{customer}/replies", {**body, "account": "ali"}, once="ali")
    assert refused.problem == "template-needed"
    told = await world.hub.post(f"{customer}/replies", {**body, "account": "tw"}, once="tw")
    assert told.status == 202, told
    await world.settled(told.json["entry_id"], "accepted", "delivered")
    assert [each["body"] for each in world.twilio.messages if each["to"] == CALLER] == [
        "您刚才来电"
    ]
    await world.twilio_posts(
        MessageSid=f"SM{'c' * 32}", From=CALLER, To=NUMBER, Body="好的", NumMedia="0"
    )

    async def answered() -> Any:
        page = await world.hub.get(f"{customer}/timeline")
        return [each for each in page["entries"] if each["text"] == "好的"]

    await world.hub.until("their answer in the same timeline", answered)


async def every_push_is_one_entry(world: World) -> None:
    """Three deliveries of each, overlapping, in any order: texts, wishes, receipts, batches."""
    chance = random.Random(5)
    forms: list[dict[str, str]] = []
    for number in range(1, PUSHES + 1):
        form = {
            "MessageSid": f"SMaa{number:030d}",
            "From": chance.choice([ANN, BOB, "10086"]),
            "To": NUMBER,
            "Body": chance.choice(["你好", "yes please", "在吗？", "TD"]),
            "NumMedia": "0",
        }
        if number % 5 == 0:
            state = chance.choice(["sent", "delivered", "undelivered"])
            form = {"MessageSid": f"SMbb{number:030d}", "MessageStatus": state}
        forms.append(form)
    batches = [
        [
            {"phone_number": BOB.removeprefix("+86"), "content": "你好", "sequence_id": f"b{n}.{i}"}
            for i in range(5)
        ]
        for n in range(PUSHES // 20)
    ]
    deliveries: list[Any] = [*forms, *batches] * 3
    chance.shuffle(deliveries)
    gate = asyncio.Semaphore(16)

    async def deliver(what: Any) -> int:
        async with gate:
            if isinstance(what, list):
                return 200 if (await world.aliyun_posts("up", *what))["code"] == 0 else 0
            path = "/status" if "MessageStatus" in what else ""
            return await world.twilio_posts(path, **what)

    assert set(await asyncio.gather(*map(deliver, deliveries))) == {200}
    entries = world.hub.hub.store.table(Entry)
    expected = len(forms) - PUSHES // 5 + 5 * len(batches)

    async def all_routed() -> Any:
        return not await world.hub.hub.store.table(InboxItem).count({"open": True}, limit=1)

    await world.hub.until("everything being routed", all_routed)
    assert await entries.count({}) == expected


async def a_forged_push_is_refused(world: World) -> None:
    before = await world.hub.hub.store.table(InboxItem).count({})
    form = urlencode({"MessageSid": "SM1", "From": ANN, "To": NUMBER, "Body": "forged"}).encode()
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Twilio-Signature": sign("another", f"{world.hub.hub.url}/in/sms/tw", []),
    }
    for path, sent in (("tw", headers), ("tw", {}), ("tw/status", headers), ("ali/up", {})):
        told = await world.hub.call("POST", f"/in/sms/{path}", key="", headers=sent, data=form)
        assert told.status == 403, (path, told)
    assert await world.hub.hub.store.table(InboxItem).count({}) == before


async def a_receipt_that_overtakes_the_send_is_not_lost(world: World) -> None:
    async def call_back_first(message: dict[str, Any]) -> None:
        for status in ("delivered", "sent", "queued"):  # and in the wrong order
            await world.receipt(message, status)

    world.twilio.before_answer = call_back_first
    path = await world.customer(ANN)
    entry = await world.settled(await world.replies(path, "快到了"), "delivered")
    assert entry.direction is Direction.OUT
    world.twilio.before_answer = None
    sent = world.twilio.sent[-1]
    assert (sent["from"], sent["to"], sent["body"]) == (NUMBER, ANN, "快到了")


async def a_lost_answer_is_looked_up_and_nothing_is_sent_twice(world: World) -> None:
    path = await world.customer(ANN)
    posts = len(world.twilio.posts)
    world.twilio.script = ["lose"]
    entry = await world.replies(path, "你的包裹到了")
    await world.settled(entry, "accepted")
    assert len(world.twilio.posts) == posts + 1
    await world.receipt(world.twilio.sent[-1], "delivered")
    await world.settled(entry, "delivered")


async def what_surely_did_not_arrive_is_sent_again(world: World) -> None:
    path = await world.customer(ANN)
    posts, sent = len(world.twilio.posts), len(world.twilio.sent)
    world.twilio.script = [(502, "<html>Bad Gateway</html>")]
    with patch("connectors.sms.twilio_sending.SURE_AFTER", timedelta(0)):
        await world.settled(await world.replies(path, "你好，在吗"), "accepted")
    assert len(world.twilio.posts) == posts + 2
    assert len(world.twilio.sent) == sent + 1


async def a_picture_is_fetched_and_stored(world: World) -> None:
    world.twilio.files["ME1"] = (photo(), "image/jpeg")
    url = f"{world.twilio.url}/2010-04-01/Accounts/{SID}/Messages/MM7/Media/ME1"
    await world.twilio_posts(
        MessageSid="MM7", From=BOB, To=NUMBER, Body="", NumMedia="1",
        MediaUrl0=url, MediaContentType0="image/jpeg",
    )  # fmt: skip

    async def stored() -> Any:
        page = await world.hub.get(f"{await world.customer(BOB)}/timeline")
        parts = page["entries"][0]["parts"]
        return parts and parts[0]["type"] == "image" and parts[0]["media"].get("blob")

    await world.hub.until("the picture", stored)
    assert world.twilio.seen_authorization[-1].startswith("Basic ")


async def a_picture_on_its_way_out_can_be_fetched_by_the_vendor(world: World) -> None:
    fetched: list[tuple[str, bytes]] = []

    async def fetch(message: dict[str, Any]) -> None:
        (link,) = [value for name, value in world.twilio.posts[-1] if name == "MediaUrl"]
        path = link.removeprefix(world.hub.hub.url)
        told = await world.hub.call("GET", path, key="")
        fetched.append((told.headers["Content-Type"], told.body))
        for forged in (path.replace("signature=", "signature=0"), path.split("&")[0]):
            assert (await world.hub.call("GET", forged, key="")).status in (404, 422)

    world.twilio.before_answer = fetch
    uploaded = await world.hub.call(
        "POST", "/api/v1/attachments?name=a.jpg", data=photo(), once="u"
    )
    assert uploaded.status in (200, 201), uploaded
    media = {"blob": uploaded.json["id"]}
    path = await world.customer(ANN)
    body = {"parts": [{"type": "text", "text": "看"}, {"type": "image", "media": media}]}
    told = await world.hub.post(f"{path}/replies", body, once="picture")
    assert told.status == 202, told
    await world.settled(told.json["entry_id"], "accepted")
    world.twilio.before_answer = None
    ((mime, data),) = fetched
    assert mime == "image/jpeg"
    assert data.startswith(b"\xff\xd8")


async def a_text_is_counted_before_it_is_sent(world: World) -> None:
    told = await world.hub.post("/api/v1/x/sms/segments", {"text": "It’s " + "a" * 70})
    assert told.status == 200, told
    assert told.json == {
        "encoding": "ucs2", "units": 75, "parts": 2, "left": 59, "forced_by": "’",
    }  # fmt: skip
    for body, status in (({}, 422), ({"text": "x" * 10_001}, 422), ({"text": 1}, 422)):
        assert (await world.hub.post("/api/v1/x/sms/segments", body)).status == status
    raw = {"Content-Type": "application/json"}
    for data, headers, status in (
        (b"{", raw, 400),
        (b'"' + b"x" * 70_000 + b'"', raw, 413),
        (b"{}", {"Content-Type": "text/plain"}, 415),
    ):
        told = await world.hub.call("POST", "/api/v1/x/sms/segments", headers=headers, data=data)
        assert (told.status, told.headers["Content-Type"]) == (status, "application/problem+json")


async def an_opt_out_is_told_and_kept(world: World) -> None:
    await world.twilio_posts(
        MessageSid="SM" + "e" * 32, From=BOB, To=NUMBER, Body="STOP", OptOutType="STOP",
        NumMedia="0",
    )  # fmt: skip
    world.twilio.opted_out.add((NUMBER, BOB))
    path = await world.customer(BOB)

    async def told() -> Any:
        page = await world.hub.get(f"{path}/timeline")
        events = [each for each in page["entries"] if each["event"] == "contact.opted_out"]
        return events and events[0]["data"]["scope"] == NUMBER

    await world.hub.until("the opt-out in the timeline", told)
    failed = await world.settled(await world.replies(path, "noch da?"), "failed")
    assert failed.delivery is not None
    assert failed.delivery.code == "21610"
    assert "opted out" in failed.delivery.reason


async def a_template_only_account_refuses_free_text_and_sends_templates(world: World) -> None:
    up = {
        "phone_number": CAI.removeprefix("+86"),
        "send_time": "2026-03-02 17:20:00",
        "content": "我的订单呢",
        "dest_code": "1069000007",
        "sequence_id": "1",
    }
    for _ in range(3):
        assert (await world.aliyun_posts("up", up, {**up, "sequence_id": "2"}))["code"] == 0
    path = await world.customer(CAI)

    async def both() -> Any:
        page = await world.hub.get(f"{path}/timeline")
        return len(page["entries"]) == 2

    await world.hub.until("two messages of three deliveries", both)
    refused = await world.hub.post(
        f"{path}/replies", {"parts": [{"type": "text", "text": "明天送到"}]}, once="free"
    )
    assert (refused.status, refused.problem) == (422, "template-needed")
    assert [each["name"] for each in refused.json["templates"]] == ["SMS_1", "SMS_2", "SMS_3"]
    assert world.aliyun.asked == 0

    async def call_back_first(taken: dict[str, Any]) -> None:
        await world.aliyun_posts(
            "report",
            {
                "phone_number": taken["to"],
                "success": True,
                "err_code": "DELIVERED",
                "biz_id": taken["id"],
                "out_id": taken["key"],
            },
        )

    world.aliyun.before_answer = call_back_first
    template = {"name": "SMS_1", "params": {"content": "明天送到"}}
    told = await world.hub.post(f"{path}/replies", {"template": template}, once="template")
    assert told.status == 202, told
    assert told.json["entry"]["text"] == "您的客服回复：明天送到"
    await world.settled(told.json["entry_id"], "delivered")
    assert world.aliyun.taken[-1]["params"] == {"content": "明天送到"}


async def samples_are_taken_as_the_vendors_own_and_once(world: World) -> None:
    """What `omniline simulate` sends; a second time it is acknowledged and changes nothing."""
    hub = world.hub.hub
    entries = []
    dead = await hub.store.table(DeadLetter).count({})  # the answer to who opted out
    for _round in range(2):
        for key in ("tw", "ali"):
            for sample in hub.connectors[("sms", key)].samples(hub.clock):
                told = await world.hub.call(
                    "POST",
                    f"/in/sms/{key}{sample.request.path}",
                    key="",
                    headers=sample.request.headers,
                    data=sample.request.body,
                )
                assert told.status == 200, (key, sample.name, told)

        async def all_routed() -> Any:
            return not await hub.store.table(InboxItem).count({"open": True}, limit=1)

        await world.hub.until("everything being routed", all_routed)
        entries.append(await hub.store.table(Entry).count({}))
    assert entries[0] == entries[1]
    assert await hub.store.table(DeadLetter).count({}) == dead, "a sample could not be read"
