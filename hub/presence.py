"""Whether a process is alive, as others see it: a short lease that it keeps renewing."""

from __future__ import annotations

import asyncio

import structlog

from hub.store.interface import LaneLease, Store, StoreError

log = structlog.get_logger(__name__)

# Of the router's lease: a dead process is known to be dead before its lease can be taken over.
LASTS = 0.5
RENEWED = 0.15


def presence_lane(owner: str) -> str:
    return f"process:{owner}"


class Presence:
    """Keeps this process' sign of life."""

    def __init__(self, store: Store, owner: str, router_lease_s: float) -> None:
        self._store = store
        self._owner = owner
        self._lasts_s = router_lease_s * LASTS
        self._every_s = router_lease_s * RENEWED

    async def keep(self) -> None:
        """Renew for ever; give it back when cancelled."""
        lease: LaneLease | None = None
        try:
            while True:
                try:
                    lease = await self._renewed(lease)
                except StoreError as error:
                    log.debug("presence_not_renewed", reason=str(error))
                await asyncio.sleep(self._every_s)
        finally:
            if lease is not None:
                await self._give_back(lease)

    async def _renewed(self, lease: LaneLease | None) -> LaneLease | None:
        if lease is not None and await self._store.lanes.renew(lease, self._lasts_s):
            return lease
        claimed = await self._store.lanes.claim(
            [presence_lane(self._owner)], self._owner, self._lasts_s
        )
        return claimed[0] if claimed else None

    async def _give_back(self, lease: LaneLease) -> None:
        try:
            await self._store.lanes.release(lease)
        except StoreError as error:
            log.debug("presence_not_given_back", reason=str(error))
