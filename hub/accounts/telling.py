"""A settled change of an account's state becomes an event of the feed: one, whatever flaps.

The router alone writes the feed, so the change comes in as a command of the hub's own. A state
has to last before it is told, and the longer the more often the account has changed lately; what
a person did (pause, resume) is told at once. What was told last is kept in the database: another
process goes on from there, and a change told twice has the same key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog

from hub.accounts.states import AccountState
from hub.clock import Clock
from hub.documents import State
from hub.planning.rules import Refusal
from hub.store.interface import Store

log = structlog.get_logger(__name__)

TOLD = "accounts/told"
SETTLE_S = 10.0
SETTLE_LONGEST_S = 300.0
LATELY = timedelta(minutes=15)
REASON_CHARS = 300

RunCommand = Callable[..., Awaitable[Mapping[str, Any]]]


class Told(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the feed knows of an account."""

    state: str
    by_person: bool = False
    count: int = 0  # how many changes were told: the next one's key
    lately: list[datetime] = []  # when the last ones were


def settle_s(changes_lately: int) -> float:
    """Return how long a state has to last before it is told: doubled by each change lately."""
    return min(SETTLE_LONGEST_S, SETTLE_S * 2.0 ** min(changes_lately, 10))


class Teller:
    """Tells the feed. One process of the space does it at a time."""

    def __init__(self, store: Store, run_command: RunCommand, clock: Clock) -> None:
        self._table = store.table(State)
        self._run_command = run_command
        self._clock = clock
        self._seen: dict[str, tuple[str, float]] = {}  # the state, and since when it is seen here

    async def look(self, states: Sequence[AccountState]) -> None:
        """Tell what has changed and settled. Raises StoreError or Overloaded: look again later."""
        held = await self._table.get(TOLD)
        told = msgspec.convert(held.value, dict[str, Told]) if held is not None else {}
        changed = False
        for state in states:
            if state.kind == "account" and self._is_news(state, told.get(state.name)):
                await self._tell(state, told)
                changed = True
        if changed:
            await self._keep(told, held)

    def _is_news(self, state: AccountState, told: Told | None) -> bool:
        """Say whether this has to be told (or noted, at first sight) now."""
        now = self._clock.monotonic()
        seen, since = self._seen.get(state.name, ("", now))
        if seen != state.state:
            since = now
        self._seen[state.name] = (state.state, since)
        if state.state == "starting" or (told is not None and told.state == state.state):
            return False
        if told is None and state.state == "ok":
            return True
        lately = 0
        if told is not None:
            lately = sum(self._clock.now() - each < LATELY for each in told.lately)
            if not lately and (state.by_person or told.by_person):
                return True
        return now - since >= settle_s(lately)

    async def _tell(self, state: AccountState, told: dict[str, Told]) -> None:
        before = told.get(state.name)
        if before is None and state.state == "ok":
            told[state.name] = Told(state=state.state)  # well from the start is no news
            return
        count = before.count if before is not None else 0
        now = self._clock.now()
        args = {
            "account": state.name,
            "state": state.state,
            "was": before.state if before is not None else "",
            "reason": state.reason[:REASON_CHARS],
            "since": state.since.isoformat(),
            "last_message_at": state.last_message_at and state.last_message_at.isoformat(),
            "lag_s": state.lag_s(now),
        }
        try:  # not under the account's own name: a paused one's items are held back
            await self._run_command(
                "account_changed",
                args,
                key=f"account|{state.name}|{count}",
                actor="hub:accounts",
                wait_s=0.0,
            )
        except Refusal as refusal:  # told by a process that died before it had noted so
            log.info("account_change_told_before", account=state.name, reason=refusal.detail)
        log.info("account_changed", account=state.name, state=state.state, reason=state.reason)
        lately = [each for each in (before.lately if before else []) if now - each < LATELY]
        told[state.name] = Told(
            state=state.state,
            by_person=state.by_person,
            count=count + 1,
            lately=[*lately[-9:], now],
        )

    async def _keep(self, told: Mapping[str, Told], held: State | None) -> None:
        value = msgspec.to_builtins(told, builtin_types=(datetime,))
        doc = State(id=TOLD, value=value, rev=held.rev + 1 if held else 1)
        if held is None:
            kept = not await self._table.insert([doc])
        else:
            kept = await self._table.swap(doc, {"rev": held.rev})
        if not kept:
            log.info("account_changes_noted_elsewhere")
