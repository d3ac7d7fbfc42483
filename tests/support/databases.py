"""Databases for tests. Most are lent: emptied after a test and taken again by a later one.

To make some thirty collections with their indexes and to drop them again costs the server more
than most tests do; a hub that finds them made starts at once.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import pymongo
from pymongo.write_concern import WriteConcern

KEPT = 6  # so many rest before the first is lent again
HINTS = "signals"  # capped; what is in it tells nobody anything


class Databases:
    """The databases of one server."""

    def __init__(self, url: str) -> None:
        self._client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(url)
        self._resting: deque[str] = deque()

    def __enter__(self) -> Databases:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """A database that nobody has used, dropped afterwards."""
        name = _new_name()
        yield name
        self._client.drop_database(name)

    @contextmanager
    def lent(self) -> Iterator[str]:
        """A database without a document, which may have collections and indexes already."""
        name = self._resting.popleft() if len(self._resting) >= KEPT else _new_name()
        yield name
        self._empty(name)
        self._resting.append(name)

    def _empty(self, name: str) -> None:
        database = self._client.get_database(name, write_concern=WriteConcern(w=1))
        for collection in database.list_collection_names():
            if collection == HINTS or collection.startswith("system."):
                continue
            if database[collection].find_one({}, {"_id": 1}) is not None:
                database[collection].delete_many({})


def _new_name() -> str:
    return f"test_{uuid.uuid4().hex[:20]}"
