"""``omniline check`` on a real server names what is wrong; imports page through old mail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from connectors.mail import checking
from connectors.mail.positions import Positions
from hub import Polled
from normalizer.drafts import Message
from normalizer.outcomes import Temporary
from normalizer.parts import plain_text
from tests.mail.conftest import MakeBox
from tests.mail.mailboxes import Mailbox, mail, outgoing, until

CLOSED = 9


async def test_a_good_account_has_no_problem_and_reaches_itself(make_box: MakeBox) -> None:
    """And the mail to itself never becomes an entry."""
    box = await make_box(check_sends=True)
    held = await box.hold().open()
    assert list(await box.connector.check()) == []
    (probe,) = await box.mails_in(1)
    assert b"omniline check" in probe
    box.gets("after it")
    await held.until(lambda: held.items, "the next mail")
    assert held.texts == ["after it"]


async def test_each_side_is_named_with_its_remedy(make_box: MakeBox) -> None:
    wrong = await make_box(password="wrong")
    problems = list(await wrong.connector.check())
    assert [each.partition(":")[0] for each in problems] == ["IMAP", "SMTP"]
    assert all("授权码" in each and "app password" in each for each in problems)

    away = await make_box(smtp_port=CLOSED)
    (problem,) = await away.connector.check()
    assert problem.startswith("SMTP: no connection to localhost:9")


async def test_a_wrong_folder_is_named_with_those_that_there_are(make_box: MakeBox) -> None:
    box = await make_box(sent="Gesendet")
    (problem,) = await box.connector.check()
    assert "sent = 'Gesendet'" in problem
    assert "INBOX, Sent" in problem


async def test_a_mail_to_itself_that_does_not_arrive_is_told(
    make_box: MakeBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "ARRIVES_S", 1.0)
    box = await make_box(check_sends=True, address="nobody-here@hub.test")
    (problem,) = await box.connector.check()
    assert "did not arrive" in problem


async def test_history_comes_in_pages_since_a_day_and_can_be_resumed(box: Mailbox) -> None:
    """Both sides of the conversation, each once, nothing older; the door's cursor is not moved."""
    box.has(*(f"old {number:02}" for number in range(5)), age_s=40 * 86_400)
    box.has(*(f"text {number:02}" for number in range(70)), age_s=86_400)
    ours = mail("ours", sender=box.address, to="ann@example.com")
    box.server.write(box.user, [ours], "Sent", age_s=86_400)
    since = datetime.now(UTC) - timedelta(days=10)
    pages: list[Polled] = []
    cursor = None
    while not pages or pages[-1].more:
        pages.append(await box.connector.history(since, cursor))
        again = await box.connector.history(since, cursor)
        assert keys(again) == keys(pages[-1]), "the same cursor brings the same page"
        cursor = pages[-1].cursor
    found = [key for page in pages for key in keys(page)]
    texts = [text for page in pages for text in texts_of(page)]
    assert texts[0] == "ours", "Sent goes first: customers' answers find it there"
    assert sorted(texts[1:]) == [f"text {number:02}" for number in range(70)]
    assert len(set(found)) == len(found) == 71
    assert max(len(page.items) for page in pages) <= 50

    # An import that an older release began had the inbox first, and Sent is still to come.
    uid = msgspec.json.decode(pages[-1].cursor or "")["uid"]
    validity = msgspec.json.decode(pages[-1].cursor or "")["validity"]
    cursor = msgspec.json.encode({"folder": "inbox", "validity": validity, "uid": uid}).decode()
    begun = await box.connector.history(since, cursor)
    assert (texts_of(begun), begun.more) == ([], True)
    last = await box.connector.history(since, begun.cursor)
    assert (texts_of(last), last.more) == (["ours"], False)


def texts_of(page: Polled) -> list[str]:
    drafts = [draft for item in page.items for draft in item.drafts]
    return [plain_text(draft.parts) for draft in drafts if isinstance(draft, Message)]


def keys(page: Polled) -> list[str]:
    return [draft.key for item in page.items for draft in item.drafts]


async def test_a_copy_in_sent_lets_a_doubt_be_settled(make_box: MakeBox) -> None:
    """Found there, it was sent; not found there says nothing, so it is never sent again."""
    box, ann = await make_box(save_sent=True), await make_box()
    message = outgoing(ann.address, "hello")
    accepted = await box.connector.send(message)
    assert (await box.connector.find_sent(message)) == accepted.__class__(
        vendor_ids=accepted.vendor_ids
    )
    (copy,) = await box.mails("Sent")
    assert accepted.vendor_ids[0].encode() in copy
    with pytest.raises(Temporary, match="does not say"):
        await box.connector.find_sent(outgoing(ann.address, "other", entry="ent_2"))


async def test_the_hubs_own_copy_in_sent_is_not_taken_in(make_box: MakeBox) -> None:
    box, ann = await make_box(save_sent=True), await make_box()
    held = box.hold()

    async def both() -> bool:
        return held.cursor is not None and '"Sent"' in held.cursor

    await until("both folders", both)
    await box.connector.send(outgoing(ann.address, "from the hub"))
    box.gets("from a customer")
    await held.until(lambda: held.items, "the customer's mail")

    async def passed() -> bool:
        return Positions.decode(held.cursor).folders["Sent"].uid == 1

    await until("the copy to be passed", passed)
    assert held.texts == ["from a customer"]
