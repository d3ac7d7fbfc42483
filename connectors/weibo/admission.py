"""A signed (timestamp, nonce) pair is good for one body.

Weibo repeats a push with the same bytes; the same pair with another body is somebody who has
read a query. What was seen is kept in the database, which all processes share, and in memory,
which is all there is while the database is away (docs/decisions/0017).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import ClassVar

from hub import ConnectorContext, Doc, Index, Refused, StoreError, Verified

ASK_S = 0.3  # the push has to be stored as well, and acknowledged within a second
AWAY_S = 5.0  # for so long nobody asks a database that did not answer
MOST_KEPT = 20_000  # in memory
_SKEW = timedelta(seconds=60)


class NonceDoc(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """A pair that was used, and for what. Both are keyed hashes."""

    collection: ClassVar[str] = "x_weibo_nonces"
    indexes: ClassVar[tuple[Index, ...]] = (Index((("expire_at", 1),), expires=True),)

    used_for: str
    expire_at: datetime


class Admission:
    """One account's memory of what was signed."""

    def __init__(self, context: ConnectorContext, window_s: int) -> None:
        self._context = context
        self._window = timedelta(seconds=window_s)
        self._seen: OrderedDict[str, tuple[str, datetime]] = OrderedDict()
        self._ask_again_at = 0.0

    async def admit(self, verified: Verified) -> None:
        """Raise ``Refused`` when this query came before with another body."""
        if "nonce" not in verified.facts:
            return  # an account without a secret believes everybody
        now = verified.request.received_at
        pair = self._hashed(f"{verified.facts['timestamp']}|{verified.facts['nonce']}".encode())
        used_for = self._hashed(verified.request.method.encode() + b"\n" + verified.request.body)
        known = self._remembered(pair, now) or await self._in_database(pair, used_for, now)
        if not hmac.compare_digest(known or used_for, used_for):
            raise Refused("replayed")
        self._remember(pair, used_for, now)

    def _hashed(self, what: bytes) -> str:
        key = self._context.secret("nonces")
        return hmac.new(key, what, hashlib.sha256).hexdigest()

    # --- in this process -----------------------------------------------------------------------

    def _remembered(self, pair: str, now: datetime) -> str | None:
        found = self._seen.get(pair)
        return found[0] if found is not None and found[1] > now else None

    def _remember(self, pair: str, used_for: str, now: datetime) -> None:
        self._seen[pair] = (used_for, self._until(now))
        while len(self._seen) > MOST_KEPT or next(iter(self._seen.values()))[1] <= now:
            self._seen.popitem(last=False)

    def _until(self, now: datetime) -> datetime:
        """Return when the pair is stale for certain: its time may lie ahead by the window."""
        return now + 2 * self._window + _SKEW

    # --- in all processes ----------------------------------------------------------------------

    async def _in_database(self, pair: str, used_for: str, now: datetime) -> str | None:
        """Return what the pair was used for before, None if for nothing or if nobody can say."""
        clock = self._context.clock
        if clock.monotonic() < self._ask_again_at:
            return None
        table = self._context.documents(NonceDoc)
        mine = NonceDoc(id=pair, used_for=used_for, expire_at=self._until(now))
        try:
            async with asyncio.timeout(ASK_S):
                if not await table.insert([mine]):
                    return None
                before = await table.get(pair)
        except (StoreError, TimeoutError) as error:
            self._ask_again_at = clock.monotonic() + AWAY_S
            self._context.log.warning(
                "weibo_nonces_not_shared",
                reason=type(error).__name__,
                advice="while the database is away each process knows its own pushes only",
            )
            return None
        return before.used_for if before is not None else None
