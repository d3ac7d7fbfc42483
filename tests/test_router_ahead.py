"""The next batch is made ready while one commits: what comes of it is the same as without."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from hub.documents import CORE, AddressDoc, AmendmentDoc, Customer, Entry, FeedRow, InboxItem, Job
from hub.ids import SpaceKey, new_id
from hub.planning.rules import Rules
from hub.preparing import Preparer, encode_drafts
from hub.router import Router
from hub.store.interface import Commit
from hub.store.memory import MemoryStore
from hub.testing.clock import START, FakeClock
from normalizer.addresses import Address
from normalizer.capabilities import Capabilities
from normalizer.drafts import (
    Amendment,
    AmendmentKind,
    AnyDraft,
    DeliveryState,
    Evidence,
    Identity,
    Message,
    Receipt,
    Target,
    ThreadLabel,
)
from normalizer.model import Trust
from normalizer.parts import Text

KEY = SpaceKey(b"k" * 32)
SECONDS = 20.0


def _person(number: int) -> Address:
    return Address(scheme="chat", account="main", kind="user", id=f"p{number}")


def _draft(chance: random.Random, place: int) -> AnyDraft:
    """Return something about one of few people and few messages, so that much meets."""
    who = _person(chance.randrange(4))
    message = chance.randrange(12)
    at = START + timedelta(seconds=place)
    kinds = ["message", "message", "message", "mail", "edit", "recall", "receipt", "same"]
    match chance.choice(kinds):
        case "message":
            return Message(
                key=f"m{message}",
                at=at,
                address=_person(message % 4),
                parts=(Text(text=f"text {message}"),),
                vendor_ids=(f"v{message}",),
            )
        case "mail":
            return Message(
                key=f"t{place}",
                at=at,
                address=who,
                parts=(Text(text=f"mail {place}"),),
                vendor_ids=(f"t{place}",),
                thread=f"t{place}",
                continues=(f"t{place - 1}", f"v{message}"),
                labels=(ThreadLabel(name=f"s{message % 3}", joins=message > 5, days=30),),
            )
        case "edit":
            return Amendment(
                key=f"e{place}",
                at=at,
                target=Target(vendor_id=f"v{message}"),
                kind=AmendmentKind.EDIT,
                address=_person(message % 4),
                data={"parts": msgspec.to_builtins((Text(text=f"edited at {place}"),))},
            )
        case "recall":
            return Amendment(
                key=f"r{place}",
                at=at,
                target=Target(vendor_id=f"v{message}"),
                kind=AmendmentKind.RECALL,
                address=_person(message % 4),
            )
        case "receipt":
            return Receipt(
                key=f"s{place}",
                at=at,
                target=Target(vendor_id=f"v{message}"),
                state=DeliveryState.READ,
                address=_person(message % 4),
            )
        case _:
            return Identity(
                key=f"i{place}",
                at=at,
                address=who,
                same_as=_person(chance.randrange(4)),
                trust=Trust.ATTESTED,
                evidence=Evidence(kind="code"),
            )


def _items(seed: int, count: int) -> list[InboxItem]:
    chance, imports = random.Random(seed), random.Random(-seed)
    return [
        InboxItem(
            id=f"in_{place:026d}",
            channel="chat",
            account="main",
            received_at=START + timedelta(seconds=place),
            door="webhook",
            drafts=encode_drafts([_draft(chance, place)]),
            open=True,
            imported=imports.choice(["", "", "", "imp_one", "imp_two"]),
        )
        for place in range(count)
    ]


async def _routed(items: list[InboxItem], batch_items: int) -> tuple[MemoryStore, int]:
    """Route the items; every commit lasts until the next batch is ready. Count those that did."""
    store = MemoryStore()
    await store.prepare(CORE)
    await store.inbox.put(items)
    clock = FakeClock()
    preparer = Preparer("CN")
    router = Router(
        store,
        preparer,
        lambda: Rules(key=KEY, now=START, capabilities=lambda channel: Capabilities(threads=True)),
        _nowhere,
        clock,
        owner="test",
        batch_items=batch_items,
    )
    commit = store.router.commit
    met = 0

    async def slow_commit(what: Commit, seconds: float) -> None:
        nonlocal met
        if router._ahead is not None:
            await asyncio.wait({router._ahead})
            met += 1
        await commit(what, seconds)

    store.router.commit = slow_commit  # type: ignore[method-assign]
    task = asyncio.create_task(router.run())
    async with asyncio.timeout(SECONDS):
        while (await store.inbox.backlog())[0]:
            await asyncio.sleep(0.005)
    router.stop()
    await task
    preparer.close()
    return store, met


async def _nowhere(messages: Any) -> list[None]:
    return [None] * len(messages)


async def _told(store: MemoryStore) -> dict[str, Any]:
    """Return all that was made, with random ids replaced by the order in which they appear."""
    names: dict[str, str] = {}

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: named(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [named(each) for each in value]
        if isinstance(value, str) and value[:4] in ("cus_", "cnv_", "thr_", "lnk_", "mrg_"):
            return names.setdefault(value, f"{value[:4]}{len(names)}")
        return value

    told = {}
    for kind in (FeedRow, Entry, AmendmentDoc, AddressDoc, Job):
        docs = await store.table(kind).find({}, sort=[("_id", 1)])
        told[kind.collection] = [named(msgspec.to_builtins(doc)) for doc in docs]
    people = [named(msgspec.to_builtins(doc)) for doc in await store.table(Customer).find({})]
    told["customers"] = sorted(people, key=lambda each: str(each["_id"]))
    return told


@pytest.mark.parametrize("seed", range(12))
async def test_batches_made_ready_ahead_make_the_same_timelines(seed: int) -> None:
    items = _items(seed, 90)
    whole, alone = await _routed(items, 1000)
    ahead, met = await _routed(items, 5)
    assert alone == 0
    assert met >= 10, "hardly any batch was made ready while another committed"
    assert await _told(ahead) == await _told(whole)


async def test_an_item_that_becomes_visible_late_is_not_passed_by() -> None:
    """What has an older id than the batch in flight comes next, not after everything else."""
    items = _items(1, 40)
    late, others = items[3], [*items[:3], *items[4:]]
    store = MemoryStore()
    await store.prepare(CORE)
    await store.inbox.put(others)
    first = await store.inbox.unrouted(10, 1 << 20)
    await store.inbox.put([late])
    following = await store.inbox.unrouted(10, 1 << 20, {item.id for item in first})
    assert following[0].id == late.id
    assert not {item.id for item in first} & {item.id for item in following}


async def test_after_a_failed_commit_everything_is_read_again() -> None:
    """Items that were made ready behind a batch whose commit failed are routed once, in order."""
    items = _items(2, 60)
    store = MemoryStore()
    await store.prepare(CORE)
    await store.inbox.put(items)
    commit = store.router.commit
    failures = iter([True, False, True, True])

    async def failing(what: Commit, seconds: float) -> None:
        if len(what.routed) > 1 and next(failures, False):
            raise ValueError("a batch that the database does not take")
        await commit(what, seconds)

    store.router.commit = failing  # type: ignore[method-assign]
    preparer = Preparer("CN")
    router = Router(
        store,
        preparer,
        lambda: Rules(key=KEY, now=START, capabilities=lambda channel: Capabilities(threads=True)),
        _nowhere,
        FakeClock(),
        owner=new_id("own"),
        batch_items=6,
    )
    task = asyncio.create_task(router.run())
    async with asyncio.timeout(SECONDS):
        while (await store.inbox.backlog())[0]:
            await asyncio.sleep(0.005)
    router.stop()
    await task
    preparer.close()
    whole, _ = await _routed(items, 1000)
    assert await _told(store) == await _told(whole)
