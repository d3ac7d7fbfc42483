"""What the router makes of media: one job for each file, whatever edits do; nothing twice.

The planner is real, over the in-memory store; there are no workers.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from hub.documents import AddressDoc, Entry, Job
from hub.planning.media import IMPORT_JOB, JOB, media_jobs, referenced
from hub.planning.workspace import Workspace
from normalizer.drafts import Amendment, AmendmentKind, Outcome, Target
from normalizer.parts import MEDIA_PARTS, AnyPart, File, Image, Media, MediaState, Text
from tests.planners.harness import PlannerHarness, said, somebody


@pytest.fixture
async def world() -> PlannerHarness:
    return await PlannerHarness().open()


def pending(ref: str | None = None, blob: str | None = None, **more: Any) -> Media:
    return Media(vendor_ref=ref, blob=blob, state=MediaState.PENDING, **more)


async def message(world: PlannerHarness, *parts: AnyPart, key: str = "m1") -> Entry:
    draft = replace(said("ann", key, vendor_ids=(key,)), parts=parts)
    await world.give(draft)
    found = await world.store.table(Entry).find({"kind": {"$exists": False}})
    return found[0]


async def edit(world: PlannerHarness, *parts: AnyPart) -> None:
    await world.give(
        Amendment(
            key="e1",
            target=Target(vendor_id="m1"),
            kind=AmendmentKind.EDIT,
            address=somebody("ann"),
            data={"parts": msgspec.to_builtins(parts)},
        )
    )


async def outcome(world: PlannerHarness, job: Job, media: Media, **more: Any) -> None:
    result = {"state": str(media.state), "index": 0, "media": msgspec.to_builtins(media), **more}
    draft = Outcome(key=f"{job.id}:1", job=job.id, kind=job.kind, entry=job.entry, result=result)
    await world.give(draft)


async def jobs(world: PlannerHarness, kind: str = JOB) -> list[Job]:
    return await world.store.table(Job).find({"kind": kind}, sort=[("position", 1)])


async def media_now(world: PlannerHarness, ident: str) -> list[Media]:
    entry = await world.see(Entry, ident)
    return [part.media for part in entry.parts if isinstance(part, MEDIA_PARTS)]


async def test_each_pending_file_gets_a_job_in_a_lane_of_its_own(world: PlannerHarness) -> None:
    entry = await message(
        world,
        Text(text="hello"),
        File(media=pending("v1")),
        Image(media=pending("v2")),
        File(media=Media(blob="blb_1")),
    )
    made = await jobs(world)
    assert sorted(job.args["ref"] for job in made) == ["v1", "v2"]
    assert len({job.lane for job in made}) == 2
    assert all(job.lane.startswith(f"media:{entry.id}:") for job in made)


async def test_the_same_file_twice_in_a_message_is_fetched_once_and_shown_twice(
    world: PlannerHarness,
) -> None:
    entry = await message(world, File(media=pending("v1")), File(media=pending("v1")))
    (job,) = await jobs(world)
    await outcome(world, job, Media(vendor_ref="v1", blob="blb_done"))
    assert [media.blob for media in await media_now(world, entry.id)] == ["blb_done", "blb_done"]


async def test_a_repeated_message_makes_no_second_job(world: PlannerHarness) -> None:
    await message(world, File(media=pending("v1")))
    await message(world, File(media=pending("v1")))
    assert len(await jobs(world)) == 1


async def test_a_file_that_nobody_can_find_is_lost_with_a_reason(world: PlannerHarness) -> None:
    entry = await message(world, File(media=pending()))
    (media,) = await media_now(world, entry.id)
    assert media.state is MediaState.LOST
    assert media.reason
    assert await jobs(world) == []


async def test_an_edit_makes_jobs_for_what_is_new_in_it_only(world: PlannerHarness) -> None:
    await message(world, File(media=pending("v1")))
    await edit(world, File(media=pending("v2")), File(media=pending("v1")))
    assert sorted(job.args["ref"] for job in await jobs(world)) == ["v1", "v2"]


async def test_a_stored_file_is_known_by_its_blob_wherever_an_edit_puts_it(
    world: PlannerHarness,
) -> None:
    """What an edit puts into the same place does not get the other one's bytes."""
    entry = await message(world, File(media=pending(blob="blb_old")))
    (job,) = await jobs(world)
    await edit(world, File(media=pending(blob="blb_new")), File(media=pending(blob="blb_old")))
    await outcome(world, job, Media(vendor_ref="blob:blb_old", blob="blb_checked"))
    new, old = await media_now(world, entry.id)
    assert (new.state, new.blob) == (MediaState.PENDING, "blb_new")
    assert (old.state, old.blob) == (MediaState.READY, "blb_checked")


async def test_a_checked_copy_lets_the_unchecked_blob_go_once(world: PlannerHarness) -> None:
    await message(world, File(media=pending(blob="blb_raw")))
    (job,) = await jobs(world)
    for _ in range(2):
        await outcome(world, job, Media(vendor_ref="blob:blb_raw", blob="blb_checked"))
    (cleaning,) = await jobs(world, "erase")
    assert (cleaning.task, cleaning.args["blobs"]) == ("blobs", ["blb_raw"])


async def test_a_file_that_was_given_up_keeps_its_bytes_for_another_try(
    world: PlannerHarness,
) -> None:
    entry = await message(world, File(media=pending(blob="blb_raw", name="a.pdf")))
    (job,) = await jobs(world)
    given_up = Media(vendor_ref="blob:blb_raw", state=MediaState.LOST, reason="given up")
    await outcome(world, job, given_up, keep_source=True)
    (media,) = await media_now(world, entry.id)
    assert (media.state, media.blob, media.name) == (MediaState.LOST, "blb_raw", "a.pdf")
    assert await jobs(world, "erase") == []


async def test_an_outcome_for_an_erased_message_lets_its_new_blobs_go(
    world: PlannerHarness,
) -> None:
    entry = await message(world, File(media=pending("v1")))
    (job,) = await jobs(world)
    address = await world.see(AddressDoc, entry.address)
    customer = address.customer
    await world.done("erase", customer=customer)
    assert (await world.see(Entry, entry.id)).erased
    await outcome(world, job, Media(vendor_ref="v1", blob="blb_late"))
    doomed = [each.args["blobs"] for each in await jobs(world, "erase") if each.task == "blobs"]
    assert doomed == [["blb_late"]]
    assert (await world.see(Entry, entry.id)).data == {}


async def test_a_message_that_is_known_lets_bytes_go_that_were_stored_again(
    world: PlannerHarness,
) -> None:
    await message(world, File(media=pending(blob="blb_1")))
    await message(world, File(media=pending(blob="blb_1")))
    assert await jobs(world, "erase") == []
    await message(world, File(media=pending(blob="blb_2")))
    (cleaning,) = await jobs(world, "erase")
    assert cleaning.args["blobs"] == ["blb_2"]


async def test_tickets_are_told_once_when_the_last_file_has_ended(world: PlannerHarness) -> None:
    await message(world, File(media=pending("v1")), File(media=pending("v2")))

    async def notes() -> int:
        return len([job for job in await jobs(world, "ticket") if job.task == "media"])

    first, second = await jobs(world)
    await outcome(world, first, Media(vendor_ref=first.args["ref"], blob="blb_1"))
    assert await notes() == 0
    gone = Media(vendor_ref=second.args["ref"], state=MediaState.LOST, reason="gone")
    await outcome(world, second, gone)
    assert await notes() == 1


async def test_files_of_imported_messages_are_jobs_of_another_kind(world: PlannerHarness) -> None:
    entry = await message(world, Text(text="old"))
    ws = Workspace(entry.position)
    old = replace(entry, historical=True, parts=(File(media=pending("v1")),))
    media_jobs(ws, world.rules, old, fresh=True)
    (job,) = [doc for doc in ws._item[Job].values() if isinstance(doc, Job)]
    assert job.kind == IMPORT_JOB
    assert job.due_at > world.rules.now


def test_a_reference_is_given_once() -> None:
    once = referenced((File(media=pending(blob="blb_1")), Text(text="x")))
    assert referenced(once) == once
    assert isinstance(once[0], File)
    assert once[0].media.vendor_ref == "blob:blb_1"
