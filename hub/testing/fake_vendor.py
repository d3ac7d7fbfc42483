"""A vendor that a test plays: what the contract needs of it to try polls, connections, sends.

A fake has to *check* what it is sent (token, signature, encoding, limits), else it proves
little.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar

import msgspec


class Mood(StrEnum):
    """How the vendor treats the next requests."""

    WELL = "well"
    REFUSES = "refuses"  # answers that this cannot be done, and does not do it
    SWALLOWS = "swallows"  # does it, and cuts the connection instead of answering
    AWAY = "away"  # takes nothing at the moment: a refused connection, a 503


class Got(msgspec.Struct, frozen=True, kw_only=True):
    """A message that the vendor took from us."""

    to: str
    text: str


class FakeVendor(abc.ABC):
    """Subclass it for your channel. ``settings`` are overrides that lead a connector to it.

    It counts its messages from its start, so that their ids are the same in every run: they
    end up in the golden file.
    """

    moods: ClassVar[frozenset[Mood]] = frozenset(Mood)  # those that it can play
    mood: Mood = Mood.WELL

    @property
    @abc.abstractmethod
    def settings(self) -> Mapping[str, Any]: ...

    async def says(self, text: str, *, who: str = "ann") -> None:
        """Let a customer write. Polls and held connections have to bring it."""
        raise NotImplementedError

    def got(self) -> Sequence[Got]:
        """Return what was sent to customers, in order."""
        return ()

    async def hang_up(self) -> None:
        """Cut every connection that is held, and take new ones."""
        raise NotImplementedError
