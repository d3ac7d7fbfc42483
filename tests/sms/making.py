"""SMS connectors for tests, and what is sent through them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import aiohttp

from connectors.sms import SmsConnector
from connectors.sms.settings import SmsSettings
from hub import Account, Answered, Clock, Outgoing, RawTable, Request, parse_settings
from hub.testing import FakeServices
from hub.testing.clock import START, FakeClock
from normalizer.drafts import AnyDraft
from normalizer.parts import AnyPart, Text
from tests.sms.fake_twilio import NUMBER, SID, TOKEN
from tests.twilio.signing import sign

THEIRS = "+8613800138000"
TO = f"tel::e164:{THEIRS}"


def made(
    settings: Mapping[str, Any], services: FakeServices | None = None, *, key: str = "main"
) -> SmsConnector:
    services = services or FakeServices()
    parsed = parse_settings(SmsSettings, RawTable.of(dict(settings)), f"sms:{key}")
    account = Account(channel="sms", key=key, label="", settings=parsed)
    return SmsConnector(account, services.connector_context("sms", key))


def twilio(services: FakeServices | None = None, **table: Any) -> SmsConnector:
    values = {"account_sid": SID, "auth_tokens": [TOKEN], "numbers": [NUMBER], **table}
    return made({"provider": "twilio", "twilio": values}, services)


@contextlib.asynccontextmanager
async def at_work(
    settings: Mapping[str, Any], *, clock: Clock | None = None
) -> AsyncIterator[tuple[SmsConnector, FakeServices]]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
        services = FakeServices(
            http=http, clock=clock or FakeClock(), private_hosts=["127.0.0.1", "localhost"]
        )
        connector = made(settings, services)
        await connector.start()
        try:
            yield connector, services
        finally:
            await services.fetcher.close()


def posted(connector: SmsConnector, form: Mapping[str, str] | bytes, path: str = "") -> Request:
    """Return a form as Twilio posts it, signed by the test's own code."""
    body = form if isinstance(form, bytes) else urlencode(form).encode()
    url = f"{connector.context.public_url}{path}"
    return Request(
        method="POST",
        url=url,
        path=path,
        headers={
            "content-type": "application/x-www-form-urlencoded",
            "x-twilio-signature": sign(TOKEN, url, pairs(body)),
        },
        body=body,
        received_at=START,
    )


def pairs(body: bytes) -> list[tuple[str, str]]:
    return parse_qsl(body.decode(), keep_blank_values=True)


def said(connector: SmsConnector, request: Request) -> list[AnyDraft]:
    return list(connector.parse(connector.verify(request)))


def message(*parts: AnyPart | str, key: str = "job_1", to: str = TO, **more: Any) -> Outgoing:
    made_of = tuple(Text(text=part) if isinstance(part, str) else part for part in parts)
    return Outgoing(entry="ent_1", key=key, address=to, parts=made_of, **more)


def answering(**data: str) -> Answered:
    return Answered(entry="ent_0", at=START, data=data)
