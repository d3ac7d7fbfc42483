"""What a person may do with a letter about an answer: never a second one, never for nothing.

Real: the letters, jobs and entries in the in-memory store. Faked: which accounts there are.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from hub.documents import DeadLetter, Delivery, Entry, Job
from hub.ids import SpaceKey
from hub.outbound.settling import settleable
from hub.planning.rules import Refusal
from hub.replay import Replay
from hub.store.memory import MemoryStore
from hub.testing.clock import START, FakeClock
from normalizer.drafts import DeliveryState
from normalizer.model import Direction
from tests.jobs.test_outbound import Chat
from tests.jobs.world import job

GIVEN_UP = job("job_1", "send:adr_1", entry="ent_1", live=False, state="dead", attempts=2)
LETTER = DeadLetter(
    id="ded_1",
    kind="job",
    reason="no answer",
    stage="send:outcome_unknown",
    channel="chat",
    account="main",
    ref="job_1",
    at=START,
    state="open",
    attempts=2,
)
ANSWER = Entry(
    id="ent_1",
    address="adr_1",
    position=3,
    at=START,
    received_at=START,
    channel="chat",
    account="main",
    direction=Direction.OUT,
    delivery=Delivery(state=DeliveryState.UNKNOWN),
)


class Space:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.accounts = {("chat", "main"): Chat()}
        self.replay = Replay(
            self.store,
            SpaceKey(b"letters under test: 32 bytes...."),
            FakeClock(),
            lambda channel, account: self.accounts.get((channel, account)),
            ["desk"],
        )

    async def has(self, told: DeliveryState, **job: Any) -> None:
        delivery = Delivery(state=told)
        await self.store.table(Entry).put([replace(ANSWER, delivery=delivery)])
        await self.store.table(Job).put([replace(GIVEN_UP, **job)])

    async def is_open(self) -> bool:
        held = await self.store.table(DeadLetter).get("ded_1")
        assert held is not None
        return held.state == "open"

    async def is_due(self) -> bool:
        held = await self.store.table(Job).get("job_1")
        assert held is not None
        return held.live and held.state == "ready"


@pytest.fixture
async def space() -> Space:
    found = Space()
    await found.store.table(DeadLetter).insert([LETTER])
    return found


@pytest.mark.parametrize("state", [DeliveryState.UNKNOWN, DeliveryState.FAILED])
async def test_what_may_not_have_arrived_is_sent_again(space: Space, state: DeliveryState) -> None:
    await space.has(state)
    done = await space.replay.redrive(LETTER, by="wang")
    assert (done.state, await space.is_due()) == ("redriven", True)


@pytest.mark.parametrize(
    "state", [DeliveryState.ACCEPTED, DeliveryState.DELIVERED, DeliveryState.READ]
)
async def test_what_is_known_to_have_arrived_since_is_not_sent_again_and_is_settled_as_sent(
    space: Space, state: DeliveryState
) -> None:
    """Its receipt, its echo or a colleague has said so while the letter was still open."""
    await space.has(state)
    with pytest.raises(Refusal, match="would reach the customer twice"):
        await space.replay.redrive(LETTER, by="wang")
    assert (await space.is_open(), await space.is_due()) == (True, False)
    assert (await settleable(space.store, LETTER, "sent")).id == "job_1"
    with pytest.raises(Refusal, match="it is known what became of this answer"):
        await settleable(space.store, LETTER, "failed")


async def test_an_answer_whose_end_is_not_told_yet_keeps_its_letter(space: Space) -> None:
    """The letter is written first: a click in that moment must not close it for nothing."""
    await space.has(DeliveryState.QUEUED, live=True, state="outcome")
    for tried in (space.replay.redrive(LETTER, by="wang"), settleable(space.store, LETTER, "sent")):
        with pytest.raises(Refusal, match="look again in a minute"):
            await tried
    assert await space.is_open()
    await space.has(DeliveryState.UNKNOWN)
    await space.replay.redrive(LETTER, by="wang")
    assert await space.is_due()


async def test_a_redrive_that_was_interrupted_is_finished_and_no_third_send(space: Space) -> None:
    await space.has(DeliveryState.UNKNOWN, live=True, state="ready", args={"round": 1})
    assert (await space.replay.redrive(LETTER, by="wang")).state == "redriven"
    held = await space.store.table(Job).get("job_1")
    assert held is not None
    assert held.args == {"round": 1}


async def test_an_answer_of_an_account_that_is_gone_is_not_queued_for_ever(space: Space) -> None:
    await space.has(DeliveryState.FAILED)
    space.accounts.clear()
    with pytest.raises(Refusal, match="chat:main is not configured here"):
        await space.replay.redrive(LETTER, by="wang")
    assert (await space.is_open(), await space.is_due()) == (True, False)


@pytest.mark.parametrize(("backend", "is_due"), [("desk", True), ("closed", False)])
async def test_what_was_for_a_backend_that_is_gone_keeps_its_letter(
    space: Space, backend: str, is_due: bool
) -> None:
    await space.has(DeliveryState.ACCEPTED, kind="ticket", backend=backend)
    if is_due:
        await space.replay.redrive(LETTER, by="wang")
    else:
        with pytest.raises(Refusal, match="the backend closed is not configured here"):
            await space.replay.redrive(LETTER, by="wang")
    assert (await space.is_due(), await space.is_open()) == (is_due, not is_due)
