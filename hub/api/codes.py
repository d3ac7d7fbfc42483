"""One-time codes by which customers say themselves that an address is theirs."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from aiohttp import web
from msgspec import Meta, to_builtins

from hub.api.access import unlimited
from hub.api.bodies import Input, answer, path_id, read_json
from hub.api.openapi import operation
from hub.api.operations import Commands, accepted
from hub.api.people import People
from hub.api.replies import TemplateInput
from hub.api.views import OperationView, View
from hub.planning.codes import DIGITS, LEAST_DIGITS, MOST_DIGITS, code_of
from hub.planning.commands.codes import MINUTES, SAYS
from hub.plugin_context import PluginRoute

if TYPE_CHECKING:
    from hub.running import Running


class CodeInput(Input, frozen=True, kw_only=True):
    """Without ``send`` the code is in the answer, to be shown to the customer."""

    address: Annotated[
        str,
        Meta(
            max_length=2000,
            description="One of the customer's addresses, its id or canonical text: the code"
            " stands for whoever has it when the code is told.",
        ),
    ] = ""
    send: Annotated[
        bool, Meta(description="Send the code to `address`. Then the answer does not show it.")
    ] = False
    text: Annotated[
        str,
        Meta(min_length=1, max_length=2000, description="What is sent; `{code}` is the code."),
    ] = SAYS
    template: Annotated[
        TemplateInput | None,
        Meta(description="Sent instead of a text, where a channel needs one: `{code}` in params."),
    ] = None
    channel: Annotated[
        str, Meta(max_length=64, description="The only channel on which the code counts.")
    ] = ""
    digits: Annotated[int, Meta(ge=LEAST_DIGITS, le=MOST_DIGITS)] = DIGITS
    minutes: Annotated[int, Meta(ge=1, le=60, description="How long it is good.")] = MINUTES


class CodeIssued(View, frozen=True, kw_only=True):
    """``code`` is null when it was sent; ``entry_id`` is the message that carries it then."""

    operation: str
    customer: str
    code: str | None
    expires_at: datetime
    entry_id: str | None


class Codes:
    def __init__(self, hub: Running, people: People, commands: Commands) -> None:
        self._hub = hub
        self._people = people
        self._commands = commands

    def routes(self) -> list[PluginRoute]:
        return [
            PluginRoute(
                method="POST",
                path="/api/v1/customers/{customer}/codes",
                handler=self.issue,
                scope="customers:write",
                operation=operation(
                    "Make a one-time code by which this customer links another address",
                    tag="identity",
                    answer=CodeIssued,
                    status=201,
                    also={202: OperationView},
                    body=CodeInput,
                    problems=(404, 409, 410, 422, 429),
                    once=True,
                    description="Whoever sends a message that is the code and nothing else, or"
                    " enters it in a phone menu, is linked to the customer by attested evidence"
                    " of the kind `code`. It is good once. A 202 has no code: ask again with the"
                    " same Idempotency-Key.",
                ),
            )
        ]

    async def issue(self, request: web.Request) -> web.Response:
        caller = unlimited(request)
        ident = path_id(request, "customer")
        wanted = await read_json(request, CodeInput)
        person = await self._people.find(caller, ident)
        args: dict[str, Any] = {
            "customer": person.customer.id,
            "send": wanted.send,
            "text": wanted.text,
            "channel": wanted.channel,
            "digits": wanted.digits,
            "minutes": wanted.minutes,
        }
        if wanted.address:
            args["address"] = (await self._people.address(caller, person, wanted.address)).id
        if wanted.template is not None:
            args["template"] = to_builtins(wanted.template)
        ran = await self._commands.run(request, "identity.code.issue", args)
        if ran.result is None:
            return accepted(ran)
        code = code_of(self._hub.key, ran.key, ran.result["turn"], ran.result["digits"])
        issued = CodeIssued(
            operation=ran.operation,
            customer=ran.result["customer"],
            code=None if wanted.send else code,
            expires_at=datetime.fromisoformat(ran.result["expires_at"]),
            entry_id=ran.result["entry"],
        )
        return answer(issued, 201, {"Cache-Control": "no-store"})
