"""Who wrote, and words that are a wish: what counts as one, and what is only a message."""

from __future__ import annotations

import pytest

from connectors.sms.keywords import folded, is_yes, opt_in, opt_out
from connectors.sms.senders import number_of, sender_address, split_via
from normalizer.addresses import parse_address
from normalizer.outcomes import Unreachable


@pytest.mark.parametrize(
    "text",
    ["STOP", "stop", " Stop\n", "UNSUBSCRIBE", "END", "QUIT", "STOPALL", "REVOKE", "OPTOUT",
     "CANCEL", "TD", "td", "T", "ＴＤ", "ｔ", "退订", " 退订 ", "退訂", "回T退订"],
)  # fmt: skip
def test_a_lone_word_means_no_more(text: str) -> None:
    assert opt_out(text)
    assert not opt_in(text)


@pytest.mark.parametrize("text", ["START", "unstop", " Start "])
def test_a_lone_word_means_again(text: str) -> None:
    assert opt_in(text)
    assert not opt_out(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "please stop", "STOP it", "你好😀 退订?", "不要退订", "TT", "stop.", "T恤", "startup",
     "help", "info", "停", "x" * 5000, "stop" * 100, "\x00"],
)  # fmt: skip
def test_more_than_the_word_is_a_message(text: str) -> None:
    assert not opt_out(text)
    assert not opt_in(text)
    assert not is_yes(text)


def test_an_account_may_have_words_of_its_own() -> None:
    assert opt_out("NO MÁS", ["No más"])
    assert opt_in("re join", ["RE JOIN"])
    assert not opt_out("", [""])


def test_words_are_compared_in_one_spelling() -> None:
    assert folded(" ＳＴＯＰ ") == "stop"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("+8613800138000", "tel::e164:+8613800138000"),
        ("+85291234567", "tel::e164:+85291234567"),
        ("10086", "sms:main:sender:10086"),
        ("95588", "sms:main:sender:95588"),
        ("+8610086", "sms:main:sender:+8610086"),
        ("12345", "sms:main:sender:12345"),
        ("106575258192144", "sms:main:sender:106575258192144"),
        ("4008001234", "sms:main:sender:4008001234"),
        ("ACME Shop", "sms:main:sender:ACME%20Shop"),
        ("", "sms:main:sender:withheld"),
        ("\x00\u202e", "sms:main:sender:withheld"),
        ("x" * 600, f"sms:main:sender:{'x' * 64}-5130b33e6b87fbf5"),
    ],
)
def test_only_numbers_of_people_are_phone_addresses(text: str, address: str) -> None:
    """Nothing is merged on a short code, a service number or a name."""
    for international in (True, False):
        found = sender_address(text, "main", region="CN", international=international)
        assert str(found) == address


@pytest.mark.parametrize(
    "text", ["13800138000", "008613800138000", "＋8613800138000", "+86 138-0013-8000"]
)
def test_domestic_spellings_are_one_number(text: str) -> None:
    found = sender_address(text, "main", region="CN", international=False)
    assert str(found) == "tel::e164:+8613800138000"


def test_a_way_is_split_off_before_the_number_is_read() -> None:
    assert split_via("whatsapp:+8613800138000") == ("whatsapp", "+8613800138000")
    assert split_via("+8613800138000") == ("", "+8613800138000")
    assert split_via("tel:+1") == ("", "tel:+1")


def test_what_is_no_number_cannot_be_answered() -> None:
    assert number_of(parse_address("tel::e164:+8613800138000")) == "+8613800138000"
    with pytest.raises(Unreachable, match="another channel"):
        number_of(parse_address("sms:main:sender:10086"))
