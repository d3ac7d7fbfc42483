"""``omniline plugins``: what is installed, what each plugin offers, and how it is set up."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from hub.config import SettingRow, describe, load
from hub.plugin_host import PluginError, PluginHost, PluginInfo
from hub.tables import print_table

_LISTED = ("name", "version", "origin", "hooks", "connectors", "backends", "available", "reason")


@click.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=Path("omniline.toml"),
    show_default=True,
    envvar="OMNILINE_CONFIG",
    help="The configuration file.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.pass_context
def plugins(context: click.Context, config_path: Path, as_json: bool, names: Sequence[str]) -> None:
    """List what is installed and what each plugin offers; with NAMEs, their settings.

    A NAME is a plugin, a channel or a kind of backend: `omniline plugins wechat`.
    """
    host = PluginHost()
    modules: Sequence[str] = ()
    given = context.get_parameter_source("config_path") is not click.core.ParameterSource.DEFAULT
    if given or config_path.exists():  # what is installed can be asked before there is a file
        config = load(config_path)
        host, modules = PluginHost.for_config(config), config.hub.plugin_modules
    problem = ""
    try:
        host.discover(modules)
    except PluginError as error:
        problem = str(error)
    infos = _chosen(host.installed(), names)
    offered = {info.name: _settings(host, info) for info in infos}
    if as_json:
        rows = [_plain(info, offered[info.name]) for info in infos]
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
    elif names:
        for info in infos:
            _show(info, offered[info.name])
    else:
        print_table(
            ("plugin", "version", "channels", "backends", "from", "state"),
            [
                (
                    info.name,
                    info.version,
                    ", ".join(info.connectors),
                    ", ".join(info.backends),
                    info.origin,
                    "ok" if info.available else info.reason,
                )
                for info in infos
            ],
            whole=("plugin",),
        )
        click.echo("The settings of one: omniline plugins NAME")
    if problem:
        click.echo(problem, err=True)
        sys.exit(1)


def _chosen(infos: Sequence[PluginInfo], names: Sequence[str]) -> list[PluginInfo]:
    """Return the plugins of these names, or those that offer a channel or backend of the name."""
    chosen = list(infos) if not names else []
    for name in names:
        found = [info for info in infos if name in (info.name, *info.connectors, *info.backends)]
        if not found:
            known = ", ".join(info.name for info in infos)
            raise click.UsageError(f"there is no plugin {name}; there are: {known}")
        chosen += [info for info in found if info not in chosen]
    return chosen


def _settings(host: PluginHost, info: PluginInfo) -> Mapping[str, list[SettingRow]]:
    """Return the settings of everything that a plugin offers, by the table they belong into."""
    connectors, backends = host.connectors(), host.backends()
    found: dict[str, list[SettingRow]] = {}
    for channel in info.connectors:
        found[f'[[accounts]] with channel = "{channel}"'] = describe(connectors[channel].settings)
    for kind in info.backends:
        found[f'[[backends]] with type = "{kind}"'] = describe(backends[kind].settings)
    return found


def _plain(info: PluginInfo, offered: Mapping[str, list[SettingRow]]) -> dict[str, Any]:
    plain = {name: msgspec.to_builtins(getattr(info, name)) for name in _LISTED}
    return {
        **plain,
        "settings": {place: msgspec.to_builtins(rows) for place, rows in offered.items()},
    }


def _show(info: PluginInfo, offered: Mapping[str, list[SettingRow]]) -> None:
    state = "" if info.available else f": {info.reason}"
    click.echo(f"{info.name} {info.version} ({info.origin}){state}")
    if info.hooks:
        click.echo(f"hooks: {', '.join(info.hooks)}")
    for place, rows in offered.items():
        print_table(
            ("key", "expects", "default", "meaning"),
            [
                (
                    row.key,
                    row.expects + (f" ({row.unit})" if row.unit else ""),
                    "required" if row.required else row.default,
                    f"{row.help} Secret." if row.secret else row.help,
                )
                for row in rows
            ],
            title=place,
            whole=("key",),
        )
        if not rows:
            click.echo("It has no settings of its own.")
