"""A plain push's signature covers its query only: one query is good for one body.

WeChat may repeat a push with the same query, and then with the same bytes: that passes. The same
query with other bytes is somebody who has read it, in a proxy's log for instance. Encrypted pushes
need none of this. What was seen is kept in the database, which all processes share, and in memory,
which is all there is while the database is away.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import ClassVar

from hub import ConnectorContext, Doc, Index, Refused, StoreError, Verified

ASK_S = 0.3  # the push has to be stored as well, within the five seconds that WeChat waits
AWAY_S = 5.0  # for so long nobody asks a database that did not answer
MOST_KEPT = 10_000  # in memory
_SKEW = timedelta(seconds=60)


class QueryDoc(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """A signed query, and for what it was used. Both are keyed hashes."""

    collection: ClassVar[str] = "x_wechat_queries"
    indexes: ClassVar[tuple[Index, ...]] = (Index((("expire_at", 1),), expires=True),)

    used_for: str
    expire_at: datetime


class Admission:
    """One account's memory of the queries that came with plain pushes."""

    def __init__(self, context: ConnectorContext, window_s: int) -> None:
        self._context = context
        # A signed time may lie ahead by the window, and is stale a window after that.
        self._kept_for = 2 * timedelta(seconds=window_s) + _SKEW
        self._seen: OrderedDict[str, str] = OrderedDict()
        self._ask_again_at = 0.0

    async def admit(self, verified: Verified) -> None:
        """Raise ``Refused`` when this query came before with another body."""
        if "plain" not in verified.facts:
            return
        request = verified.request
        query = request.query
        signed = self._hashed(f"{query.get('timestamp')}|{query.get('nonce')}".encode())
        used_for = self._hashed(request.method.encode() + b"\n" + request.body)
        known = self._seen.get(signed)
        if known is None:
            known = await self._in_database(signed, used_for, request.received_at)
        if not hmac.compare_digest(known, used_for):
            raise Refused("replayed")
        self._seen[signed] = used_for
        if len(self._seen) > MOST_KEPT:
            self._seen.popitem(last=False)

    def _hashed(self, what: bytes) -> str:
        return hmac.new(self._context.secret("queries"), what, hashlib.sha256).hexdigest()

    async def _in_database(self, signed: str, used_for: str, now: datetime) -> str:
        """Return what the query was used for first: for this, if nobody knows better."""
        clock = self._context.clock
        if clock.monotonic() < self._ask_again_at:
            return used_for
        table = self._context.documents(QueryDoc)
        mine = QueryDoc(id=signed, used_for=used_for, expire_at=now + self._kept_for)
        try:
            async with asyncio.timeout(ASK_S):
                if not await table.insert([mine]):
                    return used_for
                first = await table.get(signed)
        except (StoreError, TimeoutError) as error:
            self._ask_again_at = clock.monotonic() + AWAY_S
            self._context.log.warning(
                "wechat_queries_not_shared",
                reason=type(error).__name__,
                advice="while the database is away each process knows its own pushes only",
            )
            return used_for
        return first.used_for if first is not None else used_for
