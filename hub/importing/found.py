"""What a source finds: pages of old messages, or why one could not be read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from normalizer.drafts import AnyDraft


class ImportProblem(Exception):
    """The import cannot go on; the message says why and what to do."""


class Unreadable(Exception):
    """One row or message cannot be read; the message says why and what to do, not what it said."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One old message, or why it could not be read (``failed``)."""

    place: str  # "line 12, byte 3456"
    channel: str = ""
    account: str = ""
    drafts: tuple[AnyDraft, ...] = ()
    raw: bytes = b""
    files: tuple[Path, ...] = ()  # to be attached to the first draft, a message
    failed: str = ""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Some of what a source holds. ``cursor`` leads behind it; ``done`` is in bytes or items."""

    found: tuple[Found, ...]
    cursor: str
    done: int = 0


class Source(Protocol):
    """Where old conversations come from."""

    name: str
    account: str  # channel:account; "" when each row names its own

    @property
    def settings(self) -> Mapping[str, Any]:
        """What makes the same source again."""
        ...

    @property
    def total(self) -> int | None:
        """How much there is, in what ``Page.done`` counts; None when nobody knows."""
        ...

    @property
    def ignored(self) -> frozenset[str]:
        """Fields that were met and are not read."""
        ...

    def pages(self, cursor: str | None) -> AsyncIterator[Page]:
        """Yield pages behind a cursor, oldest first. Raises ImportProblem."""
        ...
