"""What every value of the message model has in common."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

import msgspec


class Model(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An immutable value that is stored and sent.

    Made from the inside out, it cannot be part of a cycle: the garbage collector need not look.

    It grows by fields with defaults only; the type of a field never changes, so that a
    release reads the data of the one before it.
    """


class Role(StrEnum):
    """Who speaks in an entry."""

    CUSTOMER = "customer"
    AGENT = "agent"
    BOT = "bot"
    SYSTEM = "system"


class Direction(StrEnum):
    """Which way an entry goes, seen from the hub."""

    IN = "in"
    OUT = "out"
    INTERNAL = "internal"


class Trust(StrEnum):
    """How sure the hub is that an address belongs to somebody.

    Only ``attested`` (a signed login, a confirmed code, an agent's decision) links by
    itself; ``seen`` (a caller id, a sender field) and ``claimed`` (typed into a form)
    are suggestions for a person.
    """

    CLAIMED = "claimed"
    SEEN = "seen"
    ATTESTED = "attested"


def milliseconds(moment: datetime) -> datetime:
    """Return ``moment`` in UTC, cut to milliseconds: the resolution that is stored.

    Raises ``ValueError`` for a naive datetime, because its zone would be a guess.
    """
    if moment.tzinfo is None:
        raise ValueError("a naive datetime has no place in the model: give it a time zone")
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
