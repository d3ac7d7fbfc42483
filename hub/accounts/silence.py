"""Which accounts have been silent for too long: counts each hour, learns, compares.

What processes counted comes with their reports, so that learning reads a few documents an hour
and never the inbox. An hour is learned when the hub was there for nearly all of it and the
account was well; else an outage would teach that silence is usual.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec
import structlog

from hub.accounts import rhythm as rhythms
from hub.accounts.overview import SILENCES, Overview, Silence
from hub.accounts.reports import KEPT, Report, living_reports
from hub.accounts.rhythm import Rhythm
from hub.accounts.states import AccountState, hour_of
from hub.accounts.switches import Switches
from hub.clock import Clock
from hub.documents import State
from hub.store.interface import Store

log = structlog.get_logger(__name__)

LEARNED = "accounts/learned"
COVERED = 0.9  # the share of an hour that the hub has to be there for the hour to count
LATE = timedelta(minutes=2)  # after the hour's end, so that all reports of it are written
UNLEARNED_FOR = timedelta(days=3)  # then a silence is taken for the new rhythm, slowly
_HOUR = timedelta(hours=1)
_LISTENING = ("ok", "degraded")


def rhythm_key(name: str) -> str:
    return f"accounts/rhythm/{name}"


class SilenceWatch:
    """Learns rhythms and finds silences. One process of the space does it at a time."""

    def __init__(self, store: Store, overview: Overview, switches: Switches, clock: Clock) -> None:
        self._store = store
        self._state = store.table(State)
        self._overview = overview
        self._switches = switches
        self._clock = clock

    async def look(self) -> None:
        """Learn the hours that are over, then look for silences. Raises StoreError."""
        await self._overview.read()
        accounts = [each for each in self._overview.seen if each.kind == "account"]
        there = min(
            (report.began_at for report in await living_reports(self._store)),
            default=self._clock.now(),
        )
        await self.learn(accounts, there)
        await self.find(accounts, there)

    # --- learning ------------------------------------------------------------------------------

    async def learn(self, accounts: Sequence[AccountState], there: datetime) -> None:
        """Learn every hour that is over and not learned yet. ``there``: since when the hub is."""
        now = self._clock.now()
        over = hour_of(now - LATE)  # hours before this one are over, and told
        held = await self._state.get(LEARNED)
        hour = max(held.value["up_to"] if held is not None else over - _HOUR, over - KEPT + _HOUR)
        if hour >= over:
            return
        reports = await self._store.table(Report).find({"at": {"$gte": hour}})
        while hour < over:
            if coverage(reports, hour) >= COVERED:
                await self._learn_hour(hour, accounts, reports, there)
            hour += _HOUR
        await self._keep(LEARNED, {"up_to": over}, held)

    async def _learn_hour(
        self,
        hour: datetime,
        accounts: Sequence[AccountState],
        reports: Sequence[Report],
        there: datetime,
    ) -> None:
        for state in accounts:
            if not self._listens(state) or state.since > hour + _HOUR:
                continue
            key = rhythm_key(state.name)
            held = await self._state.get(key)
            rhythm = _rhythm(held)
            if self._may_be_silent(rhythm, _heard_until(state, there)):
                continue
            count = sum(
                each.count
                for report in reports
                for each in report.heard
                if (each.name, each.hour) == (state.name, hour)
            )
            learned = rhythms.learn(rhythm, hour, count)
            await self._keep(key, msgspec.to_builtins(learned), held)

    def _may_be_silent(self, rhythm: Rhythm, since: datetime) -> bool:
        """Whether the account may be about to be found silent: such hours teach nothing yet."""
        now = self._clock.now()
        if now - since >= UNLEARNED_FOR:
            return False
        due = rhythms.expected(rhythm, since, now)
        return rhythms.evidence(due, rhythms.burstiness(rhythm)) >= rhythms.LEAST_EXPECTED

    def _listens(self, state: AccountState) -> bool:
        """Whether the account is in a condition to hear anything."""
        channel, _, key = state.name.partition(":")
        return (
            state.state in _LISTENING
            and self._switches.pause_of(state.name) is None
            and self._switches.inbound(channel, key) != "off"
        )

    # --- finding -------------------------------------------------------------------------------

    async def find(self, accounts: Sequence[AccountState], there: datetime) -> None:
        """Write down which accounts have been silent for too long."""
        now = self._clock.now()
        held = await self._state.get(SILENCES)
        before = msgspec.convert(held.value, dict[str, Silence]) if held is not None else {}
        found: dict[str, Silence] = {}
        for state in accounts:
            if not self._listens(state):
                continue
            rhythm = _rhythm(await self._state.get(rhythm_key(state.name)))
            known = before.get(state.name)
            heard = state.last_message_at
            if known is not None and (heard is None or heard <= known.since):
                if rhythms.is_odd(rhythm, known.since, now):
                    found[state.name] = known
                continue
            since = _heard_until(state, there)
            if rhythms.is_odd(rhythm, since, now):
                usual = rhythms.usual(rhythm, rhythms.slot_of(now))
                found[state.name] = Silence(since=since, found_at=now, usual=usual)
                log.warning("account_silent", account=state.name, reason=str(found[state.name]))
        if found != before:
            value = msgspec.to_builtins(found, builtin_types=(datetime,))
            await self._keep(SILENCES, value, held)

    async def _keep(self, key: str, value: dict[str, object], held: State | None) -> None:
        doc = State(id=key, value=value, rev=held.rev + 1 if held else 1)
        if held is None:
            kept = not await self._state.insert([doc])
        else:
            kept = await self._state.swap(doc, {"rev": held.rev})
        if not kept:
            log.info("account_rhythm_kept_elsewhere", key=key)


def coverage(reports: Iterable[Report], hour: datetime) -> float:
    """Return the share of an hour in which at least one process was there."""
    ends = hour + _HOUR
    spans = sorted(
        (max(hour, report.began_at), min(ends, report.at))
        for report in reports
        if report.began_at < ends and report.at > hour
    )
    covered, reached = timedelta(), hour
    for begin, end in spans:
        covered += max(timedelta(), end - max(begin, reached))
        reached = max(reached, end)
    return covered / _HOUR


def _heard_until(state: AccountState, there: datetime) -> datetime:
    """Return when a silence began: nobody listened before the hub was there and it was well."""
    return max(there, state.since, state.last_message_at or there)


def _rhythm(held: State | None) -> Rhythm:
    return msgspec.convert(held.value, Rhythm) if held is not None else Rhythm()
