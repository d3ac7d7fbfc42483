"""A router for tests: it plans items over any store, in batches that the test ends when it likes.

It does what `hub/router.py` does between two commits and nothing else: load what a planner asks
for, plan again, commit. The clock stands still within a batch and is moved by the test.
"""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from hub.documents import Doc, Entry, FeedRow, InboxItem, Operation
from hub.ids import SpaceKey, new_id
from hub.planning.commands import operation_id
from hub.planning.planner import plan
from hub.planning.rules import Route, Rules
from hub.planning.workspace import ById, Find, LastSeq, NotLoaded, Wanted, Workspace
from hub.store.interface import Commit, Store
from hub.store.memory import MemoryStore
from normalizer.addresses import Address
from normalizer.capabilities import Capabilities
from normalizer.drafts import Actor, AnyDraft, Command, Message
from normalizer.parts import Text

D = TypeVar("D", bound=Doc)
T = TypeVar("T")

START = datetime(2024, 3, 1, 9, 0, tzinfo=UTC)
MOST_LOADS = 200  # what the router allows one item
LEASE_S = 3600.0

TEXTS = frozenset({"text", "image"})
CHANNELS = {
    "chat": Capabilities(sends=TEXTS, max_text_chars=600, recall_window_s=120),
    "phone": Capabilities(),
    "mail": Capabilities(sends=TEXTS, threads=True, conversation="thread", returns=3),
    "site": Capabilities(sends=TEXTS, threads=True, thread_seq=True, edit_window_s=900),
    "board": Capabilities(sends=TEXTS, conversation="channel"),
    "texts": Capabilities(sends=TEXTS, reaches=frozenset({"tel"})),
}
OPERATORS = {"=": "$eq", "in": "$in", "<=": "$lte", ">": "$gt"}


def capabilities(channel: str) -> Capabilities:
    return CHANNELS.get(channel, Capabilities())


def run_now(work: Coroutine[Any, Any, T]) -> T:
    """Run what never really waits, as everything over a `MemoryStore`, without an event loop."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("this waited for something")


def somebody(name: str, channel: str = "chat") -> Address:
    return Address(scheme=channel, account="main", kind="user", id=name)


def said(
    who: str | Address, key: str, text: str = "hello", *, channel: str = "chat", **more: Any
) -> Message:
    """Return a message of a customer."""
    address = somebody(who, channel) if isinstance(who, str) else who
    return Message(key=key, address=address, parts=(Text(text=text),), **more)


class PlannerHarness:
    """An in-memory world, or one in any other store, and the one writer of it."""

    def __init__(self, store: Store | None = None, **rules: Any) -> None:
        self.store: Store = store or MemoryStore()
        self.key = SpaceKey(b"planners under test: 32 bytes...")
        self.now = START
        self._rules: dict[str, Any] = {"route": Route(backends=("desk",)), **rules}
        self._routed: list[str] = []
        self._redact: list[str] = []
        self._commands = 0

    async def open(self) -> PlannerHarness:
        lease = await self.store.router.take("harness", LEASE_S)
        assert lease is not None
        self._lease = lease
        self._ws = Workspace(lease.position)
        return self

    @property
    def rules(self) -> Rules:
        return Rules(key=self.key, now=self.now, capabilities=capabilities, **self._rules)

    @property
    def position(self) -> int:
        """The last one that was committed."""
        return self._lease.position

    def later(self, **span: float) -> datetime:
        """Move the clock. Only between batches: it stands still within one."""
        assert not self._routed, "the batch is still open"
        self.now += timedelta(**span)
        return self.now

    # --- items and batches -----------------------------------------------------------------------

    async def give(
        self,
        *drafts: AnyDraft,
        channel: str = "chat",
        account: str = "main",
        received_at: datetime | None = None,
        imported: str = "",
        commit: bool = True,
    ) -> bool:
        """Route one item; return whether its raw copy may stay."""
        item = InboxItem(
            id=new_id("in"),
            channel=channel,
            account=account,
            received_at=received_at or self.now,
            door="import" if imported else "test",
            imported=imported,
        )
        keep = await self._plan(item, drafts)
        self._routed.append(item.id)
        if not keep:
            self._redact.append(item.id)
        if commit:
            await self.flush()
        return keep

    async def _plan(self, item: InboxItem, drafts: tuple[AnyDraft, ...]) -> bool:
        for _ in range(MOST_LOADS):
            self._ws.begin()
            try:
                kept = [plan(self._ws, self.rules, item, draft) for draft in drafts]
            except NotLoaded as missing:
                self._ws.discard()
                await self._load(missing.wanted)
            except BaseException:
                self._ws.discard()
                raise
            else:
                self._ws.accept()
                return all(kept)
        raise AssertionError(f"the plan of {drafts} needs more than {MOST_LOADS} loads")

    async def _load(self, wanted: Wanted) -> None:
        match wanted:
            case ById():
                docs = await self.store.table(wanted.kind).get_many([wanted.id])
                self._ws.load(wanted.kind, [wanted.id], docs)
            case Find():
                where: dict[str, Any] = {}
                for field, op, value in wanted.conditions:
                    name = "_id" if field == "id" else field
                    where.setdefault(name, {})[OPERATORS[op]] = value
                found = await self.store.table(wanted.kind).find(where, limit=wanted.limit)
                self._ws.load_found(wanted, found)
            case LastSeq():
                last = await self.store.table(Entry).find(
                    {"thread": wanted.thread, "seq": {"$gt": 0}}, sort=[("seq", -1)], limit=1
                )
                self._ws.load_seq(wanted.thread, last[0].seq if last else 0)

    async def flush(self) -> None:
        """Commit the batch."""
        inserts, replaces = self._ws.changes()
        await self.store.router.commit(
            Commit(
                lease=self._lease,
                position=self._ws.position,
                inserts=inserts,
                replaces=replaces,
                routed=self._routed,
                redact=self._redact,
                routed_at=self.now,
                expire_at=self.now + timedelta(days=30),
            ),
            LEASE_S,
        )
        self._ws.committed()
        self._lease = msgspec.structs.replace(self._lease, position=self._ws.position)
        self._routed, self._redact = [], []

    async def take_over(self) -> None:
        """Another process goes on: nothing is in its memory, what was not committed is gone."""
        self._routed, self._redact = [], []
        await self.open()

    # --- commands --------------------------------------------------------------------------------

    async def command(
        self,
        name: str,
        *,
        key: str = "",
        via: str = "api",
        commit: bool = True,
        **args: Any,
    ) -> Operation:
        """Route a command and return its operation, committed or not."""
        self._commands += 1
        key = key or f"command {self._commands}"
        await self.give(self.draft(name, key, **args), channel=via, commit=commit)
        return await self.operation(key)

    def draft(self, name: str, key: str, **args: Any) -> Command:
        actor = Actor(kind="agent", id="wang")
        return Command(key=key, name=name, actor=actor, args=msgspec.to_builtins(args))

    async def done(self, name: str, **args: Any) -> dict[str, Any]:
        """Route a command that has to succeed and return its result."""
        operation = await self.command(name, **args)
        assert operation.state == "done", operation
        return operation.result

    async def refused(self, name: str, **args: Any) -> tuple[int, str]:
        """Route a command that has to be refused; return the status and the kind of problem."""
        operation = await self.command(name, **args)
        assert operation.state == "refused", operation
        return operation.status, operation.error

    async def operation(self, key: str) -> Operation:
        ident = operation_id(self.key, key)
        return await self.see(Operation, ident)

    # --- looking ---------------------------------------------------------------------------------

    async def see(self, kind: type[D], ident: Any) -> D:
        """Return a document as the open batch has it."""
        if not self._routed:
            stored = await self.store.table(kind).get(ident)
            assert stored is not None, f"{kind.collection} has no {ident}"
            return stored
        try:
            found = self._ws.get(kind, ident)
        except NotLoaded as missing:
            await self._load(missing.wanted)
            found = self._ws.get(kind, ident)
        assert found is not None, f"{kind.collection} has no {ident}"
        return found

    async def all(self, kind: type[D], **where: Any) -> list[D]:
        """Return what is committed, in the order of the ids."""
        return await self.store.table(kind).find(where, sort=[("_id", 1)])

    async def told(self, since: int = 0) -> list[str]:
        """Return the types of the feed's events after a position."""
        return [row.type for row in await self.all(FeedRow) if row.id > since]
