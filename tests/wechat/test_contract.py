"""The WeChat connector passes the contract that every connector has to pass, in both modes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from connectors.wechat import WechatConnector
from hub import Sample
from hub.testing import ConnectorContract, FakeVendor
from tests.wechat.fake_wechat import APP_SECRET, APPID, OPENID, FakeWechat

TOKENS = ["hubToken2024", "anotherToken2025"]
KEYS = [
    "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY",
    "YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk",
]
ACCOUNT = {"appid": APPID, "app_secret": APP_SECRET, "original_id": "gh_hub000001"}


class WechatContract(ConnectorContract):
    connector = WechatConnector
    no_secrets = {"tokens": None, "encoding_aes_keys": None}
    window_s = 600
    recipient = f"wechat:main:openid:{OPENID}"
    golden = Path(__file__).parent.parent / "golden" / "wechat.json"  # the same in both modes

    @contextlib.asynccontextmanager
    async def vendor(self) -> AsyncIterator[FakeVendor]:
        async with FakeWechat() as vendor:
            yield vendor


class TestPlain(WechatContract):
    settings = {**ACCOUNT, "mode": "plain", "tokens": TOKENS[:1]}
    other_secrets = {"tokens": TOKENS[1:]}
    both_secrets = {"tokens": TOKENS[::-1]}


class TestSafe(WechatContract):
    settings = {
        **ACCOUNT,
        "mode": "safe",
        "tokens": TOKENS[:1],
        "encoding_aes_keys": KEYS[:1],
        "passive_reply": "收到 ]]> 谢谢",
    }
    other_secrets = {"tokens": TOKENS[1:], "encoding_aes_keys": KEYS[1:]}
    both_secrets = {"tokens": TOKENS[::-1], "encoding_aes_keys": KEYS[::-1]}

    def signed_spans(self, sample: Sample) -> Sequence[tuple[int, int]]:
        """What is signed is the text of Encrypt; the plain fields around it are nobody's word."""
        body = sample.request.body
        opening = b"<Encrypt><![CDATA["
        if not body:
            return ()  # the console's try of the address
        start = body.find(opening) + len(opening)
        return ((start, body.index(b"]]", start)),)
