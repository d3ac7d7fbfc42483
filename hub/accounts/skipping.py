"""A door that is stuck on one thing is told to pass exactly that one.

Whoever asks names the cursor the door stands at; whichever process holds the door then asks the
connector for the cursor behind the thing, makes a dead letter of the thing, and goes on. A door
that has moved on by itself meanwhile skips nothing: it would be another, healthy thing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
import structlog
from msgspec.structs import replace

from hub.clock import Clock
from hub.documents import State
from hub.store.interface import Store

log = structlog.get_logger(__name__)

NUDGE = "doors/nudge"  # the signal that wakes a door up that rests after a failure
DOORS = ("poll", "hold")

DoorName = Literal["poll", "hold"]


class Skip(msgspec.Struct, frozen=True, kw_only=True):
    """One request to skip, and what became of it."""

    account: str
    door: DoorName
    cursor: str
    by: str
    why: str
    at: datetime
    state: Literal["asked", "done", "refused"] = "asked"
    detail: str = ""


class NothingToSkip(Exception):
    """There is nothing that could be skipped; the message says why."""


def cursor_key(door: str, name: str) -> str:
    """Return where a door's cursor is kept."""
    return f"cursor/{door}/{name}"


class Skips:
    """The requests, one for each door at a time."""

    def __init__(self, store: Store) -> None:
        self._state = store.table(State)

    async def ask(
        self, name: str, doors: tuple[DoorName, ...], *, by: str, why: str, clock: Clock
    ) -> Skip:
        """Ask for the thing at the door's cursor to be skipped; asking twice is asking once.

        Raises NothingToSkip when no door of the account has begun yet.
        """
        for door in doors:
            found = await self._state.get(cursor_key(door, name))
            if found is not None:
                break
        else:
            raise NothingToSkip(
                f"{name} has no door that keeps a place: only polls and held connections do"
                if not doors
                else f"the door of {name} has brought nothing yet, so there is no place to skip at"
            )
        cursor = str(found.value["cursor"])
        key = _key(door, name)
        held = await self._state.get(key)
        if held is not None:
            known = msgspec.convert(held.value, Skip)
            if known.state == "asked" and known.cursor == cursor:
                return known
        skip = Skip(account=name, door=door, cursor=cursor, by=by, why=why, at=clock.now())
        await self._state.put([_doc(key, skip, held.rev + 1 if held else 1)])
        log.warning("skip_asked", account=name, door=door, by=by, why=why)
        return skip

    async def read(self, skip: Skip) -> Skip:
        """Return what became of a request; of a newer one for the same door, that."""
        held = await self._state.get(_key(skip.door, skip.account))
        return skip if held is None else msgspec.convert(held.value, Skip)

    async def due(self, door: str, name: str, cursor: str | None) -> Skip | None:
        """Return the request that the door has to fulfil at ``cursor``, if there is one."""
        held = await self._state.get(_key(door, name))
        if held is None:
            return None
        skip = msgspec.convert(held.value, Skip)
        if skip.state != "asked":
            return None
        if skip.cursor != cursor:
            await self.refuse(skip, "the door has gone on by itself: nothing was skipped")
            return None
        return skip

    async def done(self, skip: Skip, detail: str) -> None:
        log.warning("skipped", account=skip.account, door=skip.door, by=skip.by, why=skip.why)
        await self._end(replace(skip, state="done", detail=detail))

    async def refuse(self, skip: Skip, detail: str) -> None:
        log.warning("skip_refused", account=skip.account, door=skip.door, reason=detail)
        await self._end(replace(skip, state="refused", detail=detail))

    async def _end(self, skip: Skip) -> None:
        key = _key(skip.door, skip.account)
        held = await self._state.get(key)
        if held is not None and msgspec.convert(held.value, Skip).at == skip.at:
            await self._state.swap(_doc(key, skip, held.rev + 1), {"rev": held.rev})


def _key(door: str, name: str) -> str:
    return f"skip/{door}/{name}"


def _doc(key: str, skip: Skip, rev: int) -> State:
    value = msgspec.to_builtins(skip, builtin_types=(datetime,))
    return State(id=key, value=value, rev=rev)
