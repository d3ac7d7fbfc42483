"""What a plugin seals in its state: readable by its account alone, and by the next release too."""

from __future__ import annotations

import pytest

from hub import PluginContext
from hub.testing import FakeServices

# By the release that sealed it: the account wechat:shop, the label access_token, the tests' key.
SEALED = "TOemhJ0q8XpOcjamB2CwdWP7Vob4MMyMPsEyIpuJioQnIBvo8pxn4uHDBA=="


def test_what_an_account_seals_is_its_own_and_never_looks_the_same() -> None:
    services = FakeServices()
    shop = services.connector_context("mail", "shop")
    one, two = shop.seal("oauth", "a token 密"), shop.seal("oauth", "a token 密")
    assert one != two
    assert "token" not in one
    assert shop.unseal("oauth", one) == shop.unseal("oauth", two) == "a token 密"
    others: list[PluginContext] = [
        services.connector_context("mail", "other"),
        services.connector_context("sms", "shop"),
        services.context("mail"),
    ]
    assert [each.unseal("oauth", one) for each in others] == [None] * 3
    assert shop.unseal("another label", one) is None


@pytest.mark.parametrize("damaged", ["", "AAAA", "no base64!", SEALED[:-8] + "AAAAAAA=", "密"])
def test_what_is_damaged_is_nothing(damaged: str) -> None:
    shop = FakeServices().connector_context("wechat", "shop")
    assert shop.unseal("access_token", damaged) is None


def test_what_an_older_release_sealed_can_be_read() -> None:
    shop = FakeServices().connector_context("wechat", "shop")
    assert shop.unseal("access_token", SEALED) == "an access token"
