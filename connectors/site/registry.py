"""Who is connected to this process: sockets and long polls, by visitor and by address."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any, Protocol

import structlog

from connectors.site.desk import TYPING_TTL_MS
from connectors.site.errors import SiteError
from connectors.site.frames import Frame, GoingAway, TypingOut

log = structlog.get_logger(__name__)

RECONNECT_AFTER_MS = 1000
CLOSE_S = 5.0


class Listener(Protocol):
    """A client that hears what is pushed. ``visitor`` and ``addresses`` may change."""

    visitor: str
    addresses: tuple[str, ...]

    def push(self, frame: Frame) -> None: ...

    def end(self, error: SiteError) -> None: ...

    async def closed(self) -> None: ...


class Registry:
    """Keeps listeners, and at most so many sockets of one visitor."""

    def __init__(self, sockets_per_visitor: int) -> None:
        self._limit = sockets_per_visitor
        self._listeners: dict[Listener, bool] = {}  # is it a socket? in the order they came

    def add(self, listener: Listener, *, socket: bool = True) -> None:
        if socket:
            self._make_room(listener)
        self._listeners[listener] = socket

    def _make_room(self, newcomer: Listener) -> None:
        mine = [
            each
            for each, socket in self._listeners.items()
            if socket and each.visitor == newcomer.visitor and each is not newcomer
        ]
        for oldest in mine[: max(0, len(mine) + 1 - self._limit)]:
            self._listeners.pop(oldest, None)
            oldest.end(SiteError("replaced", "a newer tab took this one's place"))

    def remove(self, listener: Listener) -> None:
        self._listeners.pop(listener, None)

    def _of_address(self, address: str) -> list[Listener]:
        return [each for each in self._listeners if address in each.addresses]

    def watches(self, address: str) -> bool:
        return any(address in each.addresses for each in self._listeners)

    def tell(self, address: str, frame: Frame) -> None:
        for listener in self._of_address(address):
            listener.push(frame)

    def typing(self, payload: Mapping[str, Any]) -> None:
        """An agent types: show it to the address's tabs. Visitors' own typing goes to agents."""
        if payload.get("by") != "agent":
            return
        frame = TypingOut(
            conversation_id=str(payload.get("thread") or ""),
            by="agent",
            on=bool(payload.get("on")),
            ttl_ms=TYPING_TTL_MS,
        )
        self.tell(str(payload.get("address", "")), frame)

    def ended(self, payload: Mapping[str, Any]) -> None:
        """Sessions were ended from elsewhere: a sign-out, a log-out in another tab, a block."""
        visitor, address = payload.get("visitor"), payload.get("address")
        code = str(payload.get("code", "auth_required"))
        for listener in list(self._listeners):
            if (visitor and listener.visitor == visitor) or (
                address and listener.addresses[:1] == (address,)
            ):
                listener.end(SiteError(code, "this session was ended"))

    async def close(self) -> None:
        """Send everybody away, not all to the same moment, and wait until they are gone."""
        leaving = list(self._listeners)
        for listener in leaving:
            after_ms = RECONNECT_AFTER_MS + random.randrange(RECONNECT_AFTER_MS)
            listener.push(GoingAway(reconnect_after_ms=after_ms))
            listener.end(
                SiteError("draining", "the hub is restarting", retry_after_s=after_ms / 1000)
            )
        if leaving:
            try:
                async with asyncio.timeout(CLOSE_S):
                    await asyncio.gather(*(each.closed() for each in leaving))
            except TimeoutError:
                log.warning("sockets_left_open", count=len(leaving))
