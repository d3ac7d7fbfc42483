"""The site channel: browser chat, uploads and in-app messages (站內信), with its widget.

Omniline is the server here, so there is no vendor: the protocol is our own. Read in this order:
:mod:`settings`, :mod:`errors`, :mod:`frames` (what goes over the wire), :mod:`origins` and
:mod:`tokens` (who may speak), :mod:`visitors` (who speaks), :mod:`messages` (what is said),
:mod:`timeline` (what is shown), :mod:`sockets`, :mod:`longpoll` and :mod:`rest` (how it
travels), :mod:`uploads`, :mod:`inapp` and :mod:`erasing`, and :mod:`connector`, which ties
them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.site.connector import SiteConnector
from connectors.site.erasing import erase
from hub import Connector, PluginContext, hookimpl

omniline_api = 1


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[type[Connector[Any]]]:
    return [SiteConnector]


@hookimpl
async def customer_erased(context: PluginContext, addresses: Sequence[str]) -> None:
    await erase(context, addresses)
