"""Sessions, cursors, collections and blobs as the seam hands them out, the same over both drivers.

`hub.store.driver` makes them; nobody else does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from typing import Any, TypeVar

import gridfs
import msgspec
import pymongo
import structlog
from bson.objectid import ObjectId
from pymongo import IndexModel, ReturnDocument
from pymongo.errors import PyMongoError
from pymongo.results import (
    BulkWriteResult,
    DeleteResult,
    InsertManyResult,
    InsertOneResult,
    UpdateResult,
)

from hub.store.driver_errors import BlobBusy, BlobExists, BlobMissing

log = structlog.get_logger(__name__)

T = TypeVar("T")
Document = dict[str, Any]
Filter = Mapping[str, Any]
Update = Mapping[str, Any] | Sequence[Mapping[str, Any]]

ABORT_SECONDS = 1.0
"""How long an abort may take; afterwards the server's own limits end what is left."""


def deadline(seconds: float) -> AbstractContextManager[None]:
    """Bound every database call in the `with` block, retries included, to `seconds` together.

    What passes it raises a `PyMongoError` whose `timeout` is true. It replaces the socket timeout,
    so it is also the way to let one long call (an index build) take its time.
    """
    return pymongo.timeout(seconds)


class Session:
    """One server session. Not for two tasks at once."""

    __slots__ = ("raw",)

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    @property
    def in_transaction(self) -> bool:
        return bool(self.raw.in_transaction)


class Awaiter:
    """How the calls of one driver are awaited, so that cancelling them means the same with both.

    `wait` ends at once when it is cancelled; what the server makes of the call is unknown then.
    `settle` ends when moreover nothing of the call goes on: for calls that share a session, which
    is used for something else next.
    """

    async def wait(self, call: Awaitable[T]) -> T:
        raise NotImplementedError

    async def settle(self, call: Awaitable[T]) -> T:
        raise NotImplementedError


class PymongoAwaiter(Awaiter):
    """pymongo's async client closes the connection of a cancelled call: nothing goes on.

    But it writes to its sockets under `asyncio.wait_for`, which before Python 3.12 swallows a
    cancellation that comes just when the write is done (CPython issue 86296): the call returns as
    if nothing had been, and its task can never be stopped. So a call during which its task was
    cancelled ends with that cancellation, whatever else it has to say.
    """

    async def wait(self, call: Awaitable[T]) -> T:
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        try:
            result = await call
        except Exception as exc:
            if task and task.cancelling() > before:
                raise asyncio.CancelledError from exc
            raise
        if task and task.cancelling() > before:
            raise asyncio.CancelledError
        return result

    settle = wait


class MotorAwaiter(Awaiter):
    """motor runs calls in threads, which a cancellation does not reach.

    A thread that starts when its transaction is aborted already would carry its call out as a plain
    write, outside of any transaction.
    """

    async def wait(self, call: Awaitable[T]) -> T:
        return await call

    async def settle(self, call: Awaitable[T]) -> T:
        task = asyncio.ensure_future(call)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            while not task.done():
                # A second cancellation must not cut this wait short either.
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({task})
            if not task.cancelled():
                # What it raised is of no use to a caller who has gone; looking at it says so.
                task.exception()
            raise


class Cursor:
    """The answer to a `find`: `async for` it, or `await to_list()`. Its end closes it."""

    def __init__(self, raw: Any, awaiter: Awaiter, session: Session | None) -> None:
        self._raw = raw
        self._wait = awaiter.wait if session is None else awaiter.settle

    def __aiter__(self) -> Cursor:
        return self

    async def __anext__(self) -> Document:
        document: Document = await self._wait(self._raw.next())
        return document

    async def to_list(self, length: int | None = None) -> list[Document]:
        """Return the next `length` documents, or all that are left."""
        documents: list[Document] = await self._wait(self._raw.to_list(length))
        return documents

    async def explain(self) -> Document:
        """Return the server's plan and execution statistics of this query."""
        plan: Document = await self._wait(self._raw.explain())
        return plan

    async def close(self) -> None:
        await self._raw.close()

    async def __aenter__(self) -> Cursor:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


class Collection:
    """One collection with fixed concerns. Inside a transaction those of the transaction hold.

    Options not named here go to the driver as they are (`hint`, `array_filters`, `collation` ...).
    """

    def __init__(self, raw: Any, awaiter: Awaiter) -> None:
        self.raw = raw
        self._awaiter = awaiter

    @property
    def name(self) -> str:
        return str(self.raw.name)

    def _wait(self, call: Awaitable[T], session: Session | None = None) -> Awaitable[T]:
        return self._awaiter.wait(call) if session is None else self._awaiter.settle(call)

    def find(
        self,
        filter: Filter | None = None,
        projection: Mapping[str, Any] | Sequence[str] | None = None,
        *,
        sort: Sequence[tuple[str, int]] | None = None,
        limit: int = 0,
        session: Session | None = None,
        **options: Any,
    ) -> Cursor:
        raw = self.raw.find(
            filter or {},
            projection,
            sort=sort,
            limit=limit,
            session=raw_session(session),
            **options,
        )
        return Cursor(raw, self._awaiter, session)

    async def find_one(
        self,
        filter: Filter | None = None,
        projection: Mapping[str, Any] | Sequence[str] | None = None,
        *,
        session: Session | None = None,
        **options: Any,
    ) -> Document | None:
        found: Document | None = await self._wait(
            self.raw.find_one(filter or {}, projection, session=raw_session(session), **options),
            session,
        )
        return found

    async def insert_one(
        self, document: Mapping[str, Any], *, session: Session | None = None
    ) -> InsertOneResult:
        result: InsertOneResult = await self._wait(
            self.raw.insert_one(document, session=raw_session(session)), session
        )
        return result

    async def insert_many(
        self,
        documents: Sequence[Mapping[str, Any]],
        *,
        ordered: bool = True,
        session: Session | None = None,
    ) -> InsertManyResult:
        """Insert a batch; `BulkWriteError` (see `duplicates_of`) says what was refused."""
        result: InsertManyResult = await self._wait(
            self.raw.insert_many(documents, ordered=ordered, session=raw_session(session)), session
        )
        return result

    async def update_one(
        self,
        filter: Filter,
        update: Update,
        *,
        upsert: bool = False,
        session: Session | None = None,
        **options: Any,
    ) -> UpdateResult:
        result: UpdateResult = await self._wait(
            self.raw.update_one(
                filter, update, upsert=upsert, session=raw_session(session), **options
            ),
            session,
        )
        return result

    async def update_many(
        self,
        filter: Filter,
        update: Update,
        *,
        upsert: bool = False,
        session: Session | None = None,
        **options: Any,
    ) -> UpdateResult:
        result: UpdateResult = await self._wait(
            self.raw.update_many(
                filter, update, upsert=upsert, session=raw_session(session), **options
            ),
            session,
        )
        return result

    async def replace_one(
        self,
        filter: Filter,
        replacement: Mapping[str, Any],
        *,
        upsert: bool = False,
        session: Session | None = None,
    ) -> UpdateResult:
        result: UpdateResult = await self._wait(
            self.raw.replace_one(filter, replacement, upsert=upsert, session=raw_session(session)),
            session,
        )
        return result

    async def bulk_write(
        self, requests: Sequence[Any], *, ordered: bool = True, session: Session | None = None
    ) -> BulkWriteResult:
        """Carry out `pymongo.InsertOne`, `UpdateOne`, `DeleteOne` ... in few calls."""
        result: BulkWriteResult = await self._wait(
            self.raw.bulk_write(requests, ordered=ordered, session=raw_session(session)), session
        )
        return result

    async def delete_one(
        self, filter: Filter, *, session: Session | None = None, **options: Any
    ) -> DeleteResult:
        result: DeleteResult = await self._wait(
            self.raw.delete_one(filter, session=raw_session(session), **options), session
        )
        return result

    async def delete_many(
        self, filter: Filter, *, session: Session | None = None, **options: Any
    ) -> DeleteResult:
        result: DeleteResult = await self._wait(
            self.raw.delete_many(filter, session=raw_session(session), **options), session
        )
        return result

    async def find_one_and_update(
        self,
        filter: Filter,
        update: Update,
        *,
        after: bool = False,
        upsert: bool = False,
        session: Session | None = None,
        **options: Any,
    ) -> Document | None:
        """Change one document and return it as it was before, or `after`; None if none matched."""
        which = ReturnDocument.AFTER if after else ReturnDocument.BEFORE
        found: Document | None = await self._wait(
            self.raw.find_one_and_update(
                filter,
                update,
                return_document=which,
                upsert=upsert,
                session=raw_session(session),
                **options,
            ),
            session,
        )
        return found

    async def find_one_and_delete(
        self, filter: Filter, *, session: Session | None = None, **options: Any
    ) -> Document | None:
        found: Document | None = await self._wait(
            self.raw.find_one_and_delete(filter, session=raw_session(session), **options), session
        )
        return found

    async def count_documents(
        self, filter: Filter | None = None, *, session: Session | None = None, **options: Any
    ) -> int:
        return int(
            await self._wait(
                self.raw.count_documents(filter or {}, session=raw_session(session), **options),
                session,
            )
        )

    async def estimated_document_count(self) -> int:
        """Return the collection's size from its metadata: cheap, and not exact after a crash."""
        return int(await self._wait(self.raw.estimated_document_count()))

    async def distinct(
        self, key: str, filter: Filter | None = None, *, session: Session | None = None
    ) -> list[Any]:
        values: list[Any] = await self._wait(
            self.raw.distinct(key, filter or {}, session=raw_session(session)), session
        )
        return values

    async def create_indexes(self, indexes: Sequence[IndexModel]) -> list[str]:
        """Create what is missing and return the names; an index that differs is an error."""
        names: list[str] = await self._wait(self.raw.create_indexes(list(indexes)))
        return names

    async def drop_index(self, name: str) -> None:
        await self._wait(self.raw.drop_index(name))

    async def index_information(self) -> Document:
        """Return the indexes there are, by name."""
        found: Document = await self._wait(self.raw.index_information())
        return found

    async def drop(self) -> None:
        await self._wait(self.raw.drop())


def raw_session(session: Session | None) -> Any:
    return None if session is None else session.raw


class BlobInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a stored blob without reading it."""

    id: Any
    filename: str
    length: int
    uploaded_at: datetime
    metadata: Document


class BlobReader:
    """An open blob: `await read()` it, or `async for` its chunks."""

    def __init__(self, raw: Any, awaiter: Awaiter) -> None:
        self._raw = raw
        self._awaiter = awaiter
        self.id = raw._id
        self.filename = str(raw.filename or "")
        self.length = int(raw.length)
        self.metadata: Document = dict(raw.metadata or {})

    async def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, or all that are left."""
        return bytes(await self._awaiter.wait(self._raw.read(size)))

    def __aiter__(self) -> BlobReader:
        return self

    async def __anext__(self) -> bytes:
        chunk = bytes(await self._awaiter.wait(self._raw.readchunk()))
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def close(self) -> None:
        closing = self._raw.close()
        if closing is not None:
            await closing

    async def __aenter__(self) -> BlobReader:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


class Blobs:
    """One GridFS bucket. It takes no part in transactions: write a blob before you refer to it."""

    def __init__(
        self, bucket: Any, files: Collection, chunks: Collection, awaiter: Awaiter
    ) -> None:
        self._bucket = bucket
        self._awaiter = awaiter
        self._files = files
        self._chunks = chunks

    async def upload_from_stream(
        self,
        filename: str,
        source: bytes | AsyncIterable[bytes],
        *,
        blob_id: Any = None,
        metadata: Mapping[str, Any] | None = None,
        chunk_size: int | None = None,
    ) -> Any:
        """Store `source` durably and return its id (`blob_id`, or a new one).

        A failed or cancelled upload leaves nothing to be found. The same content may be tried again
        under its `blob_id`: when it is stored whole, that raises `BlobExists` and it stays as it
        is; when somebody else is writing it at this moment, `BlobBusy`.
        """
        if blob_id is None:
            blob_id = ObjectId()
        else:
            await self._refuse(blob_id)
            # Chunks of an upload that died half way would collide with ours.
            await self._chunks.delete_many({"files_id": blob_id})
        stream = self._bucket.open_upload_stream_with_id(
            blob_id, filename, chunk_size_bytes=chunk_size, metadata=dict(metadata or {})
        )
        try:
            if isinstance(source, bytes | bytearray | memoryview):
                await self._awaiter.settle(stream.write(bytes(source)))
            else:
                async for chunk in source:
                    await self._awaiter.settle(stream.write(chunk))
            await self._awaiter.settle(stream.close())
        except gridfs.errors.FileExists as exc:
            # Somebody else writes or wrote this id meanwhile; aborting would delete their chunks.
            await self._refuse(blob_id)
            raise BlobBusy(f"somebody else is writing a blob with the id {blob_id!r}") from exc
        except BaseException:
            await self._discard(stream, blob_id)
            raise
        return blob_id

    async def _refuse(self, blob_id: Any) -> None:
        if await self._files.find_one({"_id": blob_id}, {"_id": 1}):
            raise BlobExists(f"a blob with the id {blob_id!r} is stored already")

    async def _discard(self, stream: Any, blob_id: Any) -> None:
        try:
            with deadline(ABORT_SECONDS):
                await self._awaiter.settle(stream.abort())
        except PyMongoError as exc:
            # Without its file document the rest is invisible; the sweep of orphans removes it.
            log.warning("blob_abort_failed", blob_id=str(blob_id), error=str(exc))

    async def open_download_stream(self, blob_id: Any) -> BlobReader:
        """Open a stored blob; `BlobMissing` when there is none."""
        try:
            raw = await self._awaiter.wait(self._bucket.open_download_stream(blob_id))
        except gridfs.errors.NoFile as exc:
            raise BlobMissing(f"there is no blob with the id {blob_id!r}") from exc
        return BlobReader(raw, self._awaiter)

    async def delete(self, blob_id: Any) -> None:
        """Remove a blob; `BlobMissing` when there is none."""
        try:
            await self._awaiter.wait(self._bucket.delete(blob_id))
        except gridfs.errors.NoFile as exc:
            raise BlobMissing(f"there is no blob with the id {blob_id!r}") from exc

    async def find(
        self,
        filter: Filter | None = None,
        *,
        sort: Sequence[tuple[str, int]] | None = None,
        limit: int = 0,
    ) -> list[BlobInfo]:
        """Return what is known of the blobs that match, by fields of their file documents."""
        return [
            BlobInfo(
                id=document["_id"],
                filename=document.get("filename") or "",
                length=document["length"],
                uploaded_at=document["uploadDate"],
                metadata=document.get("metadata") or {},
            )
            async for document in self._files.find(filter, sort=sort, limit=limit)
        ]
