"""The ledger of windows and quotas: which places are taken, and by whom.

A counter with n places has n possible documents, ``<counter>|0`` to ``<counter>|n-1``. Taking a
place is inserting one of them, which the database lets happen once: no number of workers in any
number of processes can take more than there are, and nothing has to be locked. Giving back is
deleting what one holder has. A holder that asks again has what it took before.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter as Tally
from collections.abc import Sequence
from datetime import datetime

import msgspec
import structlog

from hub.documents import Reservation
from hub.store.interface import Store, StoreError, Unavailable

log = structlog.get_logger(__name__)

TRIES = 50  # of finding a place while others take them away
GIVE_BACK_TRIES = 3
GIVE_BACK_WAIT_S = 0.2


class Counter(msgspec.Struct, frozen=True, kw_only=True):
    """Something with a number of places, until ``ends``."""

    id: str
    places: int
    ends: datetime
    kept_until: datetime


class Spent(Exception):
    """A counter has no place left."""

    def __init__(self, counter: Counter) -> None:
        super().__init__(f"{counter.id} has no place left")
        self.counter = counter


class Ledger:
    """Every method raises StoreError while the database cannot answer."""

    def __init__(self, store: Store) -> None:
        self._taken = store.table(Reservation)

    async def taken_by(self, holder: str) -> Tally[str]:
        """Return the counters in which a holder has places, with how many."""
        return Tally(each.counter for each in await self._taken.find({"holder": holder}))

    async def take(self, holder: str, counter: Counter) -> None:
        """Take a place. Raises :class:`Spent`. The caller knows how many the holder has."""
        for _ in range(TRIES):
            used = await self._taken.count({"counter": counter.id}, limit=counter.places)
            if used >= counter.places:
                raise Spent(counter)
            if await self._insert(holder, counter, used):
                return
            place = await self._hole(counter)
            if place is not None and await self._insert(holder, counter, place):
                return
        raise Unavailable(f"no place was found in {TRIES} tries: too many take them at once")

    async def _insert(self, holder: str, counter: Counter, place: int) -> bool:
        doc = Reservation(
            id=f"{counter.id}|{place}",
            counter=counter.id,
            place=place,
            holder=holder,
            expire_at=counter.kept_until,
        )
        return not await self._taken.insert([doc])

    async def _hole(self, counter: Counter) -> int | None:
        """Return a place that somebody gave back; by halving, so that many stay cheap."""
        low, high = 0, counter.places
        while high - low > 1:
            middle = (low + high) // 2
            left = await self._free(counter, low, middle)
            right = await self._free(counter, middle, high)
            if left <= 0 and right <= 0:
                return None
            # Not always the same half: whoever else looks now should find another place.
            if right <= 0 or (left > 0 and random.random() < 0.5):
                high = middle
            else:
                low = middle
        return low

    async def _free(self, counter: Counter, low: int, high: int) -> int:
        within = {"counter": counter.id, "place": {"$gte": low, "$lt": high}}
        return high - low - await self._taken.count(within)

    async def give_back(self, holder: str, *, but: Sequence[str] = ()) -> None:
        """Give back all that a holder has, except in the counters ``but``.

        It never raises: what is not given back expires with its counter, and until then the
        vendor is asked for less than it allows, never for more.
        """
        where = {"holder": holder, **({"counter": {"$nin": list(but)}} if but else {})}
        for left in reversed(range(GIVE_BACK_TRIES)):
            try:
                await self._taken.delete(where)
                return
            except StoreError as error:
                if not left:
                    log.warning("reservation_not_given_back", holder=holder, reason=str(error))
                else:
                    await asyncio.sleep(GIVE_BACK_WAIT_S)

    async def used(self, counter: Counter) -> int:
        return await self._taken.count({"counter": counter.id}, limit=counter.places)
