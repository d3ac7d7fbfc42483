"""A hub with an archive account, imports into it, and all that its database holds."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pymongo

from hub.clock import SystemClock
from hub.documents import ImportCounts, ImportRun
from hub.ids import new_id
from hub.importing.sources import opened
from hub.importing.taking import Taking
from tests.support.hubs import RunningHub, running_hub
from tests.support.processes import ROOT

# What tells of the import itself, and what leases, positions and hints are kept in.
BOOKKEEPING = frozenset(
    {
        "account_reports",
        "feed",
        "operations",
        "imports",
        "import_rollbacks",
        "router",
        "lanes",
        "leases",
        "signals",
        "api_keys",
    }
)
MODULES = ("hub.testing.samples.webhook", "tests.importing.archive")


def archive_account(folder: Path) -> str:
    return f'[[accounts]]\nchannel = "archive"\nkey = "main"\nfolder = "{folder}"\n'


@asynccontextmanager
async def hub_with_archive(
    mongo_url: str, database: str, folder: Path
) -> AsyncIterator[RunningHub]:
    async with running_hub(
        mongo_url,
        database,
        folder / "data",
        hub={"plugin_modules": list(MODULES)},
        more=archive_account(folder / "past"),
    ) as hub:
        yield hub


def dump(mongo_url: str, database: str) -> dict[str, dict[str, Any]]:
    """Return every document of the database, by collection and id, but the bookkeeping."""
    with pymongo.MongoClient(mongo_url) as client:
        space = client[database]
        found = {}
        for name in sorted(space.list_collection_names()):
            if name in BOOKKEEPING:
                continue
            where: dict[str, Any] = {}
            if name == "jobs":
                where = {"kind": {"$ne": "import"}}
            if name == "state":
                where = {"_id": {"$not": {"$regex": "^accounts/"}}}  # how accounts do
            if name == "inbox":
                where = {"channel": {"$ne": "hub"}}  # the commands that took it back
            rows = {str(row["_id"]): row for row in space[name].find(where)}
            if rows:
                found[name] = rows
        return found


def row(number: int, who: str, **more: Any) -> dict[str, Any]:
    return {
        "channel": "sample",
        "account": "main",
        "address": f"sample:main:user:{who}",
        "direction": "out" if number % 3 == 2 else "in",
        "at": f"20{10 + number % 10}-0{1 + number % 9}-17T08:{number % 60:02}:00Z",
        "text": f"old message {number}",
        "id": f"old{number}",
        **more,
    }


def json_file(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in rows))
    return path


# --- in this process -----------------------------------------------------------------------------


def new_run(kind: str, settings: Mapping[str, Any]) -> ImportRun:
    now = SystemClock().now()
    return ImportRun(
        id=new_id("imp"),
        source=kind,
        settings=dict(settings),
        account=settings.get("account", ""),
        state="running",
        started_at=now,
        updated_at=now,
    )


async def take_in(hub: RunningHub, run: ImportRun) -> ImportRun:
    """Run an import, or go on with it."""
    space = hub.hub
    taking = Taking(space.store, space.key, space.clock, region="CN")
    async with opened(
        run.source, run.settings, space.config, space.store, space.key, space.clock, run.id
    ) as source:
        return await taking.run(run, source, lambda counts, page: None)


async def try_out(hub: RunningHub, kind: str, settings: Mapping[str, Any]) -> ImportCounts:
    space = hub.hub
    taking = Taking(space.store, space.key, space.clock, region="CN")
    async with opened(
        kind, settings, space.config, space.store, space.key, space.clock, ""
    ) as source:
        return await taking.try_out(source, lambda counts, page: None)


async def settled(hub: RunningHub) -> None:
    """Wait until nothing waits for the router."""

    async def empty() -> bool:
        return (await hub.hub.store.inbox.backlog())[0] == 0

    await hub.until("the router", empty)


async def taken_back(hub: RunningHub, ident: str) -> Any:
    """Ask the API to take an import back; return it when it is."""
    answered = await hub.post(f"/api/v1/imports/{ident}/rollback")
    assert answered.status == 202, answered

    async def done() -> Any:
        view = await hub.get(f"/api/v1/imports/{ident}")
        return view if view["state"] == "rolled-back" else None

    async with asyncio.timeout(60):
        while (view := await done()) is None:
            await asyncio.sleep(0.05)
    return view


# --- the command ---------------------------------------------------------------------------------


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def __repr__(self) -> str:
        return f"<exit {self.code}: {self.out[-2000:]} {self.err[-2000:]}>"


async def omniline(
    *args: str, config: Path, env: Mapping[str, str] | None = None, says: str = ""
) -> Ran:
    """Run `omniline import ARGS` as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hub.cli",
        "import",
        *args,
        "--config",
        str(config),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(env or {})},
    )
    try:
        async with asyncio.timeout(100):
            out, err = await process.communicate(says.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ran(process.returncode or 0, out.decode(), err.decode())
