"""`omniline import`: try it out, take it in, look at it, take it back."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hub.admin import open_space
from hub.clock import SystemClock
from hub.config import Config, load
from hub.documents import ImportCounts, ImportRollback, ImportRun
from hub.ids import SpaceKey, new_id
from hub.importing.found import ImportProblem, Page, Source
from hub.importing.sources import opened
from hub.importing.state import state_of, take_back_key
from hub.importing.taking import Taking
from hub.inbox_writer import InboxWriter
from hub.intake import Intake
from hub.logs import configure_logs
from hub.metrics import Metrics
from hub.planning.commands import operation_id
from hub.store.interface import Store
from hub.tables import print_table
from normalizer.drafts import Actor, Command

BACK_POLL_S = 0.2
BACK_WAIT_S = 3600.0
T = TypeVar("T")

_config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=Path("omniline.toml"),
    show_default=True,
    envvar="OMNILINE_CONFIG",
    help="The configuration file.",
)
_file_argument = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group("import")
def import_commands() -> None:
    """Take in old conversations as history: no ticket, no answer, and a way back.

    Everything is read and counted first; nothing is written before you say yes.
    """


def _how(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that all sources share."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Read and count everything, write nothing."),
        click.option("--yes", is_flag=True, help="Do not count first, do not ask."),
        click.option("--json", "as_json", is_flag=True, help="The counts, for programs."),
        _config_option,
    ):
        command = option(command)
    return command


def _columns(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--map", "mapped", multiple=True, help="FIELD=NAME in the file."),
        click.option("--set", "fixed", multiple=True, help="FIELD=VALUE for every row."),
        click.option("--time-zone", default="", help="Of times without one: Asia/Shanghai."),
        click.option("--time-format", default="", help="How times are written: %d.%m.%Y %H:%M."),
    ):
        command = option(command)
    return command


# --- taking in ----------------------------------------------------------------------------------


@import_commands.command()
@_file_argument
@click.option("--account", required=True, help="channel:key of the account it was kept for.")
@click.option("--folder", type=click.Choice(["", "sent"]), default="", help="sent: our own side's.")
@_how
def mbox(file: Path, account: str, folder: str, **how: Any) -> None:
    """Messages from an mbox FILE, read by the account's connector."""
    settings = {"file": str(file.resolve()), "account": account, "folder": folder}
    _import("mbox", settings, **how)


@import_commands.command()
@click.option("--account", required=True, help="channel:key.")
@click.option("--since", required=True, help="A day, 2024-01-31, or a time with its zone.")
@click.option("--time-zone", default="UTC", show_default=True, help="Of a time without one.")
@_how
def history(account: str, since: str, time_zone: str, **how: Any) -> None:
    """What an account's vendor still has, from a day on."""
    try:
        at = datetime.fromisoformat(since)
        if at.tzinfo is None:
            at = at.replace(tzinfo=ZoneInfo(time_zone))
    except (ValueError, ZoneInfoNotFoundError) as error:
        raise click.UsageError("--since is a day like 2024-01-31, or a time with a zone") from error
    _import("history", {"account": account, "since": at.astimezone(UTC).isoformat()}, **how)


@import_commands.command()
@_file_argument
@_columns
@_how
def jsonl(file: Path, **how: Any) -> None:
    """Messages from a FILE of JSON lines, one object each; see docs/import.md."""
    _import("jsonl", {"file": str(file.resolve()), "columns": _taken(how)}, **how)


@import_commands.command("csv")
@_file_argument
@click.option("--encoding", default="", help="Of the file, if it is not UTF-8 or GB18030.")
@click.option("--delimiter", default="", help="Between fields, if it cannot be told.")
@_columns
@_how
def csv_file(file: Path, encoding: str, delimiter: str, **how: Any) -> None:
    """Messages from a CSV FILE with a header; see docs/import.md."""
    settings = {
        "file": str(file.resolve()),
        "columns": _taken(how),
        "encoding": encoding,
        "delimiter": delimiter,
    }
    _import("csv", settings, **how)


def _taken(how: dict[str, Any]) -> dict[str, Any]:
    """Take the columns' options out of the others."""
    return {
        "map": _pairs(how.pop("mapped"), "--map"),
        "fixed": _pairs(how.pop("fixed"), "--set"),
        "time_zone": how.pop("time_zone"),
        "time_format": how.pop("time_format"),
    }


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value:
            raise click.UsageError(f"{option} is FIELD=..., not {text!r}")
        pairs[name.strip()] = value
    return pairs


def _import(
    kind: str,
    settings: Mapping[str, Any],
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    config_path: Path,
) -> None:
    config = _load(config_path)

    async def work(store: Store, key: SpaceKey) -> None:
        if dry_run or not yes:
            counts = await _try_out(kind, settings, config, store, key, as_json=as_json)
            if dry_run:
                return
            if counts.taken == 0:
                click.echo("there is nothing new to take in")
                return
            if not click.confirm(f"Take in {counts.taken} message(s)?", err=True):
                raise click.Abort
        now = SystemClock().now()
        run = ImportRun(
            id=new_id("imp"),
            source=kind,
            settings=dict(settings),
            account=settings.get("account", ""),
            state="running",
            actor=f"operator:{getpass.getuser()}",
            started_at=now,
            updated_at=now,
        )
        click.echo(f"import {run.id}", err=True)
        await _run(run, config, store, key, as_json=as_json)

    _in_space(config, work)


async def _try_out(
    kind: str,
    settings: Mapping[str, Any],
    config: Config,
    store: Store,
    key: SpaceKey,
    *,
    as_json: bool,
) -> ImportCounts:
    clock = SystemClock()
    taking = Taking(store, key, clock, region=config.hub.default_region)
    async with opened(kind, settings, config, store, key, clock, "") as source:
        with _Bar(source, "counting") as bar:
            counts = await taking.try_out(source, bar.on)
        _show_counts(counts, "dry-run", "would be taken in", as_json=as_json, source=source)
    return counts


async def _run(
    run: ImportRun, config: Config, store: Store, key: SpaceKey, *, as_json: bool
) -> None:
    clock = SystemClock()
    taking = Taking(store, key, clock, region=config.hub.default_region)
    async with opened(run.source, run.settings, config, store, key, clock, run.id) as source:
        with _Bar(source, "taking in", run.counts) as bar:
            run = await taking.run(run, source, bar.on)
        _show_counts(run.counts, run.state, "taken in", as_json=as_json, source=source, run=run.id)
    _, alive = await store.router.holder()
    if not alive:
        click.echo("no hub is running: the messages are in the timeline once one runs", err=True)


class _Bar:
    """The progress bar, on stderr; nothing where nobody looks."""

    def __init__(self, source: Source, what: str, before: ImportCounts | None = None) -> None:
        self._source = source
        self._seen = before.seen if before is not None else 0
        self._progress = Progress(
            TextColumn(what),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            MofNCompleteColumn(),
            TextColumn("{task.fields[seen]} read, {task.fields[taken]} new"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task(what, total=None, seen=0, taken=0)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._progress.stop()

    def on(self, counts: ImportCounts, page: Page) -> None:
        self._progress.update(
            self._task,
            total=self._source.total,
            completed=page.done,
            seen=counts.seen,
            taken=counts.taken,
        )


def _show_counts(
    counts: ImportCounts,
    state: str,
    words: str,
    *,
    as_json: bool,
    source: Source | None = None,
    run: str = "",
) -> None:
    ignored = sorted(source.ignored) if source is not None else []
    if as_json:
        told = {
            "import": run or None,
            "state": state,
            **{name: getattr(counts, name) for name in ("seen", "taken", "known", "failed", "by")},
            "failures": msgspec.to_builtins(counts.failures),
            "not_read": ignored,
        }
        click.echo(msgspec.json.encode(told))
        return
    rows = [
        ("read", counts.seen),
        (words, counts.taken),
        ("known already", counts.known),
        ("failed", counts.failed),
        *((f"  {name}", count) for name, count in counts.by.items()),
    ]
    print_table(
        ("what", "count"),
        [(name, str(count)) for name, count in rows],
        title=run or "dry run",
        whole=("what",),
    )
    for failure in counts.failures:
        click.echo(f"- {failure.place}: {failure.reason}")
    if counts.failed > len(counts.failures):
        click.echo(f"- and {counts.failed - len(counts.failures)} more")
    if ignored:
        click.echo(f"columns that are not read: {', '.join(ignored[:40])}")


# --- looking, going on, taking back --------------------------------------------------------------


@import_commands.command("list")
@_config_option
def show_all(config_path: Path) -> None:
    """List imports, newest first."""

    async def show(store: Store, key: SpaceKey) -> None:
        runs = await store.table(ImportRun).find({}, sort=[("_id", -1)], limit=100)
        rows = []
        for run in runs:
            state, _ = await _state(store, run)
            counts = run.counts
            numbers = (counts.seen, counts.taken, counts.known, counts.failed)
            rows.append((run.id, run.source, run.account, state, *(str(each) for each in numbers)))
        print_table(
            ("id", "source", "account", "state", "read", "taken in", "known", "failed"), rows
        )

    _in_space(_load(config_path), show)


@import_commands.command("show")
@click.argument("ident")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_config_option
def show_one(ident: str, as_json: bool, config_path: Path) -> None:
    """Show one import with its counts and first failures."""

    async def show(store: Store, key: SpaceKey) -> None:
        run = await _named(store, ident)
        state, reason = await _state(store, run)
        _show_counts(run.counts, state, "taken in", as_json=as_json, run=run.id)
        if not as_json:
            click.echo(f"{state}{': ' if reason else ''}{reason}")

    _in_space(_load(config_path), show)


@import_commands.command()
@click.argument("ident")
@click.option("--json", "as_json", is_flag=True, help="The counts, for programs.")
@_config_option
def resume(ident: str, as_json: bool, config_path: Path) -> None:
    """Go on with an import that was stopped, from where it was."""
    config = _load(config_path)

    async def work(store: Store, key: SpaceKey) -> None:
        await _run(await _named(store, ident), config, store, key, as_json=as_json)

    _in_space(config, work)


@import_commands.command()
@click.argument("ident")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_config_option
def rollback(ident: str, yes: bool, config_path: Path) -> None:
    """Take an import back: what only it made goes, what is live stays."""
    config = _load(config_path)

    async def work(store: Store, key: SpaceKey) -> None:
        run = await _named(store, ident)
        if not yes and not click.confirm(f"Take back {run.counts.taken} message(s)?", err=True):
            raise click.Abort
        await _ask_back(store, key, run.id)
        _, alive = await store.router.holder()
        if not alive:
            click.echo(f"no hub is running: {run.id} is taken back once one runs")
            return
        try:
            back = await _taken_back(store, run.id)
        except TimeoutError:
            click.echo(f"{run.id} goes on being taken back: see `omniline import show {run.id}`")
            return
        click.echo(
            f"{run.id} is taken back: {back.entries} entries, {back.addresses} addresses and"
            f" {back.customers} customers are gone"
        )

    _in_space(config, work)


async def _ask_back(store: Store, key: SpaceKey, ident: str) -> None:
    """Put the command into the inbox; it is the one that the API would put."""
    writer = InboxWriter(store.inbox, None, budget_s=30.0)
    await writer.start()
    try:
        command = Command(
            key=take_back_key(ident),
            name="take_back_import",
            actor=Actor(kind="operator", id=getpass.getuser()),
            args={"import_id": ident},
        )
        intake = Intake(writer, store.blobs, key, SystemClock(), Metrics())
        await intake.take_in(
            "hub",
            "",
            [command],
            door="api",
            operation=operation_id(key, command.key),
            may_spool=False,
        )
    finally:
        await writer.close()


async def _taken_back(store: Store, ident: str) -> ImportRollback:
    async with asyncio.timeout(BACK_WAIT_S):
        while True:
            back = await store.table(ImportRollback).get(ident)
            if back is not None and back.state == "done":
                return back
            await asyncio.sleep(BACK_POLL_S)


async def _named(store: Store, ident: str) -> ImportRun:
    run = await store.table(ImportRun).get(ident)
    if run is None:
        raise ImportProblem(f"there is no import {ident}: see `omniline import list`")
    return run


async def _state(store: Store, run: ImportRun) -> tuple[str, str]:
    back = await store.table(ImportRollback).get(run.id)
    return state_of(run, back, await store.lanes.parked())


# --- what all of them need -----------------------------------------------------------------------


def _load(path: Path) -> Config:
    config = load(path)
    configure_logs(config.hub.log_level, config.hub.log_format)
    return config


def _in_space(config: Config, work: Callable[[Store, SpaceKey], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        async with open_space(config) as (store, key):
            return await work(store, key)

    try:
        return asyncio.run(run())
    except ImportProblem as problem:
        raise click.ClickException(str(problem)) from problem
