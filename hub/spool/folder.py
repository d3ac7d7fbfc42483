"""A process's folder: made once, locked as long as its owner lives, taken over when it is dead."""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from hub.spool.files import open_lock, try_lock

_FOLDER_NAME = re.compile(r"[0-9]{13}-[0-9a-f]{8}")


def folders_in(root: Path) -> list[Path]:
    """The processes' folders, oldest first."""
    return sorted(p for p in root.iterdir() if _FOLDER_NAME.fullmatch(p.name) and p.is_dir())


@dataclass(slots=True, eq=False)
class Folder:
    """A process's folder and its lock. Made, claimed and removed under the root's lock only."""

    path: Path
    lock: int | None

    @classmethod
    def make(cls, root: Path) -> Folder:
        # Younger than every folder there, even if the clock was set back: names give the order.
        stamp = time.time_ns() // 1_000_000
        if existing := folders_in(root):
            stamp = max(stamp, int(existing[-1].name[:13]) + 1)
        path = root / f"{stamp:013d}-{secrets.token_hex(4)}"
        path.mkdir(mode=0o700)
        folder = cls.claim(path)
        if folder is None:
            raise BlockingIOError(errno.EWOULDBLOCK, f"somebody else locked {path}")
        return folder

    @classmethod
    def claim(cls, path: Path) -> Folder | None:
        """The folder, locked; None when its owner lives."""
        lock = open_lock(path / "lock")
        try:
            held = try_lock(lock)
        except OSError:
            os.close(lock)
            raise
        if held:
            return cls(path, lock)
        os.close(lock)
        return None

    def remove(self) -> None:
        (self.path / "lock").unlink(missing_ok=True)
        self.path.rmdir()

    def release(self) -> None:
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None
