"""The channel's page tells the truth: its settings load, and every error that is told is in it."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from connectors.wechat import errors
from connectors.wechat.settings import WechatSettings
from hub import parse_settings
from hub.config.loader import load_text
from hub.testing import FakeClock
from tests.wechat.support import AES_KEY

PAGE = (Path(__file__).parents[2] / "docs" / "channels" / "wechat.md").read_text("utf-8")
RANGE = re.compile(r"(\d{5}) to (\d{5})")


def test_the_settings_of_the_page_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand, with their secrets in the environment."""
    monkeypatch.setenv("WECHAT_APP_SECRET", "s")
    monkeypatch.setenv("WECHAT_TOKEN", "t")
    monkeypatch.setenv("WECHAT_AES_KEY", AES_KEY)
    found = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    (account,) = load_text("[hub]\n" + found[1]).accounts
    made = parse_settings(WechatSettings, account.settings, account.name)
    assert made.mode == "safe"


def test_every_setting_is_explained() -> None:
    for field in msgspec.structs.fields(WechatSettings):
        assert f"`{field.name}`" in PAGE, field.name


def test_every_error_code_is_explained_with_the_words_that_are_told() -> None:
    """What an operator reads, up to its first colon, is what they look for on the page."""
    lower = PAGE.lower()
    spans = [range(int(low), int(high) + 1) for low, high in RANGE.findall(PAGE)]
    for number in [*errors.TABLE, 45009, 45011]:
        assert str(number) in PAGE or any(number in span for span in spans), number
        reason = errors.failure(number, "", FakeClock().now()).reason.lower()
        words = re.split(r"[:(,]| the address|, or", reason)[0].strip()
        assert words in lower, f"{number}: {words!r}"
    assert errors.ANOTHER_SYSTEM.partition(":")[0] in PAGE


def test_every_reason_of_a_refused_push_that_an_operator_can_mend_is_explained() -> None:
    for reason in ("signature", "stale", "downgrade", "replayed", "decrypt", "account"):
        assert f"`{reason}`" in PAGE
