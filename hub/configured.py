"""What the configuration names, made by the plugins that bring it: connectors and backends.

All problems are collected, so that an operator reads them at once. A problem names its place in
the file and the remedy.
"""

from __future__ import annotations

from typing import Any

import structlog

from hub.accounts import States
from hub.backend_contract import TicketBackend
from hub.config import Config, ConfigError, Problem, parse_settings
from hub.contract import Account, Connector
from hub.plugin_context import ConnectorContext, PluginContext, Services
from hub.plugin_host import PluginHost

log = structlog.get_logger(__name__)


def make_connectors(
    config: Config, host: PluginHost, services: Services, states: States
) -> tuple[dict[tuple[str, str], Connector[Any]], list[Problem]]:
    """Return the connectors by (channel, key), and what is wrong with those that cannot be made."""
    made: dict[tuple[str, str], Connector[Any]] = {}
    problems: list[Problem] = []
    kinds = host.connectors()
    for account in config.accounts:
        kind = kinds.get(account.channel)
        if kind is None:
            problems.append(
                account.settings.problem(
                    "channel",
                    f"no plugin brings the channel {account.channel!r}",
                    f"Installed channels: {', '.join(sorted(kinds)) or 'none'}.",
                )
            )
            continue
        try:
            settings = parse_settings(kind.settings, account.settings, account.name)
        except ConfigError as error:
            problems += error.problems
            continue
        plugin = host.connector_plugin(account.channel)
        connector = kind(
            Account(
                channel=account.channel,
                key=account.key,
                label=account.label,
                settings=settings,
                insecure=account.insecure,
            ),
            ConnectorContext(
                plugin,
                services,
                structlog.get_logger(plugin).bind(account=account.name),
                account.channel,
                account.key,
                mount=kind.mount,
            ),
        )
        for lacking in connector.check_settings():
            if not account.insecure:
                problems.append(
                    account.settings.problem(
                        "channel", lacking, "Set it, or say insecure = true for a trial."
                    )
                )
            else:
                log.warning("account_insecure", account=account.name, lacking=lacking)
        made[(account.channel, account.key)] = connector
        states.add("account", account.name, account.label, state="ok")
    return made, problems


def make_backends(
    config: Config, host: PluginHost, services: Services, states: States
) -> tuple[dict[str, TicketBackend], list[Problem]]:
    """Return the ticket backends by name, and what is wrong with those that cannot be made."""
    made: dict[str, TicketBackend] = {}
    problems: list[Problem] = []
    kinds = host.backends()
    for backend in config.backends:
        kind = kinds.get(backend.type)
        if kind is None:
            problems.append(
                backend.settings.problem(
                    "type",
                    f"no plugin brings the ticket backend {backend.type!r}",
                    f"Installed backends: {', '.join(sorted(kinds)) or 'none'}.",
                )
            )
            continue
        try:
            settings = parse_settings(kind.settings, backend.settings, backend.name)
        except ConfigError as error:
            problems += error.problems
            continue
        plugin = host.backend_plugin(backend.type)
        context = PluginContext(plugin, services, structlog.get_logger(plugin))
        made[backend.name] = kind(backend.name, settings, context)
        states.add("backend", backend.name, state="ok")
    return made, problems


def without_sink(config: Config) -> list[Problem]:
    """Return the feeds that nothing would be sent to: no plugin brings a feed sink yet."""
    return [
        feed.settings.problem(
            "type",
            f"there is no feed sink {feed.type!r}, and none of another type in this release",
            "Remove the table; readers take the feed themselves, by pages or as a stream.",
        )
        for feed in config.feeds
    ]
