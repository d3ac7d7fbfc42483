# ruff: noqa: E501 - one hostile mail a line
"""Mails made to be slow, deep or endless: read in part and in bounded time, the rest attached."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from connectors.mail.reading import MailRefused, ReadMail, read_headers
from normalizer.drafts import Message
from normalizer.markup import safe_html, to_text
from normalizer.parts import MediaState, Text, Unsupported, plain_text
from tests.mail.reading.building import BOX, NOW, attachment, mail, mail_of, multipart, read, text

SECONDS = 6.0  # of this process, on a machine that is busy with other things as well


def timed(data: bytes) -> ReadMail:
    began = time.process_time()
    found = read(data)
    assert time.process_time() - began < SECONDS
    return found


def nested(levels: int) -> bytes:
    head = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n)
        for n in range(levels)
    )
    return b"From: li@example.org\r\n" + head + b"Content-Type: text/plain\r\n\r\nDEEPWORD\r\n"


@pytest.mark.parametrize("levels", [31, 200, 1500, 20_000])
def test_what_lies_too_deep_is_attached(levels: int) -> None:
    found = timed(nested(levels))
    assert any("deep" in note for note in found.notes)
    assert b"DEEPWORD" in found.files[-1].data
    assert found.files[-1].media.name == "original.eml"


def test_thirty_levels_are_read() -> None:
    found = timed(nested(29))
    assert isinstance(found.drafts[0], Message)
    assert "DEEPWORD" in plain_text(found.drafts[0].parts)


def test_nested_attached_mails_are_not_followed() -> None:
    data = (
        b"".join(b"Content-Type: message/rfc822\r\n\r\n" for _ in range(5000)) + b"x: y\r\n\r\nWORD"
    )
    assert b"WORD" in timed(data).files[0].data


@pytest.mark.parametrize("count", [501, 20_000])
def test_of_too_many_parts_the_rest_is_attached(count: int) -> None:
    parts = [text(f"WORD{n}") for n in range(count)]
    found = timed(mail_of(multipart("mixed", *parts)))
    draft = found.drafts[0]
    assert isinstance(draft, Message)
    assert "WORD0" in plain_text(draft.parts)
    assert "WORD400" in plain_text(draft.parts)
    assert f"WORD{count - 1}".encode() in found.files[-1].data


def test_no_message_has_more_parts_than_the_hub_keeps() -> None:
    """Texts between many pictures are joined in the end, and none is lost."""
    page = "".join(f'<p>WORD{n}X</p><img src="cid:{n}">' for n in range(49))
    pictures = [
        attachment(b"\xff\xd8\xff" + bytes([n]), "image/jpeg", f"{n}.jpg") for n in range(49)
    ]
    named = [b"Content-ID: <%d>\r\n" % n + one for n, one in enumerate(pictures)]
    found = timed(mail_of(multipart("related", text(page, kind="html"), *named)))
    draft = found.drafts[0]
    assert isinstance(draft, Message)
    assert len(draft.parts) <= 100
    assert all(f"WORD{n}X" in plain_text(draft.parts) for n in range(49))


B = b"\r\nContent-Type: multipart/mixed; boundary="
HOSTILE = {
    "lines like boundaries": mail(b"--b1x\r\n" * 500_000, 'Content-Type: multipart/mixed; boundary="b1"'),
    "only boundaries": mail(b"--b1\r\n" * 500_000, 'Content-Type: multipart/mixed; boundary="b1"'),
    "boundary of one sign": mail(b"---\r\n" * 500_000, 'Content-Type: multipart/mixed; boundary="-"'),
    "endless headers": b"A: b\r\n" * 300_000 + b"\r\nWORD",
    "an endless header": b"Subject: " + b"x " * 2_000_000 + b"\r\n\r\nWORD",
    "folded for ever": b"Subject: a\r\n" + b" b\r\n" * 300_000 + b"\r\nWORD",
    "encoded words": b"Subject: " + b"=?utf-8?B?5Q==?= " * 20_000 + b"\r\n\r\nWORD",
    "begun words": b"Subject: " + b"=?a?q?" * 40_000 + b"\r\n\r\nWORD",
    "question marks in words": b"Subject: =?a?q?" + b"x?" * 16_000 + b"\r\n\r\nWORD",
    "parameters": b"Content-Type: text/plain" + b"; a=b" * 40_000 + b"\r\n\r\nWORD",
    "semicolons": b"Content-Type: text/plain" + b";" * 200_000 + b"\r\n\r\nWORD",
    "quotes": b"Content-Type: text/plain" + b'; a="' * 40_000 + b"\r\n\r\nWORD",
    "continuations": b"Content-Type: text/plain"
    + b"".join(b"; name*%d*=%%41" % n for n in range(900))
    + b"\r\n\r\nWORD",
    "addresses": b"From: " + b"a@b.cn," * 30_000 + b"\r\n\r\nWORD",
    "ats": b"From: " + b"@" * 200_000 + b"\r\n\r\nWORD",
    "angles": b"From: " + b"<" * 200_000 + b"\r\n\r\nWORD",
    "comments": b"From: " + b"(" * 200_000 + b"\r\n\r\nWORD",
    "words in from": b"From: " + b"a " * 100_000 + b"\r\n\r\nWORD",
    "many from": b"From: a@b.cn\r\n" * 15_000 + b"\r\nWORD",
    "ids": b"References: " + b"<a@b>" * 40_000 + b"\r\n\r\nWORD",
    "begun ids": b"References: " + b"<a@b" * 50_000 + b"\r\n\r\nWORD",
    "results": b"Authentication-Results: mx.example.com" + b"; spf=fail" * 20_000 + b"\r\n\r\nWORD",
    "result comments": b"Authentication-Results: " + b"(" * 200_000 + b"\r\n\r\nWORD",
    "prefixes": b"Subject: " + b"Re: " * 50_000 + b"\r\n\r\nWORD",
    "date": b"Date: " + b"Mon, " * 40_000 + b"\r\n\r\nWORD",
    "base64 padding": mail(b"A=" * 4_000_000, "Content-Transfer-Encoding: base64"),
    "quoted-printable": mail(b"=41" * 3_000_000, "Content-Transfer-Encoding: quoted-printable"),
    "uuencode": mail(b"begin 644 a\n" + b"!0\n" * 500_000, "Content-Transfer-Encoding: x-uuencode"),
    "flowed": mail(b"a \r\n" * 300_000, "Content-Type: text/plain; format=flowed"),
    "nested tags": mail(b"<div>" * 200_000, "Content-Type: text/html"),
    "attributes": mail(b"<p " + b"a=b " * 200_000 + b">", "Content-Type: text/html"),
    "ampersands": mail(b"&" * 2_000_000, "Content-Type: text/html"),
    "begun tags": mail(b"<a b='" * 200_000, "Content-Type: text/html"),
    "quoting tags": mail(b"<blockquote type=cite>" * 100_000, "Content-Type: text/html"),
    "fonts": mail(b"".join(b"<font color=%d><p>" % n for n in range(20_000)), "Content-Type: text/html"),
    "links": mail(b"<a href=http://x.cn/1>y</a> " * 50_000, "Content-Type: text/html"),
    "links in one line": mail(b"<a href=http://x.cn/1>" + b"y" * 900 + b"</a>" * 900, "Content-Type: text/html"),
    "calendar": mail(b"BEGIN:VCALENDAR\r\n" + b"A;b=\"\";" * 200_000, "Content-Type: text/calendar"),
    "calendar folds": mail(b"BEGIN:VCALENDAR\r\n" + b" a\r\n" * 300_000, "Content-Type: text/calendar"),
    "report blocks": mail(
        b"--b1\r\nContent-Type: message/delivery-status\r\n\r\n"
        + b"Action: failed\r\n\r\n" * 200_000
        + b"--b1\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <a@b>\r\n\r\n--b1--",
        'Content-Type: multipart/report; boundary="b1"',
    ),
    "report garbage": mail(
        b"--b1\r\nContent-Type: message/delivery-status\r\n\r\n" + b"???\r\n" * 500_000 + b"--b1--",
        'Content-Type: multipart/report; boundary="b1"',
    ),
    "pictures begun in a page": mail(b'src="data:image/png;base64,' * 100_000, "Content-Type: text/html"),
    "endless pictures in a page": mail(b"src=data:image/png;base64," * 100_000, "Content-Type: text/html"),
    "words behind base64": mail(b"QUFB" * 90 + b"\n! x" * 300_000, "Content-Transfer-Encoding: base64"),
    "high bytes": mail(bytes(range(128, 256)) * 20_000),
    "winmail": mail(
        base64.encodebytes(b"\x78\x9f\x3e\x22\x01\x00" + b"\x01\x0f\x80\x06\x00\0\0\0\0\0\0" * 200_000),
        "Content-Type: application/ms-tnef",
        "Content-Transfer-Encoding: base64",
    ),
    "bounce text": mail(
        b"550 " * 300_000 + b"Message-ID: <a@b>", sender="mailer-daemon@a.cn", subject="failure notice"
    ),
    "marks": mail(b"On x,\r\n> a\r\nb\r\n" * 100_000),
    "cids": mail(b"[cid:a] " * 200_000),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_mail_is_read_in_bounded_time(name: str) -> None:
    found = timed(HOSTILE[name])
    assert found.drafts
    for draft in found.drafts:
        assert not isinstance(draft, Message) or draft.parts


PAGES = {
    "depth": "<div>" * 200_000,
    "attributes": "<p " + "a=b " * 200_000,
    "ampersands": "&" * 1_000_000,
    "comments": "<!--" * 200_000,
    "formatting": "<a href=x><b><i><p>" * 20_000,
    "tables": "<table><tr><td>" * 20_000,
}


@pytest.mark.parametrize("name", PAGES)
def test_a_hostile_page_is_read_and_cleaned_in_bounded_time(name: str) -> None:
    began = time.process_time()
    to_text(PAGES[name])
    safe_html(PAGES[name])
    assert time.process_time() - began < SECONDS


def test_the_end_of_a_page_that_is_too_deep_is_kept() -> None:
    page = "<div>" * 30_000 + "LASTWORD"
    assert "LASTWORD" in to_text(page).text
    assert "LASTWORD" in safe_html(page).html


def test_a_file_over_the_limit_is_named_and_left_in_the_mailbox() -> None:
    box = replace(BOX, max_file_bytes=100)
    found = read(
        mail_of(multipart("mixed", text("see"), attachment(b"x" * 101, name="a.pdf"))), box
    )
    draft = found.drafts[0]
    assert isinstance(draft, Message)
    media = draft.parts[1].media  # type: ignore[union-attr]
    assert (media.name, media.size, media.state) == ("a.pdf", 101, MediaState.REJECTED)
    assert found.files == ()


def test_a_mail_over_the_limit_is_refused_with_the_reason_and_read_as_a_stub() -> None:
    box = replace(BOX, max_mail_bytes=1000)
    data = mail("WORD " * 1000, "Content-Type: text/plain; charset=utf-8", subject="Big one")
    with pytest.raises(MailRefused, match="over the limit of 1000"):
        read(data, box)
    head = data.partition(b"\r\n\r\n")[0]
    first = base64.encodebytes("请看附件\n\n发自我的 iPhone".encode("gbk"))
    part = b"Content-Type: text/plain; charset=gb2312\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    stub = read_headers(head, 48 * 1024 * 1024, first, box=box, received_at=NOW, first_headers=part)
    draft = stub.drafts[0]
    assert isinstance(draft, Message)
    assert draft.subject == "Big one"
    assert draft.parts[0] == Text(text="请看附件", quoted="发自我的 iPhone")
    assert isinstance(draft.parts[1], Unsupported)
    assert "48 MB" in draft.parts[1].text
    assert draft.vendor_ids == ("<m1@example.org>",)
    assert draft.at == datetime(2026, 3, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("nothing", [b"", b"\r\n \r\n"])
def test_no_bytes_are_no_mail(nothing: bytes) -> None:
    with pytest.raises(MailRefused, match="no bytes"):
        read(nothing)
