"""Receipts are cumulative, so several become one: at most one push in a while, both ways."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from connectors.site.frames import Frame, ReceiptIn, ReceiptOut

log = structlog.get_logger(__name__)

_GATHER_S = 0.02  # one cumulative receipt touches many entries: their changes come together


def _later(a: str, b: str) -> str:
    """Return the higher place of two; the empty one is before all."""
    return max(a, b, key=lambda seq: int(seq or 0))


class ReceiptsIn:
    """What a visitor received and read: delivered at once, then at most every ``every_s``."""

    def __init__(self, every_s: float, deliver: Callable[[ReceiptIn], Awaitable[None]]) -> None:
        self._every_s = every_s
        self._deliver = deliver
        self._pending: dict[str, ReceiptIn] = {}
        self._task: asyncio.Task[None] | None = None

    async def add(self, receipt: ReceiptIn) -> None:
        held = self._pending.get(receipt.conversation_id)
        self._pending[receipt.conversation_id] = receipt if held is None else _merged(held, receipt)
        if self._task is None or self._task.done():
            await self._flush()
            self._task = asyncio.create_task(self._wait(), name="site-receipts")

    async def _wait(self) -> None:
        await asyncio.sleep(self._every_s)
        while self._pending:
            await self._flush_or_log()
            await asyncio.sleep(self._every_s)

    async def _flush(self) -> None:
        pending, self._pending = self._pending, {}
        for receipt in pending.values():
            await self._deliver(receipt)

    async def _flush_or_log(self) -> None:
        """Deliver; what fails is lost, because the next receipt says the same and more."""
        try:
            await self._flush()
        except Exception as error:  # noqa: BLE001 - nobody waits for this one
            log.info("receipt_lost", reason=f"{type(error).__name__}: {error}")

    async def close(self) -> None:
        """Deliver what is waiting."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._flush_or_log()


def _merged(a: ReceiptIn, b: ReceiptIn) -> ReceiptIn:
    return ReceiptIn(
        conversation_id=a.conversation_id,
        delivered_seq=_later(a.delivered_seq or "", b.delivered_seq or "") or None,
        read_seq=_later(a.read_seq or "", b.read_seq or "") or None,
    )


class ReceiptsOut:
    """What a client is told of receipts: gathered, at most one push every ``every_s``."""

    def __init__(self, every_s: float, push: Callable[[Frame], None]) -> None:
        self._every_s = every_s
        self._push = push
        self._pending: dict[tuple[str, str], ReceiptOut] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next_at = 0.0

    def add(self, receipt: ReceiptOut) -> None:
        key = (receipt.conversation_id, receipt.by)
        held = self._pending.get(key)
        if held is not None:
            receipt.delivered_seq = _later(held.delivered_seq, receipt.delivered_seq)
            receipt.read_seq = _later(held.read_seq, receipt.read_seq)
        self._pending[key] = receipt
        if self._timer is None:
            loop = asyncio.get_running_loop()
            wait_s = max(_GATHER_S, self._next_at - loop.time())
            self._timer = loop.call_later(wait_s, self.flush)

    def flush(self) -> None:
        """Push what is waiting: something that comes after it is about to be pushed."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        self._next_at = asyncio.get_running_loop().time() + self._every_s
        pending, self._pending = self._pending, {}
        for receipt in pending.values():
            self._push(receipt)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
