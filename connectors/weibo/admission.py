"""A signed (timestamp, nonce) pair is good for one body: Weibo signs no body."""

from __future__ import annotations

from typing import ClassVar

from hub import SignedOnce, UsedQuery, Verified


class NonceDoc(UsedQuery, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """A pair that was used, and for what."""

    collection: ClassVar[str] = "x_weibo_nonces"


async def admit(once: SignedOnce, verified: Verified) -> None:
    """Raise ``Refused`` when this query came before with another body."""
    if "nonce" in verified.facts:  # an account without a secret believes everybody
        await once.admit(verified, f"{verified.facts['timestamp']}|{verified.facts['nonce']}")
