"""What vendors say of a send is shown without the people in it."""

from __future__ import annotations

import pytest

from normalizer.masking import MOST, masked


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("550 5.1.1 <li.lei@example.com>: unknown user", "550 5.1.1 <***>: unknown user"),
        ("invalid number +8613912345678", "invalid number ***"),
        ("invalid number 13912345678!", "invalid number ***!"),
        ("to +86 139-1234-5678 failed", "to *** failed"),
        ("openid oHubUser0001 is not a fan", "openid *** is not a fan"),
        ("errcode 45015, rid: 65f1a2b3-1234567890", "errcode 45015, rid: 65f1a2b3-1234567890"),
        ("李雷@例子.中国 does not exist", "*** does not exist"),
        ("", ""),
    ],
)
def test_people_are_taken_out_and_the_rest_stays(said: str, shown: str) -> None:
    assert masked(said, "oHubUser0001") == shown


def test_a_short_name_is_no_reason_to_take_letters_out_of_words() -> None:
    assert masked("a is at the door", "a") == "a is at the door"


def test_it_is_never_long() -> None:
    assert len(masked("x" * 10_000_000)) == MOST
    assert len(masked("a" * 5000 + "@" + "b" * 5000)) <= MOST
