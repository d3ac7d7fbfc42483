"""The worker's last look: what may not leave fails with its reason, or waits for the morning."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from hub.documents import Consent, Entry, Job, Notice
from hub.jobs import Obsolete, Paused
from hub.notifications.gate import may_leave
from hub.store.memory import MemoryStore
from normalizer.model import Direction

NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)  # in Shanghai
NIGHT = datetime(2026, 3, 2, 15, 30, tzinfo=UTC)
ENTRY = Entry(
    id="ent_1",
    address="adr_1",
    position=1,
    at=NOON,
    received_at=NOON,
    channel="chat",
    account="main",
    direction=Direction.OUT,
    event="notification",
    automatic=True,
)
NOTICE = Notice(
    id="ent_1",
    address="adr_1",
    purpose="marketing",
    due_at=NOON,
    position=1,
    needs_grant=True,
    expires_at=NOON + timedelta(days=1),
    quiet_hours="21:00-08:00",
    time_zone="Asia/Shanghai",
)
JOB = Job(id="job_1", lane="notify:adr_1", kind="send", position=1, due_at=NOON, state="sending")


def consent(state: str, purpose: str = "marketing", address: str = "adr_1") -> Consent:
    return Consent(
        id=f"con_{address}_{purpose}", address=address, purpose=purpose, state=state, at=NOON
    )


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    await store.table(Notice).insert([NOTICE])
    await store.table(Consent).insert([consent("granted"), consent("withdrawn", address="adr_2")])
    return store


async def never(store: MemoryStore, at: datetime = NOON, job: Job = JOB) -> dict[str, Any]:
    with pytest.raises(Obsolete) as caught:
        await may_leave(store, ENTRY, job, at)
    assert caught.value.result is not None
    assert caught.value.result["state"] == "failed"
    assert caught.value.result["reason"]
    return caught.value.result


async def test_what_is_allowed_leaves(store: MemoryStore) -> None:
    await may_leave(store, ENTRY, JOB, NOON)


async def test_an_answer_is_not_looked_at(store: MemoryStore) -> None:
    await store.table(Consent).put([consent("withdrawn", "*")])
    for answer in (replace(ENTRY, event=""), replace(ENTRY, automatic=False)):
        await may_leave(store, answer, JOB, NIGHT)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (consent("withdrawn"), "consent_withdrawn"),
        (consent("withdrawn", "*"), "consent_withdrawn"),
        (consent("unknown"), "consent_missing"),
    ],
)
async def test_who_changed_their_mind_gets_nothing(
    store: MemoryStore, said: Consent, code: str
) -> None:
    await store.table(Consent).put([said])
    assert (await never(store))["code"] == code


async def test_it_is_never_sent_late(store: MemoryStore) -> None:
    await may_leave(store, ENTRY, JOB, NOON + timedelta(days=1, seconds=-1))
    assert (await never(store, NOON + timedelta(days=1)))["code"] == "expired"


async def test_one_that_waited_so_long_that_nothing_is_known_of_it_is_late(
    store: MemoryStore,
) -> None:
    await store.table(Notice).delete({})
    assert (await never(store))["code"] == "expired"


async def test_what_was_cancelled_does_not_leave(store: MemoryStore) -> None:
    await store.table(Notice).put([replace(NOTICE, cancelled_at=NOON)])
    assert (await never(store))["code"] == "cancelled"


async def test_what_comes_to_its_turn_at_night_waits_for_the_morning(store: MemoryStore) -> None:
    with pytest.raises(Paused) as caught:
        await may_leave(store, ENTRY, JOB, NIGHT)
    assert NIGHT + timedelta(seconds=caught.value.seconds) == datetime(2026, 3, 3, tzinfo=UTC)
    await store.table(Notice).put([replace(NOTICE, quiet_hours="none")])
    await may_leave(store, ENTRY, JOB, NIGHT)


async def test_of_a_redriven_one_it_outranks_what_was_said_before(store: MemoryStore) -> None:
    redriven = replace(JOB, args={"round": 2})
    assert (await never(store, NOON + timedelta(days=2), redriven))["round"] == 2
