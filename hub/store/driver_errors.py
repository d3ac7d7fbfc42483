"""What can go wrong with MongoDB, sorted by what to do about it.

Errors of the database come as `pymongo.errors`; the functions here say what they mean for the hub:
do it again (`is_transient`), spool (`is_unavailable`), it is there already (`is_duplicate`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)

MAX_REASON_CHARS = 300
_DUMPS = re.compile(r" \(configured timeouts|, Timeout: |, full error")


class DriverError(Exception):
    """Root of the seam's own errors. Errors of the database itself stay `pymongo.errors`."""


class InvalidUrl(DriverError):
    """`mongo_url` or the database name cannot be used; the text says why, without the password."""


class CommitUnknown(DriverError):
    """A commit got no clear answer in time: the transaction may or may not have been stored.

    The caller must forget what it assumed (position, caches) and read again what is there.
    """


class BlobExists(DriverError):
    """A blob with this id is stored already, whole."""


class BlobBusy(DriverError):
    """Another upload of this very id is under way; try again when it is done or dead."""


class BlobMissing(DriverError):
    """There is no blob with this id (any more)."""


class WriteFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why one document of a batch was refused."""

    code: int
    message: str


class BulkFailure(msgspec.Struct, frozen=True, kw_only=True):
    """What a failed batch says about each of its documents, by index in the batch.

    duplicates: refused because the same `_id` is there already.
    failed: refused for another reason, another unique index among them.
    durable: False when the majority did not confirm the batch in time; then even a duplicate or a
    document that is not listed here counts as unknown and the batch has to be sent again.
    """

    duplicates: frozenset[int]
    failed: dict[int, WriteFailure]
    durable: bool


# Codes from MongoDB's error_codes.yml.
UNAUTHORIZED = 13
AUTHENTICATION_FAILED = 18
NAMESPACE_EXISTS = 48
_DUPLICATE_CODES = frozenset({11000, 11001, 12582})
_UNAVAILABLE_CODES = frozenset(
    {
        6,  # HostUnreachable
        7,  # HostNotFound
        64,  # WriteConcernFailed (wtimeout)
        89,  # NetworkTimeout
        91,  # ShutdownInProgress
        133,  # FailedToSatisfyReadPreference
        134,  # ReadConcernMajorityNotAvailableYet
        189,  # PrimarySteppedDown
        9001,  # SocketException
        10058,  # LegacyNotPrimary
        10107,  # NotWritablePrimary
        11600,  # InterruptedAtShutdown
        11602,  # InterruptedDueToReplStateChange
        13435,  # NotPrimaryNoSecondaryOk
        13436,  # NotPrimaryOrSecondary
        14031,  # OutOfDiskSpace
    }
)
_TRANSIENT_CODES = _UNAVAILABLE_CODES | frozenset(
    {
        24,  # LockTimeout
        50,  # MaxTimeMSExpired
        112,  # WriteConflict
        175,  # QueryPlanKilled
        202,  # NetworkInterfaceExceededTimeLimit
        246,  # SnapshotUnavailable
        251,  # NoSuchTransaction
        262,  # ExceededTimeLimit
        290,  # TransactionExceededLifetimeLimitSeconds
        314,  # ObjectIsBusy
        384,  # ConnectionError
        11601,  # Interrupted
    }
)
CURSOR_GONE_CODES = frozenset({43, 136, 237, 11601})
"""CursorNotFound, CappedPositionLost, CursorKilled, Interrupted."""


def short_reason(exc: Exception) -> str:
    """Return what the driver says, without its dump of the topology or of the whole answer."""
    return _DUMPS.split(str(exc), maxsplit=1)[0][:MAX_REASON_CHARS]


def is_transient(exc: BaseException) -> bool:
    """Say whether the same work may succeed when it is simply done again.

    True for write conflicts, aborted transactions, elections and network trouble. `CommitUnknown`
    counts too, but its caller has to read the state again before it repeats anything.
    """
    if isinstance(exc, CommitUnknown | BlobBusy | ConnectionFailure | WTimeoutError):
        return True
    if not isinstance(exc, PyMongoError):
        return False
    if exc.has_error_label("TransientTransactionError"):
        return True
    if exc.has_error_label("RetryableWriteError") or isinstance(exc, ExecutionTimeout):
        return True
    return any(code in _TRANSIENT_CODES for code in _codes(exc))


def is_unavailable(exc: BaseException) -> bool:
    """Say whether MongoDB as a whole cannot be reached or cannot commit durably just now.

    Then it is time to spool: no primary, no network, no majority or no answer in time (`deadline`
    among the reasons), a full disk.
    """
    if isinstance(exc, ConnectionFailure | WTimeoutError):
        return True
    if not isinstance(exc, PyMongoError):
        return False
    return exc.timeout or any(code in _UNAVAILABLE_CODES for code in _codes(exc))


def is_duplicate(exc: BaseException) -> bool:
    """Say whether a write was refused only because a unique key is taken."""
    if isinstance(exc, BulkWriteError):
        codes = list(_codes(exc))
        return bool(codes) and all(code in _DUPLICATE_CODES for code in codes)
    if isinstance(exc, DuplicateKeyError):
        return True
    return isinstance(exc, OperationFailure) and exc.code in _DUPLICATE_CODES


def duplicates_of(exc: BulkWriteError) -> BulkFailure:
    """Sort a batch's refused documents into those that are there already and those that failed."""
    duplicates: set[int] = set()
    failed: dict[int, WriteFailure] = {}
    for error in exc.details.get("writeErrors", ()):
        code = int(error.get("code", 0))
        if code in _DUPLICATE_CODES and set(error.get("keyPattern", {"_id": 1})) == {"_id"}:
            duplicates.add(error["index"])
        else:
            message = str(error.get("errmsg", ""))
            failed[error["index"]] = WriteFailure(code=code, message=message)
    return BulkFailure(
        duplicates=frozenset(duplicates),
        failed=failed,
        durable=not exc.details.get("writeConcernErrors"),
    )


def _codes(exc: PyMongoError) -> Iterable[int]:
    if isinstance(exc, BulkWriteError):
        for part in ("writeErrors", "writeConcernErrors"):
            yield from (int(error.get("code", 0)) for error in exc.details.get(part, ()))
    elif isinstance(exc, OperationFailure):
        if exc.code is not None:
            yield exc.code
        concern = (exc.details or {}).get("writeConcernError")
        if concern:
            yield int(concern.get("code", 0))
