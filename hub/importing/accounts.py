"""An account's connector outside a running hub, for reading its past and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import structlog

from hub.clock import Clock
from hub.config import Config, parse_settings
from hub.contract import Account, Connector
from hub.documents import Doc
from hub.ids import SpaceKey
from hub.importing.found import ImportProblem
from hub.plugin_context import ConnectorContext, Services
from hub.plugin_host import PluginHost
from hub.public_url import configured_url
from hub.store.interface import BlobStore, Store, Table
from hub.strays import Strays

CONNECT_S = 10
TOTAL_S = 120
MARK = "import"  # in a blob's metadata: the import that brought it


class MarkedBlobs:
    """The blob store as an import's connector has it: what it puts names the import.

    In a dry run (no import) nothing is kept of what is put.
    """

    def __init__(self, blobs: BlobStore, imported: str) -> None:
        self._blobs = blobs
        self._imported = imported

    async def put(
        self,
        data: bytes | AsyncIterator[bytes],
        *,
        metadata: Mapping[str, Any] | None = None,
        sealed: bool = False,
        blob: str | None = None,
    ) -> str:
        if not self._imported:
            return "blb_dry"
        marked = {**(metadata or {}), MARK: self._imported}
        return await self._blobs.put(data, metadata=marked, sealed=sealed, blob=blob)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)


class _Store:
    def __init__(self, store: Store, imported: str) -> None:
        self._store = store
        self.blobs = MarkedBlobs(store.blobs, imported)

    def table(self, kind: type[Doc]) -> Table[Any]:
        return self._store.table(kind)


class _Services:
    """What a connector may use that only reads the past: no intake, no commands, no signals."""

    def __init__(
        self,
        store: Store,
        key: SpaceKey,
        clock: Clock,
        http: aiohttp.ClientSession,
        imported: str,
        public_url: str,
    ) -> None:
        self.public_url = public_url
        self.store = _Store(store, imported)
        self.key = key
        self.clock = clock
        self.http = http
        self._dry = not imported

    async def store_file(
        self, data: bytes | AsyncIterator[bytes], metadata: Mapping[str, Any] | None = None
    ) -> str:
        if self._dry:
            return await self.store.blobs.put(data, metadata=metadata)
        return await Strays(self.store, self.clock).put(data, metadata=metadata)


@asynccontextmanager
async def connector_for(
    config: Config, store: Store, key: SpaceKey, clock: Clock, name: str, imported: str
) -> AsyncIterator[Connector[Any]]:
    """Give the connector of the account ``channel:key``. Raises ImportProblem if there is none."""
    accounts = {account.name: account for account in config.accounts}
    account = accounts.get(name)
    if account is None:
        raise ImportProblem(
            f"no account {name!r} is configured; accounts: {', '.join(sorted(accounts)) or 'none'}"
        )
    host = PluginHost.for_config(config)
    host.discover(config.hub.plugin_modules)
    kind = host.connectors().get(account.channel)
    if kind is None:
        raise ImportProblem(f"no plugin brings the channel {account.channel!r}")
    settings = parse_settings(kind.settings, account.settings, account.name)
    timeout = aiohttp.ClientTimeout(total=TOTAL_S, connect=CONNECT_S)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        plugin = host.connector_plugin(account.channel)
        services = _Services(store, key, clock, http, imported, configured_url(config.hub))
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
                cast("Services", services),
                structlog.get_logger(plugin).bind(account=account.name),
                account.channel,
                account.key,
                mount=kind.mount,
            ),
        )
        yield connector
