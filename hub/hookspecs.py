"""Every hook, in the order in which things happen. This is the first page a plugin author reads.

Hooks register and announce; objects do the work. There is no ``firstresult`` and there are no
wrappers: the host asks plugin by plugin, waits for what can be awaited, cuts at a deadline and
goes on when one fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import pluggy

if TYPE_CHECKING:
    from hub.backend_contract import TicketBackend
    from hub.contract import Connector
    from hub.media.verdicts import ScanVerdict
    from hub.planning.rules import Route
    from hub.plugin_context import PluginContext
    from normalizer.drafts import Message
    from normalizer.parts import Media
    from normalizer.tickets import TicketEntry

hookspec = pluggy.HookspecMarker("omniline")
hookimpl = pluggy.HookimplMarker("omniline")


class Hooks:
    """The namespace of the specifications; plugins implement them as plain functions."""

    # --- at start ----------------------------------------------------------------------------

    @hookspec
    def register_connectors(self, config: Mapping[str, Any]) -> Sequence[type[Connector[Any]]]:  # type: ignore[empty-body]
        """Return this plugin's connector classes; ``config`` is its ``[plugins.NAME]`` table."""

    @hookspec
    def register_ticket_backends(self, config: Mapping[str, Any]) -> Sequence[type[TicketBackend]]:  # type: ignore[empty-body]
        """Return the ticket backend classes of this plugin."""

    @hookspec
    def plugin_started(self, context: PluginContext) -> None:
        """Called once with the plugin's context before the doors open: register routes here."""

    # --- between the inbox and the timeline, before the commit: the whole batch at once --------

    @hookspec
    def choose_ticket_route(self, messages: Sequence[Message]) -> Sequence[Route | None]:  # type: ignore[empty-body]
        """Say for each message where a conversation it opens goes; None = not mine."""

    # --- a file of a message, fetched and not yet shown ----------------------------------------

    @hookspec
    def scan_media(
        self, context: PluginContext, media: Media, file: BinaryIO
    ) -> ScanVerdict | None:
        """Say if a file is clean or infected; None = cannot say. May be async: `ScanVerdict`."""

    # --- on the way to a ticket ----------------------------------------------------------------

    @hookspec
    def render_for_ticket(self, entry: TicketEntry, backend: str) -> TicketEntry | None:
        """Return the entry as this backend should show it, or None to leave it. May be async."""

    # --- afterwards: told, never asked -----------------------------------------------------------

    @hookspec
    def ticket_event_seen(self, event: Mapping[str, Any]) -> None:
        """A backend told something about a ticket. May be async; failures are logged."""

    @hookspec
    def customer_erased(
        self, context: PluginContext, addresses: Sequence[str], conversations: Sequence[str]
    ) -> None:
        """Take away what this plugin keeps about these ids; repeated until it succeeds."""

    @hookspec
    def plugin_stopped(self, context: PluginContext) -> None:
        """Called once when the hub stops, after the last job."""
