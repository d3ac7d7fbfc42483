"""Playing the vendor: a connector's own samples, correctly signed, sent to a running hub."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from io import BytesIO
from typing import Any, cast

import aiohttp
import msgspec
import structlog
from yarl import URL

from hub.clock import SystemClock
from hub.config import Config, parse_settings
from hub.contract import Account, Connector, Sample
from hub.ids import SpaceKey
from hub.plugin_context import ConnectorContext, Services, door_path
from hub.plugin_host import PluginHost
from hub.public_url import configured_url, listening_url
from hub.space import space_key
from hub.store.interface import StoreError
from hub.store.memory import MemoryStore
from normalizer.outcomes import Failure

ANSWER_S = 30
SHOWN_CHARS = 200


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """One sample that was sent, and what the hub said to it.

    Where a sample takes another way than to a webhook, ``method`` is empty and ``answer`` says what
    was done.
    """

    name: str
    method: str
    signed_url: str  # as the vendor would have called it
    status: int
    answer: str

    @property
    def refused(self) -> bool:
        return bool(self.method) and not 200 <= self.status < 300

    def __str__(self) -> str:
        if not self.method:
            return f"{self.name}: {self.answer}"
        return f"{self.name}: {self.method} HTTP {self.status} {self.answer}".rstrip()


async def simulate_channel(
    config: Config, channel: str, to: str = "", account: str = "", sample: str = ""
) -> AsyncIterator[Played]:
    """Send an account's samples to the hub at ``to``, by default to where it listens.

    They are signed for the URL under which the world reaches the hub: ``hub.public_url``, or
    ``to`` where none is configured. Raises StoreError when the channel, the account, the sample
    or the hub's address is not there, and aiohttp's errors when the hub does not answer.
    """
    if not to and config.hub.port == 0:
        raise StoreError("hub.port is 0, so the file does not say where the hub is: add --to URL")
    if to and not to.startswith(("http://", "https://")):
        raise StoreError(
            f"--to is where the hub is reached, such as http://127.0.0.1:8080, not {to}"
        )
    base = (to or listening_url(config.hub)).rstrip("/")
    signed_for = config.hub.public_url or to.rstrip("/") or configured_url(config.hub)
    connector = _connector(config, channel, account, signed_for)
    found = [each for each in connector.samples(SystemClock()) if sample in ("", each.name)]
    elsewhere = {} if found else await _by_its_own_way(connector, sample)
    for name, done in elsewhere.items():
        yield Played(name=name, method="", signed_url="", status=0, answer=done)
    if elsewhere:
        return
    if not found:
        names = ", ".join(each.name for each in connector.samples(SystemClock()))
        raise StoreError(
            f"the channel {channel} has no sample {sample or 'at all'}"
            + (f"; there are: {names}" if names else "")
        )
    door = base + door_path(connector.mount, channel, connector.account.key)
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for each in found:
            try:
                yield await _play(session, door, connector.context.public_url, each)
            except aiohttp.ClientConnectorError as error:
                raise StoreError(
                    f"nobody answers at {base}: {error.os_error}. Start the hub with `omniline"
                    " run`, or say where it is with --to URL"
                ) from error


async def _by_its_own_way(connector: Connector[Any], sample: str) -> Mapping[str, str]:
    try:
        return await connector.simulate(sample)
    except Failure as failure:
        raise StoreError(f"nothing was simulated: {failure.reason}") from failure
    finally:
        await connector.stop()


async def _play(
    session: aiohttp.ClientSession, door: str, signed_for: str, sample: Sample
) -> Played:
    request = sample.request
    query = f"?{request.query_string}" if request.query_string else ""
    async with session.request(
        request.method,
        URL(f"{door}{request.path}{query}", encoded=True),  # signatures are over the raw query
        data=BytesIO(request.body) if request.body else None,
        headers=dict(request.headers),
        allow_redirects=False,
    ) as answer:
        return Played(
            name=sample.name,
            method=request.method,
            signed_url=request.url or f"{signed_for}{request.path}{query}",
            status=answer.status,
            answer=" ".join((await answer.text(errors="replace")).split())[:SHOWN_CHARS],
        )


def _connector(config: Config, channel: str, account: str, signed_for: str) -> Connector[Any]:
    host = PluginHost.for_config(config)
    host.discover(config.hub.plugin_modules)
    kind = host.connectors().get(channel)
    found = [
        each for each in config.accounts if each.channel == channel and account in ("", each.key)
    ]
    if kind is None or not found:
        name = f"account {channel}:{account}" if account else f"account of the channel {channel}"
        known = ", ".join(each.name for each in config.accounts) or "none"
        raise StoreError(f"the configuration has no {name}; there are: {known}")
    settings = parse_settings(kind.settings, found[0].settings, found[0].name)
    context = ConnectorContext(
        host.connector_plugin(channel),
        cast("Services", _Signing(space_key(config.hub), signed_for)),
        structlog.get_logger(channel),
        channel,
        found[0].key,
        mount=kind.mount,
    )
    return kind(
        Account(
            channel=channel,
            key=found[0].key,
            label=found[0].label,
            settings=settings,
            insecure=found[0].insecure,
        ),
        context,
    )


class _Signing:
    """Samples are signed with the account's secrets; of the hub they need its key and URL."""

    def __init__(self, key: SpaceKey, public_url: str) -> None:
        self.key = key
        self.clock = SystemClock()
        self.public_url = public_url
        self.store = MemoryStore()  # what a connector looks up while it is made: nothing
