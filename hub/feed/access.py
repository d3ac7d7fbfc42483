"""Who reads the feed, and what of it: rights of a key, and what a reader asks for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from functools import cached_property
from typing import Any

import msgspec

from hub.api.keys import ApiKey
from hub.documents import FeedRow
from hub.feed.patterns import wrong_pattern
from hub.planning.rules import Refusal

SCOPE = "feed:read"
MAX_PATTERNS = 50
_HASH_BYTES = 8


class Rights(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What a caller may read. ``types`` is None where the scope does not limit them."""

    caller: ApiKey
    types: tuple[str, ...] | None = None

    @cached_property
    def _types(self) -> re.Pattern[str] | None:
        return None if self.types is None else re.compile(globs(self.types))

    def may_be_seen(self, row: FeedRow) -> bool:
        """Say whether the row's own fields speak against it; see also :meth:`sees`."""
        if self._types is not None and not self._types.match(row.type):
            return False
        if not self.caller.limited:
            return True
        if row.account:
            return self.caller.sees(row.channel, row.account)
        return row.conversation is not None and not row.type.startswith("customer.")

    def sees(self, row: FeedRow, conversations: Collection[str]) -> bool:
        """Decide about a row that may be seen: one without an account has its conversation's.

        ``conversations`` are the ids of those that the caller may see.
        """
        return not self.caller.limited or bool(row.account) or row.conversation in conversations


class Selection(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What a reader asks for; part of its cursor, so that it cannot change half way."""

    types: tuple[str, ...] = ()
    channel: str = ""
    customer: str = ""

    @cached_property
    def digest(self) -> bytes:
        text = msgspec.json.encode([self.types, self.channel, self.customer])
        return hashlib.sha256(text).digest()[:_HASH_BYTES]

    @property
    def everything(self) -> bool:
        return not (self.types or self.channel or self.customer)

    @cached_property
    def _types(self) -> re.Pattern[str] | None:
        return re.compile(globs(self.types)) if self.types else None

    def admits(self, row: FeedRow, customers: frozenset[str]) -> bool:
        """Say whether a row is asked for; ``customers`` are all ids of ``customer``."""
        if self.channel and row.channel != self.channel:
            return False
        if self.customer and row.customer not in customers:
            return False
        return self._types is None or self._types.match(row.type) is not None

    def where(self, customers: frozenset[str]) -> dict[str, Any]:
        """Return the same as a condition of the store."""
        found: dict[str, Any] = {}
        if self.types:
            found["type"] = {"$regex": globs(self.types)}
        if self.channel:
            found["channel"] = self.channel
        if self.customer:
            found["customer"] = {"$in": sorted(customers)}
        return found


def globs(patterns: Iterable[str]) -> str:
    """Return one anchored regular expression for patterns like ``message.*``.

    A star stands for one word, the last one for all the rest: so no pattern can be made that
    takes long to compare.
    """
    return f"^(?:{'|'.join(map(_expression, patterns))})$"


def _expression(pattern: str) -> str:
    *words, last = pattern.split(".")
    first = ["[^.]*" if word == "*" else re.escape(word) for word in words]
    return r"\.".join([*first, ".*" if last == "*" else re.escape(last)])


def selection_of(types: str, channel: str, customer: str) -> Selection:
    """Read the filters of a request. Raises Refusal(400)."""
    patterns = sorted({each.strip() for each in types.split(",") if each.strip()})
    if len(patterns) > MAX_PATTERNS:
        raise _bad(f"types takes at most {MAX_PATTERNS} patterns")
    for pattern in patterns:
        if wrong := wrong_pattern(pattern):
            raise _bad(wrong)
    if customer and not customer.startswith("cus_"):
        raise _bad("customer is an id that starts with cus_")
    return Selection(types=tuple(patterns), channel=channel, customer=customer)


def rights_of(caller: ApiKey) -> Rights:
    """Return what a caller may read of the feed. Raises Refusal(403)."""
    types = sorted(
        scope.removeprefix(f"{SCOPE}:") for scope in caller.scopes if scope.startswith(f"{SCOPE}:")
    )
    unlimited = caller.allows(SCOPE)
    if not unlimited and not types:
        raise Refusal("forbidden", f"this needs the scope {SCOPE}, which {caller.name} lacks", 403)
    return Rights(caller=caller, types=None if unlimited else tuple(types))


def _bad(detail: str) -> Refusal:
    return Refusal("bad-request", detail, 400)
