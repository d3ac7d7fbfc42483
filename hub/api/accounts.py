"""Accounts and backends with their states, the switches, and the keys that may use all this."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import structlog
from aiohttp import web
from msgspec import Meta

from hub.accounts import AccountState
from hub.api.access import unlimited
from hub.api.bodies import Input, answer, path_id, read_json
from hub.api.keys import ApiKey
from hub.api.openapi import operation
from hub.api.views import View
from hub.outbound.templates import Templates
from hub.planning.rules import Refusal
from hub.plugin_context import PluginRoute
from normalizer.capabilities import Capabilities

if TYPE_CHECKING:
    from hub.running import Running

log = structlog.get_logger(__name__)


class SwitchView(View, frozen=True, kw_only=True):
    """``name`` is an account, or ``all``."""

    name: str
    inbound: str
    outbound: str


class PauseView(View, frozen=True, kw_only=True):
    """Who has paused an account, when and why."""

    by: str
    at: datetime
    why: str


class AccountView(View, frozen=True, kw_only=True):
    """How an account does, as all living processes of the space see it.

    ``lag_s`` is how far behind its door is, in seconds; null where nobody can know, as with
    webhooks. ``pause`` says who has paused it;
    ``can_skip`` whether its door can be told to pass one thing that it is stuck on.
    """

    name: str
    channel: str
    key: str
    label: str
    state: str
    reason: str
    since: datetime
    last_message_at: datetime | None
    next_try_at: datetime | None
    lag_s: float | None
    switches: SwitchView
    pause: PauseView | None
    can_skip: bool
    capabilities: Capabilities | None


class PartView(View, frozen=True, kw_only=True):
    """How a backend or another part does."""

    kind: str
    name: str
    state: str
    reason: str
    since: datetime
    next_try_at: datetime | None


class Backlog(View, frozen=True, kw_only=True):
    """What waits for the router. ``full`` says why deliveries are refused, if they are."""

    items: int
    lag_s: float
    spooling: bool
    router_alive: bool
    full: str | None


class AccountsPage(View, frozen=True, kw_only=True):
    accounts: list[AccountView]
    parts: list[PartView]
    backlog: Backlog


class Switchboard(View, frozen=True, kw_only=True):
    switches: list[SwitchView]


class TemplateView(View, frozen=True, kw_only=True):
    """``params`` are the names of the blanks; ``preview`` has them in braces."""

    name: str
    language: str
    params: list[str]
    preview: str


class TemplatesPage(View, frozen=True, kw_only=True):
    templates: list[TemplateView]


class SwitchInput(Input, frozen=True, kw_only=True):
    """``store-only`` keeps what arrives for later; ``off`` refuses it."""

    name: Annotated[str, Meta(max_length=200, description="channel:account, or all")]
    inbound: Literal["on", "store-only", "off"] | None = None
    outbound: Literal["on", "off"] | None = None


class Accounts:
    def __init__(self, hub: Running) -> None:
        self._hub = hub
        self._templates = Templates(hub.clock)

    def routes(self) -> list[PluginRoute]:
        return [
            PluginRoute(
                method="GET",
                path="/api/v1/accounts",
                handler=self.overview,
                scope="accounts:read",
                operation=operation(
                    "Accounts and backends: state, reason, lag",
                    tag="operations",
                    answer=AccountsPage,
                ),
            ),
            PluginRoute(
                method="GET",
                path="/api/v1/accounts/{account}/templates",
                handler=self.templates,
                scope="accounts:read",
                operation=operation(
                    "What can be sent by template through an account",
                    tag="operations",
                    answer=TemplatesPage,
                    problems=(503,),
                ),
            ),
            PluginRoute(
                method="GET",
                path="/api/v1/switches",
                handler=self.switches,
                scope="accounts:read",
                operation=operation("All switches", tag="operations", answer=Switchboard),
            ),
            PluginRoute(
                method="PUT",
                path="/api/v1/switches",
                handler=self.switch,
                scope="switches:write",
                operation=operation(
                    "Switch an account, or all sends, for every process",
                    tag="operations",
                    answer=Switchboard,
                    body=SwitchInput,
                    problems=(404,),
                ),
            ),
        ]

    async def overview(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        states = await self._hub.overview.read()
        overload = self._hub.overload
        return answer(
            AccountsPage(
                accounts=[
                    account_view(self._hub, each)
                    for each in states
                    if each.kind == "account" and caller.sees(*split_name(each.name))
                ],
                parts=[_part(each) for each in states if each.kind != "account"]
                if not caller.limited
                else [],
                backlog=Backlog(
                    items=overload.backlog,
                    lag_s=overload.lag_s,
                    spooling=self._hub.writer.spooling,
                    router_alive=overload.router_alive,
                    full=overload.full,
                ),
            )
        )

    async def templates(self, request: web.Request) -> web.Response:
        """Answer with the vendor's list, at most a minute old."""
        channel, _, key = path_id(request, "account").partition(":")
        connector = self._hub.connectors.get((channel, key))
        caller: ApiKey = request["api_key"]
        if connector is None or not caller.sees(channel, key):
            raise Refusal("not-found", f"there is no account {channel}:{key}", 404)
        found = await self._templates.of(connector)
        shown = [
            TemplateView(
                name=each.name,
                language=each.language,
                params=list(each.params),
                preview=each.preview,
            )
            for each in found
        ]
        return answer(TemplatesPage(templates=shown))

    async def switches(self, request: web.Request) -> web.Response:
        return answer(self._board(request["api_key"]))

    def _board(self, caller: ApiKey) -> Switchboard:
        return Switchboard(
            switches=[
                switch_view(self._hub, name)
                for name in self._hub.switches.all()
                if not caller.limited or caller.sees(*split_name(name))
            ]
        )

    async def switch(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        wanted = await read_json(request, SwitchInput)
        if wanted.name == "all":
            unlimited(request)
        elif (
            not caller.sees(*split_name(wanted.name)) or wanted.name not in self._hub.switches.all()
        ):
            raise Refusal("not-found", f"there is no account {wanted.name}", 404)
        changes = {
            name: value
            for name, value in (("inbound", wanted.inbound), ("outbound", wanted.outbound))
            if value is not None
        }
        if not changes:
            raise Refusal("bad-request", "say inbound, outbound or both", 422)
        for name, value in changes.items():
            await self._hub.switches.set(wanted.name, name, value)
            log.warning(
                "switch_set", account=wanted.name, switch=name, value=value, by=caller.actor
            )
        return answer(self._board(caller))


def account_view(hub: Running, state: AccountState) -> AccountView:
    channel, key = split_name(state.name)
    connector = hub.connectors.get((channel, key))
    pause = hub.switches.pause_of(state.name)
    return AccountView(
        name=state.name,
        channel=channel,
        key=key,
        label=state.label,
        state=state.state,
        reason=state.reason,
        since=state.since,
        last_message_at=state.last_message_at,
        next_try_at=state.next_try_at,
        lag_s=state.lag_s(hub.clock.now()),
        switches=switch_view(hub, state.name),
        pause=None if pause is None else PauseView(by=pause.by, at=pause.at, why=pause.why),
        can_skip=connector is not None and connector.skips(),
        capabilities=connector.capabilities if connector is not None else None,
    )


def switch_view(hub: Running, name: str) -> SwitchView:
    value = hub.switches.value
    return SwitchView(name=name, inbound=value(name, "inbound"), outbound=value(name, "outbound"))


def split_name(name: str) -> tuple[str, str]:
    channel, _, key = name.partition(":")
    return channel, key


def _part(state: AccountState) -> PartView:
    return PartView(
        kind=state.kind,
        name=state.name,
        state=state.state,
        reason=state.reason,
        since=state.since,
        next_try_at=state.next_try_at,
    )
