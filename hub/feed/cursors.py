"""Cursors: where a reader is in the feed, signed, and bound to what it asks for.

A cursor means "everything up to this position was looked at". It stays good for as long as the
events behind it are kept.
"""

from __future__ import annotations

import msgspec

from hub.api import cursors
from hub.feed.access import Selection
from hub.ids import SpaceKey
from hub.planning.rules import Refusal

TAIL = "tail"
_PURPOSE = "feed"


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """A place in one generation of the feed, for one selection."""

    generation: int
    position: int
    digest: bytes


class CursorExpired(Exception):
    """What comes next is no longer kept. ``earliest`` is the position before the first one left."""

    def __init__(self, reason: str, earliest: int) -> None:
        super().__init__(reason)
        self.earliest = earliest


class Cursors:
    """Signs the feed's cursors and reads them again."""

    def __init__(self, key: SpaceKey) -> None:
        self._signed = cursors.Cursors(key.derive("feed-cursor"))

    def text(self, generation: int, position: int, selection: Selection) -> str:
        return self._signed.make(_PURPOSE, (generation, position, selection.digest))

    def read(self, text: str) -> Cursor:
        """Raises Refusal(cursor-invalid) for whatever :meth:`text` did not make."""
        return self._signed.read(_PURPOSE, text, Cursor)

    def read_for(self, text: str, selection: Selection) -> Cursor:
        """Like :meth:`read`, and refuses a cursor that was made for other filters as well."""
        cursor = self.read(text)
        if cursor.digest != selection.digest:
            raise Refusal(
                "cursor-invalid",
                "this cursor was made with other filters (types, channel, customer): keep them, or"
                " start anew without a cursor",
                400,
            )
        return cursor

    def expired(self, error: CursorExpired, generation: int, selection: Selection) -> Refusal:
        """Return how a reader is told that it came too late, and where it can go on."""
        return Refusal(
            "cursor-expired",
            str(error),
            410,
            earliest_cursor=self.text(generation, error.earliest, selection),
        )
