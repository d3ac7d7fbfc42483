"""How many parts a text is billed as: GSM-7 or UCS-2, counted as the networks count.

GSM 03.38: 160 septets in one part, 153 in each of several (the rest is the header that joins
them); characters of the extension table take two septets. A single character outside both tables
turns the whole text to UCS-2: 70 units in one part, 67 in each of several, counted in UTF-16 code
units. Neither a two-septet character nor a surrogate pair is split between parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

GSM7 = "gsm7"
UCS2 = "ucs2"
_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("^{}\\[~]|€\f")
_ROOM = {GSM7: (160, 153), UCS2: (70, 67)}
_SHOWN = 10  # characters that are named as those that force UCS-2


class Segments(msgspec.Struct, frozen=True, kw_only=True):
    """What a text costs. ``units`` are septets or UTF-16 code units."""

    encoding: str  # "gsm7" or "ucs2"
    units: int
    parts: int
    left: int  # units that still fit into the last part
    forced_by: str = ""  # the first characters that are not in GSM 03.38


def segments(text: str) -> Segments:
    """Return encoding, units and parts of a text. Pure: show it while somebody types."""
    odd = [char for char in dict.fromkeys(text) if char not in _BASIC and char not in _EXTENSION]
    if odd:
        encoding, sizes = UCS2, [2 if ord(char) > 0xFFFF else 1 for char in text]
    else:
        encoding, sizes = GSM7, [2 if char in _EXTENSION else 1 for char in text]
    parts, left = _packed(sizes, *_ROOM[encoding])
    return Segments(
        encoding=encoding,
        units=sum(sizes),
        parts=parts,
        left=left,
        forced_by="".join(odd[:_SHOWN]),
    )


def _packed(sizes: Sequence[int], alone: int, each: int) -> tuple[int, int]:
    """Return the number of parts and the room left in the last one."""
    total = sum(sizes)
    if total <= alone:
        return (1 if sizes else 0), alone - total
    parts, used = 1, 0
    for size in sizes:
        if used + size > each:
            parts, used = parts + 1, 0
        used += size
    return parts, each - used
