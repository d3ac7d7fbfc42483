"""A long text becomes messages that fit, and which together are the text again."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from connectors.weibo.splitting import MOST_UNITS, split_text, units
from tests.support.scale import scaled

SIGNS = st.sampled_from(
    ["长", "a", " ", "\n", "。", "，", "😀", "👨‍👩‍👧", "é", "[doge]", "http://t.cn/a"]
)


@settings(deadline=None, max_examples=scaled(50, 2000))
@given(st.lists(SIGNS, max_size=900).map("".join))
@example("\u0301" * 900)
@example("a" * 299 + "\u200d" * 10)
@example("http://" + "a" * 900)
def test_nothing_is_lost_and_every_piece_fits(text: str) -> None:
    pieces = split_text(text)
    assert "".join(pieces) == text
    assert all(units(piece) <= MOST_UNITS for piece in pieces)
    assert all(pieces) or not text


@pytest.mark.parametrize("text", ["", "短", "长" * 299, "😀" * 149])
def test_a_text_that_fits_is_not_cut(text: str) -> None:
    assert split_text(text) == [text]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("长" * 300, "长" * 299),
        ("😀" * 150, "😀" * 149),
        ("长" * 200 + "\n" + "长" * 200, "长" * 200 + "\n"),
        ("长" * 160 + "。" + "长" * 100 + "，" + "长" * 200, "长" * 160 + "。"),
        ("word " * 100, "word " * 59),
        ("长" * 296 + "[doge]" + "长", "长" * 296),
        ("长" * 290 + "http://t.cn/zQexmpl 长", "长" * 290),
        ("长" * 298 + "👨‍👩‍👧长", "长" * 298),
        ("长" * 298 + "e\u0301长", "长" * 298),
        ("长" * 10 + "。" + "长" * 400, "长" * 10 + "。" + "长" * 288),
    ],
    ids=[
        "just over",
        "emoji count twice",
        "at a line",
        "at a sentence",
        "at a word",
        "not in a face",
        "not in a link",
        "not in a family",
        "not before an accent",
        "not too early",
    ],
)
def test_it_is_cut_where_a_reader_would_pause(text: str, first: str) -> None:
    assert split_text(text)[0] == first
