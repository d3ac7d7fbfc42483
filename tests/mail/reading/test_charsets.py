"""Bytes become text under any label; what was written in a charset of its name is read as such."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.mail.reading.charsets import codec_of, decode

LABELS = st.sampled_from(
    [
        "", "gb2312", "gbk", "big5", "utf-8", "utf-7", "utf-16", "utf-32", "hz", "iso-2022-jp",
        "iso-2022-kr", "euc-jp", "koi8-r", "windows-1251", "us-ascii", "iso-8859-1", "x-user",
        "hex", "idna", "unicode_escape", "cp037", "utf_8_sig", "macroman", "unknown-8bit",
    ]
)  # fmt: skip


@given(st.binary(max_size=300), LABELS | st.text(max_size=20))
def test_any_bytes_are_text_under_any_label(raw: bytes, label: str) -> None:
    decode(raw, label).encode()  # no half characters, which could not be stored


@pytest.mark.parametrize(
    ("said", "charset"),
    [
        ("您好，我的订单什么时候发货？", "gb18030"),
        ("您好，我的订单什么时候发货？", "gbk"),
        ("您好，我的訂單什麼時候出貨？", "big5"),
        ("您好，我的订单😀", "utf-8"),
        ("您好", "utf-16"),
        ("您好", "hz"),
        ("注文はいつ届きますか", "iso-2022-jp"),
        ("注文はいつ届きますか", "shift_jis"),
        ("주문은 언제 오나요", "euc-kr"),
        ("Где мой заказ?", "windows-1251"),
        ("Где мой заказ?", "koi8-r"),
        ("Où est ma commande ?", "iso-8859-15"),
    ],
)
def test_what_says_its_charset_is_read_in_it(said: str, charset: str) -> None:
    assert decode(said.encode(charset), charset) == said


@pytest.mark.parametrize("label", ["", "us-ascii", "iso-8859-1", "unknown-8bit", "x-gbk", "utf-8"])
@pytest.mark.parametrize("charset", ["gbk", "utf-8"])
def test_chinese_under_a_wrong_label_is_still_chinese(label: str, charset: str) -> None:
    said = "您好，我的订单 20231115 到现在还没有发货，请尽快处理，谢谢！"
    assert decode(said.encode(charset), label) == said


@pytest.mark.parametrize("label", ["hex", "rot13", "zlib", "idna", "punycode", "undefined", "mbcs"])
def test_what_is_no_charset_is_not_used_as_one(label: str) -> None:
    assert codec_of(label) == ""
