"""Sections 1 and 10 of the sheet: every push and the exact drafts that it becomes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.wechat.connector import WINDOWS, WechatConnector
from connectors.wechat.wire import Unreadable, read
from hub.testing import FakeClock
from normalizer.addresses import Address
from normalizer.drafts import (
    AnyDraft,
    DeliveryState,
    Event,
    Message,
    Profile,
    Receipt,
    Scope,
    Target,
)
from normalizer.keys import dedupe_key
from normalizer.parts import (
    Audio,
    File,
    Image,
    Link,
    Location,
    Media,
    MediaState,
    Text,
    Transcript,
    Unsupported,
    Video,
)
from tests.wechat.fake_wechat import OPENID
from tests.wechat.support import draft, drafts

NOW = FakeClock().now()
CREATED = int(NOW.timestamp())
WHO = Address(scheme="wechat", account="shop", kind="openid", id=OPENID)


def pending(ref: str, mime: str) -> Media:
    return Media(vendor_ref=ref, mime=mime, state=MediaState.PENDING)


def message(number: str, part: Any, **more: Any) -> Message:
    return Message(key=f"msg:{number}", at=NOW, address=WHO, parts=(part,), **more)


def event(key: str, name: str, **data: Any) -> Event:
    text = data.pop("said", "")
    return Event(key=f"evt:{CREATED}:{key}", at=NOW, address=WHO, name=name, data=data, text=text)


def receipt(key: str, ident: str, state: DeliveryState, **more: Any) -> Receipt:
    return Receipt(
        key=f"job:{key}:{ident}",
        scope=Scope.ACCOUNT,
        at=NOW,
        target=Target(vendor_id=ident),
        state=state,
        **{"address": WHO, **more},
    )


def happened(name: str, fields: str = "") -> str:
    return f"<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[{name}]]></Event>{fields}"


def said(kind: str, fields: str, number: int = 7) -> str:
    return f"<MsgType><![CDATA[{kind}]]></MsgType>{fields}<MsgId>{number}</MsgId>"


TABLE: dict[str, tuple[str, AnyDraft]] = {
    # --- the samples of section 10 ---
    "10.1 text": (
        said("text", "<Content><![CDATA[你好😀]]></Content>", 24307213612345678),
        message("24307213612345678", Text(text="你好😀")),
    ),
    "10.2 scan to follow": (
        happened(
            "subscribe",
            "<EventKey><![CDATA[qrscene_门店_12]]></EventKey><Ticket><![CDATA[gQH8]]></Ticket>",
        ),
        event(
            "subscribe:qrscene_门店_12",
            "contact.followed",
            scene="门店_12",
            via="qr",
            ticket="gQH8",
        ),
    ),
    "10.3 voice": (
        said(
            "voice",
            "<MediaId><![CDATA[m-7Qx]]></MediaId><Format><![CDATA[amr]]></Format>"
            "<Recognition><![CDATA[我的订单还没发货。]]></Recognition>",
            24307213612345699,
        ),
        message(
            "24307213612345699",
            Audio(
                media=pending("m-7Qx", "audio/amr"),
                transcript=Transcript(text="我的订单还没发货。", by="vendor"),
            ),
        ),
    ),
    "10.4 location": (
        said(
            "location",
            "<Location_X>31.230416</Location_X><Location_Y>121.473701</Location_Y>"
            "<Scale>16</Scale><Label><![CDATA[上海市黄浦区]]></Label>",
        ),
        message("7", Location(lat=31.230416, lon=121.473701, datum="gcj02", label="上海市黄浦区")),
    ),
    "10.5 menu option": (
        said("text", "<Content>不满意</Content><bizmsgmenuid>102</bizmsgmenuid>"),
        message("7", Text(text="不满意"), event="menu.option", data={"option_id": "102"}),
    ),
    "10.6 template receipt": (
        happened(
            "TEMPLATESENDJOBFINISH",
            "<MsgID>3087340101</MsgID><Status><![CDATA[failed:user block]]></Status>",
        ),
        receipt(
            "TEMPLATESENDJOBFINISH",
            "3087340101",
            DeliveryState.FAILED,
            code="failed:user block",
            reason="user_blocked",
            permanent=True,
        ),
    ),
    # --- 1.2: messages ---
    "image": (
        said("image", "<PicUrl>http://mmbiz.qpic.cn/a/0</PicUrl><MediaId>m-1</MediaId>"),
        message(
            "7",
            Image(media=pending("m-1", "image/jpeg")),
            data={"pic_url": "http://mmbiz.qpic.cn/a/0"},
        ),
    ),
    "image without MediaId": (
        said("image", "<PicUrl>http://mmbiz.qpic.cn/a/0</PicUrl>"),
        message(
            "7",
            Image(media=pending("http://mmbiz.qpic.cn/a/0", "image/jpeg")),
            data={"pic_url": "http://mmbiz.qpic.cn/a/0"},
        ),
    ),
    "voice without recognition": (
        said("voice", "<MediaId>m-2</MediaId><Format>speex</Format><Recognition></Recognition>"),
        message("7", Audio(media=pending("m-2", "audio/speex"))),
    ),
    "video": (
        said("video", "<MediaId>m-3</MediaId><ThumbMediaId>t-3</ThumbMediaId>"),
        message("7", Video(media=pending("m-3", "video/mp4"))),
    ),
    "shortvideo": (
        said("shortvideo", "<MediaId>m-4</MediaId><ThumbMediaId>t-4</ThumbMediaId>"),
        message("7", Video(media=pending("m-4", "video/mp4"))),
    ),
    "link": (
        said("link", "<Title>T</Title><Description>D</Description><Url>https://e.example/</Url>"),
        message("7", Link(url="https://e.example/", title="T", text="D")),
    ),
    "file, which nobody can fetch": (
        said(
            "file",
            "<Title>a.pdf</Title><Description></Description><FileKey>k</FileKey>"
            "<FileMd5>abc</FileMd5><FileTotalLen>120</FileTotalLen>",
        ),
        message(
            "7",
            File(
                media=Media(
                    name="a.pdf",
                    size=120,
                    state=MediaState.LOST,
                    reason="WeChat hands out no files of this kind: ask for it as a picture,"
                    " or by mail",
                )
            ),
            data={"file_md5": "abc"},
        ),
    ),
    "a place that is none": (
        said("location", "<Location_X>nan</Location_X><Location_Y>1</Location_Y><Label>L</Label>"),
        message("7", Unsupported(what="location", text="L")),
    ),
    "sent from inside an article": (
        said("text", "<Content>hi</Content><MsgDataId>55</MsgDataId><Idx>1</Idx>"),
        message("7", Text(text="hi"), data={"article": "55", "article_index": "1"}),
    ),
    "with a UnionId": (
        said("text", "<Content>hi</Content><UnionId>oU1</UnionId>"),
        message("7", Text(text="hi"), profile=Profile(attributes={"unionid": "oU1"})),
    ),
    "an unknown type": (
        said("hologram", "<Content>hi</Content>"),
        message("7", Unsupported(what="hologram")),
    ),
    # --- 1.3: events ---
    "follow": (
        happened("subscribe", "<EventKey></EventKey>"),
        event("subscribe:", "contact.followed"),
    ),
    "unfollow": (happened("unsubscribe"), event("unsubscribe:", "contact.unfollowed")),
    "scan": (
        happened("SCAN", "<EventKey>门店_12</EventKey><Ticket>t</Ticket>"),
        event("SCAN:门店_12", "contact.scanned", scene="门店_12", via="qr", ticket="t"),
    ),
    "location report": (
        happened(
            "LOCATION",
            "<Latitude>23.137466</Latitude><Longitude>113.352425</Longitude>"
            "<Precision>119.385040</Precision>",
        ),
        event(
            "LOCATION:",
            "contact.located",
            lat=23.137466,
            lon=113.352425,
            precision="119.385040",
            datum="gcj02",
        ),
    ),
    "menu click": (
        happened("CLICK", "<EventKey>orders</EventKey>"),
        event("CLICK:orders", "menu.clicked", key_name="orders"),
    ),
    "menu view": (
        happened("VIEW", "<EventKey>https://e.example/</EventKey><MenuId>4</MenuId>"),
        event("VIEW:https://e.example/", "menu.opened", key_name="https://e.example/", menu="4"),
    ),
    "menu mini program": (
        happened("view_miniprogram", "<EventKey>pages/a</EventKey><MenuId>4</MenuId>"),
        event("view_miniprogram:pages/a", "menu.opened", key_name="pages/a", menu="4"),
    ),
    "scancode_push": (
        happened(
            "scancode_push",
            "<EventKey>k</EventKey><ScanCodeInfo><ScanType>qrcode</ScanType>"
            "<ScanResult>https://e.example/1</ScanResult></ScanCodeInfo>",
        ),
        event(
            "scancode_push:k",
            "menu.code_scanned",
            key_name="k",
            scan_type="qrcode",
            scan_result="https://e.example/1",
        ),
    ),
    "scancode_waitmsg": (
        happened(
            "scancode_waitmsg",
            "<EventKey>k</EventKey><ScanCodeInfo><ScanType>barcode</ScanType>"
            "<ScanResult>42</ScanResult></ScanCodeInfo>",
        ),
        event(
            "scancode_waitmsg:k",
            "menu.code_scanned",
            key_name="k",
            scan_type="barcode",
            scan_result="42",
        ),
    ),
    **{
        name: (
            happened(
                name,
                "<EventKey>k</EventKey><SendPicsInfo><Count>1</Count><PicList><item>"
                "<PicMd5Sum>abc</PicMd5Sum></item></PicList></SendPicsInfo>",
            ),
            event(f"{name}:k", "menu.pictures_chosen", key_name="k", pictures="1"),
        )
        for name in ("pic_sysphoto", "pic_photo_or_album", "pic_weixin")
    },
    "location_select": (
        happened(
            "location_select",
            "<EventKey>k</EventKey><SendLocationInfo><Location_X>23</Location_X>"
            "<Location_Y>113</Location_Y><Scale>15</Scale><Label>L</Label><Poiname>P</Poiname>"
            "</SendLocationInfo>",
        ),
        event(
            "location_select:k",
            "menu.place_chosen",
            key_name="k",
            lat=23.0,
            lon=113.0,
            label="L",
            place="P",
        ),
    ),
    "template delivered": (
        happened("TEMPLATESENDJOBFINISH", "<MsgID>1</MsgID><Status>success</Status>"),
        receipt("TEMPLATESENDJOBFINISH", "1", DeliveryState.DELIVERED),
    ),
    "template failed, spaced otherwise": (
        happened(
            "TEMPLATESENDJOBFINISH", "<MsgID>1</MsgID><Status> failed: system failed</Status>"
        ),
        receipt(
            "TEMPLATESENDJOBFINISH",
            "1",
            DeliveryState.FAILED,
            code="failed: system failed",
            reason="system_failed",
        ),
    ),
    "mass sent": (
        happened("MASSSENDJOBFINISH", "<MsgID>2</MsgID><Status>send success</Status>"),
        receipt("MASSSENDJOBFINISH", "2", DeliveryState.DELIVERED, address=None),
    ),
    "mass refused": (
        happened("MASSSENDJOBFINISH", "<MsgID>2</MsgID><Status>err(40001)</Status>"),
        receipt(
            "MASSSENDJOBFINISH",
            "2",
            DeliveryState.FAILED,
            address=None,
            code="err(40001)",
            reason="refused_by_the_administrator",
            permanent=True,
        ),
    ),
    "a permission": (
        happened(
            "subscribe_msg_popup_event",
            "<SubscribeMsgPopupEvent><List><TemplateId>T1</TemplateId>"
            "<SubscribeStatusString>accept</SubscribeStatusString><PopupScene>2</PopupScene>"
            "</List></SubscribeMsgPopupEvent>",
        ),
        event(
            "subscribe_msg_popup_event::T1",
            "contact.opted_in",
            template="T1",
            purpose="wechat:T1",
            scene="2",
        ),
    ),
    "a permission taken back": (
        happened(
            "subscribe_msg_change_event",
            "<SubscribeMsgChangeEvent><List><TemplateId>T1</TemplateId>"
            "<SubscribeStatusString>reject</SubscribeStatusString></List>"
            "</SubscribeMsgChangeEvent>",
        ),
        event(
            "subscribe_msg_change_event::T1",
            "contact.opted_out",
            template="T1",
            purpose="wechat:T1",
        ),
    ),
    "a subscription message sent": (
        happened(
            "subscribe_msg_sent_event",
            "<SubscribeMsgSentEvent><List><TemplateId>T1</TemplateId><MsgID>9</MsgID>"
            "<ErrorCode>0</ErrorCode><ErrorStatus>success</ErrorStatus></List>"
            "</SubscribeMsgSentEvent>",
        ),
        receipt("subscribe_msg_sent_event", "9", DeliveryState.DELIVERED),
    ),
    "a subscription message refused": (
        happened(
            "subscribe_msg_sent_event",
            "<SubscribeMsgSentEvent><List><TemplateId>T1</TemplateId><MsgID>9</MsgID>"
            "<ErrorCode>43101</ErrorCode><ErrorStatus>user refuse</ErrorStatus></List>"
            "</SubscribeMsgSentEvent>",
        ),
        receipt(
            "subscribe_msg_sent_event",
            "9",
            DeliveryState.FAILED,
            code="43101",
            reason="refused_by_the_person",
            permanent=True,
        ),
    ),
    "privacy": (
        happened(
            "user_authorization_revoke", f"<OpenID>{OPENID}</OpenID><RevokeInfo>1</RevokeInfo>"
        ),
        event("user_authorization_revoke:", "contact.authorization_revoked", revoked="1"),
    ),
    "a profile changed": (
        happened("user_info_modified", f"<OpenID>{OPENID}</OpenID>"),
        event("user_info_modified:", "profile.changed"),
    ),
    "the vendor's console took over": (
        happened("kf_create_session", "<KfAccount>kf1@shop</KfAccount>"),
        event(
            "kf_create_session:",
            "console.session_began",
            account="kf1@shop",
            said="WeChat's own console took this conversation over; what is said there does not"
            " reach the hub",
        ),
    ),
    "the vendor's console let go": (
        happened("kf_close_session", "<KfAccount>kf1@shop</KfAccount>"),
        event(
            "kf_close_session:",
            "console.session_ended",
            account="kf1@shop",
            said="WeChat's own console closed this conversation; what is said there does not"
            " reach the hub",
        ),
    ),
    "the vendor's console handed over": (
        happened(
            "kf_switch_session",
            "<FromKfAccount>kf1@shop</FromKfAccount><ToKfAccount>kf2@shop</ToKfAccount>",
        ),
        event(
            "kf_switch_session:",
            "console.session_moved",
            account="kf2@shop",
            before="kf1@shop",
            said="WeChat's own console handed this conversation to a colleague; what is said there"
            " does not reach the hub",
        ),
    ),
    "an unknown event": (
        happened("moon_landing", "<EventKey>k</EventKey>"),
        event(
            "moon_landing:k",
            "wechat.other",
            event="moon_landing",
            event_key="k",
            said="WeChat told of something that the hub does not know: moon_landing",
        ),
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_push_becomes_exactly_this_draft(name: str) -> None:
    push, expected = TABLE[name]
    assert draft(push) == expected


@pytest.mark.parametrize("name", ["10.1 text", "10.2 scan to follow", "scancode_push"])
def test_encrypted_it_becomes_the_same(name: str) -> None:
    push, expected = TABLE[name]
    assert draft(push, mode="safe") == expected


def test_a_push_in_json_becomes_the_same() -> None:
    """With the same names, numbers as numbers (unverified)."""
    from connectors.wechat.parsing import read_drafts
    from tests.wechat.support import settings

    body = (
        f'{{"ToUserName":"gh_hub000001","FromUserName":"{OPENID}","CreateTime":{CREATED},'
        '"MsgType":"text","Content":"你好😀","MsgId":24307213612345678}'
    ).encode()
    assert read_drafts(body, settings(), "shop") == (TABLE["10.1 text"][1],)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b'{"a": 1, "b": 1.5, "c": true, "d": null}', {"a": "1", "b": "1.5", "c": "1", "d": ""}),
        (b'{"a": {"List": [{"x": 1}, "y"]}}', {"a": {"List": [{"x": "1"}, "y"]}}),
        (b'\xef\xbb\xbf{"MsgId": 24307213612345678}', {"MsgId": "24307213612345678"}),
    ],
)
def test_json_is_read_as_the_same_push_in_xml_would_be(body: bytes, fields: Any) -> None:
    assert read(body) == fields


@pytest.mark.parametrize("body", [b"{", b"{}", b'{"a":' * 50 + b"1" + b"}" * 50, b'{"a": "\xff"}'])
def test_json_that_is_none_is_not_read(body: bytes) -> None:
    with pytest.raises(Unreadable):
        read(body)


def test_a_message_without_a_number_is_known_by_all_that_it_says() -> None:
    """So that a repetition is dropped, and a second message is not."""
    one, same, other = (
        draft(f"<MsgType>hologram</MsgType><Content>{text}</Content>") for text in "aab"
    )
    assert one.key == same.key != other.key
    assert one.key.startswith(f"msg::{CREATED}:hologram:")


def test_several_permissions_are_one_draft_each_with_keys_of_their_own() -> None:
    found = drafts(
        happened(
            "subscribe_msg_popup_event",
            "<SubscribeMsgPopupEvent>"
            "<List><TemplateId>T1</TemplateId><SubscribeStatusString>accept</SubscribeStatusString></List>"
            "<List><TemplateId>T2</TemplateId><SubscribeStatusString>reject</SubscribeStatusString></List>"
            "</SubscribeMsgPopupEvent>",
        ),
        purposes={"T2": "marketing"},
    )
    told = [(each.name, each.data["purpose"]) for each in found if isinstance(each, Event)]
    assert told == [("contact.opted_in", "wechat:T1"), ("contact.opted_out", "marketing")]
    assert len({dedupe_key("wechat", "shop", each) for each in found}) == 2


def test_a_purpose_is_never_empty_nor_longer_than_the_ledger_reads() -> None:
    """An unreadable one would withdraw the consent to everything."""
    for template in ("", "T" * 43):
        push = happened(
            "subscribe_msg_change_event",
            f"<SubscribeMsgChangeEvent><List><TemplateId>{template}</TemplateId>"
            "<SubscribeStatusString>reject</SubscribeStatusString></List></SubscribeMsgChangeEvent>",
        )
        assert 0 < len(draft(push).data["purpose"]) <= 32


def test_location_reports_can_be_switched_off() -> None:
    push = happened("LOCATION", "<Latitude>1</Latitude><Longitude>2</Longitude>")
    assert drafts(push, location_reports=False) == ()


def test_names_of_events_are_compared_without_case() -> None:
    for spelling in ("subscribe", "SUBSCRIBE", "Subscribe"):
        assert draft(happened(spelling)).name == "contact.followed"


def test_without_the_right_to_fetch_pictures_are_named_by_their_public_address() -> None:
    push, _ = TABLE["image"]
    assert draft(push, rights="passive").parts[0].media.vendor_ref == "http://mmbiz.qpic.cn/a/0"


def test_what_opens_a_window_and_what_does_not() -> None:
    """Sheet 4.2: 48 h and 5 after a message; a minute and 3 after these; none after VIEW."""
    long, short = WINDOWS
    assert (long.seconds, long.sends, long.opens_on) == (172_800, 5, frozenset({"message"}))
    assert (short.seconds, short.sends) == (60, 3)
    opening = {
        name
        for name, (_, expected) in TABLE.items()
        if isinstance(expected, Event) and expected.name in short.opens_on
    }
    assert opening == {
        "10.2 scan to follow",
        "follow",
        "scan",
        "menu click",
        "scancode_push",
        "scancode_waitmsg",
    }
    for window in WINDOWS:
        assert window.closes_on == {"contact.unfollowed"}
        assert window.templates_pass
    assert not WechatConnector.capabilities.sees_foreign_answers


@pytest.mark.parametrize(
    ("push", "why"),
    [
        ("<Content>x</Content>", "no MsgType"),
        (happened("TEMPLATESENDJOBFINISH", "<Status>success</Status>"), "no MsgID"),
        (happened("subscribe", "<FromUserName>not an id!</FromUserName>"), "names nobody"),
    ],
)
def test_what_says_too_little_is_a_dead_letter_with_a_reason(push: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        drafts(push)


def test_times_are_whole_seconds_in_utc_and_none_where_there_is_none() -> None:
    from connectors.wechat.common import Push

    def at(created: str) -> datetime | None:
        return Push(account="a", fields={}, kind="text", created=created, address=WHO).at

    assert at("1700000000") == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert (
        at("1700000000")
        != at("1700000001")
        == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC) + timedelta(seconds=1)
    )
    assert [at(broken) for broken in ("", "x", "-1", "9" * 11, "１")] == [None] * 5


def test_one_repeated_field_is_an_object_and_several_are_a_list() -> None:
    assert read(b"<xml><a><b>1</b></a></xml>") == {"a": {"b": "1"}}
    assert read(b"<xml><a>1</a><a>2</a></xml>") == {"a": ["1", "2"]}
