"""When the router has a vendor asked who somebody is, and what it does with the answer.

The planner is real, over the in-memory store; there are no workers.
"""

from __future__ import annotations

import msgspec
import pytest

from hub.documents import AddressDoc, Customer, FeedRow, Job
from hub.planning.profiles import JOB
from normalizer.drafts import Event, Outcome, Profile
from normalizer.model import Trust
from tests.planners.harness import PlannerHarness, said, somebody


@pytest.fixture
async def world() -> PlannerHarness:
    return await PlannerHarness(profiles=frozenset({"chat"})).open()


async def jobs(world: PlannerHarness) -> list[Job]:
    return await world.store.table(Job).find({"kind": JOB}, sort=[("position", 1)])


async def event(world: PlannerHarness, key: str, name: str) -> None:
    await world.give(Event(key=key, address=somebody("ann"), name=name))


async def answer(world: PlannerHarness, job: Job, profile: Profile, tried: int = 1) -> bool:
    result = {"state": "found", **job.args, "profile": msgspec.to_builtins(profile)}
    draft = Outcome(key=f"{job.id}:{tried}:found", job=job.id, kind=JOB, result=result)
    return await world.give(draft)


async def ann(world: PlannerHarness) -> tuple[AddressDoc, Customer]:
    ident = world.key.hashed("adr", "chat:main:user:ann")
    address = await world.see(AddressDoc, ident)
    return address, await world.see(Customer, address.customer or "")


async def test_somebody_new_is_asked_for_once_in_a_lane_of_their_own(world: PlannerHarness) -> None:
    for count in range(3):
        await world.give(said("ann", f"m{count}"))
    await world.give(said("bob", "m9"))
    made = await jobs(world)
    assert [job.lane for job in made] == [f"profile:{job.args['address']}" for job in made]
    assert len({job.args["address"] for job in made}) == len(made) == 2
    assert {job.account for job in made} == {"chat:main"}


async def test_nobody_is_asked_for_on_a_channel_that_tells_no_profiles(
    world: PlannerHarness,
) -> None:
    await world.give(said("ann", "m1", channel="phone"), channel="phone")
    assert await jobs(world) == []


async def test_following_and_changing_ask_again_at_most_once_a_day(world: PlannerHarness) -> None:
    await event(world, "e1", "contact.followed")
    await event(world, "e2", "profile.changed")
    assert len(await jobs(world)) == 1
    world.later(hours=23, minutes=59)
    await event(world, "e3", "profile.changed")
    await world.give(said("ann", "m1"))
    assert len(await jobs(world)) == 1
    world.later(minutes=1)
    await event(world, "e4", "menu.clicked")
    assert len(await jobs(world)) == 1
    await event(world, "e5", "contact.followed")
    await event(world, "e5", "contact.followed")
    assert len(await jobs(world)) == 2


async def test_an_answer_names_the_customer_by_the_rules_of_any_profile(
    world: PlannerHarness,
) -> None:
    await world.give(said("ann", "m1"))
    (job,) = await jobs(world)
    kept = await answer(world, job, Profile(name="安 Ann", locale="zh_CN", trust=Trust.SEEN))
    address, customer = await ann(world)
    assert not kept, "the copy in the inbox goes: nothing there names its person"
    assert address.profile == Profile(name="安 Ann", locale="zh_CN", trust=Trust.SEEN)
    assert customer.name == "安 Ann"
    assert (await world.told())[-1] == "customer.updated"
    position = world.position
    await answer(world, job, Profile(name="安 Ann", locale="zh_CN", trust=Trust.SEEN), tried=2)
    assert world.position == position, "the same told twice changes nothing"
    await answer(world, job, Profile(name="Somebody else"), tried=3)
    assert (await ann(world))[0].profile == address.profile, "a claim does not replace what is seen"


async def test_the_answer_to_an_older_question_is_dropped(world: PlannerHarness) -> None:
    await event(world, "e1", "contact.followed")
    world.later(days=2)
    await event(world, "e2", "contact.followed")
    first, second = await jobs(world)
    await answer(world, second, Profile(name="New"))
    await answer(world, first, Profile(name="Old"))
    assert (await ann(world))[0].profile == Profile(name="New")


async def test_an_erased_person_gets_no_profile_and_a_later_life_asks_anew(
    world: PlannerHarness,
) -> None:
    await world.give(said("ann", "m1"))
    (job,) = await jobs(world)
    _, customer = await ann(world)
    await world.done("erase", customer=customer.id)
    assert not await answer(world, job, Profile(name="Ann"))
    ident = world.key.hashed("adr", "chat:main:user:ann")
    assert (await world.see(AddressDoc, ident)).profile is None

    world.later(hours=1)
    await world.give(said("ann", "m2"))
    assert len(await jobs(world)) == 2
    await answer(world, job, Profile(name="From the life before"), tried=2)
    address, customer = await ann(world)
    assert (address.profile, customer.name) == (None, "")


async def test_what_was_imported_asks_nobody_until_it_is_heard(world: PlannerHarness) -> None:
    await world.give(said("ann", "m1"), imported="imp_1")
    assert await jobs(world) == []
    await world.give(said("ann", "m2"))
    assert len(await jobs(world)) == 1
    assert not await world.store.table(FeedRow).count({"type": "customer.updated"})
