"""What is left behind in the blob store is swept, and nothing that is named or may be named is.

The stores are real, in memory and MongoDB; the clock is the test's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from hub import steps
from hub.documents import CORE, DeadLetter, StrayBlob
from hub.importing.accounts import _Services
from hub.inbox_writer import InboxWriter, Overloaded
from hub.intake import Intake
from hub.metrics import Metrics
from hub.store.interface import Store, StoreError, Unavailable
from hub.store.memory import MemoryStore
from hub.strays import UNNAMED_FOR, Strays, delete_blobs
from hub.sweeping import AT_ONCE, Sweeper
from hub.testing import FakeServices
from hub.testing.clock import START, FakeClock
from normalizer.addresses import Address
from normalizer.drafts import Amendment, AmendmentKind, AnyDraft, Message, Target
from normalizer.parts import Card, File, Media, Text
from tests.store.spaces import item, open_space

ANN = Address(scheme="sample", account="main", kind="user", id="ann")
MONTH = UNNAMED_FOR.total_seconds() + 1


class World:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.strays = Strays(store, self.clock)
        self.sweeper = Sweeper(store, self.clock, self.metrics)

    async def there(self, *blobs: str) -> list[bool]:
        return [await self.store.blobs.metadata(blob) is not None for blob in blobs]

    async def rows(self) -> int:
        return await self.store.table(StrayBlob).count({})


@pytest.fixture
def world() -> World:
    return World(MemoryStore())


@pytest.fixture(params=["memory", "pymongo"])
async def on_both(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with open_space(request.param, request, kinds=CORE) as space:
        yield World(space.store)


async def raw_of(world: World, ident: str, *, kept: bool) -> str:
    blob = await world.strays.put_raw(b"raw", item=ident)
    if kept:
        await world.store.inbox.put([item(id=ident, raw_blob=blob)])
    return blob


async def test_what_nothing_names_goes_and_everything_else_stays(on_both: World) -> None:
    """By the rows alone, when their time has come; a second sweep finds nothing more to do."""
    world, strays, blobs = on_both, on_both.strays, on_both.store.blobs
    old = await blobs.put(b"of a release before this one")
    unsent, half = await strays.put(b"unsent"), "blb_0123456789abcdefghjkmnpqrs"
    await strays._begin(StrayBlob(id=half, state="unnamed", due_at=START))  # then it died
    named, owned, freed = [await strays.put(b"x") for _ in range(3)]
    await strays.named([named])
    assert await strays.take(owned, "a reply") == "mine"
    assert await strays.take(freed, "a refused reply") == "mine"
    await strays.give_back(freed, "a refused reply")
    in_inbox, in_letter, expired, redacted = [
        await raw_of(world, f"in_{n}", kept=n in (0, 3)) for n in range(4)
    ]
    letter = DeadLetter(
        id="ded_1", kind="inbox", reason="", stage="plan", ref="in_1", at=START, state="open"
    )
    await world.store.table(DeadLetter).put([letter])
    await world.store.inbox.redact({"_id": "in_3"})
    await strays.copy_of(owned, "blb_copy")
    await strays.copy_of("blb_gone", "blb_orphan")
    for copy in ("blb_copy", "blb_orphan"):
        await blobs.put(b"small", blob=copy)

    assert not await world.sweeper.sweep()
    world.clock.advance(MONTH)
    late = await strays.put(b"just now")
    swept = await world.sweeper.sweep()

    assert swept == {"unnamed": 3, "raw": 2, "copy": 1}
    assert await world.there(unsent, freed, expired, redacted, "blb_orphan") == [False] * 5
    stay = (old, named, owned, in_inbox, in_letter, "blb_copy", late)
    assert await world.there(*stay) == [True] * len(stay)
    assert not await world.sweeper.sweep()
    assert world.metrics.blobs_swept.labels("unnamed")._value.get() == 3

    # What went away since is found when it is looked at again.
    await world.store.table(DeadLetter).delete({"_id": "ded_1"})
    await delete_blobs(world.store, [owned])
    world.clock.advance(MONTH)
    assert await world.sweeper.sweep() == {"unnamed": 1, "raw": 1, "copy": 1}
    assert await world.there(*stay) == [True, True, False, True, False, False, False]


@pytest.mark.parametrize("step", ["sweep.1", "sweep.2"])
async def test_a_sweep_that_dies_is_ended_by_the_next(
    world: World, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its steps nobody can come to name what is going."""

    def die() -> None:
        raise KeyboardInterrupt

    blob = await world.strays.put(b"unsent")
    world.clock.advance(MONTH)
    monkeypatch.setitem(steps.watchers, step, die)
    with pytest.raises(KeyboardInterrupt):
        await world.sweeper.sweep()
    monkeypatch.delitem(steps.watchers, step)
    assert await world.there(blob) == [step == "sweep.1"]
    assert await world.strays.take(blob, "a reply") == "gone"
    with pytest.raises(Unavailable, match="just being taken away"):
        await world.strays.put(b"again", blob=blob)
    assert await world.sweeper.sweep() == {"unnamed": 1}
    assert await world.there(blob) == [False]
    assert await world.rows() == 0


@pytest.mark.parametrize("how", ["named", "take", "give back"])
async def test_whoever_names_a_blob_just_before_it_is_doomed_keeps_it(
    world: World, how: str
) -> None:
    """The sweep has read the row, and comes too late with what it makes of it."""
    blob = await world.strays.put(b"sent at last")
    world.clock.advance(MONTH)
    (stale,) = await world.store.table(StrayBlob).find({})
    if how == "named":
        await world.strays.named([blob])
    else:
        await world.strays.take(blob, "a reply")
    if how == "give back":
        await world.strays.give_back(blob, "another reply")
        await world.strays.give_back(blob, "a reply")
    assert not await world.sweeper._taken_away(stale)
    assert not await world.sweeper.sweep()
    assert await world.there(blob) == [True]


async def test_a_blob_has_one_owner(world: World) -> None:
    """Under the owner's name it is taken again; of an earlier release's, the first is the owner."""
    mine = await world.strays.put(b"1")
    old = await world.store.blobs.put(b"2")
    for blob in (mine, old):
        for owner, taken in (("a", "mine"), ("b", "other"), ("a", "mine")):
            assert await world.strays.take(blob, owner) == taken
    with pytest.raises(StoreError):
        await world.strays.put(b"3", blob=mine)  # a repetition must not make it unnamed again
    assert await world.strays.take(mine, "b") == "other"


async def test_more_than_a_batch_is_swept_at_once(world: World) -> None:
    for number in range(AT_ONCE + 1):
        await world.strays.put(b"x", blob=f"blb_{number}")
    world.clock.advance(MONTH)
    assert await world.sweeper.sweep() == {"unnamed": AT_ONCE + 1}


# --- what comes in -------------------------------------------------------------------------------


def drafts(*blobs: str) -> list[AnyDraft]:
    """Return drafts that name three blobs in three ways."""
    media = [Media(blob=blob) for blob in blobs]
    parts = {"parts": [{"type": "file", "media": {"blob": blobs[2]}}]}
    return [
        Message(
            key="m",
            address=ANN,
            parts=(Text(text="x"), File(media=media[0]), Card(title="t", image=media[1])),
        ),
        Amendment(key="a", target=Target(vendor_id="m"), kind=AmendmentKind.EDIT, data=parts),
    ]


async def test_what_comes_in_is_named_before_it_is_durable(world: World) -> None:
    """Inbox or spool: at no moment does something durable name what may be swept."""
    blobs = [await world.strays.put(b"x") for _ in range(4)]
    rows_then: list[int] = []

    class Writer:
        async def put(self, *_: Any, **__: Any) -> None:
            rows_then.append(await world.rows())

    intake = Intake(
        cast(InboxWriter, Writer()),
        world.store.blobs,
        FakeServices().key,
        world.clock,
        Metrics(),
        strays=world.strays,
    )
    await intake.take_in("sample", "main", drafts(*blobs), door="webhook")
    assert rows_then == [1]

    async def away(where: Any) -> int:
        raise Unavailable("the database is away")

    world.strays._rows.delete = away  # type: ignore[method-assign]
    with pytest.raises(Overloaded, match="has the files of this message"):
        await intake.take_in("sample", "main", drafts(*blobs), door="webhook")
    assert len(rows_then) == 1
    await intake.take_in(
        "sample", "main", [Message(key="n", address=ANN, parts=())], door="webhook"
    )
    assert len(rows_then) == 2  # what names no blob does not need the store


async def test_an_imports_files_have_rows_and_a_dry_run_keeps_nothing(world: World) -> None:
    for imported, rows in (("imp_1", 1), ("", 0)):
        services = _Services(
            world.store, FakeServices().key, world.clock, cast(Any, None), imported, ""
        )
        blob = await services.store_file(b"x", {"kind": "mail"})
        assert await world.there(blob) == [bool(imported)]
        assert await world.rows() == rows
        if imported:
            known = await world.store.blobs.metadata(blob)
            assert known == {"kind": "mail", "import": "imp_1"}
            await world.strays.named([blob])
