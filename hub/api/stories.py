"""The story of one message over HTTP; it is put together in hub/story.py."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from aiohttp import web

from hub.api.bodies import answer, path_id
from hub.api.keys import ApiKey
from hub.api.openapi import operation
from hub.api.people import People
from hub.api.views import View
from hub.planning.rules import Refusal
from hub.plugin_context import PluginRoute
from hub.story import tell_story

if TYPE_CHECKING:
    from hub.running import Running


class LineView(View, frozen=True, kw_only=True):
    """One thing that happened; ``at`` is null for what has not happened yet."""

    at: datetime | None
    what: str
    id: str
    details: str


class StoryView(View, frozen=True, kw_only=True):
    """Oldest first."""

    id: str
    story: list[LineView]


class Trace:
    def __init__(self, hub: Running, people: People) -> None:
        self._hub = hub
        self._people = people

    def routes(self) -> list[PluginRoute]:
        return [
            PluginRoute(
                method="GET",
                path="/api/v1/trace/{thing}",
                handler=self.story,
                scope="operations:read",
                operation=operation(
                    "The story of one message, by any id of it: in_, ent_, job_, evt_",
                    tag="operations",
                    answer=StoryView,
                    problems=(410,),
                    description="A key that is limited to accounts may ask for entries only.",
                ),
            )
        ]

    async def story(self, request: web.Request) -> web.Response:
        caller: ApiKey = request["api_key"]
        ident = path_id(request, "thing")
        if caller.limited:
            if not ident.startswith("ent_"):
                raise Refusal("forbidden", "a key limited to accounts traces entries only", 403)
            await self._people.entry(caller, ident)
        lines = await tell_story(
            self._hub.store, self._hub.key, ident, region=self._hub.settings.default_region
        )
        if not lines:
            raise Refusal("not-found", f"nothing is known of {ident}", 404)
        return answer(
            StoryView(
                id=ident,
                story=[
                    LineView(at=each.at, what=each.what, id=each.id, details=each.details)
                    for each in lines
                ],
            )
        )
