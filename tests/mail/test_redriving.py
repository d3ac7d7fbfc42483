"""A mail that could not be read is kept, and comes in whole once its reader was mended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from connectors.mail.connector import MailConnector
from connectors.mail.parse_child import Task, read
from connectors.mail.parsing import ParseError
from connectors.mail.reading import ReadMail
from hub import Incoming
from hub.documents import DeadLetter, InboxItem
from hub.planning.rules import Refusal
from hub.preparing import decode_drafts
from hub.replay import Replay
from hub.testing.services import FakeServices
from normalizer.drafts import Message
from normalizer.model import Direction
from normalizer.parts import File
from tests.mail.mailboxes import connector, mail
from tests.mail.reading.building import attachment, mail_of, multipart, part, text
from tests.mail.test_archive import SETTINGS

NOW = datetime(2026, 11, 22, 2, tzinfo=UTC)


class Reader:
    """Reads in this process; while ``broken`` it can read nothing."""

    broken = True

    async def read(self, task: Task) -> ReadMail:
        if self.broken:
            raise ParseError("the mail cannot be read: ValueError in reader.py:1")
        return read(task)


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def services() -> FakeServices:
    return FakeServices()


@pytest.fixture
async def shop(services: FakeServices, reader: Reader) -> AsyncIterator[MailConnector]:
    made = connector({**SETTINGS, "limits": {"mail_bytes": 60_000_000}}, services, "shop")
    made._taker._parser = reader  # type: ignore[assignment]
    yield made
    await made.stop()


async def failed(shop: MailConnector, raw: bytes, folder: str) -> Incoming:
    incoming = await shop._taker.take(raw, folder=folder, internal_date=NOW)
    assert incoming is not None
    assert incoming.failed
    return incoming


async def redriven(services: FakeServices, shop: MailConnector, incoming: Incoming) -> Message:
    """Store the item and its letter as the hub does, and redrive it."""
    store = services.store
    item = InboxItem(
        id="in_1", channel="mail", account="shop", received_at=NOW, door="hold",
        raw=incoming.raw, failed=incoming.failed,
    )  # fmt: skip
    letter = DeadLetter(
        id="ded_1", kind="inbox", reason=incoming.failed, stage="parse", channel="mail",
        account="shop", ref=item.id, at=NOW, state="open",
    )  # fmt: skip
    await store.table(InboxItem).insert([item])
    await store.table(DeadLetter).insert([letter])
    replay = Replay(store, services.key, services.clock, lambda channel, account: shop)
    assert (await replay.redrive(letter, by="a test")).state == "redriven"
    again = await store.table(InboxItem).get(item.id)
    assert again is not None
    assert again.open
    assert again.failed is None
    (draft,) = decode_drafts(again.drafts)
    assert isinstance(draft, Message)
    return draft


async def test_a_redriven_mail_brings_its_text_and_its_files(
    services: FakeServices, shop: MailConnector, reader: Reader
) -> None:
    tree = multipart("mixed", text("please help"), attachment(b"%PDF-1.4 words"))
    incoming = await failed(shop, mail_of(tree), "inbox")
    reader.broken = False
    draft = await redriven(services, shop, incoming)
    assert (draft.direction, draft.address.id) == (Direction.IN, "li@example.org")
    (file,) = [part for part in draft.parts if isinstance(part, File)]
    assert file.media.blob is not None
    assert await services.store.blobs.read(file.media.blob) == b"%PDF-1.4 words"


async def test_a_redriven_answer_from_the_sent_folder_is_still_our_side_s(
    services: FakeServices, shop: MailConnector, reader: Reader
) -> None:
    raw = mail("hello", sender="shop@example.org", to="ann@example.com")
    incoming = await failed(shop, raw, "sent")
    reader.broken = False
    draft = await redriven(services, shop, incoming)
    assert (draft.direction, draft.address.id) == (Direction.OUT, "ann@example.com")


async def test_nobody_says_of_their_own_mail_that_our_side_wrote_it(
    services: FakeServices, shop: MailConnector, reader: Reader
) -> None:
    raw = b"X-Hub-Folder: sent\r\n" + mail("hello", sender="shop@example.org")
    incoming = await failed(shop, raw, "inbox")
    reader.broken = False
    assert (await redriven(services, shop, incoming)).direction is Direction.IN


async def test_what_still_cannot_be_read_stays_a_dead_letter_with_the_reason(
    services: FakeServices, shop: MailConnector, reader: Reader
) -> None:
    incoming = await failed(shop, mail("hello"), "inbox")
    with pytest.raises(Refusal, match="still cannot read it: the mail cannot be read: ValueError"):
        await redriven(services, shop, incoming)


async def test_a_mail_within_a_raised_limit_is_read(shop: MailConnector, reader: Reader) -> None:
    """The reader's own bound is no lower than the one that decides what is fetched."""
    reader.broken = False
    file = part(bytes(37_000_000), "Content-Type: application/pdf")
    raw = mail_of(multipart("mixed", text("see the file"), file))
    incoming = await shop._taker.take(raw, folder="inbox", internal_date=NOW)
    assert incoming is not None
    assert not incoming.failed
