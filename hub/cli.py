"""The command ``omniline``. Exit codes: 0 done, 1 it failed, 2 the configuration is wrong."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Literal

import aiohttp
import click
import msgspec

from hub import garbage
from hub.account_commands import accounts as account_commands
from hub.admin import open_space
from hub.api.keys import SCOPES, create_key, list_keys, revoke_key
from hub.api.sessions import create_signin_link
from hub.app import Hub, Role, StartFailed
from hub.checks import UnknownAccount, check_config
from hub.clock import SystemClock
from hub.config import Config, ConfigError, load
from hub.documents import Conversation, DeadLetter
from hub.event_loop import LoopMissing, run_on
from hub.importing.command import import_commands
from hub.logs import configure_logs
from hub.outbound.settling import settle_from_outside
from hub.planning.rules import Refusal
from hub.plugin_commands import plugins
from hub.plugin_host import PluginError
from hub.replay import redrive, replay_unrouted
from hub.settling import Settling
from hub.simulate import Played, simulate_channel
from hub.space import SpaceKeyError
from hub.spool import SpoolError
from hub.store.interface import StoreError
from hub.store.mongod import EmbeddedMongodError
from hub.story import tell_story
from hub.tables import print_table

_TRACED = "in_, ent_, job_ or evt_"
_PLAIN = (
    StartFailed,
    StoreError,
    SpaceKeyError,
    SpoolError,
    EmbeddedMongodError,
    PluginError,
    LoopMissing,
    aiohttp.ClientError,
)

_config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=Path("omniline.toml"),
    show_default=True,
    envvar="OMNILINE_CONFIG",
    help="The configuration file.",
)


def main() -> None:
    """Run the command line; every failure is a sentence, not a traceback."""
    try:
        cli(standalone_mode=False)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except _PLAIN as error:
        click.echo(f"{error}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)  # whoever read has gone
    except OSError as error:
        click.echo(f"{error}. See to it that the user that runs Omniline may do that", err=True)
        sys.exit(1)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


@click.group()
@click.version_option(package_name="omniline")
def cli() -> None:
    """Omniline: every channel in one customer timeline, for any helpdesk."""


cli.add_command(account_commands)


def _load(path: Path) -> Config:
    config = load(path)
    configure_logs(config.hub.log_level, config.hub.log_format)
    return config


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


# --- serving -------------------------------------------------------------------------------------


@cli.command()
@_config_option
@click.option("--trace-hooks", is_flag=True, help="Log every call of a plugin's hook.")
def run(config_path: Path, trace_hooks: bool) -> None:
    """Run everything in one process, with the embedded MongoDB unless mongo_url is set."""
    _serve(_load(config_path), "run", trace_hooks)


@cli.command()
@_config_option
@click.option("--trace-hooks", is_flag=True, help="Log every call of a plugin's hook.")
def serve(config_path: Path, trace_hooks: bool) -> None:
    """Take requests in and answer the API; route and send in `omniline worker`."""
    _serve(_load(config_path), "serve", trace_hooks)


@cli.command()
@_config_option
@click.option("--trace-hooks", is_flag=True, help="Log every call of a plugin's hook.")
def worker(config_path: Path, trace_hooks: bool) -> None:
    """Route, send and dispatch; its HTTP port serves health and metrics as well."""
    _serve(_load(config_path), "worker", trace_hooks)


def _serve(config: Config, role: Role, trace_hooks: bool) -> None:
    run_on(config.hub.event_loop, _until_stopped(config, role, trace_hooks))


async def _until_stopped(config: Config, role: Role, trace_hooks: bool) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with Hub(config, role=role) as hub:
        hub.host.trace = trace_hooks
        for warning in config.warnings:
            click.echo(f"warning: {warning}", err=True)
        garbage.settle()
        click.echo(f"ready url={hub.url}")
        sys.stdout.flush()
        await stopped.wait()


# --- looking -------------------------------------------------------------------------------------


@cli.command()
@_config_option
@click.option(
    "--account", "accounts", multiple=True, help="Try this one only (channel:key); several times."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def check(config_path: Path, accounts: Sequence[str], as_json: bool) -> None:
    """Validate the file, try every credential, and say in plain words what is wrong where."""
    try:
        checked = _run(check_config(_load(config_path), accounts))
    except UnknownAccount as error:
        raise click.UsageError(str(error)) from error
    problems = checked.problems
    if as_json:
        told = {"ok": not problems, **msgspec.to_builtins(checked)}
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        for finding in checked.findings:
            if not finding.problems:
                click.echo(f"ok: {finding.kind} {finding.name} ({finding.took_s:.1f} s)")
        for problem in problems:
            click.echo(f"- {problem}")
        if not problems:
            click.echo("all is well")
    if problems:
        sys.exit(1)


cli.add_command(plugins)


@cli.command()
@_config_option
@click.argument("ident")
def trace(config_path: Path, ident: str) -> None:
    """Tell the story of one message: IDENT is in_, ent_, job_ or evt_."""

    async def tell() -> None:
        async with open_space(_load(config_path)) as (store, key):
            story = await tell_story(store, key, ident)
        if not story:
            raise StoreError(f"nothing is known of {ident}: name an id that starts with {_TRACED}")
        print_table(
            ("when", "what", "id", "details"),
            [
                (
                    line.at.isoformat(timespec="milliseconds") if line.at else "",
                    line.what,
                    line.id,
                    line.details,
                )
                for line in story
            ],
            title=f"The story of {ident}",
        )

    _run(tell())


# --- mending -------------------------------------------------------------------------------------


@cli.command("dead-letters")
@_config_option
@click.option(
    "--state",
    type=click.Choice(["open", "redriven", "settled"]),
    default="open",
    show_default=True,
    help="What became of them.",
)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=200, show_default=True, help="At most."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def dead_letters(config_path: Path, state: str, limit: int, as_json: bool) -> None:
    """List what could not be done and why, newest first; see `replay` and `settle`."""

    async def read() -> list[DeadLetter]:
        async with open_space(_load(config_path)) as (store, _):
            return await store.table(DeadLetter).find(
                {"state": state}, sort=[("_id", -1)], limit=limit
            )

    letters = _run(read())
    if as_json:
        fields = ("id", "at", "kind", "stage", "channel", "account", "ref", "reason", "attempts")
        told = [
            {name: msgspec.to_builtins(getattr(each, name)) for name in fields} for each in letters
        ]
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
    elif letters:
        print_table(
            ("id", "when", "stage", "account", "of", "reason"),
            [
                (
                    each.id,
                    f"{each.at:%Y-%m-%d %H:%M:%S} UTC",
                    each.stage,
                    f"{each.channel}:{each.account}" if each.channel else "",
                    each.ref,
                    each.reason,
                )
                for each in letters
            ],
            whole=("id", "of"),
        )
    else:
        click.echo(f"there is no {state} dead letter")


@cli.command()
@_config_option
@click.argument("idents", nargs=-1)
@click.option("--unrouted", is_flag=True, help="Wake up items that nobody routed.")
@click.option("--failed", is_flag=True, help="All open dead letters of the inbox.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
def replay(
    config_path: Path, idents: Sequence[str], unrouted: bool, failed: bool, dry_run: bool
) -> None:
    """Route failed and unrouted items again. IDENTS are dead letters (ded_) or items (in_)."""
    if not (idents or unrouted or failed):
        raise click.UsageError("name items or dead letters, or say --failed or --unrouted")

    async def again() -> int:
        config = _load(config_path)
        async with open_space(config) as (store, _):
            done = 0
            if unrouted:
                done += await replay_unrouted(store, dry_run=dry_run)
            done += await redrive(config, store, list(idents), every=failed, dry_run=dry_run)
            return done

    count = _run(again())
    click.echo(f"{count} item(s) {'would be' if dry_run else 'are'} routed again")


@cli.command()
@_config_option
@click.argument("letter")
@click.option(
    "--as",
    "found",
    type=click.Choice(["sent", "failed"]),
    required=True,
    help="What you found out.",
)
def settle(config_path: Path, letter: str, found: Literal["sent", "failed"]) -> None:
    """Say what became of an answer of unknown outcome. LETTER is its dead letter (ded_)."""

    async def decide() -> None:
        async with open_space(_load(config_path)) as (store, key):
            await settle_from_outside(store, key, SystemClock(), letter, found)

    _run(decide())
    click.echo(f"{letter} is settled as {found}")


@cli.command("settle-ticket")
@_config_option
@click.argument("conversation")
@click.argument("backend")
@click.option("--ticket", default="", help="Its id at the backend, if it was made.")
@click.option("--retry", is_flag=True, help="There is none: make it.")
def settle_ticket(
    config_path: Path, conversation: str, backend: str, ticket: str, retry: bool
) -> None:
    """Decide about a ticket in doubt, where the backend cannot be asked: CONVERSATION is cnv_."""

    async def decide() -> None:
        async with open_space(_load(config_path)) as (store, _):
            found = await store.table(Conversation).get(conversation)
            if found is None:
                raise StoreError(f"there is no conversation {conversation}")
            settling = Settling(store, SystemClock())
            try:
                await settling.settle(found, backend, ticket=ticket, retry=retry, by="operator")
            except Refusal as refusal:
                raise click.UsageError(refusal.detail) from refusal

    if bool(ticket) == retry:
        raise click.UsageError("say --ticket ID or --retry")
    _run(decide())
    click.echo("it goes on at once")


@cli.command()
@_config_option
def migrate(config_path: Path) -> None:
    """Make collections and indexes now, however long it takes, instead of at the next start."""

    async def prepare() -> None:
        async with open_space(_load(config_path)):
            click.echo("the database is up to date")

    _run(prepare())


cli.add_command(import_commands)


# --- letting people in ---------------------------------------------------------------------------


@cli.group()
def keys() -> None:
    """API keys: shown once, stored hashed."""


@keys.command("create")
@_config_option
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    help=f"May be given several times: {', '.join(SCOPES)}.",
)
@click.option("--account", "accounts", multiple=True, help="Limit to channel:account.")
def create(config_path: Path, name: str, scopes: Sequence[str], accounts: Sequence[str]) -> None:
    """Make a key and print it once."""

    async def make() -> str:
        async with open_space(_load(config_path)) as (store, _):
            _, secret = await create_key(store, SystemClock(), name, list(scopes), list(accounts))
            return secret

    known = [account.name for account in _load(config_path).accounts]
    for unknown in sorted(set(accounts) - set(known)):
        click.echo(
            f"warning: the configuration has no account {unknown}; there are:"
            f" {', '.join(known) or 'none'}",
            err=True,
        )
    try:
        click.echo(_run(make()))
    except ValueError as error:
        raise click.UsageError(str(error)) from error


@keys.command("list")
@_config_option
def show(config_path: Path) -> None:
    """List keys; their secrets are not kept."""

    async def read() -> None:
        async with open_space(_load(config_path)) as (store, _):
            held = await list_keys(store)
        print_table(
            ("id", "name", "scopes", "accounts", "created", "state"),
            [
                (
                    key.id,
                    key.name,
                    " ".join(key.scopes),
                    " ".join(key.accounts) or "all",
                    f"{key.created_at:%Y-%m-%d}",
                    "revoked" if key.revoked_at else "active",
                )
                for key in held
            ],
        )

    _run(read())


@keys.command("revoke")
@_config_option
@click.argument("ident")
def revoke(config_path: Path, ident: str) -> None:
    """Take a key back; it stops working within seconds."""

    async def take() -> bool:
        async with open_space(_load(config_path)) as (store, _):
            return await revoke_key(store, SystemClock(), ident)

    if not _run(take()):
        raise click.UsageError(f"there is no key {ident}")
    click.echo(f"{ident} is revoked")


@cli.command()
@_config_option
@click.option("--name", default="operator", show_default=True, help="Who signs in.")
@click.option("--url", default="", help="Where the hub is reached; public_url by default.")
def signin(config_path: Path, name: str, url: str) -> None:
    """Print a sign-in link for the console that works once, for 15 minutes."""

    async def make() -> str:
        config = _load(config_path)
        base = url or config.hub.public_url or f"http://{config.hub.host}:{config.hub.port}"
        async with open_space(config) as (store, _):
            return await create_signin_link(store, SystemClock(), base, name=name)

    click.echo(_run(make()))


@cli.command()
@_config_option
@click.argument("channel")
@click.option(
    "--to", "url", default="", help="The running hub; by default where the file says it listens."
)
@click.option("--account", default="", help="The account's key; the channel's first by default.")
@click.option("--sample", default="", help="Which of the connector's samples; all by default.")
def simulate(config_path: Path, channel: str, url: str, account: str, sample: str) -> None:
    """Send correctly signed vendor requests, made from the connector's samples, to a hub.

    Prints each sample's name with the status and answer that it got; fails if one was refused.
    """

    async def send() -> bool:
        refused: list[Played] = []
        config = _load(config_path)
        async for played in simulate_channel(config, channel, url, account, sample):
            click.echo(str(played))
            refused += [played] if played.refused else []
        doubted = [played for played in refused if played.status in (401, 403)]
        if refused and not doubted:
            click.echo(f"{len(refused)} refused: the answers above say why", err=True)
        elif refused:
            click.echo(
                f"{len(refused)} refused. Signed with this file's secrets for"
                f" {doubted[0].signed_url}: does the running hub have the same account, the same"
                " secrets and this public_url? Its log says why (request_refused).",
                err=True,
            )
        return not refused

    if not _run(send()):
        sys.exit(1)


if __name__ == "__main__":
    main()
