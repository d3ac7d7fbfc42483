"""What a profile job does with each thing that a vendor may say, over the in-memory store."""

from __future__ import annotations

from typing import Any, cast

import pytest

from hub.contract import Connector
from hub.documents import AddressDoc, Job
from hub.jobs import Obsolete, Paused
from hub.outbound.gate import AccountGate
from hub.profiles import MOST_IN_DOUBT, ProfileWorker
from hub.testing import MemoryStore
from hub.testing.clock import START, FakeClock
from normalizer.drafts import Profile
from normalizer.outcomes import (
    Gone,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
    Unsupported,
)


class Vendor:
    def __init__(self) -> None:
        self.answer: Profile | Exception | None = None
        self.asked: list[str] = []
        self.account = type("A", (), {"channel": "sample", "key": "main"})

    async def fetch_profile(self, address: str) -> Profile | None:
        self.asked.append(address)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class World:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = FakeClock()
        self.gate = AccountGate(self.clock)
        self.vendor = Vendor()
        self.configured = True
        self.worker = ProfileWorker(
            self.store,
            lambda *_: cast(Connector[Any], self.vendor) if self.configured else None,
            self.gate,
            self.clock,
        )
        self.job = Job(
            id="job_1",
            lane="profile:adr_1",
            kind="profile",
            position=1,
            due_at=START,
            state="sending",
            attempts=1,
            account="sample:main",
            args={"address": "adr_1", "asked_at": START.isoformat()},
        )

    async def address(self, **more: Any) -> None:
        given = {"address": "sample:main:user:ann", "profile_asked_at": START, **more}
        await self.store.table(AddressDoc).put([AddressDoc(id="adr_1", scheme="sample", **given)])


@pytest.fixture
async def world() -> World:
    world = World()
    await world.address()
    return world


async def test_a_profile_is_told_cleaned_as_if_it_had_come_by_the_door(world: World) -> None:
    world.vendor.answer = Profile(
        name="A\u202enn\n", phone="138 0013 8000", avatar="javascript:alert(1)"
    )
    result = await world.worker.run(world.job)
    assert result is not None
    assert result["profile"] == {"name": "Ann", "phone": "+8613800138000"}
    assert result["address"] == "adr_1"
    assert world.vendor.asked == ["sample:main:user:ann"]


@pytest.mark.parametrize(
    "refused",
    [Gone("no such user"), Rejected("bad id"), Unreachable("unfollowed"), Unsupported("no"), None],
    ids=repr,
)
async def test_what_the_vendor_does_not_tell_ends_the_job_in_silence(
    world: World, refused: Exception | None
) -> None:
    world.vendor.answer = refused
    assert await world.worker.run(world.job) is None


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (Temporary("busy"), Temporary),
        (RateLimited("too many", retry_after=7), RateLimited),
        (Misconfigured("no right: ask for it in the console"), Misconfigured),
        (OutcomeUnknown("cut off"), Temporary),
        (TimeoutError(), Temporary),
        (KeyError("nickname"), Temporary),
    ],
    ids=repr,
)
async def test_what_may_work_later_is_told_so(
    world: World, raised: Exception, told: type[Exception]
) -> None:
    world.vendor.answer = raised
    with pytest.raises(told):
        await world.worker.run(world.job)


async def test_no_failure_names_the_person(world: World) -> None:
    world.vendor.answer = Temporary("user ann at sample:main:user:ann cannot be read")
    with pytest.raises(Temporary) as failed:
        await world.worker.run(world.job)
    assert "ann" not in str(failed.value).replace("cannot", "")


async def test_a_vendor_that_keeps_failing_is_left_alone_for_a_while(world: World) -> None:
    """The gate that the lanes ask is told: one job is a probe, the others are not taken up."""
    world.vendor.answer = Temporary("busy")
    for _ in range(5):
        with pytest.raises(Temporary):
            await world.worker.run(world.job)
    assert list(world.gate.shut()) == ["sample:main"]


@pytest.mark.parametrize(
    "now",
    [{"erased": True}, {"profile_asked_at": None}, {"profile_asked_at": START.replace(hour=23)}],
    ids=str,
)
async def test_nobody_is_asked_for_who_was_erased_or_asked_for_again(
    world: World, now: dict[str, Any]
) -> None:
    await world.address(**now)
    with pytest.raises(Obsolete):
        await world.worker.run(world.job)
    assert world.vendor.asked == []


async def test_a_question_is_given_up_after_three_days(world: World) -> None:
    world.clock.advance(72 * 3600 + 1)
    with pytest.raises(Obsolete):
        await world.worker.run(world.job)


async def test_an_account_that_is_not_here_is_waited_for(world: World) -> None:
    world.configured = False
    with pytest.raises(Paused):
        await world.worker.run(world.job)


async def test_a_question_in_doubt_is_asked_again_but_not_for_ever(world: World) -> None:
    assert await world.worker.look_up(world.job) is None
    poison = Job(**{**_fields(world.job), "attempts": MOST_IN_DOUBT})
    with pytest.raises(Rejected):
        await world.worker.look_up(poison)


def _fields(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in job.__struct_fields__}
