"""The only place where real parts meet: what is started, in which order, and stopped in reverse.

    mongod -> driver -> store -> space -> spool -> inbox writer -> feed -> plugins
           -> router, workers -> HTTP -> doors

Each part goes onto one exit stack when it has started, so that a start that fails half way
stops just what was started.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

import aiohttp
import structlog
from aiohttp import web

from hub.accounts import States, Switches
from hub.accounts.foreseen import ForeseenWatch
from hub.accounts.keeper import AccountKeeper
from hub.accounts.measures import AccountMeasures
from hub.accounts.overview import Overview
from hub.accounts.reports import Report, Reporter
from hub.api.routes import add_api
from hub.backend_contract import TicketBackend
from hub.clock import Clock, SystemClock
from hub.config import Config, ConfigError
from hub.configured import make_backends, make_connectors, without_sink
from hub.contract import Connector
from hub.documents import CORE, DeadLetter, InboxItem, Job, Operation
from hub.doors import Doors
from hub.feed.tail import FeedTail
from hub.housekeeping import Housekeeping
from hub.ids import new_id
from hub.inbox_writer import InboxWriter
from hub.intake import Intake
from hub.lanes import Lanes
from hub.media.safe_fetch import SafeFetcher
from hub.metrics import Metrics
from hub.notifications.policy import policy_of
from hub.overload import Overload
from hub.planning.rules import Route, Rules
from hub.plugin_context import PluginContext
from hub.plugin_host import PluginHost
from hub.plugin_host.loop_watch import LoopWatch
from hub.preparing import Preparer
from hub.presence import Presence
from hub.probe import survives
from hub.public_url import configured_url
from hub.route_choice import RouteChooser
from hub.router import Batch, Router
from hub.services import HubServices
from hub.space import claim_space, codec, field_cipher, space_key
from hub.spool import Spool
from hub.store.driver import open_driver
from hub.store.interface import Store, StoreError
from hub.store.mongo import MongoStore
from hub.store.mongod import EmbeddedMongod
from hub.store.server_check import check_server
from hub.strays import Strays
from hub.sweeping import Sweeper
from hub.web import Web
from normalizer.capabilities import Capabilities
from normalizer.drafts import Outcome

log = structlog.get_logger(__name__)

Role = Literal["run", "serve", "worker"]
HTTP_CONNECT_S = 5
HTTP_TOTAL_S = 30
STALLS_SHOWN_S = 60.0
DRAIN_LEAST_S = 1.0  # to hand over a lease, however little time there is


class StartFailed(Exception):
    """The hub cannot start; the message says why and what to do, in plain words."""


class _Part(Protocol):
    """What works in a loop of its own and can be asked to stop."""

    async def run(self) -> None: ...

    def stop(self) -> None: ...


class Hub:
    """One process of a space. ``run`` does everything, ``serve`` and ``worker`` split it."""

    def __init__(
        self,
        config: Config,
        *,
        role: Role = "run",
        clock: Clock | None = None,
        doors: bool = True,
        mongo_url: str = "",
    ) -> None:
        self.config = config
        self.settings = config.hub
        self.role = role
        self.clock = clock or SystemClock()
        self._mongo_url = mongo_url or (
            config.hub.mongo_url.reveal() if config.hub.mongo_url is not None else ""
        )
        self._with_doors = doors  # without them nothing is routed, sent or served: for a check
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{new_id('own')[-6:]}"
        self.metrics = Metrics()
        self.states = States(self.clock, self.metrics)
        self.key = space_key(self.settings)
        self._notifications = policy_of(self.settings.notifications)
        self._relays = {
            account.name: tuple(each.name for each in account.relay)
            for account in config.accounts
            if account.relay
        }
        self.url = ""
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._drain_by: float | None = None  # of the event loop's clock, once it stops
        self._capabilities: dict[str, Capabilities] = {}
        self.connectors: dict[tuple[str, str], Connector[Any]] = {}
        self.backends: dict[str, TicketBackend] = {}
        self.contexts: dict[str, PluginContext] = {}
        self.lanes: Lanes | None = None

    # --- life ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Hub:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stop()

    async def _start(self) -> None:
        await self._start_store()
        await self._start_intake()
        await self._start_plugins()
        if not self._with_doors:
            return
        await self._start_accounts()
        if self.role in ("run", "worker"):
            self._start_router()
            self._start_workers()
        await self._start_http()
        await self._open_doors()

    async def _stop(self) -> None:
        """Stop in reverse; the exit stack knows the order."""
        await self._stack.aclose()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something for as long as the hub lives; it is cancelled when its turn comes."""
        task = asyncio.create_task(work, name=name)
        self._stack.push_async_callback(_cancelled, task)

    def _work(self, part: _Part, name: str) -> None:
        """Run something until its turn to stop comes; then it ends what it is doing."""
        task = asyncio.create_task(part.run(), name=name)
        self._stack.push_async_callback(self._drained, part.stop, task)

    async def _drained(self, stop: Callable[[], None], task: asyncio.Task[None]) -> None:
        """Let a part finish what it is doing; cut it when `drain_timeout_s` is over for all.

        What is cut is as after a crash: whoever takes it over looks up what became of it.
        """
        now = asyncio.get_running_loop().time()
        if self._drain_by is None:
            self._drain_by = now + self.settings.drain_timeout_s
        stop()
        done, _ = await asyncio.wait({task}, timeout=max(DRAIN_LEAST_S, self._drain_by - now))
        if not done:
            log.warning("drain_cut", part=task.get_name(), after_s=self.settings.drain_timeout_s)
            task.cancel()
        await asyncio.gather(task, return_exceptions=not done)

    # --- 1: the database -----------------------------------------------------------------------

    async def _start_store(self) -> None:
        settings = self.settings
        if self._mongo_url:
            url = self._mongo_url
        elif self.role == "run":
            server = EmbeddedMongod(settings.data_dir / "mongo", binary=settings.mongod)
            await server.start()
            self._stack.push_async_callback(server.stop)
            self._spawn(self._watch_mongod(server), "mongod-watch")
            url = server.url
        else:
            raise StartFailed(
                f"`omniline {self.role}` needs hub.mongo_url: the embedded MongoDB belongs to"
                " `omniline run` alone"
            )
        driver = await open_driver(url, settings.database, driver=settings.driver)
        store = MongoStore(driver, codec(settings))
        self.store: Store = store
        self._stack.push_async_callback(store.close)
        for problem in await check_server(driver):
            if problem.fatal:
                raise StartFailed(problem.text)
            log.warning("mongodb_setting", problem=problem.text)
        await store.prepare(CORE)
        await claim_space(store, self.key, settings.encrypt)

    async def _watch_mongod(self, server: EmbeddedMongod) -> None:
        """Start the embedded server again when it dies; the spool bridges the gap."""
        while True:
            died = await server.wait_died()
            log.error("mongod_died", reason=str(died))
            await asyncio.sleep(0.5)
            try:
                await server.restart()
            except Exception:
                log.exception("mongod_not_restarted")
                await asyncio.sleep(2.0)

    # --- 2: everything that comes in -----------------------------------------------------------

    async def _start_intake(self) -> None:
        settings = self.settings
        cipher = field_cipher(settings)
        spool = Spool.open(
            settings.data_dir / "spool",
            max_bytes=settings.spool_max_bytes,
            reserve_bytes=settings.disk_reserve_bytes,
            seal=cipher.seal_bytes if cipher else None,
            unseal=cipher.open_bytes if cipher else None,
        )
        self._stack.push_async_callback(spool.close)
        self.spool = spool
        self.metrics.spool_records.set_function(lambda: float(spool.pending))
        adopted = await spool.adopt_dead()
        if adopted:
            log.info("spool_adopted", records=adopted)
        self.writer = InboxWriter(
            self.store.inbox, spool, budget_s=settings.commit_budget_ms / 1000
        )
        await self.writer.start()
        self._stack.push_async_callback(self.writer.close)
        if adopted and not await self.writer.drained(settings.drain_timeout_s):
            log.warning("spool_not_drained_yet", advice="doors open all the same, in order")
        self.overload = Overload(
            self.store,
            self.writer,
            self.clock,
            self.metrics,
            settings.data_dir,
            lag_limit_s=settings.lag_limit_s,
            max_items=settings.inbox_max_items,
            max_bytes=settings.inbox_max_bytes,
            disk_reserve=settings.disk_reserve_bytes,
        )
        self._spawn(self.overload.watch(), "overload")
        self.tail = FeedTail(self.store)
        await self.tail.start()
        self._stack.push_async_callback(self.tail.stop)
        self.switches = Switches(
            self.store,
            {
                account.name: {
                    "inbound": account.inbound,
                    "outbound": "on" if account.outbound else "off",
                }
                for account in self.config.accounts
            },
        )
        await self.switches.refresh()
        http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=HTTP_TOTAL_S, connect=HTTP_CONNECT_S)
        )
        self._stack.push_async_callback(http.close)
        fetcher = SafeFetcher(self.clock, settings.media.private_hosts)
        self._stack.push_async_callback(fetcher.close)
        self.intake = Intake(
            self.writer,
            self.store.blobs,
            self.key,
            self.clock,
            self.metrics,
            self.switches.inbound,
            settings.default_region,
            [account.name for account in self.config.accounts if account.relay],
            Strays(self.store, self.clock),
        )
        self.services = HubServices(
            self.store,
            self.intake,
            self.tail,
            self.key,
            self.clock,
            http,
            self.states,
            reply_wait_s=settings.reply_wait_s,
            default_region=settings.default_region,
            fetcher=fetcher,
            public_url=configured_url(settings),
        )
        self._spawn(self.services.listen_to_signals(), "signals")

    # --- 3: plugins ----------------------------------------------------------------------------

    async def _start_plugins(self) -> None:
        self.host = PluginHost.for_config(self.config, clock=self.clock)
        self.host.discover(self.settings.plugin_modules)
        self.loop_watch = LoopWatch(self.host.owners, lambda: self.host.current)
        self.loop_watch.start()
        self._stack.callback(self.loop_watch.stop)
        made = (self.config, self.host, self.services, self.states)
        self.connectors, of_accounts = make_connectors(*made)
        self.backends, of_backends = make_backends(*made)
        if problems := [*of_accounts, *of_backends, *without_sink(self.config)]:
            raise ConfigError(problems)
        self._capabilities = {
            channel: type(each).capabilities for (channel, _), each in self.connectors.items()
        }
        for plugin in self.host.plugins():
            context = PluginContext(plugin, self.services, structlog.get_logger(plugin))
            self.contexts[plugin] = context
            answer = await self.host.ask_one(plugin, "plugin_started", context=context)
            if answer is not None and answer.error is not None:
                raise StartFailed(f"the plugin {plugin} did not start: {answer.error}")
        self._stack.push_async_callback(self.host.aclose)
        for plugin, context in self.contexts.items():
            self._stack.push_async_callback(
                self.host.ask_one, plugin, "plugin_stopped", context=context
            )
        for connector in self.connectors.values():
            await connector.start()
            self._stack.push_async_callback(connector.stop)
        for backend in self.backends.values():
            await backend.start()
            self._stack.push_async_callback(backend.stop)

    async def _start_accounts(self) -> None:
        """Tell the other processes how the accounts do here, and hear how they do there."""
        await self.store.prepare([Report])
        self.overview = Overview(self.store, self.states, self.switches, owner=self.owner)
        self.metrics.registry.register(
            AccountMeasures(lambda: self.overview.last or self.states.all(), self.clock)
        )
        self._spawn(self.overview.watch(), "accounts-overview")
        reporter = Reporter(self.store, self.states, self.clock, owner=self.owner, role=self.role)
        self._spawn(reporter.run(), "accounts-report")
        self._spawn(ForeseenWatch(self.connectors.values(), self.states).run(), "accounts-foreseen")

    # --- 4: the router and the workers ---------------------------------------------------------

    def _start_router(self) -> None:
        settings = self.settings
        presence = Presence(self.store, self.owner, settings.router_lease_s)
        self._spawn(presence.keep(), "presence")
        preparer = Preparer(settings.default_region, deadline_s=settings.router_lease_s / 5)
        self._stack.callback(preparer.close)
        self.router = Router(
            self.store,
            preparer,
            self._rules,
            RouteChooser(
                self.host, min(settings.hook_timeout_s, settings.router_lease_s / 5)
            ).choose,
            self.clock,
            owner=self.owner,
            lease_s=settings.router_lease_s,
            batch_items=settings.router_batch,
            inbox_kept=timedelta(days=settings.inbox_days),
            on_commit=self._committed,
            probe=self._probe,
            wake=self.writer.stored,
        )
        self.metrics.leading.set_function(lambda: float(self.router.leading))
        self._work(self.router, "router")

    async def _probe(self, items: Sequence[InboxItem]) -> bool:
        return await survives(items, Path(self.config.source.file))

    def _rules(self) -> Rules:
        settings = self.settings
        return Rules(
            key=self.key,
            now=self.clock.now(),
            capabilities=self.capabilities_of,
            policies=settings.conversations.policy,
            route=Route(backends=tuple(self.backends)),
            silence=timedelta(hours=settings.conversations.silence_hours),
            reopen=timedelta(hours=settings.conversations.reopen_hours),
            feed_kept=timedelta(days=settings.feed_days),
            # As long as the inbox can be replayed: a command must not run a second time.
            operations_kept=timedelta(days=settings.inbox_days),
            notifications=self._notifications,
            relays=self._relays,
            profiles=frozenset(
                channel for (channel, _), c in self.connectors.items() if c.fetches_profiles()
            ),
        )

    def capabilities_of(self, channel: str) -> Capabilities:
        return self._capabilities.get(channel, _NOTHING)

    def _committed(self, batch: Batch) -> None:
        """Wake up whoever waits for what the router has just committed."""
        self.metrics.routed.inc(batch.items)
        self.metrics.dead_letters.inc(sum(isinstance(doc, DeadLetter) for doc in batch.docs))
        self.metrics.position.set(batch.position)
        self.tail.wake.set()
        operations = [doc.id for doc in batch.docs if isinstance(doc, Operation)]
        if operations:
            self.services.landed(operations)
        if self.lanes is not None and any(isinstance(doc, Job) for doc in batch.docs):
            self.lanes.wake()

    def _start_workers(self) -> None:
        settings = self.settings
        self.lanes = Lanes(self, self.contexts, self._take_outcome, owner=self.owner)
        for lanes in (self.lanes.main, self.lanes.side):
            lanes.gave_up = self.metrics.dead_letters.inc
        self.lanes.media.told_of_dead_letters(self.metrics.dead_letters.inc)
        self._work(self.lanes.main, "workers")
        self._work(self.lanes.media, "media")
        self._stack.push_async_callback(self.lanes.relay.close)
        self._work(self.lanes.side, "side-lanes")
        housekeeping = Housekeeping(
            self.store,
            self.services,
            self.switches,
            self.clock,
            owner=self.owner,
            silence=timedelta(hours=settings.conversations.silence_hours),
            inbox_kept=timedelta(days=settings.inbox_days),
            sweeper=(
                Sweeper(self.store, self.clock, self.metrics)
                if settings.media.unnamed_days
                else None
            ),
        )
        self._spawn(housekeeping.run(), "housekeeping")
        keeper = AccountKeeper(
            self.store,
            self.overview,
            self.switches,
            self.services.run_command,
            self.clock,
            owner=self.owner,
        )
        self._spawn(keeper.run(), "accounts-keeper")

    async def _take_outcome(self, channel: str, account: str, draft: Outcome) -> None:
        await self.intake.take_in(channel, account, [draft], door="worker", may_spool=False)

    # --- 5: HTTP and the doors -----------------------------------------------------------------

    async def _start_http(self) -> None:
        settings = self.settings
        self.doors = Doors(
            self.store,
            self.services.take_in,
            self.services.backend_said,
            self.states,
            self.switches,
            lambda: self.overload.busy,
            owner=self.owner,
        )
        self.intake.hinted = self.doors.hint
        self.intake.heard = self.states.heard
        self.web = Web(
            self.intake,
            self.overload,
            self.services,
            self.metrics,
            self.clock,
            connectors=self.connectors,
            backends=self.backends,
            ready=self.problems,
            takes=self.takes_deliveries,
            overloaded=self.metrics.overloaded.inc,
            inbound=self.switches.inbound,
            public_url=settings.public_url or "",
            trusted_proxies=settings.trusted_proxies,
            max_body_bytes=settings.max_body_bytes,
        )
        app = self.web.build()
        await add_api(app, self)
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=5.0,
        )
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, settings.host, settings.port, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            raise StartFailed(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror}."
                " Choose another hub.port, or stop what uses it"
            ) from error
        host, port = runner.addresses[0][:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        if not self.web.public_url:
            self.web.public_url = self.url
        self.services.public_url = self.web.public_url

    async def _open_doors(self) -> None:
        self.doors.open(list(self.connectors.values()), list(self.backends.values()))
        self._stack.push_async_callback(self.doors.close)

    async def problems(self) -> Sequence[str]:
        """Return what is wrong with this process, for /readyz; see also `takes_deliveries`."""
        problems = []
        try:
            async with asyncio.timeout(1.0):
                await self.store.ping()
        except (StoreError, TimeoutError) as error:
            problems.append(f"database: {str(error) or 'no answer within 1 s'}")
        if self.writer.spooling:
            problems.append(f"spooling: {self.spool.pending} records wait for the database")
        if self.overload.full:
            problems.append(f"full: {self.overload.full}")
        problems += [
            f"event loop blocked: {stall}" for stall in self.loop_watch.recent(STALLS_SHOWN_S)
        ]
        return problems

    def takes_deliveries(self) -> bool:
        """Say whether a delivery would be kept: in the database, or in the spool meanwhile."""
        room = self.settings.spool_max_bytes - self.settings.max_body_bytes
        spooled = self.writer.spooling and self.spool.bytes >= room
        return self.overload.full is None and not spooled


_NOTHING = Capabilities()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
