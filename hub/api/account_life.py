"""Operating one account: pause, resume, skip the thing it is stuck on, try its credentials."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

from aiohttp import web
from msgspec import Meta

from hub.accounts.operating import CannotBeDone, Operating
from hub.accounts.trying import check_account
from hub.api.accounts import AccountView, account_view, split_name
from hub.api.bodies import Input, answer, path_id, read_json
from hub.api.keys import ApiKey
from hub.api.openapi import operation
from hub.api.views import View
from hub.planning.rules import Refusal
from hub.plugin_context import PluginRoute

if TYPE_CHECKING:
    from hub.running import Running

Why = Annotated[str, Meta(max_length=500, description="Kept, and shown to everybody.")]


class PauseInput(Input, frozen=True, kw_only=True):
    """``inbound`` says what becomes of what arrives: ``store-only`` keeps it for later, ``off``
    refuses it. Left out: it is kept where a vendor pushes, and doors that fetch stand still."""

    why: Why = ""
    inbound: Literal["store-only", "off"] | None = None


class ResumeInput(Input, frozen=True, kw_only=True):
    pass


class SkipInput(Input, frozen=True, kw_only=True):
    why: Why = ""


class CheckInput(Input, frozen=True, kw_only=True):
    pass


class SkipView(View, frozen=True, kw_only=True):
    """``asked`` until the process that holds the door has done it, or refused to."""

    account: str
    door: str
    state: Literal["asked", "done", "refused"]
    detail: str
    by: str
    why: str
    at: datetime


class CheckView(View, frozen=True, kw_only=True):
    """``problems`` are sentences with their remedy; none means that all is well."""

    account: str
    ok: bool
    problems: list[str]
    took_s: float


class AccountLife:
    def __init__(self, hub: Running) -> None:
        self._hub = hub
        kinds = {channel: type(each) for (channel, _), each in hub.connectors.items()}
        self._operating = Operating(
            hub.store, hub.switches, hub.overview, hub.clock, lambda channel: kinds.get(channel)
        )

    def routes(self) -> list[PluginRoute]:
        return [
            PluginRoute(
                method="GET",
                path="/api/v1/accounts/{account}",
                handler=self.show,
                scope="accounts:read",
                operation=operation("How an account does", tag="operations", answer=AccountView),
            ),
            PluginRoute(
                method="POST",
                path="/api/v1/accounts/{account}/pause",
                handler=self.pause,
                scope="switches:write",
                operation=operation(
                    "Pause an account, for every process",
                    tag="operations",
                    answer=AccountView,
                    body=PauseInput,
                    description="Nothing is sent any more. Harmless when repeated: the first"
                    " pause stands, with who, when and why.",
                ),
            ),
            PluginRoute(
                method="POST",
                path="/api/v1/accounts/{account}/resume",
                handler=self.resume,
                scope="switches:write",
                operation=operation(
                    "Let a paused account go on",
                    tag="operations",
                    answer=AccountView,
                    body=ResumeInput,
                    description="Its switches are again what they were before the pause, and"
                    " what was kept is routed. One that is not paused stays as it is.",
                ),
            ),
            PluginRoute(
                method="POST",
                path="/api/v1/accounts/{account}/skip",
                handler=self.skip,
                scope="switches:write",
                operation=operation(
                    "Let a stuck door pass the one thing it is stuck on",
                    tag="operations",
                    answer=SkipView,
                    body=SkipInput,
                    problems=(409,),
                    description="The thing becomes a dead letter. Asking again at the same place"
                    " is asking once. Not every channel can: see `can_skip` of the account."
                    " The state is `asked` as long as the process that holds the door has not"
                    " come to it.",
                ),
            ),
            PluginRoute(
                method="POST",
                path="/api/v1/accounts/{account}/check",
                handler=self.check,
                scope="switches:write",
                operation=operation(
                    "Try the credentials of an account now",
                    tag="operations",
                    answer=CheckView,
                    body=CheckInput,
                    description="Asks the vendor from the running hub, and changes nothing."
                    " It takes 20 s at most.",
                ),
            ),
        ]

    async def show(self, request: web.Request) -> web.Response:
        return await self._shown(self._name(request))

    async def pause(self, request: web.Request) -> web.Response:
        name, caller = self._name(request), _caller(request)
        wanted = await read_json(request, PauseInput, optional=True)
        await self._operating.pause(name, by=caller.actor, why=wanted.why, inbound=wanted.inbound)
        return await self._shown(name)

    async def resume(self, request: web.Request) -> web.Response:
        name = self._name(request)
        await read_json(request, ResumeInput, optional=True)
        await self._operating.resume(name, by=_caller(request).actor)
        return await self._shown(name)

    async def skip(self, request: web.Request) -> web.Response:
        name = self._name(request)
        wanted = await read_json(request, SkipInput, optional=True)
        try:
            skip = await self._operating.skip(
                name,
                by=_caller(request).actor,
                why=wanted.why,
                wait_s=self._hub.settings.reply_wait_s,
            )
        except CannotBeDone as error:
            raise Refusal("conflict", str(error), 409) from error
        return answer(
            SkipView(
                account=skip.account,
                door=skip.door,
                state=skip.state,
                detail=skip.detail,
                by=skip.by,
                why=skip.why,
                at=skip.at,
            )
        )

    async def check(self, request: web.Request) -> web.Response:
        name = self._name(request)
        await read_json(request, CheckInput, optional=True)
        finding = await check_account(self._hub.connectors[split_name(name)])
        return answer(
            CheckView(
                account=name,
                ok=not finding.problems,
                problems=list(finding.problems),
                took_s=finding.took_s,
            )
        )

    async def _shown(self, name: str) -> web.Response:
        state = await self._operating.state(name)
        assert state is not None
        return answer(account_view(self._hub, state))

    def _name(self, request: web.Request) -> str:
        """Return the account that the path names, if there is one that the caller may see."""
        name = path_id(request, "account")
        place = split_name(name)
        if place not in self._hub.connectors or not _caller(request).sees(*place):
            raise Refusal("not-found", f"there is no account {name}", 404)
        return name


def _caller(request: web.Request) -> ApiKey:
    caller: ApiKey = request["api_key"]
    return caller
