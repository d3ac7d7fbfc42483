"""A space with ``encrypt = "addresses"`` writes nothing down that says who somebody is.

The stored bytes are searched for the words themselves, on MongoDB and in memory: a field that was
forgotten is found without knowing its name. What people write (texts) stays readable in this mode.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from hub.documents import (
    CORE,
    AddressDoc,
    AmendmentDoc,
    Consent,
    ConsentChange,
    Customer,
    DeadLetter,
    Doc,
    Entry,
    EntrySender,
    InboxItem,
)
from hub.ids import SpaceKey
from hub.inbox_writer import InboxWriter
from hub.spool import Spool
from hub.store.codec import FieldCipher
from hub.store.interface import StoreError, Unavailable
from hub.store.memory import MemoryStore
from normalizer.addresses import Address, canonical, parse_address
from normalizer.drafts import Amendment, AmendmentKind, Evidence, Profile, Sender, Target
from normalizer.model import Role
from tests.planners.harness import PlannerHarness, said
from tests.store.spaces import NOW, Kind, Space, item, open_space

OLD = {"k1": b"1" * 32}
BOTH = {"k1": b"1" * 32, "k2": b"2" * 32}
KEY = SpaceKey(b"a key of a space for these tests" * 2)

PHONE = canonical(Address(scheme="tel", account="", kind="number", id="+8613800138000"))
MAIL = "li.lei@example.com"
NAME = "李雷的真名"
AGENT = "韩梅梅的真名"
RAW = "the raw request says 13800138000"
SECRETS = ("13800138000", "li.lei", NAME, AGENT, RAW)
ADDRESS = AddressDoc(
    id=KEY.hashed("adr", PHONE),
    scheme="tel",
    address=PHONE,
    profile=Profile(name=NAME, mailbox=MAIL, phone="13800138000"),
)
DOCS: list[Doc] = [
    ADDRESS,
    Customer(id="cus_1", name=NAME, profile=Profile(name=NAME), created_at=NOW, seen_at=NOW),
    Entry(
        id="ent_1",
        address=ADDRESS.id,
        position=1,
        at=NOW,
        received_at=NOW,
        channel="sms",
        account="main",
        sender=EntrySender(role=Role.AGENT, name=AGENT, ref=MAIL),
    ),
    AmendmentDoc(
        id="amd_1",
        target="ent_1",
        kind="edit",
        position=2,
        at=NOW,
        by=EntrySender(role=Role.AGENT, name=AGENT),
    ),
    Consent(
        id="con_1",
        address=ADDRESS.id,
        purpose="marketing",
        state="granted",
        at=NOW,
        evidence=Evidence(kind="form", note=f"{NAME}, {MAIL}"),
    ),
    ConsentChange(
        id="cch_1",
        address=ADDRESS.id,
        purpose="marketing",
        state="granted",
        at=NOW,
        recorded_at=NOW,
        position=3,
        evidence=Evidence(kind="form", note=f"{NAME}, {MAIL}"),
    ),
    item(id="in_1", raw=RAW.encode(), drafts=NAME.encode(), failed=f"ValueError: {PHONE}"),
    DeadLetter(
        id="ded_1",
        kind="parse",
        reason=f"ValueError: no such number {PHONE}",
        stage="parse",
        item=RAW.encode(),
        at=NOW,
        state="open",
    ),
]


@pytest.fixture(params=["memory", "pymongo"])
def store_kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@pytest.fixture
async def space(store_kind: Kind, request: pytest.FixtureRequest) -> AsyncIterator[Space]:
    cipher = FieldCipher(OLD, "k1")
    async with open_space(store_kind, request, cipher=cipher, kinds=CORE) as opened:
        yield opened


def with_cipher(space: Space, cipher: FieldCipher | None) -> None:
    """Let the store be opened with other keys: what it holds stays."""
    for part in (space.store, space.store.inbox, space.store.router, space.store.blobs):
        if hasattr(part, "_codec"):
            part._codec._cipher = cipher


async def put_all(space: Space) -> None:
    for doc in DOCS:
        if isinstance(doc, InboxItem):
            await space.store.inbox.put([doc])
        else:
            await space.store.table(type(doc)).put([doc])


async def test_nothing_personal_is_stored_in_clear_and_all_of_it_is_read(space: Space) -> None:
    await put_all(space)
    assert await space.found_in_clear(*SECRETS) == []
    for doc in DOCS:
        assert await space.store.table(type(doc)).get(doc.id) == doc
    (unrouted,) = await space.store.inbox.unrouted(10, 1000)
    assert unrouted.raw == RAW.encode()


async def test_the_search_would_find_it_without_encryption(
    store_kind: Kind, request: pytest.FixtureRequest
) -> None:
    """Otherwise the tests of this module would prove nothing."""
    async with open_space(store_kind, request) as plain:
        await put_all(plain)
        found = await plain.found_in_clear(*SECRETS)
    assert {line.partition(": ")[0] for line in found} >= {
        "addresses",
        "customers",
        "entries",
        "amendments",
        "inbox",
        "dead_letters",
    }


async def test_an_address_is_found_by_its_id_in_every_mode(space: Space) -> None:
    await put_all(space)
    ident = KEY.hashed("adr", canonical(parse_address(PHONE)))
    found = await space.store.table(AddressDoc).get(ident)
    assert found is not None
    assert found.address == PHONE


async def test_the_routers_commits_are_sealed_too(space: Space) -> None:
    """Whatever the planners make of a message, an edit and an agent's answer."""
    hub = await PlannerHarness(space.store).open()
    who = Address(scheme="chat", account="main", kind="user", id="li.lei@13800138000")
    profile = Profile(name=NAME, mailbox=MAIL)
    await hub.give(said(who, "m1", profile=profile, sender=Sender(name=NAME), vendor_ids=("v1",)))
    (entry,) = await space.store.table(Entry).find({})
    await hub.done("reply", address=entry.address, parts=_text("hi"), agent_name=AGENT)
    await hub.done("note", customer=(await customer(space)).id, text="n", agent_name=AGENT)
    await hub.give(
        Amendment(
            key="a1",
            target=Target(vendor_id="v1"),
            kind=AmendmentKind.EDIT,
            address=who,
            data={"parts": _text("edited")},
            by=Sender(name=NAME, address=who),
        )
    )
    assert await space.store.table(AmendmentDoc).count({}) >= 1
    assert await space.store.table(Entry).count({}) == 3
    assert await space.found_in_clear(*SECRETS) == []


def _text(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


async def customer(space: Space) -> Customer:
    (found,) = await space.store.table(Customer).find({})
    return found


async def test_old_keys_read_and_the_new_one_writes(space: Space) -> None:
    table = space.store.table(AddressDoc)
    await table.put([ADDRESS])
    with_cipher(space, FieldCipher(BOTH, "k2"))
    assert await table.get(ADDRESS.id) == ADDRESS
    await table.put([msgspec.structs.replace(ADDRESS, id="adr_new")])
    raw = {row["_id"]: row for row in (await space.raw())["addresses"]}
    assert (raw[ADDRESS.id]["address"]["k"], raw["adr_new"]["address"]["k"]) == ("k1", "k2")
    await table.put([ADDRESS])
    with_cipher(space, FieldCipher({"k2": b"2" * 32}, "k2"))
    assert await table.get(ADDRESS.id) == ADDRESS, "what is written anew needs the old key no more"


async def test_a_missing_key_is_named_with_what_to_do(space: Space) -> None:
    await put_all(space)
    table = space.store.table(AddressDoc)
    with_cipher(space, FieldCipher({"k2": b"2" * 32}, "k2"))
    with pytest.raises(StoreError, match=r"addresses\.address .*'k1'.*hub\.encryption_keys"):
        await table.get(ADDRESS.id)
    with_cipher(space, None)
    with pytest.raises(StoreError, match=r"no key is configured.*hub\.encryption_keys"):
        await table.get(ADDRESS.id)


async def test_a_changed_or_moved_field_is_refused(space: Space) -> None:
    await put_all(space)
    table = space.store.table(AddressDoc)
    (row,) = (await space.raw())["addresses"]
    sealed = row["address"]
    flipped = bytes([*sealed["c"][:-1], sealed["c"][-1] ^ 1])
    for bad in (
        {"address": {"k": "k1", "c": flipped}},
        {"address": {"k": "k1", "c": sealed["c"][:5]}},
        {"address": {"k": "k1", "c": b""}},
        {"address": row["profile"]},
    ):
        await space.tamper(AddressDoc, ADDRESS.id, bad)
        with pytest.raises(StoreError, match=r"addresses\.address does not open"):
            await table.get(ADDRESS.id)
    await space.tamper(AddressDoc, ADDRESS.id, {"address": sealed})
    assert await table.get(ADDRESS.id) == ADDRESS


async def test_a_large_raw_request_is_sealed_in_its_blob(space: Space) -> None:
    data = RAW.encode() * 50_000
    blob = await space.store.blobs.put(data, metadata={"kind": "raw"}, sealed=True)
    assert await space.store.blobs.read(blob) == data
    assert b"".join([each async for each in space.store.blobs.stream(blob)]) == data
    assert await space.store.blobs.metadata(blob) == {"kind": "raw"}
    if space.driver is not None:  # in memory nothing is written down
        assert await space.found_in_clear(*SECRETS) == []
        with_cipher(space, None)
        with pytest.raises(StoreError, match=f"the blob {blob} is encrypted"):
            await space.store.blobs.read(blob)


async def test_a_sealed_blob_may_come_in_pieces(space: Space) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield RAW.encode()
        yield RAW.encode()

    blob = await space.store.blobs.put(pieces(), sealed=True)
    assert await space.store.blobs.read(blob) == RAW.encode() * 2


async def test_a_sealed_blob_cannot_pass_for_another(
    store_kind: Kind, request: pytest.FixtureRequest
) -> None:
    if store_kind == "memory":
        pytest.skip("in memory nothing is written down")
    async with open_space(store_kind, request, cipher=FieldCipher(OLD, "k1")) as space:
        one, other = [await space.store.blobs.put(data, sealed=True) for data in (b"1", b"2")]
        assert space.driver is not None
        chunks = space.driver.collection("blobs.chunks")
        await chunks.delete_many({"files_id": one})
        await chunks.update_many({"files_id": other}, {"$set": {"files_id": one}})
        with pytest.raises(StoreError, match="does not open"):
            await space.store.blobs.read(one)


async def test_the_spool_is_sealed_and_drained(tmp_path: Path) -> None:
    cipher = FieldCipher(OLD, "k1")
    store = MemoryStore()
    store.inbox.failing = Unavailable("away")
    spool = Spool.open(
        tmp_path / "spool",
        max_bytes=1 << 24,
        reserve_bytes=0,
        seal=cipher.seal_bytes,
        unseal=cipher.open_bytes,
    )
    writer = InboxWriter(store.inbox, spool)
    await writer.start()
    kept = item(raw=RAW.encode(), drafts=NAME.encode(), failed=PHONE)
    await writer.put(kept)
    written = segments(tmp_path)
    assert kept.id.encode() in written, "the record's id is no secret"
    assert [word for word in SECRETS if word.encode() in written] == []
    store.inbox.failing = None
    assert await writer.drained(20)
    assert await store.table(InboxItem).get(kept.id) == kept
    await writer.close()
    await spool.close()


def segments(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*.seg"))


def test_the_sealed_fields_are_fields_and_no_index_needs_them() -> None:
    for kind in CORE:
        assert set(kind.sealed) <= set(kind.__struct_fields__), kind
        indexed = {field for index in kind.indexes for field, _ in index.fields}
        assert not indexed & set(kind.sealed), kind
