"""The feed as the hub itself serves it: behind its keys, in its documents, through a failover."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from hub.store.interface import StoreError
from hub.testing.samples.webhook import Push
from tests.support.hubs import RunningHub, running_hub
from tests.support.mongo import ReplicaSet
from tests.support.scale import full_only

WITHIN_S = 60.0


async def test_the_feed_is_served_behind_keys_and_described(
    mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    async with running_hub(mongo_url, mongo_db_name, tmp_path) as hub:
        await hub.message("hello")
        key = await hub.make_key("feed:read")
        page = await hub.get("/feed/v1/events", key=key)
        assert "omniline.message.received.v1" in {each["type"] for each in page["events"]}
        assert (await hub.call("GET", "/feed/v1/events", key="")).status == 401
        assert (await hub.call("GET", "/feed/v1/stream", key="")).status == 401
        ticket = await hub.post("/feed/v1/stream-tickets", key=key)
        assert ticket.status == 201
        assert (await hub.get("/asyncapi.json", key=""))["asyncapi"] == "3.0.0"
        described = (await hub.get("/openapi.json", key=""))["paths"]
        assert {"/feed/v1/events", "/feed/v1/stream", "/feed/v1/consumers/{name}"} <= set(described)
        parameters = {each["name"] for each in described["/feed/v1/events"]["get"]["parameters"]}
        assert parameters == {"types", "channel", "customer", "cursor", "limit", "wait"}


async def test_a_hub_with_open_streams_stops_at_once(
    mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    """The HTTP server would wait five seconds for a stream that does not end by itself."""
    async with aiohttp.ClientSession() as http:
        async with running_hub(mongo_url, mongo_db_name, tmp_path) as hub:
            answers = []
            for _ in range(5):
                answer = await http.get(
                    f"{hub.hub.url}/feed/v1/stream",
                    headers={"Authorization": f"Bearer {hub.key}"},
                )
                await answer.content.readuntil(b"\n\n")
                answers.append(answer)
            began = time.monotonic()
        assert time.monotonic() - began < 4.0
        for answer in answers:
            assert await answer.content.read() == b""


@full_only  # tests/faults/test_failover.py reads through an election in CI
async def test_readers_miss_nothing_when_the_primary_dies(tmp_path: Path) -> None:
    """While customers write, the primary is killed; pages and a stream go on where they were."""
    async with ReplicaSet() as servers:
        settings = {"router_lease_s": 1.0}
        async with running_hub(servers.url, "failover", tmp_path, hub=settings) as hub:
            written = asyncio.Event()
            paging = asyncio.create_task(_pages(hub, written))
            streaming = asyncio.create_task(_stream(hub, written))
            for number in range(60):
                if number == 30:
                    await servers.kill_primary()
                await _write(hub, number)
            await _routed(hub)
            _, end = await hub.hub.store.router.position()
            written.set()
            for events in (await paging, await streaming):
                assert [int(each["sequence"]) for each in events] == list(range(1, end + 1))
                texts = [
                    each["data"]["entry"]["text"]
                    for each in events
                    if each["type"] == "omniline.message.received.v1"
                ]
                assert sorted(texts) == sorted(f"number {number}" for number in range(60))


async def _write(hub: RunningHub, number: int) -> None:
    push = Push(
        id=f"m{number}",
        sender=f"s{number % 7}",
        at=int(time.time() * 1000),
        text=f"number {number}",
    )
    await hub.push(push)


async def _routed(hub: RunningHub) -> None:
    """Wait until nothing waits for the router; the database may be away meanwhile."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                spooled = hub.hub.spool.pending
                if not spooled and (await hub.hub.store.inbox.backlog())[0] == 0:
                    return
            except StoreError:
                spooled = -1
            await asyncio.sleep(0.05)


async def _pages(hub: RunningHub, written: asyncio.Event) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    cursor = ""
    async with asyncio.timeout(WITHIN_S):
        while True:
            done = written.is_set()
            answered = await hub.call(
                "GET", "/feed/v1/events", params={"cursor": cursor, "wait": 1, "limit": 10}
            )
            if answered.status == 503:
                continue
            assert answered.status == 200, answered
            page = answered.json
            events += page["events"]
            cursor = page["next_cursor"]
            if done and not page["has_more"] and not page["events"]:
                return events


async def _stream(hub: RunningHub, written: asyncio.Event) -> list[dict[str, Any]]:
    """Read as a browser does: come back with the last id whenever the stream ends."""
    events: list[dict[str, Any]] = []
    last = ""
    async with asyncio.timeout(WITHIN_S), aiohttp.ClientSession() as http:
        while True:
            headers = {"Authorization": f"Bearer {hub.key}", "Last-Event-ID": last}
            async with http.get(f"{hub.hub.url}/feed/v1/stream", headers=headers) as answer:
                if answer.status != 200:
                    assert answer.status == 503
                    await asyncio.sleep(0.05)
                    continue
                while True:
                    if written.is_set():
                        _, end = await hub.hub.store.router.position()
                        if len(events) >= end:
                            return events
                    line = await answer.content.readline()
                    if not line:
                        break
                    if line.startswith(b"id: "):
                        last = line[4:-1].decode()
                    elif line.startswith(b"data: "):
                        events.append(msgspec.json.decode(line[6:]))
