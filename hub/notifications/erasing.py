"""After an erasure: the ledger's lines and the notices go, for good."""

from __future__ import annotations

from collections.abc import Sequence

from hub.documents import ConsentChange, Notice
from hub.store.interface import Store


async def consent_items(store: Store, addresses: Sequence[str], up_to: int) -> list[str]:
    """Return the inbox items that the ledger's lines up to a position came in: evidence, too."""
    lines = await store.table(ConsentChange).find(_of(addresses, up_to))
    return list(dict.fromkeys(line.item for line in lines if line.item))


async def forget(store: Store, addresses: Sequence[str], up_to: int) -> None:
    """Delete what is known of erased addresses but their withdrawals, which the router keeps.

    What lies behind the position ``up_to`` is of a new life.
    """
    await store.table(ConsentChange).delete(_of(addresses, up_to))
    await store.table(Notice).delete(_of(addresses, up_to))


def _of(addresses: Sequence[str], up_to: int) -> dict[str, object]:
    return {"address": {"$in": list(addresses)}, "position": {"$lte": up_to}}
