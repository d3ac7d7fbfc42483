"""Documents become what is stored and come back; sealed values open with their key and place only.

Nothing is faked: AES-256-GCM is real. How whole spaces are sealed is in ``test_sealing.py``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.documents import AddressDoc, Customer
from hub.store.codec import MAX_ITEM_BYTES, Codec, FieldCipher, unstorable
from hub.store.interface import NewerSchema, NotStorable, StoreError
from normalizer.drafts import Profile
from tests.store.spaces import NOW, Thing, item

KEYS = {"k1": b"1" * 32, "k2": b"2" * 32}
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def cipher(current: str = "k1") -> FieldCipher:
    return FieldCipher(KEYS, current)


@given(value=PLAIN)
def test_what_is_sealed_opens_as_it_was(value: Any) -> None:
    sealed = cipher().seal(value, "addresses.address")
    assert cipher("k2").open(sealed, "addresses.address") == value


def test_times_survive_sealing() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    assert cipher().open(cipher().seal({"at": moment}, "p"), "p") == {"at": moment}


def test_the_same_value_never_looks_the_same() -> None:
    assert cipher().seal("x", "p") != cipher().seal("x", "p")


def test_a_sealed_value_says_which_key_and_nothing_else() -> None:
    sealed = cipher("k2").seal("secret", "p")
    assert set(sealed) == {"k", "c"}
    assert sealed["k"] == "k2"
    assert b"secret" not in sealed["c"]


@pytest.mark.parametrize("place", ["addresses.profile", "customers.address", ""])
def test_a_sealed_value_opens_at_its_place_only(place: str) -> None:
    with pytest.raises(StoreError, match="does not open with its key"):
        cipher().open(cipher().seal("x", "addresses.address"), place)


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_changed_bit_is_found(at: int, bit: int) -> None:
    sealed = cipher().seal("thirteen digits", "p")
    box = bytearray(sealed["c"])
    box[at % len(box)] ^= 1 << bit
    with pytest.raises(StoreError, match="does not open with its key"):
        cipher().open({"k": "k1", "c": bytes(box)}, "p")


def test_another_key_under_the_same_id_opens_nothing() -> None:
    sealed = cipher().seal("x", "p")
    with pytest.raises(StoreError, match="does not open with its key 'k1'"):
        FieldCipher({"k1": b"3" * 32}, "k1").open(sealed, "p")


def test_a_key_that_is_not_configured_is_named() -> None:
    sealed = cipher().seal("x", "customers.name")
    with pytest.raises(StoreError, match=r"customers\.name is encrypted with key 'k1': add"):
        FieldCipher({"k2": b"2" * 32}, "k2").open(sealed, "customers.name")


def test_the_current_key_has_to_be_there() -> None:
    with pytest.raises(ValueError, match="'k9' is not among the configured keys"):
        FieldCipher(KEYS, "k9")


def test_a_cipher_shows_no_key() -> None:
    assert "1111" not in repr(cipher())


def test_whole_records_are_sealed_for_the_spool() -> None:
    sealed = cipher().seal_bytes(b"a record")
    assert b"a record" not in sealed
    assert cipher("k2").open_bytes(sealed) == b"a record"
    with pytest.raises(StoreError):
        cipher().open_bytes(sealed[:-1] + bytes([sealed[-1] ^ 1]))


# --- documents ----------------------------------------------------------------------------------


def test_a_document_keeps_its_schema_beside_its_fields_and_leaves_defaults_out() -> None:
    assert Codec().encode(Thing(id="a", n=2)) == {"_id": "a", "n": 2, "v": 1}


def test_only_sealed_fields_are_sealed() -> None:
    doc = AddressDoc(id="adr_1", scheme="tel", address="tel:+1", profile=Profile(name="Li"))
    codec = Codec(cipher())
    row = codec.encode(doc)
    assert row["scheme"] == "tel"
    assert set(row["address"]) == set(row["profile"]) == {"k", "c"}
    assert codec.decode(AddressDoc, dict(row)) == doc


def test_a_default_is_not_sealed_because_it_is_not_stored() -> None:
    assert "name" not in Codec(cipher()).encode(Customer(id="cus_1", created_at=NOW, seen_at=NOW))


def test_what_was_written_in_clear_stays_readable_with_a_key() -> None:
    doc = AddressDoc(id="adr_1", scheme="tel", address="tel:+1")
    assert Codec(cipher()).decode(AddressDoc, Codec().encode(doc)) == doc


def test_without_a_key_a_sealed_field_is_no_empty_one() -> None:
    row = Codec(cipher()).encode(AddressDoc(id="adr_1", scheme="tel", address="tel:+1"))
    with pytest.raises(StoreError, match=r"addresses\.address is encrypted and no key"):
        Codec().decode(AddressDoc, row)


def test_a_later_schema_is_refused_and_an_earlier_one_read() -> None:
    with pytest.raises(NewerSchema, match="run the newer release, or restore the backup"):
        Codec().decode(Thing, {"_id": "a", "v": 2})
    assert Codec().decode(Thing, {"_id": "a"}) == Thing(id="a")


def test_fields_that_a_later_release_added_do_no_harm() -> None:
    assert Codec().decode(Thing, {"_id": "a", "v": 1, "new": 1}) == Thing(id="a")


def test_a_broken_document_is_named_and_its_content_is_not() -> None:
    with pytest.raises(StoreError, match="x_suite_things a is not what") as raised:
        Codec().decode(Thing, {"_id": "a", "n": "secret"})
    assert "secret" not in str(raised.value)


def test_what_is_no_value_cannot_be_stored() -> None:
    with pytest.raises(NotStorable, match="x_suite_things a"):
        Codec().encode(Thing(id="a", data={"x": object()}))


def test_blobs_open_under_their_own_id_only() -> None:
    codec = Codec(cipher())
    sealed = codec.seal_blob(b"raw", "blb_1")
    assert (codec.seals, Codec().seals) == (True, False)
    assert codec.open_blob(sealed, "blb_1") == b"raw"
    with pytest.raises(StoreError, match="does not open"):
        codec.open_blob(sealed, "blb_2")
    with pytest.raises(StoreError, match=r"set hub\.encryption_keys"):
        Codec().open_blob(sealed, "blb_1")


def test_an_item_is_checked_before_it_joins_a_group() -> None:
    half = b"x" * (MAX_ITEM_BYTES // 2)
    assert unstorable(item(raw=half, drafts=half)) is None
    told = unstorable(item(id="in_1", raw=half, drafts=half + b"x"))
    assert str(told) == f"in_1 has {MAX_ITEM_BYTES + 1} bytes, the inbox takes {MAX_ITEM_BYTES}"
    assert "no Unicode" in str(unstorable(item(failed="\udc00")))


def test_documents_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Thing(id="a").n = 1  # type: ignore[misc]
    assert msgspec.structs.replace(Thing(id="a"), n=1).n == 1
