"""Sends: from an answer in the timeline to the channel it leaves by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from hub.contract import Connector, Outgoing
from hub.documents import AddressDoc, Entry, Job
from hub.jobs import Obsolete, Paused, Result
from hub.store.interface import Store, StoreError
from normalizer.capabilities import Capabilities
from normalizer.drafts import DeliveryState
from normalizer.outcomes import Accepted, Failure, OutcomeUnknown, Temporary
from normalizer.parts import AnyPart

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
        self, store: Store, connector: Find, outbound_on: IsOn, fit: Fit | None = None
    ) -> None:
        self._store = store
        self._connector = connector
        self._outbound_on = outbound_on
        self._fit = fit

    async def run(self, job: Job) -> Result | None:
        try:
            entry, address = await self._load(job)
        except StoreError as error:  # nothing has left the hub yet
            raise Temporary(str(error)) from error
        if entry.recalled:
            reason = "the answer was recalled before it was sent"
            raise Obsolete(reason, {**_RECALLED, **_round(job)})
        if not self._outbound_on(entry.channel, entry.account):
            raise Paused(f"sending is switched off for {entry.channel}:{entry.account}")
        connector = self._of(entry)
        outgoing = _outgoing(entry, address, job)
        if self._fit is not None:
            fitted = await self._fit(entry.parts, connector.capabilities, entry.channel)
            outgoing = replace(outgoing, parts=fitted)
        return _told(await connector.send(outgoing), job)

    async def look_up(self, job: Job) -> Result | None:
        entry, address = await self._load(job)
        connector = self._of(entry)
        if connector.capabilities.dedupes_sends:
            return None  # the vendor drops a second one by our key: sending again is safe
        found = await connector.find_sent(_outgoing(entry, address, job))
        return None if found is None else _told(found, job)

    def settle_s(self, job: Job) -> float:
        return 0.0

    def failed(self, job: Job, failure: Failure) -> Result | None:
        unknown = isinstance(failure, OutcomeUnknown)
        return {
            "state": str(DeliveryState.UNKNOWN if unknown else DeliveryState.FAILED),
            "code": failure.code or str(failure.verdict),
            "reason": failure.reason,
            **_round(job),
        }

    def holds_lane(self, job: Job) -> bool:
        return False

    async def address_of(self, job: Job) -> tuple[str, str]:
        entry = await self._store.table(Entry).get(job.entry)
        return (entry.channel, entry.account) if entry else ("hub", "")

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
            raise Paused(
                f"the account {entry.channel}:{entry.account} is not configured here", 60.0
            )
        return connector


def _outgoing(entry: Entry, address: AddressDoc, job: Job) -> Outgoing:
    return Outgoing(
        entry=entry.id,
        key=job.id,
        address=address.address,
        parts=entry.parts,
        thread=entry.thread or "",
        subject=entry.subject,
        reply_to=entry.reply_to,
        event=entry.event,
        data=entry.data,
        sender_name=entry.sender.name,
        attempt=job.attempts,
    )


def _told(accepted: Accepted, job: Job) -> Result:
    return {
        "state": str(accepted.state),
        "vendor_ids": list(accepted.vendor_ids),
        **_round(job),
    }


def _round(job: Job) -> Result:
    """What a redriven send says outranks what was said of it before."""
    return {"round": job.args["round"]} if "round" in job.args else {}
