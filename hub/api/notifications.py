"""Telling customers something that they did not ask for, one at a time, and cancelling it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import Meta
from msgspec.structs import replace

from hub.api.bodies import PATH_IDS, Input, answer, idempotency_key, moment, path_id, read_json
from hub.api.keys import ApiKey
from hub.api.openapi import operation
from hub.api.operations import Commands
from hub.api.parts import Line, PartsInput, command_parts
from hub.api.people import People
from hub.api.uploads import Uploads
from hub.api.views import EntryView, View, entry_view
from hub.documents import AddressDoc, Entry, Job, Notice
from hub.notifications import NOTIFICATION
from hub.planning.commands import command_entry_id
from hub.planning.rules import Refusal
from hub.plugin_context import PluginRoute
from normalizer.addresses import AddressError, canonical, mailbox, parse_address, phone

if TYPE_CHECKING:
    from hub.running import Running

ParamName = Annotated[str, Meta(max_length=100)]
ParamText = Annotated[str, Meta(max_length=2000)]


class NotificationTemplate(Input, frozen=True, kw_only=True):
    """A text that the vendor approved before, and what goes into its blanks."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    language: Annotated[str, Meta(max_length=64, description="As the vendor names it.")] = ""
    params: Annotated[dict[ParamName, ParamText], Meta(max_length=50)] = {}


class NotificationInput(Input, frozen=True, kw_only=True):
    """What a customer, or whoever is at an address, is to be told.

    With a template, ``parts`` are what the timeline shows in its place.
    """

    purpose: Annotated[
        str,
        Meta(
            pattern="^[a-z0-9][a-z0-9_-]{0,31}$",
            description="`transactional`, `marketing`, or one from the settings.",
        ),
    ]
    customer: Annotated[str, Meta(pattern=PATH_IDS["customer"])] | None = None
    address: Annotated[
        str,
        Meta(
            max_length=2000,
            description="The id or the canonical text of an address, a mailbox or a phone number."
            " One that was never seen needs `channel`.",
        ),
    ] = ""
    channel: Annotated[
        str,
        Meta(
            max_length=130,
            description="A channel (`sms`), or an account (`sms:shop`) where it has several.",
        ),
    ] = ""
    parts: PartsInput = []
    template: NotificationTemplate | None = None
    subject: Line = ""
    sender_name: Annotated[str, Meta(max_length=200, description="What customers see.")] = ""
    not_before: Annotated[datetime, Meta(description="At most 90 days ahead.")] | None = None
    expires_at: (
        Annotated[datetime, Meta(description="It fails rather than leave at this time or later.")]
        | None
    ) = None
    respect_quiet_hours: Annotated[
        bool, Meta(description="False needs a purpose that may disturb.")
    ] = True


class NotificationAccepted(View, frozen=True, kw_only=True):
    """It waits for ``due_at``, or is on its way. ``entry`` is null until it is in the timeline."""

    entry_id: str
    operation: str
    state: Literal["pending", "done"]
    due_at: datetime | None
    entry: EntryView | None


class NotificationRefused(View, frozen=True, kw_only=True):
    """``possible_at``: when it would be possible, of ``frequency-capped`` and ``quiet-hours``."""

    type: str
    title: str
    status: int
    detail: str
    possible_at: datetime | None = None


class Cancelled(View, frozen=True, kw_only=True):
    """The entry's ``delivery`` turns to failed, code ``cancelled``, unless it has left by then."""

    operation: str
    state: Literal["pending", "done"]
    entry: EntryView


class Notifications:
    def __init__(self, hub: Running, people: People, commands: Commands, uploads: Uploads) -> None:
        self._hub = hub
        self._people = people
        self._commands = commands
        self._uploads = uploads

    def routes(self) -> list[PluginRoute]:
        notify = operation(
            "Tell a customer something",
            tag="notifications",
            answer=NotificationAccepted,
            status=202,
            body=NotificationInput,
            problems=(403, 404, 409, 410),
            once=True,
            description="One customer a request. Refused with 409 `consent-withdrawn`,"
            " `consent-missing`, `frequency-capped` or `quiet-hours`; a refusal is remembered"
            " under its Idempotency-Key like an answer, so try again under another.",
        )
        refusal = notify["responses"]["409"]["content"]
        refusal["application/problem+json"] = {"schema": NotificationRefused}
        return [
            PluginRoute(
                method="POST",
                path="/api/v1/notifications",
                handler=self.notify,
                scope="notifications:write",
                operation=notify,
            ),
            PluginRoute(
                method="DELETE",
                path="/api/v1/notifications/{entry}",
                handler=self.cancel,
                scope="notifications:write",
                operation=operation(
                    "Cancel a notification that has not left",
                    tag="notifications",
                    answer=Cancelled,
                    also={202: Cancelled},
                    problems=(404, 409, 410, 422),
                    once=True,
                ),
            ),
        ]

    # --- telling ---------------------------------------------------------------------------------

    async def notify(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        wanted = await read_json(request, NotificationInput)
        key = idempotency_key(request)
        args = await self._arguments(caller, wanted, key)
        ran = await self._commands.run(request, "notify", args, key_in_body=key)
        made = command_entry_id(self._hub.key, ran.key)
        entry = notice = None
        if ran.result is not None:
            entry = await self._hub.store.table(Entry).get(made)
            notice = await self._hub.store.table(Notice).get(made)
        accepted = NotificationAccepted(
            entry_id=made,
            operation=ran.operation,
            state="pending" if ran.result is None else "done",
            due_at=notice.due_at if notice is not None else None,
            entry=entry_view(entry) if entry is not None else None,
        )
        return answer(accepted, 202, {"Location": f"/api/v1/entries/{made}"})

    async def _arguments(
        self, caller: ApiKey, wanted: NotificationInput, key: str
    ) -> dict[str, Any]:
        args: dict[str, Any] = {
            "purpose": wanted.purpose,
            "parts": await command_parts(wanted.parts, self._uploads, caller, key),
            "respect_quiet_hours": wanted.respect_quiet_hours,
            **await self._whom(caller, wanted),
        }
        for name in ("subject", "sender_name"):
            if value := getattr(wanted, name):
                args[name] = value
        if wanted.template is not None:
            args["template"] = msgspec.to_builtins(wanted.template)
        for name in ("not_before", "expires_at"):
            if (at := getattr(wanted, name)) is not None:
                args[name] = moment(at, name).isoformat()
        return args

    async def _whom(self, caller: ApiKey, wanted: NotificationInput) -> dict[str, Any]:
        """Return who is told and by which account, as far as it has to be said.

        What is returned follows from the request alone, as far as can be, so that its repetition
        under the same Idempotency-Key is the same, though the address is known by then, or the
        customer was merged.
        """
        channel, account = self._account(wanted.channel)
        whom: dict[str, Any] = {}
        if wanted.customer is not None:
            person = await self._people.find(caller, wanted.customer)
            whom["customer"] = wanted.customer
        elif not wanted.address:
            raise Refusal("bad-request", "name a customer or an address", 422)
        if wanted.address:
            ident, text = self._address(wanted.address)
            channel, account = self._reached_by(text, channel, account)
            whom["address"] = text or ident
            if caller.limited:
                await self._refuse_foreign(caller, ident, channel, account)
        elif caller.limited:
            reached = [
                doc
                for doc in reversed(person.addresses)
                if channel in ("", doc.channel)
                and account in ("", doc.account)
                and caller.sees(doc.channel, doc.account)
            ]
            if not reached:
                raise Refusal("unreachable", "this key reaches no address of this customer there")
            whom["address"] = reached[0].id
        return whom | {"channel": channel, "account": account}

    def _account(self, named: str) -> tuple[str, str]:
        """Read ``channel`` or ``channel:account``. Raises Refusal(422) for what is not ours."""
        channel, _, account = named.partition(":")
        known = self._accounts(channel)
        if named and (not known or (account and account not in known)):
            raise Refusal("bad-request", f"no account of ours is {named}", 422)
        return channel, account

    def _accounts(self, channel: str) -> list[str]:
        return [key for name, key in self._hub.connectors if name == channel]

    def _address(self, named: str) -> tuple[str, str]:
        """Return the id of an address, and its canonical text where that was named."""
        if named.startswith("adr_"):
            return named, ""
        try:
            if ":" in named:
                found = parse_address(named)
            elif "@" in named:
                found = mailbox(named)
            else:
                number = phone(named, self._hub.settings.default_region)
                if number is None:
                    raise AddressError("this is no phone number")
                found = number
            text = canonical(found)
        except AddressError as error:
            raise Refusal("bad-request", f"address: {error}", 422) from error
        return self._hub.key.hashed("adr", text), text

    def _reached_by(self, text: str, channel: str, account: str) -> tuple[str, str]:
        """Return the account that the address itself names, or the only one of the channel."""
        address = parse_address(text) if text else None
        if address is not None and self._accounts(address.scheme):
            ours = [account] if account else self._accounts(address.scheme)
            if channel not in ("", address.scheme) or address.account not in ("", *ours):
                raise Refusal("bad-request", "no account of ours reaches this address there", 422)
            if address.account:
                return address.scheme, address.account
        accounts = self._accounts(channel)
        if channel and not account and len(accounts) == 1:
            return channel, accounts[0]
        return channel, account

    async def _refuse_foreign(self, caller: ApiKey, ident: str, channel: str, account: str) -> None:
        """A limited key writes by its own accounts, to addresses that it sees."""
        known = await self._hub.store.table(AddressDoc).get(ident)
        if known is not None and not known.erased:
            if not await self._people.visible_addresses(caller, [known]):
                raise Refusal("not-found", "there is no such address", 404)
            if channel in ("", known.channel):
                channel, account = known.channel, account or known.account
        if not caller.sees(channel, account):
            raise Refusal("forbidden", "this key does not write by that account", 403)

    # --- cancelling ------------------------------------------------------------------------------

    async def cancel(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        entry = await self._people.entry(caller, path_id(request, "entry"))
        if entry.event != NOTIFICATION:
            raise Refusal("not-found", f"{entry.id} is no notification", 404)
        ran = await self._commands.run(request, "cancel_notification", {"entry": entry.id})
        if ran.result is not None:
            await self._end_now(entry.id)
        cancelled = Cancelled(
            operation=ran.operation,
            state="pending" if ran.result is None else "done",
            entry=entry_view(await self._people.entry(caller, entry.id)),
        )
        return answer(cancelled, 202 if ran.result is None else 200)

    async def _end_now(self, entry: str) -> None:
        """Let the workers see at once that it was cancelled, and not only when it is due.

        They alone decide: one that is leaving at this moment is not touched.
        """
        jobs = self._hub.store.table(Job)
        job = await jobs.get(self._hub.key.hashed("job", f"{entry}|send"))
        now = self._hub.clock.now()
        if job is not None and job.live and job.state == "ready" and job.due_at > now:
            expect = {"live": True, "state": "ready", "lease": job.lease or None}
            await jobs.swap(replace(job, due_at=now), expect)
