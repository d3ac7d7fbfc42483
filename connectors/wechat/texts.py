"""Texts as WeChat takes them: 2048 bytes of UTF-8 in one message, cut between two graphemes."""

from __future__ import annotations

from normalizer.text import cut

MAX_BYTES = 2048  # of one text; bytes, not characters: an emoji has four
MAX_CHARS = 2400  # of one answer: five texts, as many as a window allows

_KEPT = frozenset("\n\t")


def clean(text: str) -> str:
    """Return a text without control characters, which could not be written as raw UTF-8."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(char for char in text if char >= " " or char in _KEPT)


def split(text: str, limit: int = MAX_BYTES) -> list[str]:
    """Return the text in pieces of at most ``limit`` bytes, which together are the text.

    A piece ends behind a line or a blank where there is one in its last quarter.
    """
    pieces = []
    while len(text.encode()) > limit:
        piece = _fitting(text, limit)
        pieces.append(piece)
        text = text[len(piece) :]
    return [*pieces, text] if text or not pieces else pieces


def _fitting(text: str, limit: int) -> str:
    """Return the longest start of at most ``limit`` bytes that ends between two graphemes."""
    most = len(text.encode()[:limit].decode("utf-8", "ignore"))
    piece = cut(text, most) or text[:most]
    for mark in ("\n", "。", " "):
        at = piece.rfind(mark)
        if at + 1 > len(piece) * 3 // 4:
            return cut(text, at + 1) or piece
    return piece
