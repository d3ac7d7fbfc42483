"""Patterns of event types, as readers and scopes name them: ``message.*``, ``ticket.linked``."""

from __future__ import annotations

import re

_PATTERN = re.compile(r"(?=.{1,80}\Z)(?:\*|[a-z0-9_]+)(?:\.(?:\*|[a-z0-9_]+)){0,3}")
_VERSION = re.compile(r"v[0-9]+")
PREFIX = "omniline."
AREAS = frozenset(
    {"message", "note", "call", "customer", "consent", "conversation", "ticket", "account"}
)


def wrong_pattern(pattern: str) -> str:
    """Say why no event can ever match a pattern; "" if one may.

    A reader whose pattern matches nothing would wait for ever and think that all is quiet.
    """
    words = pattern.split(".")
    if _VERSION.fullmatch(words[-1]) or pattern.startswith(PREFIX):
        bare = words[:-1] if _VERSION.fullmatch(words[-1]) else words
        meant = ".".join(bare).removeprefix(PREFIX)
        return (
            f"types are named without the prefix {PREFIX} and the version: {meant or 'message.*'},"
            f" not {pattern}"
        )
    if pattern in AREAS:
        return f"no event is of the type {pattern}: {pattern}.* is all of its area"
    if not _PATTERN.fullmatch(pattern):
        return (
            "types are patterns like message.* or ticket.linked, separated by commas, without the"
            " prefix omniline. and the version"
        )
    return ""
