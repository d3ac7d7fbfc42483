"""What leaves by SMTP, and what each failure on the way means: a server that checks and cuts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from email.header import decode_header, make_header
from typing import Any

import pytest
from msgspec.structs import replace

from connectors.mail.connector import MAX_FILES_BYTES, MailConnector
from connectors.mail.reading.tokens import read_bounce_token, read_message_id, read_reply_token
from hub.testing.clock import FakeClock
from hub.testing.services import FakeServices
from normalizer.outcomes import (
    Failure,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
    Unsupported,
)
from normalizer.parts import File, Link, Location, Media
from tests.mail.fake_smtp import FakeSmtp
from tests.mail.mailboxes import connector, outgoing

ANN = "ann@example.com"
OUTLOOK = "<" + "AM0PR04MB1234" + "A" * 140 + "@eurprd04.prod.outlook.com>"


@pytest.fixture
async def smtp() -> AsyncIterator[FakeSmtp]:
    async with FakeSmtp() as server:
        yield server


@pytest.fixture
def services() -> FakeServices:
    return FakeServices()


@pytest.fixture
async def shop(smtp: FakeSmtp, services: FakeServices) -> AsyncIterator[MailConnector]:
    made = make(smtp, services)
    yield made
    await made.stop()


def make(smtp: FakeSmtp, services: FakeServices, **more: Any) -> MailConnector:
    settings = {
        "address": "Support@Example.com",
        "name": "Shop 客服",
        "user": "shop",
        "password": "secret",
        "imap_host": "127.0.0.1",
        "imap_tls": "none",
        **smtp.settings,
        **more,
    }
    return connector(settings, services, "shop")


# --- what is sent --------------------------------------------------------------------------------


async def test_somebody_who_never_wrote_a_mail_can_be_written_to(
    smtp: FakeSmtp, shop: MailConnector
) -> None:
    """A mailbox that a login named: the first mail there answers nothing."""
    assert shop.capabilities.reaches == {"mail"}
    await shop.send(outgoing(ANN, "your parcel", subject="订单问题"))
    (taken,) = smtp.taken
    assert taken.mail["Subject"] == "订单问题"
    assert "References" not in taken.mail
    assert "In-Reply-To" not in taken.mail


async def test_an_answer_is_threaded_and_says_who_wrote_it(
    smtp: FakeSmtp, shop: MailConnector, services: FakeServices
) -> None:
    answers = {
        "subject": "订单问题",
        "data": {"message_id": "<q2@example.com>", "references": ["<q1@example.com>"]},
    }
    accepted = await shop.send(outgoing(ANN, "您好😀", answers=answers, sender_name="小王"))
    (taken,) = smtp.taken
    mail = taken.mail
    assert (taken.sender, taken.recipients) == ("support@example.com", (ANN,))
    assert str(mail["From"]) == "小王 - Shop 客服 <support@example.com>"
    assert str(mail["To"]) == ANN
    assert str(mail["Subject"]) == "Re: 订单问题"
    assert mail["In-Reply-To"] == "<q2@example.com>"
    assert mail["References"].split() == ["<q1@example.com>", "<q2@example.com>"]
    assert accepted.vendor_ids == (mail["Message-ID"],)
    assert mail["Date"] == "Mon, 02 Mar 2026 09:00:00 +0000"
    assert mail["X-Hub-Instance"]
    assert not set(mail) & {"Auto-Submitted", "Precedence", "X-Auto-Response-Suppress", "Bcc"}
    assert taken.text == "您好😀"
    body = mail.get_body(("html",))
    assert body is not None
    assert "您好😀" in body.get_content()
    key = services.connector_context("mail", "shop").secret("reply-token")
    own = read_message_id(str(mail["Message-ID"]), key)
    assert own is not None
    assert (own.entry, own.thread) == ("ent_1", "thr_1")


async def test_the_message_id_is_the_same_on_every_attempt_and_another_for_each_message(
    smtp: FakeSmtp, shop: MailConnector
) -> None:
    for more in ({}, {"attempt": 2}, {"entry": "ent_2", "key": "job_2"}):
        await shop.send(outgoing(ANN, "hello", **more))
    first, again, other = [taken.mail["Message-ID"] for taken in smtp.taken]
    assert first == again
    assert first != other
    assert str(first).endswith("@example.com>")


async def test_long_ids_are_not_encoded(smtp: FakeSmtp, shop: MailConnector) -> None:
    """The standard library would fold them into encoded words, and no client would thread."""
    chain = [OUTLOOK.replace("A0", f"B{number}") for number in range(3)] + [OUTLOOK]
    await shop.send(
        outgoing(ANN, "hello", answers={"data": {"message_id": OUTLOOK, "references": chain}})
    )
    head = smtp.taken[0].data.partition(b"\r\n\r\n")[0]
    assert b"In-Reply-To: " + OUTLOOK.encode() + b"\r\n" in head
    assert head.count(OUTLOOK.encode()) >= 2
    assert max(map(len, head.split(b"\r\n"))) < 998


async def test_a_long_chain_keeps_its_first_and_its_last_ids(
    smtp: FakeSmtp, shop: MailConnector
) -> None:
    chain = [f"<{number}@example.com>" for number in range(100)]
    data = {"message_id": chain[-1], "references": chain}
    await shop.send(outgoing(ANN, "hello", answers={"data": data}))
    assert smtp.taken[0].mail["References"].split() == [chain[0], *chain[-20:]]


@pytest.mark.parametrize(
    "hostile", ["a\r\nBcc: evil@example.com", "a\nBcc: evil@example.com", "a\0b", "a\u2028b"]
)
async def test_nothing_that_is_written_makes_a_header(
    smtp: FakeSmtp, shop: MailConnector, hostile: str
) -> None:
    data = {"message_id": f"<{hostile}@x>", "references": [hostile, f"<a@b> {hostile}"]}
    await shop.send(
        outgoing(
            ANN,
            "hello",
            subject=hostile,
            sender_name=hostile,
            answers={"subject": hostile, "data": data},
        )
    )
    (taken,) = smtp.taken
    assert taken.recipients == (ANN,)
    assert "Bcc" not in taken.mail
    assert b"\r\nBcc" not in taken.data
    assert taken.text == "hello"


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("a question", "Re: a question"),
        ("Re: a question", "Re: a question"),
        ("回复：订单问题", "回复：订单问题"),
        ("Fwd: a question", "Re: Fwd: a question"),
        ("", "Re:"),
        ("很长的标题" * 40, "Re: " + "很长的标题" * 40),
    ],
)
async def test_a_subject_gets_one_prefix(
    smtp: FakeSmtp, shop: MailConnector, subject: str, expected: str
) -> None:
    await shop.send(outgoing(ANN, "hello", answers={"subject": subject}))
    (taken,) = smtp.taken
    assert str(taken.mail["Subject"]) == expected
    # As a client decodes it, encoded word by encoded word of at most 75 characters.
    raw = taken.data.partition(b"Subject:")[2].split(b"\r\nDate")[0].decode()
    assert all(len(word) <= 76 for word in raw.split())
    assert str(make_header(decode_header(raw.strip()))).strip() == expected


async def test_a_first_mail_is_named_by_its_first_line(smtp: FakeSmtp, shop: MailConnector) -> None:
    await shop.send(outgoing(ANN, "您的订单已发货\n运单号 1"))
    assert str(smtp.taken[0].mail["Subject"]) == "您的订单已发货"


@pytest.mark.parametrize(
    "text",
    [
        ".\r\n.\r\nMAIL FROM:<evil@example.com>",
        "From the beginning",
        "x" * 5000,
        "长" * 5000,
        "a\n.\nb",
        "tab\tand  blanks   ",
    ],
)
async def test_any_text_arrives_as_it_was_written(
    smtp: FakeSmtp, shop: MailConnector, text: str
) -> None:
    await shop.send(outgoing(ANN, text))
    (taken,) = smtp.taken
    assert taken.text == text.replace("\r\n", "\n")
    assert max(map(len, taken.data.split(b"\r\n"))) <= 998
    assert taken.data.isascii()


async def test_html_and_links_are_safe(smtp: FakeSmtp, shop: MailConnector) -> None:
    link = Link(url="https://example.com/?a=1&b=2", title="<b>here</b>")
    await shop.send(outgoing(ANN, "<script>alert(1)</script>", link))
    body = smtp.taken[0].mail.get_body(("html",))
    assert body is not None
    shown = body.get_content()
    assert "<script>" not in shown
    assert '<a href="https://example.com/?a=1&amp;b=2">' in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("请打开https://shop.cn/a?b=1查看订单。", '请打开<a href="{0}">{0}</a>查看订单。'),
        ("See https://shop.cn/a?b=1.", 'See <a href="{0}">{0}</a>.'),
        ("(at https://shop.cn/a?b=1), or call", '(at <a href="{0}">{0}</a>), or call'),
        ("https://shop.cn/a?b=1_(x)", '<a href="{0}_(x)">{0}_(x)</a>'),
        ("size:  12\n  colour", "size: \xa012<br>\n\xa0\xa0colour"),
    ],
)
async def test_an_address_in_a_sentence_leads_where_its_writer_meant(
    smtp: FakeSmtp, shop: MailConnector, text: str, shown: str
) -> None:
    await shop.send(outgoing(ANN, text))
    page = smtp.taken[0].mail.get_body(("html",))
    assert page is not None
    wanted = shown.format("https://shop.cn/a?b=1")
    assert f"<div>{wanted}</div>" in page.get_content().replace("\r\n", "\n")
    assert smtp.taken[0].text == text


async def test_files_are_attached_under_safe_names(
    smtp: FakeSmtp, shop: MailConnector, services: FakeServices
) -> None:
    named = ("发票 1.pdf", "../../etc/passwd", "a\r\nX-Evil: 1.txt")
    for name in named:
        blob = await services.store.blobs.put(b"%PDF-1.4 data")
        media = Media(blob=blob, name=name, mime="message/rfc822", size=13)
        await shop.send(outgoing(ANN, "attached", File(media=media)))
    found = []
    for taken in smtp.taken:
        (attached,) = taken.mail.iter_attachments()
        assert attached.get_content() == b"%PDF-1.4 data"
        assert "X-Evil" not in taken.mail
        found.append(attached.get_filename())
    assert found[:2] == ["发票 1.pdf", "passwd"]
    assert "\n" not in found[2]


async def test_an_automatic_mail_says_so_and_takes_no_bounces(
    smtp: FakeSmtp, shop: MailConnector
) -> None:
    await shop.send(outgoing(ANN, "received", automatic=True, answers={"subject": "q"}))
    await shop.send(outgoing("bob@example.com", "news", automatic=True, key="job_2"))
    replied, generated = smtp.taken
    assert replied.sender == generated.sender == ""
    assert replied.mail["Auto-Submitted"] == "auto-replied"
    assert generated.mail["Auto-Submitted"] == "auto-generated"
    for taken in smtp.taken:
        assert taken.mail["X-Auto-Response-Suppress"] == "All"
        assert taken.mail["Precedence"] == "bulk"


@pytest.mark.parametrize(
    ("to", "data"), [("noreply@example.com", {}), (ANN, {"automatic_because": ["precedence"]})]
)
async def test_a_machine_is_never_answered_by_a_machine(
    smtp: FakeSmtp, shop: MailConnector, to: str, data: dict[str, Any]
) -> None:
    with pytest.raises(Unreachable):
        await shop.send(outgoing(to, "received", automatic=True, answers={"data": data}))
    await shop.send(outgoing(to, "a person wrote this", answers={"data": data}))
    assert len(smtp.taken) == 1


async def test_an_address_gets_one_automatic_answer_a_day(
    smtp: FakeSmtp, shop: MailConnector, services: FakeServices
) -> None:
    clock = services.clock
    assert isinstance(clock, FakeClock)
    first = outgoing(ANN, "received", automatic=True, answers={})
    await shop.send(first)
    await shop.send(replace(first, attempt=2))  # the same one again
    with pytest.raises(Unreachable):
        await shop.send(replace(first, key="job_2"))
    await shop.send(replace(first, key="job_3", address="mail::mailbox:bob@example.com"))
    clock.advance(24 * 3600)
    for number in range(9):
        await shop.send(replace(first, key=f"job_{number + 4}"))
        clock.advance(24 * 3600)
    with pytest.raises(Unreachable):
        await shop.send(replace(first, key="job_20"))
    await shop.send(replace(first, key="job_21", thread="thr_2"))


async def test_tokens_lead_back(smtp: FakeSmtp, services: FakeServices) -> None:
    shop = make(smtp, services, reply_token=True, bounce_token=True)
    await shop.send(outgoing(ANN, "hello"))
    await shop.stop()
    (taken,) = smtp.taken
    key = services.connector_context("mail", "shop").secret("reply-token")
    assert read_bounce_token(taken.sender, key) == "ent_1"
    assert read_reply_token(str(taken.mail["Reply-To"]), key) == "thr_1"


async def test_an_idn_address_is_sent_to_in_ascii(smtp: FakeSmtp, shop: MailConnector) -> None:
    await shop.send(outgoing("li@xn--fiqs8s.example", "hello"))
    assert smtp.taken[0].recipients == ("li@xn--fiqs8s.example",)


async def test_a_chinese_local_part_needs_a_server_that_can(
    smtp: FakeSmtp, shop: MailConnector, services: FakeServices
) -> None:
    message = replace(outgoing(ANN, "hello"), address="mail::mailbox:%E6%9D%8E@example.com")
    await shop.send(message)
    assert smtp.taken[0].recipients == ("李@example.com",)
    assert str(smtp.taken[0].mail["To"]) == "李@example.com"
    async with FakeSmtp(extensions=("AUTH PLAIN",)) as old:
        other = make(old, services)
        with pytest.raises(Unreachable, match="SMTPUTF8"):
            await other.send(message)
        await other.stop()


# --- what cannot be sent -------------------------------------------------------------------------


async def test_what_is_too_large_is_refused_before_it_is_sent(services: FakeServices) -> None:
    blob = await services.store.blobs.put(b"x" * 20_000)
    media = Media(blob=blob, name="a.bin", size=20_000)
    async with FakeSmtp(extensions=("SIZE 10000", "AUTH PLAIN")) as small:
        shop = make(small, services)
        with pytest.raises(Rejected, match="link"):
            await shop.send(outgoing(ANN, File(media=media)))
        with pytest.raises(Rejected, match="link"):
            await shop.send(outgoing(ANN, File(media=replace(media, size=MAX_FILES_BYTES + 1))))
        await shop.send(outgoing(ANN, "but this is"))
        await shop.stop()
        assert [taken.text for taken in small.taken] == ["but this is"]


async def test_what_a_mail_cannot_carry_is_refused(smtp: FakeSmtp, shop: MailConnector) -> None:
    for part, kind in ((Location(lat=1, lon=1), Unsupported), (File(media=Media()), Rejected)):
        with pytest.raises(kind):
            await shop.send(outgoing(ANN, "with it", part))
    with pytest.raises(Unsupported):
        await shop.send(replace(outgoing(ANN, "hi"), address="tel::e164:+8613800138000"))
    assert smtp.connections == 0


@pytest.mark.parametrize(
    ("step", "answer", "kind", "code"),
    [
        ("connect", "421 4.3.2 busy", Temporary, "4.3.2"),
        ("connect", "", Temporary, ""),
        ("auth", "535 5.7.8 no", Misconfigured, "5.7.8"),
        ("auth", "454 4.7.0 later", Temporary, "4.7.0"),
        ("auth", "", Temporary, ""),
        ("mail", "530 5.7.0 must issue STARTTLS", Misconfigured, "5.7.0"),
        ("mail", "452 4.3.1 full", Temporary, "4.3.1"),
        ("mail", "", Temporary, ""),
        ("rcpt", "550 5.1.1 no such user", Unreachable, "5.1.1"),
        ("rcpt", "550 no such user", Unreachable, "550"),
        ("rcpt", "553 5.1.3 bad address", Unreachable, "5.1.3"),
        ("rcpt", "550 5.7.1 relay denied", Rejected, "5.7.1"),
        ("rcpt", "451 4.7.1 greylisted, try again later", Temporary, "4.7.1"),
        ("rcpt", "450 4.7.1 too many recipients this hour", RateLimited, "4.7.1"),
        ("rcpt", "552 5.2.2 mailbox full", Unreachable, "5.2.2"),
        ("rcpt", "501 5.5.4 syntax", Rejected, "5.5.4"),
        ("rcpt", "", Temporary, ""),
        ("data", "451 4.3.0 later", Temporary, "4.3.0"),
        ("end", "552 5.3.4 too big", Rejected, "5.3.4"),
        ("end", "554 5.7.1 spam", Rejected, "5.7.1"),
        ("end", "550 5.7.26 unauthenticated", Rejected, "5.7.26"),
        ("end", "451 4.3.0 later", Temporary, "4.3.0"),
        ("end", "", OutcomeUnknown, ""),
    ],
)
async def test_each_failure_has_its_meaning(
    smtp: FakeSmtp, shop: MailConnector, step: str, answer: str, kind: type[Failure], code: str
) -> None:
    """Before the end of the data nothing was sent; behind it only an answer tells."""
    smtp.answers[step] = answer
    with pytest.raises(Failure) as caught:
        await shop.send(outgoing(ANN, "hello"))
    assert type(caught.value) is kind or isinstance(caught.value, kind)
    assert isinstance(caught.value, OutcomeUnknown) == (kind is OutcomeUnknown)
    assert caught.value.code == code
    if isinstance(caught.value, Unreachable):  # a full mailbox is there all the same
        assert caught.value.gone == (code == "5.1.1")
    assert "secret" not in caught.value.reason
    assert len(smtp.taken) == (1 if kind is OutcomeUnknown else 0)
    smtp.answers.clear()
    await shop.send(outgoing(ANN, "again"))
    assert smtp.taken[-1].text == "again"


async def test_a_silent_server_is_temporary_before_the_data_and_unknown_behind_it(
    smtp: FakeSmtp, services: FakeServices
) -> None:
    shop = make(smtp, services, limits={"answer_s": 0.3})
    for step, kind in (("MAIL", Temporary), ("end", OutcomeUnknown)):
        with Silent(smtp, step):
            with pytest.raises(kind):
                await shop.send(outgoing(ANN, "hello"))
    await shop.stop()


class Silent:
    """The server takes a step and says nothing."""

    def __init__(self, smtp: FakeSmtp, step: str) -> None:
        self._smtp, self._step = smtp, step.lower()

    def __enter__(self) -> None:
        self._smtp.answers[self._step] = "250-"  # an answer that goes on, and does not

    def __exit__(self, *exc_info: object) -> None:
        del self._smtp.answers[self._step]


async def test_a_wrong_password_is_tried_three_times_and_not_by_every_mechanism(
    smtp: FakeSmtp, services: FakeServices
) -> None:
    shop = make(smtp, services, password="wrong")
    for _ in range(6):
        with pytest.raises(Misconfigured, match="授权码"):
            await shop.send(outgoing(ANN, "hello"))
    assert smtp.logins == 3
    clock = services.clock
    assert isinstance(clock, FakeClock)
    clock.advance(3600)
    with pytest.raises(Misconfigured):
        await shop.send(outgoing(ANN, "hello"))
    assert smtp.logins == 4


async def test_connections_are_kept_and_a_dead_one_is_replaced(
    smtp: FakeSmtp, shop: MailConnector
) -> None:
    await shop.send(outgoing(ANN, "one"))
    await shop.send(outgoing(ANN, "two"))
    assert smtp.connections == 1
    smtp.cut()
    await shop.send(outgoing(ANN, "three"))
    assert smtp.connections == 2
    await asyncio.gather(*(shop.send(outgoing(ANN, f"{n}")) for n in range(10)))
    assert smtp.connections <= 3
    assert len(smtp.taken) == 13


async def test_a_missing_starttls_is_no_reason_to_go_on_in_clear(
    smtp: FakeSmtp, services: FakeServices
) -> None:
    """Whoever is in between may have taken the offer away."""
    shop = make(smtp, services, smtp_tls="starttls")
    with pytest.raises(Misconfigured, match="STARTTLS"):
        await shop.send(outgoing(ANN, "hello"))
    assert smtp.logins == 0


def test_clear_text_is_for_this_machine_only(smtp: FakeSmtp, services: FakeServices) -> None:
    near = make(smtp, services)
    assert not near.check_settings()
    far = make(smtp, services, smtp_host="smtp.example.com", imap_host="imap.example.com")
    assert len(far.check_settings()) == 2
    assert make(smtp, services, password=None).check_settings()
