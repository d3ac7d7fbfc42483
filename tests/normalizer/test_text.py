"""Texts: nothing is lost that was said, and nothing is kept that deceives or breaks."""

from __future__ import annotations

import json
import time
import unicodedata
from typing import Any

import bson
import msgspec
import pytest
from hypothesis import given

from normalizer.text import (
    MAX_DATA_CHARS,
    MAX_DATA_DEPTH,
    MAX_DATA_VALUES,
    MAX_TEXT_CHARS,
    clean_data,
    clean_line,
    clean_text,
    cut,
    grapheme_length,
    identifier,
    well_formed,
)
from tests.normalizer import strategies

FAMILY = "👨\u200d👩\u200d👧\u200d👦"
CHINA, GERMANY = "🇨🇳", "🇩🇪"
ENGLAND = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"

KEPT = {
    "ascii": "hello, is this still available?",
    "lines": "first\n\tsecond",
    "simplified": "请问双十一的优惠还在吗？",
    "traditional": "請問還有現貨嗎？謝謝臺灣龜鬱",
    "gb18030 rarities": "䶮𠀀㐂𠮷𡃁𬭼丂朱镕基",
    "private use of old fonts": "\ue5e5\U000f0000",
    "full-width": "ＡＢＣ１２３　！",
    "family": FAMILY,
    "flags": CHINA + GERMANY + ENGLAND,
    "keycap and text style": "1\ufe0f\u20e3 ❤\ufe0f ☺\ufe0e",
    "skin tone": "👍🏽",
    "persian joiner": "می\u200cخواهم",
    "hebrew with marks": "שָׁלוֹם\u200f!",
    "hindi": "क्षत्रिय",
    "thai": "น้ำ",
    "wechat and weibo faces": "/:rose [微笑] [doge]",
    "soft hyphen, zero-width space": "a\u00adb\u200bc",
    "replacement": "\ufffd",
}


@pytest.mark.parametrize("name", KEPT)
def test_what_people_write_is_kept_to_the_letter(name: str) -> None:
    assert clean_text(KEPT[name]) is KEPT[name]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\r\nb\rc\n\rd", "a\nb\nc\n\nd"),
        ("a\x00b\x07c\x1b[31md\x7fe\x85f\x9fg", "abc[31mdefg"),
        ("\u202egpj.exe\u202c", "gpj.exe"),
        ("\u2066a\u2067b\u2068c\u2069\u202ad\u202be\u202df", "abcdef"),
        ("cafe\u0301", "café"),
        ("か\u3099", "が"),
        ("\u1112\u1161\u11ab", "한"),
        ("\uf900\ufa19", "豈神"),
        ("a\ud800b", "a\ufffdb"),
        ("\udc00\ud83d", "\ufffd\ufffd"),
        ("\ud83d\ude00!", "😀!"),
        ("e\x00\u0301", "é"),
    ],
)
def test_controls_overrides_and_odd_forms_are_cleaned(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned
    assert clean_text(cleaned) is cleaned


def test_a_text_at_the_limit_is_whole_and_one_above_says_what_is_missing() -> None:
    assert clean_text("字" * MAX_TEXT_CHARS) == "字" * MAX_TEXT_CHARS
    kept, _, note = clean_text("字" * (MAX_TEXT_CHARS + 1)).rpartition("\n")
    assert len(kept) + len(note) < MAX_TEXT_CHARS
    assert note == f"[{MAX_TEXT_CHARS + 1 - len(kept)} more characters]"
    assert set(kept) == {"字"}


def test_a_text_that_shrinks_under_the_limit_still_says_that_something_is_missing() -> None:
    huge = "a" + "\x00" * 5 * MAX_TEXT_CHARS + "b"
    assert clean_text(huge) == f"a\n[{5 * MAX_TEXT_CHARS + 1} more characters]"


@pytest.mark.parametrize("cluster", [FAMILY, CHINA, ENGLAND, "e\u0323\u0301", "1\ufe0f\u20e3"])
@pytest.mark.parametrize("shift", range(8))
def test_a_text_is_never_cut_inside_a_grapheme(cluster: str, shift: int) -> None:
    text = "x" * shift + cluster * 40
    for limit in range(20, 60):
        kept = cut(text, limit)
        assert limit - len(cluster) < len(kept) <= limit
        assert (len(kept) - shift) % len(cluster) == 0
        assert text.startswith(kept)


def test_what_has_no_room_for_its_first_grapheme_becomes_empty() -> None:
    assert cut(FAMILY, 3) == ""
    assert cut("ab", 0) == cut("ab", -5) == ""
    assert cut(FAMILY, len(FAMILY)) == FAMILY


def test_a_grapheme_that_no_writing_needs_is_cut_through() -> None:
    assert cut("a" + "\u0301" * 1000, 500) == "a" + "\u0301" * 499


def test_marks_without_end_take_no_time_and_keep_the_letters() -> None:
    """Bringing n marks into order takes n squared: 100 000 would stop the router for minutes."""
    started = time.process_time()
    cleaned = clean_text("妖" + "\u0301\u0316" * 100_000 + "怪")
    assert time.process_time() - started < 5
    assert cleaned.startswith("妖")
    assert len(clean_text("妖" + "\u0301\u0316" * 1000 + "怪")) == 32
    assert clean_text("a" + "\u0316\u0301" * 10 + "b") == unicodedata.normalize(
        "NFC", "a" + "\u0316\u0301" * 10 + "b"
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("订单问题", "订单问题"),
        ("  Re:\t订单\u3000问题  ", "Re: 订单 问题"),
        ("Hi\r\nBcc: victim@example.com", "Hi Bcc: victim@example.com"),
        ("a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g", "a b c d e f g"),
        ("a \u202e b", "a b"),
        ("张\x00三", "张三"),
        ("\ud800", "\ufffd"),
        ("", ""),
        (" \n ", ""),
        ("e \x00\u0301", "e \u0301"),
    ],
)
def test_a_line_is_one_line(text: str, line: str) -> None:
    assert clean_line(text) == line
    assert clean_line(line) is line


def test_a_long_line_ends_in_an_ellipsis_within_its_limit() -> None:
    assert clean_line("字" * 201, 200) == "字" * 199 + "…"
    assert clean_line("字" * 200, 200) == "字" * 200
    assert clean_line("ab " * 100, 7) == "ab ab…"
    assert clean_line("a" + " " * 5000, 200) == "a…"


@given(strategies.text)
def test_cleaning_twice_changes_nothing_more_and_all_can_be_encoded(text: str) -> None:
    for clean in (clean_text, clean_line, lambda t: clean_line(t, 3), well_formed, identifier):
        cleaned = clean(text)
        assert clean(cleaned) == cleaned
        cleaned.encode()
    assert unicodedata.is_normalized("NFC", clean_text(text))
    assert "\n" not in clean_line(text)


def test_ids_that_differ_stay_different() -> None:
    assert identifier("a\ud800") == "a\\ud800" != identifier("a\ud801")
    assert identifier("a\x00 李") == "a\x00 李"


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("", 0),
        ("hello", 5),
        ("a\r\nb", 3),
        ("你好😀", 3),
        ("好\r\n好", 3),
        ("\n\u0301", 2),
        (FAMILY, 1),
        (FAMILY * 3, 3),
        (CHINA + GERMANY, 2),
        (CHINA + "🇩", 2),
        (CHINA + "x" + GERMANY, 3),
        (ENGLAND, 1),
        ("👍🏽👍", 2),
        ("1\ufe0f\u20e3", 1),
        ("❤\ufe0f\u200d🔥", 1),
        ("👩\u200d⚕\ufe0f", 1),
        ("🧔\u200d\U0001fae9", 1),
        ("a\u200db", 2),
        ("e\u0301", 1),
        ("\u0301", 1),
        ("한국", 2),
        ("\u1112\u1161\u11ab", 1),
        ("น้ำ", 1),
        ("ｶﾞ", 1),
        ("कि", 1),
        ("𠮷野家", 3),
    ],
)
def test_graphemes_are_counted_as_a_person_counts(text: str, length: int) -> None:
    assert grapheme_length(text) == length


@given(strategies.text)
def test_a_cut_text_counts_its_graphemes_like_the_whole_does(text: str) -> None:
    assert 0 <= grapheme_length(text) <= len(text)
    for at in range(len(text)):
        kept = cut(text, at)
        assert grapheme_length(kept) + grapheme_length(text[len(kept) :]) <= len(text)
        assert text.startswith(kept)


# --- data ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "cleaned"),
    [
        ({"a": 1, "b": [True, None, 0.5, "好"]}, {"a": 1, "b": [True, None, 0.5, "好"]}),
        ({"a\x00b": "c\x00d\ud800"}, {"ab": "cd\ufffd"}),
        ({"$where": 1, "a.b.c": 2, "": 3}, {"＄where": 1, "a．b．c": 2, "_": 3}),
        ({"a.b": 1, "a．b": 2, "a\x00.b": 3}, {"a．b": 1, "a．b_": 2, "a．b__": 3}),
        ({"x": {"$set": {"": {"y.z": 1}}}}, {"x": {"＄set": {"_": {"y．z": 1}}}}),
        ({"n": float("nan"), "i": [float("inf"), -float("inf")]}, {"n": None, "i": [None, None]}),
        ({"big": 2**63, "small": -(2**63)}, {"big": "9223372036854775808", "small": -(2**63)}),
        ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
        ({"t": (1, 2), "b": b"\x00\x01"}, {"t": [1, 2], "b": "AAE="}),
        ({"o": complex(1, 2)}, {"o": "(1+2j)"}),
        ({"k" * 300: 1}, {"k" * 200: 1}),
        ({"k" * 199 + " x": 1}, {"k" * 199: 1}),
    ],
)
def test_data_is_made_to_fit_json_and_bson(data: dict[str, Any], cleaned: dict[str, Any]) -> None:
    assert clean_data(data) == cleaned


def test_data_that_fits_is_handed_on_as_it_is() -> None:
    data = {"scene": "门店_12", "list": [{"via": "qr"}]}
    assert clean_data(data) is data
    empty: dict[str, Any] = {}
    assert clean_data(empty) is empty


def test_a_number_too_long_to_write_out_is_kept_in_hexadecimal() -> None:
    assert clean_data({"n": 16**9999})["n"] == "0x1" + "0" * 9999


def _depth(data: Any) -> int:
    if isinstance(data, dict):
        return 1 + max(map(_depth, data.values()), default=0)
    if isinstance(data, list):
        return 1 + max(map(_depth, data), default=0)
    return 0


def test_data_is_bounded_in_depth_number_and_size() -> None:
    deep: Any = "core"
    for level in range(50):
        deep = {"d": deep} if level % 2 else [deep]
    cleaned = clean_data({"top": deep, "beside": 1})
    assert _depth(cleaned) == MAX_DATA_DEPTH
    assert cleaned["beside"] == 1

    assert len(clean_data({str(n): n for n in range(9000)})) == MAX_DATA_VALUES
    assert len(clean_data({"l": list(range(9000))})["l"]) == MAX_DATA_VALUES - 1

    texts = clean_data({str(n): "字" * 60_000 for n in range(9)})
    assert sum(map(len, texts)) + sum(map(len, texts.values())) == MAX_DATA_CHARS
    assert clean_data(texts) is texts


def test_a_key_for_which_there_is_no_room_takes_no_value_along() -> None:
    full = {"a": "x" * 65_000, "b": "x" * 65_000, "c": "x" * 65_000, "d": "x" * 65_000}
    rest = MAX_DATA_CHARS - 4 * 65_001
    data = {**full, "e" * 100: "y" * (rest - 150), "f" * 100: "z"}
    assert list(clean_data(data)) == ["a", "b", "c", "d", "e" * 100]


@given(strategies.mapping)
def test_any_data_can_be_stored_and_sent_and_is_cleaned_once(data: dict[str, Any]) -> None:
    cleaned = clean_data(data)
    assert clean_data(cleaned) is cleaned
    assert bson.decode(bson.encode(cleaned)) == cleaned
    assert msgspec.json.decode(msgspec.json.encode(cleaned)) == cleaned
    assert json.loads(json.dumps(cleaned, allow_nan=False)) == cleaned
