"""Who is who, decided from outside: link, merge, their undo, separate, notes, erase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from aiohttp import web
from msgspec import Meta

from hub.api.access import unlimited
from hub.api.bodies import PATH_IDS, Input, answer, path_id, read_json
from hub.api.keys import ApiKey
from hub.api.openapi import operation
from hub.api.operations import Commands, accepted
from hub.api.people import People
from hub.api.views import (
    EntryView,
    LinkList,
    LinkView,
    OperationView,
    View,
    entry_view,
    link_view,
)
from hub.documents import Entry, Link
from hub.planning.commands import command_entry_id
from hub.planning.rules import Refusal
from hub.plugin_context import PluginRoute

if TYPE_CHECKING:
    from hub.running import Running

LINKS_SHOWN = 500


class EvidenceInput(Input, frozen=True, kw_only=True):
    """Why two addresses are held to be one person's; kept with the decision for ever."""

    kind: Annotated[str, Meta(min_length=1, max_length=64)] = "agent"
    ref: Annotated[str, Meta(max_length=200)] = ""
    note: Annotated[str, Meta(max_length=2000)] = ""


class LinkInput(Input, frozen=True, kw_only=True):
    """Less than ``attested`` stays a suggestion in the feed."""

    address: Annotated[str, Meta(min_length=1, max_length=2000)]
    evidence: EvidenceInput = EvidenceInput()
    trust: Literal["claimed", "seen", "attested"] = "attested"


class SeparateInput(Input, frozen=True, kw_only=True):
    address: Annotated[str, Meta(min_length=1, max_length=2000)]
    evidence: EvidenceInput = EvidenceInput()


class MergeInput(Input, frozen=True, kw_only=True):
    """``other`` becomes an alias of the customer in the path."""

    other: Annotated[str, Meta(pattern=PATH_IDS["customer"])]
    evidence: EvidenceInput = EvidenceInput()


class UnmergeInput(Input, frozen=True, kw_only=True):
    link: Annotated[str, Meta(pattern=PATH_IDS["link"])]


class NoteInput(Input, frozen=True, kw_only=True):
    text: Annotated[str, Meta(min_length=1, max_length=20_000)]
    conversation: Annotated[str, Meta(pattern=PATH_IDS["conversation"])] | None = None
    agent: Annotated[str, Meta(max_length=200)] = ""
    agent_name: Annotated[str, Meta(max_length=200)] = ""


class Decided(View, frozen=True, kw_only=True):
    """A decision about who is who. ``link`` is null when it stayed a suggestion, or nothing
    had to be changed."""

    operation: str
    link: LinkView | None
    customer: str


class NoteAdded(View, frozen=True, kw_only=True):
    operation: str
    entry_id: str
    entry: EntryView | None


class Identity:
    def __init__(self, hub: Running, people: People, commands: Commands) -> None:
        self._hub = hub
        self._people = people
        self._commands = commands
        self._links = hub.store.table(Link)

    def routes(self) -> list[PluginRoute]:
        return [
            self._decision(
                "POST",
                "/api/v1/customers/{customer}/links",
                self.link,
                "Say that an address is this customer's",
                LinkInput,
            ),
            PluginRoute(
                method="GET",
                path="/api/v1/customers/{customer}/links",
                handler=self.links,
                scope="customers:read",
                operation=operation(
                    "All decisions about who this customer is",
                    tag="identity",
                    answer=LinkList,
                    problems=(410,),
                ),
            ),
            self._decision(
                "DELETE",
                "/api/v1/links/{link}",
                self.unlink,
                "Undo a link or a merge, in any order",
                None,
            ),
            self._decision(
                "POST",
                "/api/v1/customers/{customer}/separate",
                self.separate,
                "Give an address a customer of its own",
                SeparateInput,
            ),
            self._decision(
                "POST",
                "/api/v1/customers/{customer}/merge",
                self.merge,
                "Make two customers one",
                MergeInput,
            ),
            self._decision(
                "POST",
                "/api/v1/customers/{customer}/unmerge",
                self.unmerge,
                "Undo a merge, in any order",
                UnmergeInput,
            ),
            PluginRoute(
                method="POST",
                path="/api/v1/customers/{customer}/notes",
                handler=self.note,
                scope="customers:write",
                operation=operation(
                    "Write something down that only colleagues read",
                    tag="customers",
                    answer=NoteAdded,
                    status=201,
                    also={202: OperationView},
                    body=NoteInput,
                    problems=(404, 409, 410),
                    once=True,
                ),
            ),
            PluginRoute(
                method="DELETE",
                path="/api/v1/customers/{customer}",
                handler=self.erase,
                scope="erase:write",
                operation=operation(
                    "Erase a customer for good",
                    tag="customers",
                    answer=OperationView,
                    status=202,
                    problems=(404, 409, 410, 422),
                    once=True,
                    description="Everything readable goes, in rounds; tombstones stay, so that"
                    " no late copy brings it back.",
                ),
            ),
        ]

    @staticmethod
    def _decision(method: str, path: str, handler: Any, summary: str, body: Any) -> PluginRoute:
        return PluginRoute(
            method=method,
            path=path,
            handler=handler,
            scope="customers:write",
            operation=operation(
                summary,
                tag="identity",
                answer=Decided,
                also={202: OperationView},
                body=body,
                problems=(404, 409, 410, 422),
                once=True,
            ),
        )

    # --- decisions -------------------------------------------------------------------------------

    async def link(self, request: web.Request) -> web.Response:
        caller = unlimited(request)
        ident = path_id(request, "customer")
        wanted = await read_json(request, LinkInput)
        person = await self._people.find(caller, ident)
        return await self._decide(
            request,
            "link",
            {
                "customer": person.customer.id,
                "address": wanted.address,
                "evidence": _evidence(wanted.evidence),
                "trust": wanted.trust,
            },
        )

    async def separate(self, request: web.Request) -> web.Response:
        caller = unlimited(request)
        ident = path_id(request, "customer")
        wanted = await read_json(request, SeparateInput)
        person = await self._people.find(caller, ident)
        doc = await self._people.address(caller, person, wanted.address)
        evidence = _evidence(wanted.evidence)
        return await self._decide(request, "separate", {"address": doc.id, "evidence": evidence})

    async def merge(self, request: web.Request) -> web.Response:
        unlimited(request)
        ident = path_id(request, "customer")
        wanted = await read_json(request, MergeInput)
        args = {"customer": ident, "other": wanted.other, "evidence": _evidence(wanted.evidence)}
        return await self._decide(request, "merge", args)

    async def unmerge(self, request: web.Request) -> web.Response:
        unlimited(request)
        ident = path_id(request, "customer")
        wanted = await read_json(request, UnmergeInput)
        return await self._decide(request, "unmerge", {"customer": ident, "link": wanted.link})

    async def unlink(self, request: web.Request) -> web.Response:
        unlimited(request)
        return await self._decide(request, "unlink", {"link": path_id(request, "link")})

    async def _decide(self, request: web.Request, name: str, args: dict[str, Any]) -> web.Response:
        ran = await self._commands.run(request, name, args)
        if ran.result is None:
            return accepted(ran)
        link = await self._links.get(ran.result["link"]) if ran.result["link"] else None
        decided = Decided(
            operation=ran.operation,
            link=link_view(link) if link is not None else None,
            customer=ran.result["customer"],
        )
        return answer(decided)

    async def links(self, request: web.Request) -> web.Response:
        caller = unlimited(request)
        person = await self._people.find(caller, path_id(request, "customer"))
        members = [person.customer.id, *person.customer.addresses]
        if person.merged_from:
            members.append(person.merged_from)
        found = await self._links.find({"members": {"$in": members}}, limit=LINKS_SHOWN)
        found.sort(key=lambda link: (link.order, link.id))
        return answer(LinkList(links=[link_view(link) for link in found]))

    # --- notes, and the end ----------------------------------------------------------------------

    async def note(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        ident = path_id(request, "customer")
        wanted = await read_json(request, NoteInput)
        person = await self._people.find(caller, ident)
        args: dict[str, Any] = {
            "customer": person.customer.id,
            "text": wanted.text,
            "agent": wanted.agent or caller.id,
            "agent_name": wanted.agent_name,
        }
        if wanted.conversation:
            conversation = await self._people.conversation(caller, wanted.conversation)
            if conversation.customer != person.customer.id:
                raise Refusal("not-found", "this conversation belongs to another customer", 404)
            args["conversation"] = wanted.conversation
        ran = await self._commands.run(request, "note", args)
        if ran.result is None:
            return accepted(ran)
        made = command_entry_id(self._hub.key, ran.key)
        entry = await self._hub.store.table(Entry).get(made)
        added = NoteAdded(
            operation=ran.operation,
            entry_id=made,
            entry=entry_view(entry) if entry is not None else None,
        )
        return answer(added, 201, {"Location": f"/api/v1/entries/{made}"})

    async def erase(self, request: web.Request) -> web.Response:
        unlimited(request)
        ident = path_id(request, "customer")
        return accepted(await self._commands.run(request, "erase", {"customer": ident}))


def _evidence(evidence: EvidenceInput) -> dict[str, str]:
    return {"kind": evidence.kind, "ref": evidence.ref, "note": evidence.note}
