"""One mongod process: alive or gone, its signals, its arguments, its last words."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import select
import signal
import subprocess
from pathlib import Path
from typing import Any

KILL_SECONDS = 5.0
EXIT_SECONDS = 10.0
POLL_SECONDS = 0.2


class ServerProcess:
    """A mongod on our folder: our own child, or one adopted from an owner that was killed."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        self._child = child
        self._owner = os.getpid()
        self._pidfd: int | None = None
        if hasattr(os, "pidfd_open"):
            try:
                self._pidfd = os.pidfd_open(pid)
            except OSError as exc:
                if exc.errno not in (errno.ENOSYS, errno.EPERM, errno.ESRCH):
                    raise

    @property
    def adopted(self) -> bool:
        return self._child is None

    @property
    def exit_code(self) -> int | None:
        return None if self._child is None else self._child.poll()

    def alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return bool(command_line(self.pid))

    async def exited(self) -> None:
        """Return when the process is gone."""
        if self._pidfd is None:
            while self.alive():  # noqa: ASYNC110 - nothing in this process could set an event
                await asyncio.sleep(POLL_SECONDS)
            return
        # A descriptor of its own: a loop takes one reader for each.
        descriptor = os.dup(self._pidfd)
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        loop.add_reader(descriptor, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        if self._child is not None:
            self._child.wait()

    def send(self, number: signal.Signals) -> None:
        try:
            if self._child is not None:
                self._child.send_signal(number)
            elif self._pidfd is not None:
                # Unlike a pid, it cannot have come to mean another process.
                signal.pidfd_send_signal(self._pidfd, number)
            elif self.alive():
                os.kill(self.pid, number)
        except ProcessLookupError:
            return

    def end_now(self) -> None:
        """Kill it and do not return before it is gone; for the paths that cannot wait politely."""
        self.send(signal.SIGKILL)
        if self._child is not None:
            self._child.wait()
        elif self._pidfd is not None:
            select.select([self._pidfd], [], [], KILL_SECONDS)

    def end_soon(self) -> None:
        """Stop it while the interpreter exits: politely for a while, and then at once."""
        if os.getpid() != self._owner:
            return
        self.send(signal.SIGTERM)
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(EXIT_SECONDS)
        elif self._pidfd is not None:
            select.select([self._pidfd], [], [], EXIT_SECONDS)
        self.end_now()

    def close(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def command_line(pid: int) -> list[str]:
    """Return a live process's arguments; nothing for one that is gone or a zombie."""
    proc = Path("/proc")
    if (proc / "self").exists():
        try:
            raw = (proc / str(pid) / "cmdline").read_bytes()
        except OSError:
            return []
        return [part.decode(errors="surrogateescape") for part in raw.split(b"\0") if part]
    done = subprocess.run(
        ["ps", "-o", "args=", "-p", str(pid)], capture_output=True, check=False, text=True
    )
    return done.stdout.split()


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def last_words(path: Path, start: int, count: int = 4) -> list[str]:
    """Return the last lines of mongod's log since `start` that say why: errors, or any."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start if start <= size else 0, size - 64 * 1024))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError as exc:
        return [f"(not readable: {exc.strerror})"]
    errors: list[str] = []
    others: list[str] = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            # Before its log is set up, and in a crash, mongod writes plain text.
            if line.strip():
                errors.append(line.strip()[:300])
            continue
        words = _entry_words(entry)
        (errors if entry.get("s") in ("E", "F") else others).append(words)
    return (errors or others)[-count:]


def _entry_words(entry: dict[str, Any]) -> str:
    attributes = entry.get("attr") or {}
    if isinstance(attributes.get("message"), dict):
        # WiredTiger's own messages come wrapped with their circumstances.
        attributes = attributes["message"]
    details = [
        str(attributes[key])
        for key in ("error", "errmsg", "message", "msg", "reason")
        if attributes.get(key)
    ]
    return ": ".join([str(entry.get("msg", "")), *details])[:400]
