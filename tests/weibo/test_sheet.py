"""What the facts sheet says, line by line: its vector, its samples 1-6, its edge cases 1-10.

Nothing is faked: bytes go into verify and parse, and drafts come out.
"""

from __future__ import annotations

import hashlib
import json
import locale
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from connectors.weibo import WeiboConnector, connector
from connectors.weibo.envelope import read_push, read_time
from connectors.weibo.parsing import unescaped
from connectors.weibo.verifying import sign
from hub import Refused, Secret
from hub.testing.clock import START, FakeClock
from normalizer.addresses import canonical
from normalizer.drafts import AnyDraft, Event, Message
from normalizer.parts import Audio, Image, Location, MediaState, Text, Unsupported
from tests.weibo.support import FAN, UID, make_connector, push, raw

AT = "Wed Nov 15 06:13:20 +0800 2023"
THEN = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def drafts(body: bytes, made: WeiboConnector | None = None) -> Sequence[AnyDraft]:
    made = made or make_connector()
    return made.parse(made.verify(push(made, body)))


def message(body: bytes) -> Message:
    (found,) = drafts(body)
    assert isinstance(found, Message)
    return found


def event(body: bytes) -> Event:
    (found,) = drafts(body)
    assert isinstance(found, Event)
    return found


# --- 3: authenticity -----------------------------------------------------------------------------


def test_the_vendors_own_vector_is_signed_as_it_says() -> None:
    signature = sign(Secret("xyz123xyz"), "1397022061823", "57155157")
    assert signature == "90e4c22c90a58f26526c2dd5b6c56c8822edeaa1"


def test_the_url_check_is_answered_with_the_bare_echo() -> None:
    made = make_connector()
    verified = made.verify(push(made, b"", method="GET", echostr="4<b>2"))
    assert made.parse(verified) == ()
    answer = made.answer(verified, (), FakeClock())
    assert (answer.status, answer.body) == (200, b"4<b>2")
    assert answer.content_type.startswith("text/plain")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_push_is_answered_with_an_empty_body() -> None:
    """An empty 200 says "no reply, and do not repeat it"."""
    made = make_connector()
    verified = made.verify(push(made, {"text": "hello"}))
    answer = made.answer(verified, made.parse(verified), FakeClock())
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(raw(type="text").replace(UID.encode(), b"1000000008"), id="another's"),
        pytest.param(b'{"type":"text"}', id="nobody's"),
        pytest.param(b'{"receiver_id":null}', id="null"),
        pytest.param(b'{"receiver_id":1000000007.0}', id="a fraction"),
        pytest.param(b"", id="empty"),
        pytest.param(b"a=1", id="a form"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b"<xml><ToUserName>7</ToUserName></xml>", id="another's XML"),
        pytest.param(
            b'<!DOCTYPE x [<!ENTITY a "1000000007">]><xml><ToUserName>&a;</ToUserName></xml>',
            id="XML with entities",
        ),
    ],
)
def test_a_body_for_somebody_else_is_refused_though_its_query_is_signed(body: bytes) -> None:
    made = make_connector()
    with pytest.raises(Refused):
        made.verify(push(made, body))


def test_the_secret_path_is_not_kept_and_the_query_is() -> None:
    """A relay hands the query on to systems that check it as well."""
    made = make_connector()
    request = replace(push(made, {"text": "hello"}), url="https://hub.example/in/weibo/main/a-path")
    verified = made.verify(request)
    assert verified.request.query_string == request.query_string
    assert "a-path" not in repr(verified)


# --- 2: what comes in ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["image", "voice"])
def test_files_are_fetched_by_what_the_receivers_token_may_read(kind: str) -> None:
    part = message(
        raw(type=kind, created_at=AT, text="发了一张图片", data={"vfid": 1, "tovfid": "22"})
    ).parts[0]
    assert isinstance(part, Image | Audio)
    assert isinstance(part, Image) == (kind == "image")
    assert (part.media.vendor_ref, part.media.state) == ("22", MediaState.PENDING)


EVENTS = {
    "follow": ("contact.followed", {}),
    "unfollow": ("contact.unfollowed", {}),
    "subscribe": ("contact.opted_in", {"keyword": "dy"}),
    "unsubscribe": ("contact.opted_out", {"keyword": "dy"}),
    "scan": ("contact.scanned", {"via": "qr", "scene": "5"}),
    "scan_follow": ("contact.followed", {"via": "qr", "scene": "5"}),
    "click": ("menu.clicked", {"key": "QR_SCENE_5"}),
    "view": ("menu.opened", {"url": "QR_SCENE_5"}),
}


@pytest.mark.parametrize("subtype", EVENTS)
def test_each_event_has_its_name_and_says_what_it_brings(subtype: str) -> None:
    data = {"subtype": subtype, "key": "QR_SCENE_5", "ticket": "t"}
    found = event(raw(type="event", created_at=AT, text="dy", data=data))
    assert (found.name, found.data) == EVENTS[subtype]
    assert found.at == THEN


@pytest.mark.parametrize(
    ("key", "scene"), [("QR_LIMIT_SCENE_a_b", "a_b"), ("QR_NEW_9", "9"), ("", "")]
)
def test_a_scene_is_what_follows_the_actions_name(key: str, scene: str) -> None:
    found = event(raw(type="event", data={"subtype": "scan", "key": key}))
    assert found.data["scene"] == scene


def test_an_unknown_event_is_ignored_and_an_unknown_type_is_kept() -> None:
    assert drafts(raw(type="event", data={"subtype": "of tomorrow"})) == ()
    found = message(raw(type="hologram", text="发了一个全息图", data=[1]))
    assert found.parts == (Unsupported(what="hologram", text="发了一个全息图"),)


@pytest.mark.parametrize(
    ("text", "name"), [("td", "contact.opted_out"), (" TD\n", "contact.opted_out"), ("dy", "in")]
)
def test_a_keyword_typed_alone_is_an_order_and_no_message(text: str, name: str) -> None:
    assert event(raw(type="text", text=text, data={})).name.endswith(name)


def test_a_keyword_among_words_is_a_message() -> None:
    assert message(raw(type="text", text="td是什么", data={})).parts == (Text(text="td是什么"),)


@pytest.mark.parametrize(
    "data",
    [None, [], "", "nonsense", 7, {"tovfid": None}, {"tovfid": "../x"}, {"longitude": "1"}],
    ids=repr,
)
@pytest.mark.parametrize("kind", ["image", "voice", "position"])
def test_what_lacks_its_data_is_kept_with_its_caption(kind: str, data: Any) -> None:
    found = message(raw(type=kind, text="发了", created_at=AT, data=data))
    assert found.parts == (Unsupported(what=kind, text="发了"),)


def test_data_may_be_json_in_a_text() -> None:
    found = message(raw(type="image", data='{"tovfid": 22}'))
    assert isinstance(found.parts[0], Image)


@pytest.mark.parametrize(
    "where",
    [("91", "0"), ("nan", "0"), ("0", "181"), ("", ""), (None, "1"), (True, "1"), ([], "1")],
    ids=repr,
)
def test_a_place_that_is_nowhere_is_kept_as_unsupported(where: tuple[Any, Any]) -> None:
    data = {"latitude": where[0], "longitude": where[1]}
    assert isinstance(message(raw(type="position", data=data)).parts[0], Unsupported)


@pytest.mark.parametrize("sender", [None, "", "abc", True, 1.5, "1" * 30, -1])
def test_a_push_from_nobody_becomes_a_dead_letter(sender: Any) -> None:
    made = make_connector()
    body = json.dumps({"receiver_id": int(UID), "sender_id": sender, "type": "text"}).encode()
    verified = made.verify(push(made, body))
    with pytest.raises(ValueError, match="sender_id"):
        made.parse(verified)


# --- 11: samples ---------------------------------------------------------------------------------


def test_sample_1_a_text() -> None:
    body = (
        '{"type":"text","receiver_id":1000000007,"sender_id":5550001234,'
        f'"created_at":"{AT}","text":"请问双十一的优惠还在吗？[doge]😀","data":{{}}}}'
    ).encode()
    found = message(body)
    assert found.parts == (Text(text="请问双十一的优惠还在吗？[doge]😀"),)
    assert canonical(found.address) == f"weibo:main:uid:{FAN}"
    assert found.at == THEN
    ordered = json.dumps(
        json.loads(body), ensure_ascii=False, sort_keys=True, separators=(",", ":")
    )
    h16 = hashlib.sha256(ordered.encode()).hexdigest()[:16]
    assert found.key == f"2023-11-14T22:13:20Z:text:{h16}"
    assert (found.public, found.thread) == (False, "")


def test_sample_2_an_image_without_the_vendors_caption() -> None:
    found = message(
        raw(
            type="image",
            created_at=AT,
            text="发了一张图片",
            data={"vfid": 821804459, "tovfid": 821804469},
        )
    )
    (part,) = found.parts
    assert isinstance(part, Image)
    assert part.media.vendor_ref == "821804469"


def test_sample_3_a_position() -> None:
    found = message(
        raw(
            type="position",
            created_at=AT,
            text="我在这里: http://t.cn/zQexmpl",
            data={"longitude": "121.473701", "latitude": "31.230416"},
        )
    )
    assert found.parts == (Location(lat=31.230416, lon=121.473701),)


def test_sample_4_scan_and_follow_is_one_event() -> None:
    found = event(
        raw(
            type="event",
            created_at=AT,
            text="扫描二维码",
            data={"subtype": "scan_follow", "key": "QR_LIMIT_SCENE_88", "ticket": "gQ"},
        )
    )
    assert (found.name, found.data) == ("contact.followed", {"via": "qr", "scene": "88"})


def test_sample_5_an_unsubscribing_keyword_is_an_opt_out_and_no_bubble() -> None:
    found = event(raw(type="event", created_at=AT, text="td", data={"subtype": "unsubscribe"}))
    assert (found.name, found.data) == ("contact.opted_out", {"keyword": "td"})


def test_sample_6_a_mention_is_public_and_a_thread_of_its_own() -> None:
    found = message(
        raw(
            type="mention",
            created_at=AT,
            text="@某品牌 快递三天没动了 😡",
            data={"subtype": "status", "key": "4967012345678901"},
        )
    )
    assert found.thread == "mention:4967012345678901"
    assert found.public
    assert found.parts == (Text(text="@某品牌 快递三天没动了 😡"),)
    assert found.data == {"mention": "4967012345678901", "subtype": "status"}


def test_windows_are_those_of_the_samples() -> None:
    private, mention = WeiboConnector.capabilities.windows
    assert (private.sends, private.seconds, private.closes_on) == (
        None,
        48 * 3600,
        {"contact.unfollowed"},
    )
    assert (mention.sends, mention.seconds, mention.adds_up) == (1, 48 * 3600, True)
    assert mention.opens_on == {"public_message"}


# --- 9: edge cases -------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["the-app-key", "2.00the_one_year_token"])
def test_edge_1_neither_app_key_nor_token_verify(wrong: str) -> None:
    forger = make_connector({"app_secrets": [wrong]})
    with pytest.raises(Refused, match="signature"):
        make_connector().verify(push(forger, {"text": "hello"}))


@pytest.mark.parametrize(("seconds", "good"), [(599, True), (601, False), (-599, True)])
def test_edge_1_the_timestamp_is_in_milliseconds(seconds: int, good: bool) -> None:
    made = make_connector()
    request = push(made, {"text": "hello"})
    moved = datetime.fromtimestamp(START.timestamp() + seconds, UTC)
    late = replace(request, received_at=moved)
    if good:
        assert made.verify(late).payload == request.body
    else:
        with pytest.raises(Refused, match="stale"):
            made.verify(late)


def test_edge_1_a_timestamp_is_signed_as_the_text_that_came() -> None:
    """With zeros in front it is the same number and another text."""
    made = make_connector()
    request = push(made, {"text": "hello"})
    padded = request.query_string.replace("timestamp=", "timestamp=0")
    with pytest.raises(Refused, match="signature"):
        made.verify(replace(request, query_string=padded))


@pytest.fixture
def chinese_months() -> Iterator[None]:
    """A machine in Chinese, where it has that language; else the machine as it is."""
    before = locale.setlocale(locale.LC_TIME)
    for name in ("zh_CN.UTF-8", "de_DE.UTF-8", "C.UTF-8"):
        try:
            locale.setlocale(locale.LC_TIME, name)
        except locale.Error:
            continue
        break
    yield
    locale.setlocale(locale.LC_TIME, before)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Mon Jul 16 18:09:20 +0800 2012", (2012, 7, 16, 10, 9, 20)),
        ("Sun Jan 01 00:00:00 +0800 2023", (2022, 12, 31, 16, 0, 0)),
        ("Thu Feb 29 23:59:59 -0330 2024", (2024, 3, 1, 3, 29, 59)),
        ("Thu Feb  1 23:59:59 +0000 2024", None),
        ("周一 7月 16 18:09:20 +0800 2012", None),
        ("Mon Jul 32 18:09:20 +0800 2012", None),
        ("Mon Jul 16 18:09:20 2012", None),
        ("Mon Jul 16 18:09:20 +9999 2012", None),
        ("", None),
    ],
)
def test_edge_2_months_are_read_without_the_machines_language(
    chinese_months: None, text: str, moment: tuple[int, ...] | None
) -> None:
    year, month, day, hour, minute, second = moment or (1, 1, 1, 0, 0, 0)
    expected = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    assert read_time(text) == (expected if moment else None)


@pytest.mark.parametrize(
    ("escaped", "plain"),
    [
        ("a &lt; b &amp; c &gt; &quot;d&quot; &#39;", 'a < b & c > "d" \''),
        ("&amp;lt;", "&lt;"),
        ("http://x.example/?a=1&copy=2&lt=3", "http://x.example/?a=1&copy=2&lt=3"),
        ("&nbsp;&#60;", "&nbsp;&#60;"),
    ],
)
def test_edge_3_text_is_unescaped_once_and_the_raw_stays(escaped: str, plain: str) -> None:
    assert unescaped(escaped) == plain
    made = make_connector()
    verified = made.verify(push(made, {"text": escaped}))
    (found,) = made.parse(verified)
    assert isinstance(found, Message)
    assert found.parts == (Text(text=plain),)
    assert json.loads(verified.payload)["text"] == escaped


def test_edge_4_faces_are_text_and_emoji_are_utf_8() -> None:
    text = "[哈哈] [doge](x) **b** 😀👨‍👩‍👧"
    assert message(raw(type="text", text=text)).parts == (Text(text=text),)


def test_edge_5_short_links_are_text_and_nobody_opens_them() -> None:
    """No link part, so that no preview is made, and no call at all: the services have no HTTP."""
    text = "看 http://t.cn/zQexmpl"
    assert message(raw(type="text", text=text)).parts == (Text(text=text),)


@pytest.mark.parametrize("data", [[], None, "[]", '"x"', 0])
def test_edge_6_an_empty_php_array_is_an_empty_table(data: Any) -> None:
    assert message(raw(type="text", text="hello", data=data)).parts == (Text(text="hello"),)
    assert drafts(raw(type="event", data=data)) == ()


def test_edge_7_subscribing_is_not_following() -> None:
    """Each has its event; an unsubscribed fan can be answered, and an unfollower cannot."""
    subscribed = event(raw(type="event", data={"subtype": "subscribe"}))
    followed = event(raw(type="event", data={"subtype": "follow"}))
    unsubscribed = event(raw(type="event", data={"subtype": "unsubscribe"}))
    assert len({subscribed.name, followed.name, unsubscribed.name}) == 3
    window = WeiboConnector.capabilities.windows[0]
    assert {subscribed.name, followed.name} <= window.opens_on
    assert unsubscribed.name not in window.closes_on


def test_edge_8_in_xml_the_empty_msgid_is_no_key() -> None:
    def xml(text: str) -> bytes:
        return (
            f"<xml><ToUserName><![CDATA[{UID}]]></ToUserName>"
            f"<FromUserName><![CDATA[{FAN}]]></FromUserName><CreateTime>1700000000</CreateTime>"
            f"<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[{text}]]></Content>"
            "<MsgId></MsgId><PicUrl></PicUrl></xml>"
        ).encode()

    first, second = message(xml("一")), message(xml("二"))
    assert first.parts == (Text(text="一"),)
    assert first.at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert first.key != second.key
    assert first.key == message(xml("一")).key


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (
            "<MsgType>event</MsgType><Event>CLICK</Event><EventKey>orders</EventKey>",
            ("menu.clicked", {"key": "orders"}),
        ),
        (
            "<MsgType>location</MsgType><Location_X>31.5</Location_X><Location_Y>121</Location_Y>",
            (Location(lat=31.5, lon=121.0),),
        ),
        ("<MsgType>image</MsgType><PicUrl/>", (Unsupported(what="image"),)),
    ],
)
def test_edge_8_xml_says_the_same_as_json(tags: str, expected: Any) -> None:
    body = f"<xml><ToUserName>{UID}</ToUserName><FromUserName>{FAN}</FromUserName>{tags}</xml>"
    (found,) = drafts(body.encode())
    said = (found.name, found.data) if isinstance(found, Event) else None
    assert expected == (found.parts if isinstance(found, Message) else said)


def test_edge_9_two_accounts_share_nothing_but_the_path() -> None:
    """Each believes its own secret, its own path segment and its own receiver only."""
    first = make_connector()
    second = make_connector(
        {"uid": "1000000008", "app_secrets": ["another"], "path_secret": "another-path-of-ours"},
        key="second",
    )
    request = push(first, {"text": "hello"})
    assert first.verify(request)
    with pytest.raises(Refused, match="path"):
        second.verify(request)
    with pytest.raises(Refused, match="signature"):
        second.verify(replace(request, path="/another-path-of-ours"))
    signed_by_second = push(second, request.body, path="/another-path-of-ours")
    with pytest.raises(Refused, match="receiver"):
        second.verify(signed_by_second)


def test_edge_10_answers_given_elsewhere_are_declared_as_unseen() -> None:
    assert connector.WeiboConnector.capabilities.sees_foreign_answers is False


# --- keys ----------------------------------------------------------------------------------------


def test_two_messages_of_one_second_are_two_and_a_repetition_is_one() -> None:
    first = message(raw(type="text", created_at=AT, text="一", data={}))
    second = message(raw(type="text", created_at=AT, text="二", data={}))
    again = message(raw(type="text", created_at=AT, text="一", data={}))
    assert first.key != second.key
    assert first.key == again.key


def test_the_key_is_that_of_what_is_said_and_not_of_how_it_is_spelt() -> None:
    spaced = read_push(b'{"type": "text",  "sender_id": 1}')
    turned = read_push(b'\xef\xbb\xbf{"sender_id":1,"type":"text"}')
    assert spaced.fingerprint == turned.fingerprint


def test_half_an_emoji_is_read_and_not_lost() -> None:
    body = raw(type="text", text="x").replace(b'"x"', b'"a\\ud83d"')
    assert message(body).parts == (Text(text="a\ud83d"),)
