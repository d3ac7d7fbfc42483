"""The store on MongoDB: the only module that writes queries in MongoDB's language."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import bson
import structlog
from bson.errors import InvalidDocument
from pymongo import ASCENDING, IndexModel, ReplaceOne
from pymongo.errors import (
    BulkWriteError,
    DocumentTooLarge,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    WriteError,
)

from hub.documents import Doc, InboxItem, Removed
from hub.ids import new_id
from hub.steps import reached
from hub.store import driver as seam
from hub.store.codec import Codec, plain, unstorable
from hub.store.interface import (
    Commit,
    CommitUnknown,
    Fenced,
    LaneLease,
    Lease,
    NotStorable,
    Sort,
    StoreError,
    Unavailable,
    Where,
)

log = structlog.get_logger(__name__)
D = TypeVar("D", bound=Doc)

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
ROWS_AT_ONCE = 100  # out of what the server has sent already: 101 at first, then 16 MiB
BACKLOG_BOUND = 1_000_001  # counting further than the bound on the inbox tells nothing more
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROUTER = "router"
_SEALED = "omniline_sealed"  # in a blob's metadata
# What passes the driver and is refused by the server: the whole message, or one of its rows.
_TOO_LARGE = frozenset({10334, 17419, 17420})
_ROW_TOO_LARGE = _TOO_LARGE | {2}
_UNSTORABLE = (InvalidDocument, DocumentTooLarge, OverflowError, UnicodeEncodeError)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the driver's errors into the store's."""
    try:
        yield
    except seam.CommitUnknown as error:
        raise CommitUnknown(str(error)) from error
    except _UNSTORABLE as error:
        raise NotStorable(f"MongoDB cannot hold this document: {error}") from error
    except PyMongoError as error:
        if _too_large(error):
            raise NotStorable(
                f"MongoDB cannot hold this document: {seam.short_reason(error)}"
            ) from error
        if seam.is_unavailable(error) or seam.is_transient(error):
            raise Unavailable(f"MongoDB cannot commit now: {seam.short_reason(error)}") from error
        raise StoreError(f"MongoDB refused: {seam.short_reason(error)}") from error


def _too_large(error: PyMongoError) -> bool:
    if isinstance(error, BulkWriteError):
        refused = error.details.get("writeErrors", ())
        return any(each.get("code") in _ROW_TOO_LARGE for each in refused)
    return isinstance(error, OperationFailure) and error.code in _TOO_LARGE


def _unencodable(row: Mapping[str, Any]) -> str | None:
    try:
        size = len(bson.encode(row))
    except _UNSTORABLE as error:
        return str(error)
    return f"it has {size} bytes" if size > MAX_DOCUMENT_BYTES else None


def _server_plus(seconds: float) -> Mapping[str, Any]:
    return {"$add": ["$$NOW", int(seconds * 1000)]}


class MongoTable(Generic[D]):
    def __init__(self, driver: seam.Driver, kind: type[D], codec: Codec) -> None:
        self._collection = driver.collection(kind.collection)
        self._kind = kind
        self._codec = codec

    async def get(self, ident: Any) -> D | None:
        with _translated():
            found = await self._collection.find_one({"_id": ident})
        return None if found is None else self._codec.decode(self._kind, found)

    async def get_many(self, ids: Iterable[Any]) -> dict[Any, D]:
        wanted = list(ids)
        if not wanted:
            return {}
        with _translated():
            found = await self._collection.find({"_id": {"$in": wanted}}).to_list()
        return {data["_id"]: self._codec.decode(self._kind, data) for data in found}

    async def known(self, ids: Iterable[Any]) -> set[Any]:
        wanted = list(ids)
        if not wanted:
            return set()
        with _translated():
            found = await self._collection.find({"_id": {"$in": wanted}}, {"_id": 1}).to_list()
        return {data["_id"] for data in found}

    async def insert(self, docs: Sequence[D]) -> set[Any]:
        if not docs:
            return set()
        rows = [self._codec.encode(doc) for doc in docs]
        with _translated():
            try:
                await self._collection.insert_many(rows, ordered=False)
            except BulkWriteError as error:
                failure = seam.duplicates_of(error)
                if failure.failed or not failure.durable:
                    raise
                return {rows[index]["_id"] for index in failure.duplicates}
        return set()

    async def put(self, docs: Sequence[D]) -> None:
        if not docs:
            return
        rows = [self._codec.encode(doc) for doc in docs]
        with _translated():
            await self._collection.bulk_write(
                [ReplaceOne({"_id": row["_id"]}, row, upsert=True) for row in rows], ordered=False
            )

    async def swap(self, doc: D, expect: Where) -> bool:
        row = self._codec.encode(doc)
        with _translated():
            result = await self._collection.replace_one({"_id": row["_id"], **expect}, row)
        return bool(result.matched_count == 1)

    async def find(
        self, where: Where, *, sort: Sort = (), limit: int = 0, hint: str | None = None
    ) -> list[D]:
        options: dict[str, Any] = {"hint": hint} if hint else {}
        with _translated():
            cursor = self._collection.find(
                dict(where), sort=list(sort) or None, limit=limit, **options
            )
            rows = await cursor.to_list()
        return [self._codec.decode(self._kind, row) for row in rows]

    async def count(self, where: Where, *, limit: int = 0) -> int:
        options: dict[str, Any] = {"limit": limit} if limit else {}
        with _translated():
            return await self._collection.count_documents(dict(where), **options)

    async def delete(self, where: Where) -> int:
        with _translated():
            result = await self._collection.delete_many(dict(where))
        return int(result.deleted_count)


class MongoInbox:
    def __init__(self, driver: seam.Driver, codec: Codec) -> None:
        self._driver = driver
        self._collection = driver.collection(InboxItem.collection)
        self._codec = codec

    async def put(self, items: Sequence[InboxItem]) -> list[StoreError | None]:
        results: list[StoreError | None] = [unstorable(item) for item in items]
        rows: dict[int, dict[str, Any]] = {}
        for place, item in enumerate(items):
            if results[place] is None:
                try:
                    rows[place] = self._codec.encode(item)
                except NotStorable as error:
                    results[place] = error
        try:
            with _translated():
                await self._insert(rows, results)
        except NotStorable:
            # One of them fails all of its neighbours; finding out which costs nobody else a thing.
            for place, row in list(rows.items()):
                if (reason := _unencodable(row)) is not None:
                    results[place] = NotStorable(f"{row['_id']} cannot be stored: {reason}")
                    del rows[place]
            with _translated():
                await self._insert(rows, results)
        return results

    async def _insert(
        self, rows: Mapping[int, dict[str, Any]], results: list[StoreError | None]
    ) -> None:
        """Insert rows by their place in the group; put each one's own error into ``results``."""
        if not rows:
            return
        places = list(rows)
        try:
            if len(places) == 1:  # a lone item: a single insert is the quicker command
                await self._collection.insert_one(rows[places[0]])
            else:
                await self._collection.insert_many(list(rows.values()), ordered=False)
        except DuplicateKeyError:
            return  # there already: it counts as stored
        except WriteError as error:
            kind = NotStorable if error.code in _ROW_TOO_LARGE else StoreError
            results[places[0]] = kind(f"MongoDB refused this item: {seam.short_reason(error)}")
        except BulkWriteError as error:
            failure = seam.duplicates_of(error)
            if not failure.durable:
                raise Unavailable("the majority did not confirm the group") from error
            for index, refused in failure.failed.items():
                kind = NotStorable if refused.code in _ROW_TOO_LARGE else StoreError
                results[places[index]] = kind(f"MongoDB refused this item: {refused.message}")

    async def unrouted(
        self, limit: int, max_bytes: int, but: Collection[str] = ()
    ) -> list[InboxItem]:
        items: list[InboxItem] = []
        size = 0
        where: dict[str, Any] = {"open": True}
        if but:
            where["_id"] = {"$nin": list(but)}
        with _translated():
            cursor = self._collection.find(
                where, sort=[("_id", ASCENDING)], limit=limit, hint="open_by_open_id"
            )
            async with cursor:
                # Not row by row: each await of the driver costs as much as decoding a row.
                while rows := await cursor.to_list(ROWS_AT_ONCE):
                    for row in rows:
                        item = self._codec.decode(InboxItem, row)
                        size += len(item.raw) + len(item.drafts)
                        if items and size > max_bytes:
                            return items
                        items.append(item)
        return items

    async def backlog(self) -> tuple[int, int, datetime | None]:
        with _translated():
            oldest = await self._collection.find_one(
                {"open": True},
                {"received_at": 1},
                sort=[("_id", ASCENDING)],
                hint="open_by_open_id",
            )
            if oldest is None:
                return 0, 0, None
            count = await self._collection.count_documents(
                {"open": True}, hint="open_by_open_id", limit=BACKLOG_BOUND
            )
            # The average over the whole inbox is close enough for a bound on its size.
            stats = await self._driver.command("collStats", InboxItem.collection)
        return count, int(count * stats.get("avgObjSize", 0)), oldest["received_at"]

    async def reopen(self, ids: Sequence[str]) -> int:
        with _translated():
            result = await self._collection.update_many(
                {"_id": {"$in": list(ids)}},
                {"$set": {"open": True}, "$unset": {"routed_at": 1, "expire_at": 1, "held": 1}},
            )
        return int(result.matched_count)

    async def release(self, channel: str, account: str) -> int:
        with _translated():
            result = await self._collection.update_many(
                {"channel": channel, "account": account, "held": True},
                {"$set": {"open": True}, "$unset": {"held": 1}},
            )
        return int(result.matched_count)

    async def redact(self, where: Where) -> int:
        with _translated():
            result = await self._collection.update_many(
                dict(where), {"$unset": {"raw": 1, "drafts": 1, "raw_blob": 1}}
            )
        return int(result.matched_count)


class MongoRouter:
    """The router's document and its transaction (STORAGE rule 2)."""

    def __init__(self, driver: seam.Driver, codec: Codec) -> None:
        self._driver = driver
        self._codec = codec
        self._collection = driver.collection(_ROUTER)
        self._inbox = driver.collection(InboxItem.collection)
        self._session: seam.Session | None = None
        self._stack = AsyncExitStack()

    async def take(self, owner: str, seconds: float) -> Lease | None:
        free = {
            "_id": _ROUTER,
            "$or": [{"owner": owner}, {"$expr": {"$lte": ["$expires_at", "$$NOW"]}}],
        }
        with _translated():
            held = await self._collection.find_one(free)
            if held is None:
                return None
            await self._end_predecessor(held)
            await self._open_session()
            assert self._session is not None
            session = self._driver.session_id(self._session)
            before = await self._collection.find_one_and_update(
                free,
                [
                    {
                        "$set": {
                            "owner": owner,
                            "epoch": {"$add": ["$epoch", 1]},
                            "expires_at": _server_plus(seconds),
                            "session": str(session),
                            "clean": False,
                        }
                    }
                ],
            )
            if before is None:
                return None
        return Lease(
            owner=owner,
            epoch=before["epoch"] + 1,
            position=before["position"],
            generation=before["generation"],
            former="" if before["clean"] or before["owner"] == owner else before["owner"],
            suspect=before.get("suspect", ""),
        )

    async def _open_session(self) -> None:
        """Start each lease with a fresh session: the old one may hold a transaction in doubt."""
        await self._close_session()
        self._session = await self._stack.enter_async_context(self._driver.session())

    async def _close_session(self) -> None:
        self._session = None
        await self._stack.aclose()

    async def _end_predecessor(self, held: Mapping[str, Any]) -> None:
        """End the session of a holder that did not let go, before its document is touched.

        A process killed inside a transaction leaves it open, and every write to what it changed
        would wait until the server ends it.
        """
        other = held.get("session")
        if other and not held["clean"]:
            try:
                await self._driver.kill_session(UUID(other))
            except PyMongoError as error:
                log.warning("predecessor_session_not_ended", error=seam.short_reason(error))

    async def renew(self, lease: Lease, seconds: float) -> bool:
        with _translated():
            result = await self._collection.update_one(
                self._mine(lease), [{"$set": {"expires_at": _server_plus(seconds)}}]
            )
        return bool(result.matched_count == 1)

    async def release(self, lease: Lease) -> None:
        with _translated():
            await self._collection.update_one(
                self._mine(lease), {"$set": {"expires_at": _EPOCH, "clean": True, "owner": ""}}
            )
            await self._close_session()

    async def mark_suspect(self, lease: Lease, item: str) -> None:
        with _translated():
            result = await self._collection.update_one(
                self._mine(lease), {"$set": {"suspect": item}}
            )
        if result.matched_count != 1:
            raise Fenced("the router's lease has moved on")

    async def commit(self, commit: Commit, seconds: float) -> None:
        inserts = self._grouped(commit.inserts)
        replaces = self._grouped(doc for doc in commit.replaces if not isinstance(doc, Removed))
        removed: dict[str, list[Any]] = {}
        for doc in commit.replaces:
            if isinstance(doc, Removed):
                removed.setdefault(doc.of, []).append(doc.id)
        if self._session is None:
            raise Fenced("this process holds no router lease")
        with _translated():
            async with self._driver.transaction(self._session) as session:
                result = await self._collection.update_one(
                    self._mine(commit.lease),
                    [
                        {
                            "$set": {
                                "position": commit.position,
                                "expires_at": _server_plus(seconds),
                                "suspect": commit.suspect,
                            }
                        }
                    ],
                    session=session,
                )
                if result.matched_count != 1:
                    raise Fenced("the router's lease has moved on")
                for name, rows in inserts.items():
                    await self._driver.collection(name).insert_many(rows, session=session)
                for name, rows in replaces.items():
                    await self._driver.collection(name).bulk_write(
                        [ReplaceOne({"_id": row["_id"]}, row, upsert=True) for row in rows],
                        ordered=False,
                        session=session,
                    )
                for name, ids in removed.items():
                    await self._driver.collection(name).delete_many(
                        {"_id": {"$in": ids}}, session=session
                    )
                if commit.routed:
                    await self._inbox.update_many(
                        {"_id": {"$in": commit.routed}},
                        {
                            "$unset": {"open": 1},
                            "$set": {
                                "routed_at": commit.routed_at,
                                "expire_at": commit.expire_at,
                            },
                        },
                        session=session,
                    )
                if commit.redact:
                    await self._inbox.update_many(
                        {"_id": {"$in": commit.redact}},
                        {"$unset": {"raw": 1, "drafts": 1, "raw_blob": 1}},
                        session=session,
                    )
                reached("router.4")

    def _grouped(self, docs: Iterable[Doc]) -> dict[str, list[dict[str, Any]]]:
        groups: dict[str, list[dict[str, Any]]] = {}
        for doc in docs:
            groups.setdefault(doc.collection, []).append(self._codec.encode(doc))
        return groups

    @staticmethod
    def _mine(lease: Lease) -> dict[str, Any]:
        return {"_id": _ROUTER, "owner": lease.owner, "epoch": lease.epoch}

    async def position(self) -> tuple[int, int]:
        with _translated():
            found = await self._collection.find_one(
                {"_id": _ROUTER}, {"generation": 1, "position": 1}
            )
        if found is None:
            return 0, 0
        return found["generation"], found["position"]

    async def holder(self) -> tuple[str, bool]:
        with _translated():
            found = await self._collection.find_one(
                {"_id": _ROUTER, "$expr": {"$gt": ["$expires_at", "$$NOW"]}}, {"owner": 1}
            )
        return (found["owner"], True) if found else ("", False)

    async def prepare(self) -> None:
        """Make the router's document once; a restored database gets a new generation."""
        try:
            await self._collection.insert_one(
                {
                    "_id": _ROUTER,
                    "owner": "",
                    "epoch": 0,
                    "position": 0,
                    "generation": int(time.time()),
                    "expires_at": _EPOCH,
                    "clean": True,
                }
            )
        except DuplicateKeyError:
            return

    async def close(self) -> None:
        await self._close_session()


class MongoLanes:
    """Leases on lanes, claimed many at a time by one token (STORAGE: about 20 times faster)."""

    def __init__(self, driver: seam.Driver) -> None:
        self._collection = driver.collection("lanes")

    async def claim(self, lanes: Sequence[str], owner: str, seconds: float) -> list[LaneLease]:
        if not lanes:
            return []
        token = new_id("tok")
        with _translated():
            await self._make(lanes)
            await self._collection.update_many(
                {
                    "_id": {"$in": list(lanes)},
                    "$expr": {"$lte": ["$expires_at", "$$NOW"]},
                },
                [
                    {
                        "$set": {
                            "owner": owner,
                            "token": token,
                            "expires_at": _server_plus(seconds),
                        }
                    }
                ],
            )
            mine = await self._collection.find(
                {"_id": {"$in": list(lanes)}, "token": token}, {"_id": 1}
            ).to_list()
        return [LaneLease(row["_id"], token) for row in mine]

    async def _make(self, lanes: Sequence[str]) -> None:
        """Make sure each lane has a document: an upsert cannot compare with the server's time."""
        known = await self._collection.find({"_id": {"$in": list(lanes)}}, {"_id": 1}).to_list()
        missing = set(lanes) - {row["_id"] for row in known}
        if not missing:
            return
        try:
            await self._collection.insert_many(
                [{"_id": lane, "expires_at": _EPOCH} for lane in missing], ordered=False
            )
        except BulkWriteError as error:
            if seam.duplicates_of(error).failed:
                raise

    async def renew(self, lease: LaneLease, seconds: float) -> bool:
        with _translated():
            result = await self._collection.update_one(
                {"_id": lease.lane, "token": lease.token},
                [{"$set": {"expires_at": _server_plus(seconds)}}],
            )
        return bool(result.matched_count == 1)

    async def release(self, lease: LaneLease, *, park_s: float = 0) -> None:
        mine = {"_id": lease.lane, "token": lease.token}
        with _translated():
            if park_s > 0:
                await self._collection.update_one(
                    mine,
                    [{"$set": {"owner": "", "token": "", "expires_at": _server_plus(park_s)}}],
                )
            else:
                await self._collection.delete_many(mine)

    async def parked(self) -> set[str]:
        with _translated():
            rows = await self._collection.find(
                {"$expr": {"$gt": ["$expires_at", "$$NOW"]}}, {"_id": 1}
            ).to_list()
        return {row["_id"] for row in rows}


class MongoBlobs:
    def __init__(self, driver: seam.Driver, codec: Codec) -> None:
        self._bucket = driver.blobs("blobs")
        self._codec = codec

    async def put(
        self,
        data: bytes | AsyncIterator[bytes],
        *,
        metadata: Mapping[str, Any] | None = None,
        sealed: bool = False,
        blob: str | None = None,
    ) -> str:
        blob = blob or new_id("blb")
        known = dict(metadata or {})
        if sealed and self._codec.seals:
            whole = data if isinstance(data, bytes) else b"".join([chunk async for chunk in data])
            data, known[_SEALED] = self._codec.seal_blob(whole, blob), True
        with _translated():
            try:
                await self._bucket.upload_from_stream(blob, data, blob_id=blob, metadata=known)
            except (seam.BlobExists, seam.BlobBusy) as error:
                raise StoreError(str(error)) from error
        return blob

    async def read(self, blob: str) -> bytes:
        return b"".join([chunk async for chunk in self.stream(blob)])

    async def stream(self, blob: str) -> AsyncIterator[bytes]:
        with _translated():
            try:
                reader = await self._bucket.open_download_stream(blob)
            except seam.BlobMissing as error:
                raise StoreError(f"the blob {blob} is not there (expired or erased)") from error
            async with reader:
                if reader.metadata.get(_SEALED):
                    yield self._codec.open_blob(await reader.read(), blob)
                    return
                async for chunk in reader:
                    yield chunk

    async def delete(self, blob: str) -> None:
        with _translated():
            try:
                await self._bucket.delete(blob)
            except seam.BlobMissing:
                log.debug("blob_was_gone", blob=blob)

    async def metadata(self, blob: str) -> Mapping[str, Any] | None:
        with _translated():
            found = await self._bucket.find({"_id": blob})
        if not found:
            return None
        known: Mapping[str, Any] = plain(found[0].metadata)
        return {name: value for name, value in known.items() if name != _SEALED}

    async def marked(self, name: str, value: str) -> list[str]:
        with _translated():
            found = await self._bucket.find({f"metadata.{name}": value})
        return [str(each.id) for each in found]


class MongoSignals:
    """Hints through a small capped collection; losing one costs a little time, nothing else."""

    SIZE_BYTES = 1024 * 1024

    def __init__(self, driver: seam.Driver) -> None:
        self._driver = driver
        self._collection = driver.collection("signals", durable=False)

    async def prepare(self) -> None:
        await self._driver.create_capped("signals", size_bytes=self.SIZE_BYTES)

    async def publish(self, topic: str, payload: Mapping[str, Any]) -> None:
        with _translated():
            await self._collection.insert_one({"t": topic, "p": dict(payload)})

    async def listen(self) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        async for row in self._driver.tail("signals"):
            yield row["t"], plain(row["p"])


class MongoStore:
    """A space on MongoDB. Made by :func:`open_store`."""

    def __init__(self, driver: seam.Driver, codec: Codec) -> None:
        self._driver = driver
        self._codec = codec
        self._tables: dict[type[Doc], MongoTable[Any]] = {}
        self.inbox = MongoInbox(driver, codec)
        self.router = MongoRouter(driver, codec)
        self.lanes = MongoLanes(driver)
        self.blobs = MongoBlobs(driver, codec)
        self.signals = MongoSignals(driver)

    def table(self, kind: type[D]) -> MongoTable[D]:
        if kind not in self._tables:
            self._tables[kind] = MongoTable(self._driver, kind, self._codec)
        return self._tables[kind]

    async def prepare(self, kinds: Sequence[type[Doc]]) -> None:
        with _translated():
            for kind in kinds:
                models = [_index_model(index) for index in kind.indexes]
                if models:
                    await self._driver.collection(kind.collection).create_indexes(models)
            await self.router.prepare()
            await self.signals.prepare()

    async def ping(self) -> None:
        with _translated():
            await self._driver.ping()

    async def close(self) -> None:
        await self.router.close()
        await self._driver.close()


def _index_model(index: Any) -> IndexModel:
    options: dict[str, Any] = {}
    if index.unique:
        options["unique"] = True
    if index.only_where is not None:
        options["partialFilterExpression"] = index.only_where
    if index.expires:
        options["expireAfterSeconds"] = 0
    name = "_".join(f"{field}_{way}" for field, way in index.fields)
    if index.only_where is not None:
        name = "_".join([*index.only_where, "by", *(f.strip("_") for f, _ in index.fields)])
    return IndexModel(list(index.fields), name=re.sub(r"[^\w.]", "", name), **options)
