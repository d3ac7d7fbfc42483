"""A message whose thread has another name finds it by what it answers or by a label.

Across batches and in one: there a planner's question is answered out of the open batch.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from hub.documents import CORE, Customer, Entry, Thread
from hub.planning.workspace import ById, Find, Wanted
from normalizer.drafts import Message, ThreadLabel
from normalizer.model import Direction
from normalizer.parts import Text, plain_text
from tests.planners.harness import PlannerHarness, run_now, said
from tests.store.spaces import open_space

ONE_BATCH = pytest.mark.parametrize("commit", [True, False], ids=["across batches", "in one batch"])


def mailed(who: str, key: str, *, subject: str = "", **more: Any) -> Message:
    """Return a mail as a connector reads it: named by its own id where nothing else is known."""
    replied = subject.startswith("Re: ")
    base = subject.removeprefix("Re: ")
    given: dict[str, Any] = {"thread": f"<{key}>", "vendor_ids": (f"<{key}>",)}
    if base:
        given["labels"] = (ThreadLabel(name=f"subject:{base}", joins=replied, days=30),)
    return said(who, key, channel="mail", **{**given, **more})


def answering(who: str, key: str, answered: str, **more: Any) -> Message:
    """Return a mail with In-Reply-To and no References: its thread is named by what it answers."""
    given = {"thread": f"<{answered}>", "continues": (f"<{answered}>",)}
    return mailed(who, key, **{**given, **more})


async def threads(hub: PlannerHarness) -> dict[str, str]:
    """Return the thread of each entry by the text that was said."""
    entries = [entry for entry in await hub.all(Entry) if not entry.erased]
    return {plain_text(entry.parts): entry.thread or "" for entry in entries}


async def give(hub: PlannerHarness, *drafts: Message, commit: bool = True) -> dict[str, str]:
    """Route mails one by one, with their keys as text; return their threads."""
    for draft in drafts:
        named = replace(draft, parts=(Text(text=draft.key),))
        await hub.give(named, channel="mail", commit=commit)
    await hub.flush()
    return await threads(hub)


@ONE_BATCH
async def test_an_answer_to_a_later_mail_is_in_its_thread(
    hub: PlannerHarness, commit: bool
) -> None:
    """What it answers is no thread's name; the answers to the answer find it as well."""
    found = await give(
        hub,
        mailed("li", "q"),
        answering("li", "q2", "q", thread="<q>"),
        answering("li", "by id", "q2"),
        answering("li", "by id again", "q2"),
        answering("li", "by the id of the last", "by id"),
        commit=commit,
    )
    assert len(set(found.values())) == 1
    conversations = {entry.conversation for entry in await hub.all(Entry)}
    assert len(conversations) == 1


@ONE_BATCH
async def test_what_is_known_of_several_ids_is_asked_from_the_best(
    hub: PlannerHarness, commit: bool
) -> None:
    found = await give(
        hub,
        mailed("li", "one"),
        mailed("li", "two"),
        mailed("li", "third", thread="<lost>", continues=("<nobody's>", "<two>", "<one>")),
        commit=commit,
    )
    assert found["third"] == found["two"] != found["one"]


@ONE_BATCH
async def test_the_same_subject_joins_where_it_is_an_answer(
    hub: PlannerHarness, commit: bool
) -> None:
    """Without a reply prefix it is a new matter, and the later answers belong to that."""
    found = await give(
        hub,
        mailed("li", "order", subject="order"),
        mailed("li", "re", subject="Re: order"),
        mailed("li", "other", subject="Re: invoice"),
        mailed("li", "new order", subject="order"),
        mailed("li", "re new", subject="Re: order"),
        mailed("li", "none"),
        commit=commit,
    )
    assert found["re"] == found["order"]
    assert found["re new"] == found["new order"] != found["order"]
    assert len({found["order"], found["new order"], found["other"], found["none"]}) == 4


async def test_a_subject_is_forgotten_thirty_days_after_its_last_use(
    hub: PlannerHarness,
) -> None:
    await give(hub, mailed("li", "order", subject="order"))
    hub.later(days=29)
    await give(hub, mailed("li", "used", subject="Re: order"))
    hub.later(days=29)
    found = await give(hub, mailed("li", "still", subject="Re: order"))
    assert found["still"] == found["used"] == found["order"]
    hub.later(days=30, seconds=1)
    found = await give(hub, mailed("li", "late", subject="Re: order"))
    assert found["late"] != found["order"]


@ONE_BATCH
async def test_nobody_gets_into_a_strangers_thread(hub: PlannerHarness, commit: bool) -> None:
    """Neither by quoting a Message-ID, nor by its thread's name, nor by the same subject."""
    found = await give(
        hub,
        mailed("li", "secret", subject="order"),
        answering("eve", "by id", "secret"),
        answering("eve", "by all ids", "nothing", continues=("<x>", "<secret>")),
        mailed("mallory", "by name", thread="<secret>"),
        mailed("trent", "by subject", subject="Re: order"),
        answering("li", "li again", "secret"),
        commit=commit,
    )
    assert found["li again"] == found["secret"]
    assert [name for name, thread in found.items() if thread == found["secret"]] == [
        "secret",
        "li again",
    ]


async def test_our_own_mails_count_and_new_threads_stay_new(hub: PlannerHarness) -> None:
    """A mail of our side is found by its id; one that asks for a thread of its own gets it."""
    found = await give(
        hub,
        mailed("li", "ours", subject="offer", direction=Direction.OUT),
        answering("li", "answer", "ours", thread="<unknown>"),
        mailed("li", "own", subject="Re: offer", thread="", new_thread=True),
    )
    assert found["answer"] == found["ours"] != found["own"]


async def test_an_erased_mail_leads_nowhere(hub: PlannerHarness) -> None:
    await give(hub, mailed("li", "order", subject="order"))
    [entry] = await hub.all(Entry)
    before = entry.thread
    [customer] = await hub.all(Customer)
    await hub.done("erase", customer=customer.id)
    hub.later(hours=1)
    found = await give(
        hub,
        answering("li", "by id", "order", thread="<other>"),
        mailed("li", "by subject", subject="Re: order"),
    )
    assert before not in found.values()


def test_a_message_without_hints_asks_for_no_thread() -> None:
    """The chat's way stays what it was: no document of a thread is read for it."""
    hub = run_now(PlannerHarness().open())
    asked: list[Wanted] = []
    load = hub._load

    async def noted(wanted: Wanted) -> None:
        asked.append(wanted)
        await load(wanted)

    hub._load = noted  # type: ignore[method-assign]
    run_now(hub.give(said("li", "1")))
    run_now(hub.give(said("li", "2")))
    kinds = {wanted.kind for wanted in asked if isinstance(wanted, ById | Find)}
    assert asked
    assert Thread not in kinds
    run_now(hub.give(mailed("li", "3", subject="order"), channel="mail"))
    kinds = {wanted.kind for wanted in asked if isinstance(wanted, ById | Find)}
    assert Thread in kinds


@pytest.mark.real_mongo
async def test_a_database_gives_the_same_answers(request: pytest.FixtureRequest) -> None:
    """Ids, labels and their age, and a stranger, over MongoDB: nothing is left in memory."""
    async with open_space("pymongo", request, kinds=CORE) as opened:
        hub = await PlannerHarness(opened.store).open()
        await give(hub, mailed("li", "order", subject="order"))
        await hub.take_over()
        found = await give(
            hub,
            answering("li", "by id", "order", thread="<lost>"),
            mailed("li", "by subject", subject="Re: order"),
            answering("li", "in the same batch", "by subject"),
            answering("eve", "stranger", "order"),
            commit=False,
        )
        stranger = found.pop("stranger")
        assert {*found.values()} == {found["order"]} != {stranger}
        hub.later(days=31)
        await hub.take_over()
        found = await give(hub, mailed("li", "late", subject="Re: order"))
        assert found["late"] not in (found["order"], stranger)
