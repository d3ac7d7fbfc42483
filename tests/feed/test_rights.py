"""What a key may read: types by its scope, accounts by its limits; alike in pages and streams."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from hub.api.keys import ApiKey, create_key
from hub.clock import SystemClock
from hub.documents import FeedRow
from hub.feed.access import rights_of, selection_of
from hub.planning.rules import Refusal
from hub.store.memory import MemoryStore
from tests.feed.world import World


def caller(*scopes: str, accounts: Sequence[str] = ()) -> ApiKey:
    return ApiKey(id="key_1", name="test", scopes=frozenset(scopes), accounts=frozenset(accounts))


def row(kind: str, **fields: Any) -> FeedRow:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return FeedRow(id=1, type=kind, at=now, recorded_at=now, **fields)


@pytest.mark.parametrize(
    ("pattern", "kind", "matches"),
    [
        ("message.*", "message.received", True),
        ("message.*", "messages.received", False),
        ("message.*", "a.message.received", False),
        ("*", "ticket.linked", True),
        ("ticket.linked", "ticket.linked", True),
        ("ticket.linked", "ticketXlinked", False),
        ("*.opened", "conversation.opened", True),
        ("*.opened", "a.b.opened", False),
        ("call.*", "call.menu.option", True),
    ],
)
def test_a_pattern_matches_whole_types(pattern: str, kind: str, matches: bool) -> None:
    admitted = selection_of(pattern, "", "").admits(row(kind), frozenset())
    limited = rights_of(caller(f"feed:read:{pattern}")).may_be_seen(row(kind))
    assert admitted is limited is matches


@pytest.mark.parametrize("types", ["a b", "Message.*", "(x+)+$", "ü", "m*", "**", "*a*b", "a."])
def test_other_patterns_are_refused(types: str) -> None:
    with pytest.raises(Refusal):
        selection_of(types, "", "")


@pytest.mark.parametrize(
    ("types", "meant"),
    [
        ("omniline.message.received.v1", "message.received"),
        ("omniline.message.*", "message.*"),
        ("ticket.linked.v1", "ticket.linked"),
        ("message", "message.*"),
    ],
)
async def test_a_pattern_that_nothing_can_match_is_refused_with_what_was_meant(
    types: str, meant: str
) -> None:
    """Else a reader would wait for ever on an empty feed; nor can a scope be made of it."""
    with pytest.raises(Refusal, match=re.escape(meant)) as refusal:
        selection_of(f"ticket.*,{types}", "", "")
    assert refusal.value.status == 400
    with pytest.raises(ValueError, match=re.escape(meant)):
        await create_key(MemoryStore(), SystemClock(), "shop", [f"feed:read:{types}"])


def test_length_and_number_of_patterns_are_bounded() -> None:
    for types in ("m" * 81, ",".join(f"a{n}" for n in range(51)), "*.*.*.*.*"):
        with pytest.raises(Refusal):
            selection_of(types, "", "")


def test_the_worst_pattern_is_compared_at_once() -> None:
    """Also as a scope, which an operator wrote."""
    worst = ".".join(["*"] * 30 + ["x"])
    limited = rights_of(caller(f"feed:read:{worst}"))
    began = time.perf_counter()
    assert not limited.may_be_seen(row(".".join("m" * 31)))
    assert time.perf_counter() - began < 2.0


def test_without_a_scope_of_the_feed_nothing_is_read() -> None:
    for scopes in ((), ("customers:read",), ("feed:write",)):
        with pytest.raises(Refusal) as refused:
            rights_of(caller(*scopes))
        assert refused.value.status == 403
    assert rights_of(caller("admin")).types is None
    assert rights_of(caller("feed:read", "feed:read:message.*")).types is None


async def test_a_key_of_some_types_sees_these_whatever_it_asks_for(here: World) -> None:
    await here.say("ann")
    end = await here.routed()
    key = await here.key("feed:read:message.*", "feed:read:ticket.*")
    for query in ({}, {"types": "*"}, {"types": "message.*,customer.*"}):
        found = await here.all(key, **query)
        assert [event["type"] for event in found] == ["omniline.message.received.v1"]
    assert await here.all(key, types="customer.*") == []
    async with here.stream(key) as events:
        (event,) = await events.take(1)
        assert event.event == "omniline.message.received.v1"
    _, told = await here.request("POST", "/feed/v1/stream-tickets", key)
    async with here.stream({}, ticket=told["ticket"]) as events:
        (event,) = await events.take(1)
        assert event.event == "omniline.message.received.v1"
        await here.say("bob")
        (event,) = await events.take(1)
        assert (event.event, event.position > end) == ("omniline.message.received.v1", True)


async def test_a_key_of_one_account_sees_only_what_is_that_accounts(here: World) -> None:
    """Conversations, notes and tickets have no account: they are their conversation's."""
    await here.say("ann", "to main")
    await here.say("ann", "to other", account="other")
    await here.routed()
    everything = await here.all(await here.key())
    mine = {
        e["data"]["entry"]["conversation"]
        for e in everything
        if e["data"].get("entry", {}).get("account") == "main"
    }
    other = {
        e["data"]["entry"]["conversation"]
        for e in everything
        if e["data"].get("entry", {}).get("account") == "other"
    }
    assert not mine & other
    for conversation in sorted(mine | other):
        await here.command("note", conversation=conversation, text=f"about {conversation}")
        await here.command("close", conversation=conversation)
    customers = [e["partitionkey"] for e in everything if "customer.created" in e["type"]]
    await here.command(
        "merge", customer=customers[0], other=customers[1], evidence={"kind": "agent"}
    )
    await here.routed()
    key = await here.key(accounts=["sample:main"])
    found = await here.all(key)
    assert [event["type"].split(".", 1)[1] for event in found] == [
        "customer.created.v1",
        "conversation.opened.v1",
        "message.received.v1",
        "note.added.v1",
        "conversation.closed.v1",
    ]
    assert "other" not in str([e["data"] for e in found])
    assert {e["correlationid"] for e in found if "correlationid" in e} == mine
    async with here.stream(key) as events:
        streamed = [msgspec.json.decode(block.data) for block in await events.take(5)]
    assert streamed == found
