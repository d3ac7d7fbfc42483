"""The channel's page: its configurations are read as they stand, and every setting is on it."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from connectors._twilio.codes import CODES
from connectors.sms import SmsConnector
from connectors.sms.settings import AliyunSettings, SmsSettings, TencentSettings, TwilioSettings
from hub import Account, parse_settings
from hub.config.loader import load_text
from hub.testing import FakeServices

PAGE = (Path(__file__).parents[2] / "docs" / "channels" / "sms.md").read_text("utf-8")
BLOCKS = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", BLOCKS, ids=["twilio", "aliyun", "tencent"])
def test_a_configuration_of_the_page_starts(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in re.findall(r'env = "(\w+)"', text):
        monkeypatch.setenv(name, "a1b2c3d4e5f6g7h8")
    (account,) = load_text(text).accounts
    settings = parse_settings(SmsSettings, account.settings, account.name)
    connector = SmsConnector(
        Account(channel="sms", key=account.key, label=account.label, settings=settings),
        FakeServices().connector_context("sms", account.key),
    )
    assert not connector.check_settings()


@pytest.mark.parametrize("kind", [SmsSettings, TwilioSettings, AliyunSettings, TencentSettings])
def test_every_setting_is_on_the_page(kind: type[msgspec.Struct]) -> None:
    assert kind.__doc__
    technical = {"api_url", "region", "max_param_chars"}
    missing = [
        info.name
        for info in msgspec.structs.fields(kind)
        if not re.search(rf"\b{info.name}\b", PAGE) and info.name not in technical
    ]
    assert not missing


def test_the_codes_that_an_operator_can_do_something_about_are_on_the_page() -> None:
    for code in (20003, 21606, 21408, 21610, 21614, 30003, 30006, 30007, 30034, 63016, 20429):
        assert code in CODES
        assert str(code) in PAGE
