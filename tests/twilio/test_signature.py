"""X-Twilio-Signature: the vectors, what Twilio varies, what forgers try, the package's traps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from twilio.request_validator import RequestValidator

from connectors._twilio.signature import FORM, SigningKeys, signature, url_variants, verified
from hub import Refused, Request, Secret, Verified
from tests.twilio.signing import body_hash, sign

NOW = datetime(2026, 1, 1, tzinfo=UTC)
URL = "https://hub.example.com/hooks/twilio/sms?acct=7"
KEYS = SigningKeys(tokens=(Secret("hubAuthToken0001"),))
SAMPLE_1 = (
    b"AccountSid=AC00000000000000000000000000000001&Body=%E4%BD%A0%E5%A5%BD%F0%9F%98%80+%E9%80%80"
    b"%E8%AE%A2%3F&From=%2B85291234567&FromCity=&MessageSid=SM00000000000000000000000000000001"
    b"&NumMedia=0&To=%2B15005550006"
)
SAMPLE_1_SIGNATURE = "wjE0Gne4Nu0S29WrpDVp+mWQa3s="
JSON_URL = (
    "https://hub.example.com/hooks/twilio/json?bodySHA256="
    "6e6b9289748b5d8270901b129ea700c9527bad599ea7aaa57e2c3e475742179c"
)


def request(
    url: str = URL,
    body: bytes = SAMPLE_1,
    given: str | None = SAMPLE_1_SIGNATURE,
    *,
    method: str = "POST",
    content_type: str = FORM,
    **headers: str,
) -> Request:
    all_headers = {"content-type": content_type, **headers}
    if given is not None:
        all_headers["x-twilio-signature"] = given
    return Request(
        method=method,
        url=url,
        query_string=urlsplit(url).query,
        headers=all_headers,
        body=body,
        received_at=NOW,
    )


def refused(asked: Request, keys: SigningKeys = KEYS) -> str:
    with pytest.raises(Refused) as caught:
        verified(asked, keys)
    return caught.value.reason


# --- vectors -------------------------------------------------------------------------------------


def test_the_vector_of_twilios_documentation() -> None:
    fields = [
        ("CallSid", "CA1234567890ABCDE"),
        ("Caller", "+14158675309"),
        ("Digits", "1234"),
        ("From", "+14158675309"),
        ("To", "+18005551212"),
    ]
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    assert signature("12345", url, fields) == "RSOYDt4T1cUTdK1PDd93/VVr8B8="
    asked = request(url, urlencode(fields).encode(), "RSOYDt4T1cUTdK1PDd93/VVr8B8=")
    assert verified(asked, SigningKeys(tokens=(Secret("12345"),))).payload == asked.body


def test_the_vector_of_a_message_with_blanks_and_an_emoji() -> None:
    believed = verified(request(), KEYS)
    assert isinstance(believed, Verified)
    assert believed.payload == SAMPLE_1


def test_the_vector_of_a_json_body() -> None:
    body = '{"event":"转接"}'.encode()
    asked = request(JSON_URL, body, "rSE3WtSejUTAsVjC3kx8dLw6/Vw=", content_type="application/json")
    assert verified(asked, KEYS).payload == body


# --- what Twilio varies --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "signed"),
    [
        ("https://h.example/a?b=1", "https://h.example/a?b=1"),
        ("https://h.example/a?b=1", "https://h.example:443/a?b=1"),
        ("https://h.example:443/a", "https://h.example/a"),
        ("http://h.example/a", "http://h.example:80/a"),
        ("https://h.example:8443/a", "https://h.example:8443/a"),
        ("https://h.example:8443/a", "https://h.example/a"),
        ("https://u:p@h.example:8443/a", "https://u:p@h.example/a"),
        ("https://u:p@h.example/a", "https://u:p@h.example:443/a"),
        ("https://[2001:db8::1]/a", "https://[2001:db8::1]:443/a"),
        ("https://[2001:db8::1]:8443/a", "https://[2001:db8::1]/a"),
        ("https://h.example/a%20b?x=%e4&y=a+b&x=", "https://h.example:443/a%20b?x=%e4&y=a+b&x="),
        ("https://h.example?x=1", "https://h.example:443?x=1"),
    ],
)
def test_the_url_is_tried_with_and_without_its_port(ours: str, signed: str) -> None:
    assert verified(request(ours, given=sign("t", signed, _fields(SAMPLE_1))), _keys("t"))
    assert signed in url_variants(ours)


@pytest.mark.parametrize(
    ("ours", "signed"),
    [
        ("https://h.example/a", "http://h.example/a"),
        ("https://h.example/a", "https://h.example:8443/a"),
        ("https://h.example:8443/a", "https://h.example:443/a"),
        ("https://h.example/a?b=1&c=2", "https://h.example/a?c=2&b=1"),
        ("https://h.example/a%20b", "https://h.example/a+b"),
        ("https://h.example/a", "https://other.example/a"),
        ("https://h.example/a", "https://h.example/a/"),
    ],
)
def test_another_url_is_refused(ours: str, signed: str) -> None:
    given = sign("t", signed, _fields(SAMPLE_1))
    assert refused(request(ours, given=given), _keys("t")) == "signature"


def test_repeated_names_are_signed_with_each_distinct_value_in_order() -> None:
    body = b"Media=b&Media=a&Media=b&A="
    given = sign("t", URL, [("A", ""), ("Media", "a"), ("Media", "b")])
    assert verified(request(body=body, given=given), _keys("t"))


def test_fields_that_nobody_knows_yet_are_signed_and_kept() -> None:
    body = SAMPLE_1 + b"&NewIn2031=%E6%96%B0&Empty="
    given = sign("t", URL, [*_fields(SAMPLE_1), ("NewIn2031", "新"), ("Empty", "")])
    assert verified(request(body=body, given=given), _keys("t")).payload == body


def test_names_are_sorted_by_their_bytes_with_capitals_first() -> None:
    given = sign("t", URL, [("a", "1"), ("B", "2")])
    assert verified(request(body=b"a=1&B=2", given=given), _keys("t"))
    assert given == sign("t", URL + "B2a1")


def test_of_a_get_the_url_is_signed_and_the_query_is_the_payload() -> None:
    url = f"{URL}&From=%2B1500&Body="
    asked = request(url, b"", sign("t", url), method="GET", content_type="")
    assert verified(asked, _keys("t")).payload == b"acct=7&From=%2B1500&Body="


def test_both_tokens_of_a_rotation_are_good() -> None:
    for token in ("old", "new"):
        given = sign(token, URL, _fields(SAMPLE_1))
        assert verified(request(given=given), _keys("new", "old"))
    assert refused(request(given=sign("older", URL, _fields(SAMPLE_1))), _keys("new", "old"))


SHARED = SigningKeys(tokens=(Secret("t"),), shared={"webhooks_sharedkey_1": Secret("shared")})
SETTINGS = "x-twilio-webhooks-signature-settings"


def test_a_shared_key_signs_by_sha_256_when_the_header_says_so() -> None:
    given = sign("shared", URL, _fields(SAMPLE_1), "sha256")
    named = {SETTINGS: "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"}
    assert verified(request(given=given, **named), SHARED)
    spaced = {SETTINGS: " key=webhooks_sharedkey_1 , algorithm=HMAC_SHA256 "}
    assert verified(request(given=given, **spaced), SHARED)


@pytest.mark.parametrize(
    ("secret", "algorithm", "settings"),
    [
        ("shared", "sha256", ""),  # the header is taken away
        ("shared", "sha256", "key=webhooks_sharedkey_2,algorithm=HMAC_SHA256"),
        ("shared", "sha256", "key=webhooks_sharedkey_1,algorithm=HMAC_MD5"),
        ("shared", "sha256", "key=webhooks_sharedkey_1,algorithm=HMAC_SHA1"),  # downgraded
        ("shared", "sha256", "key=webhooks_sharedkey_1"),
        ("shared", "sha256", "algorithm=HMAC_SHA256"),
        ("shared", "sha1", ""),
        ("t", "sha256", "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"),
        ("t", "sha1", "key=webhooks_sharedkey_1,algorithm=HMAC_SHA1"),
        ("", "sha256", "key=,algorithm=HMAC_SHA256"),
    ],
)
def test_a_shared_key_is_good_for_its_own_name_and_algorithm_only(
    secret: str, algorithm: str, settings: str
) -> None:
    given = sign(secret, URL, _fields(SAMPLE_1), algorithm)
    assert refused(request(given=given, **{SETTINGS: settings}), SHARED)


# --- what forgers try ----------------------------------------------------------------------------


def _flip(text: str) -> str:
    return ("A" if text[0] != "A" else "B") + text[1:]


@pytest.mark.parametrize(
    "asked",
    [
        request(given=None),
        request(given=""),
        request(given="x"),
        request(given=_flip(SAMPLE_1_SIGNATURE)),
        request(given=SAMPLE_1_SIGNATURE.lower()),
        request(given="\udcff" * 28),
        request(given="签" * 28),
        request(body=SAMPLE_1.replace(b"NumMedia=0", b"NumMedia=1")),
        request(body=SAMPLE_1.replace(b"&FromCity=", b"")),
        request(body=SAMPLE_1 + b"&OptOutType=STOP"),
        request(body=b""),
        request(body=b"\xff\xfe"),
        request(body=b"a=1&" * 2000),
        request(url=URL + "&x=1"),
        request(url="https://hub.example.com/hooks/twilio/sms?acct=8"),
        request(url="https://hub.example.com/\udcff"),
        request(content_type="application/json"),
        request(content_type=""),
        request(method="GET"),
    ],
    ids=lambda asked: None,
)
def test_what_was_tampered_with_is_refused(asked: Request) -> None:
    assert refused(asked)


def test_another_accounts_token_is_refused() -> None:
    assert refused(request(given=sign("another", URL, _fields(SAMPLE_1)))) == "signature"


def test_no_keys_at_all_believe_nothing() -> None:
    """Not even what an empty token would have signed."""
    given = sign("", URL, _fields(SAMPLE_1))
    for keys in (SigningKeys(), _keys(""), SigningKeys(shared={"": Secret("")})):
        assert not keys
        assert refused(request(given=given), keys) == "signature"
    assert refused(request(given=given), _keys("", "t")) == "signature"


def test_a_body_cannot_be_slipped_under_a_signature_of_the_url_alone() -> None:
    empty = sign("t", URL)
    assert verified(request(body=b"", given=empty), _keys("t"))
    for kind in ("application/json", "text/plain", ""):
        slipped = request(body=b'{"a":1}', given=empty, content_type=kind)
        assert refused(slipped, _keys("t")) == "unsigned_body"


def test_a_body_that_is_not_the_one_that_was_hashed_is_refused() -> None:
    given = "rSE3WtSejUTAsVjC3kx8dLw6/Vw="
    other = request(JSON_URL, b'{"event":"x"}', given, content_type="application/json")
    assert refused(other) == "body_hash"
    as_form = request(JSON_URL, b"From=%2B1500", given)
    assert refused(as_form) == "body_hash"
    body = '{"event":"转接"}'.encode()
    two = f"{JSON_URL}&bodySHA256={body_hash(b'x')}"
    assert refused(
        request(two, body, sign("hubAuthToken0001", two), content_type="application/json")
    )


def test_a_replay_is_believed_because_nothing_signed_says_when() -> None:
    """So everything that is made of a request has a key of its own: see the channels' tests."""
    assert verified(request(), KEYS) == verified(request(), KEYS)


# --- the traps of Twilio's package, one by one, and that they are fenced ------------------


def test_trap_userinfo_with_a_port_and_ipv6_hosts_are_taken_apart_wrongly() -> None:
    url = "https://user:pass@h.example:8443/a"
    given = sign("t", "https://user:pass@h.example/a")
    assert not RequestValidator("t").validate(url, {}, given)
    assert verified(request(url, b"", given), _keys("t"))
    ipv6 = "https://[2001:db8::1]:8443/a"
    given = sign("t", "https://[2001:db8::1]/a")
    assert not RequestValidator("t").validate(ipv6, {}, given)
    assert verified(request(ipv6, b"", given), _keys("t"))


def test_trap_what_parse_qs_returns_is_not_taken() -> None:
    with pytest.raises(TypeError):
        RequestValidator("t").validate(URL, parse_qs(SAMPLE_1.decode()), "x")
    assert refused(request(given="x")) == "signature"


def test_trap_blanks_have_to_be_kept() -> None:
    dropped: Any = {name: value for name, value in _fields(SAMPLE_1) if value}
    validator = RequestValidator("hubAuthToken0001")
    assert not validator.validate(URL, dropped, SAMPLE_1_SIGNATURE)
    assert verified(request(), KEYS)


def test_trap_a_missing_header_raises_in_the_package() -> None:
    with pytest.raises(TypeError):
        RequestValidator("t").validate(URL, {}, None)
    assert refused(request(given=None)) == "no_signature"


def test_trap_bytes_and_unhashed_texts_raise_in_the_package() -> None:
    with pytest.raises(IndexError):
        RequestValidator("t").validate(URL, b"\x01", "x")
    with pytest.raises(TypeError):
        RequestValidator("t").validate(URL, "text", "x")
    assert refused(request(body=b"\x01", content_type="application/json")) == "unsigned_body"


def test_trap_the_package_does_not_look_at_a_bodys_hash_beside_a_dict() -> None:
    given = sign("t", JSON_URL)
    assert RequestValidator("t").validate(JSON_URL, {}, given)  # whatever the body was
    lied = request(JSON_URL, b"{}", given, content_type="application/json")
    assert refused(lied, _keys("t")) == "body_hash"


def _keys(*tokens: str) -> SigningKeys:
    return SigningKeys(tokens=tuple(map(Secret, tokens)))


def _fields(body: bytes) -> list[tuple[str, str]]:
    pairs = parse_qs(body.decode(), keep_blank_values=True)
    return [(name, value) for name, values in pairs.items() for value in values]
