"""Section 8 of the sheet: what a naive build gets wrong, by the sheet's numbers.

2 (a crash between acknowledging and storing) and the hub's share of 8 and 9 are shown on a running
hub, in test_hub.py.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from connectors.wechat.passive import ACCEPTED, text_reply
from connectors.wechat.samples import body_of, push
from connectors.wechat.texts import MAX_BYTES, split
from connectors.wechat.wire import MAX_BYTES as MAX_BODY
from connectors.wechat.wire import Unreadable, read
from hub import Refused
from hub.testing import FakeClock
from normalizer.drafts import Event, Receipt
from tests.wechat.support import connector, draft, drafts, request, settings

FAMILY = "👨‍👩‍👧‍👦"


def said(content: str) -> str:
    return f"<MsgType>text</MsgType><Content>{content}</Content><MsgId>1</MsgId>"


def test_edge_1_a_scan_that_leads_to_a_follow_is_one_event() -> None:
    (found,) = drafts(
        "<MsgType>event</MsgType><Event>subscribe</Event><EventKey>qrscene_x</EventKey>"
    )
    assert isinstance(found, Event)
    assert (found.name, found.data) == ("contact.followed", {"scene": "x", "via": "qr"})


def test_edge_2_what_cannot_be_parsed_is_acknowledged_because_it_is_kept() -> None:
    """The hub stores before it answers; here: the answer does not depend on parsing."""
    ours, clock = connector(), FakeClock()
    verified = ours.verify(request("<Content>no type</Content>"))
    with pytest.raises(ValueError, match="no MsgType"):
        ours.parse(verified)
    assert ours.answer(verified, (), clock) == ACCEPTED


@pytest.mark.parametrize(
    "content", ["", " ", "  two spaces  ", "\ttab", "line\nbreak\n", "a &amp; b", "<![CDATA[ x ]]>"]
)
def test_edge_3_texts_are_kept_to_the_letter(content: str) -> None:
    expected = content.replace("&amp;", "&").replace("<![CDATA[", "").replace("]]>", "")
    assert draft(said(content)).parts[0].text == expected


def test_edge_4_a_text_cannot_end_its_cdata_section() -> None:
    """wechatpy puts texts into CDATA as they are; the fence splits them. This is what it fences."""
    from wechatpy.replies import TextReply

    nasty = "a ]]> b ]]]]>> <![CDATA[ c"
    bare = TextReply(source="s", target="t", time=1, content=nasty).render()
    with pytest.raises(Unreadable):
        read(bare.encode())
    fields = read(text_reply(nasty, to="o]]>1", sender="gh", at=5).encode())
    assert fields["Content"] == nasty
    assert fields["ToUserName"] == "o]]>1"
    assert (fields["FromUserName"], fields["MsgType"], fields["CreateTime"]) == ("gh", "text", "5")
    # And on the way in: two sections that follow each other are one text.
    assert draft(said("<![CDATA[x ]]]]><![CDATA[> y]]>")).parts[0].text == "x ]]> y"


@pytest.mark.parametrize(
    "body",
    [
        b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><xml><Content>&e;</Content></xml>',
        b'<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><xml><a>&b;</a></xml>',
        b"<!doctype html><xml><a>1</a></xml>",
        b'<?xml version="1.0" encoding="utf-16"?>' + "<xml><a>1</a></xml>".encode("utf-16-le"),
        b"<xml><a>&undeclared;</a></xml>",
        b"<xml>" + b"<a>" * 50 + b"</a>" * 50 + b"</xml>",
        b"<xml>" + b"<a>1</a>" * 3000 + b"</xml>",
        b"<xml><a>" + b"x" * MAX_BODY + b"</a></xml>",
        b"<xml></xml>",
        b"<xml>text</xml>",
        b"[1]",
        b"{}",
        b"",
    ],
    ids=lambda body: repr(body[:30]),
)
def test_edge_5_what_is_hostile_or_huge_is_not_read(body: bytes) -> None:
    with pytest.raises(Unreadable):
        read(body)
    clock, held = FakeClock(), settings(encoding_aes_keys=None)
    bare = push(held, clock, "t", b"", plain=True).request
    with pytest.raises(Refused) as refused:
        connector(encoding_aes_keys=None).verify(replace(bare, body=body))
    assert refused.value.status == 403


@pytest.mark.parametrize("unit", ["a", "长", "😀", FAMILY, "e\u0301", "🇨🇳"])
def test_edge_6_bytes_decide_where_a_text_is_cut_and_no_grapheme_is_divided(unit: str) -> None:
    text = unit * (5000 // len(unit.encode()))
    pieces = split(text)
    assert "".join(pieces) == text
    assert len(pieces) == 3
    for piece in pieces:
        assert len(piece.encode()) <= MAX_BYTES
        assert piece == unit * piece.count(unit)


def test_edge_7_plain_pushes_are_refused_once_the_account_is_safe() -> None:
    bare = request(said("hi"))
    sealed = request(said("hi"), plain=False)
    for mode in ("plain", "compatible"):  # while it is being switched, both are taken
        ours = connector(mode=mode)
        assert ours.parse(ours.verify(bare)) == ours.parse(ours.verify(sealed))
    safe = connector(mode="safe")
    assert safe.parse(safe.verify(sealed))
    with pytest.raises(Refused, match="downgrade"):
        safe.verify(bare)


def test_edge_8_the_vendors_time_is_kept_so_that_late_pushes_find_their_place() -> None:
    clock = FakeClock()
    held = settings()
    body = body_of(held, clock, said("hi"))
    clock.advance(300)  # it was delivered late, and signed anew
    ours = connector()
    (late,) = ours.parse(ours.verify(push(held, clock, "t", body, plain=True).request))
    assert late.at == FakeClock().now()


def test_edge_9_a_receipt_names_the_message_by_the_number_that_the_send_returns() -> None:
    receipt = draft(
        "<MsgType>event</MsgType><Event>TEMPLATESENDJOBFINISH</Event><MsgID>30</MsgID>"
        "<Status>success</Status>"
    )
    assert isinstance(receipt, Receipt)
    assert receipt.target.vendor_id == "30"
    assert receipt.target.entry is None


def test_edge_10_the_answer_is_the_bare_word_and_nothing_around_it() -> None:
    ours, clock = connector(), FakeClock()
    verified = ours.verify(request(said("hi")))
    answer = ours.answer(verified, ours.parse(verified), clock)
    assert (answer.status, answer.body, answer.content_type) == (200, b"success", "text/plain")
    assert dict(answer.headers) == {}
