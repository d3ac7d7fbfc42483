"""Pushes as Weibo would send them now: for the contract suite and ``omniline simulate``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

from connectors.weibo.envelope import MONTHS
from connectors.weibo.settings import WeiboSettings
from connectors.weibo.verifying import sign
from hub import Clock, Request, Sample

FAN = 5550001234
_CHINA = timezone(timedelta(hours=8))
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_SIGNED = ("signature", "timestamp", "nonce")


def samples(settings: WeiboSettings, clock: Clock) -> Sequence[Sample]:
    """Return the URL check and one push of each type, correctly signed."""
    made = [_handshake(settings, clock)]
    for number, (name, drafts, fields) in enumerate(_pushes(), 1):
        body = push_body(settings.uid, clock.now(), fields)
        made.append(
            _sample(settings, clock, name, "POST", f"{number:08d}", body=body, drafts=drafts)
        )
    return made


def push_body(uid: str, at: datetime, fields: Mapping[str, Any]) -> bytes:
    """Return the JSON of a push to ``uid``; ``fields`` are its type, its text and its data."""
    push = {
        "type": "text",
        "receiver_id": int(uid),
        "sender_id": FAN,
        "created_at": vendor_time(at),
        "text": "",
        "data": {},
        **fields,
    }
    return json.dumps(push, ensure_ascii=False).encode()


def vendor_time(at: datetime) -> str:
    """Return a moment as Weibo writes it: ``Mon Jul 16 18:09:20 +0800 2012``."""
    there = at.astimezone(_CHINA)
    return (
        f"{_DAYS[there.weekday()]} {MONTHS[there.month - 1]} {there.day:02d}"
        f" {there:%H:%M:%S} +0800 {there.year:04d}"
    )


def signed_query(settings: WeiboSettings, at: datetime, nonce: str, **more: str) -> str:
    """Return the query of a call at ``at``, signed with the account's first secret."""
    timestamp = str(int(at.astimezone(UTC).timestamp() * 1000))
    query = {"timestamp": timestamp, "nonce": nonce, **more}
    for secret in settings.app_secrets[:1]:
        query = {"signature": sign(secret, timestamp, nonce), **query}
    return urlencode(query)


def _pushes() -> Sequence[tuple[str, int, Mapping[str, Any]]]:
    def event(subtype: str, text: str = "", **data: str) -> Mapping[str, Any]:
        return {"type": "event", "text": text, "data": {"subtype": subtype, **data}}

    return (
        ("follow", 1, event("follow", "关注")),
        ("text", 1, {"text": "请问双十一的优惠还在吗？[doge]😀"}),
        (
            "image",
            1,
            {
                "type": "image",
                "text": "发了一张图片",
                "data": {"vfid": 821804459, "tovfid": 821804469},
            },
        ),
        (
            "voice",
            1,
            {
                "type": "voice",
                "text": "发了一个语音消息",
                "data": {"vfid": 821804479, "tovfid": 821804489},
            },
        ),
        (
            "position",
            1,
            {
                "type": "position",
                "text": "我在这里: http://t.cn/zQexmpl",
                "data": {"longitude": "121.473701", "latitude": "31.230416"},
            },
        ),
        ("subscribe", 1, event("subscribe", "dy")),
        ("unsubscribe", 1, event("unsubscribe", "td")),
        ("scan", 1, event("scan", "扫描二维码", key="QR_LIMIT_SCENE_88", ticket="gQ8")),
        ("scan_follow", 1, event("scan_follow", "扫描二维码", key="QR_SCENE_7", ticket="gQ7")),
        ("click", 1, event("click", "点击菜单", key="orders")),
        ("view", 1, event("view", "点击菜单", key="https://shop.example/orders")),
        (
            "mention",
            1,
            {
                "type": "mention",
                "text": "@某品牌 快递三天没动了 😡",
                "data": {"subtype": "status", "key": "4967012345678901"},
            },
        ),
        ("unknown", 1, {"type": "hologram", "text": "发了一个全息图", "data": []}),
        ("ignored event", 0, event("receipt_of_tomorrow")),
        ("unfollow", 1, event("unfollow", "取消关注")),
    )


def _handshake(settings: WeiboSettings, clock: Clock) -> Sample:
    return _sample(settings, clock, "url check", "GET", "57155157", drafts=0, echostr="4242")


def _sample(
    settings: WeiboSettings,
    clock: Clock,
    name: str,
    method: str,
    nonce: str,
    *,
    drafts: int,
    body: bytes = b"",
    **more: str,
) -> Sample:
    now = clock.now()
    secret = settings.path_secret
    return Sample(
        name=name,
        request=Request(
            method=method,
            url="",
            path=f"/{secret.reveal()}" if secret is not None else "",
            query_string=signed_query(settings, now, nonce, **more),
            body=body,
            received_at=now,
        ),
        drafts=drafts,
        signed_query=_SIGNED if settings.app_secrets else (),
        signs_body=False,
    )
