"""Thousands of bodies that no vendor sends, correctly signed, through a connector and the intake.

What an account of any channel has to survive: no answer of 5xx, nothing unhandled in the log, no
memory that grows; what was believed and cannot be read is acknowledged and kept as failed. Real
are the connector and the intake; the inbox counts what it is given and forgets it.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import structlog

from hub import Connector, Request
from hub.documents import InboxItem
from hub.inbox_writer import InboxWriter
from hub.intake import Intake
from hub.metrics import Metrics
from hub.testing import FakeClock, FakeServices

MOST_GROWTH = 20 * 1024 * 1024
_PAGE_BYTES = 4096
_LOUD = frozenset({"error", "critical"})

Signed = Callable[[int, bytes], Request]
"""Return the request with this body, as the vendor would sign it; the number counts from 0."""


class _Inbox:
    """Stands where the inbox writer is."""

    def __init__(self) -> None:
        self.kept: Counter[str] = Counter()

    async def put(self, item: InboxItem, *, may_spool: bool = True) -> None:
        if item.failed is None:
            self.kept["read"] += 1
            return
        assert item.raw or item.raw_blob, "what could not be read is not kept"
        assert item.failed.strip(), "nobody knows why"
        self.kept["failed"] += 1


async def survive(
    connector: Connector[Any], signed: Signed, bodies: Iterable[bytes], *, count: int
) -> Counter[str]:
    """Send ``count`` bodies; return how many were ``refused``, ``read`` and ``failed``.

    Fails at the first one that breaks something, and says which.
    """
    inbox, services = _Inbox(), FakeServices()
    intake = Intake(
        cast(InboxWriter, inbox), services.store.blobs, services.key, FakeClock(), Metrics()
    )
    told: Counter[str] = Counter()
    before = 0
    for number, body in enumerate(bodies):
        if number == count // 10:
            before = _resident()
        with structlog.testing.capture_logs() as logged:
            answer = await intake.webhook(connector, signed(number, body))
        shown = f"number {number}: {body[:300]!r} ({len(body)} bytes)"
        assert answer.status < 500, f"answered with {answer.status}: {shown}"
        loud = [each for each in logged if each["log_level"] in _LOUD]
        assert not loud, f"{loud}: {shown}"
        if answer.status >= 400:
            told["refused"] += 1
    grown = _resident() - before
    assert grown < MOST_GROWTH, f"memory grew by {grown >> 20} MB over {count} bodies"
    return told + inbox.kept


def _resident() -> int:
    """Return how much memory this process holds, in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE_BYTES
