"""Which blobs may be left behind: a row for each that nothing names yet, or lives with another.

The blob store takes no part in transactions: bytes are stored first and named later, or never.
So a row is written before the bytes, and taken away before anything durable names them. What
has no row is never swept; a crash between the two leaves bytes behind, and takes none away.

    a row, "unnamed" -> the bytes -> no row, or "owned" -> the item or command that names them

``hub/sweeping.py`` goes by these rows. docs/decisions/0011-media.md lists every place that can
name a blob.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from datetime import timedelta
from typing import Any, Literal, Protocol

from msgspec.structs import replace

from hub.clock import Clock
from hub.documents import StrayBlob
from hub.ids import new_id
from hub.store.interface import BlobStore, Table, Unavailable

UNNAMED_FOR = timedelta(days=30)  # connectors name a file within seconds
RAW_LOOK = timedelta(days=1)  # how often the item of a large raw request is looked for
COPY_LOOK = timedelta(days=30)  # how often the source of a copy is looked for
OWNER_LOOK = timedelta(days=1)  # when it is looked at what became of an owner

Taken = Literal["mine", "other", "gone"]


class _Store(Protocol):
    @property
    def blobs(self) -> BlobStore: ...

    def table(self, kind: type[StrayBlob]) -> Table[StrayBlob]: ...


async def delete_blobs(store: _Store, blobs: Iterable[str]) -> None:
    """Delete blobs in this order, and what is known of them; doing it twice is harmless."""
    doomed = list(blobs)
    for blob in doomed:
        await store.blobs.delete(blob)
    if doomed:
        await store.table(StrayBlob).delete({"_id": {"$in": doomed}})


class Strays:
    """Writes the rows. Raises StoreError, like the store: then nothing was stored or named."""

    def __init__(
        self, store: _Store, clock: Clock, *, unnamed_for: timedelta = UNNAMED_FOR
    ) -> None:
        self._blobs = store.blobs
        self._rows = store.table(StrayBlob)
        self._clock = clock
        self._unnamed_for = unnamed_for

    async def put(
        self,
        data: bytes | AsyncIterator[bytes],
        *,
        metadata: Mapping[str, Any] | None = None,
        blob: str | None = None,
    ) -> str:
        """Store bytes that something will name, and return their blob."""
        blob = blob or new_id("blb")
        due_at = self._clock.now() + self._unnamed_for
        await self._begin(StrayBlob(id=blob, state="unnamed", due_at=due_at))
        return await self._blobs.put(data, metadata=metadata, blob=blob)

    async def _begin(self, row: StrayBlob) -> None:
        """Write the row of a blob; one that is there already may be named by now, and stays."""
        if not await self._rows.insert([row]):
            return
        before = await self._rows.get(row.id)
        if before is None or before.state == "doomed":
            raise Unavailable(f"the blob {row.id} is just being taken away: try again")
        if before.state != "owned":
            await self._rows.swap(replace(before, due_at=row.due_at), {"state": before.state})

    async def put_raw(self, data: bytes, *, item: str) -> str:
        """Store a raw request that is too large for its inbox item and goes when that goes."""
        blob = new_id("blb")
        due_at = self._clock.now() + RAW_LOOK
        await self._begin(StrayBlob(id=blob, state="with", item=item, due_at=due_at))
        metadata = {"item": item, "kind": "raw"}
        return await self._blobs.put(data, metadata=metadata, sealed=True, blob=blob)

    async def copy_of(self, source: str, copy: str) -> None:
        """Note that the blob ``copy``, which is stored next, goes when ``source`` goes."""
        due_at = self._clock.now() + COPY_LOOK
        await self._begin(StrayBlob(id=copy, state="with", source=source, due_at=due_at))

    async def named(self, blobs: Collection[str]) -> None:
        """Say that something durable is about to name these: they are swept no more."""
        if blobs:
            await self._rows.delete({"_id": {"$in": list(blobs)}, "state": "unnamed"})

    async def take(self, blob: str, owner: str) -> Taken:
        """Make ``owner``, an operation, the only one that names ``blob``, if it is nobody's."""
        look = self._clock.now() + OWNER_LOOK
        while True:
            row = await self._rows.get(blob)
            if row is None:  # of a release before this one
                mine = StrayBlob(id=blob, state="owned", owner=owner, due_at=look)
                if not await self._rows.insert([mine]):
                    return "mine"
            elif row.state == "unnamed":
                mine = replace(row, state="owned", owner=owner, due_at=look)
                if await self._rows.swap(mine, {"state": "unnamed"}):
                    return "mine"
            elif row.state == "owned":
                return "mine" if row.owner == owner else "other"
            else:
                return "gone"

    async def give_back(self, blob: str, owner: str) -> None:
        """Say that ``owner`` will surely never name it: somebody else may."""
        row = await self._rows.get(blob)
        if row is not None and row.state == "owned" and row.owner == owner:
            due_at = self._clock.now() + self._unnamed_for
            free = replace(row, state="unnamed", owner="", due_at=due_at)
            await self._rows.swap(free, {"state": "owned", "owner": owner})
