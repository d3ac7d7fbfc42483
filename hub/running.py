"""What the API, the feed and the console see of a running hub: its parts, not how they start."""

from __future__ import annotations

from typing import Any, Protocol

from hub.accounts import States, Switches
from hub.accounts.overview import Overview
from hub.backend_contract import TicketBackend
from hub.clock import Clock
from hub.config import Config, HubSettings
from hub.contract import Connector
from hub.feed.tail import FeedTail
from hub.ids import SpaceKey
from hub.inbox_writer import InboxWriter
from hub.metrics import Metrics
from hub.overload import Overload
from hub.plugin_host import PluginHost
from hub.services import HubServices
from hub.store.interface import Store
from hub.web import Web
from normalizer.capabilities import Capabilities


class Running(Protocol):
    """A hub between its start and its stop; :class:`hub.app.Hub` is one."""

    config: Config
    settings: HubSettings
    key: SpaceKey
    clock: Clock
    store: Store
    services: HubServices
    states: States
    switches: Switches
    overview: Overview
    overload: Overload
    writer: InboxWriter
    tail: FeedTail
    host: PluginHost
    metrics: Metrics
    web: Web
    url: str
    connectors: dict[tuple[str, str], Connector[Any]]
    backends: dict[str, TicketBackend]

    def capabilities_of(self, channel: str) -> Capabilities: ...
