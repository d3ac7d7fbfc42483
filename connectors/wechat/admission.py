"""A plain push's signature covers its query only: one query is good for one body.

Encrypted pushes need none of this: there the body is signed.
"""

from __future__ import annotations

from typing import ClassVar

from hub import SignedOnce, UsedQuery, Verified


class QueryDoc(UsedQuery, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """A signed query, and for what it was used."""

    collection: ClassVar[str] = "x_wechat_queries"


async def admit(once: SignedOnce, verified: Verified) -> None:
    """Raise ``Refused`` when this query came before with another body."""
    if "plain" in verified.facts:
        query = verified.request.query
        await once.admit(verified, f"{query.get('timestamp')}|{query.get('nonce')}")
