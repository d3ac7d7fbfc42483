"""What the router has loaded and what it is about to change: the planners' whole world.

Planners are plain functions over a :class:`Workspace`; they never wait. What they need and is
not loaded raises :class:`NotLoaded`; the router loads it and plans the item again from its
start. Changes are kept in two layers: those of the item being planned (dropped when it fails)
and those of the batch (committed together).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar, cast

import msgspec

from hub.documents import (
    AddressDoc,
    Conversation,
    Customer,
    Doc,
    FeedRow,
    Removed,
    Thread,
)
from hub.ids import new_id

D = TypeVar("D", bound=Doc)


class Find(msgspec.Struct, frozen=True):
    """All documents of a kind that fulfil ``(field, "=", "in", "<=" or ">", value)`` conditions.

    "=" also means "the tuple contains", and "in" (any of a tuple) "the tuple contains any", as
    in the database. A missing value is neither greater nor less than another.
    """

    kind: type[Doc]
    conditions: tuple[tuple[str, str, Any], ...]
    limit: int = 0  # of what is read; 0 = all

    def holds(self, doc: Doc) -> bool:
        return all(_holds(getattr(doc, field), op, value) for field, op, value in self.conditions)


class LastSeq(msgspec.Struct, frozen=True):
    """The highest place taken in a thread."""

    thread: str


class ById(msgspec.Struct, frozen=True):
    kind: type[Doc]
    id: str


Wanted = ById | Find | LastSeq


def _holds(actual: Any, op: str, value: Any) -> bool:
    if op == "in":
        return any(_holds(actual, "=", each) for each in value)
    if op == "=":
        return bool(actual == value or (isinstance(actual, tuple) and value in actual))
    if actual is None:
        return False
    return bool(actual <= value if op == "<=" else actual > value)


class NotLoaded(Exception):
    """A planner needs something that is not in the workspace yet."""

    def __init__(self, wanted: Wanted) -> None:
        super().__init__(f"{wanted} is not loaded")
        self.wanted = wanted


_KEPT: tuple[type[Doc], ...] = (AddressDoc, Customer, Conversation, Thread)
_Layer = dict[type[Doc], dict[Any, Doc | None]]  # None: taken away


class Loads(msgspec.Struct):
    """What was read for a batch, perhaps while the batch before it was being committed."""

    docs: list[tuple[type[Doc], Sequence[Any], Mapping[Any, Any]]] = []
    found: list[tuple[Find, Sequence[Doc]]] = []


class Savepoint(msgspec.Struct):
    """What an item's plan was at one moment."""

    position: int
    docs: _Layer
    seqs: dict[str, int]


class Workspace:
    """Documents by id, answers to a few questions, and the changes of a batch."""

    def __init__(self, position: int = 0, *, keep: int = 50_000) -> None:
        self.position = position
        self._keep = keep
        self._base: dict[type[Doc], dict[Any, Doc | None]] = {}
        self._found: dict[Find, tuple[Any, ...]] = {}
        self._seqs: dict[str, int] = {}
        self._batch: _Layer = {}
        self._item: _Layer = {}
        self._batch_seqs: dict[str, int] = {}
        self._item_seqs: dict[str, int] = {}
        self._item_start = position
        self._ids: dict[str, list[str]] = {}
        self._ids_taken: dict[str, int] = {}
        self._last: _Layer = {}  # the batch that was committed last, for what was read before

    # --- loading, done by the router -----------------------------------------------------------

    def take(self, loads: Loads) -> None:
        """Take what was read for the batch that begins.

        It may have been read before the last batch was committed, so that what that one wrote
        stands over it.
        """
        for kind, ids, docs in loads.docs:
            shelf = self._base.setdefault(kind, {})
            newer = self._last.get(kind, {})
            for ident in ids:
                if ident in newer:
                    shelf[ident] = newer[ident]
                elif ident not in shelf:
                    shelf[ident] = docs.get(ident)
        for query, found in loads.found:
            newer = self._last.get(query.kind, {})
            docs_now = {doc.id: newer.get(doc.id, doc) for doc in found}
            docs_now.update({i: doc for i, doc in newer.items() if doc and query.holds(doc)})
            shelf = self._base.setdefault(query.kind, {})
            for ident, doc in docs_now.items():
                shelf.setdefault(ident, doc)
            self._found[query] = tuple(docs_now)
        self._last = {}

    def load(self, kind: type[Doc], ids: Iterable[Any], docs: dict[Any, Any]) -> None:
        """Say what the database has under ``ids``; what is not in ``docs`` does not exist."""
        shelf = self._base.setdefault(kind, {})
        for ident in ids:
            shelf[ident] = docs.get(ident)

    def load_found(self, query: Find, docs: Iterable[Doc]) -> None:
        shelf = self._base.setdefault(query.kind, {})
        ids = []
        for doc in docs:
            shelf.setdefault(doc.id, doc)
            ids.append(doc.id)
        self._found[query] = tuple(ids)

    def load_seq(self, thread: str, seq: int) -> None:
        self._seqs[thread] = seq

    def missing(self, kind: type[Doc], ids: Iterable[Any]) -> list[Any]:
        """Return those ids of which it is not known yet whether they exist."""
        shelf = self._base.get(kind, {})
        return [ident for ident in ids if ident not in shelf]

    # --- asking and changing, done by planners -------------------------------------------------

    def get(self, kind: type[D], ident: str) -> D | None:
        """Return the document as the plan so far has it. Raises :class:`NotLoaded`."""
        for layer in (self._item, self._batch):
            if kind in layer and ident in layer[kind]:
                return cast("D | None", layer[kind][ident])
        shelf = self._base.get(kind)
        if shelf is None or ident not in shelf:
            raise NotLoaded(ById(kind, ident))
        return cast("D | None", shelf[ident])

    def need(self, kind: type[D], ident: str) -> D:
        """Like :meth:`get`, for what the data itself says must exist."""
        found = self.get(kind, ident)
        if found is None:
            raise LookupError(f"{kind.collection} has no {ident}, but something refers to it")
        return found

    def find(self, kind: type[D], *conditions: tuple[str, str, Any], limit: int = 0) -> list[D]:
        """Return all documents that fulfil the conditions, the plan's own among them.

        With ``limit``, as many of them as that, whichever they are.
        """
        read = limit
        if limit:  # what the plan changed may not fulfil them any more: it must not use up places
            read += sum(len(layer.get(kind, ())) for layer in (self._batch, self._item))
        query = Find(kind, conditions, read)
        if query not in self._found:
            raise NotLoaded(query)
        ids = dict.fromkeys(self._found[query])
        for layer in (self._batch, self._item):
            for ident, doc in layer.get(kind, {}).items():
                if doc is not None and query.holds(doc):
                    ids[ident] = None
        docs = [doc for i in ids if (doc := self.get(kind, i)) is not None and query.holds(doc)]
        return docs[:limit] if limit else docs

    def put(self, doc: Doc) -> None:
        self._item.setdefault(type(doc), {})[doc.id] = doc

    def new(self, doc: D) -> D:
        """Put a document whose id was made just now, so that nothing has to be looked up."""
        self._base.setdefault(type(doc), {}).setdefault(doc.id, None)
        self.put(doc)
        return doc

    def remove(self, doc: Doc) -> None:
        """Take a document away for good. Only undoing an import does: all else leaves traces."""
        self._item.setdefault(type(doc), {})[doc.id] = None

    def new_id(self, prefix: str) -> str:
        """Return an id for something new: the same each time that the item is planned.

        What a planner has to look up may be about somebody it has just made.
        """
        made = self._ids.setdefault(prefix, [])
        taken = self._ids_taken.get(prefix, 0)
        if taken == len(made):
            made.append(new_id(prefix))
        self._ids_taken[prefix] = taken + 1
        return made[taken]

    def made_here(self, kind: type[Doc], ident: str) -> bool:
        """Say whether a document that is there was made by this batch."""
        shelf = self._base.get(kind, {})
        return ident in shelf and shelf[ident] is None

    def next_seq(self, thread: str, *, fresh: bool = False) -> int:
        """Take the next place in a thread; ``fresh`` for a thread made in this plan."""
        for layer in (self._item_seqs, self._batch_seqs, self._seqs):
            if thread in layer:
                last = layer[thread]
                break
        else:
            if not fresh:
                raise NotLoaded(LastSeq(thread))
            last = 0
        self._item_seqs[thread] = last + 1
        return last + 1

    def emit(self, row: FeedRow) -> int:
        """Give the change the next position and put it into the feed."""
        self.position += 1
        self.put(msgspec.structs.replace(row, id=self.position))
        return self.position

    def savepoint(self) -> Savepoint:
        """Return what :meth:`roll_back` needs to take back what is planned from here on."""
        docs = {kind: dict(held) for kind, held in self._item.items()}
        return Savepoint(self.position, docs, dict(self._item_seqs))

    def roll_back(self, to: Savepoint) -> None:
        """Take back a part of the item's plan: a refused command, not the drafts before it."""
        self.position = to.position
        self._item = to.docs
        self._item_seqs = to.seqs

    # --- items and batches, done by the router -------------------------------------------------

    def begin(self) -> None:
        self._item = {}
        self._item_seqs = {}
        self._item_start = self.position
        self._ids_taken = {}

    def accept(self) -> None:
        for kind, docs in self._item.items():
            self._batch.setdefault(kind, {}).update(docs)
        self._batch_seqs.update(self._item_seqs)
        self._ids = {}
        self.begin()

    def discard(self) -> None:
        self.position = self._item_start
        self.begin()

    def changes(self) -> tuple[list[Doc], list[Doc]]:
        """Return (new documents, changed documents) of the batch; ``Removed`` is a change."""
        inserts: list[Doc] = []
        replaces: list[Doc] = []
        for kind, docs in self._batch.items():
            shelf = self._base.get(kind, {})
            for ident, doc in docs.items():
                if doc is not None:
                    (inserts if shelf.get(ident) is None else replaces).append(doc)
                elif shelf.get(ident) is not None:
                    replaces.append(Removed(id=ident, of=kind.collection))
        return inserts, replaces

    def committed(self) -> None:
        """The batch is in the database: it is what later batches start from."""
        for kind in _KEPT:
            shelf = self._base.setdefault(kind, {})
            shelf.update(self._batch.get(kind, {}))
            # All at once: the first key of a dict is found behind every one that was deleted.
            for oldest in list(islice(shelf, max(0, len(shelf) - self._keep))):
                del shelf[oldest]
        self._seqs.update(self._batch_seqs)
        if len(self._seqs) > self._keep:
            self._seqs.clear()
        last = self._batch
        self._forget_batch()
        self._last = last

    def abandoned(self, position: int) -> None:
        """The batch was not written: start again from ``position`` with what is known for sure."""
        self.position = position
        self._forget_batch()

    def _forget_batch(self) -> None:
        self._batch, self._batch_seqs, self._last = {}, {}, {}
        for kind in list(self._base):
            if kind not in _KEPT:
                del self._base[kind]
        self._found = {}
        self.begin()


def minute(moment: datetime) -> datetime:
    """Return the moment at the granularity in which a conversation's activity is kept."""
    return moment.replace(second=0, microsecond=0)


def hour(moment: datetime) -> datetime:
    """Return the moment at the granularity in which a customer's activity is kept."""
    return moment.replace(minute=0, second=0, microsecond=0)
