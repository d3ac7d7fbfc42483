"""A receiver behind a bad line: every entry is there once and in order, or shown as unknown.

Real: the hub, MongoDB, HTTP and the documentation's receiver, one for each way in which a line is
bad, with the fault proxy before it. A customer's messages go to all of them side by side, so that
one hub meets everything at once.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from hub.documents import DeadLetter, Job
from tests.support.fault_proxy import FaultProxy, Faults
from tests.support.hubs import RunningHub, running_hub
from tests.webhook.strict import SECRET, Strict, strict_receiver

pytestmark = [pytest.mark.real_mongo, pytest.mark.timeout(120)]

WITHIN_S = 45.0
FIRE_AND_FORGET = "lost_and_cannot_be_asked"
REFUSED = "refused"
LINES = {
    REFUSED: Faults(),  # nobody listens: see Line.goes_bad
    "reset": Faults(reset=True),
    "late": Faults(latency_s=0.15),
    "a_black_hole": Faults(blackhole=True),
    "answer_lost": Faults(lose_answer=b"webhook-id"),
    "cut": Faults(cut_after_sent=400),
    "answer_cut": Faults(cut_after_answered=30),
    "slow": Faults(bytes_per_s=6000),
    FIRE_AND_FORGET: Faults(lose_answer=b"webhook-id"),
}


class Line:
    """A receiver and the line to it."""

    def __init__(self, name: str, receiver: Strict, proxy: FaultProxy) -> None:
        self.name = name
        self.receiver = receiver
        self.proxy = proxy

    @property
    def toml(self) -> str:
        url = self.proxy.url + urlsplit(self.receiver.url).path
        given: dict[str, Any] = {"type": "webhook", "name": self.name, "url": url}
        given |= {"secrets": [SECRET], "allow_private": True, "timeout_s": 2}
        if self.name == FIRE_AND_FORGET:
            given["mode"] = "fire-and-forget"
        lines = [f"{name} = {json.dumps(value)}" for name, value in given.items()]
        return "\n".join(["[[backends]]", *lines, ""])

    @property
    def texts(self) -> list[str]:
        """What stands on the tickets: one conversation must not have two of them."""
        tickets = list(self.receiver.inner.tickets.values())
        assert len(tickets) <= 1, f"{self.name} has {len(tickets)} tickets"
        return [each["text"] for ticket in tickets for each in ticket["entries"]]

    async def goes_bad(self) -> None:
        self.proxy.set(LINES[self.name])
        if self.name == REFUSED:
            await self.proxy.refuse()
            await self.proxy.drop_all()

    async def is_well(self) -> None:
        self.proxy.set()
        await self.proxy.accept()


@pytest.fixture
async def lines() -> AsyncIterator[list[Line]]:
    async with AsyncExitStack() as stack:
        found = []
        for name in LINES:
            receiver = await stack.enter_async_context(strict_receiver())
            there = urlsplit(receiver.url)
            proxy = FaultProxy(there.hostname or "", there.port or 0)
            found.append(Line(name, receiver, await stack.enter_async_context(proxy)))
        yield found


async def until(what: str, holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition: longer than one hub's usual patience, for a whole series of tries."""
    ends = time.monotonic() + WITHIN_S
    while not await holds():
        assert time.monotonic() < ends, f"waited {WITHIN_S} s for {what}"
        await asyncio.sleep(0.02)


async def jobs_of(hub: RunningHub, line: Line, **where: Any) -> list[Job]:
    return await hub.hub.store.table(Job).find({"backend": line.name, "kind": "ticket", **where})


async def test_everything_arrives_once_and_in_order_whatever_the_line_did(
    lines: list[Line],
    mongo_url: str,
    mongo_db_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hub.jobs.backoff_s", lambda attempts: 0.3)
    more = "".join(line.toml for line in lines)
    async with running_hub(mongo_url, mongo_db_name, tmp_path, more=more) as hub:
        said = await hub.message("1")
        assert said.conversation is not None

        async def all_have(*texts: str) -> bool:
            return all(line.texts == list(texts) for line in lines)

        await until("the tickets", lambda: all_have("1"))
        for line in lines:
            await line.goes_bad()
        for text in ("2", "3"):
            await hub.message(text)

        async def met() -> bool:
            """Each line had its effect: an attempt that failed, or the entry in spite of it."""
            for line in lines:
                tried = await jobs_of(hub, line, entry={"$ne": said.id}, attempts={"$gt": 0})
                ended = all(not job.live or job.reason for job in tried)
                if not tried or not ended:
                    return False
            return True

        await until("the bad lines to be met", met)
        lost = {line.name: line.proxy.counts.answers_lost for line in lines}
        assert lost["answer_lost"] >= 1
        assert lost[FIRE_AND_FORGET] >= 1
        for line in lines:
            await line.is_well()
        await hub.message("4")
        await until("the rest", lambda: all_have("1", "2", "3", "4"))

        async def settled() -> bool:
            live = await hub.hub.store.table(Job).find({"kind": "ticket", "live": True})
            return not live

        await until("every job's end", settled)
        assert await all_have("1", "2", "3", "4"), "nothing was written again later"
        letters = await hub.hub.store.table(DeadLetter).find({})
        unknown = {letter.ref: letter for letter in letters}
        for line in lines:
            ends = {job.id: job.state for job in await jobs_of(hub, line)}
            dead = [ident for ident, state in ends.items() if state == "dead"]
            if line.name == FIRE_AND_FORGET:
                assert dead, "nobody can be asked, so a person has to be"
                assert {unknown[ident].stage for ident in dead} == {"ticket:outcome_unknown"}
            else:
                assert dead == [], line.name
