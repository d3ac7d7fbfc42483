"""The held door on a real dovecot, fed by a real postfix."""

from __future__ import annotations

import asyncio
import time

import pytest
from msgspec.structs import replace

from connectors.mail.positions import Positions
from normalizer.drafts import Message
from normalizer.model import Direction
from normalizer.outcomes import Failure, Misconfigured, Temporary
from tests.mail.conftest import MakeBox
from tests.mail.mailboxes import Mailbox, mail
from tests.support.mailserver import MailServer
from tests.support.scale import scaled

KICKED_S = 5.0


async def test_a_new_mail_comes_by_idle(box: Mailbox) -> None:
    held = await box.hold().open()
    raw = box.gets("还没收到😀", ident="<one@example.com>")
    await held.until(lambda: held.items, "the mail")
    (item,) = held.items
    assert held.texts == ["还没收到😀"]
    assert b"<one@example.com>" in item.raw
    assert raw.partition(b"\n\n")[2].strip() in item.raw


async def test_reading_marks_nothing_as_seen(box: Mailbox) -> None:
    """People read the same mailbox: what the hub has read stays new for them."""
    held = await box.hold().open()
    box.gets()
    await held.until(lambda: held.items, "the mail")
    names = [path.name for path in box.server.maildir(box.user).rglob("*") if ",S=" in path.name]
    assert names
    assert not [name for name in names if "S" in name.rpartition(":2,")[2]]


@pytest.mark.soak
async def test_old_mails_are_history(box: Mailbox) -> None:
    """Connecting a full mailbox delivers nothing of it, only what comes from then on."""
    count = scaled(2_000, 50_000)
    box.has(*(f"old {number}" for number in range(count)))
    held = await box.hold().open()
    box.gets("new")
    await held.until(lambda: held.items, "the new mail", within_s=60)
    assert held.texts == ["new"]


async def test_what_came_meanwhile_is_taken_in_order(box: Mailbox) -> None:
    """More than one command's worth of mails behind the cursor: all of them, once, in order."""
    held = await box.hold().open()
    await held.close()
    texts = [f"text {number:03}" for number in range(250)]
    box.has(*texts)
    again = box.hold(held.cursor)
    await again.until(lambda: len(again.items) >= 250, "all", within_s=60)
    assert sorted(again.texts) == texts
    uids = Positions.decode(again.cursor).folders["INBOX"].uid
    third = box.hold(again.cursor)
    box.gets("last")
    await third.until(lambda: third.items, "the last one")
    assert third.texts == ["last"]
    assert Positions.decode(third.cursor).folders["INBOX"].uid == uids + 1


async def test_a_kicked_connection_delays_the_next_mail_by_seconds(box: Mailbox) -> None:
    held = await box.hold().open()
    await idle_settled(box)
    box.server.kick(box.user)
    started = time.monotonic()
    error = await held.ended()
    assert isinstance(error, Temporary)
    assert time.monotonic() - started < KICKED_S
    box.gets("after the kick")
    again = box.hold(held.cursor)
    await again.until(lambda: again.items, "the mail")
    assert time.monotonic() - started < KICKED_S
    assert again.texts == ["after the kick"]


async def idle_settled(box: Mailbox) -> None:
    """Let a mail through, so that the connection is known to be in IDLE."""
    held = box._held[-1]
    box.gets("first")
    await held.until(lambda: "first" in held.texts, "the first mail")


async def test_a_wrong_password_is_named_and_not_tried_for_ever(make_box: MakeBox) -> None:
    box = await make_box(password="not-the-password")
    for _ in range(3):
        error = await box.hold().ended()
        assert isinstance(error, Misconfigured)
        assert "授权码" in error.reason
        assert "not-the-password" not in error.reason
    before = box.server.logs().count(f"user=<{box.user}>")
    error = await box.hold().ended()
    assert isinstance(error, Misconfigured)
    assert "in an hour" in error.reason
    assert box.server.logs().count(f"user=<{box.user}>") == before


async def test_a_certificate_of_another_host_is_refused(make_box: MakeBox) -> None:
    box = await make_box(ca_file="")
    error = await box.hold().ended()
    assert isinstance(error, Misconfigured)
    assert "certificate" in error.reason


async def test_a_delivery_that_fails_ends_the_door_and_comes_again(box: Mailbox) -> None:
    held = await box.hold().open()
    held.broken = True
    box.gets("kept")
    assert isinstance(await held.ended(), OSError)
    again = box.hold(held.cursor)
    await again.until(lambda: again.items, "the mail")
    assert again.texts == ["kept"]


async def test_an_answer_from_a_mail_program_comes_from_the_sent_folder(box: Mailbox) -> None:
    held = box.hold()
    await held.until(
        lambda: "Sent" in Positions.decode(held.cursor).folders, "the Sent folder's position"
    )
    raw = mail("您好，已发货", sender=box.address, to="ann@example.com")
    imap = await box.imap()
    await imap.append("Sent", raw)
    await imap.close()
    await held.until(lambda: held.items, "the answer")
    (draft,) = held.drafts
    assert isinstance(draft, Message)
    assert draft.direction is Direction.OUT
    assert draft.address.id == "ann@example.com"


async def test_a_missing_junk_folder_does_not_keep_customers_out(make_box: MakeBox) -> None:
    box = await make_box(junk="垃圾邮件", watch_sent=False)
    held = await box.hold().open()
    box.gets("hello")
    await held.until(lambda: held.items, "the mail")
    await asyncio.sleep(0)
    assert not held.task.done()


async def test_a_junk_folder_with_a_chinese_name_is_followed(make_box: MakeBox) -> None:
    box = await make_box(junk="垃圾邮件", watch_sent=False)
    box.has("old", folder="&V4NXPpCuTvY-")
    held = box.hold()
    await held.until(
        lambda: "垃圾邮件" in Positions.decode(held.cursor).folders, "the folder's position"
    )
    box.has("suspected", folder="&V4NXPpCuTvY-")
    await held.until(lambda: held.items, "the mail")
    assert held.texts == ["suspected"]


async def test_a_renumbered_folder_is_read_again_without_old_mail(box: Mailbox) -> None:
    """UIDVALIDITY changed: what came since the account was connected comes again, the rest not."""
    box.has("from before", age_s=3600)
    held = await box.hold().open()
    await held.close()
    box.gets("from after")
    await box.mails_in(2)
    renumbered = Positions.decode(held.cursor)
    here = renumbered.folders["INBOX"]
    void = renumbered.moved("INBOX", replace(here, validity=here.validity - 1, uid=999_999))
    again = box.hold(void.encode())
    await again.until(lambda: again.items, "the mail")
    box.gets("newest")
    await again.until(lambda: len(again.items) == 2, "the next mail")
    assert again.texts == ["from after", "newest"]


async def test_a_large_mail_comes_as_a_note(make_box: MakeBox) -> None:
    box = await make_box(limits={"mail_bytes": 65536})
    held = await box.hold().open()
    box.gets("x" * 40 + "\n" + "y" * 200 + "\n" * 70_000, subject="large one")
    await held.until(lambda: held.items, "the note")
    (item,) = held.items
    assert len(item.raw) < 10_000
    assert "large one" in str(item.drafts) + item.failed


@pytest.mark.parametrize("broken", ["this is no cursor", '{"folders": 3}'])
async def test_a_cursor_that_cannot_be_read_is_said_so(box: Mailbox, broken: str) -> None:
    error = await box.hold(broken).ended()
    assert isinstance(error, Failure)
    assert "position" in error.reason


def test_the_server_is_real(mail_server: MailServer) -> None:
    """Else the tests above say nothing."""
    assert "Dovecot" in (mail_server.base / "dovecot.log").read_text()
