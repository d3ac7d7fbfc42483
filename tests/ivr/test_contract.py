"""The phone channel passes the contract that every connector has to pass."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from connectors.ivr import IvrConnector
from hub.testing import ConnectorContract
from tests.ivr.calling import settings as account_settings

FIRST, SECOND = "hubAuthToken0001", "hubAuthToken0002"


class TestIvr(ConnectorContract):
    connector = IvrConnector
    settings: ClassVar = account_settings(auth_tokens=[FIRST])
    other_secrets: ClassVar = {"auth_tokens": [SECOND]}
    both_secrets: ClassVar = {"auth_tokens": [SECOND, FIRST]}
    no_secrets: ClassVar = {"auth_tokens": None}
    signs_url = True
    golden = Path(__file__).parent.parent / "golden" / "ivr.json"
    exempt: ClassVar = {
        "window": "Twilio signs no time",
        "unknown": "Twilio's voice requests have no types of messages",
        "vendor": "it neither polls nor sends",
        "recipient": "it sends nothing",
    }
