"""The numbered steps of the data flow, each a place where a test can stop the process.

In production :func:`reached` does nothing. ``OMNILINE_STOP_AT=router.3:2`` kills the process
without any clean-up the second time it reaches that step, as a crash would; tests in one
process put a function into ``watchers``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

STEPS = {
    "intake.1": "the request was verified",
    "intake.2": "it was parsed",
    "intake.3": "it is in the inbox or the spool",
    "intake.4": "it is about to be acknowledged",
    "doors.1": "polled or held items are in the inbox, the cursor behind them is not stored",
    "spool.1": "a record is in the spool",
    "spool.2": "drained records are in the inbox, and still in the spool",
    "router.1": "items were read from the inbox",
    "router.2": "they were normalized",
    "router.3": "they were planned",
    "router.4": "the transaction is written, not committed",
    "router.5": "the transaction is committed",
    "import.1": "a page of an import is in the inbox, its cursor is not stored",
    "import.2": "the cursor behind a page of an import is stored",
    "jobs.1": "a lane was claimed",
    "jobs.2": "the job is marked as being sent",
    "jobs.3": "the outside has done it",
    "jobs.4": "the outcome is kept in the job",
    "jobs.5": "the outcome's item is in the inbox",
    "jobs.6": "the job is done",
    "media.1": "a file is fetched, and nowhere yet",
    "media.2": "it was sniffed and scanned",
    "media.3": "a picture was re-encoded",
    "media.4": "what is kept is in the blob store, and no entry names it yet",
    "sweep.1": "a blob that nothing names is doomed, and still there",
    "sweep.2": "it is gone, its row is still there",
}

watchers: dict[str, Callable[[], None]] = {}


def reached(step: str) -> None:
    """Say that a step was reached."""
    if watchers and (watcher := watchers.get(step)) is not None:
        watcher()


def _arm_from_environment() -> None:
    wanted = os.environ.get("OMNILINE_STOP_AT")
    if not wanted:
        return
    step, _, count = wanted.partition(":")
    if step not in STEPS:
        raise SystemExit(f"OMNILINE_STOP_AT names no step: {step}; known: {', '.join(STEPS)}")
    left = int(count or 1)

    def stop() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    watchers[step] = stop


_arm_from_environment()
