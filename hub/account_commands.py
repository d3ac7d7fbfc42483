"""``omniline accounts``: see, pause, resume and unstick accounts from the command line.

They work on the database, beside running hubs or without one; running processes see a change
within two seconds.
"""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import click

from hub.accounts import AccountState, States, Switches
from hub.accounts.operating import CannotBeDone, Operating
from hub.accounts.overview import Overview
from hub.admin import open_space
from hub.clock import SystemClock
from hub.config import Config, load
from hub.logs import configure_logs
from hub.metrics import Metrics
from hub.plugin_host import PluginHost
from hub.tables import print_table

SKIP_WAIT_S = 15.0

_config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=Path("omniline.toml"),
    show_default=True,
    envvar="OMNILINE_CONFIG",
    help="The configuration file.",
)
_why_option = click.option("--why", default="", help="Kept, and shown to everybody.")


@click.group()
def accounts() -> None:
    """Accounts: how they do; pause, resume, skip what one is stuck on."""


@accounts.command("list")
@_config_option
def list_accounts(config_path: Path) -> None:
    """List all accounts with their states, as the running processes tell."""

    async def read() -> list[AccountState]:
        async with _operating(_load(config_path)) as (_, overview):
            return [each for each in await overview.read() if each.kind == "account"]

    rows = []
    for state in _run(read()):
        lag_s = state.lag_s(SystemClock().now())
        rows.append(
            (
                state.name,
                state.state,
                _moment(state.since),
                _moment(state.last_message_at),
                "" if lag_s is None else f"{lag_s:.0f} s",
                state.reason,
            )
        )
    print_table(
        ("account", "state", "since", "last message", "lag", "reason"), rows, whole=("account",)
    )


@accounts.command("show")
@_config_option
@click.argument("name")
def show_account(config_path: Path, name: str) -> None:
    """Show one account: NAME is channel:key."""
    _run(_show(_load(config_path), name))


@accounts.command("pause")
@_config_option
@click.argument("name")
@_why_option
@click.option(
    "--inbound",
    type=click.Choice(["store-only", "off"]),
    default=None,
    help="What becomes of what arrives: kept for later, or refused. By default it is kept where"
    " a vendor pushes, and doors that fetch stand still.",
)
def pause_account(
    config_path: Path, name: str, why: str, inbound: Literal["store-only", "off"] | None
) -> None:
    """Pause the account NAME: nothing is sent, nothing is routed."""

    async def pause() -> None:
        config = _load(config_path)
        async with _operating(config) as (operating, _):
            await operating.pause(_known(config, name), by=_who(), why=why, inbound=inbound)
        await _show(config, name)

    _run(pause())


@accounts.command("resume")
@_config_option
@click.argument("name")
def resume_account(config_path: Path, name: str) -> None:
    """Let the paused account NAME go on with the switches it had before."""

    async def resume() -> None:
        config = _load(config_path)
        async with _operating(config) as (operating, _):
            if not await operating.resume(_known(config, name), by=_who()):
                click.echo(f"{name} was not paused; nothing was changed")
        await _show(config, name)

    _run(resume())


@accounts.command("skip")
@_config_option
@click.argument("name")
@_why_option
def skip_one(config_path: Path, name: str, why: str) -> None:
    """Let the stuck account NAME pass the one thing it is stuck on; it becomes a dead letter."""

    async def skip() -> bool:
        config = _load(config_path)
        async with _operating(config) as (operating, _):
            try:
                skip = await operating.skip(
                    _known(config, name), by=_who(), why=why, wait_s=SKIP_WAIT_S
                )
            except CannotBeDone as error:
                raise click.ClickException(str(error)) from error
        told = skip.detail or "no running process has come to it yet; it will when it tries next"
        click.echo(f"{skip.state}: {told}")
        return skip.state != "refused"

    if not _run(skip()):
        raise click.exceptions.Exit(1)


# --- what they share -----------------------------------------------------------------------------


def _load(path: Path) -> Config:
    config = load(path)
    configure_logs("warning", config.hub.log_format)
    return config


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def _who() -> str:
    return f"cli:{getpass.getuser()}"


def _known(config: Config, name: str) -> str:
    names = [account.name for account in config.accounts]
    if name not in names:
        raise click.UsageError(
            f"there is no account {name}; there are: {', '.join(names) or 'none'}"
        )
    return name


@asynccontextmanager
async def _operating(config: Config) -> AsyncIterator[tuple[Operating, Overview]]:
    """Open the space, with the accounts of the configuration and the channels' connectors."""
    clock = SystemClock()
    host = PluginHost.for_config(config)
    host.discover(config.hub.plugin_modules)
    kinds = host.connectors()
    async with open_space(config) as (store, _):
        states = States(clock, Metrics())
        for account in config.accounts:
            states.add("account", account.name, account.label)
            # No door is here: whoever runs knows better.
            states.set("account", account.name, "starting", "no process runs it", elsewhere=True)
        switches = Switches(
            store,
            {
                account.name: {
                    "inbound": account.inbound,
                    "outbound": "on" if account.outbound else "off",
                }
                for account in config.accounts
            },
        )
        await switches.refresh()
        overview = Overview(store, states, switches, owner=_who())
        yield Operating(store, switches, overview, clock, kinds.get), overview


async def _show(config: Config, name: str) -> None:
    async with _operating(config) as (operating, _):
        state = await operating.state(_known(config, name))
    assert state is not None
    lag_s = state.lag_s(SystemClock().now())
    click.echo(f"{state.name}: {state.state}" + (f" ({state.reason})" if state.reason else ""))
    click.echo(f"  since         {_moment(state.since)}")
    click.echo(f"  last message  {_moment(state.last_message_at) or 'none yet'}")
    click.echo(f"  next try      {_moment(state.next_try_at) or 'none planned'}")
    click.echo(f"  lag           {'unknown' if lag_s is None else f'{lag_s:.0f} s'}")


def _moment(at: Any) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at is not None else ""
