"""The log of what happened on the desk, for the hub's poller: gap-free positions per backend.

A line gets the position after the last one that can be read, by an insert that only one writer
can make. So a position is never visible before the one below it, and a reader that remembers
its position misses nothing.
"""

from __future__ import annotations

from msgspec.structs import replace

from hub import PluginContext
from plugins.desk.documents import DeskEvent


class EventLog:
    def __init__(self, context: PluginContext) -> None:
        self._lines = context.documents(DeskEvent)

    async def append(self, event: DeskEvent) -> None:
        """Put an event at the end; one that is there already stays where it is."""
        while True:
            last = await self.last(event.backend)  # before the look-up: see the next comment
            if await self._lines.find({"event": event.event}, limit=1):
                return
            # Had somebody logged it since, the position behind ``last`` would be taken.
            line = replace(event, id=f"{event.backend}|{last + 1:015d}", position=last + 1)
            if not await self._lines.insert([line]):
                return

    async def last(self, backend: str) -> int:
        """Return the last position, 0 for an empty log."""
        found = await self._lines.find({"backend": backend}, sort=[("position", -1)], limit=1)
        return found[0].position if found else 0

    async def after(self, backend: str, position: int, limit: int) -> list[DeskEvent]:
        """Return the lines behind a position, oldest first."""
        return await self._lines.find(
            {"backend": backend, "position": {"$gt": position}},
            sort=[("position", 1)],
            limit=limit,
        )

    async def erase(self, ticket: str) -> None:
        """Leave of a ticket's lines their places only."""
        lines = await self._lines.find({"ticket": ticket})
        await self._lines.put([replace(line, data={}, erased=True) for line in lines])
