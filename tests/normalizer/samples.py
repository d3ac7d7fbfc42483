"""The samples of the six channels' contract sheets, as the drafts a connector makes of them.

``SAMPLES`` maps a name to (channel, account key, draft). The keys follow the sheets' dedupe
rules without the account, which the hub adds.
"""

from __future__ import annotations

from datetime import UTC, datetime

from normalizer.addresses import Address, mailbox, phone
from normalizer.drafts import (
    Amendment,
    AmendmentKind,
    AnyDraft,
    DeliveryState,
    Event,
    Evidence,
    Identity,
    Message,
    Profile,
    Receipt,
    Scope,
    Sender,
    Target,
)
from normalizer.model import Direction, Role, Trust
from normalizer.parts import (
    Audio,
    Button,
    Calendar,
    Card,
    Image,
    Location,
    Media,
    MediaState,
    Text,
    Transcript,
)

NOON = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def number(text: str) -> Address:
    found = phone(text)
    assert found is not None, text
    return found


VISITOR = Address(scheme="site", account="shop", kind="visitor", id="v-018bcfe5")
USER = Address(scheme="site", account="shop", kind="user", id="10086")
ZHANG = mailbox("zs@qq.com")
HONGKONG = number("+85291234567")
MOBILE = number("+8613800138000")
FAN = Address(scheme="wechat", account="shop", kind="openid", id="oHubUser0001")
WEIBO = Address(scheme="weibo", account="shop", kind="uid", id="5550001234")
WITHHELD = Address(scheme="ivr", account="main", kind="anonymous", id="CA44")


def _pending(ref: str, mime: str = "", **facts: float) -> Media:
    return Media(vendor_ref=ref, mime=mime, state=MediaState.PENDING, **facts)  # type: ignore[arg-type]


SAMPLES: dict[str, tuple[str, str, AnyDraft]] = {
    "site.1 text": (
        "site",
        "shop",
        Message(
            key="018bcfe5-6800-7a10-9c3e-0d6f5a1b2c3d",
            address=VISITOR,
            at=NOON,
            thread="thr_c901",
            parts=(Text(text="在吗？我要开发票😀"),),
        ),
    ),
    "site.2 identified": (
        "site",
        "shop",
        Identity(
            key="identify:j-1",
            address=VISITOR,
            same_as=USER,
            trust=Trust.ATTESTED,
            evidence=Evidence(kind="identity_token", ref="j-1"),
            role_event="contact.identified",
            at=NOON,
        ),
    ),
    "site.3 read": (
        "site",
        "shop",
        Receipt(
            key="read:thr_c901:7",
            address=VISITOR,
            target=Target(thread="thr_c901", up_to_seq=7),
            state=DeliveryState.READ,
        ),
    ),
    "site.4 recall": (
        "site",
        "shop",
        Amendment(
            key="recall:thr_c901:3",
            address=VISITOR,
            target=Target(thread="thr_c901", up_to_seq=3),
            kind=AmendmentKind.RECALL,
        ),
    ),
    "site.5 inbox": (
        "site",
        "shop",
        Message(
            key="inbox:order-77:10086",
            address=USER,
            direction=Direction.OUT,
            sender=Sender(role=Role.SYSTEM),
            new_thread=True,
            subject="您的订单已发货",
            parts=(
                Card(
                    title="您的订单已发货",
                    text="运单号 SF1234567890，点击查看。",
                    buttons=(Button(label="查看物流", url="https://www.example.com/o/77"),),
                ),
            ),
        ),
    ),
    "mail.1 reply": (
        "mail",
        "support",
        Message(
            key="mid:<tencent_1@qq.com>:5f1c",
            scope=Scope.CHANNEL,
            address=ZHANG,
            at=NOON,
            thread="hub-77",
            subject="回复：订单问题",
            parts=(Text(text="还是没收到😀", quoted="发件人: 客服"),),
            profile=Profile(name="张三", mailbox="zs@qq.com", trust=Trust.SEEN),
            vendor_ids=("<tencent_1@qq.com>",),
            reply_to="<hub-77@support.example.com>",
        ),
    ),
    "mail.2 out of office": (
        "mail",
        "support",
        Message(
            key="mid:<tencent_2@qq.com>:77aa",
            scope=Scope.CHANNEL,
            address=ZHANG,
            subject="自动回复: 订单问题",
            automatic=True,
            parts=(Text(text="我不在办公室。"),),
        ),
    ),
    "mail.3 bounce": (
        "mail",
        "support",
        Receipt(
            key="dsn:<hub-78@support.example.com>:x@qq.com:5.1.1",
            address=mailbox("x@qq.com"),
            target=Target(vendor_id="<hub-78@support.example.com>"),
            state=DeliveryState.FAILED,
            code="5.1.1",
            permanent=True,
        ),
    ),
    "mail.4 photo between texts": (
        "mail",
        "support",
        Message(
            key="mid:<iphone@example.com>:01",
            scope=Scope.CHANNEL,
            address=ZHANG,
            parts=(
                Text(text="正面"),
                Image(media=Media(mime="image/jpeg", name="身份证.jpg", size=1234)),
                Text(text="反面"),
            ),
        ),
    ),
    "mail.5 meeting": (
        "mail",
        "support",
        Message(
            key="mid:<meeting@example.com>:02",
            scope=Scope.CHANNEL,
            address=ZHANG,
            parts=(
                Text(text="请确认"),
                Calendar(method="REQUEST", summary="上门安装", start="2023-11-16T06:00:00Z"),
            ),
        ),
    ),
    "mail.6 no message id": (
        "mail",
        "support",
        Message(
            key="mid:<9b74c9897bac770f@missing.hub>:03",
            scope=Scope.CHANNEL,
            address=ZHANG,
            parts=(Text(text="朱镕"),),
        ),
    ),
    "sms.1 text": (
        "sms",
        "main",
        Message(
            key="twilio:AC01:SM01",
            address=HONGKONG,
            parts=(Text(text="你好😀 退订?"),),
            vendor_ids=("SM01",),
        ),
    ),
    "sms.2 opted out": (
        "sms",
        "main",
        Event(key="twilio:AC01:SM02", address=HONGKONG, name="contact.opted_out"),
    ),
    "sms.3 picture": (
        "sms",
        "main",
        Message(
            key="twilio:AC01:MM03",
            address=HONGKONG,
            parts=(Image(media=_pending("https://api.twilio.com/ME1", "image/jpeg")),),
        ),
    ),
    "sms.4 status": (
        "sms",
        "main",
        Receipt(
            key="twilio:SM09:undelivered",
            target=Target(vendor_id="SM09"),
            state=DeliveryState.FAILED,
            code="30006",
            permanent=True,
        ),
    ),
    "sms.5 tencent": (
        "sms",
        "tencent",
        Message(
            key="tencent:4b5c0b2f",
            address=MOBILE,
            at=NOON,
            thread="07",
            parts=(Text(text="收到，谢谢"),),
        ),
    ),
    "sms.6 short code": (
        "sms",
        "main",
        Message(
            key="twilio:AC01:SM06",
            address=Address(scheme="sms", account="main", kind="sender", id="10086"),
            parts=(Text(text="【中国移动】您的话费余额不足"),),
        ),
    ),
    "ivr.1 ringing": (
        "ivr",
        "main",
        Event(key="call:CA11:ringing", address=MOBILE, name="call.started", thread="CA11"),
    ),
    "ivr.2 speech": (
        "ivr",
        "main",
        Message(
            key="call:CA11:step:menu:1",
            address=MOBILE,
            thread="CA11",
            event="call.input",
            data={"speech": "我要退货", "confidence": 0.91, "step": "menu"},
            parts=(Text(text="我要退货", source="asr"),),
        ),
    ),
    "ivr.3 transfer failed": (
        "ivr",
        "main",
        Event(
            key="call:CA11:dial:CA22",
            address=MOBILE,
            name="call.transfer_failed",
            data={"reason": "no_answer"},
        ),
    ),
    "ivr.4 voicemail": (
        "ivr",
        "main",
        Message(
            key="rec:RE33:completed",
            address=MOBILE,
            event="voicemail",
            parts=(Audio(media=_pending("RE33", "audio/mpeg", duration_s=34.0)),),
        ),
    ),
    "ivr.5 withheld": (
        "ivr",
        "main",
        Event(key="call:CA44:ringing", address=WITHHELD, name="call.started"),
    ),
    "ivr.6 ended": (
        "ivr",
        "main",
        Amendment(
            key="call:CA11:seq:3",
            address=MOBILE,
            target=Target(vendor_id="CA11"),
            kind=AmendmentKind.CALL,
            seq=3,
            at=NOON,
            data={"step": "ended", "state": "completed", "duration_s": 126},
        ),
    ),
    "wechat.1 text": (
        "wechat",
        "shop",
        Message(
            key="msg:oHubUser0001:24307213612345678",
            address=FAN,
            at=NOON,
            parts=(Text(text="你好😀"),),
        ),
    ),
    "wechat.2 scan to follow": (
        "wechat",
        "shop",
        Event(
            key="evt:oHubUser0001:1700000060:subscribe:qrscene_门店_12",
            address=FAN,
            name="contact.followed",
            data={"scene": "门店_12", "via": "qr"},
        ),
    ),
    "wechat.3 voice": (
        "wechat",
        "shop",
        Message(
            key="msg:oHubUser0001:24307213612345699",
            address=FAN,
            parts=(
                Audio(
                    media=_pending("m-7Qx", "audio/amr"),
                    transcript=Transcript(text="我的订单还没发货。", by="vendor"),
                ),
            ),
        ),
    ),
    "wechat.4 location": (
        "wechat",
        "shop",
        Message(
            key="msg:oHubUser0001:24307213612345700",
            address=FAN,
            parts=(Location(lat=31.230416, lon=121.473701, datum="gcj02", label="上海市黄浦区"),),
        ),
    ),
    "wechat.5 menu option": (
        "wechat",
        "shop",
        Message(
            key="msg:oHubUser0001:24307213612345701",
            address=FAN,
            parts=(Text(text="不满意"),),
            event="menu.option",
            data={"option_id": "102"},
        ),
    ),
    "wechat.6 template receipt": (
        "wechat",
        "shop",
        Receipt(
            key="job:TEMPLATESENDJOBFINISH:3087340101",
            address=FAN,
            target=Target(vendor_id="3087340101"),
            state=DeliveryState.FAILED,
            reason="user_blocked",
            permanent=True,
        ),
    ),
    "weibo.1 text": (
        "weibo",
        "shop",
        Message(
            key="5550001234:2023-11-14T22:13:20Z:text:0123456789abcdef",
            address=WEIBO,
            at=NOON,
            parts=(Text(text="请问双十一的优惠还在吗？[doge]😀"),),
        ),
    ),
    "weibo.2 image": (
        "weibo",
        "shop",
        Message(
            key="5550001234:2023-11-14T22:13:20Z:image:fedcba9876543210",
            address=WEIBO,
            parts=(Image(media=_pending("821804469")),),
        ),
    ),
    "weibo.3 position": (
        "weibo",
        "shop",
        Message(
            key="5550001234:2023-11-14T22:13:21Z:position:00112233445566aa",
            address=WEIBO,
            parts=(Location(lat=31.230416, lon=121.473701),),
        ),
    ),
    "weibo.4 scan and follow": (
        "weibo",
        "shop",
        Event(
            key="5550001234:2023-11-14T22:13:22Z:event:aa112233445566aa",
            address=WEIBO,
            name="contact.followed",
            data={"via": "qr", "scene": "88"},
        ),
    ),
    "weibo.5 unsubscribed": (
        "weibo",
        "shop",
        Event(
            key="5550001234:2023-11-14T22:13:22Z:event:bb112233445566bb",
            address=WEIBO,
            name="contact.unsubscribed",
            data={"keyword": "td"},
        ),
    ),
    "weibo.6 mention": (
        "weibo",
        "shop",
        Message(
            key="5550001234:2023-11-14T22:13:23Z:mention:cc112233445566cc",
            address=WEIBO,
            public=True,
            thread="mention:4967012345678901",
            parts=(Text(text="@某品牌 快递三天没动了 😡"),),
        ),
    ),
}
