"""What a plugin's ``scan_media`` answers.

The hook's ``file`` stands at its start and has no name on the disk; ``media`` has the name that
was given and the type that the bytes tell. What takes long belongs into a thread. Of several
scanners one that finds something decides. Raising or hanging leaves the file ``unscanned``, which
the timeline shows with a warning; with ``media.scan_required`` the file is held back and tried
again instead.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class ScanVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a scanner says: ``threat`` is its name for what it found."""

    state: Literal["clean", "infected"]
    threat: str = ""
