"""What a vendor was believed to have sent is kept, whatever it is and however large."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import structlog

from hub import Account, ConnectorContext, Refused, Request, Verified
from hub.config import Secret
from hub.documents import CORE, InboxItem
from hub.inbox_writer import InboxWriter
from hub.intake import RAW_INLINE_BYTES, Intake, RawRequest
from hub.metrics import Metrics
from hub.store.codec import FieldCipher
from hub.testing import FakeClock, FakeServices
from hub.testing.samples.webhook import Push, SampleWebhook, Settings, signed_headers
from normalizer.drafts import AnyDraft
from tests.store.spaces import Space, open_space

SECRET = b"what the vendor and the hub share"
PHONE = "13800138000"


class Surprised(SampleWebhook):
    """Its vendor sends something that it did not expect."""

    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        raise ValueError("no such thing as \udc80\r\nX: y")


class Remembering(SampleWebhook):
    """It was signed, and must not count all the same."""

    async def admit(self, verified: Verified) -> None:
        raise Refused("replayed")


def _connector(kind: type[SampleWebhook]) -> SampleWebhook:
    account = Account(
        channel="sample",
        key="main",
        label="",
        settings=Settings(secrets=[Secret(SECRET.decode())]),
    )
    context = ConnectorContext("sample", FakeServices(), structlog.get_logger(), "sample", "main")
    return kind(account, context)


def _pushed(text: str) -> Request:
    clock = FakeClock()
    push = Push(id="m1", sender=PHONE, at=int(clock.now().timestamp() * 1000), text=text)
    body = msgspec.json.encode(push)
    return Request(
        method="POST",
        url="http://hub/in/sample/main",
        headers=signed_headers(SECRET, int(clock.now().timestamp()), body),
        body=body,
        received_at=clock.now(),
    )


async def _taken_in(space: Space, connector: SampleWebhook, request: Request) -> InboxItem:
    writer = InboxWriter(space.store.inbox, None)
    await writer.start()
    services = FakeServices()
    intake = Intake(writer, space.store.blobs, services.key, FakeClock(), Metrics())
    answer = await intake.webhook(connector, request)
    await writer.close()
    assert answer.status == 200
    (item,) = await space.store.inbox.unrouted(10, 1 << 30)
    return item


async def test_what_is_not_admitted_is_refused_like_what_is_not_believed(
    request: pytest.FixtureRequest,
) -> None:
    async with open_space("memory", request, kinds=CORE) as space:
        writer = InboxWriter(space.store.inbox, None)
        await writer.start()
        services = FakeServices()
        intake = Intake(writer, space.store.blobs, services.key, FakeClock(), Metrics())
        answer = await intake.webhook(_connector(Remembering), _pushed("hello"))
        await writer.close()
        assert answer.status == 403
        assert await space.store.inbox.unrouted(10, 1 << 30) == []


@pytest.mark.parametrize("kind", ["memory", "pymongo"])
async def test_a_large_request_goes_to_the_blobs_whole(
    kind: Any, request: pytest.FixtureRequest
) -> None:
    pushed = _pushed("x" * RAW_INLINE_BYTES)
    async with open_space(kind, request, kinds=CORE) as space:
        item = await _taken_in(space, _connector(SampleWebhook), pushed)
        assert item.raw == b""
        assert item.raw_blob is not None
        raw = msgspec.msgpack.decode(await space.store.blobs.read(item.raw_blob), type=RawRequest)
        assert raw.body == pushed.body


@pytest.mark.real_mongo
async def test_a_large_request_is_not_kept_in_clear_where_the_space_encrypts(
    request: pytest.FixtureRequest,
) -> None:
    cipher = FieldCipher({"k1": b"1" * 32}, "k1")
    async with open_space("pymongo", request, cipher=cipher, kinds=CORE) as space:
        item = await _taken_in(space, _connector(SampleWebhook), _pushed("x" * RAW_INLINE_BYTES))
        assert item.raw_blob is not None
        assert PHONE.encode() in await space.store.blobs.read(item.raw_blob)
        assert await space.found_in_clear(PHONE) == []


@pytest.mark.parametrize("kind", ["memory", "pymongo"])
async def test_a_reason_with_broken_characters_does_not_lose_the_request(
    kind: Any, request: pytest.FixtureRequest
) -> None:
    """The parser's own words may hold what no database stores."""
    async with open_space(kind, request, kinds=CORE) as space:
        item = await _taken_in(space, _connector(Surprised), _pushed("hello"))
        assert item.failed is not None
        assert item.failed.startswith("ValueError: no such thing as")
        assert "\n" not in item.failed
        assert b"hello" in item.raw


@pytest.mark.parametrize(("door", "held"), [("webhook", True), ("poll", True), ("worker", False)])
async def test_a_store_only_account_holds_what_comes_from_outside_and_not_what_became_of_answers(
    request: pytest.FixtureRequest, door: str, held: bool
) -> None:
    async with open_space("memory", request, kinds=CORE) as space:
        writer = InboxWriter(space.store.inbox, None)
        await writer.start()
        intake = Intake(
            writer,
            space.store.blobs,
            FakeServices().key,
            FakeClock(),
            Metrics(),
            inbound=lambda channel, account: "store-only",
        )
        drafts = _connector(SampleWebhook).parse(_pushed("hello").verified())
        ident = await intake.take_in("sample", "main", drafts, door=door)
        await writer.close()
        unrouted = [item.id for item in await space.store.inbox.unrouted(10, 1 << 20)]
        assert unrouted == ([] if held else [ident])
