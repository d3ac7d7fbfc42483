"""What could not be done, why, and having it done again."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from aiohttp import web
from msgspec import Meta

from hub.api.bodies import Input, answer, path_id, read_json, read_query
from hub.api.cursors import Cursors
from hub.api.customers import ROUNDS, CursorText, Limit
from hub.api.keys import ApiKey
from hub.api.openapi import operation
from hub.api.operations import Commands
from hub.api.views import View
from hub.documents import DeadLetter
from hub.outbound.settling import settle_args, settleable, settled
from hub.planning.rules import Refusal
from hub.plugin_context import PluginRoute
from hub.replay import Replay

if TYPE_CHECKING:
    from hub.running import Running

BODY_SHOWN = 64 * 1024


class DeadLettersQuery(Input, frozen=True, kw_only=True):
    state: Literal["open", "redriven", "settled"] = "open"
    kind: Annotated[str, Meta(max_length=20, description="inbox, parse or job")] = ""
    cursor: CursorText = ""
    limit: Limit = 50


class DeadLetterView(View, frozen=True, kw_only=True):
    """``stage`` says where it failed; ``ref`` is the item (in_) or the job (job_)."""

    id: str
    kind: str
    stage: str
    reason: str
    channel: str
    account: str
    ref: str
    at: datetime
    state: str
    attempts: int


class RequestView(View, frozen=True, kw_only=True):
    """The request as it arrived, without credentials. The body is text, or base64 of bytes."""

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    body: str
    encoding: Literal["text", "base64"]
    size: int


class DeadLetterDetail(View, frozen=True, kw_only=True):
    """``request`` is null when it did not come by a webhook, or is not kept any more."""

    dead_letter: DeadLetterView
    request: RequestView | None


class DeadLetterPage(View, frozen=True, kw_only=True):
    """Dead letters, newest first."""

    dead_letters: list[DeadLetterView]
    next_cursor: str | None


class SettleInput(Input, frozen=True, kw_only=True):
    """What a person found out about an answer of which nobody knew."""

    outcome: Literal["sent", "failed"]


class DeadLetters:
    def __init__(self, hub: Running, cursors: Cursors, commands: Commands) -> None:
        self._hub = hub
        self._commands = commands
        self._letters = hub.store.table(DeadLetter)
        self._cursors = cursors
        self._replay = Replay(
            hub.store,
            hub.key,
            hub.clock,
            lambda channel, account: hub.connectors.get((channel, account)),
            hub.backends,
        )

    def routes(self) -> list[PluginRoute]:
        return [
            PluginRoute(
                method="GET",
                path="/api/v1/dead-letters",
                handler=self.page,
                scope="deadletters:read",
                operation=operation(
                    "What could not be done",
                    tag="operations",
                    answer=DeadLetterPage,
                    query=DeadLettersQuery,
                    problems=(400,),
                ),
            ),
            PluginRoute(
                method="GET",
                path="/api/v1/dead-letters/{letter}",
                handler=self.show,
                scope="deadletters:read",
                operation=operation(
                    "One of them, with the raw request", tag="operations", answer=DeadLetterDetail
                ),
            ),
            PluginRoute(
                method="POST",
                path="/api/v1/dead-letters/{letter}/redrive",
                handler=self.redrive,
                scope="deadletters:write",
                operation=operation(
                    "Have it done again",
                    tag="operations",
                    answer=DeadLetterView,
                    status=202,
                    problems=(409, 410),
                    description="Harmless when repeated: what is there already stays as it is."
                    " An answer of unknown outcome is sent once more: settle it instead where it"
                    " arrived.",
                ),
            ),
            PluginRoute(
                method="POST",
                path="/api/v1/dead-letters/{letter}/settle",
                handler=self.settle,
                scope="deadletters:write",
                operation=operation(
                    "Say what became of an answer of unknown outcome",
                    tag="operations",
                    answer=DeadLetterView,
                    also={202: DeadLetterView},
                    body=SettleInput,
                    problems=(409, 410),
                    once=True,
                    description="Nothing is sent. The letter is `open` in a 202: the change is on"
                    " its way, repeat the call to see it.",
                ),
            ),
        ]

    async def page(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        query = read_query(request, DeadLettersQuery)
        purpose = f"dead-letters|{query.state}|{query.kind}"
        place = ""
        if query.cursor:
            (place,) = self._cursors.read(purpose, query.cursor, tuple[str])
        shown: list[DeadLetter] = []
        more = True
        for _ in range(ROUNDS):
            found = await self._letters.find(
                _where(query, place), sort=[("_id", -1)], limit=query.limit + 1
            )
            more = len(found) > query.limit
            for letter in found[: query.limit]:
                place = letter.id
                if caller.sees(letter.channel, letter.account):
                    shown.append(letter)
                if len(shown) == query.limit:
                    more = more or letter is not found[-1]
                    break
            if len(shown) == query.limit or not more:
                break
        return answer(
            DeadLetterPage(
                dead_letters=[_view(letter) for letter in shown],
                next_cursor=self._cursors.make(purpose, (place,)) if more and place else None,
            )
        )

    async def show(self, request: web.Request) -> web.Response:
        letter = await self._letter(request)
        return answer(DeadLetterDetail(dead_letter=_view(letter), request=await self._raw(letter)))

    async def redrive(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        self._hub.overload.admit_write()
        letter = await self._letter(request)
        return answer(_view(await self._replay.redrive(letter, by=caller.actor)), 202)

    async def settle(self, request: web.Request) -> web.Response:
        letter = await self._letter(request)
        wanted = await read_json(request, SettleInput)
        job = await settleable(self._hub.store, letter, wanted.outcome)
        ran = await self._commands.run(request, "settle", settle_args(job, wanted.outcome))
        if ran.result is None:
            return answer(_view(letter), 202)
        return answer(_view(await settled(self._hub.store, letter, job, wanted.outcome)))

    async def _letter(self, request: web.Request) -> DeadLetter:
        caller: ApiKey = request["api_key"]
        ident = path_id(request, "letter")
        letter = await self._letters.get(ident)
        if letter is None or not caller.sees(letter.channel, letter.account):
            raise Refusal("not-found", f"there is no dead letter {ident}", 404)
        return letter

    async def _raw(self, letter: DeadLetter) -> RequestView | None:
        if letter.kind == "job":
            return None
        try:
            raw = await self._replay.raw_of(await self._replay.item_of(letter))
        except Refusal:
            return None  # not kept: the letter itself is all there is
        if raw is None:
            return None
        shown = raw.body[:BODY_SHOWN]
        text = _text(shown)
        return RequestView(
            method=raw.method,
            path=raw.path,
            query_string=raw.query_string,
            headers=raw.headers,
            body=base64.b64encode(shown).decode() if text is None else text,
            encoding="base64" if text is None else "text",
            size=len(raw.body),
        )


def _where(query: DeadLettersQuery, place: str) -> dict[str, Any]:
    where: dict[str, Any] = {"state": query.state}
    if query.kind:
        where["kind"] = query.kind
    if place:
        where["_id"] = {"$lt": place}
    return where


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _view(letter: DeadLetter) -> DeadLetterView:
    return DeadLetterView(
        id=letter.id,
        kind=letter.kind,
        stage=letter.stage,
        reason=letter.reason,
        channel=letter.channel,
        account=letter.account,
        ref=letter.ref,
        at=letter.at,
        state=letter.state,
        attempts=letter.attempts,
    )
