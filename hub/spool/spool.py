"""The spool as the hub sees it: appends share one fsync, and a drain keeps their order."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, TypeVarTuple

import structlog

from hub.spool.framing import frame_size
from hub.spool.journal import Journal
from hub.spool.records import Cipher, Record, SpoolError, alike

_log = structlog.get_logger(__name__)

_Result = TypeVar("_Result")
_Args = TypeVarTuple("_Args")

MiB = 1 << 20
GiB = 1 << 30


class Spool:
    """One process's journal, with what it has taken over from processes that died.

    All file work runs on one thread of the spool's own: writes, reads and deletions never
    overlap, and a busy default executor cannot hold up an acknowledgement.
    """

    def __init__(
        self, journal: Journal, *, seal: Cipher | None, group_bytes: int = 4 * MiB
    ) -> None:
        self._journal = journal
        self._seal = seal
        self._group_bytes = group_bytes
        self._io = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._waiting: list[_Call] = []
        self._unwritten = 0
        self._writer: asyncio.Task[None] | None = None
        self._draining = asyncio.Lock()
        self._closing = asyncio.Event()
        self._closed = False

    @classmethod
    def open(
        cls,
        root: Path,
        *,
        max_bytes: int,
        segment_bytes: int = 8 * MiB,
        reserve_bytes: int = 1 * GiB,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
        seal: Cipher | None = None,
        unseal: Cipher | None = None,
    ) -> Spool:
        """Make and lock this process's folder under `root`. Quick, but blocking: call it at start.

        `max_bytes` bounds what this process holds on the disk, adopted folders included;
        `reserve_bytes` is what must stay free on that disk. A segment is closed near
        `segment_bytes`. With `seal` every payload is stored sealed; `unseal` is its inverse.
        Raises `SpoolError` when the folder cannot be made or locked.
        """
        if seal is not None and unseal is None:
            raise ValueError("a spool that seals its payloads needs `unseal` to read them again")
        journal = Journal(
            root,
            max_bytes=max_bytes,
            segment_bytes=segment_bytes,
            reserve_bytes=reserve_bytes,
            free_bytes=free_bytes,
            sealed=seal is not None,
            unseal=unseal,
        )
        return cls(journal, seal=seal)

    async def adopt_dead(self) -> int:
        """Take over the folders of dead processes, oldest first; returns how many records came.

        They are drained before the process's own. A folder has one adopter at a time; if that one
        dies in turn, the next `adopt_dead` anywhere takes it. Never fails for what it finds in a
        folder: what cannot be read is set aside and logged.
        """
        self._require_open()
        return await self._run(self._journal.adopt_dead)

    async def append(self, records: Sequence[Record]) -> None:
        """Store the records, in order, and return when they are durable.

        Concurrent calls share one write and one fsync; records are kept in the order of the
        calls. Raises `SpoolFull` or another `SpoolError` with nothing of this call stored: do
        not acknowledge. A cancelled call may be stored or not.
        """
        self._require_open()
        if not records:
            return
        if self._seal is not None:
            records = [Record(id=r.id, payload=self._seal(r.payload)) for r in records]
        size = sum(frame_size(record) for record in records)
        call = _Call(records, size, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self._unwritten += len(records)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_groups(), name="spool-writer")
        await call.stored

    async def drain(
        self,
        deliver: Callable[[Sequence[Record]], Awaitable[None]],
        *,
        batch: int = 200,
        batch_bytes: int = 4 * MiB,
    ) -> int:
        """Hand everything to `deliver`, in order, until nothing is left; returns how many records.

        A batch holds at most `batch` records and `batch_bytes` of payload, or one record. It
        counts as delivered when `deliver` returned; if that raises, the exception passes on and
        this batch and all after it stay for the next drain. What is appended meanwhile is
        delivered after. A second drain waits for the first. Ends early when the spool is closed.
        Raises `OSError`, with nothing lost, when a file cannot be opened for now.
        """
        self._require_open()
        delivered = 0
        async with self._draining:
            while not self._closing.is_set():
                reader = await self._run(self._journal.open_oldest)
                if reader is None:
                    if self.pending == 0:
                        break
                    if self._writer is not None:
                        await asyncio.wait({self._writer})
                    continue
                while taken := await self._run(reader.take, batch, batch_bytes):
                    await deliver(taken.records)
                    reader.segment.passed(taken)
                    delivered += len(taken.records)
                    if self._closing.is_set() and reader.segment.left:
                        return delivered
                await self._run(self._journal.finish, reader.segment)
        return delivered

    async def close(self) -> None:
        """Finish the appends under way, let a drain end after its batch, and release every lock.

        An empty folder is removed; one that still holds records stays for the next process.
        """
        self._closing.set()
        if self._writer is not None:
            await asyncio.wait({self._writer})
        async with self._draining:
            if not self._closed:
                self._closed = True
                await self._run(self._journal.close)
                self._io.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _write_groups(self) -> None:
        try:
            while self._waiting:
                group = self._take_group()
                outcomes: Sequence[SpoolError | None] = alike(_INTERRUPTED, group)
                try:
                    outcomes = await self._run(self._journal.write, [c.records for c in group])
                except Exception as error:  # noqa: BLE001  (logged; whoever waits must be told)
                    _log.error("spool_write_failed", root=str(self._journal.root), exc_info=error)
                    outcomes = alike(SpoolError(f"the spool could not write: {error!r}"), group)
                finally:
                    self._settle(group, outcomes)
        finally:
            # Nobody is left waiting when the loop is torn down in the middle.
            self._settle(self._waiting, alike(_INTERRUPTED, self._waiting))
            self._waiting = []

    def _settle(self, calls: Sequence[_Call], outcomes: Sequence[SpoolError | None]) -> None:
        for call, outcome in zip(calls, outcomes, strict=True):
            self._unwritten -= len(call.records)
            if call.stored.done():
                continue
            if outcome is None:
                call.stored.set_result(None)
            else:
                call.stored.set_exception(outcome)

    def _take_group(self) -> list[_Call]:
        group = [self._waiting[0]]
        size = group[0].size
        for call in self._waiting[1:]:
            size += call.size
            if size > self._group_bytes:
                break
            group.append(call)
        del self._waiting[: len(group)]
        return group

    async def _run(self, work: Callable[[*_Args], _Result], *args: *_Args) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._io, work, *args)

    def _require_open(self) -> None:
        if self._closing.is_set():
            raise SpoolError("the spool is closed: this process is shutting down")

    @property
    def pending(self) -> int:
        """Records accepted and not yet delivered, those just being written included."""
        return self._unwritten + sum(segment.left for segment in self._journal.segments)

    @property
    def oldest_at(self) -> datetime | None:
        """When the oldest segment that still holds a record was begun; None when there is none."""
        held = (s.created_at for s in self._journal.segments if s.left)
        return next(held, None)

    @property
    def damaged(self) -> list[Path]:
        """The segments under this root that were set aside and wait for a person."""
        return sorted(self._journal.root.glob("*.damaged"))

    @property
    def bytes(self) -> int:
        """Bytes on the disk that count against the bound, adopted ones included."""
        return self._journal.size


@dataclass(slots=True)
class _Call:
    """One append that waits for its group."""

    records: Sequence[Record]
    size: int
    stored: asyncio.Future[None]


_INTERRUPTED = SpoolError("the write was interrupted: this process is shutting down")
