"""The doors that the hub opens itself: polls, held connections, and polls woken by hints.

One process per account holds each door, by a lease. A cursor is stored after the items behind
it are durable, never before; items that come twice are dropped by their keys. A door that
fails is shown as down with its reason, and tried again after a wait that grows.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import structlog

from hub.accounts import StateName, States, Switches
from hub.accounts.skipping import NUDGE, Skips, cursor_key
from hub.backend_contract import TicketBackend
from hub.contract import Connector, Incoming
from hub.documents import State
from hub.inbox_writer import Overloaded
from hub.retry import backoff_s
from hub.steps import reached
from hub.store.interface import LaneLease, Store, StoreError
from normalizer.outcomes import Failure, Misconfigured, Temporary
from normalizer.tickets import BackendEvent

log = structlog.get_logger(__name__)

LEASE_S = 10.0
PAUSE_S = 1.0  # how often a paused door looks whether it may go on
SETTLED_S = 5.0  # a connection that lasted so long was a good one
POLL_DEADLINE_S = 300.0  # longer than any page takes; a poll that hangs is cut
SKIP_DEADLINE_S = 30.0
BACKEND_POLL_S = 20.0
HINTS = "doors/hint"

TakeIn = Callable[..., Awaitable[str]]
BackendSaid = Callable[[str, Sequence[BackendEvent]], Awaitable[None]]
_QUERY = re.compile(r"(https?://[^\s?'\"]*)\?[^\s'\"]*")


class Tries:
    """How often a door has failed in a row."""

    def __init__(self) -> None:
        self.failed = 0

    def worked(self) -> None:
        self.failed = 0


Run = Callable[[str, Any, Tries], Awaitable[None]]


class Doors:
    """All doors of this process."""

    def __init__(
        self,
        store: Store,
        take_in: TakeIn,
        backend_said: BackendSaid,
        states: States,
        switches: Switches,
        busy: Callable[[], bool],
        *,
        owner: str,
    ) -> None:
        self._store = store
        self._state = store.table(State)
        self._take_in = take_in
        self._backend_said = backend_said
        self._states = states
        self._switches = switches
        self._busy = busy
        self._owner = owner
        self._skips = Skips(store)
        self._nudged: dict[str, asyncio.Event] = {}
        self._hints: dict[str, asyncio.Event] = {}
        self._polled_here: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._telling: dict[str, asyncio.Task[None]] = {}

    def open(self, connectors: Sequence[Connector[Any]], backends: Sequence[TicketBackend]) -> None:
        for connector in connectors:
            name = f"{connector.account.channel}:{connector.account.key}"
            if connector.polls():
                self._hints[name] = asyncio.Event()
                self._keep(f"poll/{name}", name, connector, self._poll_for_ever)
            if connector.holds():
                self._keep(f"hold/{name}", name, connector, self._hold_for_ever)
        for backend in backends:
            if type(backend).poll is not TicketBackend.poll:
                self._keep(f"backend/{backend.name}", backend.name, backend, self._poll_backend)
        if self._tasks:
            self._tasks.append(asyncio.create_task(self._hear_hints(), name="door-hints"))

    async def close(self) -> None:
        tasks = [*self._tasks, *self._telling.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- hints ---------------------------------------------------------------------------------

    def hint(self, connector: Connector[Any]) -> None:
        """A webhook said that there is something to fetch: whoever holds the door polls now."""
        name = f"{connector.account.channel}:{connector.account.key}"
        if name in self._polled_here:
            self._hints[name].set()
        elif name in self._hints and name not in self._telling:
            task = asyncio.create_task(self._tell_hint(name))
            self._telling[name] = task
            task.add_done_callback(lambda _: self._telling.pop(name, None))

    async def _tell_hint(self, name: str) -> None:
        try:
            await self._store.signals.publish(HINTS, {"name": name})
        except StoreError as error:
            log.debug("hint_lost", name=name, reason=str(error))  # the interval repairs it

    async def _hear_hints(self) -> None:
        async for topic, payload in self._store.signals.listen():
            if topic == HINTS and payload["name"] in self._polled_here:
                self._hints[payload["name"]].set()
            elif topic == NUDGE and payload["name"] in self._nudged:
                self._nudged[payload["name"]].set()

    # --- leases --------------------------------------------------------------------------------

    def _keep(self, lane: str, name: str, what: Any, run: Run) -> None:
        self._states.set(_kind(what), name, "starting")
        self._nudged.setdefault(name, asyncio.Event())
        self._tasks.append(
            asyncio.create_task(self._lead(f"door:{lane}", name, what, run), name=lane)
        )

    async def _lead(self, lane: str, name: str, what: Any, run: Run) -> None:
        """Run a door while this process holds its lease; come back after any failure."""
        tries = Tries()
        kind = _kind(what)
        while True:
            asked = time.monotonic()
            try:
                lease = await self._claim(lane)
            except (StoreError, TimeoutError) as error:
                log.debug("door_not_claimed", lane=lane, reason=str(error))
                self._states.set(
                    kind, name, "paused", "the database is away: polls wait", next_try_s=PAUSE_S
                )
                await asyncio.sleep(PAUSE_S)
                continue
            if lease is None:
                self._states.set(
                    kind, name, "ok", "another process holds this door", elsewhere=True
                )
                await asyncio.sleep(LEASE_S / 5)
                continue
            wait_s = 0.0
            try:
                await self._while_leased(lease, asked + LEASE_S, run(name, what, tries))
            except Exception as error:  # noqa: BLE001 - a door's failure is shown and tried again
                tries.failed += 1
                wait_s = backoff_s(tries.failed)
                self._down(kind, name, error, wait_s)
            finally:
                await self._let_go(lease)
            await self._rest(name, wait_s)

    async def _rest(self, name: str, seconds: float) -> None:
        """Wait before the next try, or until somebody wants it at once."""
        nudged = self._nudged[name]
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await nudged.wait()
        nudged.clear()

    async def _claim(self, lane: str) -> LaneLease | None:
        async with asyncio.timeout(LEASE_S):
            leases = await self._store.lanes.claim([lane], self._owner, LEASE_S)
        return leases[0] if leases else None

    async def _let_go(self, lease: LaneLease) -> None:
        with suppress(StoreError, TimeoutError):  # then it runs out by itself
            async with asyncio.timeout(LEASE_S):
                await self._store.lanes.release(lease)

    async def _while_leased(
        self, lease: LaneLease, good_until: float, work: Awaitable[None]
    ) -> None:
        """Do the work until it ends or the lease is lost. A renewal that fails is repeated."""
        task = asyncio.ensure_future(work)
        try:
            while True:
                left_s = good_until - time.monotonic()
                await asyncio.wait({task}, timeout=max(0.0, min(LEASE_S / 3, left_s)))
                if task.done():
                    return task.result()
                asked = time.monotonic()
                if asked >= good_until:
                    log.warning("door_lease_ran_out", lane=lease.lane)
                    return None
                try:
                    async with asyncio.timeout(good_until - asked):
                        if not await self._store.lanes.renew(lease, LEASE_S):
                            log.warning("door_lease_lost", lane=lease.lane)
                            return None
                    good_until = asked + LEASE_S
                except (StoreError, TimeoutError) as error:
                    log.info("door_lease_not_renewed", lane=lease.lane, reason=str(error))
        finally:
            await _ended(task)

    def _down(self, kind: str, name: str, error: Exception, wait_s: float) -> None:
        reason = reason_of(error)
        log.warning("door_failed", name=name, reason=reason, next_try_s=round(wait_s, 1))
        state: StateName = "misconfigured" if isinstance(error, Misconfigured) else "down"
        self._states.set(kind, name, state, reason, next_try_s=wait_s)

    # --- the doors -----------------------------------------------------------------------------

    async def _poll_for_ever(self, name: str, connector: Connector[Any], tries: Tries) -> None:
        hint = self._hints[name]
        self._polled_here.add(name)
        try:
            while True:
                await self._may_go_on(name, connector)
                hint.clear()  # before the poll: one that comes meanwhile is about something newer
                asked_at = self._states.now()
                more = await self._poll_once(name, connector)
                tries.worked()
                self._states.set("account", name, "ok", next_try_s=connector.poll_every_s)
                if not more:
                    self._states.level("account", name, asked_at)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(connector.poll_every_s):
                            await hint.wait()
        finally:
            self._polled_here.discard(name)

    async def _poll_once(self, name: str, connector: Connector[Any]) -> bool:
        """Take in one page; say whether there is more."""
        key = cursor_key("poll", name)
        cursor, rev = await self._past_skipped("poll", name, connector, await self._cursor(key))
        try:
            async with asyncio.timeout(POLL_DEADLINE_S):
                polled = await connector.poll(cursor)
        except TimeoutError as error:
            raise Temporary(f"a poll took longer than {POLL_DEADLINE_S:.0f} s") from error
        await self._deliver(connector, polled.items, "poll")
        reached("doors.1")
        if polled.more and (newest := _newest(polled.items)) is not None:
            self._states.level("account", name, newest)
        if polled.cursor != cursor:
            await self._set_cursor(key, polled.cursor, rev)
        return polled.more

    async def _hold_for_ever(self, name: str, connector: Connector[Any], tries: Tries) -> None:
        """Hold one connection after the other, as long as none of them fails."""
        while True:
            await self._may_go_on(name, connector)
            await self._hold_once(name, connector, tries)

    async def _hold_once(self, name: str, connector: Connector[Any], tries: Tries) -> None:
        key = cursor_key("hold", name)
        cursor, rev = await self._past_skipped("hold", name, connector, await self._cursor(key))

        async def deliver(items: Sequence[Incoming], behind: str) -> None:
            nonlocal rev
            await self._may_go_on(name, connector)
            await self._deliver(connector, items, "hold")
            reached("doors.1")
            await self._set_cursor(key, behind, rev)
            rev += 1
            if items:
                tries.worked()
            self._states.set("account", name, "ok")
            self._states.level("account", name)

        held = asyncio.ensure_future(connector.hold(cursor, deliver))
        try:
            while not (await asyncio.wait({held}, timeout=SETTLED_S))[0]:
                tries.worked()
                if self._is_off(connector):
                    return
                if not self._busy():
                    self._states.set("account", name, "ok")
                    self._states.level("account", name)
            held.result()
        finally:
            await _ended(held)
        raise Temporary("the connection ended")

    async def _may_go_on(self, name: str, what: Any) -> None:
        """Wait as long as the door has to pause."""
        while True:
            if isinstance(what, Connector) and self._is_off(what):
                reason = "inbound is switched off"
            elif self._busy():
                reason = "the hub is behind, or its database is away: polls wait"
            else:
                return
            self._states.set(_kind(what), name, "paused", reason, next_try_s=PAUSE_S)
            await asyncio.sleep(PAUSE_S)

    def _is_off(self, connector: Connector[Any]) -> bool:
        return self._switches.inbound(connector.account.channel, connector.account.key) == "off"

    async def _deliver(
        self, connector: Connector[Any], items: Sequence[Incoming], door: str
    ) -> None:
        """Make items durable, in order; wait as long as the database needs."""
        account = connector.account
        for item in items:
            failed = item.failed
            while True:
                try:
                    await self._take_in(
                        account.channel,
                        account.key,
                        () if failed else item.drafts,
                        door=door,
                        raw=item.raw,
                        failed=failed or None,
                        may_spool=False,
                    )
                    break
                except ValueError as error:  # a draft without a key, a broken address
                    failed = f"{type(error).__name__}: {error}"
                except Overloaded as error:
                    log.info("door_waits", account=account.key, reason=str(error))
                    await asyncio.sleep(PAUSE_S)

    async def _past_skipped(
        self, door: str, name: str, connector: Connector[Any], at: tuple[str | None, int]
    ) -> tuple[str | None, int]:
        """Return where the door goes on: behind the thing that somebody wants to be skipped.

        The thing becomes a dead letter before the cursor moves; a crash in between makes two.
        """
        cursor, rev = at
        skip = await self._skips.due(door, name, cursor) if connector.skips() else None
        if skip is None:
            return at
        try:
            async with asyncio.timeout(SKIP_DEADLINE_S):
                passed = await connector.skip(skip.cursor)
        except Exception as error:  # noqa: BLE001 - told to whoever asked; the door tries as before
            await self._skips.refuse(skip, f"the connector could not skip: {reason_of(error)}")
            return at
        if passed.cursor == skip.cursor or len(passed.items) > 1:
            await self._skips.refuse(skip, "the connector did not pass exactly one thing")
            return at
        raw = passed.items[0].raw if passed.items else b""
        told = f"skipped by {skip.by}" + (f": {skip.why}" if skip.why else "")
        await self._deliver(connector, [Incoming(drafts=(), raw=raw, failed=told)], door)
        await self._set_cursor(cursor_key(door, name), passed.cursor, rev)
        await self._skips.done(skip, "it is a dead letter now, and the door goes on behind it")
        return passed.cursor, rev + 1

    async def _poll_backend(self, name: str, backend: TicketBackend, tries: Tries) -> None:
        key = f"cursor/backend/{name}"
        while True:
            await self._may_go_on(name, backend)
            cursor, rev = await self._cursor(key)
            page = await backend.poll(cursor)
            if page.events:
                await self._backend_said(name, page.events)
            if page.cursor != (cursor or ""):
                await self._set_cursor(key, page.cursor, rev)
            tries.worked()
            self._states.set("backend", name, "ok", next_try_s=BACKEND_POLL_S)
            if not page.more:
                await asyncio.sleep(BACKEND_POLL_S)

    # --- cursors -------------------------------------------------------------------------------

    async def _cursor(self, key: str) -> tuple[str | None, int]:
        found = await self._state.get(key)
        return (found.value["cursor"], found.rev) if found else (None, 0)

    async def _set_cursor(self, key: str, cursor: str, rev: int) -> None:
        """Store a cursor. Raises Temporary when another process has stored one meanwhile."""
        doc = State(id=key, value={"cursor": cursor}, rev=rev + 1)
        if rev == 0:
            stored = not await self._state.insert([doc])
        else:
            stored = await self._state.swap(doc, {"rev": rev})
        if not stored:
            raise Temporary("another process has gone on from here")


def _newest(items: Sequence[Incoming]) -> datetime | None:
    """Return the vendor's time of the newest thing: how far a door that has more to do has come."""
    times = [draft.at for item in items for draft in item.drafts if getattr(draft, "at", None)]
    return max((each for each in times if each is not None), default=None)


def _kind(what: Any) -> str:
    return "backend" if isinstance(what, TicketBackend) else "account"


def reason_of(error: Exception) -> str:
    """Return what an operator reads. Queries of URLs are cut: some vendors' hold tokens."""
    if isinstance(error, Failure):
        return error.reason
    return _QUERY.sub(r"\1?...", f"{type(error).__name__}: {error}")


async def _ended(task: asyncio.Future[None]) -> None:
    """End a task that may still run, and wait until it has cleaned up."""
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
