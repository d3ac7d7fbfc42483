"""The seam over MongoDB's two async drivers: everything that differs between them lives here.

`open_driver` gives a `Driver` over `pymongo.AsyncMongoClient` (the default) or over motor.
Above this module nothing can tell which one is at work: collections, cursors, transactions,
tails of capped collections and blobs are awaited in the same way and raise `pymongo.errors`.

Two kinds of collection are on offer. A *durable* one writes with `{w: majority, j: true}` and
reads with read concern `majority` on the primary: what it acknowledged survives a crash and a
failover. A *cheap* one (`durable=False`) writes with `w: 1` and is for hints only.

All datetimes are timezone-aware UTC with milliseconds; UUIDs have the standard representation.
"""

from __future__ import annotations

import abc
import asyncio
import importlib
import random
import re
import time
import uuid
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import parse_qsl

import gridfs
import pymongo
import structlog
from bson.binary import Binary, UuidRepresentation
from pymongo import ReadPreference, WriteConcern
from pymongo.cursor_shared import CursorType
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from hub.store.driver_collections import (
    ABORT_SECONDS,
    Awaiter,
    BlobInfo,
    BlobReader,
    Blobs,
    Collection,
    Cursor,
    Document,
    Filter,
    MotorAwaiter,
    PymongoAwaiter,
    Session,
    Update,
    deadline,
    raw_session,
)
from hub.store.driver_errors import (
    CURSOR_GONE_CODES,
    NAMESPACE_EXISTS,
    UNAUTHORIZED,
    BlobBusy,
    BlobExists,
    BlobMissing,
    BulkFailure,
    CommitUnknown,
    DriverError,
    InvalidUrl,
    WriteFailure,
    duplicates_of,
    is_duplicate,
    is_transient,
    is_unavailable,
    short_reason,
)
from hub.store.server_check import Problem, check_server

__all__ = [
    "BlobBusy",
    "BlobExists",
    "BlobInfo",
    "BlobMissing",
    "BlobReader",
    "Blobs",
    "BulkFailure",
    "Collection",
    "CommitUnknown",
    "Cursor",
    "Document",
    "Driver",
    "DriverError",
    "DriverName",
    "Filter",
    "InvalidUrl",
    "Problem",
    "Session",
    "Update",
    "WriteFailure",
    "check_server",
    "deadline",
    "duplicates_of",
    "is_duplicate",
    "is_transient",
    "is_unavailable",
    "open_driver",
    "short_reason",
]

log = structlog.get_logger(__name__)

DriverName = Literal["pymongo", "motor"]

WTIMEOUT_MS = 10_000
SHORT_PIECE = 4  # characters of a user's name or password that are hidden as whole words only
"""How long a durable write waits for a majority before the server says that it timed out."""

COMMIT_SECONDS = 5.0
"""How long a commit whose result is unknown is repeated before `CommitUnknown` is raised."""

TAIL_AWAIT_MS = 1_000
"""How long the server holds a tail's request open while nothing new comes."""

_DURABLE_WRITES = WriteConcern(w="majority", j=True, wtimeout=WTIMEOUT_MS)
_CHEAP_WRITES = WriteConcern(w=1)
_MAJORITY = ReadConcern("majority")
_LOCAL = ReadConcern("local")


class Driver(abc.ABC):
    """One client on one database. Make it with `open_driver`, end it with `close()`."""

    name: DriverName
    _awaiter: Awaiter

    def __init__(self, client: Any, database: str) -> None:
        self._client = client
        self._database = client[database]
        self._durable = self._database.with_options(
            read_concern=_MAJORITY,
            write_concern=_DURABLE_WRITES,
            read_preference=ReadPreference.PRIMARY,
        )
        self._cheap = self._database.with_options(
            read_concern=_LOCAL,
            write_concern=_CHEAP_WRITES,
            read_preference=ReadPreference.PRIMARY,
        )
        self._buckets: dict[str, Blobs] = {}

    @property
    def database(self) -> str:
        """The name of the database."""
        return str(self._database.name)

    @abc.abstractmethod
    async def close(self) -> None:
        """Close every connection; the driver cannot be used any more."""

    @abc.abstractmethod
    async def _start_session(self) -> Any: ...

    @abc.abstractmethod
    async def _start_transaction(self, session: Any, options: Mapping[str, Any]) -> None: ...

    @abc.abstractmethod
    async def _aggregate(self, collection: Any, pipeline: Any, options: Document) -> Any: ...

    @abc.abstractmethod
    def _bucket(self, name: str) -> Any: ...

    async def __aenter__(self) -> Driver:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def _wait(self, call: Awaitable[Any], session: Session | None = None) -> Awaitable[Any]:
        return self._awaiter.wait(call) if session is None else self._awaiter.settle(call)

    # Commands and collections

    async def ping(self) -> None:
        """Return when the server answers; otherwise raise what `is_unavailable` knows."""
        await self._awaiter.wait(self._client.admin.command("ping"))

    async def server_time(self) -> datetime:
        """Return the primary's clock (UTC)."""
        now: datetime = (await self.command("hello", database="admin"))["localTime"]
        return now

    async def command(
        self,
        command: str | Mapping[str, Any],
        value: Any = 1,
        *,
        database: str | None = None,
        session: Session | None = None,
        **options: Any,
    ) -> Document:
        """Run a database command, on this database unless another one is named."""
        target = self._database if database is None else self._client[database]
        codec = self._database.codec_options
        call = target.command(
            command, value, codec_options=codec, session=raw_session(session), **options
        )
        reply: Document = await self._wait(call, session)
        return reply

    def collection(self, name: str, *, durable: bool = True) -> Collection:
        """Return a collection: durable (majority + journal), or cheap (`w: 1`, for hints)."""
        database = self._durable if durable else self._cheap
        return Collection(database[name], self._awaiter)

    async def aggregate(
        self,
        collection: Collection,
        pipeline: Sequence[Mapping[str, Any]],
        *,
        session: Session | None = None,
        **options: Any,
    ) -> list[Document]:
        """Run a pipeline with the collection's concerns and return all of its results."""
        options["session"] = raw_session(session)
        cursor = await self._wait(self._aggregate(collection.raw, list(pipeline), options), session)
        documents: list[Document] = await self._wait(cursor.to_list(None), session)
        return documents

    async def collection_names(self) -> list[str]:
        names: list[str] = await self._awaiter.wait(self._database.list_collection_names())
        return names

    async def create_capped(
        self, name: str, *, size_bytes: int, max_documents: int | None = None
    ) -> None:
        """Make a capped collection, unless it is there; hints are read from it with `tail`."""
        options: Document = {"capped": True, "size": size_bytes}
        if max_documents is not None:
            options["max"] = max_documents
        try:
            await self.command("create", name, **options)
        except OperationFailure as exc:
            if exc.code != NAMESPACE_EXISTS:
                raise

    async def drop_collection(self, name: str) -> None:
        await self._awaiter.wait(self._durable.drop_collection(name))

    async def drop_database(self) -> None:
        """Remove this database with everything in it."""
        await self._awaiter.wait(self._client.drop_database(self.database))

    def blobs(self, bucket: str) -> Blobs:
        """Return a GridFS bucket with durable writes."""
        if bucket not in self._buckets:
            self._buckets[bucket] = Blobs(
                self._bucket(bucket),
                self.collection(f"{bucket}.files"),
                self.collection(f"{bucket}.chunks"),
                self._awaiter,
            )
        return self._buckets[bucket]

    # Transactions

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Hold one server session, so that several transactions have the same session id."""
        session = Session(await self._start_session())
        try:
            yield session
        finally:
            with deadline(ABORT_SECONDS):
                await self._awaiter.settle(session.raw.end_session())

    @asynccontextmanager
    async def transaction(
        self,
        session: Session | None = None,
        *,
        read_concern: Literal["snapshot", "majority"] = "snapshot",
        commit_seconds: float = COMMIT_SECONDS,
    ) -> AsyncIterator[Session]:
        """Run the block in one transaction: majority + journal at its end, aborted by any error.

        Pass the session on to every call that belongs to it. Errors of the block come out as they
        are (`is_transient` says whether to repeat it whole); a commit without a clear answer is
        repeated for `commit_seconds` and then raised as `CommitUnknown`.
        """
        if session is None:
            async with self.session() as own:
                async with self.transaction(
                    own, read_concern=read_concern, commit_seconds=commit_seconds
                ):
                    yield own
            return
        await self._start_transaction(
            session.raw,
            {
                "read_concern": ReadConcern(read_concern),
                "write_concern": _DURABLE_WRITES,
                "read_preference": ReadPreference.PRIMARY,
            },
        )
        try:
            yield session
        except BaseException:
            await self._abort(session)
            raise
        await self._commit(session, commit_seconds)

    async def _commit(self, session: Session, seconds: float) -> None:
        ends = time.monotonic() + seconds
        doubt: PyMongoError | None = None
        while (left := ends - time.monotonic()) > 0 or doubt is None:
            try:
                with deadline(max(left, 0.001)):
                    await self._awaiter.settle(session.raw.commit_transaction())
                return
            except PyMongoError as exc:
                unknown = exc.has_error_label("UnknownTransactionCommitResult")
                if not unknown and (
                    doubt is None or exc.has_error_label("TransientTransactionError")
                ):
                    raise
                doubt = exc
            await asyncio.sleep(random.uniform(0.01, 0.05))
        raise CommitUnknown(
            f"the commit of a transaction got no clear answer from MongoDB in {seconds:g} s "
            f"({doubt}); it may or may not be stored, so what is stored has to be read again"
        ) from doubt

    async def _abort(self, session: Session) -> None:
        if not session.in_transaction:
            return
        try:
            with deadline(ABORT_SECONDS):
                await self._awaiter.settle(session.raw.abort_transaction())
        except PyMongoError as exc:
            # The server ends it itself after transactionLifetimeLimitSeconds.
            log.warning("transaction_abort_failed", error=str(exc))

    def session_id(self, session: Session) -> uuid.UUID:
        """Return the session's id (lsid), by which a successor can end it with `kill_session`."""
        identity: Binary = session.raw.session_id["id"]
        return identity.as_uuid(UuidRepresentation.STANDARD)

    async def kill_session(self, session_id: uuid.UUID) -> bool:
        """End a session of this same user with its open transaction, whoever holds it.

        Return False when the server does not allow it; then the transaction ends by itself after
        `transactionLifetimeLimitSeconds`.
        """
        lsid = {"id": Binary.from_uuid(session_id, UuidRepresentation.STANDARD)}
        try:
            await self.command("killSessions", [lsid], database="admin")
        except OperationFailure as exc:
            if exc.code != UNAUTHORIZED:
                raise
            log.warning("kill_session_not_allowed", session_id=str(session_id))
            return False
        return True

    # Hints

    async def tail(
        self,
        collection: str,
        filter: Filter | None = None,
        *,
        from_start: bool = False,
        pause: float = 0.2,
    ) -> AsyncGenerator[Document, None]:
        """Yield what is inserted into a capped collection from now on (or `from_start`), for ever.

        It goes on through an empty collection, a cursor that died, an election and a restart, after
        a `pause` in seconds. What was overwritten or rolled back meanwhile is not made up for:
        these are hints to look somewhere else, never data. Leave it with `aclose()`.
        """
        coll = self.collection(collection, durable=False)
        last: Any = None
        at_end = not from_start
        while True:
            cursor = None
            try:
                if at_end:
                    seen, last = await self._newest(coll)
                    at_end = False
                else:
                    seen = await self._record_of(coll, last)
                cursor = coll.raw.find(
                    filter or {}, cursor_type=CursorType.TAILABLE_AWAIT, show_record_id=True
                ).max_await_time_ms(TAIL_AWAIT_MS)
                while cursor.alive:
                    try:
                        document = await self._awaiter.wait(cursor.next())
                    except StopAsyncIteration:
                        # Nothing new within the server's patience.
                        continue
                    if document.pop("$recordId") > seen:
                        last = document["_id"]
                        yield document
            except PyMongoError as exc:
                gone = isinstance(exc, OperationFailure) and exc.code in CURSOR_GONE_CODES
                if not (gone or is_transient(exc)):
                    raise
                log.debug("tail_reopened", collection=collection, error=str(exc))
            finally:
                if cursor is not None:
                    await cursor.close()
            await asyncio.sleep(pause)

    async def _newest(self, coll: Collection) -> tuple[int, Any]:
        found = await coll.find_one({}, {"_id": 1}, sort=[("$natural", -1)], show_record_id=True)
        return (found["$recordId"], found["_id"]) if found else (0, None)

    async def _record_of(self, coll: Collection, document_id: Any) -> int:
        # Record ids differ between members of a set, so they are looked up anew for every cursor.
        if document_id is None:
            return 0
        found = await coll.find_one({"_id": document_id}, {"_id": 1}, show_record_id=True)
        return int(found["$recordId"]) if found else 0


class _PymongoDriver(Driver):
    name: DriverName = "pymongo"
    _awaiter = PymongoAwaiter()

    async def close(self) -> None:
        await self._client.close()

    async def _start_session(self) -> Any:
        return self._client.start_session()

    async def _start_transaction(self, session: Any, options: Mapping[str, Any]) -> None:
        await session.start_transaction(**options)

    async def _aggregate(self, collection: Any, pipeline: Any, options: Document) -> Any:
        return await collection.aggregate(pipeline, **options)

    def _bucket(self, name: str) -> Any:
        return gridfs.AsyncGridFSBucket(self._durable, name)


class _MotorDriver(Driver):
    name: DriverName = "motor"
    _awaiter = MotorAwaiter()

    async def close(self) -> None:
        self._client.close()

    async def _start_session(self) -> Any:
        return await self._client.start_session()

    async def _start_transaction(self, session: Any, options: Mapping[str, Any]) -> None:
        session.start_transaction(**options)

    async def _aggregate(self, collection: Any, pipeline: Any, options: Document) -> Any:
        return collection.aggregate(pipeline, **options)

    def _bucket(self, name: str) -> Any:
        return _motor().AsyncIOMotorGridFSBucket(self._durable, name)


@contextmanager
def _warnings_sorted() -> Iterator[None]:
    with warnings.catch_warnings():
        # The drivers warn of a URL option they do not understand, and go on without it.
        warnings.simplefilter("error", UserWarning)
        # motor is deprecated since 2026-05-14; whoever chose it gains nothing from hearing it.
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _motor() -> Any:
    with _warnings_sorted():
        return importlib.import_module("motor.motor_asyncio")


async def open_driver(
    url: str,
    database: str,
    *,
    driver: DriverName = "pymongo",
    server_selection_timeout_ms: int = 5_000,
    connect_timeout_ms: int = 5_000,
    socket_timeout_ms: int = 20_000,
    app_name: str = "omniline",
) -> Driver:
    """Open a driver on one database of the server or replica set at `url`.

    No connection is made yet, so that a hub can start while MongoDB is away; `ping()` makes one.
    Timeouts in the URL win over the arguments. What the hub relies on is not left to the URL:
    aware UTC datetimes, standard UUIDs, retried reads and writes.
    Raises `InvalidUrl`. It belongs to the event loop it was opened in.
    """
    options: Document = {
        "tz_aware": True,
        "tzinfo": UTC,
        "uuidRepresentation": "standard",
        "retryWrites": True,
        "retryReads": True,
    }
    in_url = {key.lower() for key, _ in parse_qsl(url.partition("?")[2], keep_blank_values=True)}
    for option, value in {
        "serverSelectionTimeoutMS": server_selection_timeout_ms,
        "connectTimeoutMS": connect_timeout_ms,
        "socketTimeoutMS": socket_timeout_ms,
        "appname": app_name,
    }.items():
        if option.lower() not in in_url:
            options[option] = value
    opened: Driver
    try:
        with _warnings_sorted():
            if driver == "motor":
                options["io_loop"] = asyncio.get_running_loop()
                opened = _MotorDriver(_motor().AsyncIOMotorClient(url, **options), database)
            else:
                opened = _PymongoDriver(pymongo.AsyncMongoClient(url, **options), database)
    except (PyMongoError, ValueError, TypeError, UserWarning) as exc:
        raise InvalidUrl(
            f"MongoDB cannot be used with this mongo_url and database {database!r}: "
            f"{_without_userinfo(str(exc), url)}. "
            "A mongo_url looks like mongodb://USER:PASSWORD@HOST:27017/?replicaSet=rs0 with "
            "special characters in user and password percent-encoded"
        ) from None
    return opened


def _without_userinfo(text: str, url: str) -> str:
    userinfo = url.partition("://")[2].rpartition("@")[0]
    for piece in filter(None, re.split(r"[:/@]", userinfo)):
        if len(piece) < SHORT_PIECE:  # else a user named "u" would cost every word its letters
            text = re.sub(rf"\b{re.escape(piece)}\b", "***", text)
        else:
            text = text.replace(piece, "***")
    return text
