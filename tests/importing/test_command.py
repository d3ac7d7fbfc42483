"""`omniline import` as an operator meets it: asked first, told what became of it.

Real: the command as a process of its own, MongoDB, a hub where one is named.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.documents import Entry, ImportRun
from tests.importing.archive import mbox, written
from tests.importing.space import (
    MODULES,
    archive_account,
    dump,
    json_file,
    omniline,
    row,
)
from tests.support.processes import HubProcess
from tests.support.truth import routed, store_of


@pytest.fixture
def space(mongod_url: str, mongo_db_name: str, tmp_path: Path) -> HubProcess:
    """A configured hub that does not run yet."""
    more = archive_account(tmp_path / "past")
    return HubProcess(tmp_path, mongod_url, mongo_db_name, modules=MODULES, more=more)


async def test_the_way_of_an_import(
    space: HubProcess, mongod_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    """Counted, asked, taken in without a hub, routed once one runs, looked at, taken back."""
    config = space.config_path
    rows = [row(number, f"p{number}") for number in range(20)]
    rows[3]["at"] = "yesterday"
    path = json_file(tmp_path / "old.jsonl", [*rows, {**rows[0], "extra": "x"}])
    tried = await omniline("jsonl", str(path), "--dry-run", "--json", config=config)
    assert tried.code == 0, tried
    told = tried.json
    assert (told["state"], told["seen"], told["taken"]) == ("dry-run", 21, 19)
    assert (told["known"], told["failed"], told["not_read"]) == (1, 1, ["extra"])
    assert told["failures"][0]["place"].startswith("line 4, byte ")
    assert "--time-format" in told["failures"][0]["reason"]
    assert "inbox" not in dump(mongod_url, mongo_db_name)

    refused = await omniline("jsonl", str(path), config=config, says="n\n")
    assert refused.code == 130
    assert "Take in 19 message(s)?" in refused.err
    async with store_of(mongod_url, mongo_db_name) as store:
        assert await store.table(ImportRun).count({}) == 0
        ran = await omniline("jsonl", str(path), config=config, says="y\n")
        assert ran.code == 0, ran
        assert "no hub is running" in ran.err
        assert "columns that are not read: extra" in ran.out
        [run] = await store.table(ImportRun).find({})
        assert run.actor.startswith("operator:")
        listed = await omniline("list", config=config)
        assert run.id in listed.out
        assert "done" in listed.out
        shown = await omniline("show", run.id, config=config)
        assert "line 4, byte " in shown.out
        try:
            await space.start()
            await routed(store)
            assert await store.table(Entry).count({"historical": True}) == 19
            nothing = await omniline("jsonl", str(path), config=config)
            assert "nothing new" in nothing.out, nothing
            back = await omniline("rollback", run.id, "--yes", config=config)
            assert f"{run.id} is taken back: 19 entries" in back.out, back
            assert await store.table(Entry).count({}) == 0
            shown = await omniline("show", run.id, config=config)
            assert "rolled-back" in shown.out
        finally:
            await space.close()


async def test_files_of_every_kind(space: HubProcess, tmp_path: Path) -> None:
    """An mbox through its account's connector, a spreadsheet, and an account's own past."""
    config = space.config_path
    old = tmp_path / "old.mbox"
    old.write_bytes(mbox(written("ann", "1", "2019-05-17T08:30:00+00:00", "hello")))
    ran = await omniline(
        "mbox", str(old), "--account", "archive:main", "--yes", "--json", config=config
    )
    assert ran.json["taken"] == 1, ran
    sheet = tmp_path / "old.csv"
    sheet.write_bytes("电话;时间;内容\n+8613800138000;2019/5/17 16:30;您好\n".encode("gb18030"))
    columns = ["--map", "address=电话", "--map", "at=时间", "--map", "text=内容"]
    fixed = ["--set", "channel=sample", "--set", "account=main", "--set", "direction=in"]
    ran = await omniline(
        "csv",
        str(sheet),
        *columns,
        *fixed,
        "--time-zone",
        "Asia/Shanghai",
        "--dry-run",
        "--json",
        config=config,
    )
    assert ran.json["taken"] == 1, ran
    assert ran.json["by"]["month:2019-05"] == 1
    past = tmp_path / "past"
    past.mkdir()
    (past / "1").write_bytes(written("ann", "2", "2019-05-17T08:30:00+00:00", "hello"))
    ran = await omniline(
        "history",
        "--account",
        "archive:main",
        "--since",
        "2019-01-01",
        "--yes",
        "--json",
        config=config,
    )
    assert ran.json["taken"] == 1, ran


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["mbox", "none.mbox", "--account", "archive:main", "--yes"], 1, "cannot be read"),
        (["mbox", "none.mbox", "--account", "archive:other"], 1, "no account 'archive:other'"),
        (["mbox", "none.mbox", "--account", "sample:main"], 1, "reads no archives"),
        (["history", "--account", "sample:main", "--since", "2019-01-01"], 1, "no history"),
        (["history", "--account", "archive:main", "--since", "once"], 2, "--since"),
        (["jsonl", "none", "--map", "text"], 2, "--map is FIELD="),
        (["jsonl", "none", "--map", "body=x"], 1, "no field 'body'"),
        (["show", "imp_none"], 1, "there is no import"),
        (["resume", "imp_none"], 1, "there is no import"),
        (["rollback", "imp_none"], 1, "there is no import"),
    ],
)
async def test_what_is_wrong_is_said_in_words(
    space: HubProcess, args: list[str], code: int, words: str
) -> None:
    ran = await omniline(*args, config=space.config_path)
    assert ran.code == code, ran
    assert words in ran.err
    assert "Traceback" not in ran.err
