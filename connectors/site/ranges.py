"""A part of a file: what browsers ask for when they play sounds and films.

Safari plays nothing from a server that answers a request for two bytes with the whole file.
One range is served; several at once, and what cannot be read, get the whole file (RFC 9110, 14.2).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web


class NothingThere(Exception):
    """The range begins behind the file's end: 416."""


def wanted(request: web.Request, size: int) -> tuple[int, int] | None:
    """Return the first byte that is asked for and the one behind the last; None: all of them.

    Raises :class:`NothingThere`.
    """
    try:
        asked = request.http_range
    except ValueError:
        return None
    if asked.start is None and asked.stop is None:
        return None
    start, stop, _ = asked.indices(size)
    if start >= stop:
        raise NothingThere
    return start, stop


async def within(chunks: AsyncIterator[bytes], start: int, stop: int) -> AsyncIterator[bytes]:
    """Yield the bytes from ``start`` up to ``stop`` of a stream, and read no further."""
    place = 0
    async for chunk in chunks:
        piece = chunk[max(0, start - place) : stop - place]
        place += len(chunk)
        if piece:
            yield piece
        if place >= stop:
            return
