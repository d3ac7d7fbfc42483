"""A signature that covers no body is good for one body.

Some vendors sign the query of a push and not its body: whoever has read one query, in a proxy's
log for instance, could send any body with it until it is stale. The vendor's own repetition has the
same bytes, and passes; the same query with other bytes is somebody else. What was seen is kept in
the database, which all processes share, and in memory, which is all there is while the database is
away (docs/decisions/0017).

For a connector's ``admit``.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import ClassVar

from hub.contract import Refused, Verified
from hub.documents import Doc, Index
from hub.plugin_context import ConnectorContext
from hub.store.interface import StoreError

ASK_S = 0.3  # the push has to be stored as well, and acknowledged within a second
AWAY_S = 5.0  # for so long nobody asks a database that did not answer
MOST_KEPT = 20_000  # in memory
_SKEW = timedelta(seconds=60)


class UsedQuery(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """A signed query that was used, and for what: both are keyed hashes.

    Subclass it with a ``collection`` of the plugin's own.
    """

    indexes: ClassVar[tuple[Index, ...]] = (Index((("expire_at", 1),), expires=True),)

    used_for: str
    expire_at: datetime


class SignedOnce:
    """One account's memory of what was signed; ``window_s`` is how old a signed time may be."""

    def __init__(self, context: ConnectorContext, kind: type[UsedQuery], window_s: int) -> None:
        self._context = context
        self._kind = kind
        # A signed time may lie ahead by the window, and is stale a window after that.
        self._kept_for = 2 * timedelta(seconds=window_s) + _SKEW
        self._seen: OrderedDict[str, tuple[str, datetime]] = OrderedDict()
        self._ask_again_at = 0.0

    async def admit(self, verified: Verified, signed: str) -> None:
        """Raise ``Refused`` when ``signed``, what the vendor signed, came with another body."""
        now = verified.request.received_at
        query = self._hashed(signed.encode())
        used_for = self._hashed(verified.request.method.encode() + b"\n" + verified.request.body)
        known = self._remembered(query, now) or await self._in_database(query, used_for, now)
        if not hmac.compare_digest(known or used_for, used_for):
            raise Refused("replayed")
        self._remember(query, used_for, now)

    def _hashed(self, what: bytes) -> str:
        return hmac.new(self._context.secret("signed once"), what, hashlib.sha256).hexdigest()

    # --- in this process -----------------------------------------------------------------------

    def _remembered(self, query: str, now: datetime) -> str | None:
        found = self._seen.get(query)
        return found[0] if found is not None and found[1] > now else None

    def _remember(self, query: str, used_for: str, now: datetime) -> None:
        self._seen[query] = (used_for, now + self._kept_for)
        while len(self._seen) > MOST_KEPT or next(iter(self._seen.values()))[1] <= now:
            self._seen.popitem(last=False)

    # --- in all processes ----------------------------------------------------------------------

    async def _in_database(self, query: str, used_for: str, now: datetime) -> str | None:
        """Return what the query was used for before, None if for nothing or if nobody can say."""
        clock = self._context.clock
        if clock.monotonic() < self._ask_again_at:
            return None
        table = self._context.documents(self._kind)
        mine = self._kind(id=query, used_for=used_for, expire_at=now + self._kept_for)
        try:
            async with asyncio.timeout(ASK_S):
                if not await table.insert([mine]):
                    return None
                before = await table.get(query)
        except (StoreError, TimeoutError) as error:
            self._ask_again_at = clock.monotonic() + AWAY_S
            self._context.log.warning(
                "signed_queries_not_shared",
                reason=type(error).__name__,
                advice="while the database is away each process knows its own pushes only",
            )
            return None
        return before.used_for if before is not None else None
