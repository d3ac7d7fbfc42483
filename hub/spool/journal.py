"""The folders and segments of one process: written in groups, read in order, adopted from the dead.

All of it blocks, and runs on the spool's one thread.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from hub.spool.files import fsync_directory, make_directory, root_locked, write_all
from hub.spool.folder import Folder, folders_in
from hub.spool.framing import HEADER_SIZE, Header, encode_frame, frame_size
from hub.spool.records import Cipher, Record, SpoolError, SpoolFull, alike
from hub.spool.segment import Active, Reader, Segment, scan

_log = structlog.get_logger(__name__)


class Journal:
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
        self.segments: tuple[Segment, ...] = ()
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._reserve_bytes = reserve_bytes
        self._free_bytes = free_bytes
        self._sealed = sealed
        self._unseal = unseal
        self._number = 0
        self._active: Active | None = None
        try:
            make_directory(root)
            with root_locked(root):
                self._folder = Folder.make(root)
            fsync_directory(root)
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
            return alike(self._failure(error), calls)
        return outcomes

    def _choose(self, calls: Sequence[Sequence[Record]]) -> list[SpoolError | None]:
        """Refuse the calls that would pass the bound or eat into the disk's reserve."""
        held = self.size + HEADER_SIZE
        free = self._free_bytes(self.root)
        outcomes: list[SpoolError | None] = []
        for call in calls:
            size = sum(frame_size(record) for record in call)
            if held + size > self._max_bytes:
                outcomes.append(
                    SpoolFull(
                        f"the spool in {self.root} holds {self.size} of at most {self._max_bytes} "
                        "bytes. It empties itself when MongoDB commits again; until then requests "
                        "are refused"
                    )
                )
            elif free - size - HEADER_SIZE < self._reserve_bytes:
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
        size = sum(frame_size(record) for record in records)
        if self._active and self._active.segment.size + size > self._segment_bytes:
            self._close_active()
        new = self._active is None
        segment = self._active.segment if self._active else self._new_segment()
        data = bytearray(segment.header.encode() if new else b"")
        start = 0 if new else segment.size
        for record in records:
            data += encode_frame(record, segment.header.salt, start + len(data))
        active = self._active or Active.create(segment)
        try:
            write_all(active.descriptor, data)
            os.fsync(active.descriptor)
            if new:
                fsync_directory(segment.folder.path)
        except OSError:
            self._undo(active, new=new)
            raise
        segment.size = start + len(data)
        segment.records += len(records)
        if new:
            self._active = active
            self.segments = (*self.segments, segment)

    def _new_segment(self) -> Segment:
        # A number is never used twice, so that a file that could not be removed is in no one's way.
        self._number += 1
        path = self._folder.path / f"{self._number:08d}.seg"
        return Segment(self._folder, path, Header.fresh(sealed=self._sealed))

    def _undo(self, active: Active, *, new: bool) -> None:
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

    def open_oldest(self) -> Reader | None:
        """A reader for the oldest segment, which from now on is written no further."""
        if not self.segments:
            return None
        segment = self.segments[0]
        if self._active is not None and self._active.segment is segment:
            self._close_active()
        return Reader(segment, self._unseal if segment.header.sealed else None)

    def finish(self, segment: Segment) -> None:
        """Forget a segment whose records are delivered; its file is deleted, or kept if damaged."""
        self.segments = tuple(s for s in self.segments if s is not segment)
        segment.dispose(self.root)
        folder = segment.folder
        if folder is not self._folder and all(s.folder is not folder for s in self.segments):
            self._remove(folder)

    # Folders

    def adopt_dead(self) -> int:
        with root_locked(self.root):
            folders = [folder for path in folders_in(self.root) if (folder := self._claim(path))]
        adopted = [segment for folder in folders for segment in self._adopt(folder)]
        self.segments = (*adopted, *self.segments)
        return sum(segment.records for segment in adopted)

    def _claim(self, path: Path) -> Folder | None:
        try:
            return Folder.claim(path)
        except OSError as error:
            _log.error(
                "spool_folder_unreadable",
                path=str(path),
                error=str(error),
                remedy="left as it is; give it to the hub's user and restart",
            )
            return None

    def _adopt(self, folder: Folder) -> list[Segment]:
        try:
            found = scan(folder)
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

    def _remove(self, folder: Folder) -> None:
        try:
            with root_locked(self.root):
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
