"""Mails of every row of the sheet (contracts/email.md sections 2 to 7), and what becomes of them.

``expect`` names what is looked at: see ``test_mails.FACETS``.
"""

# ruff: noqa: E501 - one mail a line
from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any, NamedTuple

from connectors.mail.reading import bounce_token, message_id, reply_token
from tests.mail.reading.building import (
    JPEG,
    KEY,
    PIXEL,
    PNG,
    attachment,
    b64,
    dsn,
    mail,
    mail_of,
    multipart,
    part,
    picture,
    qp,
    text,
)


class Case(NamedTuple):
    row: str  # section of the sheet, and the row in it
    raw: bytes
    expect: dict[str, Any]
    internal_date: datetime | None = None
    folder: str = "inbox"


CASES: list[Case] = []


def case(
    row: str,
    mail_bytes: bytes,
    /,
    *,
    at: datetime | None = None,
    folder: str = "inbox",
    **expect: Any,
) -> None:
    CASES.append(Case(row, mail_bytes, expect, at, folder))


def word(said: str, charset: str, label: str = "", how: str = "B") -> str:
    data = said.encode(charset)
    if how == "B":
        return f"=?{label or charset}?B?{base64.b64encode(data).decode()}?="
    return f"=?{label or charset}?Q?{''.join(f'={byte:02X}' for byte in data)}?="


AR = "Authentication-Results: mx.example.com; "
UNVERIFIED = "mail::unverified:li@example.org"
LI = "mail::mailbox:li@example.org"

# --- 2 authenticity ------------------------------------------------------------------------------

case(
    "2/dmarc-pass",
    mail("x", AR + "dmarc=pass (p=reject) header.from=example.org"),
    auth="pass",
    address=LI,
)
case(
    "2/dmarc-fail",
    mail("x", AR + "spf=pass smtp.mailfrom=evil.cn; dmarc=fail header.from=example.org"),
    auth="fail",
    address=UNVERIFIED,
)
case(
    "2/dmarc-fail-p-none",
    mail("x", AR + "dmarc=fail (p=none dis=none) header.from=example.org"),
    auth="fail",
    address=UNVERIFIED,
)
case(
    "2/aligned-dkim",
    mail("x", AR + "dkim=pass header.d=example.org header.s=s1"),
    auth="pass",
    address=LI,
)
case(
    "2/aligned-spf-subdomain",
    mail("x", AR + "spf=pass smtp.mailfrom=bounce@mail.example.org"),
    auth="pass",
    address=LI,
)
case("2/foreign-dkim-alone", mail("x", AR + "dkim=pass header.d=evil.cn"), auth="none", address=LI)
case(
    "2/spf-fail-alone",
    mail("x", AR + "spf=fail smtp.mailfrom=li@example.org"),
    auth="fail",
    address=UNVERIFIED,
)
case(
    "2/spf-softfail",
    mail("x", AR + "spf=softfail smtp.mailfrom=li@example.org"),
    auth="none",
    address=LI,
)
case(
    "2/spf-fail-dkim-pass",
    mail("x", AR + "spf=fail smtp.mailfrom=example.org; dkim=pass header.d=example.org"),
    auth="pass",
    address=LI,
)
case("2/no-results", mail("x"), auth="none", address=LI)
case(
    "2/results-of-somebody-else",
    mail("x", "Authentication-Results: mx.evil.cn; dmarc=pass header.from=example.org"),
    auth="none",
    address=LI,
)
case(
    "2/topmost-of-ours-counts",
    mail("x", AR + "dmarc=fail header.from=example.org", AR + "dmarc=pass header.from=example.org"),
    auth="fail",
    address=UNVERIFIED,
)
case(
    "2/foreign-above-ours",
    mail(
        "x",
        "Authentication-Results: evil.cn; dmarc=fail",
        AR + "dmarc=pass header.from=example.org",
    ),
    auth="pass",
)
case(
    "2/id-in-a-comment",
    mail(
        "x",
        "Authentication-Results: evil.cn (mx.example.com;) ; dmarc=pass header.from=example.org",
    ),
    auth="none",
)
case(
    "2/id-with-version",
    mail("x", "Authentication-Results: mx.example.com 1; dmarc=pass header.from=example.org"),
    auth="pass",
)
case(
    "2/pass-for-another-domain",
    mail("x", AR + "dmarc=pass header.from=evil.cn"),
    auth="fail",
    address=UNVERIFIED,
)
case(
    "2/result-in-a-quoted-reason",
    mail("x", AR + 'dmarc=fail reason="; dmarc=pass" header.from=example.org'),
    auth="fail",
)
case(
    "2/two-from-headers",
    mail("x", "From: boss@example.com", AR + "dmarc=pass header.from=example.org"),
    auth="fail",
    address=UNVERIFIED,
)
case(
    "2/same-from-twice",
    mail("x", "From: li@example.org", AR + "dmarc=pass header.from=example.org"),
    auth="pass",
    address=LI,
)
case(
    "2/reply-token",
    mail("x", to=f"support+{reply_token('thr_01abc', KEY)}@example.com"),
    thread="thr_01abc",
)
case(
    "2/reply-token-upper-case",
    mail("x", to=f"Support+{reply_token('thr_01abc', KEY).upper()}@Example.com"),
    thread="thr_01abc",
)
case(
    "2/reply-token-in-delivered-to",
    mail("x", f"Delivered-To: support+{reply_token('thr_9', KEY)}@example.com"),
    thread="thr_9",
)
case(
    "2/reply-token-forged",
    mail("x", to="support+thr_01abc.aaaaaaaa@example.com"),
    thread="<m1@example.org>",
)
case(
    "2/reply-token-of-another-thread",
    mail("x", to=f"support+thr_2.{reply_token('thr_1', KEY)[-8:]}@example.com"),
    thread="<m1@example.org>",
)
case(
    "2/token-decides-thread-not-person",
    mail(
        "x",
        AR + "dmarc=fail header.from=example.org",
        to=f"support+{reply_token('thr_1', KEY)}@example.com",
    ),
    thread="thr_1",
    address=UNVERIFIED,
)

# --- 3 dedupe and threading ----------------------------------------------------------------------

case(
    "3/id-trimmed",
    mail("x", message_id="  <Abc@Example.ORG>  (added)"),
    data={"message_id": "<Abc@example.org>"},
    vendor_ids=("<Abc@example.org>",),
)
case(
    "3/id-folded", mail("x", message_id="\r\n <abc@example.org>"), vendor_ids=("<abc@example.org>",)
)
case(
    "3/id-without-brackets",
    mail("x", message_id="abc@example.org"),
    vendor_ids=("<abc@example.org>",),
)
case("3/id-empty", mail("x", message_id="<>"), vendor_ids=(), own_id_ends="@missing.hub>")
case("3/id-missing", mail("x", message_id=None), vendor_ids=(), own_id_ends="@missing.hub>")
case("3/id-without-at", mail("x", message_id="<abc>"), vendor_ids=(), own_id_ends="@missing.hub>")
case(
    "3/id-endless",
    mail("x", message_id="<" + "a" * 5000 + "@b>"),
    vendor_ids=(),
    own_id_ends="@missing.hub>",
)
case("3/id-raw-bytes", mail("x", message_id=b"<\xc4\xe3@example.org>"), drafts=1)
case(
    "3/first-of-references",
    mail("x", "References: <r1@a> <r2@a>\r\n <r3@a>", "In-Reply-To: <r3@a>"),
    thread="<r1@a>",
    reply_to="<r3@a>",
)
case(
    "3/in-reply-to-alone",
    mail("x", "In-Reply-To: Your message of Monday <r3@a>"),
    thread="<r3@a>",
    reply_to="<r3@a>",
)
case(
    "3/references-alone", mail("x", "References: <r1@a><r2@a>"), thread="<r1@a>", reply_to="<r2@a>"
)
case("3/no-chain", mail("x"), thread="<m1@example.org>", reply_to=None)
case(
    "3/endless-references",
    mail("x", "References: " + "\r\n ".join(f"<r{n}@a>" for n in range(900))),
    thread="<r0@a>",
    references=50,
)
case("3/broken-references", mail("x", "References: <r1@a <r2@b> garbage> <<r3@c>>"), drafts=1)
case(
    "3/our-own-id-answered",
    mail("x", "In-Reply-To: " + message_id("ent_1", "thr_7", "support.example.com", KEY)),
    thread="thr_7",
    reply_to="ent_1",
)
case(
    "3/our-own-id-in-the-chain",
    mail(
        "x",
        "References: <r1@a> " + message_id("ent_1", "thr_7", "h.cn", KEY) + " <other@a>",
        "In-Reply-To: <other@a>",
    ),
    thread="thr_7",
    reply_to="<other@a>",
)
case(
    "3/our-own-id-forged",
    mail("x", "In-Reply-To: <ent_1.thr_7.aaaaaaaaaaaaaaaa@h.cn>"),
    thread="<ent_1.thr_7.aaaaaaaaaaaaaaaa@h.cn>",
)
case("3/gmail-thread-hint", mail("x", "X-GM-THRID: 1234567890"), hint="gmail:1234567890")
case(
    "3/thread-index-hint",
    mail("x", "Thread-Index: " + base64.b64encode(bytes(range(27))).decode()),
    hint="index:" + bytes(range(22)).hex(),
)
case("3/thread-index-broken", mail("x", "Thread-Index: !!!"), hint=None)
for prefix in (
    "Re:",
    "RE：",
    "Fw:",
    "Fwd: ",
    "回复：",
    "答复: ",
    "回覆：",
    "转发：",
    "轉寄:",
    "轉發：",
    "AW: ",
    "SV: ",
    "Antw: ",
    "返信：",
    "Re[2]: ",
    "Re: Re: 回复：",
):
    case(
        f"3/prefix-{prefix.strip()}",
        mail("x", subject=prefix + "订单"),
        data={"base_subject": "订单"},
        hint="subject:订单",
    )
case(
    "3/no-prefix",
    mail("x", subject="Regarding: it"),
    data={"base_subject": "Regarding: it"},
    hint=None,
)

# --- 4 parsing: headers --------------------------------------------------------------------------

case(
    "4/gb2312-word-with-gbk-sign",
    mail("x", subject=word("朱镕基", "gbk", "gb2312")),
    subject="朱镕基",
)
case(
    "4/gb2312-body-with-gbk-sign",
    mail_of(part("朱镕基先生".encode("gbk"), "Content-Type: text/plain; charset=gb2312")),
    texts=["朱镕基先生"],
)
for label in ("x-gbk", "cp936", "gb_2312-80", "GBK", "ms936", "gb18030", "euc-cn"):
    case(
        f"4/label-{label}",
        mail_of(
            part("镕铭".encode("gb18030"), f"Content-Type: text/plain; charset={label}"),
            subject=word("镕", "gb18030", label),
        ),
        texts=["镕铭"],
        subject="镕",
    )
case(
    "4/unknown-charset-utf8",
    mail_of(part("订单在哪里".encode(), "Content-Type: text/plain; charset=x-no-such")),
    texts=["订单在哪里"],
)
case(
    "4/unknown-charset-gbk",
    mail_of(part("订单在哪里，请回复".encode("gbk"), "Content-Type: text/plain; charset=foo-8859")),
    texts=["订单在哪里，请回复"],
)
for label in (
    "hex",
    "rot13",
    "zip",
    "idna",
    "punycode",
    "unicode_escape",
    "undefined",
    "base64",
    "../../etc",
    "utf-8\x00",
    "%s" * 20,
):
    case(
        f"4/charset-{label[:12]!a}",
        mail_of(part("订单在哪里".encode(), f'Content-Type: text/plain; charset="{label}"')),
        texts=["订单在哪里"],
    )
case(
    "4/ascii-that-is-utf8",
    mail_of(part("订单在哪里".encode(), "Content-Type: text/plain; charset=us-ascii")),
    texts=["订单在哪里"],
)
case(
    "4/latin1-that-is-gbk",
    mail_of(
        part(
            "订单什么时候发货，请回复我".encode("gbk"),
            "Content-Type: text/plain; charset=iso-8859-1",
        )
    ),
    texts=["订单什么时候发货，请回复我"],
)
case(
    "4/latin1-that-is-latin1",
    mail_of(
        part("café, déjà vu".encode("latin-1"), "Content-Type: text/plain; charset=iso-8859-1")
    ),
    texts=["café, déjà vu"],
)
case(
    "4/windows-1252-quotes",
    mail_of(
        part(
            "\u201chi\u201d \u2014 ok".encode("cp1252"),
            "Content-Type: text/plain; charset=iso-8859-1",
        )
    ),
    texts=["“hi” — ok"],
)
case(
    "4/gbk-that-is-utf8",
    mail_of(part("订单什么时候发货".encode(), "Content-Type: text/plain; charset=gbk")),
    texts=["订单什么时候发货"],
)
case(
    "4/utf8-that-is-gbk",
    mail_of(
        part("订单什么时候发货，请回复我".encode("gbk"), "Content-Type: text/plain; charset=utf-8")
    ),
    texts=["订单什么时候发货，请回复我"],
)
case(
    "4/utf8-cut-in-a-character",
    mail_of(part("订单什么时候发货".encode()[:-1], "Content-Type: text/plain; charset=utf-8")),
    text_has="订单什么时候发",
)
case(
    "4/big5",
    mail_of(part("訂單在哪裡".encode("big5"), "Content-Type: text/plain; charset=big5")),
    texts=["訂單在哪裡"],
)
case(
    "4/utf16-with-mark",
    mail_of(part("订单".encode("utf-16"), "Content-Type: text/plain; charset=utf-16")),
    texts=["订单"],
)
case(
    "4/utf8-with-mark",
    mail_of(part("\ufeff订单".encode(), "Content-Type: text/plain; charset=utf-8")),
    texts=["订单"],
)
case(
    "4/charset-from-html-meta",
    mail_of(
        part(
            "<html><head><meta charset=gbk></head><p>订单镕</p>".encode("gbk"),
            "Content-Type: text/html",
        )
    ),
    texts=["订单镕"],
)
case("4/raw-utf8-subject", mail("x", subject="订单问题".encode()), subject="订单问题")
case(
    "4/raw-utf8-name",
    mail("x", sender="张三 <zs@qq.com>".encode()),
    name="张三",
    address="mail::mailbox:zs@qq.com",
)
case("4/raw-gbk-subject", mail("x", subject="订单问题".encode("gbk")), subject="订单问题")
case("4/raw-gbk-name", mail("x", sender="张三丰 <zs@qq.com>".encode("gbk")), name="张三丰")
case(
    "4/character-split-across-words",
    mail("x", subject="=?utf-8?B?5Zad?= =?utf-8?B?5Q==?=\r\n =?utf-8?B?ub+N?="),
    drafts=1,
)
_SPLIT = "订单".encode()
case(
    "4/character-split",
    mail(
        "x",
        subject=f"=?utf-8?B?{base64.b64encode(_SPLIT[:4]).decode()}?=\r\n =?utf-8?B?{base64.b64encode(_SPLIT[4:]).decode()}?=",
    ),
    subject="订单",
)
case(
    "4/character-split-q",
    mail("x", subject="=?utf-8?Q?=E8=AE?= =?utf-8?Q?=A2=E5=8D=95?="),
    subject="订单",
)
case("4/iso-2022-jp", mail("x", subject=word("注文", "iso-2022-jp")), subject="注文")
case("4/hz", mail("x", subject=word("订单", "hz", "hz-gb-2312")), subject="订单")
case(
    "4/unicode-1-1-utf-7",
    mail("x", subject=word("订单", "utf-7", "unicode-1-1-utf-7")),
    subject="订单",
)
case("4/gb18030-emoji", mail("x", subject=word("好😀", "gb18030")), subject="好😀")
case("4/word-with-spaces-in-q", mail("x", subject="=?utf-8?Q?a b c?= d"), subject="a b c d")
case("4/word-with-language", mail("x", subject="=?utf-8*zh?B?6K6i5Y2V?="), subject="订单")
case("4/word-broken", mail("x", subject="=?utf-8?B?6K6i5Y2V"), subject="=?utf-8?B?6K6i5Y2V")
case(
    "4/word-in-quotes",
    mail("x", sender='"' + word("张三", "gbk", "gb2312") + '" <zs@qq.com>'),
    name="张三",
)
case(
    "4/word-with-line-end",
    mail("x", subject=word("hi\r\nBcc: evil@x.cn", "utf-8")),
    subject="hi Bcc: evil@x.cn",
)
case("4/word-with-controls", mail("x", subject=word("a\x00b\x1bc\u202ed", "utf-8")), subject="abcd")
case("4/from-two-ats", mail("x", sender="foo@bar@baz"), unnamed=True)
case("4/from-empty-angle", mail("x", sender="<>"), unnamed=True)
case("4/from-empty", mail("x", sender=""), unnamed=True)
case("4/from-missing", mail("x", sender=None), unnamed=True)
case("4/from-group", mail("x", sender="undisclosed-recipients:;"), unnamed=True)
case("4/from-name-alone", mail("x", sender="Li Lei"), unnamed=True, name="Li Lei")
case(
    "4/from-missing-return-path",
    mail("x", "Return-Path: <real@example.org>", sender=None),
    address="mail::mailbox:real@example.org",
)
case(
    "4/from-missing-sender",
    mail("x", "Sender: Real <real@example.org>", sender="<>"),
    address="mail::mailbox:real@example.org",
)
case(
    "4/name-hides-an-address",
    mail("x", sender=word("boss@bank.cn", "utf-8") + " <evil@x.cn>"),
    address="mail::mailbox:evil@x.cn",
    name="",
)
case(
    "4/two-words-hide-an-address",
    mail("x", sender="=?utf-8?Q?boss=40?= =?utf-8?Q?bank.cn?= <evil@x.cn>"),
    address="mail::mailbox:evil@x.cn",
    name="",
)
case(
    "4/quoted-name-hides-an-address",
    mail("x", sender='"boss@bank.cn" <evil@x.cn>'),
    address="mail::mailbox:evil@x.cn",
    name="",
)
case(
    "4/comma-in-an-encoded-name",
    mail("x", sender=word("Li, Lei", "utf-8") + " <li@example.org>"),
    name="Li, Lei",
    address=LI,
)
case(
    "4/comma-in-a-quoted-name",
    mail("x", sender='"Li, Lei" <li@example.org>'),
    name="Li, Lei",
    address=LI,
)
case("4/name-in-a-comment", mail("x", sender="li@example.org (Li Lei)"), name="Li Lei", address=LI)
case(
    "4/quote-never-closed", mail("x", sender='"Li Lei <li@example.org>'), name="Li Lei", address=LI
)
case("4/angle-never-closed", mail("x", sender="Li Lei <li@example.org"), name="Li Lei", address=LI)
case("4/source-route", mail("x", sender="<@relay.cn,@b.cn:li@example.org>"), address=LI)
case("4/nested-comments", mail("x", sender="(" * 3000 + ")" * 3000 + "li@example.org"), address=LI)
case("4/thousand-recipients", mail("x", to=", ".join(f"u{n}@a.cn" for n in range(3000))), drafts=1)
case("4/upper-case-address", mail("x", sender="LI@Example.ORG"), address=LI)
case(
    "4/international-domain",
    mail("x", sender="li@例子.中国".encode()),
    address="mail::mailbox:li@xn--fsqu00a.xn--fiqs8s",
)

NEAR = datetime(2026, 3, 1, 2, 1, tzinfo=UTC)
case(
    "4/date-minus-zero",
    mail("x", date="Sun, 01 Mar 2026 10:00:00 -0000"),
    sent=datetime(2026, 3, 1, 10, tzinfo=UTC),
)
case(
    "4/date-no-zone",
    mail("x", date="Sun, 01 Mar 2026 10:00:00"),
    sent=datetime(2026, 3, 1, 10, tzinfo=UTC),
)
case(
    "4/date-cst-china",
    mail("x", date="Sun, 01 Mar 2026 10:00:00 CST"),
    at=NEAR,
    sent=datetime(2026, 3, 1, 2, tzinfo=UTC),
)
case(
    "4/date-cst-america",
    mail("x", date="Sun, 01 Mar 2026 10:00:00 CST"),
    at=datetime(2026, 3, 1, 16, 1, tzinfo=UTC),
    sent=datetime(2026, 3, 1, 16, tzinfo=UTC),
)
case(
    "4/date-cst-comment",
    mail("x", date="Sun, 1 Mar 2026 10:00:00 +0800 (CST)"),
    at=NEAR,
    sent=datetime(2026, 3, 1, 2, tzinfo=UTC),
)
case(
    "4/date-plus-eight",
    mail("x", date="Sun, 01 Mar 2026 10:00:00 +0800"),
    sent=datetime(2026, 3, 1, 2, tzinfo=UTC),
)
case("4/date-garbage", mail("x", date="yesterday, about noon"), sent=None)
case("4/date-garbage-internal", mail("x", date="0000-00-00"), at=NEAR, sent=NEAR)
case(
    "4/date-from-the-future", mail("x", date="Sun, 01 Mar 2037 10:00:00 +0800"), at=NEAR, sent=NEAR
)
case("4/date-from-1970", mail("x", date="Thu, 01 Jan 1970 00:00:00 +0000"), at=NEAR, sent=NEAR)
case("4/date-missing", mail("x", date=None), at=NEAR, sent=NEAR)
case("4/date-impossible", mail("x", date="Mon, 31 Feb 2026 25:61:61 +9999"), sent=None)
case("4/date-endless", mail("x", date="1 " * 5000), sent=None)
case(
    "4/date-huge-numbers",
    mail("x", date="Sun, 99999999999999999999 Mar 2026 10:00:00 +0000"),
    sent=None,
)

# --- 4 parsing: bodies ---------------------------------------------------------------------------

case(
    "4/transfer-unknown-plain",
    mail("Where is my order?", "Content-Type: text/plain", "Content-Transfer-Encoding: x-strange"),
    texts=["Where is my order?"],
    noted="transfer encoding",
)
case(
    "4/transfer-unknown-base64",
    mail(
        b64("订单在哪里？请尽快回复。".encode()),
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: base-64",
    ),
    texts=["订单在哪里？请尽快回复。"],
)
case(
    "4/transfer-unknown-qp",
    mail(
        qp("订单在哪里".encode()),
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: quotedprintable",
    ),
    texts=["订单在哪里"],
)
case(
    "4/transfer-8-bit",
    mail("订单", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8-bit"),
    texts=["订单"],
)
case(
    "4/transfer-none",
    mail("订单", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: none"),
    texts=["订单"],
)
case(
    "4/transfer-base64-that-is-text",
    mail(
        "Where is my order? It was due on Monday.",
        "Content-Type: text/plain",
        "Content-Transfer-Encoding: base64",
    ),
    texts=["Where is my order? It was due on Monday."],
)
case(
    "4/transfer-base64-without-padding",
    mail(
        base64.b64encode("订单1".encode()).rstrip(b"="),
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: base64",
    ),
    texts=["订单1"],
)
case(
    "4/transfer-base64-twice",
    mail(
        base64.b64encode(b"first one ") + b"\r\n" + base64.b64encode(b"second."),
        "Content-Type: text/plain",
        "Content-Transfer-Encoding: base64",
    ),
    texts=["first one second."],
)
case(
    "4/transfer-base64-cut",
    mail(
        base64.b64encode(b"Where is my order?")[:-3],
        "Content-Type: text/plain",
        "Content-Transfer-Encoding: base64",
    ),
    text_has="Where is my ord",
)
case(
    "4/transfer-qp-broken",
    mail(
        "100=% sure =ZZ =\r\nok =E8=AE=A2",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: quoted-printable",
    ),
    text_has="订",
)
case(
    "4/transfer-uuencode",
    mail(
        "begin 644 x\r\n%:&5L;&\\\r\n`\r\nend\r\n",
        "Content-Type: text/plain",
        "Content-Transfer-Encoding: x-uuencode",
    ),
    texts=["hello"],
)
case(
    "4/boundary-missing",
    mail(
        "--xyz\r\nContent-Type: text/plain\r\n\r\nWORDS\r\n--xyz--\r\n",
        "Content-Type: multipart/mixed",
    ),
    texts=["WORDS"],
    noted="boundary",
)
case(
    "4/boundary-missing-no-parts",
    mail("WORDS alone", "Content-Type: multipart/mixed"),
    texts=["WORDS alone"],
)
case(
    "4/boundary-missing-html",
    mail("<html><p>WORDS</p></html>", "Content-Type: multipart/alternative"),
    texts=["WORDS"],
)
case(
    "4/boundary-wrong",
    mail(
        "--xyz\r\nContent-Type: text/plain\r\n\r\nWORDS\r\n--xyz--\r\n",
        'Content-Type: multipart/mixed; boundary="abc"',
    ),
    texts=["WORDS"],
)
case(
    "4/boundary-never-closed",
    mail(
        "--b1\r\nContent-Type: text/plain\r\n\r\nWORDS",
        'Content-Type: multipart/mixed; boundary="b1"',
    ),
    texts=["WORDS"],
)
case(
    "4/boundary-with-blanks-behind",
    mail("--b1 \t\r\n\r\nWORDS\r\n--b1-- \r\n", 'Content-Type: multipart/mixed; boundary="b1"'),
    texts=["WORDS"],
)
case(
    "4/boundary-prefix-of-another",
    mail_of(
        multipart(
            "mixed",
            multipart("alternative", text("WORDS"), boundary="b1x"),
            text("MORE"),
            boundary="b1",
        )
    ),
    text_has="MORE",
)
case(
    "4/boundary-same-inside",
    mail_of(
        multipart(
            "mixed", multipart("mixed", text("WORDS"), boundary="b1"), text("MORE"), boundary="b1"
        )
    ),
    words=["WORDS", "MORE"],
)
case(
    "4/boundary-closed-too-early",
    mail(
        "--b1\r\n\r\nONE\r\n--b1--\r\n--b1\r\n\r\nTWO\r\n--b1--\r\n",
        'Content-Type: multipart/mixed; boundary="b1"',
    ),
    words=["ONE", "TWO"],
)
case(
    "4/boundary-unquoted-signs",
    mail(
        "--a=_b:c/d\r\n\r\nWORDS\r\n--a=_b:c/d--\r\n",
        "Content-Type: multipart/mixed; boundary=a=_b:c/d",
    ),
    texts=["WORDS"],
)
case(
    "4/boundary-unix-lines",
    mail("--b1\r\n\r\nWORDS\r\n--b1--\r\n", 'Content-Type: multipart/mixed; boundary="b1"').replace(
        b"\r\n", b"\n"
    ),
    texts=["WORDS"],
)
case("4/mac-lines", mail("WORDS").replace(b"\r\n", b"\r"), texts=["WORDS"])
case(
    "4/part-without-headers",
    mail("--b1\r\n\r\nWORDS\r\n--b1--", 'Content-Type: multipart/mixed; boundary="b1"'),
    texts=["WORDS"],
)
case(
    "4/part-without-empty-line",
    mail("--b1\r\nWORDS right here\r\n--b1--", 'Content-Type: multipart/mixed; boundary="b1"'),
    texts=["WORDS right here"],
)
case(
    "4/header-line-that-is-none",
    mail("x").replace(b"Subject: Order", b"this is no header"),
    drafts=1,
)
case(
    "4/mbox-line-in-front",
    b"From li@example.org Sun Mar  1 10:00:00 2026\r\n" + mail("WORDS"),
    texts=["WORDS"],
    address=LI,
)
case("4/empty-lines-in-front", b"\r\n\r\n" + mail("WORDS"), texts=["WORDS"], address=LI)
case("4/no-body", mail(""), kinds=["unsupported"])
case("4/no-headers", b"just some words without any header", drafts=1, words=["just some words"])
case("4/content-type-garbage", mail("WORDS", 'Content-Type: ;;;=""; charset'), texts=["WORDS"])
case("4/content-type-text", mail("WORDS", "Content-Type: text"), texts=["WORDS"])
case(
    "4/apple-two-texts-around-a-picture",
    mail_of(multipart("mixed", text("正面"), picture(), text("反面"))),
    kinds=["text", "image", "text"],
    texts=["正面", "反面"],
)
case(
    "4/text-as-attachment",
    mail_of(
        multipart(
            "mixed",
            text("BODY"),
            part(
                "FILEWORDS",
                'Content-Type: text/plain; name="a.txt"',
                'Content-Disposition: attachment; filename="a.txt"',
            ),
        )
    ),
    texts=["BODY"],
    files=["a.txt"],
)
case(
    "4/only-a-text-attachment",
    mail_of(
        part(
            "FILEWORDS",
            'Content-Type: text/plain; name="a.txt"',
            "Content-Disposition: attachment; filename=a.txt",
        )
    ),
    files=["a.txt"],
    kinds=["file"],
)
for name, kept in (
    ("../../etc/passwd", "passwd"),
    ("C:\\\\temp\\\\a.doc", "a.doc"),
    ('a\\"b.txt', "a_b.txt"),
    ("\u202egnp.exe", "gnp.exe"),
    ("...", "file"),
    (word("订单.pdf", "gbk", "gb2312"), "订单.pdf"),
    ("x" * 600 + ".pdf", "x" * 196 + ".pdf"),
):
    case(
        f"4/filename-{kept[:20]}",
        mail_of(multipart("mixed", text("BODY"), attachment(b"%PDF-1", name=name))),
        files=[kept],
    )
case(
    "4/filename-rfc2231",
    mail_of(
        multipart(
            "mixed",
            text("BODY"),
            part(
                "x",
                "Content-Type: application/pdf",
                "Content-Disposition: attachment; filename*=UTF-8''%E8%AE%A2%E5%8D%95.pdf",
            ),
        )
    ),
    files=["订单.pdf"],
)
case(
    "4/filename-rfc2231-pieces",
    mail_of(
        multipart(
            "mixed",
            text("BODY"),
            part(
                "x",
                "Content-Type: application/pdf",
                "Content-Disposition: attachment; filename*0*=gb2312''%B6%A9; filename*1*=%B5%A5; filename*2=.pdf",
            ),
        )
    ),
    files=["订单.pdf"],
)
case(
    "4/filename-raw-gbk",
    mail_of(
        multipart(
            "mixed",
            text("BODY"),
            part(
                "x",
                "Content-Type: application/pdf",
                b'Content-Disposition: attachment; filename="'
                + "订单表格.pdf".encode("gbk")
                + b'"',
            ),
        )
    ),
    files=["订单表格.pdf"],
)
case(
    "4/filename-raw-utf8",
    mail_of(
        multipart(
            "mixed",
            text("BODY"),
            part(
                "x",
                "Content-Type: application/pdf",
                'Content-Disposition: attachment; filename="订单.pdf"',
            ),
        )
    ),
    files=["订单.pdf"],
)
case(
    "4/filename-nameless",
    mail_of(
        multipart(
            "mixed",
            text("BODY"),
            part(b64(JPEG), "Content-Type: image/jpeg", "Content-Transfer-Encoding: base64"),
        )
    ),
    kinds=["text", "image"],
)

# --- 5 choosing content --------------------------------------------------------------------------

LONG = "This is the plain version of the mail."
case(
    "5/plain-preferred",
    mail_of(
        multipart("alternative", text(LONG), text("<p>The <b>rich</b> version</p>", kind="html"))
    ),
    texts=[LONG],
    html_has="<b>rich</b>",
)
case(
    "5/short-plain-html-preferred",
    mail_of(multipart("alternative", text("short"), text("<p>The rich version</p>", kind="html"))),
    texts=["The rich version"],
)
case(
    "5/stub-html-preferred",
    mail_of(
        multipart(
            "alternative",
            text("Please view this message in an HTML capable browser."),
            text("<p>The rich version</p>", kind="html"),
        )
    ),
    texts=["The rich version"],
)
case(
    "5/stub-zh-html-preferred",
    mail_of(
        multipart(
            "alternative",
            text("您的邮件客户端不支持显示 HTML 格式，请用浏览器打开本邮件查看内容。"),
            text("<p>正文</p>", kind="html"),
        )
    ),
    texts=["正文"],
)
case(
    "5/html-first",
    mail_of(multipart("alternative", text("<p>rich</p>", kind="html"), text(LONG))),
    texts=[LONG],
)
case(
    "5/html-empty-plain-taken",
    mail_of(multipart("alternative", text("short"), text("<p></p>", kind="html"))),
    texts=["short"],
)
case(
    "5/html-alone",
    mail_of(text("<p>a</p><p>b<br>c</p><ul><li>d</ul>", kind="html")),
    texts=["a\n\nb\nc\n\n- d"],
)
case(
    "5/html-hidden-dropped",
    mail_of(
        text(
            "<style>S</style><script>S</script><div style='display: none'>HID</div><p hidden>HID</p><p>seen</p>",
            kind="html",
        )
    ),
    texts=["seen"],
)
case(
    "5/html-links-kept",
    mail_of(text('<a href="https://x.cn/pay">pay here</a>', kind="html")),
    texts=["pay here <https://x.cn/pay>"],
)
case(
    "5/html-unsafe-dropped",
    mail_of(
        text(
            '<p onclick="x()">a<a href="javascript:x()">b</a><iframe src="//e"></iframe><form><input></form></p>',
            kind="html",
        )
    ),
    html_lacks=["onclick", "javascript", "iframe", "form", "input"],
)
case(
    "5/html-remote-pictures-withheld",
    mail_of(text('<p>a<img src="https://t.cn/p.gif"></p>', kind="html")),
    html_lacks=['src="https'],
    data={"remote_images": 1},
)
case(
    "5/related-in-reading-order",
    mail_of(
        multipart(
            "related",
            text('<p>front</p><img src="cid:p1@x"><p>back</p>', kind="html"),
            picture(cid="p1@x"),
        )
    ),
    kinds=["text", "image", "text"],
    texts=["front", "back"],
)
case(
    "5/related-two-pictures-swapped",
    mail_of(
        multipart(
            "related",
            text('<p>a</p><img src="cid:p2"><img src="cid:p1">', kind="html"),
            picture(cid="p1", name="1.jpg"),
            picture(cid="p2", name="2.jpg"),
        )
    ),
    files=["2.jpg", "1.jpg"],
    kinds=["text", "image", "image"],
)
case(
    "5/related-not-referenced",
    mail_of(multipart("related", text("<p>a</p>", kind="html"), picture(cid="p1"))),
    kinds=["text", "image"],
)
case(
    "5/related-reference-to-nothing",
    mail_of(multipart("related", text('<p>a</p><img src="cid:none"><p>b</p>', kind="html"))),
    words=["a", "b"],
)
case(
    "5/cid-in-plain-text",
    mail_of(
        multipart(
            "related", text("Here it is on a long line [cid:p1@x] and more"), picture(cid="p1@x")
        )
    ),
    kinds=["text", "image", "text"],
)
case(
    "5/related-in-alternative",
    mail_of(
        multipart(
            "alternative",
            text(LONG),
            multipart(
                "related",
                text('<p>x</p><img src="cid:p1">', kind="html"),
                picture(cid="p1"),
                boundary="b2",
            ),
        )
    ),
    kinds=["text", "image"],
    texts=[LONG],
)
case(
    "5/apple-mixed-in-alternative",
    mail_of(
        multipart(
            "alternative",
            text("short"),
            multipart(
                "mixed",
                text("<p>before</p>", kind="html"),
                attachment(b"%PDF-1"),
                text("<p>after</p>", kind="html"),
                boundary="b2",
            ),
        )
    ),
    kinds=["text", "file", "text"],
    texts=["before", "after"],
)
case(
    "5/tracking-pixel-dropped",
    mail_of(
        multipart(
            "related",
            text('<p>a</p><img src="cid:t">', kind="html"),
            part(
                b64(PIXEL),
                "Content-Type: image/gif",
                "Content-ID: <t>",
                "Content-Transfer-Encoding: base64",
            ),
        )
    ),
    kinds=["text"],
)
case(
    "5/png-is-a-picture",
    mail_of(multipart("mixed", text("see"), attachment(PNG, "application/octet-stream", "a.png"))),
    kinds=["text", "image"],
)
case(
    "5/not-the-picture-it-says",
    mail_of(multipart("mixed", text("see"), attachment(b"MZ\x90\x00", "image/png", "a.png"))),
    kinds=["text", "file"],
)
INVITE = 'BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nBEGIN:VTIMEZONE\r\nTZID:China Standard Time\r\nBEGIN:STANDARD\r\nDTSTART:16010101T000000\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\nBEGIN:VEVENT\r\nSUMMARY:上门\\, 安装\r\nDTSTART;TZID="China Standard Time":20231116T140000\r\nORGANIZER;CN=客服:mailto:support@example.com\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n'
case(
    "5/calendar-request",
    mail_of(
        multipart(
            "alternative",
            text("请您确认上门安装时间，谢谢，请尽快回复我们。"),
            part(INVITE, "Content-Type: text/calendar; charset=utf-8; method=REQUEST"),
        )
    ),
    calendar=("REQUEST", "上门, 安装", "2023-11-16T06:00:00Z", "客服 <support@example.com>"),
)
case(
    "5/calendar-utc",
    mail_of(
        part(
            INVITE.replace(';TZID="China Standard Time":20231116T140000', ":20231116T060000Z"),
            "Content-Type: text/calendar",
        )
    ),
    calendar=("REQUEST", "上门, 安装", "2023-11-16T06:00:00Z", "客服 <support@example.com>"),
)
case(
    "5/calendar-reply",
    mail_of(part(INVITE.replace("REQUEST", "REPLY"), "Content-Type: text/calendar")),
    calendar=("REPLY", "上门, 安装", "2023-11-16T06:00:00Z", "客服 <support@example.com>"),
)
case(
    "5/calendar-cancel-whole-day",
    mail_of(
        part(
            INVITE.replace("REQUEST", "CANCEL").replace(
                ';TZID="China Standard Time":20231116T140000', ";VALUE=DATE:20231116"
            ),
            "Content-Type: text/calendar",
        )
    ),
    calendar=("CANCEL", "上门, 安装", "2023-11-16", "客服 <support@example.com>"),
)
case(
    "5/calendar-unknown-zone",
    mail_of(
        part(INVITE.replace("China Standard Time", "My Own Zone"), "Content-Type: text/calendar")
    ),
    calendar=("REQUEST", "上门, 安装", "2023-11-16T14:00:00", "客服 <support@example.com>"),
)
case(
    "5/calendar-garbage",
    mail_of(multipart("mixed", text("hi"), part("no calendar", "Content-Type: text/calendar"))),
    kinds=["text", "file"],
)
case(
    "5/attached-mail",
    mail_of(
        multipart(
            "mixed",
            text("see"),
            part(mail("INNERWORDS", subject="Inner"), "Content-Type: message/rfc822"),
        )
    ),
    files=["Inner.eml"],
    attached={"subject": "Inner", "text": "INNERWORDS", "from": "Li Lei <li@example.org>"},
)
case(
    "5/attached-mail-base64",
    mail_of(
        multipart(
            "mixed",
            text("see"),
            part(
                b64(mail("INNERWORDS", subject="Inner")),
                "Content-Type: message/rfc822",
                "Content-Transfer-Encoding: base64",
            ),
        )
    ),
    attached={"subject": "Inner", "text": "INNERWORDS"},
)
case(
    "5/digest",
    mail_of(multipart("digest", part(mail("ONE", subject="a")), part(mail("TWO", subject="b")))),
    files=["a.eml", "b.eml"],
)


def tnef(*attributes: tuple[int, bytes]) -> bytes:
    out = (0x223E9F78).to_bytes(4, "little") + b"\x01\x00"
    for kind, data in attributes:
        out += (
            b"\x01" + kind.to_bytes(4, "little") + len(data).to_bytes(4, "little") + data + b"\0\0"
        )
    return out


WINMAIL = tnef(
    (0x0002800C, b"TNEFWORDS\0"),
    (0x00069002, b"\0" * 14),
    (0x00018010, b"order.xls\0"),
    (0x0006800F, b"DATA"),
)
case(
    "5/winmail",
    mail_of(
        multipart("mixed", text("hello"), attachment(WINMAIL, "application/ms-tnef", "winmail.dat"))
    ),
    files=["order.xls", "winmail.dat"],
    texts=["hello"],
)
case(
    "5/winmail-with-the-only-text",
    mail_of(
        part(b64(WINMAIL), "Content-Type: application/ms-tnef", "Content-Transfer-Encoding: base64")
    ),
    texts=["TNEFWORDS"],
)
case(
    "5/winmail-broken",
    mail_of(
        multipart(
            "mixed", text("hello"), attachment(WINMAIL[:40], "application/ms-tnef", "winmail.dat")
        )
    ),
    files=["winmail.dat"],
)
case(
    "5/winmail-that-is-none",
    mail_of(
        multipart(
            "mixed", text("hello"), attachment(b"nothing", "application/ms-tnef", "winmail.dat")
        )
    ),
    files=["winmail.dat"],
)
case(
    "5/smime-encrypted",
    mail_of(
        part(
            b64(b"0\x82secret"),
            "Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m",
            "Content-Transfer-Encoding: base64",
        )
    ),
    kinds=["unsupported", "file"],
    data={"encrypted": "S/MIME"},
    files=["smime.p7m"],
)
case(
    "5/smime-signed",
    mail_of(
        multipart(
            "signed",
            text("signed words"),
            part(
                b64(b"sig"),
                "Content-Type: application/pkcs7-signature; name=smime.p7s",
                "Content-Transfer-Encoding: base64",
            ),
        )
    ),
    texts=["signed words"],
    kinds=["text"],
    data={"signed": True},
)
case(
    "5/pgp-encrypted",
    mail_of(
        multipart(
            "encrypted",
            part("Version: 1", "Content-Type: application/pgp-encrypted"),
            part(
                "-----BEGIN PGP MESSAGE-----",
                "Content-Type: application/octet-stream; name=encrypted.asc",
            ),
            params='; protocol="application/pgp-encrypted"',
        )
    ),
    data={"encrypted": "OpenPGP"},
    words=["[encrypted mail: OpenPGP]"],
)
case(
    "5/pgp-inline",
    mail("-----BEGIN PGP MESSAGE-----\r\nabc\r\n-----END PGP MESSAGE-----"),
    data={"encrypted": "OpenPGP"},
)
case(
    "5/flowed",
    mail(
        "A line that \r\nflows on.\r\n> quoted \r\n> flows\r\n",
        "Content-Type: text/plain; format=flowed",
    ),
    words=["A line that flows on."],
)
case(
    "5/flowed-delsp",
    mail("订 \r\n单\r\n", "Content-Type: text/plain; charset=utf-8; format=flowed; delsp=yes"),
    texts=["订单"],
)
case(
    "5/flowed-stuffed",
    mail(" From here\r\nok", "Content-Type: text/plain; format=flowed"),
    texts=["From here\nok"],
)
case(
    "5/fifty-one-files",
    mail_of(
        multipart(
            "mixed", text("many"), *[attachment(b"x%d" % n, name=f"f{n}.pdf") for n in range(60)]
        )
    ),
    words=["10 more files", "f59.pdf"],
    last_file="original.eml",
)
case("5/very-long-text", mail("WORDS " * 20_000), files=["mail.txt"])
case(
    "5/very-long-html",
    mail_of(text("<p>" + "WORDS " * 30_000 + "</p>", kind="html")),
    words=["WORDS"],
    last_file="mail.txt",
)
case(
    "5/csv-inline",
    mail_of(multipart("mixed", text("see"), part("a,b", "Content-Type: text/csv; name=a.csv"))),
    files=["a.csv"],
)
case(
    "5/second-named-text",
    mail_of(
        multipart(
            "mixed",
            text("see"),
            part(
                "LOGWORDS",
                "Content-Type: text/plain; name=log.txt",
                "Content-Disposition: inline; filename=log.txt",
            ),
        )
    ),
    files=["log.txt"],
)
case(
    "5/voice-and-video",
    mail_of(
        multipart(
            "mixed",
            text("hear"),
            attachment(b"ID3", "audio/mpeg", "a.mp3"),
            attachment(b"ftyp", "video/mp4", "v.mp4"),
        )
    ),
    kinds=["text", "audio", "video"],
)
case(
    "5/quotation-across-a-picture",
    mail_of(
        multipart(
            "mixed",
            text("answer\n\nOn Wed, Support <s@example.com> wrote:\n> old"),
            picture(),
            text("> more old"),
        )
    ),
    texts=["answer"],
    quoted_has=["old", "more old"],
    kinds=["text", "image"],
)
case(
    "5/signature-folded",
    mail("好的\n\n发自我的 iPhone", "Content-Type: text/plain; charset=utf-8"),
    texts=["好的"],
    quoted_has=["发自我的 iPhone"],
)

# --- 6 automatic mail ----------------------------------------------------------------------------

for row, line in (
    ("auto-replied", "Auto-Submitted: auto-replied"),
    ("auto-generated-with-parameter", "Auto-Submitted: auto-generated; owner-email=x"),
    ("bulk", "Precedence: bulk"),
    ("junk", "Precedence: Junk"),
    ("list", "Precedence: list"),
    ("auto_reply", "Precedence: auto_reply"),
    ("suppress", "X-Auto-Response-Suppress: All"),
    ("x-autoreply", "X-Autoreply: yes"),
    ("x-autorespond", "X-Autorespond: a"),
    ("x-auto-reply-from", "X-Auto-Reply-From: b@c.cn"),
    ("list-id", "List-Id: News <news.example.org>"),
    ("list-unsubscribe", "List-Unsubscribe: <mailto:a@b.cn>"),
    ("null-return-path", "Return-Path: <>"),
    ("failed-recipients", "X-Failed-Recipients: a@b.cn"),
    ("our-instance", "X-Hub-Instance: hub-1"),
):
    case(f"6/{row}", mail("x", line), automatic=True)
for local in (
    "mailer-daemon",
    "postmaster",
    "no-reply",
    "noreply",
    "do-not-reply",
    "MAILER-DAEMON",
):
    case(f"6/from-{local}", mail("x", sender=f"{local}@example.org"), automatic=True)
for subject in (
    "自动回复: 订单",
    "自動回覆：訂單",
    "Automatic reply: Order",
    "Out of Office: Order",
    "不在办公室",
):
    case(f"6/subject-{subject[:12]}", mail("x", subject=subject), automatic=True)
case("6/from-ourselves", mail("x", sender="Support@example.com"), automatic=True)
case("6/report-of-nothing-known", mail_of(dsn("Action: failed", original=None)), automatic=True)
case(
    "6/not-automatic",
    mail(
        "x",
        "Auto-Submitted: no",
        "Precedence: first-class",
        "Return-Path: <li@example.org>",
        "X-Auto-Response-Suppress:",
    ),
    automatic=False,
)
case("6/another-hubs-answer", mail("x", "X-Hub-Instance: hub-2"), automatic=False)
case("6/our-own-mail", mail("x", "X-Hub-Instance: hub-1", sender="support@example.com"), own=True)
case(
    "6/our-own-mail-in-sent",
    mail("x", "X-Hub-Instance: hub-1", sender="support@example.com", to="li@example.org"),
    own=True,
    folder="sent",
)
case(
    "6/sent-by-an-agent",
    mail("Answer", sender="Wang <support@example.com>", to="Li <li@example.org>"),
    folder="sent",
    direction="out",
    address=LI,
    sender=("agent", "Wang"),
    automatic=False,
)
case(
    "6/sent-to-two",
    mail(
        "Answer",
        sender="support@example.com",
        to="li@example.org, han@example.org, support@example.com",
    ),
    folder="sent",
    drafts=2,
)
case(
    "6/sent-to-ourselves",
    mail("Note", sender="support@example.com", to="support@example.com"),
    folder="sent",
    drafts=0,
)

# --- 7 bounces -----------------------------------------------------------------------------------

FAILED = "Final-Recipient: rfc822; x@qq.com\r\nAction: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user"
ORIGINAL = "<hub-78@support.example.com>"
DAEMON = {"sender": "MAILER-DAEMON@mx.qq.com", "subject": "Undelivered Mail Returned to Sender"}
case(
    "7/hard",
    mail_of(dsn(FAILED), **DAEMON),
    receipt=("failed", ORIGINAL, "5.1.1", True),
    reason="550 5.1.1 no such user",
    address="mail::mailbox:x@qq.com",
)
case(
    "7/soft",
    mail_of(dsn(FAILED.replace("5.1.1", "4.2.2")), **DAEMON),
    receipt=("failed", ORIGINAL, "4.2.2", False),
)
case(
    "7/delayed",
    mail_of(dsn(FAILED.replace("failed", "delayed").replace("5.1.1", "4.4.1")), **DAEMON),
    event="mail.delayed",
    address="mail::mailbox:x@qq.com",
)
case(
    "7/delivered",
    mail_of(dsn(FAILED.replace("failed", "delivered").replace("5.1.1", "2.0.0")), **DAEMON),
    receipt=("delivered", ORIGINAL, "2.0.0", False),
)
case(
    "7/relayed-is-no-receipt",
    mail_of(dsn(FAILED.replace("failed", "relayed")), **DAEMON),
    automatic=True,
)
case("7/two-recipients", mail_of(dsn(FAILED, FAILED.replace("x@", "y@")), **DAEMON), drafts=2)
case(
    "7/status-in-the-diagnostic-only",
    mail_of(dsn(FAILED.replace("Status: 5.1.1\r\n", "")), **DAEMON),
    receipt=("failed", ORIGINAL, "5.1.1", True),
)
case(
    "7/original-as-whole-mail",
    mail_of(
        multipart(
            "report",
            text("failed"),
            part(FAILED, "Content-Type: message/delivery-status"),
            part(
                mail("old", sender="support@example.com", message_id=ORIGINAL),
                "Content-Type: message/rfc822",
            ),
            params="; report-type=delivery-status",
        ),
        **DAEMON,
    ),
    receipt=("failed", ORIGINAL, "5.1.1", True),
)
case(
    "7/mail-not-ours",
    mail_of(dsn(FAILED, original="From: spammer@evil.cn\r\nMessage-ID: <spam@evil.cn>"), **DAEMON),
    automatic=True,
)
case(
    "7/verp",
    mail_of(
        dsn(FAILED, original=None), to=f"bounces+{bounce_token('ent_5', KEY)}@example.com", **DAEMON
    ),
    receipt=("failed", "ent_5", "5.1.1", True),
)
case(
    "7/verp-forged",
    mail_of(dsn(FAILED, original=None), to="bounces+ent_5.aaaaaaaaaaaaaaaa@example.com", **DAEMON),
    automatic=True,
)
case(
    "7/our-own-id",
    mail_of(
        dsn(FAILED, original="Message-ID: " + message_id("ent_6", "thr_1", "h.cn", KEY)), **DAEMON
    ),
    receipt=("failed", "ent_6", "5.1.1", True),
)
case(
    "7/free-text-verp",
    mail(
        "无法投递到 x@qq.com\r\n550 5.1.1 User unknown",
        "Content-Type: text/plain; charset=utf-8",
        to=f"bounces+{bounce_token('ent_5', KEY)}@example.com",
        sender="PostMaster@qq.com",
        subject=word("系统退信", "gbk"),
    ),
    receipt=("failed", "ent_5", "5.1.1", True),
    reason="550 5.1.1 User unknown",
)
case(
    "7/free-text-quoted-id",
    mail(
        f"Your mail came back.\r\n452 mailbox full\r\n\r\nMessage-ID: {ORIGINAL}\r\n",
        sender="postmaster@163.com",
        subject="failure notice",
    ),
    receipt=("failed", ORIGINAL, "452", False),
)
case(
    "7/free-text-smtp-code",
    mail(
        f"The server said: 550 Mail content denied\r\nMessage-Id: {ORIGINAL}",
        sender="mailer-daemon@qq.com",
        subject="Undelivered",
    ),
    receipt=("failed", ORIGINAL, "550", True),
)
case(
    "7/free-text-delayed",
    mail(
        "Delivery is delayed, we will retry.\r\n451 4.7.1 greylisted",
        "X-Failed-Recipients: x@qq.com",
        to=f"bounces+{bounce_token('ent_5', KEY)}@example.com",
        sender="postmaster@qq.com",
        subject="Delivery delayed",
    ),
    event="mail.delayed",
)
case(
    "7/free-text-unknown",
    mail("Something failed", sender="postmaster@qq.com", subject="failure notice"),
    automatic=True,
    words=["Something failed"],
)
case(
    "7/out-of-office-to-verp-is-no-bounce",
    mail(
        "I am away",
        "Auto-Submitted: auto-replied",
        to=f"bounces+{bounce_token('ent_5', KEY)}@example.com",
    ),
    automatic=True,
    words=["I am away"],
)
case(
    "7/a-person-quoting-a-bounce",
    mail(f"I got this: 550 5.1.1 unknown\r\nMessage-ID: {ORIGINAL}", subject="Undelivered mail?"),
    automatic=False,
    words=["I got this"],
)
READ = "Final-Recipient: rfc822; x@qq.com\r\nOriginal-Message-ID: <hub-78@support.example.com>\r\nDisposition: manual-action/MDN-sent-manually; displayed"
case(
    "7/read",
    mail_of(
        multipart(
            "report",
            text("read"),
            part(READ, "Content-Type: message/disposition-notification"),
            params="; report-type=disposition-notification",
        )
    ),
    receipt=("read", ORIGINAL, "", False),
)
case(
    "7/deleted-unread",
    mail_of(
        multipart(
            "report",
            text("gone"),
            part(
                READ.replace("displayed", "deleted"),
                "Content-Type: message/disposition-notification",
            ),
            params="; report-type=disposition-notification",
        )
    ),
    automatic=True,
)
case(
    "7/read-of-nothing",
    mail_of(
        multipart(
            "report",
            text("read"),
            part("Disposition: a; displayed", "Content-Type: message/disposition-notification"),
            params="; report-type=disposition-notification",
        )
    ),
    automatic=True,
)
case(
    "7/report-base64",
    mail_of(
        multipart(
            "report",
            text("failed"),
            part(
                b64(FAILED.encode()),
                "Content-Type: message/delivery-status",
                "Content-Transfer-Encoding: base64",
            ),
            part(f"Message-ID: {ORIGINAL}\r\n", "Content-Type: text/rfc822-headers"),
            params="; report-type=delivery-status",
        ),
        **DAEMON,
    ),
    receipt=("failed", ORIGINAL, "5.1.1", True),
)
case(
    "7/report-empty",
    mail_of(multipart("report", params="; report-type=delivery-status"), **DAEMON),
    automatic=True,
)

# --- found by reading the reader -----------------------------------------------------------------

case(
    "4/ascii-that-says-utf16",
    mail_of(part("Where is my order?", "Content-Type: text/plain; charset=utf-16")),
    texts=["Where is my order?"],
)
case(
    "5/footer-beside-the-page",
    mail_of(
        multipart(
            "alternative",
            text(LONG),
            multipart(
                "mixed", text("<p>rich</p>", kind="html"), text("FOOTERWORDS"), boundary="b2"
            ),
        )
    ),
    texts=[LONG],
    files=["text.txt"],
)
case(
    "5/footer-said-already",
    mail_of(
        multipart(
            "alternative",
            text(LONG + "\nFOOTER"),
            multipart("mixed", text("<p>rich</p>", kind="html"), text("FOOTER"), boundary="b2"),
        )
    ),
    kinds=["text"],
)
case(
    "5/page-with-a-name",
    mail_of(
        multipart(
            "alternative",
            text(LONG),
            part("<p>rich</p>", "Content-Type: text/html; name=mail.html"),
        )
    ),
    kinds=["text"],
    html_has="rich",
)
case(
    "4/base64-with-garbage-behind",
    mail(
        b64(b"Where is my order? It was due on Monday.") + b"\x00\xff\xfe",
        "Content-Transfer-Encoding: base64",
    ),
    text_has="Where is my order? It was due on Monday.",
)
case(
    "4/closing-boundary-with-garbage-behind",
    mail(b"--b1\r\n\r\nWORDS\r\n--b1--\x00\xff", 'Content-Type: multipart/mixed; boundary="b1"'),
    texts=["WORDS"],
)

# --- found by hunting ----------------------------------------------------------------------------

WAITING = "您好，我的订单还没有收到，请尽快处理。谢谢！" * 3
IN_PAGE = base64.b64encode(PNG).decode()

case("6/auto-submitted-that-says-nothing", mail("x", 'Auto-Submitted: " "'), automatic=False)
for subject in (
    "自动回复功能打不开",
    "Out of office chairs",
    "Automatic replying machine is broken",
):
    case(f"6/a-customers-{subject[:12]}", mail("x", subject=subject.encode()), automatic=False)
for subject in (
    "[自动回复]订单",
    "自动回复",
    "Out of office until Monday",
    "Out of Office Re: Order",
):
    case(f"6/a-machines-{subject[:16]}", mail("x", subject=subject.encode()), automatic=True)
case(
    "4/blanks-behind-a-soft-line-break",
    mail(
        "=E4=BD= \r\n=A0=E5=A5=BD=\t\r\n!",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: quoted-printable",
    ),
    texts=["你好!"],
)
case(
    "4/a-header-folded-without-a-blank",
    mail_of(
        multipart("alternative", text(LONG), text("<p>rich</p>", kind="html")),
        "X-Report: one",
        "two and three",
        "MIME-Version: 1.0",
    ),
    texts=[LONG],
    subject="Order",
)
case(
    "4/a-body-without-an-empty-line-above",
    b"From: li@example.org\r\nMessage-ID: <a@b.cn>\r\nHello there\r\nSubject: what I mean\r\n\r\nMore",
    text_has="Hello there\nSubject: what I mean",
)
case("4/mailto-in-from", mail("x", sender="Li Lei <mailto:li@example.org>"), address=LI)
case("4/one-angle-too-many", mail("x", sender="Li Lei <li@example.org>>"), name="Li Lei")
case(
    "4/question-marks-in-a-word",
    mail("x", subject="=?utf-8?Q?What's_up??= =?utf-8?Q?_=E4=BD=A0=E5=A5=BD??="),
    subject="What's up? 你好?",
)
case(
    "4/specials-in-a-word",
    mail("x", sender='=?utf-8?Q?Li,_Wei_(Sales):_"x"?= <li@example.org>'),
    name='Li, Wei (Sales): "x',
    address=LI,
)
case("4/quoted-local-part-is-nobody-else", mail("x", sender='"wang li"@example.org'), unnamed=True)
case("4/quoted-local-part", mail("x", sender='"li"@example.org'), address=LI)
case("4/comment-in-the-address", mail("x", sender="Li <li@(at home)example.org>"), address=LI)
case(
    "4/notice-behind-base64",
    mail(
        b64(WAITING.encode()) + b"\r\n_____\r\nScanned by a virus scanner.\r\n",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: base64",
    ),
    texts=[WAITING + "\n_____\nScanned by a virus scanner."],
    noted="words behind",
)
case(
    "4/chinese-notice-behind-base64",
    mail(
        b64(WAITING.encode() + b".") + "\r\n此邮件已经过病毒扫描\r\n".encode(),
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: base64",
    ),
    texts=[WAITING + ".\n\n此邮件已经过病毒扫描"],
)
case(
    "4/japanese-without-a-label",
    mail("注文について".encode("iso2022_jp"), subject="注文".encode("iso2022_jp")),
    subject="注文",
    texts=["注文について"],
)
case(
    "4/utf32",
    mail("好的😀".encode("utf-32"), "Content-Type: text/plain; charset=utf-32"),
    texts=["好的😀"],
)
case(
    "4/utf16-without-a-mark-is-big-endian",
    mail("Hello, 你好".encode("utf-16-be"), "Content-Type: text/plain; charset=utf-16"),
    texts=["Hello, 你好"],
)
case(
    "4/utf16-without-a-mark-little-endian",
    mail("Hello, 你好".encode("utf-16-le"), "Content-Type: text/plain; charset=utf-16"),
    texts=["Hello, 你好"],
)
case(
    "4/semicolon-missing-in-the-type",
    mail("好的，谢谢".encode("gbk"), "Content-Type: text/plain charset=gbk"),
    texts=["好的，谢谢"],
)
case(
    "5/a-page-that-says-plain",
    mail("<html><body><p>Where is it?</p></body></html>", "Content-Type: text/plain"),
    texts=["Where is it?"],
)
case(
    "5/picture-in-the-page",
    mail(
        f"<p>这是截图：</p><img src='data:image/png;base64,{IN_PAGE}'><p>怎么解决？</p>",
        "Content-Type: text/html; charset=utf-8",
    ),
    kinds=["text", "image", "text"],
    texts=["这是截图：", "怎么解决？"],
    files=["image.png"],
    html_has='src="cid:1.1@page"',
)
case(
    "5/large-picture-in-the-page",
    mail(
        f'<p>look:</p><img src="data:image/png;base64,{IN_PAGE * 12_000}"><p>what now?</p>',
        "Content-Type: text/html",
    ),
    texts=["look:", "what now?"],
)
case(
    "5/picture-in-a-page-that-is-not-read",
    mail_of(
        multipart(
            "alternative",
            text(LONG),
            text(f"<p>rich</p><img src=data:image/png;base64,{IN_PAGE}>", kind="html"),
        )
    ),
    texts=[LONG],
    files=["image.png"],
)
case(
    "5/large-background-in-the-page",
    mail(
        f'<style>p {{background: url("data:image/png;base64,{IN_PAGE * 12_000}")}}</style><p>words',
        "Content-Type: text/html",
    ),
    texts=["words"],
)
case(
    "5/forwarded-by-its-subject",
    mail(
        "请帮我看看\r\n\r\n发件人: 商店 <shop@example.com>\r\n主题: 订单\r\n\r\n您的订单已取消",
        "Content-Type: text/plain; charset=utf-8",
        subject="转发：订单",
    ),
    text_has="您的订单已取消",
)
case(
    "5/an-answer-in-a-forwarded-thread",
    mail(
        "谢谢\r\n\r\n发件人: 商店 <shop@example.com>\r\n主题: 订单\r\n\r\n您的订单已取消",
        "Content-Type: text/plain; charset=utf-8",
        subject="回复：转发：订单",
    ),
    texts=["谢谢"],
)
case(
    "3/sent-to-the-own-list-with-the-customer-in-copy",
    mail("x", "Cc: li@example.org", sender="support@example.com"),
    folder="sent",
    address=LI,
    drafts=1,
)
