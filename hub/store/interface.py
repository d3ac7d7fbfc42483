"""What the hub asks of its storage. MongoDB and the in-memory twin pass the same suite.

A :class:`Table` holds one kind of document. Conditions (``where``) are a small part of
MongoDB's query language, the part both implementations share: equality (also "the array
contains", and None for "missing"), ``$eq $ne $in $nin $lt $lte $gt $gte $exists $regex``,
``$or`` at the top, and dotted paths of field names. ``$lt`` and its like compare values of one
kind only: numbers, texts or times. Sealed fields cannot be asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

import msgspec

from hub.documents import Doc, InboxItem

D = TypeVar("D", bound=Doc)
Where = Mapping[str, Any]
Sort = Sequence[tuple[str, int]]


class StoreError(Exception):
    """Base of the store's errors; the message says what to do."""


class Unavailable(StoreError):
    """The database cannot commit now: it is away, electing, or too slow. Try again later."""


class Fenced(StoreError):
    """Somebody else holds the lease by now; nothing of this commit was written."""


class CommitUnknown(StoreError):
    """The commit was sent and no answer came: read the position again before going on."""


class NotStorable(StoreError):
    """This document can never be stored (too large, not encodable); its neighbours can."""


class NewerSchema(StoreError):
    """A newer release wrote this document; this one would damage it."""


class WrongSpace(StoreError):
    """The database belongs to a space with another key."""


class Table(Protocol[D]):
    """One collection. Reads are majority reads on the primary, writes majority and journaled."""

    async def get(self, ident: Any) -> D | None: ...

    async def get_many(self, ids: Iterable[Any]) -> dict[Any, D]: ...

    async def known(self, ids: Iterable[Any]) -> set[Any]:
        """Return those of ``ids`` that exist, without reading the documents."""
        ...

    async def insert(self, docs: Sequence[D]) -> set[Any]:
        """Insert; return the ids that were there already and were left as they are."""
        ...

    async def put(self, docs: Sequence[D]) -> None:
        """Insert or replace."""
        ...

    async def swap(self, doc: D, expect: Where) -> bool:
        """Replace the document if it still fulfils ``expect``; say whether it did."""
        ...

    async def find(
        self, where: Where, *, sort: Sort = (), limit: int = 0, hint: str | None = None
    ) -> list[D]: ...

    async def count(self, where: Where, *, limit: int = 0) -> int: ...

    async def delete(self, where: Where) -> int: ...


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The router's lease and its position, one document changed inside each transaction."""

    owner: str
    epoch: int
    position: int
    generation: int
    former: str = ""  # who held it before and did not let go in order
    suspect: str = ""  # in_ that was being routed alone when the process went down


class Commit(msgspec.Struct, kw_only=True):
    """Everything that one batch changes; all of it or nothing."""

    lease: Lease
    position: int  # the last one given out by this batch
    inserts: list[Doc] = []
    replaces: list[Doc] = []  # a hub.documents.Removed among them takes its document away
    routed: list[str] = []
    redact: list[str] = []  # those of them whose raw copy has to go: the person was erased
    suspect: str = ""  # the item that is routed alone next, see mark_suspect
    routed_at: datetime
    expire_at: datetime


class RouterStore(Protocol):
    """The single writer's side. Every method raises :class:`Unavailable` without a database."""

    async def take(self, owner: str, seconds: float) -> Lease | None:
        """Take the lease if it is free, expired or already ours; else None."""
        ...

    async def renew(self, lease: Lease, seconds: float) -> bool: ...

    async def release(self, lease: Lease) -> None: ...

    async def mark_suspect(self, lease: Lease, item: str) -> None:
        """Note, durably, that ``item`` is about to be routed alone."""
        ...

    async def commit(self, commit: Commit, seconds: float) -> None:
        """Write the batch and renew the lease. Raises Fenced, CommitUnknown, Unavailable."""
        ...

    async def position(self) -> tuple[int, int]:
        """Return (generation, last position), by majority read."""
        ...

    async def holder(self) -> tuple[str, bool]:
        """Return (owner, alive)."""
        ...


class InboxStore(Protocol):
    async def put(self, items: Sequence[InboxItem]) -> list[StoreError | None]:
        """Store durably, by one group; "already there" counts as stored.

        The result has one place for each item: None when stored, the item's own error
        otherwise. Raises :class:`Unavailable` when the whole group is in doubt.
        """
        ...

    async def unrouted(
        self, limit: int, max_bytes: int, but: Collection[str] = ()
    ) -> list[InboxItem]:
        """Return the oldest open items except ``but``, in the order of their ids."""
        ...

    async def backlog(self) -> tuple[int, int, datetime | None]:
        """Return (open items, their bytes, since when the oldest waits); counted up to a bound."""
        ...

    async def reopen(self, ids: Sequence[str]) -> int:
        """Let the router take these items again (replay), held ones too."""
        ...

    async def release(self, channel: str, account: str) -> int:
        """Let the router take what was held while the account was switched to store-only."""
        ...

    async def redact(self, where: Where) -> int:
        """Take raw requests and drafts away (erasure), keep that the item was there."""
        ...


class LaneLease(msgspec.Struct, frozen=True):
    lane: str
    token: str


class LaneStore(Protocol):
    """Leases on lanes; the times are the server's."""

    async def claim(self, lanes: Sequence[str], owner: str, seconds: float) -> list[LaneLease]: ...

    async def renew(self, lease: LaneLease, seconds: float) -> bool: ...

    async def release(self, lease: LaneLease, *, park_s: float = 0) -> None:
        """Give the lane back; with ``park_s`` nobody may have it before that time is over."""
        ...

    async def parked(self) -> set[str]:
        """Return the lanes that are leased or parked now."""
        ...


class BlobStore(Protocol):
    """Bytes that are too large for a document. Takes no part in transactions."""

    async def put(
        self,
        data: bytes | AsyncIterator[bytes],
        *,
        metadata: Mapping[str, Any] | None = None,
        sealed: bool = False,
        blob: str | None = None,
    ) -> str:
        """Store durably and return the id: ``blob`` if it is given, which must not be there yet.

        ``sealed``: encrypt it whole, where the space does;
        it is held in memory for that. Reading finds out by itself."""
        ...

    async def read(self, blob: str) -> bytes: ...

    def stream(self, blob: str) -> AsyncIterator[bytes]: ...

    async def delete(self, blob: str) -> None: ...

    async def metadata(self, blob: str) -> Mapping[str, Any] | None: ...

    async def marked(self, name: str, value: str) -> list[str]:
        """Return all blobs with this in their metadata. It looks at every blob: not for often."""
        ...


class SignalStore(Protocol):
    """Hints between processes: never data, may be lost, never wait on the disk."""

    async def publish(self, topic: str, payload: Mapping[str, Any]) -> None: ...

    def listen(self) -> AsyncIterator[tuple[str, Mapping[str, Any]]]: ...


class Store(Protocol):
    """One space: one database, one feed, one router."""

    @property
    def inbox(self) -> InboxStore: ...

    @property
    def router(self) -> RouterStore: ...

    @property
    def lanes(self) -> LaneStore: ...

    @property
    def blobs(self) -> BlobStore: ...

    @property
    def signals(self) -> SignalStore: ...

    def table(self, kind: type[D]) -> Table[D]: ...

    async def prepare(self, kinds: Sequence[type[Doc]]) -> None:
        """Make collections and indexes; long builds belong to ``omniline migrate``."""
        ...

    async def ping(self) -> None:
        """Raise :class:`Unavailable` if nothing can be committed now."""
        ...

    async def close(self) -> None: ...
