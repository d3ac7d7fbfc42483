"""Tokens say which mail of ours is meant, and nobody else can make them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.mail.reading import (
    bounce_token,
    message_id,
    read_bounce_token,
    read_message_id,
    read_reply_token,
    reply_token,
)
from normalizer.addresses import mailbox

KEY = b"k" * 32
THREAD = "thr_01hzy3m8n5q7r9s1t3v5w7x9y1"
ENTRY = "ent_01hzy3m8n5q7r9s1t3v5w7x9y1"


def test_a_token_is_read_back_from_an_address_that_was_lowered_or_raised() -> None:
    address = f"support+{reply_token(THREAD, KEY)}@example.com"
    assert read_reply_token(address, KEY) == THREAD
    assert read_reply_token(address.upper(), KEY) == THREAD
    assert read_reply_token(mailbox(address).id, KEY) == THREAD
    assert read_bounce_token(f"<bounces+{bounce_token(ENTRY, KEY)}@example.com>", KEY) == ENTRY


def test_addresses_with_tokens_fit_into_mail() -> None:
    """RFC 5321 gives the part before the @ 64 characters."""
    assert len(f"customer-care+{reply_token(THREAD, KEY)}") <= 64
    assert len(f"bounces+{bounce_token(ENTRY, KEY)}") <= 64


def test_a_message_id_names_entry_and_thread_and_is_the_same_each_time() -> None:
    made = message_id(ENTRY, THREAD, "mail.example.com", KEY)
    assert made == message_id(ENTRY, THREAD, "mail.example.com", KEY)
    found = read_message_id(made, KEY)
    assert found is not None
    assert (found.entry, found.thread) == (ENTRY, THREAD)


def test_a_token_of_one_kind_is_none_of_another() -> None:
    assert read_bounce_token(f"a+{reply_token(ENTRY, KEY)}@b.cn", KEY) == ""
    assert read_reply_token(f"a+{bounce_token(THREAD, KEY)}@b.cn", KEY) == ""


def test_another_key_reads_nothing() -> None:
    other = b"o" * 32
    assert read_reply_token(f"a+{reply_token(THREAD, KEY)}@b.cn", other) == ""
    assert read_bounce_token(f"a+{bounce_token(ENTRY, KEY)}@b.cn", other) == ""
    assert read_message_id(message_id(ENTRY, THREAD, "b.cn", KEY), other) is None


@given(st.integers(0, 200), st.sampled_from("abc234z_."))
def test_a_token_with_another_letter_is_none(at: int, letter: str) -> None:
    token = reply_token(THREAD, KEY)
    at %= len(token)
    if token[at] != letter:
        assert read_reply_token(f"a+{token[:at]}{letter}{token[at + 1 :]}@b.cn", KEY) == ""


@pytest.mark.parametrize("ident", ["", "THR_1", "thr.1", "thr 1", "thr+1", "x" * 41, "thr\n"])
def test_an_id_that_would_not_survive_a_mail_address_is_refused(ident: str) -> None:
    with pytest.raises(ValueError, match="lower case"):
        reply_token(ident, KEY)


def test_no_token_without_a_key() -> None:
    with pytest.raises(ValueError, match="need a key"):
        reply_token(THREAD, b"")
    assert read_reply_token(f"a+{reply_token(THREAD, KEY)}@b.cn", b"") == ""


@given(st.text(max_size=120))
def test_any_text_is_no_token(text: str) -> None:
    assert read_reply_token(text, KEY) == ""
    assert read_bounce_token(text, KEY) == ""
    assert read_message_id(text, KEY) is None
