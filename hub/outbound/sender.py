"""One attempt to send an answer: load it, see whether it may leave, hand it over, tell.

    1 load the entry -> 2 may it leave: recalled, switches, consent -> 3 its parts made to fit
    -> 4 windows and quotas: their places are taken -> 5 the connector's send -> 6 what follows
    for the places and the account

A place is kept where the vendor took the message or nobody knows, and given back where it surely
was not sent.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import structlog
from msgspec.structs import replace

from hub.clock import Clock
from hub.contract import Connector, Outgoing, Template
from hub.documents import AddressDoc, Entry, Job
from hub.jobs import Obsolete, Paused, Result
from hub.notifications.gate import may_leave
from hub.outbound.gate import AccountGate
from hub.outbound.ledger import Ledger, Spent
from hub.outbound.loading import outgoing
from hub.outbound.quotas import Counted, counters
from hub.outbound.templates import Templates
from hub.outbound.windows import open_windows, passes_closed
from hub.planning.rules import Refusal
from hub.retry import pause_s
from hub.store.interface import Store, StoreError
from normalizer.addresses import AddressError, parse_address
from normalizer.capabilities import Capabilities
from normalizer.drafts import DeliveryState
from normalizer.masking import masked
from normalizer.outcomes import (
    Accepted,
    Failure,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
    Unsupported,
)
from normalizer.parts import AnyPart

log = structlog.get_logger(__name__)

WINDOW_CODES = frozenset({"window_closed", "window_spent"})
TEMPLATES_NAMED, TITLE_CHARS = 5, 30
QUOTA_WAIT = timedelta(minutes=15)  # a period that ends sooner is waited for

_RECALLED: Result = {
    "state": str(DeliveryState.FAILED),
    "code": "recalled",
    "reason": "it was recalled before it was sent",
}
Find = Callable[[str, str], Connector[Any] | None]
IsOn = Callable[[str, str], bool]
Fit = Callable[[tuple[AnyPart, ...], Capabilities, str], Awaitable[tuple[AnyPart, ...]]]


class Sender:
    """Runs ``send`` jobs."""

    def __init__(
        self,
        store: Store,
        connector: Find,
        outbound_on: IsOn,
        clock: Clock,
        gate: AccountGate,
        fit: Fit | None = None,
    ) -> None:
        self._store = store
        self._connector = connector
        self._outbound_on = outbound_on
        self._clock = clock
        self._gate = gate
        self._fit = fit
        self._ledger = Ledger(store)
        self._templates = Templates(clock)

    async def run(self, job: Job) -> Result | None:
        try:
            entry, address = await self._load(job)
            if entry.recalled:
                reason = "the answer was recalled before it was sent"
                raise Obsolete(reason, {**_RECALLED, **_round(job)})
            if not self._outbound_on(entry.channel, entry.account):
                raise Paused(f"sending is switched off for {entry.channel}:{entry.account}")
            await may_leave(self._store, entry, job, self._clock.now())
            connector = self._connector(entry.channel, entry.account)
            if connector is None:  # tried for days, and then given up: somebody has to be told
                raise Temporary(_not_here(entry))
            threads = connector.capabilities.threads
            message = await outgoing(self._store, entry, address, job, threads=threads)
            if message.template and not connector.capabilities.templates:
                raise Unsupported(f"{entry.channel} has no templates", code="no_templates")
            if self._fit is not None:
                parts = await self._fit(message.parts, connector.capabilities, entry.channel)
                message = replace(message, parts=parts)
            await self._admit(connector, entry, address, message, holder(job))
        except (Failure, Paused, Obsolete):
            raise
        except StoreError as error:  # nothing has left the hub yet, here and below
            raise Temporary(str(error)) from error
        except OSError as error:  # a full disk, where files are made to fit
            raise Temporary(f"it cannot be made ready here: {error.strerror or error}") from error
        except Exception as error:
            log.error("send_not_ready", job=job.id, reason=type(error).__name__, where=_at(error))
            raise Rejected(f"it could not be made ready: {type(error).__name__}") from error
        return _told(await self._send(connector, message, job), job)

    async def _send(self, connector: Connector[Any], message: Outgoing, job: Job) -> Accepted:
        try:
            async with self._called(connector, message):
                return await connector.send(message)
        except OutcomeUnknown:
            raise
        except Failure:
            await self._ledger.give_back(holder(job))
            raise

    async def look_up(self, job: Job) -> Result | None:
        entry, address = await self._load(job)
        connector = self._of(entry)
        if connector.capabilities.dedupes_sends:
            return None  # the vendor drops a second one by our key: sending again is safe
        threads = connector.capabilities.threads
        message = await outgoing(self._store, entry, address, job, threads=threads)
        async with self._called(connector, message):
            found = await connector.find_sent(message)
        return None if found is None else _told(found, job)

    @asynccontextmanager
    async def _called(self, connector: Connector[Any], message: Outgoing) -> AsyncIterator[None]:
        """Tell the gate how a call of the vendor ended, and nobody who it was about.

        Whatever is no Failure is told as OutcomeUnknown.
        """
        account = f"{connector.account.channel}:{connector.account.key}"
        try:
            yield
        except Failure as failure:
            unname(failure, message.address)
            self._gate.failed(account, failure)
            raise
        except asyncio.CancelledError:
            self._gate.failed(account, None, "no answer in time")
            raise
        except Exception as error:  # noqa: BLE001 - logged, and told as what it is: unknown
            said = "no answer in time" if isinstance(error, TimeoutError) else _described(error)
            unknown = OutcomeUnknown(said)
            unname(unknown, message.address)
            log.error(
                "connector_failed",
                account=account,
                entry=message.entry,
                reason=unknown.reason,
                where=_at(error),
            )
            self._gate.failed(account, unknown)
            raise unknown from None  # its own words may name people
        else:
            self._gate.worked(account)

    def settle_s(self, job: Job) -> float:
        return 0.0

    def failed(self, job: Job, failure: Failure) -> Result | None:
        unknown = isinstance(failure, OutcomeUnknown)
        return {
            "state": str(DeliveryState.UNKNOWN if unknown else DeliveryState.FAILED),
            "code": failure.code or str(failure.verdict),
            "reason": masked(failure.reason),
            **({"gone": True} if isinstance(failure, Unreachable) and failure.gone else {}),
            **_round(job),
        }

    def holds_lane(self, job: Job) -> bool:
        return False

    async def address_of(self, job: Job) -> tuple[str, str]:
        entry = await self._store.table(Entry).get(job.entry)
        return (entry.channel, entry.account) if entry else ("hub", "")

    # --- may it leave? ---------------------------------------------------------------------------

    async def _admit(
        self,
        connector: Connector[Any],
        entry: Entry,
        address: AddressDoc,
        message: Outgoing,
        holds: str,
    ) -> None:
        """Take its places in a window and in every quota. Raises Unreachable or Paused."""
        can = connector.capabilities
        if not can.windows and not can.quotas:
            return
        needs = max(1, connector.sends_needed(message))
        held = await self._ledger.taken_by(holds)
        now = self._clock.now()
        quotas = counters(
            can, entry.channel, entry.account, address.id, now, template=bool(message.template)
        )
        wanted = [each.counter.id for each in quotas]
        try:
            window = await self._window(can, entry, address, message, needs, holds, held)
            if window:
                wanted.append(window)
            for quota in quotas:
                await self._quota(quota, entry, needs, holds, held)
        except Paused:
            await self._ledger.give_back(holds)
            raise
        except Unreachable as refused:
            await self._ledger.give_back(holds)
            if refused.code in WINDOW_CODES and (fitting := await self._fitting(connector)):
                raise Unreachable(f"{refused.reason}. {fitting}", code=refused.code) from None
            raise
        if held.keys() - set(wanted):  # of an attempt that surely was not sent, before
            await self._ledger.give_back(holds, but=wanted)

    async def _window(
        self,
        can: Capabilities,
        entry: Entry,
        address: AddressDoc,
        message: Outgoing,
        needs: int,
        holds: str,
        held: Counter[str],
    ) -> str:
        """Return the counter in which the send has its places, "" where nothing is counted."""
        if not can.windows:
            return ""
        now = self._clock.now()
        if passes_closed(can, template=bool(message.template)):
            return ""
        opened = open_windows(can, address, entry.channel, entry.account, now)
        for each in opened:
            if each.counter is not None and held[each.counter.id] >= needs:
                return each.counter.id
        for each in opened:
            if each.counter is None:
                return ""
            try:
                for _ in range(needs - held[each.counter.id]):
                    await self._ledger.take(holds, each.counter)
                return each.counter.id
            except Spent:
                held[each.counter.id] = needs  # whatever was taken of it is given back
        if opened and needs > 1:
            raise Unreachable(
                f"this answer takes {needs} messages, and {entry.channel} allows fewer until this"
                " person does something: make it shorter, or wait for that",
                code="window_spent",
            )
        if opened:
            raise Unreachable(
                f"{entry.channel} allows no more messages until this person does something:"
                " wait for that, or take another channel",
                code="window_spent",
            )
        raise Unreachable(
            f"{entry.channel} allows no message now: too long ago that this person did something."
            " Wait for that, or take another channel",
            code="window_closed",
        )

    async def _fitting(self, connector: Connector[Any]) -> str:
        """Say which templates may leave while the windows are shut; "" where there are none."""
        can = connector.capabilities
        if not (can.templates and passes_closed(can, template=True)):
            return ""
        try:
            listed = await self._templates.of(connector)
        except Refusal:  # logged there; the answer is refused with or without them
            return ""
        named = [_named(template) for template in listed[:TEMPLATES_NAMED]]
        more = len(listed) - len(named)
        told = ", ".join(named) + (f" and {more} more" if more else "")
        return f"Templates may still go: {told}" if named else ""

    async def _quota(
        self, counted: Counted, entry: Entry, needs: int, holds: str, held: Counter[str]
    ) -> None:
        counter, quota = counted.counter, counted.quota
        try:
            for _ in range(needs - held[counter.id]):
                await self._ledger.take(holds, counter)
        except Spent as spent:
            left = counter.ends - self._clock.now()
            said = f"the quota {quota.name} of {entry.channel}:{entry.account} is used up"
            if left > QUOTA_WAIT:
                raise Unreachable(
                    f"{said} until {counter.ends:%Y-%m-%d %H:%M} UTC: send it again then, or take"
                    " another channel",
                    code="quota_spent",
                ) from spent
            seconds = max(left.total_seconds(), 0.001)
            if quota.per == "account" and not quota.templates:
                self._gate.pause(f"{entry.channel}:{entry.account}", seconds, said)
            raise Paused(f"{said}; a new period begins soon", seconds) from spent

    # --- loading ---------------------------------------------------------------------------------

    async def _load(self, job: Job) -> tuple[Entry, AddressDoc]:
        entry = await self._store.table(Entry).get(job.entry)
        if entry is None or entry.erased:
            raise Obsolete("the answer was erased")
        address = await self._store.table(AddressDoc).get(entry.address)
        if address is None or address.erased:
            raise Obsolete("the address was erased")
        return entry, address

    def _of(self, entry: Entry) -> Connector[Any]:
        connector = self._connector(entry.channel, entry.account)
        if connector is None:
            raise Paused(_not_here(entry), 60.0)
        return connector


def _not_here(entry: Entry) -> str:
    return f"the account {entry.channel}:{entry.account} is not configured here"


def _named(template: Template) -> str:
    """Return a template's name, and the start of what it says where the name is but an id."""
    title = template.preview.partition("\n")[0][:TITLE_CHARS].strip()
    return f"{template.name} ({title})" if title else template.name


def holder(job: Job) -> str:
    """Return under which name a job has its places; a redriven one is sent, and counts, anew."""
    return f"{job.id}|{job.args.get('round', 0)}"


def _at(error: Exception) -> str:
    """Return where it was raised, without its words: they may name people."""
    return "".join(traceback.format_tb(error.__traceback__, limit=-3))


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def unname(failure: Failure, address: str) -> None:
    """Take the person out of a vendor's words, and what cannot be waited for out of its times."""
    try:
        name = parse_address(address).id
    except AddressError:
        name = address
    failure.reason = masked(failure.reason, address, name)
    failure.args = (failure.reason,)
    if isinstance(failure, RateLimited):
        failure.retry_after = pause_s(failure.retry_after)


def _told(accepted: Accepted, job: Job) -> Result:
    return {
        "state": str(accepted.state),
        "vendor_ids": list(accepted.vendor_ids),
        **({"data": accepted.data} if accepted.data else {}),
        **_round(job),
    }


def _round(job: Job) -> Result:
    """What a redriven send says outranks what was said of it before."""
    return {"round": job.args["round"]} if "round" in job.args else {}
