"""A hub for one test: what a plugin's context needs, in memory, and everything it was told.

::

    services = FakeServices()
    backend = MyBackend("desk", MySettings(), services.context("mine"))
    ...
    assert services.said[0].events[0].kind == "entry"

``web_app()`` serves the routes that plugins registered, with keys and scopes as the hub has them.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

import aiohttp
import msgspec
import structlog
from aiohttp import web

from hub.clock import Clock
from hub.contract import Fetched
from hub.ids import SpaceKey, new_id
from hub.inbox_writer import Overloaded
from hub.media.safe_fetch import SafeFetcher
from hub.planning.rules import Refusal
from hub.plugin_context import ConnectorContext, PluginContext, PluginRoute, Seen
from hub.store.interface import Store
from hub.store.memory import MemoryStore
from hub.testing.clock import FakeClock
from normalizer.drafts import AnyDraft
from normalizer.tickets import BackendEvent

OnCommand = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]


class TakenIn(msgspec.Struct, frozen=True, kw_only=True):
    """Drafts that a connector delivered."""

    id: str
    channel: str
    account: str
    drafts: tuple[AnyDraft, ...]
    door: str
    raw: bytes


class CommandRun(msgspec.Struct, frozen=True, kw_only=True):
    """A command that was carried out, the first time its key was seen."""

    name: str
    args: Mapping[str, Any]
    key: str
    actor: str
    channel: str
    account: str


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a ticket backend said in one call."""

    backend: str
    events: tuple[BackendEvent, ...]
    raw: bytes


class FakeApiKey(msgspec.Struct, frozen=True):
    """Stands for the API key in ``request["api_key"]``."""

    name: str
    scopes: frozenset[str]
    accounts: frozenset[str] = frozenset()  # "channel:account"; empty = all


class FakeServices:
    """Fulfils :class:`hub.plugin_context.Services` in memory and keeps what plugins did.

    ``overloaded = True`` makes everything that takes something in raise :class:`hub.Overloaded`,
    as when neither the database nor the spool can store. ``on_command`` gives a command's result;
    it may raise :class:`hub.Refusal`, which becomes a refused operation. Without ``http`` a call
    to the outside fails the test. ``private_hosts`` are those from which ``context.fetch`` may
    fetch though they are not public; close ``fetcher`` after a test that fetched.
    """

    def __init__(
        self,
        *,
        store: Store | None = None,
        clock: Clock | None = None,
        key: SpaceKey | None = None,
        http: aiohttp.ClientSession | None = None,
        on_command: OnCommand | None = None,
        private_hosts: Sequence[str] = (),
        public_url: str = "https://hub.example",
    ) -> None:
        self.public_url = public_url
        self.store: Store = MemoryStore() if store is None else store
        self.clock: Clock = FakeClock() if clock is None else clock
        self.key = SpaceKey(b"a key for tests, 32 bytes long.." * 2) if key is None else key
        self.http = cast(aiohttp.ClientSession, _NoNetwork()) if http is None else http
        self.overloaded = False
        self.taken: list[TakenIn] = []
        self.commands: list[CommandRun] = []
        self.said: list[Said] = []
        self.signals: list[tuple[str, Mapping[str, Any]]] = []
        self.routes: list[tuple[str, PluginRoute]] = []
        self._on_command = on_command
        self.fetcher = SafeFetcher(self.clock, private_hosts)
        self._operations: dict[str, Mapping[str, Any]] = {}
        self._timeline: list[tuple[str, Seen]] = []
        self._told = asyncio.Condition()
        self._listeners: dict[str, list[Callable[[Mapping[str, Any]], None]]] = {}

    # --- what a test asks for ------------------------------------------------------------------

    def context(self, plugin: str) -> PluginContext:
        """Return the context that ``plugin_started`` and the plugin's backends get."""
        return PluginContext(plugin, self, structlog.get_logger(plugin))

    def connector_context(
        self, channel: str, account: str, plugin: str = "", *, mount: str = "in"
    ) -> ConnectorContext:
        """Return the context that a connector's account gets."""
        return ConnectorContext(
            plugin or channel, self, structlog.get_logger(channel), channel, account, mount=mount
        )

    @property
    def events(self) -> list[BackendEvent]:
        """Everything that ticket backends said, in order."""
        return [event for said in self.said for event in said.events]

    async def tell(self, address: str, seen: Seen) -> None:
        """Let something happen on an address's timeline; followers see it at once."""
        async with self._told:
            self._timeline.append((address, seen))
            self._told.notify_all()

    def web_app(
        self, *scopes: str, name: str = "test", accounts: Sequence[str] = ()
    ) -> web.Application:
        """Return an application with all registered routes, called with one key.

        The key has ``scopes``, and ``accounts`` where it is limited to some; a route that needs
        another scope answers 403.
        """
        api_key = FakeApiKey(name, frozenset(scopes), frozenset(accounts))
        app = web.Application()
        for plugin, route in self.routes:
            app.router.add_route(
                route.method, f"/api/v1/x/{plugin}{route.path}", _guarded(route, api_key)
            )
        return app

    # --- Services ------------------------------------------------------------------------------

    async def fetch(
        self,
        url: str,
        *,
        hosts: Sequence[str],
        headers: Mapping[str, str] | None = None,
        max_bytes: int | None = None,
    ) -> Fetched:
        return await self.fetcher.fetch(url, hosts=hosts, headers=headers, max_bytes=max_bytes)

    async def store_file(
        self, data: bytes | AsyncIterator[bytes], metadata: Mapping[str, Any] | None = None
    ) -> str:
        return await self.store.blobs.put(data, metadata=metadata)

    async def take_in(
        self,
        channel: str,
        account: str,
        drafts: Sequence[AnyDraft],
        *,
        door: str,
        raw: bytes = b"",
        may_spool: bool = True,
    ) -> str:
        self._refuse_if_overloaded()
        taken = TakenIn(
            id=new_id("in"),
            channel=channel,
            account=account,
            drafts=tuple(drafts),
            door=door,
            raw=raw,
        )
        self.taken.append(taken)
        return taken.id

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
        self._refuse_if_overloaded()
        if key not in self._operations:
            self.commands.append(
                CommandRun(
                    name=name, args=args, key=key, actor=actor, channel=channel, account=account
                )
            )
            self._operations[key] = self._operation(name, args, key)
        return self._operations[key]

    async def backend_said(self, backend: str, events: Sequence[Any], raw: bytes = b"") -> None:
        self._refuse_if_overloaded()
        self.said.append(Said(backend=backend, events=tuple(events), raw=raw))

    def add_route(self, plugin: str, route: PluginRoute) -> None:
        self.routes.append((plugin, route))

    async def changes(self, addresses: Sequence[str], after: int, limit: int) -> list[Seen]:
        found = [
            seen
            for address, seen in self._timeline
            if address in addresses and seen.position > after
        ]
        return sorted(found, key=lambda seen: seen.position)[:limit]

    async def follow(self, addresses: Sequence[str], after: int) -> AsyncIterator[Seen]:
        while True:
            async with self._told:
                while not (page := await self.changes(addresses, after, 100)):
                    await self._told.wait()
            for seen in page:
                after = seen.position
                yield seen

    async def position(self) -> int:
        return max((seen.position for _, seen in self._timeline), default=0)

    async def signal(self, topic: str, payload: Mapping[str, Any]) -> None:
        self.signals.append((topic, payload))
        for listener in list(self._listeners.get(topic, ())):
            listener(payload)

    def on_signal(
        self, topic: str, listener: Callable[[Mapping[str, Any]], None]
    ) -> Callable[[], None]:
        listeners = self._listeners.setdefault(topic, [])
        listeners.append(listener)
        return lambda: listeners.remove(listener)

    # -------------------------------------------------------------------------------------------

    def _operation(self, name: str, args: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        done: dict[str, Any] = {"operation": self.key.hashed("op", key), "state": "done"}
        try:
            result = self._on_command(name, args) if self._on_command is not None else {}
        except Refusal as refusal:
            refused = {"error": refusal.error, "detail": refusal.detail, "status": refusal.status}
            return {**done, "state": "refused", "result": dict(refusal.more), **refused}
        return {**done, "result": result, "error": "", "detail": "", "status": 0}

    def _refuse_if_overloaded(self) -> None:
        if self.overloaded:
            raise Overloaded("this test says that nothing can be stored")


class _NoNetwork:
    """Stands where the HTTP client would be, for tests that must not call anybody."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(
            f"http.{name} was used, and this test has no HTTP client: FakeServices(http=...)"
        )


def _guarded(
    route: PluginRoute, api_key: FakeApiKey
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        if route.scope not in api_key.scopes:
            body = {"type": "about:blank", "title": "Forbidden", "status": 403, "detail": ""}
            return web.json_response(body, status=403, content_type="application/problem+json")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", web.NotAppKeyWarning)  # plugins know it by this name
            request["api_key"] = api_key
        return await route.handler(request)

    return handler
