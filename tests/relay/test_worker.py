"""What a relay job does with each answer of its target, over the in-memory store and real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from hub.config.sections import RelayConfig
from hub.documents import InboxItem, Job
from hub.intake import RELAYED, RawRequest
from hub.jobs import Obsolete
from hub.outbound.gate import AccountGate
from hub.relay import Relay
from hub.testing import MemoryStore
from hub.testing.clock import START, FakeClock
from normalizer.outcomes import Failure, Misconfigured, RateLimited, Rejected, Temporary
from tests.relay.target import Target, target

RAW = RawRequest(
    method="POST",
    path="/sub",
    query_string="signature=a%2Bb&nonce=%E4%BD%A0&x",
    headers={"content-type": "text/xml", "user-agent": "the vendor"},
    body=b"<xml>\xff</xml>",
    payload=b"decrypted",
)


class World:
    def __init__(self, served: Target) -> None:
        self.store = MemoryStore()
        self.clock = FakeClock()
        self.gate = AccountGate(self.clock)
        self.target = served
        self.relay = self.to(served.url)
        self.job = Job(
            id="job_1",
            lane="relay:chat:shop:crm",
            kind="relay",
            position=1,
            due_at=START,
            state="sending",
            attempts=1,
            account="chat:shop/crm",
            args={"item": "in_1", "relay": "crm"},
        )

    def to(self, url: str, *, allow_private: bool = True) -> Relay:
        config = RelayConfig(name="crm", url=url, allow_private=allow_private)
        return Relay(self.store, {"chat:shop": (config,)}, self.gate, self.clock)

    async def keep(self, raw: RawRequest | None = RAW, **more: Any) -> None:
        given = {"raw": msgspec.msgpack.encode(raw) if raw else b"", **more}
        item = InboxItem(
            id="in_1", channel="chat", account="shop", received_at=START, door="webhook", **given
        )
        await self.store.table(InboxItem).put([item])


@asynccontextmanager
async def _closing(relay: Relay) -> AsyncIterator[Relay]:
    try:
        yield relay
    finally:
        await relay.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with target() as served:
        world = World(served)
        await world.keep()
        async with _closing(world.relay):
            yield world


async def test_a_push_goes_on_as_it_came_with_nothing_of_ours(world: World) -> None:
    assert await world.relay.run(world.job) is None
    (got,) = world.target.got
    assert (got.method, got.query, got.body) == ("POST", RAW.query_string, RAW.body)
    assert got.path == "/from-omniline"
    assert got.headers["content-type"] == "text/xml"
    assert set(got.headers) == {"host", "content-type", "content-length", "user-agent", RELAYED}


@pytest.mark.parametrize(
    ("path", "query", "got"),
    [
        ("/hook?token=a%20b", RAW.query_string, f"token=a%20b&{RAW.query_string}"),
        ("/hook?token=a", "", "token=a"),
        ("/hook#part", "x=1", "x=1"),
        ("/钩子", "", ""),
    ],
)
async def test_a_target_may_have_a_query_of_its_own(
    world: World, path: str, query: str, got: str
) -> None:
    """Many receivers know their callers by a token there."""
    await world.keep(msgspec.structs.replace(RAW, query_string=query))
    url = world.target.url.replace("/from-omniline", path)
    async with _closing(world.to(url)) as relay:
        await relay.run(world.job)
    assert [each.query for each in world.target.got] == [got]


async def test_a_body_in_the_blob_store_goes_on_too(world: World) -> None:
    large = msgspec.structs.replace(RAW, body=b"x" * 2_000_000)
    blob = await world.store.blobs.put(msgspec.msgpack.encode(large), metadata={})
    await world.keep(None, raw_blob=blob)
    await world.relay.run(world.job)
    assert world.target.got[0].body == large.body


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (500, Temporary),
        (503, Temporary),
        (408, Temporary),
        (429, RateLimited),
        (302, Misconfigured),
        (401, Misconfigured),
        (404, Misconfigured),
        (400, Rejected),
        (422, Rejected),
    ],
)
async def test_answers_are_told_as_what_follows_from_them(
    world: World, status: int, told: type[Failure]
) -> None:
    world.target.status = status
    world.target.headers = {"Retry-After": "7", "Location": world.target.url}
    with pytest.raises(told) as raised:
        await world.relay.run(world.job)
    assert "crm" in raised.value.reason
    assert world.target.url not in raised.value.reason
    assert world.target.asked == 1, "redirects are not followed"
    if isinstance(raised.value, RateLimited):
        assert raised.value.retry_after == 7


async def test_after_three_days_of_tries_a_push_is_given_up(world: World) -> None:
    world.target.status = 404
    world.clock.advance(72 * 3600 + 1)
    with pytest.raises(Rejected):
        await world.relay.run(world.job)


async def test_a_target_that_keeps_failing_is_left_alone_for_a_while(world: World) -> None:
    world.target.status = 503
    for _ in range(5):
        with pytest.raises(Temporary):
            await world.relay.run(world.job)
    assert list(world.gate.shut()) == ["chat:shop/crm"]


async def test_a_target_that_is_not_there_is_tried_again(world: World) -> None:
    async with _closing(world.to("http://127.0.0.1:1/")) as relay:
        with pytest.raises(Temporary):
            await relay.run(world.job)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "10.1.2.3"])
async def test_private_addresses_are_for_those_who_say_so(world: World, host: str) -> None:
    url = f"http://{host}:{world.target.port}/x"
    async with _closing(world.to(url, allow_private=False)) as relay:
        with pytest.raises(Misconfigured, match="allow_private"):
            await relay.run(world.job)
    assert world.target.asked == 0


async def test_what_is_erased_gone_or_relayed_to_us_goes_nowhere(world: World) -> None:
    relayed = msgspec.structs.replace(RAW, headers={**RAW.headers, RELAYED: "1"})
    for raw in (None, relayed):
        await world.keep(raw)
        with pytest.raises(Obsolete):
            await world.relay.run(world.job)
    gone = msgspec.structs.replace(world.job, args={"item": "in_none", "relay": "crm"})
    other = msgspec.structs.replace(world.job, account="chat:shop/taken-out")
    for job in (gone, other):
        with pytest.raises(Obsolete):
            await world.relay.run(job)
    assert world.target.asked == 0


async def test_a_push_in_doubt_is_handed_on_again(world: World) -> None:
    assert await world.relay.look_up(world.job) is None
    assert world.relay.holds_lane(world.job)
    assert await world.relay.address_of(world.job) == ("chat", "shop")
