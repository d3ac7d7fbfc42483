"""A whole hub with a Weibo account: MongoDB and HTTP are real, Weibo is the strict fake.

What a customer, an agent and an operator see: each push once, answers once or in doubt and never
twice, windows, opt-outs, files, and a token that has to be bound again.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from connectors.weibo import WeiboConnector
from connectors.weibo.samples import push_body, signed_query
from hub import ConnectorContext, Refused, Request, signed_once
from hub.documents import Consent, DeadLetter, Entry, InboxItem, Job
from hub.simulate import simulate_channel
from normalizer.drafts import DeliveryState
from normalizer.model import Direction
from normalizer.parts import Image, MediaState, Text
from tests.media.pictures import photo
from tests.support.hubs import Answered, RunningHub, running_hub
from tests.support.mongo import OwnMongod
from tests.support.scale import scaled
from tests.weibo.fake_weibo import TOKEN, Answers, FakeWeibo
from tests.weibo.support import APP_SECRET, FAN, PATH, UID

pytestmark = pytest.mark.real_mongo
PUSHES = scaled(120, 1000)
DELIVERIES = 3  # what Weibo tries at most
AT_ONCE = 32
WAIT_S = 30.0
MEDIA = """
[hub.media]
private_hosts = ["127.0.0.1"]
"""


class Shop:
    """A hub with one Weibo account, and Weibo calling it."""

    def __init__(self, hub: RunningHub, weibo: FakeWeibo) -> None:
        self.hub = hub
        self.weibo = weibo
        self._count = 0
        self._answers: list[str] = []
        self.fan = FAN

    async def stored(self) -> None:
        """Wait until the inbox has everything: a busy machine puts some into the spool first."""
        assert await self.hub.hub.writer.drained(WAIT_S)

    async def routed(self) -> None:
        """Wait until everything that was acknowledged is in the timeline."""
        await self.stored()

        async def look() -> bool:
            return await self.hub.hub.store.table(InboxItem).count({"open": True}) == 0

        await self.until("everything routed", look)

    def meets_somebody_new(self) -> None:
        self.fan = str(int(self.fan) + 100)

    def arrived(self, fan: str = "") -> list[str]:
        """Return the texts that Weibo has for a fan."""
        return [each.text for each in self.weibo.got() if each.to == (fan or self.fan)]

    async def until(self, goal: str, look: Callable[[], Awaitable[Any]]) -> Any:
        """Return what ``look`` finds once it finds something."""
        ends = time.monotonic() + WAIT_S
        while not (found := await look()):
            assert time.monotonic() < ends, f"waited {WAIT_S} s for {goal}"
            await asyncio.sleep(0.02)
        return found

    @property
    def connector(self) -> WeiboConnector:
        found = self.hub.hub.connectors[("weibo", "shop")]
        assert isinstance(found, WeiboConnector)
        return found

    def query(self, **more: str) -> str:
        self._count += 1
        settings = self.connector.account.settings
        return signed_query(settings, datetime.now(UTC), f"{self._count:08d}", **more)

    def body(self, fields: Mapping[str, Any], sender: str = "") -> bytes:
        """Return a push of now; ``later`` is a second later, which is all that Weibo can tell."""
        fields = dict(fields)
        at = datetime.now(UTC) + timedelta(seconds=1 if fields.pop("later", False) else 0)
        return push_body(UID, at, {"sender_id": int(sender or self.fan), **fields})

    async def deliver(self, body: bytes, query: str = "", path: str = PATH) -> Answered:
        """Let Weibo call the hub once; what it says of the Content-Type is wrong."""
        return await self.hub.call(
            "POST",
            f"/in/weibo/shop/{path}?{query or self.query()}",
            key="",
            data=body,
            headers={"Content-Type": "text/plain"},
        )

    async def says(self, fields: Mapping[str, Any], sender: str = "") -> Entry:
        """Let a fan do something, and return its entry."""
        before = {each.id for each in await self.entries(sender)}
        answered = await self.deliver(self.body(fields, sender))
        assert (answered.status, answered.body) == (200, b"")

        async def look() -> Entry | None:
            new = [each for each in await self.entries(sender) if each.id not in before]
            return new[0] if new else None

        found: Entry = await self.until(f"the entry of {fields}", look)
        return found

    def address(self, sender: str = "") -> str:
        return self.hub.hub.key.hashed("adr", f"weibo:shop:uid:{sender or self.fan}")

    async def entries(self, sender: str = "") -> list[Entry]:
        return await self.hub.hub.store.table(Entry).find(
            {"address": self.address(sender)}, sort=[("position", 1)]
        )

    async def answers(self, text: str, sender: str = "", **more: str) -> str:
        """Let an agent answer; return the answer's entry."""
        page = await self.hub.get(
            "/api/v1/customers", params={"address": f"weibo:shop:uid:{sender or self.fan}"}
        )
        done = await self.hub.post(
            f"/api/v1/customers/{page['customers'][0]['id']}/replies",
            {"address": self.address(sender), "parts": [{"type": "text", "text": text}], **more},
            once=f"answer-{len(self._answers)}",
        )
        assert done.status in (200, 202), done
        ident: str = done.json["entry_id"]
        self._answers.append(ident)
        return ident

    async def state(self, ident: str, *wanted: DeliveryState) -> Entry:
        async def look() -> Entry | None:
            entry = await self.hub.hub.store.table(Entry).get(ident)
            reached = entry is not None and entry.delivery and entry.delivery.state in wanted
            return entry if reached else None

        found: Entry = await self.until(f"the state {wanted}", look)
        return found

    async def account(self) -> Mapping[str, Any]:
        page = await self.hub.get("/api/v1/accounts")
        (found,) = [each for each in page["accounts"] if each["channel"] == "weibo"]
        assert isinstance(found, dict)
        return found


def configured(weibo: FakeWeibo) -> str:
    """Return the TOML of the account."""
    lines = ["[[accounts]]", 'channel = "weibo"', 'key = "shop"']
    settings = {
        "uid": UID,
        "app_secrets": [APP_SECRET],
        "path_secret": PATH,
        "token_bound": (datetime.now(UTC) - timedelta(days=340)).date().isoformat(),
        **weibo.settings,
    }
    lines += [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    return "\n".join(lines) + MEDIA


@pytest.fixture
async def shop(
    mongo_url: str,
    mongo_db_name: str,
    tmp_path: Path,
    weibo: FakeWeibo,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Shop]:
    """An account whose database has time to answer, however busy the machine is."""
    monkeypatch.setattr(signed_once, "ASK_S", 10.0)
    async with running_hub(
        mongo_url, mongo_db_name, tmp_path, accounts=(), more=configured(weibo)
    ) as hub:
        yield Shop(hub, weibo)


# --- in ------------------------------------------------------------------------------------------


def _mixed(number: int) -> Mapping[str, Any]:
    kinds: tuple[Mapping[str, Any], ...] = (
        {"text": f"第{number}条 😀"},
        {"type": "event", "data": {"subtype": "click", "key": f"k{number}"}},
        {"type": "position", "data": {"longitude": str(number / 10), "latitude": "31.2"}},
        {"type": "mention", "text": "@某品牌", "data": {"subtype": "comment", "key": str(number)}},
        {"type": "hologram", "text": str(number), "data": []},
        {"type": "event", "text": str(number), "data": {"subtype": "follow"}},
    )
    return kinds[number % len(kinds)]


@pytest.mark.soak
async def test_mixed_pushes_delivered_three_times_at_once_are_each_an_entry_once(
    shop: Shop,
) -> None:
    """Weibo's own repetition: the same bytes, three times, overlapping, in any order."""
    chance = random.Random(20260302)
    pushes = [
        (shop.body(_mixed(number), str(int(FAN) + number % 7)), shop.query())
        for number in range(PUSHES)
    ]
    deliveries = [each for each in pushes for _ in range(DELIVERIES)]
    deliveries.sort(key=lambda each: (pushes.index(each) // 20, chance.random()))
    room = asyncio.Semaphore(AT_ONCE)

    async def one(body: bytes, query: str) -> tuple[int, bytes]:
        async with room:
            answered = await shop.deliver(body, query)
            return answered.status, answered.body

    with structlog.testing.capture_logs() as logged:
        told = await asyncio.gather(*(one(*each) for each in deliveries))
        assert set(told) == {(200, b"")}

        await shop.routed()
    entries = [each for number in range(7) for each in await shop.entries(str(int(FAN) + number))]
    assert len(entries) == PUSHES
    assert sum(each.public for each in entries) == len(range(3, PUSHES, 6))
    assert not [each for each in logged if each["log_level"] in ("error", "critical")]
    assert await shop.hub.hub.store.table(DeadLetter).count({}) == 0


async def _what_is_not_weibos_is_refused_and_nothing_of_it_is_kept(shop: Shop) -> None:
    """Each guard by itself on the real route, and a forger who asks another process."""
    inbox = shop.hub.hub.store.table(InboxItem)
    body, query = shop.body({"text": "genuine"}), shop.query()
    good = await shop.deliver(body, query)
    assert good.status == 200
    await shop.stored()
    kept = await inbox.count({})
    forged = shop.body({"text": "forged"})
    other = shop.body({"text": "x"}).replace(UID.encode(), b"1000000008")
    old = signed_query(
        shop.connector.account.settings, datetime.fromtimestamp(1_700_000_000, UTC), "1"
    )
    with pytest.MonkeyPatch.context() as patched, structlog.testing.capture_logs() as logged:
        patched.setattr(shop.connector, "admit", None)
        assert (await shop.deliver(forged)).status == 500
    assert "request_failed" in {each["event"] for each in logged}
    assert PATH not in repr(logged)
    tries = {
        "another body": await shop.deliver(forged, query),
        "another path": await shop.deliver(forged, path=f"{PATH}x"),
        "another receiver": await shop.deliver(other),
        "stale": await shop.deliver(forged, old),
        "no signature": await shop.deliver(forged, "timestamp=1&nonce=1"),
    }
    assert {told: answered.status for told, answered in tries.items()} == dict.fromkeys(tries, 403)
    assert len({answered.body for answered in tries.values()}) == 1
    without = await shop.hub.call("POST", f"/in/weibo/shop?{shop.query()}", key="", data=forged)
    assert without.status == 403
    process = WeiboConnector(
        shop.connector.account,
        ConnectorContext("weibo", shop.hub.hub.services, structlog.get_logger(), "weibo", "shop"),
    )
    request = Request(
        method="POST",
        url="",
        path=f"/{PATH}",
        query_string=query,
        body=forged,
        received_at=datetime.now(UTC),
    )
    with pytest.raises(Refused, match="replayed"):
        await process.admit(process.verify(request))
    assert (await shop.deliver(body, query)).status == 200
    await shop.stored()
    assert await inbox.count({}) == kept + 1, "a repetition is taken in, and changes nothing"
    for item in await inbox.find({}):
        assert PATH.encode() not in item.raw

    async def look() -> list[Entry]:
        return await shop.entries()

    (entry,) = await shop.until("the entry", look)
    assert "genuine" in repr(entry.parts)


async def _the_url_check_is_answered(shop: Shop) -> None:
    check = shop.query(echostr="4242")
    answered = await shop.hub.call("GET", f"/in/weibo/shop/{PATH}?{check}", key="")
    assert (answered.status, answered.body) == (200, b"4242")
    forged = await shop.deliver(shop.body({"text": "forged"}), check)
    assert forged.status == 403


async def _every_sample_is_taken_when_it_is_simulated(shop: Shop) -> None:
    hub = shop.hub.hub
    played = [each async for each in simulate_channel(hub.config, "weibo", hub.url)]
    assert len(played) == 16
    assert not [each for each in played if each.refused]
    assert played[0].answer == "4242"


async def _a_token_near_its_end_is_seen_on_the_account(shop: Shop) -> None:
    async def look() -> Mapping[str, Any] | None:
        account = await shop.account()
        return account if account["state"] == "degraded" else None

    account = await shop.until("the account's state", look)
    assert "within 30 days" in account["reason"]


async def _what_cannot_be_read_is_acknowledged_and_kept(shop: Shop) -> None:
    body = json.dumps({"receiver_id": int(UID), "type": "text", "text": "from nobody"}).encode()
    assert (await shop.deliver(body)).status == 200
    letters = shop.hub.hub.store.table(DeadLetter)

    async def look() -> list[DeadLetter]:
        return await letters.find({})

    (letter,) = await shop.until("the dead letter", look)
    assert "sender_id" in letter.reason


async def _a_picture_is_fetched_with_the_receivers_reference(shop: Shop) -> None:
    shop.weibo.files["821804469"] = ("image/jpeg", photo())
    entry = await shop.says(
        {
            "type": "image",
            "text": "发了一张图片",
            "data": {"vfid": 821804459, "tovfid": 821804469},
        }
    )

    async def look() -> Image | None:
        (part,) = (await shop.hub.entry(entry.id)).parts
        assert isinstance(part, Image)
        return part if part.media.state is not MediaState.PENDING else None

    part = await shop.until("the file", look)
    assert part.media.state is MediaState.READY, part.media.reason
    assert part.media.mime == "image/jpeg"


# --- out -----------------------------------------------------------------------------------------


async def _an_answer_whose_answer_is_lost_is_on_its_way(shop: Shop) -> Callable[[], Any]:
    """Return what has to hold of it some seconds later, when nobody could say what became of it."""
    fan = shop.fan
    await shop.says({"text": "还在吗？"})
    await shop.state(await shop.answers("您好，还在"), DeliveryState.ACCEPTED)
    shop.weibo.next_answer = [Answers(acts=True, cuts=True)]
    lost = await shop.answers("也许")
    after = await shop.answers("再见")

    async def it_arrived_once_and_is_shown_to_a_person() -> None:
        await shop.state(lost, DeliveryState.UNKNOWN)
        await shop.state(after, DeliveryState.ACCEPTED)
        assert shop.arrived(fan) == ["您好，还在", "也许", "再见"]
        (job,) = await shop.hub.hub.store.table(Job).find({"entry": lost})
        (letter,) = await shop.hub.hub.store.table(DeadLetter).find({"ref": job.id})
        assert letter.state == "open"

    async def gone() -> bool:
        return not shop.weibo.next_answer

    await shop.until("the lost answer", gone)
    return it_arrived_once_and_is_shown_to_a_person


async def _windows_open_on_what_fans_do_and_shut_when_they_leave(shop: Shop) -> None:
    """Followed: answered. Unfollowed: refused before Weibo is asked. Back again: answered."""
    await shop.says({"type": "event", "data": {"subtype": "follow"}})
    for number in range(3):
        await shop.state(await shop.answers(f"欢迎 {number}"), DeliveryState.ACCEPTED)
    await shop.says({"type": "event", "data": {"subtype": "unfollow"}})
    refused = await shop.state(await shop.answers("别走"), DeliveryState.FAILED)
    assert refused.delivery is not None
    assert refused.delivery.code == "window_closed"
    clicked = {"type": "event", "data": {"subtype": "click", "key": "orders"}, "later": True}
    await shop.says(clicked)
    await shop.state(await shop.answers("订单"), DeliveryState.ACCEPTED)
    assert len(shop.arrived()) == 4


async def _each_mention_allows_one_answer(shop: Shop) -> None:
    """Two mentions: two answers; the third is refused before Weibo, which counts as well."""
    shop.weibo.one_each = Counter({shop.fan: 2})
    first = await shop.says({"type": "mention", "text": "@某品牌 一", "data": {"key": "1"}})
    second = await shop.says({"type": "mention", "text": "@某品牌 二", "data": {"key": "2"}})
    assert first.public
    assert first.thread != second.thread
    long = await shop.state(await shop.answers("长" * 300), DeliveryState.FAILED)
    assert long.delivery is not None
    assert "takes 2 messages" in long.delivery.reason
    for text, mention in (("一", first), ("二", second)):
        answer = await shop.answers(text, thread=mention.thread or "")
        sent = await shop.state(answer, DeliveryState.ACCEPTED)
        assert sent.thread == mention.thread
    refused = await shop.state(await shop.answers("三"), DeliveryState.FAILED)
    assert refused.delivery is not None
    assert refused.delivery.code == "window_spent"
    assert len(shop.arrived()) == 2
    assert not shop.weibo.violations
    shop.weibo.one_each = None


async def _subscribing_and_unsubscribing_are_written_into_the_consent_ledger(
    shop: Shop,
) -> None:
    for subtype, state in (("unsubscribe", "withdrawn"), ("subscribe", "granted")):
        entry = await shop.says({"type": "event", "text": "td", "data": {"subtype": subtype}})
        assert entry.kind == "event"
        (consent,) = await shop.hub.hub.store.table(Consent).find({"state": state})
        assert consent.address == entry.address


async def _a_token_that_is_refused_stops_sending_and_names_the_remedy(shop: Shop) -> None:
    """The answer is kept, the account says "needs re-binding", and Weibo is asked once."""
    await shop.says({"text": "还在吗？"})
    shop.weibo.token = "2.00another"
    before = shop.weibo.calls["reply"]
    first = await shop.answers("您好")
    second = await shop.answers("还在")

    async def look() -> Mapping[str, Any] | None:
        account = await shop.account()
        return account if account["state"] == "misconfigured" else None

    account = await shop.until("the account's state", look)
    assert "needs re-binding" in account["reason"]
    assert TOKEN not in msgspec.json.encode(account).decode()
    for ident in (first, second):
        entry = await shop.hub.entry(ident)
        assert entry.direction is Direction.OUT
        assert entry.delivery is not None
        assert entry.delivery.state in (DeliveryState.QUEUED, DeliveryState.SENDING)
    assert shop.weibo.calls["reply"] <= before + 1
    assert not shop.arrived()


async def test_what_comes_in_is_weibos_or_nothing(shop: Shop) -> None:
    """One hub, and a new fan for each of what the names say."""
    for holds in (
        _what_is_not_weibos_is_refused_and_nothing_of_it_is_kept,
        _the_url_check_is_answered,
        _every_sample_is_taken_when_it_is_simulated,
        _a_token_near_its_end_is_seen_on_the_account,
        _what_cannot_be_read_is_acknowledged_and_kept,
        _a_picture_is_fetched_with_the_receivers_reference,
    ):
        shop.meets_somebody_new()
        await holds(shop)


async def test_what_goes_out_keeps_to_windows_and_arrives_once(shop: Shop) -> None:
    """One hub, and a new fan for each of what the names say; the token is refused last."""
    settled = await _an_answer_whose_answer_is_lost_is_on_its_way(shop)
    for holds in (
        _windows_open_on_what_fans_do_and_shut_when_they_leave,
        _each_mention_allows_one_answer,
        _subscribing_and_unsubscribing_are_written_into_the_consent_ledger,
    ):
        shop.meets_somebody_new()
        await holds(shop)
    await settled()
    shop.meets_somebody_new()
    await _a_token_that_is_refused_stops_sending_and_names_the_remedy(shop)


async def test_pushes_are_taken_while_the_database_answers_nothing(
    tmp_path: Path, weibo: FakeWeibo
) -> None:
    """By the spool; a forged body is refused all the same, and later all is in the timeline."""
    with OwnMongod() as mongod:
        async with running_hub(
            mongod.url, "weibo", tmp_path, accounts=(), more=configured(weibo)
        ) as hub:
            shop = Shop(hub, weibo)
            await shop.says({"text": "before"})
            query, body = shop.query(), shop.body({"text": "meanwhile"})
            with mongod.frozen():
                told = [await shop.deliver(body, query) for _ in range(2)]
                forged = await shop.deliver(shop.body({"text": "forged"}), query)
            assert [each.status for each in (*told, forged)] == [200, 200, 403]
            await shop.routed()
            texts = [each.parts for each in await shop.entries()]
            assert texts == [(Text(text="before"),), (Text(text="meanwhile"),)]
