"""Answering a customer, and what can be done to an answer afterwards."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Literal

import structlog
from aiohttp import web
from msgspec import Meta

from hub.api.bodies import PATH_IDS, Input, answer, idempotency_key, path_id, read_json
from hub.api.keys import ApiKey
from hub.api.openapi import operation
from hub.api.operations import Commands
from hub.api.parts import Line, PartsInput, command_parts
from hub.api.people import People, Person
from hub.api.timelines import Latest
from hub.api.uploads import Uploads
from hub.api.views import EntryView, View, entry_view
from hub.api.ways import Way, chosen_way, seen_at
from hub.documents import AddressDoc, Conversation, Entry
from hub.outbound.templates import Templates
from hub.planning.commands import command_entry_id
from hub.planning.media import blobs_in
from hub.planning.rules import Refusal
from hub.plugin_context import PluginRoute

if TYPE_CHECKING:
    from hub.running import Running

log = structlog.get_logger(__name__)

TYPING_S = 3.0  # how long a page waits for a vendor to show that somebody types

Key = Annotated[str, Meta(max_length=200)]


class TemplateInput(Input, frozen=True, kw_only=True):
    """A message that the vendor approved before."""

    name: Line
    language: Annotated[str, Meta(max_length=64, description="As the vendor names it.")] = ""
    params: Annotated[dict[str, Annotated[str, Meta(max_length=2000)]], Meta(max_length=100)] = {}


class ReplyInput(Input, frozen=True, kw_only=True):
    """An answer, of parts or by a template.

    Without ``address`` it goes to the address of ``channel`` seen last. A phone number from which
    somebody only called is texted where ``channel`` says so.
    """

    parts: PartsInput = []
    template: TemplateInput | None = None
    address: Annotated[
        str, Meta(max_length=2000, description="The id or the canonical text of an address.")
    ] = ""
    channel: Annotated[str, Meta(max_length=64)] = ""
    account: Annotated[
        str,
        Meta(
            max_length=64,
            description="The account of `channel` by which it leaves, where the address was seen"
            " at none and several could: see `also_by` of the address.",
        ),
    ] = ""
    conversation: Annotated[str, Meta(pattern=PATH_IDS["conversation"])] | None = None
    thread: Annotated[str, Meta(max_length=64)] = ""
    reply_to: (
        Annotated[str, Meta(pattern=PATH_IDS["entry"], description="The entry that is answered.")]
        | None
    ) = None
    subject: Line = ""
    anyway: Annotated[
        bool, Meta(description="Send though what was sent to this address came back for good.")
    ] = False
    agent: Annotated[str, Meta(max_length=200, description="The agent's id.")] = ""
    agent_name: Annotated[str, Meta(max_length=200, description="What customers see.")] = ""
    seen_up_to: Annotated[
        str,
        Meta(
            max_length=500,
            description="`latest` of the timeline that was read; the answer is refused when"
            " somebody spoke since.",
        ),
    ] = ""
    idempotency_key: Key = ""


class ReplyAccepted(View, frozen=True, kw_only=True):
    """The answer is on its way. ``entry`` is null until it is in the timeline.

    ``latest`` takes the place of ``seen_up_to`` in the next answer, where one was given.
    """

    entry_id: str
    operation: str
    state: Literal["pending", "done"]
    entry: EntryView | None
    latest: str | None


class MovedOn(View, frozen=True, kw_only=True):
    """Problem conversation-moved-on: the newer entries, and ``latest`` to answer again with."""

    type: str
    title: str
    status: int
    detail: str
    entries: list[EntryView] = []
    latest: str = ""


class EditInput(Input, frozen=True, kw_only=True):
    parts: PartsInput


class SeenInput(Input, frozen=True, kw_only=True):
    """What our side did with a customer's message."""

    state: Literal["delivered", "read"]


class TypingInput(Input, frozen=True, kw_only=True):
    address: Annotated[str, Meta(max_length=2000)]
    on: bool


class Changed(View, frozen=True, kw_only=True):
    """``state`` is pending where the change is not in the timeline yet."""

    operation: str
    state: Literal["pending", "done"]
    entry: EntryView


class Replies:
    def __init__(
        self, hub: Running, people: People, commands: Commands, latest: Latest, uploads: Uploads
    ) -> None:
        self._hub = hub
        self._people = people
        self._commands = commands
        self._latest = latest
        self._uploads = uploads
        self._templates = Templates(hub.clock)
        self._entries = hub.store.table(Entry)

    def routes(self) -> list[PluginRoute]:
        reply = operation(
            "Answer a customer",
            tag="replies",
            answer=ReplyAccepted,
            status=202,
            body=ReplyInput,
            problems=(404, 409, 410),
            once=True,
            description="Refused with 409 `conversation-moved-on` and the newer entries when"
            " `seen_up_to` is given and somebody spoke since; with 422 `template-needed` and the"
            " account's `templates` where a channel carries nothing else.",
        )
        moved_on = reply["responses"]["409"]["content"]
        moved_on["application/problem+json"] = {"schema": MovedOn}
        return [
            PluginRoute(
                method="POST",
                path="/api/v1/customers/{customer}/replies",
                handler=self.reply,
                scope="replies:write",
                operation=reply,
            ),
            PluginRoute(
                method="PATCH",
                path="/api/v1/entries/{entry}",
                handler=self.edit,
                scope="replies:write",
                operation=operation(
                    "Edit an answer, where the channel can",
                    tag="replies",
                    answer=Changed,
                    also={202: Changed},
                    body=EditInput,
                    problems=(404, 409, 410),
                    once=True,
                ),
            ),
            PluginRoute(
                method="DELETE",
                path="/api/v1/entries/{entry}",
                handler=self.recall,
                scope="replies:write",
                operation=operation(
                    "Recall an answer, where the channel can",
                    tag="replies",
                    answer=Changed,
                    also={202: Changed},
                    problems=(404, 409, 410, 422),
                    once=True,
                ),
            ),
            PluginRoute(
                method="POST",
                path="/api/v1/entries/{entry}/seen",
                handler=self.seen,
                scope="replies:write",
                operation=operation(
                    "Say that a customer's message was delivered to an agent, or read",
                    tag="replies",
                    answer=Changed,
                    also={202: Changed},
                    body=SeenInput,
                    problems=(404, 409, 410),
                    once=True,
                ),
            ),
            PluginRoute(
                method="POST",
                path="/api/v1/customers/{customer}/typing",
                handler=self.typing,
                scope="replies:write",
                operation=operation(
                    "Show the customer that somebody is typing",
                    tag="replies",
                    status=204,
                    body=TypingInput,
                    problems=(404, 410),
                    description="A hint: it is not stored and may be lost.",
                ),
            ),
        ]

    # --- answering -------------------------------------------------------------------------------

    async def reply(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        ident = path_id(request, "customer")
        wanted = await read_json(request, ReplyInput)
        key = idempotency_key(request, wanted.idempotency_key)  # a bad one is refused at once
        if (wanted.template is None) == (not wanted.parts):
            raise Refusal("bad-request", "an answer has parts or a template: one of the two", 422)
        person = await self._people.find(caller, ident)
        args = await self._arguments(caller, person, ident, wanted, key)
        try:
            ran = await self._commands.run(request, "reply", args, key_in_body=key)
        except Refusal as refusal:
            if refusal.error == "conversation-moved-on":
                await self._uploads.not_named(caller, blobs_in(args["parts"]), key)
                raise await self._moved_on(caller, refusal) from refusal
            raise
        made = command_entry_id(self._hub.key, ran.key)
        entry = await self._entries.get(made) if ran.result is not None else None
        latest = None
        if entry is not None and wanted.seen_up_to:
            latest = await self._latest.at(entry.position)
        accepted = ReplyAccepted(
            entry_id=made,
            operation=ran.operation,
            state="pending" if ran.result is None else "done",
            entry=entry_view(entry) if entry is not None else None,
            latest=latest,
        )
        return answer(accepted, 202, {"Location": f"/api/v1/entries/{made}"})

    async def _arguments(
        self, caller: ApiKey, person: Person, asked: str, wanted: ReplyInput, key: str
    ) -> dict[str, Any]:
        """Return the command's arguments: as far as can be, what the request itself says.

        Its repetition under the same Idempotency-Key has to be the same, though the customer
        was merged or has spoken elsewhere since; so the router finds out what it left open.
        """
        if wanted.account and not wanted.channel:
            raise Refusal("bad-request", "name the channel of this account as well", 422)
        other = await self._other_way(caller, person, wanted)
        leaves_by = None if other else await self._leaves_by(caller, person, wanted)
        chosen_here = (
            bool(wanted.address or wanted.account) or caller.limited or wanted.template is not None
        )
        args: dict[str, Any] = {
            "customer": asked,
            "parts": await command_parts(wanted.parts, self._uploads, caller, key),
            "address": leaves_by.id if chosen_here and leaves_by is not None else "",
            "agent": wanted.agent or caller.id,
        }
        if other is not None:
            args |= {"address": other.address, "account": other.account}
        if leaves_by is not None:
            await self._refuse_gone_account(leaves_by)
        if wanted.template is not None:
            args |= await self._by_template(wanted.template, args["address"], other)
        elif (place := other or leaves_by) is not None:
            await self._refuse_free_text(place)
        for name in ("channel", "thread", "subject", "agent_name"):
            if value := getattr(wanted, name):
                args[name] = value
        if wanted.anyway:
            args["anyway"] = True
        if wanted.conversation:
            args["conversation"] = wanted.conversation
        if wanted.reply_to:
            args["reply_to"] = wanted.reply_to
        if wanted.seen_up_to:
            args["seen_up_to"] = await self._latest.read(wanted.seen_up_to)
        return args

    async def _other_way(self, caller: ApiKey, person: Person, wanted: ReplyInput) -> Way | None:
        """Return the account that was chosen by name, where the customer was never seen there."""
        docs = list(reversed(person.addresses))
        if wanted.address:
            docs = [await self._people.address(caller, person, wanted.address)]
        elif wanted.conversation:
            _last_speaker(person, await self._people.conversation(caller, wanted.conversation))
        return chosen_way(self._hub.connectors, caller, docs, wanted.channel, wanted.account)

    async def _leaves_by(
        self, caller: ApiKey, person: Person, wanted: ReplyInput
    ) -> AddressDoc | None:
        """Return where the answer goes, as the router will find it too; None: nowhere."""
        if wanted.address:
            doc = await self._people.address(caller, person, wanted.address)
            if not seen_at(doc, wanted.channel, wanted.account):
                raise Refusal(
                    "bad-request",
                    f"this address is reached by {doc.channel}: leave channel and account out",
                    422,
                )
            return self._reachable(caller, doc)
        if wanted.conversation:
            conversation = await self._people.conversation(caller, wanted.conversation)
            speaker = _last_speaker(person, conversation)
            if seen_at(speaker, wanted.channel, wanted.account):
                return self._reachable(caller, speaker)
        for doc in reversed(person.addresses):
            here = seen_at(doc, wanted.channel, wanted.account)
            if here and caller.sees(doc.channel, doc.account):
                return doc
        if caller.limited or wanted.template is not None or wanted.account:
            raise Refusal("unreachable", "this key reaches no address of this customer there")
        return None

    async def _refuse_gone_account(self, doc: AddressDoc) -> None:
        """Say at once that an answer would wait for an account that no process has any more."""
        name = f"{doc.channel}:{doc.account}"
        if not doc.channel or (doc.channel, doc.account) in self._hub.connectors:
            return
        known = await self._hub.overview.read()
        if not any((each.kind, each.name) == ("account", name) for each in known):
            raise Refusal(
                "unreachable",
                f"this customer was last reached by the account {name}, which is not configured"
                " any more: answer by another address",
            )

    async def _refuse_free_text(self, place: AddressDoc | Way) -> None:
        """Say at once which templates there are where what somebody typed cannot leave."""
        connector = self._hub.connectors.get((place.channel, place.account))
        if connector is not None:
            await self._templates.refuse_free_text(connector)

    async def _by_template(
        self, wanted: TemplateInput, ident: str, other: Way | None
    ) -> dict[str, Any]:
        """Return the arguments of an answer by template, with what the vendor will say."""
        doc = other or await self._hub.store.table(AddressDoc).get(ident)
        connector = self._hub.connectors.get((doc.channel, doc.account)) if doc else None
        if connector is None or not connector.capabilities.templates:
            where = doc.channel if doc else "this address"
            raise Refusal("unsupported", f"{where} has no templates: send parts", 422)
        preview = await self._templates.preview(
            connector, wanted.name, wanted.language, wanted.params
        )
        template = {"name": wanted.name, "params": wanted.params, "preview": preview}
        if wanted.language:
            template["language"] = wanted.language
        return {"template": template, "parts": []}

    def _reachable(self, caller: ApiKey, doc: AddressDoc) -> AddressDoc:
        if caller.sees(doc.channel, doc.account):
            return doc
        raise Refusal(
            "forbidden", f"an answer there leaves by {doc.channel}, not for this key", 403
        )

    async def _moved_on(self, caller: ApiKey, refusal: Refusal) -> Refusal:
        idents = refusal.more.get("entries", ())
        found = await self._entries.get_many(idents if isinstance(idents, list) else [])
        newer = sorted(found.values(), key=lambda entry: entry.position)
        seen = await self._people.visible_entries(caller, newer)
        told: dict[str, Any] = {"entries": [entry_view(entry) for entry in seen]}
        if newer:
            told["latest"] = await self._latest.at(newer[-1].position)
        return Refusal(refusal.error, refusal.detail, refusal.status, **told)

    # --- afterwards ------------------------------------------------------------------------------

    async def edit(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        entry = await self._people.entry(caller, path_id(request, "entry"))
        wanted = await read_json(request, EditInput)
        key = idempotency_key(request)
        parts = await command_parts(wanted.parts, self._uploads, caller, key)
        return await self._change(request, "edit", {"entry": entry.id, "parts": parts}, key)

    async def recall(self, request: web.Request) -> web.Response:
        entry = await self._people.entry(request["api_key"], path_id(request, "entry"))
        return await self._change(request, "recall", {"entry": entry.id})

    async def seen(self, request: web.Request) -> web.Response:
        entry = await self._people.entry(request["api_key"], path_id(request, "entry"))
        wanted = await read_json(request, SeenInput)
        return await self._change(request, "seen", {"entry": entry.id, "state": wanted.state})

    async def _change(
        self, request: web.Request, name: str, args: dict[str, Any], key: str = ""
    ) -> web.Response:
        ran = await self._commands.run(request, name, args, key_in_body=key)
        entry = await self._people.entry(request["api_key"], args["entry"])
        changed = Changed(
            operation=ran.operation,
            state="pending" if ran.result is None else "done",
            entry=entry_view(entry),
        )
        return answer(changed, 202 if ran.result is None else 200)

    async def typing(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        ident = path_id(request, "customer")
        wanted = await read_json(request, TypingInput)
        person = await self._people.find(caller, ident)
        doc = self._reachable(caller, await self._people.address(caller, person, wanted.address))
        await self._hub.services.signal(
            f"{doc.channel}/{doc.account}/typing",
            {"address": doc.id, "by": "agent", "on": wanted.on},
        )
        await self._tell_vendor(doc, wanted.on)
        return web.Response(status=204)

    async def _tell_vendor(self, doc: AddressDoc, on: bool) -> None:
        """Show typing where the vendor has a call for it; what fails is of no consequence."""
        connector = self._hub.connectors.get((doc.channel, doc.account))
        if connector is None or not (connector.capabilities.typing and connector.tells_typing()):
            return
        if not self._hub.switches.outbound_on(doc.channel, doc.account):
            return
        try:
            async with asyncio.timeout(TYPING_S):
                await connector.show_typing(doc.address, on)
        except Exception as error:  # noqa: BLE001 - a plugin's failure stays its own
            log.info(
                "typing_not_shown",
                account=f"{doc.channel}:{doc.account}",
                reason=type(error).__name__,  # its words may name people
                code=getattr(error, "code", ""),
            )


def _last_speaker(person: Person, conversation: Conversation) -> AddressDoc:
    for ident in (conversation.last_address, conversation.root):
        for doc in person.addresses:
            if doc.id == ident:
                return doc
    raise Refusal("not-found", "this conversation belongs to another customer", 404)
