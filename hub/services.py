"""What the hub does for plugins and for its own API: intake, commands, signals, followers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import aiohttp
import structlog

from hub.accounts import States
from hub.clock import Clock
from hub.contract import Fetched
from hub.dispatch import commands_of, follow
from hub.documents import Operation
from hub.feed.tail import FeedTail, Timelines
from hub.ids import SpaceKey
from hub.intake import Intake
from hub.media.safe_fetch import SafeFetcher
from hub.planning.commands import digest, operation_id
from hub.planning.rules import Refusal
from hub.plugin_context import PluginRoute, Seen
from hub.store.interface import Store, StoreError
from hub.strays import Strays
from normalizer.drafts import Actor, AnyDraft, Command
from normalizer.pipeline import StepContext, normalize
from normalizer.tickets import BackendEvent

log = structlog.get_logger(__name__)

OPERATION_POLL_S = 0.05


class HubServices:
    """One per process; see :class:`hub.plugin_context.Services`."""

    def __init__(
        self,
        store: Store,
        intake: Intake,
        tail: FeedTail,
        key: SpaceKey,
        clock: Clock,
        http: aiohttp.ClientSession,
        states: States,
        *,
        reply_wait_s: float,
        default_region: str = "CN",
        fetcher: SafeFetcher | None = None,
        public_url: str = "",
    ) -> None:
        self.public_url = public_url
        self.store = store
        self._strays = Strays(store, clock)
        self.key = key
        self.clock = clock
        self.http = http
        self._fetcher = fetcher or SafeFetcher(clock)
        self._intake = intake
        self._tail = tail
        self._timelines = Timelines(store, tail)
        self._states = states
        self._reply_wait_s = reply_wait_s
        self._region = default_region
        self._waiting: dict[str, asyncio.Event] = {}
        self._listeners: dict[str, set[Callable[[Mapping[str, Any]], None]]] = {}
        self.routes: list[tuple[str, PluginRoute]] = []

    async def fetch(
        self,
        url: str,
        *,
        hosts: Sequence[str],
        headers: Mapping[str, str] | None = None,
        max_bytes: int | None = None,
    ) -> Fetched:
        return await self._fetcher.fetch(url, hosts=hosts, headers=headers, max_bytes=max_bytes)

    async def store_file(
        self, data: bytes | AsyncIterator[bytes], metadata: Mapping[str, Any] | None = None
    ) -> str:
        return await self._strays.put(data, metadata=metadata)

    # --- coming in -----------------------------------------------------------------------------

    async def take_in(
        self,
        channel: str,
        account: str,
        drafts: Sequence[AnyDraft],
        *,
        door: str,
        raw: bytes = b"",
        failed: str | None = None,
        may_spool: bool = True,
    ) -> str:
        ident = await self._intake.take_in(
            channel, account, drafts, door=door, raw=raw, failed=failed, may_spool=may_spool
        )
        self._states.heard(f"{channel}:{account}")
        return ident

    async def run_command(
        self,
        name: str,
        args: Mapping[str, Any],
        *,
        key: str,
        actor: str,
        channel: str = "",
        account: str = "",
        wait_s: float | None = None,
    ) -> Mapping[str, Any]:
        """Run a command once for its key and wait for its result; see PluginContext.command.

        Raises Refusal(idempotency-conflict) when the key was used for something else.
        """
        operation = operation_id(self.key, key)
        kind, _, ident = actor.partition(":")
        # Normalized first, as the router will see it: the digest must not depend on line ends.
        draft = normalize(
            Command(key=key, name=name, actor=Actor(kind=kind, id=ident), args=dict(args)),
            StepContext(channel=channel or "hub", account=account, default_region=self._region),
        )
        assert isinstance(draft, Command)
        asked = digest(name, draft.args)
        known = await self.store.table(Operation).get(operation)
        if known is None:
            landed = self._waiting.setdefault(operation, asyncio.Event())
            try:
                await self._intake.take_in(
                    channel or "hub",
                    account,
                    [draft],
                    door="api",
                    operation=operation,
                    may_spool=False,
                )
                known = await self._result(operation, landed, wait_s)
            finally:
                self._waiting.pop(operation, None)
        if known is None:
            return {"operation": operation, "state": "pending"}
        if known.digest != asked:
            raise Refusal(
                "idempotency-conflict", "this Idempotency-Key was used for another request", 409
            )
        return {
            "operation": operation,
            "state": known.state,
            "result": known.result,
            "error": known.error,
            "detail": known.detail,
            "status": known.status,
        }

    async def _result(
        self, operation: str, landed: asyncio.Event, wait_s: float | None
    ) -> Operation | None:
        """Wait until this or another process has routed the command."""
        table = self.store.table(Operation)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._reply_wait_s if wait_s is None else wait_s):
                while True:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(OPERATION_POLL_S):
                            await landed.wait()
                    if (found := await table.get(operation)) is not None:
                        return found
        return None

    def landed(self, operations: Sequence[str]) -> None:
        """The router committed these operations in this process."""
        for operation in operations:
            if operation in self._waiting:
                self._waiting[operation].set()

    async def backend_said(
        self, backend: str, events: Sequence[BackendEvent], raw: bytes = b""
    ) -> None:
        """Take in what a ticket backend says, one item an event, in order."""
        for event in events:
            if event.kind == "unreadable":
                reason = str(event.data.get("reason", ""))
                await self._intake.take_in(
                    "hub", backend, [], door="backend", raw=raw, failed=reason
                )
                continue
            command = await commands_of(self.store, backend, event)
            if command is not None:
                await self._intake.take_in("hub", backend, [command], door="backend", raw=raw)
                raw = b""  # one copy is enough for all events of a request
                await follow(self.store, backend, event)

    # --- telling -------------------------------------------------------------------------------

    async def changes(self, addresses: Sequence[str], after: int, limit: int) -> list[Seen]:
        return await self._timelines.changes(addresses, after, limit)

    def follow(self, addresses: Sequence[str], after: int) -> AsyncIterator[Seen]:
        return self._timelines.follow(addresses, after)

    async def position(self) -> int:
        return self._tail.position

    def add_route(self, plugin: str, route: PluginRoute) -> None:
        self.routes.append((plugin, route))

    # --- hints ---------------------------------------------------------------------------------

    async def signal(self, topic: str, payload: Mapping[str, Any]) -> None:
        try:
            await self.store.signals.publish(topic, payload)
        except StoreError as error:
            log.debug("signal_lost", topic=topic, reason=str(error))

    def on_signal(
        self, topic: str, listener: Callable[[Mapping[str, Any]], None]
    ) -> Callable[[], None]:
        self._listeners.setdefault(topic, set()).add(listener)
        return lambda: self._listeners.get(topic, set()).discard(listener)

    async def listen_to_signals(self) -> None:
        """Hand hints of all processes to whoever asked for them, for ever."""
        async for topic, payload in self.store.signals.listen():
            for listener in list(self._listeners.get(topic, ())):
                try:
                    listener(payload)
                except Exception:
                    log.exception("signal_listener_failed", topic=topic)
