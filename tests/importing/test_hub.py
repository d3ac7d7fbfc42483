"""Imports into a running hub: counts, known things, live traffic beside it, and taking them back.

Real: hub, MongoDB, HTTP, files. Made up: the sample channel and the archive channel.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub.documents import Conversation, Entry, FeedRow, ImportRun, Job
from hub.importing import taking
from hub.importing.found import ImportProblem
from hub.importing.state import INTERRUPTED
from hub.importing.taking import RouterNeeded
from hub.steps import watchers
from normalizer.parts import Image
from tests.importing.archive import mbox, written
from tests.importing.space import (
    dump,
    hub_with_archive,
    json_file,
    new_run,
    row,
    settled,
    take_in,
    taken_back,
    try_out,
)
from tests.support.hubs import RunningHub
from tests.support.truth import assert_no_gap

COUNT = 1000
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 64


@pytest.fixture
async def hub(mongo_url: str, mongo_db_name: str, tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with hub_with_archive(mongo_url, mongo_db_name, tmp_path) as running:
        yield running


def jsonl(path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"file": str(json_file(path, rows))}


async def historical(hub: RunningHub) -> list[Entry]:
    return await hub.hub.store.table(Entry).find({"historical": True})


@pytest.mark.soak
async def test_a_thousand_old_messages_are_nobodys_work_and_go_without_a_trace(
    hub: RunningHub, mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    """Some of the people are live already; the photo of one message goes as well."""
    for number in range(5):
        await hub.message(sender=f"p{number}", ident=f"live{number}")
    await settled(hub)
    before = dump(mongo_url, mongo_db_name)
    (tmp_path / "photo.png").write_bytes(PNG)
    rows = [row(number, f"p{number % 40}", name="Ann") for number in range(COUNT)]
    rows[7]["attachments"] = ["photo.png"]
    settings = jsonl(tmp_path / "old.jsonl", rows)
    tried = await try_out(hub, "jsonl", settings)
    assert dump(mongo_url, mongo_db_name) == before, "a dry run writes nothing"
    run = await take_in(hub, new_run("jsonl", settings))
    assert run.counts == tried
    assert (tried.seen, tried.taken, tried.known, tried.failed) == (COUNT, COUNT, 0, 0)
    assert tried.by["account:sample:main"] == COUNT
    assert tried.by["kind:message.out"] == sum(each["direction"] == "out" for each in rows)
    assert sum(count for name, count in tried.by.items() if name.startswith("month:")) == COUNT
    assert tried.by["month:2011-02"] == sum(each["at"].startswith("2011-02") for each in rows)
    await settled(hub)
    entries = await historical(hub)
    assert len(entries) == COUNT
    assert {each.at.year for each in entries} == set(range(2010, 2020))
    [photo] = [part for each in entries for part in each.parts if isinstance(part, Image)]
    assert (photo.media.mime, photo.media.size) == ("image/png", len(PNG))
    store = hub.hub.store
    assert await store.table(Conversation).count({}) == 5
    assert await store.table(Job).count({}) == 0
    assert await store.table(FeedRow).count({"type": "message.imported"}) == COUNT
    again = await take_in(hub, new_run("jsonl", settings))
    assert (again.counts.taken, again.counts.known) == (0, COUNT)
    view = await taken_back(hub, run.id)
    assert view["rollback"]["entries"] == COUNT
    assert (view["rollback"]["addresses"], view["rollback"]["customers"]) == (35, 35)
    assert dump(mongo_url, mongo_db_name) == before
    await assert_no_gap(store)  # type: ignore[arg-type]
    third = await take_in(hub, new_run("jsonl", settings))
    assert third.counts.taken == COUNT


async def test_live_messages_come_through_during_an_import_and_its_taking_back(
    hub: RunningHub, tmp_path: Path
) -> None:
    """To people whom the import knows, and to others: each has a conversation, and stays."""
    rows = [row(number, f"p{number % 40}") for number in range(COUNT)]
    live: list[Entry] = []
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            number = len(live)
            live.append(await hub.message(f"live {number}", sender=f"p{number % 80}"))

    writing = asyncio.create_task(write())
    try:
        run = await take_in(hub, new_run("jsonl", jsonl(tmp_path / "old.jsonl", rows)))
        assert live, "live messages came through while it ran"
        await settled(hub)
        await taken_back(hub, run.id)
    finally:
        stop.set()
        await writing
    store = hub.hub.store
    held = {entry.id: entry for entry in await store.table(Entry).find({})}
    assert held.keys() == {entry.id for entry in live}
    assert all(entry.conversation for entry in held.values())
    for who in {number % 80 for number in range(len(live))}:
        await hub.customer(f"p{who}")


async def test_an_mbox_with_attachments_and_large_messages(
    hub: RunningHub, mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    """Its raw copies and files are blobs, which go as well; what is known leaves none behind."""
    before = dump(mongo_url, mongo_db_name)
    messages = [
        written("ann", "1", "2019-05-17T08:30:00+00:00", "hello\nFrom here", file="a.txt"),
        written("bob", "2", "2019-06-17T08:30:00+00:00", "x" * 1_500_000, file="b.txt"),
        b"Nobody: 1\n\nhello\n",
        b"Who: boom\n\nhello\n",
    ]
    (tmp_path / "old.mbox").write_bytes(mbox(*messages))
    settings = {"file": str(tmp_path / "old.mbox"), "account": "archive:main"}
    tried = await try_out(hub, "mbox", settings)
    assert dump(mongo_url, mongo_db_name) == before
    run = await take_in(hub, new_run("mbox", settings))
    assert run.counts == tried
    assert (tried.seen, tried.taken, tried.failed) == (4, 2, 2)
    assert [each.place.partition(",")[0] for each in tried.failures] == ["message 3", "message 4"]
    assert "names who said it" in tried.failures[0].reason
    assert "RuntimeError" in tried.failures[1].reason
    assert "must not be shown" not in tried.failures[1].reason
    await settled(hub)
    [first] = [each for each in await historical(hub) if each.at.month == 5]
    assert getattr(first.parts[0], "text", "").rstrip() == "hello\nFrom here"
    after = dump(mongo_url, mongo_db_name)
    assert len(after["blobs.files"]) == 3
    again = await take_in(hub, new_run("mbox", settings))
    assert (again.counts.taken, again.counts.known) == (0, 2)
    assert dump(mongo_url, mongo_db_name) == after
    await taken_back(hub, run.id)
    assert dump(mongo_url, mongo_db_name) == before


async def test_what_our_side_sent_is_read_from_its_own_folder(
    hub: RunningHub, tmp_path: Path
) -> None:
    (tmp_path / "sent.mbox").write_bytes(
        mbox(written("ann", "1", "2019-05-17T08:30:00+00:00", "an answer"))
    )
    settings = {
        "file": str(tmp_path / "sent.mbox"),
        "account": "archive:main",
        "folder": "sent",
    }
    run = await take_in(hub, new_run("mbox", settings))
    assert run.counts.by["kind:message.out"] == 1


async def test_the_past_of_an_account_is_resumed_where_it_stopped(
    hub: RunningHub, tmp_path: Path
) -> None:
    """The vendor goes away half way; what came before is not counted twice."""
    past = tmp_path / "past"
    past.mkdir()
    for number in range(23):
        year = 2017 if number < 3 else 2019
        text = written("ann", f"{number}", f"{year}-05-17T08:30:00+00:00", "hello")
        (past / f"{number:03}").write_bytes(text)
    settings = {"account": "archive:main", "since": "2018-01-01T00:00:00+00:00"}
    pages = 0

    def go_away() -> None:
        nonlocal pages
        pages += 1
        if pages == 2:
            past.rename(tmp_path / "away")

    run = new_run("history", settings)
    watchers["import.2"] = go_away
    try:
        with pytest.raises(ImportProblem, match=r"the folder is away.*Resume"):
            await take_in(hub, run)
    finally:
        watchers.clear()
    view = await hub.get(f"/api/v1/imports/{run.id}")
    assert (view["state"], view["seen"], view["taken"]) == ("failed", 7, 7)
    assert "the folder is away" in view["reason"]
    (tmp_path / "away").rename(past)
    done = await take_in(hub, run)
    assert (done.state, done.counts.seen, done.counts.taken) == ("done", 20, 20)
    await settled(hub)
    assert len(await historical(hub)) == 20


async def test_the_same_message_twice_in_a_file_is_taken_once(
    hub: RunningHub, tmp_path: Path
) -> None:
    rows = [row(number % 130, "ann") for number in range(260)]
    settings = jsonl(tmp_path / "old.jsonl", rows)
    tried = await try_out(hub, "jsonl", settings)
    run = await take_in(hub, new_run("jsonl", settings))
    assert (run.counts.taken, run.counts.known) == (130, 130)
    assert tried == run.counts
    await settled(hub)
    assert len(await historical(hub)) == 130


async def test_an_import_that_is_taken_back_while_it_runs_stops(
    hub: RunningHub, mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    before = dump(mongo_url, mongo_db_name)
    run = new_run("jsonl", jsonl(tmp_path / "old.jsonl", [row(n, f"p{n}") for n in range(900)]))
    asked: list[asyncio.Task[Any]] = []

    def take_back() -> None:
        if not asked:
            asked.append(asyncio.create_task(taken_back(hub, run.id)))

    watchers["import.2"] = take_back
    try:
        with pytest.raises(ImportProblem, match="was taken back"):
            await take_in(hub, run)
    finally:
        watchers.clear()
    await asked[0]
    await settled(hub)
    assert await historical(hub) == []
    with pytest.raises(ImportProblem, match="was taken back"):
        await take_in(hub, run)
    left = dump(mongo_url, mongo_db_name)
    late = left.pop("inbox", {})
    assert all("raw" not in item and "drafts" not in item for item in late.values())
    assert left == {name: rows for name, rows in before.items() if name != "inbox"}


async def test_two_processes_cannot_run_one_import(hub: RunningHub, tmp_path: Path) -> None:
    run = new_run("jsonl", jsonl(tmp_path / "old.jsonl", [row(1, "ann")]))
    lane = taking.lane_of(run.id)
    [lease] = await hub.hub.store.lanes.claim([lane], "another process", 30.0)
    with pytest.raises(ImportProblem, match="a process runs"):
        await take_in(hub, run)
    assert await hub.hub.store.table(ImportRun).get(run.id) is None
    await hub.hub.store.lanes.release(lease)
    assert (await take_in(hub, run)).state == "done"
    with pytest.raises(ImportProblem, match="is done"):
        await take_in(hub, run)


async def test_a_busy_router_is_not_given_more(
    hub: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While more than a page or two waits, the import does; its backlog never grows beyond."""
    most = 0
    run = new_run("jsonl", jsonl(tmp_path / "old.jsonl", [row(n, "ann") for n in range(900)]))
    store = hub.hub.store
    backlog = store.inbox.backlog

    async def seen() -> Any:
        nonlocal most
        told = await backlog()
        most = max(most, told[0])
        return told

    monkeypatch.setattr(store.inbox, "backlog", seen)
    await take_in(hub, run)
    assert most <= taking.BACKLOG + 100


async def test_without_a_router_it_pauses_before_it_buries_the_next_hub(
    hub: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "BACKLOG_ALONE", 150)
    run = new_run("jsonl", jsonl(tmp_path / "old.jsonl", [row(n, "ann") for n in range(500)]))
    store = hub.hub.store
    router, backlog = store.router.holder, store.inbox.backlog

    async def nobody() -> tuple[str, bool]:
        return "", False

    async def many() -> Any:
        return 200, 0, None

    monkeypatch.setattr(store.router, "holder", nobody)
    monkeypatch.setattr(store.inbox, "backlog", many)
    with pytest.raises(RouterNeeded, match="start one, then resume"):
        await take_in(hub, run)
    held = await store.table(ImportRun).get(run.id)
    assert held is not None
    assert held.state == "paused"
    monkeypatch.setattr(store.router, "holder", router)
    monkeypatch.setattr(store.inbox, "backlog", backlog)
    assert (await take_in(hub, run)).counts.taken == 500


# --- the API -------------------------------------------------------------------------------------


async def test_imports_are_listed_newest_first_page_by_page(
    hub: RunningHub, tmp_path: Path
) -> None:
    runs = [
        await take_in(hub, new_run("jsonl", jsonl(tmp_path / f"{n}", [row(n, "ann")])))
        for n in range(3)
    ]
    page = await hub.get("/api/v1/imports", params={"limit": 2})
    assert [each["id"] for each in page["imports"]] == [runs[2].id, runs[1].id]
    rest = await hub.get("/api/v1/imports", params={"limit": 2, "cursor": page["next_cursor"]})
    assert [each["id"] for each in rest["imports"]] == [runs[0].id]
    assert rest["next_cursor"] is None


async def test_who_may_see_imports_and_take_them_back(hub: RunningHub, tmp_path: Path) -> None:
    """A key that is limited to accounts may do neither: an import may concern any."""
    run = await take_in(hub, new_run("jsonl", jsonl(tmp_path / "1", [row(1, "ann")])))
    path = f"/api/v1/imports/{run.id}"
    reader = await hub.make_key("imports:read")
    assert (await hub.call("GET", path, key=reader)).status == 200
    assert (await hub.post(f"{path}/rollback", key=reader)).status == 403
    limited = await hub.make_key("admin", accounts=["sample:main"])
    assert (await hub.call("GET", path, key=limited)).status == 403
    assert (await hub.post(f"{path}/rollback", key=limited)).status == 403
    assert (await hub.post("/api/v1/imports/imp_00000000000000000000000000/rollback")).status == 404
    assert (await hub.call("GET", "/api/v1/imports/imp_00000000000000000000000000")).status == 404


async def test_an_import_whose_process_died_says_so(hub: RunningHub, tmp_path: Path) -> None:
    run = new_run("jsonl", jsonl(tmp_path / "1", [row(1, "ann")]))
    await hub.hub.store.table(ImportRun).insert([run])
    view = await hub.get(f"/api/v1/imports/{run.id}")
    assert (view["state"], view["reason"]) == ("paused", INTERRUPTED)


async def test_the_feed_names_what_went(hub: RunningHub, tmp_path: Path) -> None:
    """The events about an entry that is gone are tombstones; one more says that it went."""
    run = await take_in(hub, new_run("jsonl", jsonl(tmp_path / "1", [row(1, "ann")])))
    await settled(hub)
    [entry] = await historical(hub)
    told = await hub.get("/feed/v1/events")
    imported = [each for each in told["events"] if each["type"] == "omniline.message.imported.v1"]
    assert imported[0]["data"]["entry"]["historical"] is True
    await taken_back(hub, run.id)
    told = await hub.get("/feed/v1/events")
    by_type = {each["type"]: each for each in told["events"]}
    assert by_type["omniline.message.imported.v1"]["data"] is None
    assert by_type["omniline.message.imported.v1"]["erased"] is True
    assert by_type["omniline.message.removed.v1"]["data"] == {
        "import_id": run.id,
        "entry": entry.id,
        "customer": by_type["omniline.customer.removed.v1"]["data"]["customer"],
    }
