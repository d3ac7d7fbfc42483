"""Signatures are the standard's, both ways; what is not signed rightly is always refused alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks.webhooks import Webhook

from hub import ConfigError, Refused, Secret, parse_settings
from hub.config.loader import load_text
from plugins.webhook.settings import WebhookSettings
from plugins.webhook.signing import MAX_SIGNATURES, Signer, key_of
from tests.webhook.strict import OTHER_SECRET, SECRET

NOW = datetime(2026, 1, 1, tzinfo=UTC)  # 1767225600
BODY = b'{"specversion":"1.0","id":"evt_01","source":"/hub","type":"x"}'
VECTOR = "v1,PVs1EH+pXjzu0we2iWEOoykbPdUv6JchrTOl9aU9qZM="
NEW, OLD = Secret(OTHER_SECRET), Secret(SECRET)


def test_the_published_vector_is_met_both_ways() -> None:
    headers = Signer([OLD]).headers("evt_01", NOW, BODY)
    assert headers == {
        "webhook-id": "evt_01",
        "webhook-timestamp": "1767225600",
        "webhook-signature": VECTOR,
    }
    assert Signer([OLD]).verify(headers, BODY, NOW) == "evt_01"


def test_the_reference_library_believes_what_we_sign() -> None:
    body = "您好 👩🏽‍💻".encode()
    headers = Signer([NEW, OLD]).headers("msg_1", datetime.now(UTC), body)
    for secret in (SECRET, OTHER_SECRET):
        Webhook(secret).verify(body, headers, json_parse=False)


def test_we_believe_what_the_reference_library_signs() -> None:
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", now, "{}"),
    }
    assert Signer([OLD]).verify(headers, b"{}", now) == "msg_1"


def test_while_secrets_are_rotated_any_of_them_is_believed_and_all_of_them_sign() -> None:
    both, old, new = Signer([NEW, OLD]), Signer([OLD]), Signer([NEW])
    for signed, verifier in ((both, old), (both, new), (old, both), (new, both)):
        assert verifier.verify(signed.headers("m", NOW, BODY), BODY, NOW) == "m"
    first = both.headers("m", NOW, BODY)["webhook-signature"].split(" ")[0]
    assert first == new.headers("m", NOW, BODY)["webhook-signature"], "the new one stands first"
    with pytest.raises(Refused):
        old.verify(new.headers("m", NOW, BODY), BODY, NOW)


@pytest.mark.parametrize(("seconds", "believed"), [(300, True), (301, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_older_or_newer_than_five_minutes_is_refused(
    seconds: int, believed: bool, sign: int
) -> None:
    headers = Signer([OLD]).headers("m", NOW, BODY)
    moment = NOW + timedelta(seconds=sign * seconds)
    if believed:
        assert Signer([OLD]).verify(headers, BODY, moment) == "m"
    else:
        with pytest.raises(Refused, match="stale"):
            Signer([OLD]).verify(headers, BODY, moment)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("webhook-id", ""),
        ("webhook-id", "evt.01"),
        ("webhook-id", "evt\n01"),
        ("webhook-id", "x" * 300),
        ("webhook-timestamp", ""),
        ("webhook-timestamp", "1767225600.7"),
        ("webhook-timestamp", "-1767225600"),
        ("webhook-timestamp", "１７６７２２５６００"),
        ("webhook-timestamp", "9" * 400),
        ("webhook-signature", ""),
        ("webhook-signature", "v1"),
        ("webhook-signature", "v1,"),
        ("webhook-signature", "v1,!!!"),
        ("webhook-signature", "v1,中"),
        ("webhook-signature", VECTOR.replace("v1", "v2")),
        ("webhook-signature", VECTOR[:-2] + "A="),
        ("webhook-signature", " ".join([VECTOR] * (MAX_SIGNATURES + 1))),
    ],
)
def test_a_malformed_header_is_refused_like_a_wrong_one(header: str, value: str) -> None:
    headers = {**Signer([OLD]).headers("evt_01", NOW, BODY), header: value}
    with pytest.raises(Refused) as refused:
        Signer([OLD]).verify(headers, BODY, NOW)
    assert refused.value.status == 401


def test_versions_that_are_not_known_are_passed_over() -> None:
    headers = Signer([OLD]).headers("evt_01", NOW, BODY)
    headers["webhook-signature"] = f"v1a,AAAA v9 {VECTOR} v1,AAAA"
    assert Signer([OLD]).verify(headers, BODY, NOW) == "evt_01"


@pytest.mark.parametrize(
    ("secret", "complaint"),
    [
        ("aHViLWZlZWQ=", 'starts with "whsec_"'),
        ("whsec_aHViLWZlZWQ=", "the key has 8 bytes"),
        ("whsec_" + "QUFB" * 22, "the key has 66 bytes"),
        ("whsec_!!!!", "base64"),
    ],
)
def test_a_secret_that_is_none_is_named_with_its_place_and_never_shown(
    secret: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        key_of(secret)
    table = 'type = "webhook"\nname = "erp"\nurl = "https://a.example/"\n'
    (backend,) = load_text(f'[[backends]]\n{table}secrets = ["{SECRET}", "{secret}"]').backends
    with pytest.raises(ConfigError) as error:
        parse_settings(WebhookSettings, backend.settings, backend.name)
    assert "secrets[1]" in str(error.value)
    assert "openssl rand" in str(error.value)
    assert secret.removeprefix("whsec_") not in str(error.value)


def test_a_secret_without_padding_is_taken() -> None:
    assert key_of(SECRET.rstrip("=")) == b"hub-feed-test-key-0123456789abcd"


@pytest.mark.parametrize(
    ("url", "allowed", "complaint"),
    [
        ("https://erp.example/tickets", False, ""),
        ("http://erp.example/tickets", False, "in clear"),
        ("https://10.0.0.7/tickets", False, "private address"),
        ("https://[::1]/tickets", False, "private address"),
        ("https://169.254.169.254/", False, "private address"),
        ("http://127.0.0.1:8099/tickets", True, ""),
    ],
)
def test_what_is_private_or_in_clear_has_to_be_allowed(
    url: str, allowed: bool, complaint: str
) -> None:
    settings = WebhookSettings(url=url, secrets=(OLD,), allow_private=allowed)
    told = [wrong.what for wrong in settings.check()]
    assert bool(told) is bool(complaint)
    assert complaint in " ".join(told)
