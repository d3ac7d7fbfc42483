"""What goes into the spool, and how it says that it cannot take it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

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


def alike(error: SpoolError, calls: Sequence[object]) -> list[SpoolError | None]:
    """The same failure for every call, each with an exception (and so a traceback) of its own."""
    return [type(error)(*error.args) for _ in calls]
