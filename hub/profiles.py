"""The profile job: ask a vendor who an address is. Nothing waits for its answer.

Asking twice does no harm. What the vendor will not or cannot tell is no problem of anybody's:
the job ends, and the next event asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog

from hub.clock import Clock
from hub.contract import Connector
from hub.documents import AddressDoc, Job
from hub.jobs import Obsolete, Paused, Result, to_result
from hub.outbound.gate import AccountGate
from hub.outbound.sender import unname
from hub.planning.profiles import is_wanted
from hub.retry import GIVE_UP
from hub.store.interface import Store, StoreError
from normalizer.addresses import parse_address
from normalizer.drafts import Event, Profile
from normalizer.outcomes import (
    Failure,
    Gone,
    OutcomeUnknown,
    Rejected,
    Temporary,
    Unreachable,
    Unsupported,
)
from normalizer.pipeline import StepContext, normalize

log = structlog.get_logger(__name__)

Find = Callable[[str, str], Connector[Any] | None]
FETCH_S = 10.0
NOT_HERE_S = 60.0
MOST_IN_DOUBT = 12  # attempts at which processes die: then it may be this profile that kills them


class ProfileWorker:
    """Runs ``profile`` jobs. The gate is of their own, so that sends never wait for profiles."""

    def __init__(
        self,
        store: Store,
        connector: Find,
        gate: AccountGate,
        clock: Clock,
        *,
        default_region: str = "CN",
    ) -> None:
        self._store = store
        self._connector = connector
        self._gate = gate
        self._clock = clock
        self._region = default_region

    async def run(self, job: Job) -> Result | None:
        try:
            address = await self._wanted(job)
        except StoreError as error:
            raise Temporary(str(error)) from error
        connector = self._of(job)
        try:
            profile = await self._asked(connector, job, address.address)
        except (Gone, Rejected, Unreachable, Unsupported) as refused:
            log.info("profile_refused", account=job.account, verdict=str(refused.verdict))
            return None
        if profile is None:
            return None
        cleaned = self._cleaned(connector, address.address, profile)
        return {"state": "found", **job.args, "profile": to_result(cleaned)}

    async def _wanted(self, job: Job) -> AddressDoc:
        if self._clock.now() > datetime.fromisoformat(job.args["asked_at"]) + GIVE_UP:
            raise Obsolete("the vendor told nothing for too long; the next event asks again")
        address = await self._store.table(AddressDoc).get(job.args["address"])
        if address is None or address.erased or not is_wanted(address, job.args):
            raise Obsolete("the person was erased, or is asked for again")
        return address

    def _of(self, job: Job) -> Connector[Any]:
        channel, _, key = job.account.partition(":")
        connector = self._connector(channel, key)
        if connector is None:
            raise Paused(f"the account {job.account} is not configured here", NOT_HERE_S)
        return connector

    async def _asked(self, connector: Connector[Any], job: Job, address: str) -> Profile | None:
        """Ask once. Whatever is no Failure is told as Temporary: asking again does no harm."""
        try:
            async with asyncio.timeout(FETCH_S):
                profile = await connector.fetch_profile(address)
        except Failure as failure:
            unname(failure, address)
            told: Failure = (
                Temporary(failure.reason) if isinstance(failure, OutcomeUnknown) else failure
            )
        except TimeoutError:
            told = Temporary(f"the vendor told no profile within {FETCH_S:.0f} s")
        except Exception as error:
            log.exception("profile_fetch_failed", account=job.account)
            told = Temporary(f"the connector failed: {type(error).__name__}")
        else:
            self._gate.worked(job.account)
            return profile
        self._gate.failed(job.account, told)
        raise told

    def _cleaned(self, connector: Connector[Any], address: str, profile: Profile) -> Profile:
        """Return what came by request as if it had come by the door."""
        account = connector.account
        draft = normalize(
            Event(key="profile", address=parse_address(address), name="profile", profile=profile),
            StepContext(channel=account.channel, account=account.key, default_region=self._region),
        )
        assert isinstance(draft, Event)
        assert draft.profile is not None
        return draft.profile

    async def look_up(self, job: Job) -> Result | None:
        """Asking again is safe, but not for ever."""
        if job.attempts >= MOST_IN_DOUBT and job.failing_since is None:
            raise Rejected(f"it was tried {job.attempts} times, and no attempt came to an end")
        return None

    def settle_s(self, job: Job) -> float:
        return 0.0

    def failed(self, job: Job, failure: Failure) -> Result | None:
        return None

    def holds_lane(self, job: Job) -> bool:
        return False

    async def address_of(self, job: Job) -> tuple[str, str]:
        channel, _, key = job.account.partition(":")
        return channel, key
