"""The account's cursor: for each folder how far it was read, and which mails were set aside."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec
from msgspec.structs import replace

from normalizer.outcomes import Misconfigured

TRIES = 5  # of a mail that cannot be fetched, before it becomes a dead letter
MAX_GAPS = 500  # a folder with more has a trouble of its own


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far a folder was read. ``gaps`` are UIDs that failed, and how often.

    ``since`` is when the account was connected: what arrived before is history, which a folder
    that is numbered anew must not bring in. Up to ``doubtful`` that has to be looked at.
    """

    validity: int
    uid: int
    since: datetime
    doubtful: int = 0
    gaps: Mapping[str, int] = {}

    def passed(self, uid: int) -> Position:
        """Behind ``uid``, which is done."""
        gaps = {key: tries for key, tries in self.gaps.items() if key != str(uid)}
        return replace(self, uid=max(self.uid, uid), gaps=gaps)

    def failed(self, uid: int) -> Position:
        """One more failure of ``uid``; the position itself does not move."""
        tries = self.tries(uid) + 1
        return replace(self, gaps={**self.gaps, str(uid): tries})

    def set_aside(self, uid: int) -> Position:
        """Go on behind ``uid``, which is tried again later."""
        return replace(self, uid=max(self.uid, uid))

    def tries(self, uid: int) -> int:
        return self.gaps.get(str(uid), 0)

    @property
    def waiting(self) -> list[int]:
        """UIDs that were set aside, in order."""
        return sorted(int(key) for key in self.gaps if int(key) <= self.uid)


class Positions(msgspec.Struct, frozen=True, kw_only=True):
    """The cursor as a whole. Folders are named as the settings name them."""

    folders: Mapping[str, Position] = {}

    def at(self, folder: str) -> Position | None:
        return self.folders.get(folder)

    def moved(self, folder: str, position: Position) -> Positions:
        return Positions(folders={**self.folders, folder: position})

    def encode(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def decode(cls, cursor: str | None) -> Positions:
        if cursor is None:
            return cls()
        try:
            return msgspec.json.decode(cursor, type=cls)
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            raise Misconfigured(
                "the mailbox's stored position cannot be read: it was written by another release"
            ) from error
