"""What connectors see coming, shown before it happens: a token that ends, a right that runs out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import structlog

from hub.accounts.states import States
from hub.contract import Connector

log = structlog.get_logger(__name__)

ASPECT = "foreseen"
EVERY_S = 60.0


class ForeseenWatch:
    """Asks every connector of this process; each warning is logged once."""

    def __init__(self, connectors: Iterable[Connector[Any]], states: States) -> None:
        self._connectors = list(connectors)
        self._states = states
        self._told: dict[str, str] = {}

    async def run(self) -> None:
        """Look now and every minute, for ever."""
        while True:
            self.look()
            await asyncio.sleep(EVERY_S)

    def look(self) -> None:
        for connector in self._connectors:
            name = f"{connector.account.channel}:{connector.account.key}"
            try:
                said = "; ".join(connector.warnings())
            except Exception:
                log.exception("account_warnings_failed", account=name)
                continue
            if said == self._told.get(name, ""):
                continue
            self._told[name] = said
            if said:
                log.warning("account_warns", account=name, warning=said)
                self._states.set("account", name, "degraded", said, aspect=ASPECT)
            else:
                self._states.clear("account", name, ASPECT)
