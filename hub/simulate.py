"""Playing the vendor: a connector's own samples, correctly signed, sent to a running hub."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import aiohttp
import structlog

from hub.clock import SystemClock
from hub.config import Config, parse_settings
from hub.contract import Account, Connector
from hub.ids import SpaceKey
from hub.plugin_context import ConnectorContext, Services
from hub.plugin_host import PluginHost
from hub.space import space_key
from hub.store.interface import StoreError


async def simulate_channel(
    config: Config, channel: str, url: str, account: str, sample: str
) -> AsyncIterator[tuple[str, int, str]]:
    """Send samples; yield (name, HTTP status, answer) for each.

    Raises StoreError when the channel, the account or the sample is not there.
    """
    connector = _connector(config, channel, account)
    base = url.rstrip("/")
    place = f"/in/{channel}/{connector.account.key}"
    if connector.mount != "in":
        place = f"/{connector.mount}/{connector.account.key}"
    samples = [each for each in connector.samples(SystemClock()) if sample in ("", each.name)]
    if not samples:
        raise StoreError(f"the channel {channel} has no sample {sample or 'at all'}")
    async with aiohttp.ClientSession() as session:
        for each in samples:
            request = each.request
            target = f"{base}{place}{request.path}"
            if request.query_string:
                target += f"?{request.query_string}"
            async with session.request(
                request.method, target, data=request.body, headers=dict(request.headers)
            ) as answer:
                yield each.name, answer.status, (await answer.text())[:200]


def _connector(config: Config, channel: str, account: str) -> Connector[Any]:
    host = PluginHost.for_config(config)
    host.discover(config.hub.plugin_modules)
    kind = host.connectors().get(channel)
    found = [
        each for each in config.accounts if each.channel == channel and account in ("", each.key)
    ]
    if kind is None or not found:
        raise StoreError(f"the configuration has no account {channel}:{account or '*'}")
    settings = parse_settings(kind.settings, found[0].settings, found[0].name)
    context = ConnectorContext(
        host.connector_plugin(channel),
        cast("Services", _KeyOnly(space_key(config.hub))),
        structlog.get_logger(channel),
        channel,
        found[0].key,
    )
    return kind(
        Account(channel=channel, key=found[0].key, label=found[0].label, settings=settings), context
    )


class _KeyOnly:
    """Samples are signed with the account's secrets; the hub's key is all that they may need."""

    def __init__(self, key: SpaceKey) -> None:
        self.key = key
        self.clock = SystemClock()
