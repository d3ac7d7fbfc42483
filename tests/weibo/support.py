"""A connector for tests, and pushes as Weibo sends them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from connectors.weibo import WeiboConnector
from connectors.weibo.samples import push_body, signed_query
from hub import Account, Request, parse_settings
from hub.config import RawTable
from hub.testing import FakeServices
from hub.testing.clock import START
from tests.weibo.fake_weibo import TOKEN

UID = "1000000007"
FAN = "5550001234"
PATH = "a-path-that-nobody-knows"
APP_SECRET = "the-app-secret"
SETTINGS: Mapping[str, Any] = {
    "uid": UID,
    "app_secrets": [APP_SECRET],
    "path_secret": PATH,
    "access_token": TOKEN,
    "token_bound": "2026-03-01",
}


def make_connector(
    overrides: Mapping[str, Any] | None = None,
    *,
    services: FakeServices | None = None,
    key: str = "main",
) -> WeiboConnector:
    """Return an account's connector; None takes a setting away."""
    values = {**SETTINGS, **(overrides or {})}
    table = RawTable.of({name: value for name, value in values.items() if value is not None})
    account = Account(
        channel="weibo",
        key=key,
        label="Shop",
        settings=parse_settings(WeiboConnector.settings, table, f"weibo:{key}"),
    )
    services = services or FakeServices()
    return WeiboConnector(account, services.connector_context("weibo", key))


def push(
    connector: WeiboConnector,
    body: bytes | Mapping[str, Any],
    *,
    at: datetime = START,
    nonce: str = "57155157",
    path: str = f"/{PATH}",
    method: str = "POST",
    **more: str,
) -> Request:
    """Return a push, signed with the account's first secret; a table is what text has it not."""
    settings = connector.account.settings
    if not isinstance(body, bytes):
        body = push_body(settings.uid, at, body)
    return Request(
        method=method,
        url="",
        path=path,
        query_string=signed_query(settings, at, nonce, **more),
        headers={"content-type": "application/octet-stream"},
        body=body,
        received_at=at,
    )


def raw(**fields: Any) -> bytes:
    """Return a push's JSON as it stands on the sheet."""
    return json.dumps(
        {"receiver_id": int(UID), "sender_id": int(FAN), **fields}, ensure_ascii=False
    ).encode()
