"""The spool: a local journal on disk that stands in for the inbox while MongoDB cannot commit.

    async with Spool.open(data_dir / "spool", max_bytes=1 << 30) as spool:
        await spool.adopt_dead()          # what processes that died have left behind ...
        await spool.drain(store)          # ... goes to the inbox before any door opens
        ...
        await spool.append([record])      # returns when it is on the disk: acknowledge now

What `append` accepted survives the death of the process, not the loss of the disk. It is handed to
`drain` in the order of the appends, at least once: after a crash some records come again, with the
ids they had, and the inbox drops those it knows.

On the disk::

    ROOT/lock                               held for moments, while folders are made, taken, removed
    ROOT/1735689600000-5f0c9a1e/            one folder per process; the names sort by age
        lock                                held as long as the folder's owner lives
        00000001.seg 00000002.seg ...       records, in order
    ROOT/1735689600000-5f0c9a1e-00000001.damaged    set aside for a person

A segment is one header and then frames (big-endian)::

    header  magic 8 | version 2 | flags 2 | created, ms since 1970 8 | salt 16 | crc32 4
    frame   marker 4 | id length 1 | payload length 4 | crc32 of these 4 | id | payload | digest 8

Both checks of a frame are keyed with the segment's random salt and the frame's own offset, so that
after damage the next frame is found with certainty: bytes that a stranger sent inside a payload, or
an old copy of a frame elsewhere, cannot pass for one.

A `.damaged` file is a segment as it was found; what could be read of it has been delivered. After
a repair (of the file, or of the key that opens it) put it back as FOLDER/NUMBER.seg: the next start
reads it again, and what the inbox has already is dropped there.
"""

import asyncio
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import struct
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeVar, TypeVarTuple

import structlog
from msgspec import Struct

_log = structlog.get_logger(__name__)

_Result = TypeVar("_Result")
_Args = TypeVarTuple("_Args")

MiB = 1 << 20
GiB = 1 << 30

Cipher = Callable[[bytes], bytes]
"""Seals or unseals one payload; raises whatever it likes when it cannot."""


class SpoolError(Exception):
    """The spool could not do what was asked; nothing of the call counts as stored."""


class SpoolFull(SpoolError):
    """The spool's bound or the disk's reserve is reached; nothing of the call is stored."""


class Record(Struct, frozen=True, kw_only=True):
    """One inbox item on its way: the id it got on arrival, kept for ever, and its bytes."""

    id: str
    payload: bytes


class Spool:
    """One process's journal, with what it has taken over from processes that died.

    All file work runs on one thread of the spool's own: writes, reads and deletions never
    overlap, and a busy default executor cannot hold up an acknowledgement.
    """

    def __init__(
        self, journal: "_Journal", *, seal: Cipher | None, group_bytes: int = 4 * MiB
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
    ) -> "Spool":
        """Make and lock this process's folder under `root`. Quick, but blocking: call it at start.

        `max_bytes` bounds what this process holds on the disk, adopted folders included;
        `reserve_bytes` is what must stay free on that disk. A segment is closed near
        `segment_bytes`. With `seal` every payload is stored sealed; `unseal` is its inverse.
        Raises `SpoolError` when the folder cannot be made or locked.
        """
        if seal is not None and unseal is None:
            raise ValueError("a spool that seals its payloads needs `unseal` to read them again")
        journal = _Journal(
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
        size = sum(_frame_size(record) for record in records)
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
                outcomes: Sequence[SpoolError | None] = _alike(_INTERRUPTED, group)
                try:
                    outcomes = await self._run(self._journal.write, [c.records for c in group])
                except Exception as error:  # noqa: BLE001  (logged; whoever waits must be told)
                    _log.error("spool_write_failed", root=str(self._journal.root), exc_info=error)
                    outcomes = _alike(SpoolError(f"the spool could not write: {error!r}"), group)
                finally:
                    self._settle(group, outcomes)
        finally:
            # Nobody is left waiting when the loop is torn down in the middle.
            self._settle(self._waiting, _alike(_INTERRUPTED, self._waiting))
            self._waiting = []

    def _settle(self, calls: Sequence["_Call"], outcomes: Sequence[SpoolError | None]) -> None:
        for call, outcome in zip(calls, outcomes, strict=True):
            self._unwritten -= len(call.records)
            if call.stored.done():
                continue
            if outcome is None:
                call.stored.set_result(None)
            else:
                call.stored.set_exception(outcome)

    def _take_group(self) -> list["_Call"]:
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


def _alike(error: SpoolError, calls: Sequence[object]) -> list[SpoolError | None]:
    """The same failure for every call, each with an exception (and so a traceback) of its own."""
    return [type(error)(*error.args) for _ in calls]


class _Batch(NamedTuple):
    records: list[Record]
    end: int


# --- segments and folders: everything below is synchronous and runs on the spool's one thread -----


class _Journal:
    """The folders and segments of one process.

    `segments` is replaced, never changed in place: the event loop reads it while the thread works.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_bytes: int,
        segment_bytes: int,
        reserve_bytes: int,
        free_bytes: Callable[[Path], int],
        sealed: bool,
        unseal: Cipher | None,
    ) -> None:
        self.root = root
        self.segments: tuple[_Segment, ...] = ()
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._reserve_bytes = reserve_bytes
        self._free_bytes = free_bytes
        self._sealed = sealed
        self._unseal = unseal
        self._number = 0
        self._active: _Active | None = None
        try:
            _make_directory(root)
            with _root_locked(root):
                self._folder = _Folder.make(root)
            _fsync_directory(root)
        except OSError as error:
            raise SpoolError(
                f"cannot make a spool folder in {root}: {error.strerror or error}. The hub needs a "
                "writable folder there, on a file system with file locks"
            ) from error

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self.segments)

    # Writing

    def write(self, calls: Sequence[Sequence[Record]]) -> list[SpoolError | None]:
        """Store the calls that fit with one write and one fsync; one outcome per call."""
        try:
            outcomes = self._choose(calls)
            records = [
                r for c, refused in zip(calls, outcomes, strict=True) if not refused for r in c
            ]
            if records:
                self._store(records)
        except OSError as error:
            return _alike(self._failure(error), calls)
        return outcomes

    def _choose(self, calls: Sequence[Sequence[Record]]) -> list[SpoolError | None]:
        """Refuse the calls that would pass the bound or eat into the disk's reserve."""
        held = self.size + _HEADER.size
        free = self._free_bytes(self.root)
        outcomes: list[SpoolError | None] = []
        for call in calls:
            size = sum(_frame_size(record) for record in call)
            if held + size > self._max_bytes:
                outcomes.append(
                    SpoolFull(
                        f"the spool in {self.root} holds {self.size} of at most {self._max_bytes} "
                        "bytes. It empties itself when MongoDB commits again; until then requests "
                        "are refused"
                    )
                )
            elif free - size - _HEADER.size < self._reserve_bytes:
                outcomes.append(
                    SpoolFull(
                        f"the disk of {self.root} has {free} bytes free and {self._reserve_bytes} "
                        "are kept in reserve. Free some space, or bring MongoDB back"
                    )
                )
            else:
                held += size
                free -= size
                outcomes.append(None)
        return outcomes

    def _store(self, records: Sequence[Record]) -> None:
        size = sum(_frame_size(record) for record in records)
        if self._active and self._active.segment.size + size > self._segment_bytes:
            self._close_active()
        new = self._active is None
        segment = self._active.segment if self._active else self._new_segment()
        data = bytearray(segment.header.encode() if new else b"")
        start = 0 if new else segment.size
        for record in records:
            data += _encode_frame(record, segment.header.salt, start + len(data))
        active = self._active or _Active.create(segment)
        try:
            _write_all(active.descriptor, data)
            os.fsync(active.descriptor)
            if new:
                _fsync_directory(segment.folder.path)
        except OSError:
            self._undo(active, new=new)
            raise
        segment.size = start + len(data)
        segment.records += len(records)
        if new:
            self._active = active
            self.segments = (*self.segments, segment)

    def _new_segment(self) -> "_Segment":
        # A number is never used twice, so that a file that could not be removed is in no one's way.
        self._number += 1
        path = self._folder.path / f"{self._number:08d}.seg"
        return _Segment(self._folder, path, _Header.fresh(sealed=self._sealed))

    def _undo(self, active: "_Active", *, new: bool) -> None:
        """Cut back what a failed write left, and write no further into that file.

        After a failed fsync the kernel may have dropped the pages and reports it only once: the
        next group starts a new segment.
        """
        try:
            if new:
                active.segment.path.unlink()
            else:
                os.ftruncate(active.descriptor, active.segment.size)
                os.fsync(active.descriptor)
        except OSError as error:
            # Harmless: a drain here reads no further than `size`, and a later adopter at worst
            # delivers something that was refused.
            _log.warning("spool_cut_failed", path=str(active.segment.path), error=str(error))
        with suppress(OSError):
            os.close(active.descriptor)
        self._active = None

    def _failure(self, error: OSError) -> SpoolError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return SpoolFull(f"the disk of {self.root} is full: free some space ({error})")
        _log.error("spool_write_failed", root=str(self.root), error=str(error))
        return SpoolError(f"cannot write to the spool in {self.root}: {error}. Check that disk")

    def _close_active(self) -> None:
        if self._active is not None:
            # All of it is fsynced already: nothing depends on what close says.
            with suppress(OSError):
                os.close(self._active.descriptor)
            self._active = None

    # Reading

    def open_oldest(self) -> "_Reader | None":
        """A reader for the oldest segment, which from now on is written no further."""
        if not self.segments:
            return None
        segment = self.segments[0]
        if self._active is not None and self._active.segment is segment:
            self._close_active()
        return _Reader(segment, self._unseal if segment.header.sealed else None)

    def finish(self, segment: "_Segment") -> None:
        """Forget a segment whose records are delivered; its file is deleted, or kept if damaged."""
        self.segments = tuple(s for s in self.segments if s is not segment)
        segment.dispose(self.root)
        folder = segment.folder
        if folder is not self._folder and all(s.folder is not folder for s in self.segments):
            self._remove(folder)

    # Folders

    def adopt_dead(self) -> int:
        with _root_locked(self.root):
            folders = [folder for path in _folders(self.root) if (folder := self._claim(path))]
        adopted = [segment for folder in folders for segment in self._adopt(folder)]
        self.segments = (*adopted, *self.segments)
        return sum(segment.records for segment in adopted)

    def _claim(self, path: Path) -> "_Folder | None":
        try:
            return _Folder.claim(path)
        except OSError as error:
            _log.error(
                "spool_folder_unreadable",
                path=str(path),
                error=str(error),
                remedy="left as it is; give it to the hub's user and restart",
            )
            return None

    def _adopt(self, folder: "_Folder") -> list["_Segment"]:
        try:
            found = folder.scan()
        except OSError as error:
            _log.error(
                "spool_folder_unreadable",
                path=str(folder.path),
                error=str(error),
                remedy="left as it is; a later start tries again",
            )
            folder.release()
            return []
        if self._unseal is None and any(s.header.sealed and s.records for s in found):
            _log.error(
                "spool_folder_sealed",
                path=str(folder.path),
                remedy="left as it is; start once with the encryption key to deliver it",
            )
            folder.release()
            return []
        for segment in found:
            if not segment.records:
                segment.dispose(self.root)
        kept = [segment for segment in found if segment.records]
        if kept:
            _log.info(
                "spool_folder_adopted",
                path=str(folder.path),
                records=sum(segment.records for segment in kept),
            )
        else:
            self._remove(folder)
        return kept

    def _remove(self, folder: "_Folder") -> None:
        try:
            with _root_locked(self.root):
                folder.remove()
        except (OSError, SpoolError) as error:
            _log.warning("spool_folder_not_removed", path=str(folder.path), error=str(error))
        finally:
            folder.release()

    def close(self) -> None:
        self._close_active()
        for segment in self.segments:
            if segment.folder is not self._folder:
                segment.folder.release()
        if any(segment.folder is self._folder for segment in self.segments):
            self._folder.release()
        else:
            self._remove(self._folder)


_FOLDER_NAME = re.compile(r"[0-9]{13}-[0-9a-f]{8}")
_SEGMENT_NAME = re.compile(r"[0-9]{8}\.seg")


def _folders(root: Path) -> list[Path]:
    """The processes' folders, oldest first."""
    return sorted(p for p in root.iterdir() if _FOLDER_NAME.fullmatch(p.name) and p.is_dir())


@dataclass(slots=True, eq=False)
class _Folder:
    """A process's folder and its lock. Made, claimed and removed under the root's lock only."""

    path: Path
    lock: int | None

    @classmethod
    def make(cls, root: Path) -> "_Folder":
        # Younger than every folder there, even if the clock was set back: names give the order.
        stamp = time.time_ns() // 1_000_000
        if existing := _folders(root):
            stamp = max(stamp, int(existing[-1].name[:13]) + 1)
        path = root / f"{stamp:013d}-{secrets.token_hex(4)}"
        path.mkdir(mode=0o700)
        folder = cls.claim(path)
        if folder is None:
            raise BlockingIOError(errno.EWOULDBLOCK, f"somebody else locked {path}")
        return folder

    @classmethod
    def claim(cls, path: Path) -> "_Folder | None":
        """The folder, locked; None when its owner lives."""
        lock = _open_lock(path / "lock")
        try:
            held = _try_lock(lock)
        except OSError:
            os.close(lock)
            raise
        if held:
            return cls(path, lock)
        os.close(lock)
        return None

    def scan(self) -> list["_Segment"]:
        """All segments, oldest first, with their records counted and their damage noted."""
        paths = sorted(p for p in self.path.iterdir() if _SEGMENT_NAME.fullmatch(p.name))
        return [_Segment.scan(self, path, last=path is paths[-1]) for path in paths]

    def remove(self) -> None:
        (self.path / "lock").unlink(missing_ok=True)
        self.path.rmdir()

    def release(self) -> None:
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None


class _Active(NamedTuple):
    """The segment that is being written."""

    segment: "_Segment"
    descriptor: int

    @classmethod
    def create(cls, segment: "_Segment") -> "_Active":
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        return cls(segment, os.open(segment.path, flags, 0o600))


@dataclass(slots=True, eq=False)
class _Segment:
    """One file of records, how far it has been delivered, and what is wrong with it.

    `size` is how many bytes of the file are known to be good, or, of an adopted one, all of them.
    """

    folder: _Folder
    path: Path
    header: "_Header"
    size: int = 0
    records: int = 0
    last: bool = False
    delivered: int = 0
    position: int = field(default_factory=lambda: _HEADER.size)
    damage: dict[int, str] = field(default_factory=dict)

    @classmethod
    def scan(cls, folder: _Folder, path: Path, *, last: bool) -> "_Segment":
        """An adopted segment. `last`: its writer may have died in the middle of a write."""
        segment = cls(folder, path, _Header.none(), size=path.stat().st_size, last=last)
        data = segment.load()
        header = _Header.decode(data)
        if header is not None:
            segment.header = header
            segment.records = sum(1 for _ in segment.read(data, _HEADER.size))
        elif last and not segment.damage and (len(data) < _HEADER.size or not data.strip(b"\0")):
            segment._cut(0)
        else:
            segment.note_damage(0, f"the first {_HEADER.size} bytes are no header of this format")
        return segment

    @property
    def left(self) -> int:
        return self.records - self.delivered

    @property
    def created_at(self) -> datetime:
        return datetime.fromtimestamp(self.header.created_ms / 1000, UTC)

    def load(self) -> bytes:
        try:
            return self.path.read_bytes()[: self.size]
        except OSError as error:
            # Only what is surely about this file; too many open files, say, passes by itself.
            if error.errno not in (errno.EIO, errno.ENOENT):
                raise
            self.note_damage(0, f"the file cannot be read: {error.strerror}")
            return b""

    def read(self, data: bytes, position: int) -> Iterator["_Frame"]:
        """The sound frames from `position` on; what is between them is noted as damage."""
        for frame in _decode_frames(data, self.header.salt, position):
            if frame.record is not None:
                yield frame
            elif frame.torn and self.last:
                self._cut(frame.start)
            else:
                self.note_damage(frame.start, f"{frame.end - frame.start} bytes are unreadable")

    def passed(self, batch: _Batch) -> None:
        self.position = batch.end
        self.delivered += len(batch.records)

    def note_damage(self, offset: int, what: str) -> None:
        if offset not in self.damage:
            self.damage[offset] = what
            _log.error("spool_segment_damaged", path=str(self.path), offset=offset, what=what)

    def _cut(self, offset: int) -> None:
        if self.size > offset:
            _log.warning(
                "spool_tail_cut",
                path=str(self.path),
                offset=offset,
                bytes=self.size - offset,
                meaning="the process died while it wrote this; it was never acknowledged",
            )
            self.size = offset

    def dispose(self, root: Path) -> None:
        """Delete the file, or set it aside if there is something in it that a person should see."""
        try:
            if not self.damage:
                self.path.unlink(missing_ok=True)
                return
            aside = root / f"{self.folder.path.name}-{self.path.stem}.damaged"
            self.path.rename(aside)
            _log.error(
                "spool_segment_set_aside",
                path=str(aside),
                offsets=sorted(self.damage),
                delivered=self.delivered,
                remedy=f"everything readable was delivered; repair it, move it back to {self.path} "
                "and restart, or delete it",
            )
        except OSError as error:
            # What is in it was delivered; the next process that adopts it delivers it once more.
            _log.error("spool_segment_not_removed", path=str(self.path), error=str(error))


class _Reader:
    """Reads one segment in batches, from where the last drain stopped."""

    def __init__(self, segment: _Segment, unseal: Cipher | None) -> None:
        self.segment = segment
        self._unseal = unseal
        self._frames = segment.read(segment.load(), segment.position)
        self._next = self._advance()

    def take(self, count: int, size: int) -> _Batch | None:
        """The next records: at most `count`, at most `size` bytes of payload, but at least one."""
        records: list[Record] = []
        end = 0
        while self._next is not None and len(records) < max(count, 1):
            record, next_end = self._next
            size -= len(record.payload)
            if records and size < 0:
                break
            records.append(record)
            end = next_end
            self._next = self._advance()
        return _Batch(records, end) if records else None

    def _advance(self) -> tuple[Record, int] | None:
        for frame in self._frames:
            if frame.record is None or self._unseal is None:
                return (frame.record, frame.end) if frame.record else None
            try:
                payload = self._unseal(frame.record.payload)
            except Exception as error:  # noqa: BLE001  (ciphers raise what they like; it is logged)
                what = f"{frame.record.id} cannot be decrypted: {type(error).__name__}"
                self.segment.note_damage(frame.start, what)
                continue
            return Record(id=frame.record.id, payload=payload), frame.end
        return None


# --- the bytes of a segment -----------------------------------------------------------------------

_MAGIC = b"OMNSPOOL"
_VERSION = 1
_FLAG_SEALED = 1
_HEADER: struct.Struct = struct.Struct(">8sHHQ16sI")

_MARKER = b"\xf5rec"
_HEAD = struct.Struct(">4sBII")
_DIGEST_SIZE = 8
_MAX_ID = 255
_MAX_PAYLOAD = 1 * GiB


class _Header(NamedTuple):
    sealed: bool
    created_ms: int
    salt: bytes

    @classmethod
    def fresh(cls, *, sealed: bool) -> "_Header":
        return cls(sealed, time.time_ns() // 1_000_000, secrets.token_bytes(16))

    @classmethod
    def none(cls) -> "_Header":
        """Stands for a header that could not be read."""
        return cls(False, 0, b"")

    def encode(self) -> bytes:
        flags = _FLAG_SEALED if self.sealed else 0
        head = _HEADER.pack(_MAGIC, _VERSION, flags, self.created_ms, self.salt, 0)[:-4]
        return head + struct.pack(">I", zlib.crc32(head))

    @classmethod
    def decode(cls, data: bytes) -> "_Header | None":
        """None unless this is a whole and sound header of a version that can be read here."""
        if len(data) < _HEADER.size:
            return None
        magic, version, flags, created_ms, salt, crc = _HEADER.unpack_from(data)
        if crc != zlib.crc32(data[: _HEADER.size - 4]) or magic != _MAGIC or version != _VERSION:
            return None
        return cls(bool(flags & _FLAG_SEALED), created_ms, salt)


class _Frame(NamedTuple):
    """A record and where it lies; or a gap without one, which is `torn` when the file ends in it"""

    start: int
    end: int
    record: Record | None
    torn: bool = False


def _frame_size(record: Record) -> int:
    """Bytes the record takes on the disk. Raises `ValueError` for one that has no frame."""
    id_size = len(record.id.encode())
    if not 0 < id_size <= _MAX_ID:
        raise ValueError(f"a record's id has 1 to {_MAX_ID} bytes, this one {id_size}")
    if len(record.payload) > _MAX_PAYLOAD:
        raise ValueError(
            f"{record.id}: a payload has at most {_MAX_PAYLOAD} bytes, this one "
            f"{len(record.payload)}"
        )
    return _HEAD.size + id_size + len(record.payload) + _DIGEST_SIZE


def _encode_frame(record: Record, salt: bytes, offset: int) -> bytes:
    body = record.id.encode() + record.payload
    sizes = _HEAD.pack(_MARKER, len(body) - len(record.payload), len(record.payload), 0)[:-4]
    head = sizes + struct.pack(">I", _head_crc(sizes, salt, offset))
    return head + body + _digest(head + body, salt, offset)


def _decode_frames(data: bytes, salt: bytes, position: int) -> Iterator[_Frame]:
    """Every sound frame in order, and the gaps between them."""
    while position < len(data):
        frame = _decode_frame(data, salt, position)
        if frame is None:
            end = _next_sound_frame(data, salt, position)
            # A file that grew before its bytes reached the disk ends in zeros after a power cut.
            torn = end == len(data) and not data[position:].strip(b"\0")
            frame = _Frame(position, end, None, torn)
        yield frame
        position = frame.end


def _decode_frame(data: bytes, salt: bytes, start: int) -> _Frame | None:
    """The frame at `start`, sound or not; None when its sizes cannot be trusted."""
    body = start + _HEAD.size
    if body > len(data):
        return _Frame(start, len(data), None, torn=True)
    marker, id_size, payload_size, crc = _HEAD.unpack_from(data, start)
    if marker != _MARKER or crc != _head_crc(data[start : body - 4], salt, start):
        return None
    end = body + id_size + payload_size + _DIGEST_SIZE
    if end > len(data):
        return _Frame(start, len(data), None, torn=True)
    if data[end - _DIGEST_SIZE : end] != _digest(data[start : end - _DIGEST_SIZE], salt, start):
        return _Frame(start, end, None)
    payload = body + id_size
    record = Record(id=data[body:payload].decode(), payload=data[payload : end - _DIGEST_SIZE])
    return _Frame(start, end, record)


def _next_sound_frame(data: bytes, salt: bytes, position: int) -> int:
    """Where the next frame that passes both checks begins; the end of the data if none does."""
    while (position := data.find(_MARKER, position + 1)) != -1:
        frame = _decode_frame(data, salt, position)
        if frame is not None and frame.record is not None:
            return position
    return len(data)


def _head_crc(sizes: bytes, salt: bytes, offset: int) -> int:
    """Guards the sizes, so that a damaged body is stepped over and the search for a frame hashes
    nothing that merely looks like one."""
    return zlib.crc32(sizes, zlib.crc32(salt + offset.to_bytes(8)))


def _digest(frame: bytes, salt: bytes, offset: int) -> bytes:
    key = salt + offset.to_bytes(8)
    return hashlib.blake2b(frame, digest_size=_DIGEST_SIZE, key=key).digest()


# --- files ----------------------------------------------------------------------------------------


def _write_all(descriptor: int, data: bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _make_directory(path: Path) -> None:
    """Make it and its parents so that they outlive a power cut."""
    if not path.is_dir():
        _make_directory(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        _fsync_directory(path.parent)


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    # Open for writing: network file systems lock nothing else exclusively.
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _root_locked(root: Path, timeout: float = 10.0) -> Iterator[None]:
    """Alone among all processes on this root. Held for milliseconds, so 10 s means a stopped one"""
    lock = _open_lock(root / "lock")
    try:
        give_up = time.monotonic() + timeout
        while not _try_lock(lock):
            if time.monotonic() > give_up:
                raise SpoolError(
                    f"another process has held {root / 'lock'} for {timeout:.0f} s: find it with "
                    f"`fuser {root / 'lock'}` and end it"
                )
            time.sleep(0.01)
        yield
    finally:
        os.close(lock)
