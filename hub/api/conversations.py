"""Working on conversations: the list, one of them, and what agents do with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from aiohttp import web
from msgspec import Meta

from hub.api.bodies import PATH_IDS, Input, answer, moment, path_id, read_json, read_query
from hub.api.cursors import Cursors
from hub.api.customers import ROUNDS, CursorText, Limit
from hub.api.keys import ApiKey
from hub.api.openapi import operation
from hub.api.operations import Commands
from hub.api.people import People
from hub.api.views import (
    ConversationPage,
    ConversationView,
    View,
    conversation_view,
)
from hub.documents import AddressDoc, Conversation
from hub.planning.rules import Refusal
from hub.plugin_context import PluginRoute

if TYPE_CHECKING:
    from hub.running import Running

Agent = Annotated[str, Meta(min_length=1, max_length=200, description="An agent's id.")]
Tag = Annotated[str, Meta(min_length=1, max_length=64)]
Tags = Annotated[list[Tag], Meta(max_length=50)]


class ConversationsQuery(Input, frozen=True, kw_only=True):
    state: Literal["open", "closed"] = "open"
    assignee: Annotated[
        str, Meta(max_length=200, description="An agent's id; `none` = nobody's.")
    ] = ""
    channel: Annotated[
        str, Meta(max_length=64, description="Only those the customer spoke in by this channel.")
    ] = ""
    cursor: CursorText = ""
    limit: Limit = 50


class Nothing(Input, frozen=True, kw_only=True):
    """No members."""


class Claim(Input, frozen=True, kw_only=True):
    """Refused with 409 when somebody else has it, unless ``force``."""

    agent: Agent
    force: bool = False


class Release(Input, frozen=True, kw_only=True):
    """With ``agent``, only if it is still this one's."""

    agent: Agent | None = None


class Transfer(Input, frozen=True, kw_only=True):
    """With ``agent``, only if it is still this one's."""

    to: Agent
    agent: Agent | None = None


class ConversationNote(Input, frozen=True, kw_only=True):
    text: Annotated[str, Meta(min_length=1, max_length=20_000)]
    agent: Annotated[str, Meta(max_length=200)] = ""
    agent_name: Annotated[str, Meta(max_length=200)] = ""


class TagChange(Input, frozen=True, kw_only=True):
    add: Tags = []
    remove: Tags = []


class Priority(Input, frozen=True, kw_only=True):
    priority: Literal["low", "normal", "high", "urgent"]


class Snooze(Input, frozen=True, kw_only=True):
    """``until`` null wakes it up."""

    until: datetime | None


class Split(Input, frozen=True, kw_only=True):
    """These entries begin a conversation of their own, which is answered."""

    entries: Annotated[
        list[Annotated[str, Meta(pattern=PATH_IDS["entry"])]], Meta(min_length=1, max_length=200)
    ]


class Join(Input, frozen=True, kw_only=True):
    """This conversation goes on in ``into``, which is answered."""

    into: Annotated[str, Meta(pattern=PATH_IDS["conversation"])]


class ConversationChanged(View, frozen=True, kw_only=True):
    """``state`` is pending where the change is not routed yet."""

    operation: str
    state: Literal["pending", "done"]
    conversation: ConversationView


Act = Callable[[ApiKey, Conversation, Any], Awaitable[tuple[str, dict[str, Any]]]]


class Conversations:
    def __init__(self, hub: Running, people: People, cursors: Cursors, commands: Commands) -> None:
        self._people = people
        self._cursors = cursors
        self._commands = commands
        self._conversations = hub.store.table(Conversation)
        self._addresses = hub.store.table(AddressDoc)

    def routes(self) -> list[PluginRoute]:
        return [
            PluginRoute(
                method="GET",
                path="/api/v1/conversations",
                handler=self.page,
                scope="conversations:read",
                operation=operation(
                    "Conversations, last active first",
                    tag="conversations",
                    answer=ConversationPage,
                    query=ConversationsQuery,
                    problems=(400,),
                ),
            ),
            PluginRoute(
                method="GET",
                path="/api/v1/conversations/{conversation}",
                handler=self.show,
                scope="conversations:read",
                operation=operation(
                    "One conversation", tag="conversations", answer=ConversationView
                ),
            ),
            self._act("claim", "Take a conversation", Claim, _claim),
            self._act("release", "Give a conversation back", Release, _release),
            self._act("transfer", "Hand a conversation to somebody else", Transfer, _transfer),
            self._act("note", "Write a note only colleagues read", ConversationNote, _note),
            self._act("tag", "Add and remove tags", TagChange, _tag),
            self._act("priority", "Set the priority", Priority, _priority),
            self._act("snooze", "Let it rest until a moment, or wake it up", Snooze, _snooze),
            self._act("close", "Close a conversation and solve its tickets", Nothing, _close),
            self._act("reopen", "Open it again, with its tickets", Nothing, _reopen),
            self._act("split", "Give entries a conversation of their own", Split, _split),
            self._act("join", "Let it go on in another conversation", Join, self._join),
        ]

    def _act(self, name: str, summary: str, body: Any, act: Act) -> PluginRoute:
        """Return the route of one thing that agents do: it runs a command."""

        async def handle(request: web.Request) -> web.Response:
            caller: ApiKey = request["api_key"]
            ident = path_id(request, "conversation")
            wanted = await read_json(request, body, optional=True)
            conversation = await self._people.conversation(caller, ident)
            command, args = await act(caller, conversation, wanted)
            ran = await self._commands.run(
                request, command, {"conversation": conversation.id, **args}
            )
            told = (ran.result or {}).get("conversation") or conversation.id
            after = await self._conversations.get(told) or conversation
            changed = ConversationChanged(
                operation=ran.operation,
                state="pending" if ran.result is None else "done",
                conversation=conversation_view(after),
            )
            return answer(changed, 202 if ran.result is None else 200)

        return PluginRoute(
            method="POST",
            path=f"/api/v1/conversations/{{conversation}}/{name}",
            handler=handle,
            scope="conversations:write",
            operation=operation(
                summary,
                tag="conversations",
                answer=ConversationChanged,
                also={202: ConversationChanged},
                body=body,
                body_required=body not in (Nothing, Release, TagChange),
                problems=(404, 409, 410),
                once=True,
            ),
        )

    # --- reading ---------------------------------------------------------------------------------

    async def show(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        found = await self._people.conversation(caller, path_id(request, "conversation"))
        return answer(conversation_view(found))

    async def page(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        query = read_query(request, ConversationsQuery)
        purpose = f"conversations|{query.state}|{query.assignee}|{query.channel}"
        place: tuple[int, str] | None = None
        if query.cursor:
            place = self._cursors.read(purpose, query.cursor, tuple[int, str])
        shown: list[Conversation] = []
        more = True
        for _ in range(ROUNDS):
            found = await self._conversations.find(
                _where(query, place),
                sort=[("active_at", -1), ("_id", -1)],
                limit=query.limit + 1,
            )
            more = len(found) > query.limit
            found = found[: query.limit]
            kept = await self._by_channel(query.channel, found)
            for each in await self._people.visible_conversations(caller, kept):
                shown.append(each)
                if len(shown) == query.limit:
                    more = more or each is not found[-1]
                    place = _place(each)
                    break
            if len(shown) == query.limit or not more:
                break
            place = _place(found[-1])
        return answer(
            ConversationPage(
                conversations=[conversation_view(each) for each in shown],
                next_cursor=self._cursors.make(purpose, place) if more and place else None,
            )
        )

    async def _by_channel(self, channel: str, found: list[Conversation]) -> list[Conversation]:
        if not channel:
            return found
        ends = {end for each in found for end in (each.root, each.last_address) if end}
        docs = await self._addresses.get_many(ends)
        here = {doc.id for doc in docs.values() if doc.channel == channel}
        return [each for each in found if {each.root, each.last_address} & here]

    # --- what needs a look at something else -----------------------------------------------------

    async def _join(
        self, caller: ApiKey, conversation: Conversation, wanted: Join
    ) -> tuple[str, dict[str, Any]]:
        into = await self._people.conversation(caller, wanted.into)
        return "join", {"into": into.id}


def _where(query: ConversationsQuery, place: tuple[int, str] | None) -> dict[str, Any]:
    where: dict[str, Any] = {"state": query.state}
    if query.assignee:
        where["assignee"] = {"$exists": False} if query.assignee == "none" else query.assignee
    if place is not None:
        at = datetime.fromtimestamp(place[0] / 1000, UTC)
        where["active_at"] = {"$lte": at}
        where["$or"] = [{"active_at": {"$lt": at}}, {"_id": {"$lt": place[1]}}]
    return where


def _place(conversation: Conversation) -> tuple[int, str]:
    return round(conversation.active_at.timestamp() * 1000), conversation.id


# --- what agents do: the command and its arguments -----------------------------------------------


async def _claim(
    caller: ApiKey, conversation: Conversation, wanted: Claim
) -> tuple[str, dict[str, Any]]:
    args: dict[str, Any] = {"assignee": wanted.agent}
    if not wanted.force:
        mine = conversation.assignee == wanted.agent
        args["expected_assignee"] = wanted.agent if mine else ""
    return "organize", args


async def _release(
    caller: ApiKey, conversation: Conversation, wanted: Release
) -> tuple[str, dict[str, Any]]:
    return "organize", {"assignee": "", **_only_if(wanted.agent)}


async def _transfer(
    caller: ApiKey, conversation: Conversation, wanted: Transfer
) -> tuple[str, dict[str, Any]]:
    return "organize", {"assignee": wanted.to, **_only_if(wanted.agent)}


def _only_if(agent: str | None) -> dict[str, Any]:
    return {} if agent is None else {"expected_assignee": agent}


async def _note(
    caller: ApiKey, conversation: Conversation, wanted: ConversationNote
) -> tuple[str, dict[str, Any]]:
    return "note", {
        "text": wanted.text,
        "agent": wanted.agent or caller.id,
        "agent_name": wanted.agent_name,
    }


async def _tag(
    caller: ApiKey, conversation: Conversation, wanted: TagChange
) -> tuple[str, dict[str, Any]]:
    if not wanted.add and not wanted.remove:
        raise Refusal("bad-request", "name tags to add or to remove", 422)
    return "organize", {"add_tags": wanted.add, "remove_tags": wanted.remove}


async def _priority(
    caller: ApiKey, conversation: Conversation, wanted: Priority
) -> tuple[str, dict[str, Any]]:
    return "organize", {"priority": wanted.priority}


async def _snooze(
    caller: ApiKey, conversation: Conversation, wanted: Snooze
) -> tuple[str, dict[str, Any]]:
    if wanted.until is None:
        return "organize", {"wake": True}
    return "organize", {"snoozed_until": moment(wanted.until, "until").isoformat()}


async def _close(
    caller: ApiKey, conversation: Conversation, wanted: Nothing
) -> tuple[str, dict[str, Any]]:
    return "close", {}


async def _reopen(
    caller: ApiKey, conversation: Conversation, wanted: Nothing
) -> tuple[str, dict[str, Any]]:
    return "reopen", {}


async def _split(
    caller: ApiKey, conversation: Conversation, wanted: Split
) -> tuple[str, dict[str, Any]]:
    return "split", {"entries": wanted.entries}
