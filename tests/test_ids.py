"""Ids sort, never repeat, never go back within a process, and give nobody away.

Nothing is faked but the process' clock, where a test turns it back.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.ids import (
    ID_CHARS,
    SpaceKey,
    Ulids,
    decode128,
    earliest_id,
    encode128,
    event_id,
    event_position,
    new_id,
)

NUMBERS = st.integers(0, 2**128 - 1)
KEY = SpaceKey(bytes(range(32)))


@given(value=NUMBERS)
def test_a_number_comes_back_from_its_26_characters(value: int) -> None:
    text = encode128(value)
    assert len(text) == ID_CHARS
    assert set(text) <= set("0123456789abcdefghjkmnpqrstvwxyz")
    assert decode128(text) == value


@given(one=NUMBERS, other=NUMBERS)
def test_texts_sort_like_their_numbers(one: int, other: int) -> None:
    assert (encode128(one) < encode128(other)) is (one < other)


@pytest.mark.parametrize(
    "text", ["", "0" * 25, "0" * 27, "8" + "0" * 25, "u" * 26, "A" * 26, "0" * 25 + "i", "０" * 26]
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="26 characters of Crockford"):
        decode128(text)


# --- in the order of arrival ---------------------------------------------------------------------


def test_ids_of_a_process_rise_and_carry_their_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [new_id("in") for _ in range(5000)]
    after = time.time_ns() // 1_000_000
    assert ids == sorted(set(ids))
    assert all(ident.startswith("in_") for ident in ids)
    assert before <= decode128(ids[0][3:]) >> 80 <= decode128(ids[-1][3:]) >> 80 <= after


def test_ids_rise_even_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([5_000_000_000, 4_000_000_000, 1_000_000, 5_000_000_000, 5_001_000_000])
    monkeypatch.setattr(time, "time_ns", lambda: next(times))
    ulids = Ulids()
    ids = [ulids.new("in") for _ in range(5)]
    assert ids == sorted(set(ids))
    assert [decode128(ident[3:]) >> 80 for ident in ids] == [5000, 5000, 5000, 5000, 5001]


def test_threads_never_get_the_same_id() -> None:
    found: list[list[str]] = [[] for _ in range(8)]
    ulids = Ulids()
    threads = [
        threading.Thread(target=lambda mine=mine: mine.extend(ulids.new("x") for _ in range(2000)))
        for mine in found
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({ident for mine in found for ident in mine}) == 16_000
    assert all(mine == sorted(mine) for mine in found)


def test_two_processes_do_not_meet_within_one_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 7_000_000)
    assert Ulids().new("in") != Ulids().new("in")


def test_the_earliest_id_of_a_moment_is_below_all_that_were_made_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moment = datetime(2026, 3, 2, 9, 0, 0, 5_000, tzinfo=UTC)
    monkeypatch.setattr(time, "time_ns", lambda: int(moment.timestamp() * 1000) * 1_000_000)
    made = Ulids().new("in")
    later = datetime(2026, 3, 2, 9, 0, 0, 6_000, tzinfo=UTC)
    assert earliest_id("in", moment) <= made < earliest_id("in", later)


# --- under the space's key -----------------------------------------------------------------------


def test_equal_texts_have_equal_ids_for_ever() -> None:
    """These are stored: a change of the scheme would double every customer."""
    assert KEY.hashed("adr", "tel::number:+8613800138000") == "adr_78ad9rnyy9kdyk89gw04g3pvfe"
    assert KEY.fingerprint == "3c31e9d222021e8ba4b979b5612bf40a"


def test_ids_tell_nothing_without_the_key_and_differ_by_prefix() -> None:
    other = SpaceKey(bytes(range(1, 33)))
    ids = {KEY.hashed("adr", "x"), KEY.hashed("ent", "x"), other.hashed("adr", "x")}
    assert len({ident.partition("_")[2] for ident in ids}) == 3


@given(one=st.text(), other=st.text())
def test_different_texts_have_different_ids(one: str, other: str) -> None:
    assert (KEY.hashed("ent", one) == KEY.hashed("ent", other)) is (one == other)


def test_labels_derive_keys_of_their_own() -> None:
    keys = {KEY.derive(label) for label in ("ids", "cursors", "tokens", "")}
    assert len(keys) == 4
    assert {len(key) for key in keys} == {32}
    assert KEY.derive("ids") == SpaceKey(bytes(range(32))).derive("ids")


def test_a_key_never_shows_itself() -> None:
    assert repr(KEY) == f"<SpaceKey {KEY.fingerprint[:8]}>"
    assert bytes(range(32)).hex() not in str(vars(KEY)["fingerprint"])


def test_a_key_needs_32_bytes() -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        SpaceKey(b"1" * 31)


# --- events --------------------------------------------------------------------------------------


@given(generation=st.integers(0, 2**40), position=st.integers(0, 2**63))
def test_an_event_id_holds_generation_and_position(generation: int, position: int) -> None:
    assert event_position(event_id(generation, position)) == (generation, position)


def test_event_ids_sort_by_generation_and_then_by_position() -> None:
    pairs = [(1, 1), (1, 2), (1, 2**40), (2, 0), (2, 9)]
    ids = [event_id(*pair) for pair in pairs]
    assert ids == sorted(ids)


@pytest.mark.parametrize("text", ["", "evt", "evt_", "ent_" + "0" * 26, "evt_" + "0" * 25])
def test_what_is_no_event_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"starts with evt_|26 characters"):
        event_position(text)
