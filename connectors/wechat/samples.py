"""Pushes as WeChat would send them now: for the contract suite and ``omniline simulate``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from connectors.wechat import crypto
from connectors.wechat.passive import fenced
from connectors.wechat.settings import WechatSettings
from hub import Clock, Request, Sample

ACCOUNT = "gh_hub000001"
OPENID = "oHubUser0001"

# Name: what the push has beside its sender and its time. Each has a number of its own every second.
PUSHES: Mapping[str, str] = {
    "text": "<MsgType>text</MsgType><Content><![CDATA[你好😀]]></Content><MsgId>{id}</MsgId>",
    "image": "<MsgType>image</MsgType><PicUrl><![CDATA[http://mmbiz.qpic.cn/a/0]]></PicUrl>"
    "<MediaId><![CDATA[m-1Pc]]></MediaId><MsgId>{id}</MsgId>",
    "voice": "<MsgType>voice</MsgType><MediaId><![CDATA[m-7Qx]]></MediaId>"
    "<Format><![CDATA[amr]]></Format><Recognition><![CDATA[我的订单还没发货。]]></Recognition>"
    "<MsgId>{id}</MsgId>",
    "location": "<MsgType>location</MsgType><Location_X>31.230416</Location_X>"
    "<Location_Y>121.473701</Location_Y><Scale>16</Scale>"
    "<Label><![CDATA[上海市黄浦区]]></Label><MsgId>{id}</MsgId>",
    "menu_option": "<MsgType>text</MsgType><Content>不满意</Content>"
    "<bizmsgmenuid>102</bizmsgmenuid><MsgId>{id}</MsgId>",
    "scan_follow": "<MsgType>event</MsgType><Event>subscribe</Event>"
    "<EventKey><![CDATA[qrscene_门店_12]]></EventKey><Ticket><![CDATA[gQH8]]></Ticket>",
    "click": "<MsgType>event</MsgType><Event>CLICK</Event><EventKey>orders</EventKey>",
    "template_receipt": "<MsgType>event</MsgType><Event>TEMPLATESENDJOBFINISH</Event>"
    "<MsgID>{id}</MsgID><Status><![CDATA[failed:user block]]></Status>",
    "console_takes_over": "<MsgType>event</MsgType><Event>kf_create_session</Event>"
    "<KfAccount>kf1@shop</KfAccount>",
    "unknown": "<MsgType>hologram</MsgType><MsgId>{id}</MsgId>",
}


def signed(settings: WechatSettings, clock: Clock) -> Sequence[Sample]:
    """Return every push, and the console's try of the address, signed with the first secrets."""
    return [
        handshake(settings, clock),
        *(
            push(settings, clock, name, body_of(settings, clock, _numbered(clock, name)))
            for name in PUSHES
        ),
    ]


def _numbered(clock: Clock, name: str) -> str:
    return PUSHES[name].replace("{id}", f"{_time(clock)}{list(PUSHES).index(name):07d}")


def body_of(settings: WechatSettings, clock: Clock, inner: str, *, sender: str = OPENID) -> bytes:
    """Return the XML of a push with what all pushes have."""
    created = int(clock.now().timestamp())
    return (
        f"<xml><ToUserName><![CDATA[{settings.original_id or ACCOUNT}]]></ToUserName>"
        f"<FromUserName><![CDATA[{fenced(sender)}]]></FromUserName>"
        f"<CreateTime>{created}</CreateTime>{inner}</xml>"
    ).encode()


def push(
    settings: WechatSettings, clock: Clock, name: str, body: bytes, *, plain: bool | None = None
) -> Sample:
    """Return a signed POST; encrypted if the account's mode is not plain, or as ``plain`` says."""
    if plain is None:
        plain = settings.mode == "plain" or not settings.encrypts
    timestamp, nonce = _time(clock), _nonce(name)
    token = _token(settings)
    query = {
        "signature": crypto.signature(token, timestamp, nonce),
        "timestamp": timestamp,
        "nonce": nonce,
        "openid": OPENID,
    }
    if not plain:
        key = crypto.aes_key(settings.encoding_aes_keys[0].reveal())
        prefix = hashlib.sha256(body).digest()[: crypto.PREFIX]
        sealed = crypto.encrypt(key, settings.appid, body, prefix)
        msg_signature = crypto.signature(token, timestamp, nonce, sealed)
        query |= {"encrypt_type": "aes", "msg_signature": msg_signature}
        account = settings.original_id or ACCOUNT
        body = (
            f"<xml><ToUserName><![CDATA[{account}]]></ToUserName>"
            f"<Encrypt><![CDATA[{sealed}]]></Encrypt></xml>"
        ).encode()
    return Sample(
        name=name,
        request=Request(
            method="POST",
            url="",
            query_string=urlencode(query),
            headers={"content-type": "text/xml"},
            body=body,
            received_at=clock.now(),
        ),
        signed_query=("signature" if plain else "msg_signature", "timestamp", "nonce"),
        signs_body=not plain,
    )


def handshake(settings: WechatSettings, clock: Clock) -> Sample:
    """Return the GET with which the console tries the address; the echo is signed by nothing."""
    timestamp, nonce = _time(clock), _nonce("handshake")
    query = {
        "signature": crypto.signature(_token(settings), timestamp, nonce),
        "timestamp": timestamp,
        "nonce": nonce,
        "echostr": "5837397520665436492",
    }
    return Sample(
        name="handshake",
        request=Request(
            method="GET", url="", query_string=urlencode(query), received_at=clock.now()
        ),
        drafts=0,
        signed_query=("signature", "timestamp", "nonce"),
        signs_body=False,
    )


def _token(settings: WechatSettings) -> str:
    return settings.tokens[0].reveal() if settings.tokens else ""


def _time(clock: Clock) -> str:
    return str(int(clock.now().timestamp()))


def _nonce(name: str) -> str:
    return str(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big"))
