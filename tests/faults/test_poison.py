"""A poisonous item becomes one dead letter; everything before and after it is routed.

In memory: the router with its real planners, a normalizer step or a plugin that misbehaves.
Real: a hub process that a plugin takes down.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from hub import Route, hookimpl
from hub.clock import SystemClock
from hub.documents import DeadLetter, Entry, InboxItem
from hub.ids import SpaceKey, new_id
from hub.planning.rules import Rules
from hub.plugin_host import PluginHost
from hub.preparing import Preparer, encode_drafts
from hub.route_choice import RouteChooser
from hub.router import Router
from hub.store.memory import MemoryStore
from normalizer.addresses import Address
from normalizer.capabilities import Capabilities
from normalizer.drafts import AnyDraft, Message
from normalizer.parts import Text
from normalizer.pipeline import StepContext, normalize
from tests.support.load import message, post
from tests.support.processes import HubProcess
from tests.support.suicidal import POISON
from tests.support.truth import all_entries, routed, store_of, text_of

KEY = SpaceKey(b"k" * 32)
ITEMS = 60
POISONED = 23


def _item(number: int) -> InboxItem:
    text = POISON if number == POISONED else f"text {number}"
    address = Address(scheme="sample", account="main", kind="user", id=f"u{number % 7}")
    draft = Message(key=f"m{number}", address=address, parts=(Text(text=text),))
    return InboxItem(
        id=new_id("in"),
        channel="sample",
        account="main",
        received_at=SystemClock().now(),
        door="webhook",
        drafts=encode_drafts([draft]),
        open=True,
    )


def _is_poison(draft: AnyDraft) -> bool:
    return isinstance(draft, Message) and any(
        isinstance(part, Text) and part.text == POISON for part in draft.parts
    )


def _raising_step(draft: AnyDraft, context: StepContext) -> AnyDraft:
    if _is_poison(draft):
        raise ValueError("a step chokes on this")
    return normalize(draft, context)


def _hanging_step(draft: AnyDraft, context: StepContext) -> AnyDraft:
    if _is_poison(draft):
        time.sleep(30)
    return normalize(draft, context)


def _raising_choice(messages: Sequence[Message]) -> Sequence[Route | None]:
    if any(_is_poison(each) for each in messages):
        raise ValueError("a plugin chokes on this")
    return [None] * len(messages)


async def _hanging_choice(messages: Sequence[Message]) -> Sequence[Route | None]:
    if any(_is_poison(each) for each in messages):
        await asyncio.Event().wait()
    return [None] * len(messages)


def _broken_choice(messages: Sequence[Message]) -> Sequence[Route | None]:
    raise ValueError("this plugin chokes on everything")


def _host(choice: Callable[..., Any] | None) -> PluginHost:
    host = PluginHost()
    if choice is not None:
        plugin = SimpleNamespace(omniline_api=1, choose_ticket_route=hookimpl(choice))
        host.add(plugin, "misbehaving")
    return host


async def _route_all(
    step: Callable[..., AnyDraft] = normalize, choice: Callable[..., Any] | None = None
) -> MemoryStore:
    """Route all items with something that misbehaves, until nothing is left."""
    store = MemoryStore()
    await store.prepare([Entry, DeadLetter])
    await store.inbox.put([_item(number) for number in range(ITEMS)])
    clock = SystemClock()
    preparer = Preparer("CN", deadline_s=0.2, step=step)
    host = _host(choice)
    router = Router(
        store,
        preparer,
        lambda: Rules(key=KEY, now=clock.now(), capabilities=lambda channel: Capabilities()),
        RouteChooser(host, 0.2).choose,
        clock,
        owner="test",
        batch_items=25,
    )
    task = asyncio.create_task(router.run())
    async with asyncio.timeout(60):
        while (await store.inbox.backlog())[0]:
            await asyncio.sleep(0.01)
    router.stop()
    await task
    preparer.close()
    await host.aclose()
    return store


@pytest.mark.parametrize(
    ("step", "choice"),
    [
        pytest.param(_raising_step, None, id="a step raises"),
        pytest.param(_hanging_step, None, id="a step hangs"),
        pytest.param(normalize, _raising_choice, id="a backend choice raises"),
        pytest.param(normalize, _hanging_choice, id="a backend choice hangs"),
    ],
)
async def test_poison_is_one_dead_letter_and_the_rest_is_routed(
    step: Callable[..., AnyDraft], choice: Callable[..., Any] | None
) -> None:
    store = await _route_all(step, choice)
    entries = await store.table(Entry).find({}, sort=[("position", 1)])
    texts = [entry.parts[0].text for entry in entries]  # type: ignore[union-attr]
    assert texts == [f"text {number}" for number in range(ITEMS) if number != POISONED]
    dead = await store.table(DeadLetter).find({})
    assert len(dead) == 1
    assert dead[0].item, "a dead letter keeps all that is needed to replay it"


async def test_a_plugin_that_fails_at_everything_makes_no_dead_letter() -> None:
    store = await _route_all(choice=_broken_choice)
    assert await store.table(Entry).count({}) == ITEMS
    assert await store.table(DeadLetter).count({}) == 0


async def test_an_item_that_took_the_process_down_twice_is_set_aside_at_the_third_start(
    tmp_path: Path, mongod_url: str, mongo_db_name: str
) -> None:
    hub = HubProcess(
        tmp_path,
        mongod_url,
        mongo_db_name,
        modules=("hub.testing.samples.webhook", "tests.support.suicidal"),
    )
    try:
        await hub.start()
        async with aiohttp.ClientSession() as session:
            for number in range(5):
                await post(session, hub.url, message(f"before{number}", "ann"))
            await post(session, hub.url, message("poison", "ann", POISON))
            assert await hub.died() == -9
            await hub.start()
            assert await hub.died() == -9
            await hub.start()
            async with store_of(mongod_url, mongo_db_name) as store:
                await routed(store)
                for number in range(5):
                    assert await post(session, hub.url, message(f"after{number}", "ann")) == 200
                await routed(store)
                dead = await store.table(DeadLetter).find({})
                texts = [text_of(entry) for entry in await all_entries(store)]
        assert [each.stage for each in dead] == ["router"]
        assert texts == [f"before{n}" for n in range(5)] + [f"after{n}" for n in range(5)]
        assert await hub.stop() == 0
    finally:
        await hub.close()
