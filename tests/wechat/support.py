"""A WeChat account for tests: its settings, its connector, and pushes as the vendor makes them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp

from connectors.wechat.connector import WechatConnector
from connectors.wechat.samples import body_of, push
from connectors.wechat.settings import WechatSettings
from hub import Account, Request, parse_settings
from hub.config import RawTable
from hub.contract import Outgoing
from hub.testing import FakeClock, FakeServices
from normalizer.drafts import AnyDraft
from normalizer.parts import AnyPart
from tests.wechat.fake_wechat import APP_SECRET, APPID, OPENID, FakeWechat

TOKEN = "hubToken2024"
AES_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"
SECRETS = {"tokens": [TOKEN], "encoding_aes_keys": [AES_KEY]}
ADDRESS = f"wechat:shop:openid:{OPENID}"


def settings(**changes: Any) -> WechatSettings:
    """Return settings of a plain account; None takes one away."""
    given = {"appid": APPID, "app_secret": APP_SECRET, "mode": "plain", **SECRETS, **changes}
    table = RawTable.of({name: value for name, value in given.items() if value is not None})
    return parse_settings(WechatSettings, table, "wechat:shop")


def connector(
    services: FakeServices | None = None, *, insecure: bool = False, **changes: Any
) -> WechatConnector:
    account = Account(
        channel="wechat",
        key="shop",
        label="Shop",
        settings=settings(**changes),
        insecure=insecure,
    )
    return WechatConnector(
        account, (services or FakeServices()).connector_context("wechat", "shop")
    )


def request(
    inner: str, *, clock: FakeClock | None = None, plain: bool = True, **changes: Any
) -> Request:
    """Return a signed push with these fields beside sender and time."""
    clock = clock or FakeClock()
    held = settings(**changes)
    return push(held, clock, "test", body_of(held, clock, inner), plain=plain).request


def drafts(inner: str, **changes: Any) -> Sequence[AnyDraft]:
    """Return what a push with these fields becomes."""
    ours = connector(**changes)
    plain = changes.get("mode", "plain") == "plain"
    return ours.parse(ours.verify(request(inner, plain=plain, **changes)))


def draft(inner: str, **changes: Any) -> Any:
    (found,) = drafts(inner, **changes)
    return found


def outgoing(*parts: AnyPart, **fields: Any) -> Outgoing:
    given: dict[str, Any] = {
        "entry": "ent_1",
        "key": "job_1",
        "address": ADDRESS,
        "parts": parts,
    }
    return Outgoing(**{**given, **fields})


@contextlib.asynccontextmanager
async def at_work(
    *, vendor: FakeWechat | None = None, **changes: Any
) -> AsyncIterator[tuple[WechatConnector, FakeWechat, FakeServices]]:
    """Yield a connector, the vendor it speaks to, and the hub's services around it."""
    async with contextlib.AsyncExitStack() as stack:
        vendor = vendor or await stack.enter_async_context(FakeWechat())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        services = FakeServices(http=http, private_hosts=["127.0.0.1"])
        stack.push_async_callback(services.fetcher.close)
        ours = connector(services, **{**vendor.settings, **changes})
        await ours.start()
        stack.push_async_callback(ours.stop)
        yield ours, vendor, services
