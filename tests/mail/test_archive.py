"""Mails from an archive are read as the mailbox's own door reads them, with their own times."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import pytest

from connectors.mail.connector import MailConnector
from connectors.mail.taking import instance_of
from hub.documents import Entry
from hub.importing.mbox_file import MboxFile
from hub.importing.taking import Taking
from hub.testing.services import FakeServices
from normalizer.drafts import Message
from normalizer.keys import dedupe_key
from normalizer.model import Direction
from normalizer.parts import File, MediaState, plain_text
from tests.mail.mailboxes import connector, mail
from tests.planners.harness import PlannerHarness

SETTINGS = {
    "address": "shop@example.org",
    "imap_host": "127.0.0.1",
    "imap_port": 1,
    "imap_tls": "none",
    "user": "shop",
    "password": "not used",
}


@pytest.fixture
async def shop() -> AsyncIterator[MailConnector]:
    made = connector(SETTINGS, FakeServices(), "shop")
    yield made
    await made.stop()


async def test_an_archived_mail_has_its_own_time_and_the_key_of_the_door(
    shop: MailConnector,
) -> None:
    raw = mail(ident="<old@example.com>", to="shop@example.org")
    read = await shop.read_history(raw, "")
    (draft,) = read.drafts
    assert isinstance(draft, Message)
    assert draft.direction is Direction.IN
    assert draft.at == datetime(2026, 11, 22, 2, tzinfo=UTC)
    live = await shop._taker.take(raw, folder="inbox", internal_date=draft.at)
    assert live is not None
    assert dedupe_key("mail", "shop", live.drafts[0]) == dedupe_key("mail", "shop", draft)


async def test_a_mail_from_the_sent_folder_is_our_side_s(shop: MailConnector) -> None:
    raw = mail(sender="shop@example.org", to="ann@example.com")
    (draft,) = (await shop.read_history(raw, "sent")).drafts
    assert isinstance(draft, Message)
    assert draft.direction is Direction.OUT
    assert draft.address.id == "ann@example.com"


async def test_attachments_of_an_archived_mail_are_kept(shop: MailConnector) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "ann@example.com", "shop@example.org", "x"
    message["Date"] = "Sun, 22 Nov 2020 10:00:00 +0800"
    message.set_content("see the file")
    message.add_attachment(b"1;2;3", maintype="text", subtype="csv", filename="orders.csv")
    (draft,) = (await shop.read_history(message.as_bytes(), "")).drafts
    assert isinstance(draft, Message)
    (file,) = [part for part in draft.parts if isinstance(part, File)]
    assert file.media.state is MediaState.PENDING
    assert file.media.blob is not None
    assert await shop.context.blobs.read(file.media.blob) == b"1;2;3"


async def test_the_hubs_own_mails_in_an_archive_are_known_and_no_failures(tmp_path: Path) -> None:
    services = FakeServices()
    shop = connector(SETTINGS, services, "shop")
    own = mail(
        sender="shop@example.org", to="ann@example.com", X_Hub_Instance=instance_of(shop.context)
    )
    file = tmp_path / "all.mbox"
    separator = b"From x Sun Nov 22 10:00:00 2026\n"
    file.write_bytes(separator + own + b"\n" + separator + mail(to="shop@example.org"))
    try:
        taking = Taking(services.store, services.key, services.clock, region="CN")
        counts = await taking.try_out(MboxFile(file, shop), lambda counts, page: None)
    finally:
        await shop.stop()
    assert (counts.seen, counts.taken, counts.known, counts.failed) == (2, 1, 1, 0)
    assert counts.failures == ()


async def test_archived_mails_without_references_are_one_thread(shop: MailConnector) -> None:
    """Our side first, as an import reads them; the customer's program names one mail at most."""
    hub = await PlannerHarness().open()
    archive = [
        ("sent", "a1", {"In_Reply_To": "<q1@x.test>", "References": "<q1@x.test>"}),
        ("sent", "a2", {"In_Reply_To": "<q2@x.test>", "References": "<a1@x.test> <q2@x.test>"}),
        ("", "q1", {}),
        ("", "q2", {"In_Reply_To": "<a1@x.test>"}),
        ("", "q3", {"subject": "回复: a question"}),
        ("", "another matter", {"subject": "Re: an invoice"}),
    ]
    for folder, name, headers in archive:
        sender, to = "ann@example.com", "shop@example.org"
        if folder:
            sender, to = to, sender
        raw = mail(name, sender=sender, to=to, ident=f"<{name}@x.test>", **headers)
        read = await shop.read_history(raw, folder)
        await hub.give(*read.drafts, channel="mail", account="shop", imported="imp_one")
    threads: dict[str, set[str]] = {}
    for entry in await hub.all(Entry):
        threads.setdefault(entry.thread or "", set()).add(plain_text(entry.parts))
    assert sorted(threads.values(), key=len) == [
        {"another matter"},
        {"a1", "a2", "q1", "q2", "q3"},
    ]
