"""Does this MongoDB suit the hub? Asked at start and by `omniline check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from bson.objectid import ObjectId
from pymongo.errors import OperationFailure, PyMongoError

from hub.store.driver_collections import Collection, Document
from hub.store.driver_errors import (
    AUTHENTICATION_FAILED,
    UNAUTHORIZED,
    is_transient,
    is_unavailable,
    short_reason,
)

if TYPE_CHECKING:
    from hub.store.driver import Driver

PROBE_COLLECTION = "omniline_probe"
PROBE_ATTEMPTS = 3
OLDEST_SERVER = (5, 0)
LONGEST_TRANSACTION_LIFETIME = 10


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something wrong with the server and its remedy, in plain words. Fatal ones forbid a start."""

    fatal: bool
    text: str


async def check_server(driver: Driver) -> list[Problem]:
    """Say what of the server behind `driver` does not suit the hub; nothing when all is well.

    It looks at reachability, replica set, version and the life of abandoned transactions, and tries
    a write and a transaction in the collection `omniline_probe`, which it leaves empty.
    """
    try:
        hello = await driver.command("hello", database="admin")
        build = await driver.command("buildInfo", database="admin")
        problems = _check_version(build)
        replication = _check_replication(hello)
        problems += replication
        if not replication:
            problems += await _check_transaction_lifetime(driver)
            problems += await _check_rights(driver)
        return problems
    except PyMongoError as exc:
        return [_refusal(exc)]


def _refusal(exc: PyMongoError) -> Problem:
    if isinstance(exc, OperationFailure) and exc.code == AUTHENTICATION_FAILED:
        text = (
            "MongoDB refused the user name or password in mongo_url. Check both, and authSource "
            f"(the database in which the user was made). It says: {short_reason(exc)}"
        )
    elif is_unavailable(exc):
        text = (
            "MongoDB cannot be reached or has no primary. Check that it runs, that mongo_url names "
            "its hosts and replica set, and that no firewall is between. The driver says:"
            f" {short_reason(exc)}"
        )
    else:
        text = f"MongoDB answered the start-up check with an error: {short_reason(exc)}"
    return Problem(fatal=True, text=text)


def _check_version(build: Document) -> list[Problem]:
    version = tuple(build.get("versionArray", (0, 0)))[:2]
    if version >= OLDEST_SERVER:
        return []
    return [
        Problem(
            fatal=True,
            text=f"MongoDB {build.get('version')} is too old: Omniline needs "
            f"{OLDEST_SERVER[0]}.{OLDEST_SERVER[1]} or newer. Upgrade the server.",
        )
    ]


def _check_replication(hello: Document) -> list[Problem]:
    if hello.get("setName") or hello.get("msg") == "isdbgrid":
        return []
    if hello.get("isreplicaset"):
        text = (
            "MongoDB runs as a replica set that was never initiated. Run rs.initiate() in mongosh."
        )
    else:
        text = (
            "MongoDB runs as a standalone server, and transactions need a replica set (one member "
            "will do). Start mongod with --replSet rs0, run rs.initiate() once in mongosh, and add "
            "?replicaSet=rs0 to mongo_url."
        )
    return [Problem(fatal=True, text=text)]


async def _check_transaction_lifetime(driver: Driver) -> list[Problem]:
    name = "transactionLifetimeLimitSeconds"
    remedy = (
        f"Set it on every member, at run time with db.adminCommand({{setParameter: 1, {name}: 3}}) "
        f"and for good with `setParameter: {{{name}: 3}}` in mongod.conf."
    )
    try:
        seconds = (await driver.command({"getParameter": 1, name: 1}, database="admin"))[name]
    except OperationFailure as exc:
        if is_transient(exc):
            raise
        text = (
            f"MongoDB does not tell its {name} ({exc}). With the default of 60 a hub that is "
            f"killed inside a transaction stalls the others for over a minute. {remedy}"
        )
        return [Problem(fatal=False, text=text)]
    if seconds <= LONGEST_TRANSACTION_LIFETIME:
        return []
    text = (
        f"MongoDB's {name} is {seconds}: a hub that is killed inside a transaction stalls the "
        f"others for up to that long and half as much again. {remedy}"
    )
    return [Problem(fatal=False, text=text)]


async def _check_rights(driver: Driver) -> list[Problem]:
    probe = driver.collection(PROBE_COLLECTION)
    mark = ObjectId()
    doing = "write"
    try:
        await probe.insert_one({"_id": mark})
        try:
            doing = "commit a transaction"
            await _probe_transaction(driver, probe, mark)
            doing = "delete"
        finally:
            await probe.delete_many({"_id": mark})
    except OperationFailure as exc:
        if is_unavailable(exc):
            raise
        if exc.code == UNAUTHORIZED:
            text = (
                f"the user in mongo_url may not {doing} in the database {driver.database!r}. Grant "
                f"it: db.grantRolesToUser(USER, [{{role: 'readWrite', db: '{driver.database}'}}]). "
                f"MongoDB says: {exc}"
            )
        else:
            text = f"MongoDB could not {doing} in the database {driver.database!r}: {exc}"
        return [Problem(fatal=True, text=text)]
    return []


async def _probe_transaction(driver: Driver, probe: Collection, mark: ObjectId) -> None:
    for attempt in range(1, PROBE_ATTEMPTS + 1):
        try:
            async with driver.transaction() as session:
                await probe.update_one(
                    {"_id": mark}, {"$set": {"committed": True}}, session=session
                )
        except PyMongoError as exc:
            if attempt == PROBE_ATTEMPTS or not is_transient(exc):
                raise
        else:
            return
