"""Finds the plugins, refuses what cannot work, and asks them one by one.

    host = PluginHost.for_config(config)
    host.discover()                         # raises PluginError, naming everything that is wrong
    host.connectors(), host.backends()      # classes; the hub speaks to them directly
    answers = await host.ask("choose_ticket_route", items=len(batch), messages=batch)

A plugin's failure stays its own: it is logged under the plugin's name and the next one is asked.

Read on in `discovery` (where plugins are found), `checks` (what is refused),
`calls` (one call) and `strikes` (when a failing plugin is left alone).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any, Self

import msgspec
import pluggy

from hub.backend_contract import TicketBackend
from hub.clock import Clock, SystemClock
from hub.config import Config, RawTable, did_you_mean
from hub.config.source import Source
from hub.contract import Connector
from hub.hookspecs import Hooks
from hub.plugin_host.calls import Answer, HookCalls, HookFailed, HookState, Wanted
from hub.plugin_host.checks import (
    API,
    BACKENDS,
    CONNECTORS,
    Registration,
    offered_classes,
    refusals,
)
from hub.plugin_host.discovery import (
    Found,
    bundled_plugins,
    installed_plugins,
    named_plugins,
    shadowing,
)
from hub.plugin_host.owners import Owners

__all__ = [
    "API",
    "Answer",
    "HookFailed",
    "HookState",
    "PluginError",
    "PluginHost",
    "PluginInfo",
    "shadowing",
]


class PluginError(Exception):
    """The plugins cannot be used as they are; ``problems`` has a sentence for each reason."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n\n".join(problems))
        self.problems = tuple(problems)


class PluginInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A plugin as ``omniline plugins`` lists it. ``reason`` says why it is not available."""

    name: str
    version: str
    origin: str
    hooks: tuple[str, ...] = ()
    connectors: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    available: bool = True
    reason: str = ""


class _Offer(msgspec.Struct, frozen=True):
    """A class that a plugin registered."""

    plugin: str
    offered: Any


class PluginHost:
    """The plugins of one hub.

    ``settings`` are the ``[plugins.NAME]`` tables: plugins are asked in their order, and those
    without a table after them. ``uses`` are the channels and types that the configuration needs:
    a bundled folder of such a name must be available. ``deadline_s`` is for one hook of one plugin.
    """

    def __init__(
        self,
        settings: Mapping[str, RawTable] | None = None,
        *,
        uses: Collection[str] = (),
        source: Source | None = None,
        deadline_s: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        self.owners = Owners()
        self._settings = dict(settings or {})
        self._needed = {*uses, *self._settings}
        self._source = source
        self._deadline_s = deadline_s
        self._manager = pluggy.PluginManager("omniline")
        self._manager.add_hookspecs(Hooks)
        self._calls = HookCalls(self.owners, clock or SystemClock())
        self._infos: list[PluginInfo] = []
        self._connectors: dict[str, _Offer] = {}
        self._backends: dict[str, _Offer] = {}

    @classmethod
    def for_config(cls, config: Config, *, clock: Clock | None = None) -> Self:
        """The host that a configuration asks for."""
        uses = {account.channel for account in config.accounts}
        uses |= {backend.type for backend in config.backends}
        uses |= {feed.type for feed in config.feeds}
        return cls(
            config.plugins,
            uses=uses,
            source=config.source,
            deadline_s=config.hub.hook_timeout_s,
            clock=clock,
        )

    # --- at start ----------------------------------------------------------------------------

    def discover(
        self, modules: Sequence[str] = (), *, bundled: bool = True, entry_points: bool = True
    ) -> None:
        """Find and register all plugins; ``modules`` are dotted names of further ones.

        Raises :class:`PluginError` with everything that is wrong; :meth:`installed` tells the
        whole picture even then.
        """
        problems: list[str] = []
        for found in chain(
            bundled_plugins() if bundled else (),
            installed_plugins() if entry_points else (),
            named_plugins(modules),
        ):
            problems += self._take(found)
        known = {info.name for info in self._infos}
        for name, table in self._settings.items():
            if name not in known:
                remedy = did_you_mean(name, known)
                problems.append(str(table.problem((), "no plugin has this name", remedy)))
        if problems:
            raise PluginError(problems)
        self._manager.check_pending()

    def add(self, plugin: object, name: str, *, version: str = "") -> None:
        """Register a plugin that is at hand: a module, or an object with hook implementations."""
        home = getattr(plugin, "__name__", type(plugin).__module__)
        origin = f"added by {home}"
        problems = self._take(
            Found(name=name, origin=origin, home=home, version=version, plugin=plugin)
        )
        if problems:
            raise PluginError(problems)

    def installed(self) -> list[PluginInfo]:
        """Everything that was found, in that order, and what was refused as well."""
        return list(self._infos)

    def plugins(self) -> list[str]:
        """The names of the registered plugins, in the order in which they are asked."""
        registered = [name for name, _ in self._manager.list_name_plugin()]
        configured = [name for name in self._settings if name in registered]
        return list(dict.fromkeys([*configured, *registered]))

    def settings_of(self, plugin: str) -> RawTable:
        """The plugin's own table; an empty one when the configuration has none."""
        if plugin in self._settings:
            return self._settings[plugin]
        if self._source is None:
            return RawTable.of({})
        return RawTable({}, source=self._source, path=("plugins", plugin))

    def connectors(self) -> dict[str, type[Connector[Any]]]:
        """The connector class of every channel."""
        return {channel: offer.offered for channel, offer in self._connectors.items()}

    def backends(self) -> dict[str, type[TicketBackend]]:
        """The backend class of every kind of ticket backend."""
        return {kind: offer.offered for kind, offer in self._backends.items()}

    def connector_plugin(self, channel: str) -> str:
        """The name of the plugin that a channel came from. Raises ``KeyError``."""
        return self._connectors[channel].plugin

    def backend_plugin(self, kind: str) -> str:
        """The name of the plugin that a kind of backend came from. Raises ``KeyError``."""
        return self._backends[kind].plugin

    # --- at work -----------------------------------------------------------------------------

    async def ask(
        self,
        hook: str,
        /,
        *,
        items: int | None = None,
        kind: type | tuple[type, ...] | None = None,
        deadline_s: float | None = None,
        **arguments: Any,
    ) -> list[Answer]:
        """Ask every plugin that implements a hook, one after the other.

        ``items``: the hook was given that many things at once, and must answer with a sequence of
        as many. ``kind``: what the answer, or each in that sequence, must be unless it is None.
        An answer that is neither is the plugin's failure. ``deadline_s``: other than the host's.
        Nothing a plugin does is raised here; ``LookupError`` and ``TypeError`` are the caller's.
        """
        deadline_s = self._deadline_s if deadline_s is None else deadline_s
        wanted = Wanted(deadline_s, items, kind)
        return [
            await self._calls.call(implementation, hook, wanted, arguments)
            for implementation in self._implementations(hook, arguments)
        ]

    async def ask_one(
        self, plugin: str, hook: str, /, *, deadline_s: float | None = None, **arguments: Any
    ) -> Answer | None:
        """Ask a single plugin, as :meth:`ask` does; None when it does not implement the hook."""
        deadline_s = self._deadline_s if deadline_s is None else deadline_s
        for implementation in self._implementations(hook, arguments):
            if implementation.plugin_name == plugin:
                return await self._calls.call(implementation, hook, Wanted(deadline_s), arguments)
        return None

    def states(self) -> list[HookState]:
        """How each plugin does at each hook that it was asked."""
        return self._calls.states()

    @property
    def trace(self) -> bool:
        """Whether every call is logged, with types and counts instead of contents."""
        return self._calls.trace

    @trace.setter
    def trace(self, on: bool) -> None:
        self._calls.trace = on

    @property
    def current(self) -> str:
        """The plugin whose hook is being executed right now; any thread may ask."""
        return self._calls.current

    async def aclose(self) -> None:
        """End calls that outlived their deadline. Call it after the last hook."""
        await self._calls.aclose()

    def _implementations(self, hook: str, arguments: Collection[str]) -> list[pluggy.HookImpl]:
        caller: pluggy.HookCaller | None = getattr(self._manager.hook, hook, None)
        if caller is None or caller.spec is None:
            raise LookupError(f'hub/hookspecs.py has no hook "{hook}"')
        if set(arguments) != set(caller.spec.argnames):
            names = ", ".join(caller.spec.argnames)
            raise TypeError(f"the hook {hook} takes ({names}), not ({', '.join(arguments)})")
        order = self.plugins()
        return sorted(caller.get_hookimpls(), key=lambda one: order.index(one.plugin_name))

    # --- registering -------------------------------------------------------------------------

    def _take(self, found: Found) -> list[str]:
        """Register what was found, or return why not; :meth:`installed` lists it either way."""
        info = PluginInfo(name=found.name, version=found.version, origin=found.origin)
        if found.missing:
            self._infos.append(msgspec.structs.replace(info, available=False, reason=found.missing))
            needed = found.name in self._needed
            return [f'"{found.name}" is configured, but {found.missing}'] if needed else []
        problems = [found.problem] if found.problem else self._registered(found)
        if problems:
            reason = " ".join(problems)
            self._infos.append(msgspec.structs.replace(info, available=False, reason=reason))
            where = f"{found.origin} {found.version}".rstrip()
            return [f'plugin "{found.name}" ({where}): {problem}' for problem in problems]
        self._infos.append(
            msgspec.structs.replace(
                info,
                hooks=tuple(
                    caller.name for caller in self._manager.get_hookcallers(found.plugin) or ()
                ),
                connectors=_offered_by(found.name, self._connectors),
                backends=_offered_by(found.name, self._backends),
            )
        )
        return []

    def _registered(self, found: Found) -> list[str]:
        """Register a plugin and the classes that it offers, all or nothing."""
        for other in self._infos:
            if other.name == found.name and other.available:
                return [f"its name is taken by {other.origin}. Uninstall one of them."]
        if name := self._manager.get_name(found.plugin):
            return [f'it is registered already, as "{name}". Name it once.']
        if problems := refusals(found.plugin, found.name, self._manager):
            return problems
        try:
            self._manager.register(found.plugin, name=found.name)
        except pluggy.PluginValidationError as error:
            return [f"{' '.join(str(error).split())}. See docs/reference/hooks.md."]
        self.owners.add(found.name, found.home)
        connectors, wrong = self._offers(found.name, CONNECTORS, self._connectors)
        backends, wrong_too = self._offers(found.name, BACKENDS, self._backends)
        if wrong or wrong_too:
            self._manager.unregister(name=found.name)
            return [*wrong, *wrong_too]
        self._connectors |= connectors
        self._backends |= backends
        return []

    def _offers(
        self, plugin: str, registration: Registration, taken: Mapping[str, _Offer]
    ) -> tuple[dict[str, _Offer], list[str]]:
        """Ask a plugin for its classes, and return them by name with what is wrong."""
        offers: dict[str, _Offer] = {}
        problems: list[str] = []
        for implementation in self._implementations(registration.hook, ("config",)):
            if implementation.plugin_name != plugin:
                continue
            table = self.settings_of(plugin)
            classes, problems = offered_classes(registration, implementation, table, self.owners)
            for offered in classes:
                name = getattr(offered, registration.key)
                other = offers.get(name) or taken.get(name)
                if other is not None:
                    problems.append(
                        f'the {registration.key} "{name}" is registered by plugin "{other.plugin}"'
                        " already. Uninstall one of them, or rename the one that is yours."
                    )
                offers[name] = _Offer(plugin, offered)
        return offers, problems


def _offered_by(plugin: str, offers: Mapping[str, _Offer]) -> tuple[str, ...]:
    return tuple(name for name, offer in offers.items() if offer.plugin == plugin)
