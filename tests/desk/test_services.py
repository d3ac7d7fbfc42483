"""The fake hub for plugin authors' tests behaves as the hub's services say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hub import Overloaded, PluginContext, Refusal, Seen
from hub.testing.clock import START, FakeClock
from hub.testing.services import FakeServices


def test_the_clock_moves_by_hand_and_never_back() -> None:
    clock = FakeClock()
    assert (clock.now(), clock.monotonic()) == (START, 0.0)
    later = clock.advance(1.5)
    assert (later - START).total_seconds() == clock.monotonic() == 1.5
    assert clock.now() == later
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)


async def test_what_is_told_to_the_hub_is_kept_unless_it_is_overloaded() -> None:
    services = FakeServices()
    context = services.connector_context("site", "shop")
    assert (await context.deliver([], door="socket", raw=b"x")).startswith("in_")
    assert [(taken.channel, taken.account, taken.raw) for taken in services.taken] == [
        ("site", "shop", b"x")
    ]
    services.overloaded = True
    for call in (
        context.deliver([]),
        context.backend_said("desk", []),
        context.command("note", {}, key="k", actor="agent:1"),
    ):
        with pytest.raises(Overloaded):
            await call
    assert len(services.taken) == 1
    assert (services.said, services.commands) == ([], [])


async def test_a_command_runs_once_for_its_key_and_may_be_refused() -> None:
    def answer(name: str, args: Any) -> dict[str, Any]:
        if not args:
            raise Refusal("bad-request", "a note needs text", 422)
        return {"entry": f"ent_{args['text']}"}

    services = FakeServices(on_command=answer)
    context: PluginContext = services.context("mine")
    first = await context.command("note", {"text": "x"}, key="k", actor="agent:1")
    again = await context.command("note", {"text": "y"}, key="k", actor="agent:1")
    assert first == again
    assert (first["state"], first["result"]) == ("done", {"entry": "ent_x"})
    assert [(run.name, run.args) for run in services.commands] == [("note", {"text": "x"})]
    refused = await context.command("note", {}, key="other", actor="agent:1")
    assert (refused["state"], refused["error"]) == ("refused", "bad-request")


async def test_followers_see_their_addresses_from_their_place_on() -> None:
    services = FakeServices()
    context = services.connector_context("site", "shop")

    def seen(position: int) -> Seen:
        return Seen(position=position, type="message.sent", entry=None)

    await services.tell("adr_1", seen(1))
    await services.tell("adr_2", seen(2))
    got: list[int] = []
    arrived = asyncio.Event()

    async def follow() -> None:
        async for each in context.follow(["adr_1"], 0):
            got.append(each.position)
            if each.position == 3:
                arrived.set()

    following = asyncio.create_task(follow())
    await services.tell("adr_1", seen(3))
    async with asyncio.timeout(5):
        await arrived.wait()
    following.cancel()
    assert got == [1, 3]
    assert await context.position() == 3
    assert [each.position for each in await context.changes(["adr_1", "adr_2"], 1)] == [2, 3]


async def test_a_hint_reaches_who_listens_until_they_stop() -> None:
    services = FakeServices()
    context = services.connector_context("site", "shop")
    heard: list[Any] = []
    stop = context.on_signal("typing", heard.append)
    await context.signal("typing", {"who": "agent"})
    stop()
    await context.signal("typing", {"who": "again"})
    assert heard == [{"who": "agent"}]


async def test_a_call_to_the_outside_fails_a_test_that_has_no_client() -> None:
    context = FakeServices().context("mine")
    with pytest.raises(AssertionError, match="no HTTP client"):
        context.http.get("https://example.com")
