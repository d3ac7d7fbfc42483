"""How an import stands, from the two records of it, and asking that it be taken back."""

from __future__ import annotations

from collections.abc import Collection

from hub.documents import ImportRollback, ImportRun
from hub.importing.taking import lane_of

INTERRUPTED = "the process that ran it ended: resume it"


def state_of(
    run: ImportRun, back: ImportRollback | None, leased: Collection[str]
) -> tuple[str, str]:
    """Return (state, reason): running, paused, done, failed, rolling-back or rolled-back."""
    if back is not None:
        return ("rolled-back" if back.state == "done" else "rolling-back"), ""
    if run.state == "running" and lane_of(run.id) not in leased:
        return "paused", INTERRUPTED
    return run.state, run.reason


def take_back_key(ident: str) -> str:
    """Return the key of the command that takes an import back: asking twice is harmless."""
    return f"import|{ident}|take back"
