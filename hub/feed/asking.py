"""What a request to the feed asks for: filters, a cursor, and numbers."""

from __future__ import annotations

import msgspec
from aiohttp import web

from hub.feed.access import Rights, Selection, rights_of, selection_of
from hub.planning.rules import Refusal

FILTERS = ("types", "channel", "customer")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for what. ``cursor`` is its text, "" for none."""

    rights: Rights
    selection: Selection
    cursor: str


def asked(request: web.Request, *more: str, rights: Rights | None = None) -> Asked:
    """Read filters and cursor; ``more`` are the other parameters that the page knows.

    A misspelt filter would bring everything, so an unknown parameter is refused (400).
    """
    query = request.query
    known = (*FILTERS, "cursor", *more)
    for name in query:
        if name not in known:
            raise Refusal(
                "bad-request", f"unknown parameter {name}; there are {', '.join(known)}", 400
            )
        if len(query.getall(name)) > 1:
            raise Refusal("bad-request", f"{name} is given twice; commas separate types", 400)
    return Asked(
        rights=rights or rights_of(request["api_key"]),
        selection=selection_of(
            query.get("types", ""), query.get("channel", ""), query.get("customer", "")
        ),
        cursor=query.get("cursor", ""),
    )


def whole_number(request: web.Request, name: str, default: int, least: int, most: int) -> int:
    """Return a numeric parameter. Raises Refusal(400)."""
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 8 and least <= int(text) <= most):
        raise Refusal("bad-request", f"{name} is a whole number from {least} to {most}", 400)
    return int(text)
