"""When to say no: bounds that keep memory and disk finite without losing what was acknowledged.

Router lag never refuses a webhook, because vendors do not come back; it pauses polls and
refuses API writes, which do. Webhooks are refused only past the bound of the inbox or the
disk's reserve.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import structlog

from hub.clock import Clock
from hub.inbox_writer import InboxWriter, Overloaded
from hub.metrics import Metrics
from hub.store.interface import Store, StoreError

log = structlog.get_logger(__name__)

REFRESH_S = 1.0


class Overload:
    """Looks once a second; asking costs nothing."""

    def __init__(
        self,
        store: Store,
        writer: InboxWriter,
        clock: Clock,
        metrics: Metrics,
        data_dir: Path,
        *,
        lag_limit_s: float,
        max_items: int,
        max_bytes: int,
        disk_reserve: int,
    ) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._metrics = metrics
        self._data_dir = data_dir
        self._lag_limit_s = lag_limit_s
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._disk_reserve = disk_reserve
        self.lag_s = 0.0
        self.backlog = 0
        self.router_alive = False
        self.full: str | None = None

    async def watch(self) -> None:
        """Keep the figures fresh, for ever."""
        while True:
            try:
                await self.look()
            except StoreError as error:
                log.debug("backlog_not_readable", reason=str(error))
            except OSError as error:
                log.warning("disk_not_readable", reason=str(error))
            await asyncio.sleep(REFRESH_S)

    async def look(self) -> None:
        count, size, oldest = await self._store.inbox.backlog()
        _, self.router_alive = await self._store.router.holder()
        self.backlog = count
        age_s = (self._clock.now() - oldest).total_seconds() if oldest else 0.0
        self.lag_s = max(0.0, age_s)
        free = shutil.disk_usage(self._data_dir).free
        before = self.full
        if count >= self._max_items or size >= self._max_bytes:
            self.full = f"{count} items wait for the router"
        elif free < self._disk_reserve:
            self.full = (
                f"only {free} bytes are free on the disk of {self._data_dir}, fewer than"
                f" hub.disk_reserve_bytes ({self._disk_reserve})"
            )
        else:
            self.full = None
        if self.full and not before:
            log.error("intake_full", reason=self.full, advice="webhooks are refused until it ends")
        self._metrics.lag_seconds.set(self.lag_s)
        self._metrics.backlog.set(count)
        self._metrics.spooling.set(self._writer.spooling)

    @property
    def lagging(self) -> bool:
        """Whether polls pause and API writes are refused. Lag without any router does not count."""
        return self.router_alive and self.lag_s > self._lag_limit_s

    @property
    def busy(self) -> bool:
        return self.lagging or self._writer.spooling or self.full is not None

    def admit_webhook(self) -> None:
        """Raise Overloaded when even a vendor has to be refused."""
        if self.full is not None:  # log and /readyz say why; strangers learn nothing of the disk
            raise Overloaded("nothing more can be kept now: try again in a few minutes")

    def admit_write(self) -> None:
        """Raise Overloaded when whoever can come again should."""
        self.admit_webhook()
        if self._writer.spooling:
            raise Overloaded("the database cannot be reached: try again in a few seconds")
        if self.lagging:
            raise Overloaded(f"routing is {self.lag_s:.0f} s behind: try again in a few seconds")
