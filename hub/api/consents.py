"""What customers agreed to and what they do not want, with the evidence, address by address."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from aiohttp import web
from msgspec import Meta

from hub.api.bodies import Input, answer, moment, path_id, read_json
from hub.api.keys import ApiKey
from hub.api.openapi import operation
from hub.api.operations import Commands
from hub.api.people import People, Person
from hub.api.views import View
from hub.documents import AddressDoc, Consent, ConsentChange
from hub.notifications import EVERYTHING
from hub.notifications.consents import UNKNOWN, objection
from hub.notifications.policy import Policy, policy_of
from hub.plugin_context import PluginRoute
from normalizer.drafts import Evidence

if TYPE_CHECKING:
    from hub.running import Running

HISTORY_SHOWN = 200


class ConsentEvidence(Input, frozen=True, kw_only=True):
    """What shows that the customer said it: a form and its version, a signed order, a call."""

    kind: Annotated[str, Meta(min_length=1, max_length=64)]
    ref: Annotated[str, Meta(max_length=200)] = ""
    note: Annotated[str, Meta(max_length=2000)] = ""


class ConsentInput(Input, frozen=True, kw_only=True):
    """What the customer said about a purpose; `*` is every purpose.

    Without ``addresses`` it holds for all that the customer has now, and the key sees.
    """

    purpose: Annotated[str, Meta(pattern=r"^(\*|[a-z0-9][a-z0-9_-]{0,31})$")]
    state: Literal["granted", "withdrawn", "unknown"]
    evidence: ConsentEvidence
    addresses: Annotated[
        list[Annotated[str, Meta(max_length=2000)]],
        Meta(max_length=100, description="Ids or canonical texts."),
    ] = []
    source: Annotated[
        str, Meta(max_length=200, description="Where it was said: a web form, a shop.")
    ] = ""
    at: (
        Annotated[
            datetime,
            Meta(description="When it was said, if that was earlier. The latest word counts."),
        ]
        | None
    ) = None


class ConsentView(View, frozen=True, kw_only=True):
    """Where one address stands with one purpose. ``allowed``: it may be written to for it.

    ``state`` is unknown where nothing was said. A withdrawal of `*` forbids every purpose.
    """

    address: str
    channel: str
    account: str
    purpose: str
    state: str
    allowed: bool
    at: datetime | None
    source: str
    evidence: Evidence | None
    actor: str


class ConsentChangeView(View, frozen=True, kw_only=True):
    """One line of the ledger. ``at``: when it was said; ``recorded_at``: when the hub was told."""

    address: str
    purpose: str
    state: str
    at: datetime
    recorded_at: datetime
    source: str
    evidence: Evidence | None
    actor: str


class ConsentsView(View, frozen=True, kw_only=True):
    """``history`` has the newest lines, newest first."""

    customer: str
    merged_from: str | None
    consents: list[ConsentView]
    history: list[ConsentChangeView]


class ConsentRecorded(View, frozen=True, kw_only=True):
    """``consents`` are as they are now: with ``state`` pending, without the change."""

    operation: str
    state: Literal["pending", "done"]
    consents: ConsentsView


class Consents:
    def __init__(self, hub: Running, people: People, commands: Commands) -> None:
        self._hub = hub
        self._people = people
        self._commands = commands
        self._policy = policy_of(hub.settings.notifications)

    def routes(self) -> list[PluginRoute]:
        path = "/api/v1/customers/{customer}/consents"
        return [
            PluginRoute(
                method="GET",
                path=path,
                handler=self.show,
                scope="customers:read",
                operation=operation(
                    "What a customer agreed to, with the evidence",
                    tag="notifications",
                    answer=ConsentsView,
                    problems=(410,),
                ),
            ),
            PluginRoute(
                method="PUT",
                path=path,
                handler=self.put,
                scope="consents:write",
                operation=operation(
                    "Record what a customer said about a purpose",
                    tag="notifications",
                    answer=ConsentRecorded,
                    also={202: ConsentRecorded},
                    body=ConsentInput,
                    problems=(404, 409, 410),
                    once=True,
                ),
            ),
        ]

    async def show(self, request: web.Request) -> web.Response:
        person = await self._people.find(request["api_key"], path_id(request, "customer"))
        return answer(await self._view(person))

    async def put(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        ident = path_id(request, "customer")
        wanted = await read_json(request, ConsentInput)
        person = await self._people.find(caller, ident)
        args: dict[str, Any] = {
            "customer": ident,  # as it was asked for: a repetition after a merge is the same
            "purpose": wanted.purpose,
            "state": wanted.state,
            "evidence": {
                "kind": wanted.evidence.kind,
                "ref": wanted.evidence.ref,
                "note": wanted.evidence.note,
            },
            "addresses": await self._addresses(caller, person, wanted.addresses),
            "source": wanted.source,
        }
        if wanted.at is not None:
            args["at"] = moment(wanted.at, "at").isoformat()
        ran = await self._commands.run(request, "consent", args)
        recorded = ConsentRecorded(
            operation=ran.operation,
            state="pending" if ran.result is None else "done",
            consents=await self._view(await self._people.find(caller, ident)),
        )
        return answer(recorded, 202 if ran.result is None else 200)

    async def _addresses(self, caller: ApiKey, person: Person, named: Sequence[str]) -> list[str]:
        found = [await self._people.address(caller, person, each) for each in named]
        if not found and caller.limited:
            found = person.addresses
        return [doc.id for doc in found]

    async def _view(self, person: Person) -> ConsentsView:
        idents = [doc.id for doc in person.addresses]
        store = self._hub.store
        held = await store.table(Consent).find({"address": {"$in": idents}})
        lines = await store.table(ConsentChange).find(
            {"address": {"$in": idents}}, sort=[("position", -1)], limit=HISTORY_SHOWN
        )
        return ConsentsView(
            customer=person.customer.id,
            merged_from=person.merged_from,
            consents=[view for doc in person.addresses for view in _views(self._policy, doc, held)],
            history=[
                ConsentChangeView(
                    address=line.address,
                    purpose=line.purpose,
                    state=line.state,
                    at=line.at,
                    recorded_at=line.recorded_at,
                    source=line.source,
                    evidence=line.evidence,
                    actor=line.actor,
                )
                for line in lines
            ],
        )


def _views(policy: Policy, doc: AddressDoc, held: Iterable[Consent]) -> list[ConsentView]:
    """Return where an address stands with each purpose, those it only spoke of included."""
    own = {consent.purpose: consent for consent in held if consent.address == doc.id}
    states = {purpose: consent.state for purpose, consent in own.items()}
    views = []
    for name in dict.fromkeys((EVERYTHING, *policy.purposes, *sorted(own))):
        consent = own.get(name)
        purpose = policy.purposes.get(name)
        needs_grant = purpose.needs_grant if purpose is not None else name != EVERYTHING
        views.append(
            ConsentView(
                address=doc.id,
                channel=doc.channel,
                account=doc.account,
                purpose=name,
                state=consent.state if consent is not None else UNKNOWN,
                allowed=objection(states, name, needs_grant=needs_grant) is None,
                at=consent.at if consent is not None else None,
                source=consent.source if consent is not None else "",
                evidence=consent.evidence if consent is not None else None,
                actor=consent.actor if consent is not None else "",
            )
        )
    return views
