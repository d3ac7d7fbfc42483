"""Omniline's core. What stands here is its public face: all that plugins import from it."""

from hub.backend_contract import TicketBackend
from hub.clock import Clock
from hub.config import (
    Cidr,
    ConfigError,
    HttpUrl,
    Key32,
    Name,
    RawTable,
    Secret,
    Wrong,
    parse_settings,
)
from hub.contract import (
    Account,
    Answer,
    Answered,
    Connector,
    Deliver,
    Fetched,
    Incoming,
    Outgoing,
    Polled,
    Refused,
    Request,
    Sample,
    Template,
    Verified,
)
from hub.contract import Route as HttpRoute
from hub.documents import AddressDoc, Doc, Entry, Index
from hub.hookspecs import hookimpl
from hub.inbox_writer import Overloaded
from hub.media.verdicts import ScanVerdict
from hub.planning.rules import Refusal, Route
from hub.plugin_context import ConnectorContext, PluginContext, PluginRoute, Seen
from hub.public_hosts import NotPublic, PublicResolver, is_private_literal, is_public
from hub.signed_once import SignedOnce, UsedQuery
from hub.store.interface import StoreError

__all__ = [
    "Account",
    "AddressDoc",
    "Answer",
    "Answered",
    "Cidr",
    "Clock",
    "ConfigError",
    "Connector",
    "ConnectorContext",
    "Deliver",
    "Doc",
    "Entry",
    "Fetched",
    "HttpRoute",
    "HttpUrl",
    "Incoming",
    "Index",
    "Key32",
    "Name",
    "NotPublic",
    "Outgoing",
    "Overloaded",
    "PluginContext",
    "PluginRoute",
    "Polled",
    "PublicResolver",
    "RawTable",
    "Refusal",
    "Refused",
    "Request",
    "Route",
    "Sample",
    "ScanVerdict",
    "Secret",
    "Seen",
    "SignedOnce",
    "StoreError",
    "Template",
    "TicketBackend",
    "UsedQuery",
    "Verified",
    "Wrong",
    "hookimpl",
    "is_private_literal",
    "is_public",
    "parse_settings",
]
