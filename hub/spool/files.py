"""Files and locks: what has to outlive a power cut, and who may touch what.

All of it blocks, and runs on the spool's one thread.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hub.spool.records import SpoolError


def write_all(descriptor: int, data: bytearray) -> None:
    """Write every byte: the system may take fewer at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def make_directory(path: Path) -> None:
    """Make it and its parents so that they outlive a power cut."""
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        fsync_directory(path.parent)


def fsync_directory(path: Path) -> None:
    """Make lasting which files are in it: a file's own fsync does not."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_lock(path: Path) -> int:
    """Open a lock file, made if need be, for the hub's user alone; nothing is locked yet."""
    # Open for writing: network file systems lock nothing else exclusively.
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def try_lock(descriptor: int) -> bool:
    """Lock it alone until it is closed or its process dies; False when somebody else has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def root_locked(root: Path, timeout: float = 10.0) -> Iterator[None]:
    """Alone among all processes on this root. Held for milliseconds, so 10 s means a stopped one"""
    lock = open_lock(root / "lock")
    try:
        give_up = time.monotonic() + timeout
        while not try_lock(lock):
            if time.monotonic() > give_up:
                raise SpoolError(
                    f"another process has held {root / 'lock'} for {timeout:.0f} s: find it with "
                    f"`fuser {root / 'lock'}` and end it"
                )
            time.sleep(0.01)
        yield
    finally:
        os.close(lock)
