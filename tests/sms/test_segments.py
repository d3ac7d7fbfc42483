"""Parts and encodings: at every border, with every kind of character that counts twice."""

from __future__ import annotations

import pytest

from connectors.sms.segments import GSM7, UCS2, segments


@pytest.mark.parametrize(
    ("text", "encoding", "units", "parts"),
    [
        ("", GSM7, 0, 0),
        ("a" * 160, GSM7, 160, 1),
        ("a" * 161, GSM7, 161, 2),
        ("a" * 306, GSM7, 306, 2),
        ("a" * 307, GSM7, 307, 3),
        ("@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ", GSM7, 31, 1),
        ("ÄÖÑÜ§¿äöñüà¡¤", GSM7, 13, 1),
        ("^{}\\[~]|€\f", GSM7, 20, 1),
        ("€" * 80, GSM7, 160, 1),
        ("€" * 81, GSM7, 162, 2),
        ("a" * 159 + "€", GSM7, 161, 2),
        # a pair of septets is not split: 152 + a pair does not fit into 153
        ("a" * 152 + "€" * 77, GSM7, 306, 3),
        ("你" * 70, UCS2, 70, 1),
        ("你" * 71, UCS2, 71, 2),
        ("你" * 134, UCS2, 134, 2),
        ("你" * 135, UCS2, 135, 3),
        ("a" * 70 + "’", UCS2, 71, 2),  # one curly quote turns the whole text
        ("😀" * 35, UCS2, 70, 1),
        ("😀" * 36, UCS2, 72, 2),
        # a surrogate pair is not split: 66 + 2 does not fit into 67
        ("你" * 66 + "😀" * 34, UCS2, 134, 3),
        ("ç", UCS2, 1, 1),  # GSM 03.38 has the capital only
        ("`", UCS2, 1, 1),
        ("\t", UCS2, 1, 1),
    ],
)
def test_a_text_is_counted_as_the_networks_count(
    text: str, encoding: str, units: int, parts: int
) -> None:
    found = segments(text)
    assert (found.encoding, found.units, found.parts) == (encoding, units, parts)


def test_what_forces_the_dear_encoding_is_named() -> None:
    assert segments("It’s “fine” – 好").forced_by == "’“”–好"
    assert segments("plain").forced_by == ""


def test_what_is_left_in_the_last_part_is_known() -> None:
    assert segments("a" * 150).left == 10
    assert segments("你" * 71).left == 67 - 4
    assert segments("").left == 160
