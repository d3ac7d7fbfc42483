"""Asking plugins to which ticket backends messages go, and whose fault it is when one fails.

A message that a plugin chokes on, while it does well with others, is poison: its item becomes
a dead letter. A plugin that chokes on everything is at fault itself: what it would have said
is left out, and the host suspends it.
"""

from __future__ import annotations

from collections.abc import Sequence

from hub.planning.rules import Route
from hub.plugin_host import PluginHost
from hub.preparing import Poisoned
from normalizer.drafts import Message

HOOK = "choose_ticket_route"


class RouteChooser:
    """One per router. It remembers for each plugin a message that it could answer."""

    def __init__(self, host: PluginHost, deadline_s: float) -> None:
        self._host = host
        self._deadline_s = deadline_s
        self._answered: dict[str, Message] = {}

    async def choose(self, messages: Sequence[Message]) -> list[Route | Poisoned | None]:
        """Return for each message what the first plugin that decides says, None without one."""
        chosen: list[Route | Poisoned | None] = [None] * len(messages)
        for answer in await self._host.ask(
            HOOK, items=len(messages), kind=_KINDS, deadline_s=self._deadline_s, messages=messages
        ):
            if answer.suspended:
                continue
            if answer.error is None:
                self._answered[answer.plugin] = messages[-1]
                found: Sequence[Route | Poisoned | None] = answer.value
            else:
                found = await self._one_by_one(answer.plugin, messages)
            for place, route in enumerate(found):
                chosen[place] = chosen[place] or route
        return chosen

    async def _one_by_one(
        self, plugin: str, messages: Sequence[Message]
    ) -> list[Route | Poisoned | None]:
        """Find the messages that a plugin chokes on; nothing if it is the plugin's own fault."""
        found: list[Route | Poisoned | None] = []
        failed = 0
        for message in messages:
            answer = await self._ask(plugin, message)
            if answer is None:
                found.append(Poisoned("hook", f"the plugin {plugin} failed at {HOOK}"))
                failed += 1
            else:
                self._answered[plugin] = message
                found.append(answer[0])
        if failed == len(messages) and not await self._still_works(plugin):
            return [None] * len(messages)
        return found

    async def _still_works(self, plugin: str) -> bool:
        """Ask the plugin about a message that it could answer before."""
        control = self._answered.get(plugin)
        return control is not None and await self._ask(plugin, control) is not None

    async def _ask(self, plugin: str, message: Message) -> Sequence[Route | None] | None:
        answer = await self._host.ask_one(
            plugin, HOOK, deadline_s=self._deadline_s, messages=[message]
        )
        if answer is None or answer.error is not None or len(answer.value) != 1:
            return None
        routes: Sequence[Route | None] = answer.value
        return routes


_KINDS = (Route, type(None))
