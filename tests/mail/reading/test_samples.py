# ruff: noqa: E501 - a body as it is
"""The samples of contracts/email.md section 11, and the keys and addresses that are frozen."""

from __future__ import annotations

import base64
from pathlib import Path

from msgspec.structs import replace

from hub.testing.golden import check_golden
from normalizer.addresses import canonical
from normalizer.drafts import DeliveryState, Message, Receipt
from normalizer.keys import dedupe_key
from normalizer.parts import Calendar, Image, Text
from tests.mail.reading.building import (
    BOX,
    b64,
    dsn,
    mail,
    mail_of,
    message_of,
    multipart,
    part,
    picture,
    read,
    receipt_of,
    text,
)
from tests.mail.reading.mails import CASES

GOLDEN = Path(__file__).parents[2] / "golden" / "mail.json"

QQ = mail(
    b64("还是没收到😀\n\n\n------------------ 原始邮件 ------------------\n发件人: \"客服\"".encode("gb18030")),
    "In-Reply-To: <hub-77@support.example.com>",
    "Authentication-Results: mx.example.com; dmarc=pass header.from=qq.com",
    'Content-Type: text/plain; charset="gb18030"',
    "Content-Transfer-Encoding: base64",
    sender="=?gb18030?B?1cXI/Q==?= <zs@qq.com>",
    subject="=?gb18030?B?u9i4tKO6tqm1pc7KzOI=?=",
    message_id="<tencent_1@qq.com>",
)  # fmt: skip
AWAY = mail(
    "我在休假",
    "Auto-Submitted: auto-replied",
    "In-Reply-To: <hub-77@support.example.com>",
    "Content-Type: text/plain; charset=utf-8",
    sender="zs@qq.com",
    subject="自动回复: 订单问题",
    message_id="<tencent_2@qq.com>",
)
BOUNCE = mail_of(
    dsn("Final-Recipient: rfc822; x@qq.com\r\nAction: failed\r\nStatus: 5.1.1"),
    sender="PostMaster@qq.com",
    message_id="<bounce_3@qq.com>",
)
PHOTO = mail_of(
    multipart("mixed", text("正面"), picture(), text("反面")), message_id="<iphone@example.org>"
)
MEETING = mail_of(
    multipart(
        "alternative",
        text("请确认上门安装的时间"),
        part(
            "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nDTSTART:20231116T060000Z\r\n"
            "SUMMARY:上门安装\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
            "Content-Type: text/calendar; charset=utf-8; method=REQUEST",
        ),
    ),
    message_id="<meeting@example.org>",
)
NO_ID = mail(
    "朱镕基先生".encode("gbk"),
    "Content-Type: text/plain; charset=gb2312",
    sender="=?gb2312?B?" + base64.b64encode("朱镕".encode("gbk")).decode() + "?= <zr@163.com>",
    message_id=None,
)


def test_1_a_reply_from_qq() -> None:
    draft = message_of(QQ)
    assert canonical(draft.address) == "mail::mailbox:zs@qq.com"
    assert draft.profile is not None
    assert draft.profile.name == "张三"
    assert draft.subject == "回复：订单问题"
    assert draft.thread == draft.reply_to == "<hub-77@support.example.com>"
    assert draft.vendor_ids == ("<tencent_1@qq.com>",)
    assert draft.data["auth"] == "pass"
    (said,) = draft.parts
    assert isinstance(said, Text)
    assert said.text == "还是没收到😀"
    assert said.quoted.startswith("------------------ 原始邮件")
    assert not draft.automatic


def test_2_out_of_office_lands_in_the_same_thread_and_wakes_nobody() -> None:
    draft = message_of(AWAY)
    assert draft.automatic
    assert draft.thread == message_of(QQ).thread


def test_3_a_bounce_fails_the_mail_that_it_is_about() -> None:
    draft = receipt_of(BOUNCE)
    assert draft.target.vendor_id == "<hub-78@support.example.com>"
    assert draft.state is DeliveryState.FAILED
    assert (draft.code, draft.permanent) == ("5.1.1", True)


def test_4_a_photo_stands_between_its_texts() -> None:
    first, second, third = message_of(PHOTO).parts
    assert first == Text(text="正面")
    assert isinstance(second, Image)
    assert third == Text(text="反面")


def test_5_an_invitation_is_shown() -> None:
    said, invite, file = message_of(MEETING).parts
    assert said == Text(text="请确认上门安装的时间")
    assert invite == Calendar(method="REQUEST", summary="上门安装", start="2023-11-16T06:00:00Z")
    assert file.media.name == "invite.ics"  # type: ignore[union-attr]


def test_6_without_id_and_with_gbk_under_another_name() -> None:
    draft = message_of(NO_ID)
    assert draft.parts == (Text(text="朱镕基先生"),)
    assert draft.profile is not None
    assert draft.profile.name == "朱镕"
    assert draft.key.startswith("mid:<")
    assert "@missing.hub>:" in draft.key
    assert draft.vendor_ids == ()


def test_one_mail_in_two_boxes_is_one_entry() -> None:
    """Trace headers, folding and line ends differ from box to box; the key does not."""
    other = b"Received: from a by b\r\nDelivered-To: sales@example.com\r\n" + QQ
    other = other.replace(b"Subject: ", b"Subject:\r\n\t").replace(b"\r\n", b"\n")
    one, two = message_of(QQ), message_of(other)
    assert dedupe_key("mail", "a", one) == dedupe_key("mail", "b", two)
    lost, copy = message_of(NO_ID), message_of(b"Received: x\r\n" + NO_ID)
    assert lost.key == copy.key


def test_the_same_id_on_another_mail_is_another_entry() -> None:
    """Buggy senders use an id again."""
    assert message_of(mail("one")).key != message_of(mail("two")).key
    assert message_of(mail("one")).key != message_of(mail("one", subject="other")).key
    assert message_of(mail("one")).key != message_of(mail("one", sender="han@example.org")).key
    later = mail("one", date="Mon, 02 Mar 2026 10:00:00 +0000")
    assert message_of(mail("one")).key != message_of(later).key


def test_the_copy_in_the_sent_folder_is_not_the_one_in_the_inbox() -> None:
    """A forged mail of ours in the inbox must not hide the agent's answer."""
    data = mail("Answer", sender="support@example.com", to="li@example.org")
    sent = read(data, replace(BOX, folder="sent")).drafts[0]
    assert dedupe_key("mail", "a", sent) != dedupe_key("mail", "a", message_of(data))


def test_a_forged_copy_does_not_hide_the_real_mail() -> None:
    result = "Authentication-Results: mx.example.com; dmarc="
    forged, real = (message_of(mail("x", result + value)) for value in ("fail", "pass"))
    assert forged.key != real.key
    assert forged.address != real.address


def test_blobs_take_the_place_of_refs_and_are_still_to_be_checked() -> None:
    found = read(PHOTO)
    (file,) = found.files
    assert file.data.startswith(b"\xff\xd8")
    stored = found.with_blobs({file.ref: "blob-1"})
    draft = stored.drafts[0]
    assert isinstance(draft, Message)
    media = draft.parts[1].media  # type: ignore[union-attr]
    assert (media.blob, media.vendor_ref, media.state.value) == ("blob-1", None, "pending")
    assert found.with_blobs({}) == found


def test_a_box_does_not_show_its_key() -> None:
    assert "thirty-two" not in repr(BOX) + str(BOX)


def test_keys_and_addresses_are_frozen() -> None:
    """They are hashed into ids: another text would double what is stored."""
    lines: dict[str, str] = {}
    samples = {"1": QQ, "2": AWAY, "3": BOUNCE, "4": PHOTO, "5": MEETING, "6": NO_ID}
    rows = {case.row: case.raw for case in CASES if case.row[0] in "237" and case.folder == "inbox"}
    for name, data in {**samples, **rows}.items():
        for number, draft in enumerate(read(data).drafts, 1):
            lines[f"{name} {number} key"] = dedupe_key("mail", "support", draft)
            if isinstance(draft, Message | Receipt) and draft.address is not None:
                lines[f"{name} {number} address"] = canonical(draft.address)
            if isinstance(draft, Message):
                lines[f"{name} {number} thread"] = draft.thread
    sent = read(mail("A", sender="support@example.com", to="li@a.cn"), replace(BOX, folder="sent"))
    lines["sent key"] = dedupe_key("mail", "support", sent.drafts[0])
    check_golden(GOLDEN, "reading", lines)
