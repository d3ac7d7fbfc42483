"""From the inbox to the timeline: the one leased writer of a space.

    inbox -> 1 read -> 2 normalize -> 3 plan (drop what is known, identify, conversation,
    backends) -> 4 write -> 5 commit: entries, customers, conversations, jobs, feed, position

Items are taken in the order of their ids, in batches. While one batch commits, the next is
made ready (hub/ahead.py); it is planned after the commit. Whatever an item does wrong stays
its own: the batch ends before it, it is tried three times and becomes a dead letter.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import msgspec
import structlog

from hub.ahead import Ahead, ChooseRoutes, Lookout, MakeRules, Ready
from hub.clock import Clock
from hub.documents import DeadLetter, Entry, InboxItem
from hub.ids import new_id
from hub.planning.media import drop_blobs
from hub.planning.planner import plan
from hub.planning.relaying import relay_jobs
from hub.planning.rules import Route, Rules
from hub.planning.workspace import ById, Find, LastSeq, NotLoaded, Wanted, Workspace
from hub.preparing import Poisoned, Prepared, Preparer
from hub.presence import presence_lane
from hub.steps import reached
from hub.store.interface import (
    Commit,
    CommitUnknown,
    Fenced,
    Lease,
    Store,
    StoreError,
    Unavailable,
)

log = structlog.get_logger(__name__)

PLAN_ROUNDS = 200  # loads that one item may ask for; more means a planner runs in circles
TRIES = 3
SURE = ("parse", "hook")  # stages whose verdict another try would not change
IDLE_POLL_S = 0.05  # other processes' items are seen this fast
GATHER_S = 0.05  # between two batches that are less than half full
DEAD_LETTERS_A_DAY = 1000  # of refused-to-parse items, per account
BREATH = 50  # items planned in a row, before whoever else waits gets the event loop

Committed = Callable[["Batch"], None]
Probe = Callable[[Sequence[InboxItem]], Awaitable[bool]]
"""Try items where they can do no harm; say whether the process survived them."""


async def _guilty(items: Sequence[InboxItem]) -> bool:
    return False


class Batch(msgspec.Struct, kw_only=True):
    """What one commit did, for whoever is waiting for it in this process."""

    items: int = 0
    position: int = 0
    docs: list[Any] = []


class Router:
    """Runs in every process; routes in the one that holds the lease."""

    def __init__(
        self,
        store: Store,
        preparer: Preparer,
        make_rules: MakeRules,
        choose_routes: ChooseRoutes,
        clock: Clock,
        *,
        owner: str,
        lease_s: float = 5.0,
        batch_items: int = 200,
        inbox_kept: timedelta = timedelta(days=30),
        on_commit: Committed = lambda batch: None,
        probe: Probe | None = None,
        wake: asyncio.Event | None = None,
    ) -> None:
        self._store = store
        self._lookout = Lookout(store, preparer, make_rules, choose_routes)
        self._make_rules = make_rules
        self._clock = clock
        self._owner = owner
        self._lease_s = lease_s
        self._batch_items = batch_items
        self._inbox_kept = inbox_kept
        self._on_commit = on_commit
        self._probe = probe or _guilty
        self._wake = wake or asyncio.Event()
        self._stopping = False
        self._lease: Lease | None = None
        self._ws = Workspace()
        self._ahead: asyncio.Task[Ahead] | None = None
        self._failures: Counter[str] = Counter()
        self._parse_failures: Counter[tuple[str, str]] = Counter()
        self.routed = 0

    @property
    def leading(self) -> bool:
        """Whether this process routes at the moment."""
        return self._lease is not None

    def stop(self) -> None:
        """Finish the batch at hand, give the lease back and return from :meth:`run`."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Take the lease whenever it is free and route while it is held, until stopped."""
        while not self._stopping:
            try:
                lease = await self._store.router.take(self._owner, self._lease_s)
                if lease is None:
                    await self._rest(self._lease_s / 10)
                    continue
                await self._lead(lease)
            except (Fenced, CommitUnknown, Unavailable) as error:
                log.warning("router_interrupted", reason=str(error))
                await self._rest(random.uniform(0.05, 0.2))
            except Exception:
                log.exception("router_failed")
                await self._rest(1.0)
            finally:
                self._lease = None

    async def _rest(self, seconds: float) -> None:
        """Wait, or less when something wakes the router up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        if not self._stopping:
            self._wake.clear()

    async def _lead(self, lease: Lease) -> None:
        self._lease = lease
        self._ws = Workspace(lease.position)
        self._failures.clear()
        log.info("router_leads", epoch=lease.epoch, position=lease.position)
        if lease.former and not await self._still_lives(lease.former):
            await self._route_carefully(lease)
        try:
            await self._route_all(lease)
        finally:
            await self._drop_ahead()
        await self._store.router.release(lease)
        log.info("router_let_go", position=self._ws.position)

    async def _route_all(self, lease: Lease) -> None:
        renewed_at = self._clock.monotonic()
        while not self._stopping:
            batch = await self._next_batch()
            if batch.items:
                await self._route(batch.items, ready=batch.ready, follow=True)
                renewed_at = self._clock.monotonic()
                if not self._is_full(batch.items):
                    # A batch costs its round trips whatever its size: let more come together.
                    await asyncio.sleep(GATHER_S)
                continue
            if self._clock.monotonic() - renewed_at > self._lease_s / 3:
                if not await self._store.router.renew(lease, self._lease_s):
                    raise Fenced("the lease ended while there was nothing to do")
                renewed_at = self._clock.monotonic()
            await self._rest(IDLE_POLL_S)

    async def _next_batch(self) -> Ahead:
        """Return the batch that was made ready meanwhile, or the one that waits now."""
        if self._ahead is None:
            return Ahead(await self._lookout.fetch(self._batch_items))
        ahead, self._ahead = self._ahead, None
        return await ahead

    def _is_full(self, items: Sequence[InboxItem]) -> bool:
        """Whether there is so much to do that another batch will be waiting behind this one."""
        return len(items) >= self._batch_items // 2

    def _look_ahead(self, items: Sequence[InboxItem]) -> None:
        """Begin to make the batch behind these items ready."""
        coming = self._lookout.next(self._batch_items, {item.id for item in items}, self._ws)
        self._ahead = asyncio.create_task(coming, name="router-ahead")

    async def _drop_ahead(self) -> None:
        """Forget what was read too early; it is read again."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)

    # --- after a crash -------------------------------------------------------------------------

    async def _route_carefully(self, lease: Lease) -> None:
        """Route what was in flight when the last router went down one by one.

        The item at hand is noted before, so that one that took the process down twice is known
        at the third start. It is set aside unless a probe shows that it is harmless: the process
        may have been killed from outside at a bad moment. All of them are probed meanwhile, and
        when they are found harmless the rest goes in batches again.
        """
        items = await self._lookout.fetch(self._batch_items)
        # While a batch was being committed, the one behind it was made ready: it may be that one.
        items += await self._lookout.fetch(self._batch_items, {item.id for item in items})
        if not items:
            return
        log.warning("router_routes_carefully", items=len(items), former=lease.former)
        harmless = asyncio.create_task(self._harmless(lease, items), name="router-probe")
        try:
            for place, item in enumerate(items):
                if self._stopping or (harmless.done() and harmless.result()):
                    return
                if place == 0:
                    await self._store.router.mark_suspect(lease, item.id)
                following = items[place + 1].id if place + 1 < len(items) else ""
                if item.id == lease.suspect and not await self._probe([item]):
                    poison = Poisoned("router", "it took the router's process down twice")
                    await self._set_aside(item, poison, suspect=following)
                else:
                    await self._route([item], suspect=following)
        finally:
            harmless.cancel()
            await asyncio.gather(harmless, return_exceptions=True)

    async def _harmless(self, lease: Lease, items: Sequence[InboxItem]) -> bool:
        """Probe all items; where somebody is suspected already, a probe is not believed again."""
        if lease.suspect:
            return False
        try:
            return await self._probe(items)
        except OSError as error:
            log.warning("probe_not_started", reason=str(error))
            return False

    async def _still_lives(self, owner: str) -> bool:
        """Whether a holder that did not let go was only too slow: then nothing has crashed."""
        return presence_lane(owner) in await self._store.lanes.parked()

    # --- a batch -------------------------------------------------------------------------------

    async def _route(
        self,
        items: Sequence[InboxItem],
        *,
        suspect: str = "",
        ready: Ready | None = None,
        follow: bool = False,
    ) -> None:
        """Route items, whatever it takes; halve where it is not clear whose fault it is.

        With ``follow`` the next batch is made ready while this one commits.
        """
        try:
            done = await self._route_batch(items, ready, suspect, follow)
        except (Fenced, CommitUnknown, Unavailable):
            raise
        except Exception as error:  # noqa: BLE001 - it has to be found out whose it is
            await self._drop_ahead()
            self._ws.abandoned(self._lease_position())
            if len(items) == 1:
                await self._keep_lease()
                await self._failed(items[0], _poison_of(error))
                return
            half = len(items) // 2
            log.warning("batch_halved", items=len(items), reason=f"{type(error).__name__}: {error}")
            await self._keep_lease()
            await self._route(items[:half])
            await self._route(items[half:])
            return
        if done < len(items):
            await self._route(items[done:])

    async def _keep_lease(self) -> None:
        """Renew between attempts: an item that hangs may have used up much of the lease."""
        assert self._lease is not None
        if not await self._store.router.renew(self._lease, self._lease_s):
            raise Fenced("the lease ended while an item hung")

    def _lease_position(self) -> int:
        assert self._lease is not None
        return self._lease.position

    async def _route_batch(
        self, items: Sequence[InboxItem], ready: Ready | None, suspect: str, follow: bool
    ) -> int:
        """Commit as many items as go through, in order; return how many are settled."""
        if ready is None:
            ready = await self._lookout.ready(items, self._ws)
        rules = self._make_rules()
        self._ws.take(ready.loads)
        settled: list[InboxItem] = []
        redact: list[str] = []
        for place, one in enumerate(ready.prepared):
            if place % BREATH == 0:
                await asyncio.sleep(0)
            if one.error is None:
                try:
                    if not await self._plan(rules, one, ready.routes):
                        redact.append(one.item.id)
                except (Fenced, CommitUnknown, Unavailable):
                    raise
                except Exception as error:
                    log.exception("item_not_planned", item=one.item.id)
                    one.error = Poisoned("plan", f"{type(error).__name__}: {error}")
            if one.error is not None and one.error.stage not in SURE:
                if settled:
                    break  # commit what came before it; it is tried again by itself
                await self._failed(one.item, one.error)
                return 1
            if one.error is not None:
                await self._relay(rules, one.item)
                self._bury(one.item, one.error)
            settled.append(one.item)
        reached("router.3")
        if follow and len(settled) == len(items) and self._is_full(items):
            self._look_ahead(items)
        await self._commit(settled, redact, suspect)
        return len(settled)

    async def _plan(self, rules: Rules, one: Prepared, routes: dict[int, Route | None]) -> bool:
        """Plan an item; load what its planner asks for and start it again."""
        for _ in range(PLAN_ROUNDS):
            self._ws.begin()
            try:
                keep = True
                relay_jobs(self._ws, rules, one.item)
                for draft in one.drafts:
                    keep &= plan(self._ws, rules, one.item, draft, routes.get(id(draft)))
                if not keep and one.item.raw_blob is not None:
                    drop_blobs(self._ws, rules, f"{one.item.id}|raw", [one.item.raw_blob])
            except NotLoaded as missing:
                self._ws.discard()
                await self._load(missing.wanted)
                continue
            except Exception:
                self._ws.discard()
                raise
            self._ws.accept()
            return keep
        raise RuntimeError(f"planning asked for more than {PLAN_ROUNDS} loads")

    async def _relay(self, rules: Rules, item: InboxItem) -> None:
        """What we cannot read may be somebody else's to read: it is forwarded all the same."""
        while True:
            self._ws.begin()
            try:
                relay_jobs(self._ws, rules, item)
            except NotLoaded as missing:
                self._ws.discard()
                await self._load(missing.wanted)
                continue
            self._ws.accept()
            return

    async def _commit(
        self, settled: Sequence[InboxItem], redact: Sequence[str] = (), suspect: str = ""
    ) -> None:
        assert self._lease is not None
        inserts, replaces = self._ws.changes()
        now = self._clock.now()
        commit = Commit(
            lease=self._lease,
            position=self._ws.position,
            inserts=inserts,
            replaces=replaces,
            routed=[item.id for item in settled],
            redact=list(redact),
            suspect=suspect,
            routed_at=now,
            expire_at=now + self._inbox_kept,
        )
        await self._store.router.commit(commit, self._lease_s)
        reached("router.5")
        self._ws.committed()
        self._lease = msgspec.structs.replace(self._lease, position=self._ws.position)
        self.routed += len(settled)
        for item in settled:
            self._failures.pop(item.id, None)
        self._on_commit(
            Batch(items=len(settled), position=self._ws.position, docs=inserts + replaces)
        )

    # --- items that fail -----------------------------------------------------------------------

    async def _failed(self, item: InboxItem, poison: Poisoned) -> None:
        self._failures[item.id] += 1
        if self._failures[item.id] >= TRIES:
            await self._set_aside(item, poison)

    async def _set_aside(self, item: InboxItem, poison: Poisoned, *, suspect: str = "") -> None:
        await self._relay(self._make_rules(), item)
        self._bury(item, poison)
        await self._commit([item], suspect=suspect)

    def _bury(self, item: InboxItem, poison: Poisoned) -> None:
        """Make a dead letter of the item, with all that is needed to replay it."""
        log.error("dead_letter", item=item.id, stage=poison.stage, reason=poison.reason)
        now = self._clock.now()
        whole = msgspec.msgpack.encode(item)
        if poison.stage == "parse" and self._too_many(item):
            whole = b""
        self._ws.begin()
        self._ws.new(
            DeadLetter(
                id=new_id("ded"),
                kind="inbox",
                reason=poison.reason[:2000],
                stage=poison.stage,
                channel=item.channel,
                account=item.account,
                ref=item.id,
                item=whole,
                at=now,
                day=f"{now:%Y-%m-%d}",
                state="open",
                attempts=self._failures[item.id],
            )
        )
        self._ws.accept()

    def _too_many(self, item: InboxItem) -> bool:
        """Of an account's unreadable requests so many a day are kept whole, the rest is counted."""
        place = (f"{item.channel}:{item.account}", f"{item.received_at:%Y-%m-%d}")
        self._parse_failures[place] += 1
        return self._parse_failures[place] > DEAD_LETTERS_A_DAY

    # --- loading -------------------------------------------------------------------------------

    async def _load(self, wanted: Wanted) -> None:
        match wanted:
            case ById():
                docs = await self._store.table(wanted.kind).get_many([wanted.id])
                self._ws.load(wanted.kind, [wanted.id], docs)
            case Find():
                found = await self._store.table(wanted.kind).find(
                    _where(wanted), limit=wanted.limit
                )
                self._ws.load_found(wanted, found)
            case LastSeq():
                last = await self._store.table(Entry).find(
                    {"thread": wanted.thread, "seq": {"$gt": 0}}, sort=[("seq", -1)], limit=1
                )
                self._ws.load_seq(wanted.thread, last[0].seq if last else 0)


def _poison_of(error: Exception) -> Poisoned:
    if isinstance(error, Poisoned):
        return error
    stage = "store" if isinstance(error, StoreError) else "router"
    reason = "it hangs" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
    return Poisoned(stage, reason)


_OPERATORS = {"<=": "$lte", ">": "$gt", "in": "$in"}


def _where(query: Find) -> dict[str, Any]:
    where: dict[str, Any] = {}
    for field, op, value in query.conditions:
        name = "_id" if field == "id" else field
        if op == "=":
            where[name] = value
        else:
            where.setdefault(name, {})[_OPERATORS[op]] = value
    return where
