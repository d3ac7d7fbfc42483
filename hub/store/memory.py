"""The in-memory twin of the store: for plugin authors' tests and for the planners' models.

It keeps documents encoded, as the database does, so that a struct that cannot be stored fails
here as well. One process only; nothing survives it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Generic, TypeVar

import bson
from bson.codec_options import CodecOptions
from bson.errors import InvalidDocument

from hub.clock import Clock, SystemClock
from hub.documents import Doc, InboxItem, Removed
from hub.ids import new_id
from hub.store.codec import Codec, plain, unstorable
from hub.store.interface import (
    Commit,
    Fenced,
    LaneLease,
    Lease,
    NotStorable,
    Sort,
    StoreError,
    Where,
)

D = TypeVar("D", bound=Doc)
Row = dict[str, Any]
_OPTIONS: CodecOptions[Row] = CodecOptions(tz_aware=True, tzinfo=UTC)
_MOST_BYTES = 16 * 1024 * 1024


# --- as the database would have it ----------------------------------------------------------------


def _encoded(codec: Codec, doc: Doc) -> Row:
    """Return the stored form. Raises NotStorable for what MongoDB could not hold either."""
    row = codec.encode(doc)
    try:
        data = bson.encode(row)
    except (InvalidDocument, OverflowError, UnicodeEncodeError) as error:
        raise NotStorable(f"MongoDB cannot hold this document: {error}") from error
    if len(data) > _MOST_BYTES:
        raise NotStorable(f"MongoDB cannot hold this document: it has {len(data)} bytes")
    stored: Row = plain(bson.decode(data, _OPTIONS))
    return stored


def _copied(value: Any) -> Any:
    """Return a copy of stored data."""
    if isinstance(value, dict):
        return {name: _copied(each) for name, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


# --- conditions -----------------------------------------------------------------------------------


class _Missing:
    """What a dotted path leads to where there is nothing."""


_MISSING = _Missing()


def _values(value: Any, path: Sequence[str]) -> list[Any]:
    """Return what a dotted path finds, looking into arrays as MongoDB does."""
    if not path:
        return [value]
    if isinstance(value, dict):
        return _values(value[path[0]], path[1:]) if path[0] in value else [_MISSING]
    if isinstance(value, list):
        # Only the documents in an array are looked into: other elements, and arrays, are not.
        return [found for each in value if isinstance(each, dict) for found in _values(each, path)]
    return [_MISSING]


def _spread(values: list[Any]) -> list[Any]:
    """Return the values, and the elements of those that are arrays."""
    spread = list(values)
    for value in values:
        if isinstance(value, list):
            spread += value
    return spread


def _kind(value: Any) -> str:
    """Return with which other values MongoDB compares this one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return type(value).__name__
    return "number"


def _same(value: Any, operand: Any) -> bool:
    if operand is None:
        return value is None or value is _MISSING
    if isinstance(operand, dict):  # the order of the fields counts
        return isinstance(value, dict) and _all_same(list(value), list(operand), value, operand)
    if isinstance(operand, list):
        return (
            isinstance(value, list)
            and len(value) == len(operand)
            and all(_same(each, other) for each, other in zip(value, operand, strict=True))
        )
    return _kind(value) == _kind(operand) and bool(value == operand)


def _all_same(names: list[str], others: list[str], value: Row, operand: Row) -> bool:
    return names == others and all(_same(value[name], operand[name]) for name in names)


def _equal(values: list[Any], operand: Any) -> bool:
    return any(_same(value, operand) for value in _spread(values))


def _compare(test: Callable[[Any, Any], bool]) -> Callable[[list[Any], Any], bool]:
    def holds(values: list[Any], operand: Any) -> bool:
        kind = _kind(operand)
        return any(_kind(value) == kind and test(value, operand) for value in _spread(values))

    return holds


_OPERATORS: dict[str, Callable[[list[Any], Any], bool]] = {
    "$eq": _equal,
    "$ne": lambda values, operand: not _equal(values, operand),
    "$in": lambda values, operand: any(_equal(values, each) for each in operand),
    "$nin": lambda values, operand: not any(_equal(values, each) for each in operand),
    "$exists": lambda values, operand: any(v is not _MISSING for v in values) is bool(operand),
    "$lt": _compare(lambda a, b: a < b),
    "$lte": _compare(lambda a, b: a <= b),
    "$gt": _compare(lambda a, b: a > b),
    "$gte": _compare(lambda a, b: a >= b),
    "$regex": lambda values, operand: any(
        isinstance(v, str) and re.search(operand, v) for v in _spread(values)
    ),
}


def _operand(value: Any) -> Any:
    """Return an operand as it would arrive at the server."""
    if isinstance(value, dict):
        return {name: _operand(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_operand(each) for each in value]
    if isinstance(value, datetime):
        return value.replace(microsecond=value.microsecond // 1000 * 1000)
    return value.value if isinstance(value, Enum) else value


def matches(row: Row, where: Where) -> bool:
    """Say whether ``row`` fulfils the part of MongoDB's query language that Table allows.

    Raises ``ValueError`` for an operator that is not part of it.
    """
    for path, condition in where.items():
        if path == "$or":
            if not any(matches(row, each) for each in condition):
                return False
            continue
        values = _values(row, path.split("."))
        operators = isinstance(condition, dict) and any(k.startswith("$") for k in condition)
        checks = condition if operators else {"$eq": condition}
        for name, operand in checks.items():
            if name not in _OPERATORS:
                raise ValueError(f"{name} is not among the operators of a Table")
            if not _OPERATORS[name](values, _operand(operand)):
                return False
    return True


class MemoryTable(Generic[D]):
    def __init__(self, kind: type[D], rows: dict[Any, Row], codec: Codec) -> None:
        self._kind = kind
        self._rows = rows
        self._codec = codec

    def _decode(self, row: Row) -> D:
        return self._codec.decode(self._kind, _copied(row))

    async def get(self, ident: Any) -> D | None:
        row = self._rows.get(ident)
        return None if row is None else self._decode(row)

    async def get_many(self, ids: Iterable[Any]) -> dict[Any, D]:
        return {i: self._decode(self._rows[i]) for i in ids if i in self._rows}

    async def known(self, ids: Iterable[Any]) -> set[Any]:
        return {i for i in ids if i in self._rows}

    async def insert(self, docs: Sequence[D]) -> set[Any]:
        there = set()
        for row in [_encoded(self._codec, doc) for doc in docs]:
            if row["_id"] in self._rows:
                there.add(row["_id"])
            else:
                self._rows[row["_id"]] = row
        return there

    async def put(self, docs: Sequence[D]) -> None:
        for row in [_encoded(self._codec, doc) for doc in docs]:
            self._rows[row["_id"]] = row

    async def swap(self, doc: D, expect: Where) -> bool:
        row = _encoded(self._codec, doc)
        old = self._rows.get(row["_id"])
        if old is None or not matches(old, expect):
            return False
        self._rows[row["_id"]] = row
        return True

    async def find(
        self, where: Where, *, sort: Sort = (), limit: int = 0, hint: str | None = None
    ) -> list[D]:
        rows = [row for row in self._rows.values() if matches(row, where)]
        for field, way in reversed(sort):
            rows.sort(key=lambda row: _sortable(row, field), reverse=way < 0)
        return [self._decode(row) for row in (rows[:limit] if limit else rows)]

    async def count(self, where: Where, *, limit: int = 0) -> int:
        count = sum(matches(row, where) for row in self._rows.values())
        return min(count, limit) if limit else count

    async def delete(self, where: Where) -> int:
        doomed = [ident for ident, row in self._rows.items() if matches(row, where)]
        for ident in doomed:
            del self._rows[ident]
        return len(doomed)


def _sortable(row: Row, field: str) -> tuple[bool, Any]:
    value = next(iter(_values(row, field.split("."))), None)
    there = value is not None and value is not _MISSING
    return (there, value if there else None)


class MemoryInbox:
    def __init__(self, rows: dict[Any, Row], codec: Codec) -> None:
        self._rows = rows
        self._codec = codec
        self.failing: StoreError | None = None  # set by tests: the database is away

    async def put(self, items: Sequence[InboxItem]) -> list[StoreError | None]:
        if self.failing is not None:
            raise self.failing
        results: list[StoreError | None] = [unstorable(item) for item in items]
        for place, item in enumerate(items):
            if results[place] is None:
                try:
                    self._rows.setdefault(item.id, _encoded(self._codec, item))
                except NotStorable as error:
                    results[place] = error
        return results

    async def unrouted(
        self, limit: int, max_bytes: int, but: Collection[str] = ()
    ) -> list[InboxItem]:
        items: list[InboxItem] = []
        size = 0
        for ident in sorted(i for i, row in self._rows.items() if row.get("open") and i not in but):
            if len(items) >= limit:
                break
            item = self._codec.decode(InboxItem, _copied(self._rows[ident]))
            size += len(item.raw) + len(item.drafts)
            if items and size > max_bytes:
                break
            items.append(item)
        return items

    async def backlog(self) -> tuple[int, int, datetime | None]:
        waiting = [row for row in self._rows.values() if row.get("open")]
        if not waiting:
            return 0, 0, None
        size = sum(len(bson.encode(row)) for row in waiting)
        return len(waiting), size, min(waiting, key=lambda row: str(row["_id"]))["received_at"]

    async def reopen(self, ids: Sequence[str]) -> int:
        rows = [self._rows[i] for i in ids if i in self._rows]
        for row in rows:
            row["open"] = True
            for name in ("routed_at", "expire_at", "held"):
                row.pop(name, None)
        return len(rows)

    async def release(self, channel: str, account: str) -> int:
        where = {"channel": channel, "account": account, "held": True}
        rows = [row for row in self._rows.values() if matches(row, where)]
        for row in rows:
            del row["held"]
            row["open"] = True
        return len(rows)

    async def redact(self, where: Where) -> int:
        rows = [row for row in self._rows.values() if matches(row, where)]
        for row in rows:
            for name in ("raw", "drafts", "raw_blob"):
                row.pop(name, None)
        return len(rows)


class MemoryRouter:
    def __init__(self, collections: dict[str, dict[Any, Row]], codec: Codec, clock: Clock) -> None:
        self._collections = collections
        self._codec = codec
        self._clock = clock
        self._owner = ""
        self._epoch = 0
        self._position = 0
        self._generation = int(time.time())
        self._expires = float("-inf")
        self._clean = True
        self._suspect = ""

    async def take(self, owner: str, seconds: float) -> Lease | None:
        if self._owner != owner and self._expires > self._clock.monotonic():
            return None
        former = "" if self._clean or self._owner == owner else self._owner
        self._owner, self._clean = owner, False
        self._epoch += 1
        self._expires = self._clock.monotonic() + seconds
        return Lease(
            owner=owner,
            epoch=self._epoch,
            position=self._position,
            generation=self._generation,
            former=former,
            suspect=self._suspect,
        )

    def _holds(self, lease: Lease) -> bool:
        return (self._owner, self._epoch) == (lease.owner, lease.epoch)

    async def renew(self, lease: Lease, seconds: float) -> bool:
        if self._holds(lease):
            self._expires = self._clock.monotonic() + seconds
        return self._holds(lease)

    async def release(self, lease: Lease) -> None:
        if self._holds(lease):
            self._owner, self._expires, self._clean = "", float("-inf"), True

    async def mark_suspect(self, lease: Lease, item: str) -> None:
        if not self._holds(lease):
            raise Fenced("the router's lease has moved on")
        self._suspect = item

    async def commit(self, commit: Commit, seconds: float) -> None:
        if not self._holds(commit.lease):
            raise Fenced("the router's lease has moved on")
        inserts = [(doc.collection, _encoded(self._codec, doc)) for doc in commit.inserts]
        removed = [doc for doc in commit.replaces if isinstance(doc, Removed)]
        replaces = [
            (doc.collection, _encoded(self._codec, doc))
            for doc in commit.replaces
            if not isinstance(doc, Removed)
        ]
        made = set()
        for name, row in inserts:
            key = (name, row["_id"])
            if key in made or row["_id"] in self._collections.setdefault(name, {}):
                raise StoreError(f"{name} has {row['_id']} already")
            made.add(key)
        for name, row in inserts + replaces:
            self._collections.setdefault(name, {})[row["_id"]] = row
        for gone in removed:
            self._collections.get(gone.of, {}).pop(gone.id, None)
        inbox = self._collections.setdefault(InboxItem.collection, {})
        for ident in commit.routed:
            if ident in inbox:
                inbox[ident].pop("open", None)
                inbox[ident] |= {"routed_at": commit.routed_at, "expire_at": commit.expire_at}
        for ident in commit.redact:
            for name in ("raw", "drafts", "raw_blob"):
                inbox.get(ident, {}).pop(name, None)
        self._position = commit.position
        self._suspect = commit.suspect
        self._expires = self._clock.monotonic() + seconds

    async def position(self) -> tuple[int, int]:
        return self._generation, self._position

    async def holder(self) -> tuple[str, bool]:
        alive = self._expires > self._clock.monotonic()
        return (self._owner if alive else "", alive)


_FREE = ("", float("-inf"))


class MemoryLanes:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lanes: dict[str, tuple[str, float]] = {}

    async def claim(self, lanes: Sequence[str], owner: str, seconds: float) -> list[LaneLease]:
        token = new_id("tok")
        now = self._clock.monotonic()
        claimed = [lane for lane in dict.fromkeys(lanes) if self._lanes.get(lane, _FREE)[1] <= now]
        for lane in claimed:
            self._lanes[lane] = (token, now + seconds)
        return [LaneLease(lane, token) for lane in claimed]

    async def renew(self, lease: LaneLease, seconds: float) -> bool:
        if self._lanes.get(lease.lane, _FREE)[0] != lease.token:
            return False
        self._lanes[lease.lane] = (lease.token, self._clock.monotonic() + seconds)
        return True

    async def release(self, lease: LaneLease, *, park_s: float = 0) -> None:
        if self._lanes.get(lease.lane, _FREE)[0] != lease.token:
            return
        if park_s > 0:
            self._lanes[lease.lane] = ("", self._clock.monotonic() + park_s)
        else:
            del self._lanes[lease.lane]

    async def parked(self) -> set[str]:
        now = self._clock.monotonic()
        return {lane for lane, (_, until) in self._lanes.items() if until > now}


class MemoryBlobs:
    """``sealed`` has no effect here: nothing is ever written down."""

    def __init__(self) -> None:
        self._blobs: dict[str, tuple[bytes, Mapping[str, Any]]] = {}

    async def put(
        self,
        data: bytes | AsyncIterator[bytes],
        *,
        metadata: Mapping[str, Any] | None = None,
        sealed: bool = False,
        blob: str | None = None,
    ) -> str:
        blob = blob or new_id("blb")
        whole = data if isinstance(data, bytes) else b"".join([chunk async for chunk in data])
        if blob in self._blobs:
            raise StoreError(f"a blob with the id {blob!r} is stored already")
        self._blobs[blob] = (whole, dict(metadata or {}))
        return blob

    async def read(self, blob: str) -> bytes:
        if blob not in self._blobs:
            raise StoreError(f"the blob {blob} is not there (expired or erased)")
        return self._blobs[blob][0]

    async def stream(self, blob: str) -> AsyncIterator[bytes]:
        yield await self.read(blob)

    async def delete(self, blob: str) -> None:
        self._blobs.pop(blob, None)

    async def metadata(self, blob: str) -> Mapping[str, Any] | None:
        return self._blobs[blob][1] if blob in self._blobs else None

    async def marked(self, name: str, value: str) -> list[str]:
        return [blob for blob, (_, known) in self._blobs.items() if known.get(name) == value]


class MemorySignals:
    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[tuple[str, Mapping[str, Any]]]] = set()

    async def publish(self, topic: str, payload: Mapping[str, Any]) -> None:
        for queue in self._listeners:
            queue.put_nowait((topic, dict(payload)))

    async def listen(self) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        queue: asyncio.Queue[tuple[str, Mapping[str, Any]]] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)


class MemoryStore:
    """A space in memory, public as ``hub.testing.MemoryStore``.

    ``clock`` is what stands for the server's: a FakeClock lets leases end when a test says so.
    """

    def __init__(self, codec: Codec | None = None, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self._codec = codec or Codec()
        self._collections: dict[str, dict[Any, Row]] = {}
        self.inbox = MemoryInbox(self._rows(InboxItem), self._codec)
        self.router = MemoryRouter(self._collections, self._codec, clock)
        self.lanes = MemoryLanes(clock)
        self.blobs = MemoryBlobs()
        self.signals = MemorySignals()

    def _rows(self, kind: type[Doc]) -> dict[Any, Row]:
        return self._collections.setdefault(kind.collection, {})

    def table(self, kind: type[D]) -> MemoryTable[D]:
        return MemoryTable(kind, self._rows(kind), self._codec)

    async def prepare(self, kinds: Sequence[type[Doc]]) -> None:
        for kind in kinds:
            self._rows(kind)

    async def ping(self) -> None:
        if self.inbox.failing is not None:
            raise self.inbox.failing

    async def close(self) -> None:
        self._collections.clear()
