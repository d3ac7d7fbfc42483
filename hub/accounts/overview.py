"""All processes' views, the pauses and the silences, as one answer for the space."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
import structlog
from msgspec.structs import replace

from hub.accounts.reports import Report, living_reports
from hub.accounts.states import SEVERITY, AccountState, StateName, States
from hub.accounts.switches import Switches
from hub.documents import State
from hub.store.interface import Store, StoreError

log = structlog.get_logger(__name__)

SILENCES = "accounts/silences"
HEARD = "accounts/heard"  # when each account brought something last
MOST_REPORTS = 500
LOOK_S = 2.0
READ_S = 1.0


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """An account that should have been heard by now."""

    since: datetime  # when it was heard last
    found_at: datetime
    usual: float  # how often it is heard in an hour at this time of the week

    def __str__(self) -> str:
        often = f"{self.usual:.0f}" if self.usual >= 1 else f"{self.usual:.1f}"
        return (
            f"nothing since {self.since:%Y-%m-%d %H:%M} UTC, usually {often} an hour at this time"
        )


class Overview:
    """The space's view. Without the database it is this process' own."""

    def __init__(self, store: Store, states: States, switches: Switches, *, owner: str) -> None:
        self._store = store
        self._state = store.table(State)
        self._states = states
        self._switches = switches
        self._owner = owner
        self.seen: Sequence[AccountState] = ()  # what processes said when it was read last
        self.last: Sequence[AccountState] = ()  # the same, completed: what is shown
        self._heard: dict[str, datetime] | None = None  # also of processes that have gone
        self._kept: dict[str, datetime] = {}

    async def watch(self) -> None:
        """Keep ``last`` and the switches up to date, for ever, in every process."""
        while True:
            try:
                await self._switches.refresh()
            except StoreError as error:
                log.debug("switches_not_read", reason=str(error))
            await self.read()
            await asyncio.sleep(LOOK_S)

    async def read(self) -> list[AccountState]:
        """Return how every account, backend and component of the space does."""
        try:
            async with asyncio.timeout(READ_S):
                reports = await living_reports(self._store)
                silences = await self.silences()
                if self._heard is None:
                    self._heard = await self._heard_before()
        except (StoreError, TimeoutError) as error:
            log.debug("accounts_of_others_unknown", reason=str(error))
            reports, silences = [], {}
        own = self._states.all()
        others = [each for each in reports if each.id != self._owner]
        self.seen = merge([own, *(report.states for report in others)])
        if self._heard is not None:
            _note(self._heard, self.seen)
        self.last = [self._completed(each, silences) for each in self.seen]
        return list(self.last)

    async def _heard_before(self) -> dict[str, datetime]:
        """Return when accounts brought something, as far as anybody has told: a restart is none."""
        held = await self._state.get(HEARD)
        heard = msgspec.convert(held.value, dict[str, datetime]) if held is not None else {}
        for report in await self._store.table(Report).find({}, limit=MOST_REPORTS):
            _note(heard, report.states)
        return heard

    async def keep_heard(self) -> None:
        """Keep it for processes to come, if there is news. Raises StoreError."""
        if not self._heard or self._heard == self._kept:
            return
        held = await self._state.get(HEARD)
        rev = held.rev if held is not None else 0
        doc = State(id=HEARD, value=dict(self._heard), rev=rev + 1)
        if held is None:
            kept = not await self._state.insert([doc])
        else:
            kept = await self._state.swap(doc, {"rev": rev})
        if kept:
            self._kept = dict(self._heard)

    async def silences(self) -> dict[str, Silence]:
        """Return the accounts that have been silent for too long."""
        found = await self._state.get(SILENCES)
        return msgspec.convert(found.value, dict[str, Silence]) if found is not None else {}

    def _completed(self, state: AccountState, silences: Mapping[str, Silence]) -> AccountState:
        """Add what no process can see for itself."""
        if state.kind != "account":
            return state
        if state.last_message_at is None and self._heard is not None:
            state = replace(state, last_message_at=self._heard.get(state.name))
        pause = self._switches.pause_of(state.name)
        if pause is not None:
            kept = self._switches.value(state.name, "inbound") == "store-only"
            rest = "; what arrives is kept" if kept else ""
            return replace(
                state,
                state="paused",
                reason=f"{pause}{rest}",
                since=pause.at,
                next_try_at=None,
                by_person=True,
            )
        channel, _, account = state.name.partition(":")
        if self._switches.inbound(channel, account) == "off":
            return _no_better(state, "paused", "inbound is switched off", state.since)
        silence = silences.get(state.name)
        heard = state.last_message_at
        if silence is not None and (heard is None or heard <= silence.since):
            return _no_better(state, "degraded", str(silence), silence.found_at)
        return state


def _no_better(state: AccountState, name: StateName, reason: str, since: datetime) -> AccountState:
    if SEVERITY[state.state] >= SEVERITY[name]:
        return state
    return replace(state, state=name, reason=reason, since=since)


def _note(heard: dict[str, datetime], states: Iterable[AccountState]) -> None:
    """Take down when accounts brought something last."""
    for each in states:
        if each.kind == "account" and each.last_message_at is not None:
            known = heard.get(each.name, each.last_message_at)
            heard[each.name] = max(known, each.last_message_at)


def merge(views: Iterable[Sequence[AccountState]]) -> list[AccountState]:
    """Make one state of each thing that several processes see.

    Who holds the door knows best; of several who know equally well, the worst news counts. The
    order is the first view's.
    """
    seen: dict[tuple[str, str], list[AccountState]] = {}
    for view in views:
        for each in view:
            seen.setdefault((each.kind, each.name), []).append(each)
    return [_merged(same) for same in seen.values()]


def _merged(same: Sequence[AccountState]) -> AccountState:
    knowing = [each for each in same if not each.elsewhere] or same
    worst = max(knowing, key=lambda each: (SEVERITY[each.state], -each.since.timestamp()))
    return replace(
        worst,
        last_message_at=_latest(each.last_message_at for each in same),
        level_at=_latest(each.level_at for each in knowing),
    )


def _latest(moments: Iterable[datetime | None]) -> datetime | None:
    return max((each for each in moments if each is not None), default=None)
