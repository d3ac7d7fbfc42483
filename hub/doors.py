"""The doors that the hub opens itself: polls, held connections, and polls woken by hints.

One process per account holds each door, by a lease. A cursor is stored after the items behind
it are durable, never before; items that come twice are dropped by their keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import structlog

from hub.accounts import States, Switches
from hub.backend_contract import TicketBackend
from hub.contract import Connector, Incoming
from hub.documents import State
from hub.inbox_writer import Overloaded
from hub.retry import backoff_s
from hub.store.interface import LaneLease, Store, StoreError
from normalizer.outcomes import Failure, Misconfigured
from normalizer.tickets import BackendEvent

log = structlog.get_logger(__name__)

LEASE_S = 10.0
BACKEND_POLL_S = 20.0

TakeIn = Callable[..., Awaitable[str]]
BackendSaid = Callable[[str, Sequence[BackendEvent]], Awaitable[None]]


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
        self._hints: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def open(self, connectors: Sequence[Connector[Any]], backends: Sequence[TicketBackend]) -> None:
        for connector in connectors:
            name = f"{connector.account.channel}:{connector.account.key}"
            if connector.polls():
                self._hints[name] = asyncio.Event()
                self._keep(f"poll/{name}", name, connector, self._poll_for_ever)
            if connector.holds():
                self._keep(f"hold/{name}", name, connector, self._hold_once)
        for backend in backends:
            if type(backend).poll is not TicketBackend.poll:
                self._keep(f"backend/{backend.name}", backend.name, backend, self._poll_backend)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hint(self, connector: Connector[Any]) -> None:
        """A webhook said that there is something to fetch: poll now."""
        name = f"{connector.account.channel}:{connector.account.key}"
        if name in self._hints:
            self._hints[name].set()

    # --- leases --------------------------------------------------------------------------------

    def _keep(
        self, lane: str, name: str, what: Any, run: Callable[[str, Any], Awaitable[None]]
    ) -> None:
        self._tasks.append(
            asyncio.create_task(self._lead(f"door:{lane}", name, what, run), name=lane)
        )

    async def _lead(
        self, lane: str, name: str, what: Any, run: Callable[[str, Any], Awaitable[None]]
    ) -> None:
        """Run a door while this process holds its lease; come back after any failure."""
        failures = 0
        while True:
            lease = await self._claim(lane)
            if lease is None:
                await asyncio.sleep(LEASE_S / 5)
                continue
            try:
                await self._while_leased(lease, run(name, what))
                failures = 0
            except Exception as error:  # noqa: BLE001 - a door's failure is shown and tried again
                failures += 1
                wait_s = backoff_s(failures)
                self._down(name, what, error, wait_s)
                await self._let_go(lease)
                await asyncio.sleep(wait_s)
            except asyncio.CancelledError:
                await self._let_go(lease)
                raise
            else:
                await self._let_go(lease)

    async def _claim(self, lane: str) -> LaneLease | None:
        try:
            leases = await self._store.lanes.claim([lane], self._owner, LEASE_S)
        except StoreError as error:
            log.debug("door_not_claimed", lane=lane, reason=str(error))
            return None
        return leases[0] if leases else None

    async def _let_go(self, lease: LaneLease) -> None:
        with suppress(StoreError):
            await self._store.lanes.release(lease)

    async def _while_leased(self, lease: LaneLease, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=LEASE_S / 3)
                if not task.done() and not await self._store.lanes.renew(lease, LEASE_S):
                    log.warning("door_lease_lost", lane=lease.lane)
                    return
            task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def _down(self, name: str, what: Any, error: Exception, wait_s: float) -> None:
        reason = error.reason if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
        log.warning("door_failed", name=name, reason=reason, next_try_s=round(wait_s, 1))
        kind = "backend" if isinstance(what, TicketBackend) else "account"
        state = "misconfigured" if isinstance(error, Misconfigured) else "down"
        self._states.set(kind, name, state, reason, next_try_s=wait_s)  # type: ignore[arg-type]

    # --- the doors -----------------------------------------------------------------------------

    async def _poll_for_ever(self, name: str, connector: Connector[Any]) -> None:
        account = connector.account
        hint = self._hints[name]
        while True:
            more = False
            if not self._busy() and self._switches.inbound(account.channel, account.key) != "off":
                cursor, rev = await self._cursor(f"cursor/poll/{name}")
                polled = await connector.poll(cursor)
                await self._deliver(connector, polled.items, "poll")
                if polled.cursor != cursor:
                    await self._set_cursor(f"cursor/poll/{name}", polled.cursor, rev)
                self._states.set("account", name, "ok", next_try_s=connector.poll_every_s)
                more = polled.more
            if not more:
                with suppress(TimeoutError):
                    async with asyncio.timeout(connector.poll_every_s):
                        await hint.wait()
                hint.clear()

    async def _hold_once(self, name: str, connector: Connector[Any]) -> None:
        key = f"cursor/hold/{name}"
        cursor, _ = await self._cursor(key)

        async def deliver(items: Sequence[Incoming], behind: str) -> None:
            await self._deliver(connector, items, "hold")
            _, rev = await self._cursor(key)
            await self._set_cursor(key, behind, rev)

        self._states.set("account", name, "ok")
        await connector.hold(cursor, deliver)

    async def _deliver(
        self, connector: Connector[Any], items: Sequence[Incoming], door: str
    ) -> None:
        """Make items durable, in order; wait as long as the database needs."""
        account = connector.account
        for item in items:
            while True:
                try:
                    await self._take_in(
                        account.channel,
                        account.key,
                        item.drafts,
                        door=door,
                        raw=item.raw,
                        may_spool=False,
                    )
                    break
                except Overloaded as error:
                    log.info("door_waits", account=account.key, reason=str(error))
                    await asyncio.sleep(1.0)

    async def _poll_backend(self, name: str, backend: TicketBackend) -> None:
        key = f"cursor/backend/{name}"
        while True:
            cursor, rev = await self._cursor(key)
            page = await backend.poll(cursor)
            if page.events:
                await self._backend_said(name, page.events)
            if page.cursor != (cursor or ""):
                await self._set_cursor(key, page.cursor, rev)
            self._states.set("backend", name, "ok", next_try_s=BACKEND_POLL_S)
            if not page.more:
                await asyncio.sleep(BACKEND_POLL_S)

    async def _cursor(self, key: str) -> tuple[str | None, int]:
        found = await self._state.get(key)
        return (found.value["cursor"], found.rev) if found else (None, 0)

    async def _set_cursor(self, key: str, cursor: str, rev: int) -> None:
        doc = State(id=key, value={"cursor": cursor}, rev=rev + 1)
        if rev == 0:
            await self._state.insert([doc])
        else:
            await self._state.swap(doc, {"rev": rev})
