"""An SMS account at Twilio passes the contract that every connector has to pass."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from connectors.sms import SmsConnector
from hub.testing import ConnectorContract, FakeVendor
from tests.sms.fake_twilio import KEY, KEY_SECRET, NUMBER, SID, TOKEN, FakeTwilio

TABLE = {
    "account_sid": SID,
    "auth_tokens": [TOKEN],
    "api_key": KEY,
    "api_key_secret": KEY_SECRET,
    "numbers": [NUMBER],
}


class TestTwilio(ConnectorContract):
    connector = SmsConnector
    settings = {"provider": "twilio", "twilio": TABLE}
    other_secrets = {"twilio": {**TABLE, "auth_tokens": ["another-token"]}}
    both_secrets = {"twilio": {**TABLE, "auth_tokens": ["another-token", TOKEN]}}
    no_secrets = {"twilio": {**TABLE, "auth_tokens": []}}
    signs_url = True
    recipient = "tel::e164:+8613800138000"
    golden = Path(__file__).parent.parent / "golden" / "sms_twilio.json"
    exempt = {
        "window": "Twilio signs no time: a replay is known by its MessageSid",
        "unknown": "a text message has no type",
    }

    @contextlib.asynccontextmanager
    async def vendor(self) -> AsyncIterator[FakeVendor]:
        async with FakeTwilio() as vendor:
            yield vendor
