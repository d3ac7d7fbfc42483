"""A mail's tree of parts, as places in its bytes: nothing is copied and nothing decoded yet.

The standard library's parser tests every line against every boundary that is open, and calls
itself for each level: hostile mails take minutes or end in a RecursionError. Here boundaries are
searched for, level by level, and depth and number of parts are bounded before any work is done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from connectors.mail.reading.headers import Headers, Value, read_headers_of, read_value
from connectors.mail.reading.limits import MAX_BOUNDARIES, MAX_DEPTH, MAX_MIME_PARTS

_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,100}/[a-z0-9][a-z0-9!#$&^_.+-]{0,100}\Z")
_LOOKS_LIKE_BOUNDARY = re.compile(rb"(?:\A|\n)--([^\s-][^\r\n]{2,100}?)[ \t]*\r?\n")


class Node:
    """One part: its headers, its kind (``text/plain``), and where its body is."""

    __slots__ = ("body_at", "children", "content", "end", "headers", "kind", "path", "raw")

    def __init__(self, raw: bytes, headers: Headers, body_at: int, end: int, path: str) -> None:
        self.raw = raw
        self.headers = headers
        self.body_at = body_at
        self.end = end
        self.path = path  # "1.2", as IMAP counts
        self.children: list[Node] = []
        self.content = Value("", {})
        self.kind = "text/plain"

    @property
    def body(self) -> bytes:
        return self.raw[self.body_at : self.end]

    def walk(self) -> Iterator[Node]:
        """Yield this part and all below it, in reading order."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))


def _is_page(node: Node) -> bool:
    """Whether the body begins as a page of HTML does, and is no file."""
    if node.headers.value("content-disposition").what == "attachment":
        return False
    begin = node.raw[node.body_at : min(node.end, node.body_at + 2000)].lstrip()[:200].lower()
    return begin.startswith((b"<html", b"<!doctype html"))


class Structure:
    """The tree of a mail. ``left_out`` says that a limit kept some of it from being read."""

    def __init__(self, raw: bytes) -> None:
        self.notes: list[str] = []
        self.left_out = False
        self._count = 0
        start = len(raw) - len(raw.lstrip(b"\r\n"))
        if raw[start : start + 5] == b"From ":  # an mbox separator
            start = raw.find(b"\n", start) + 1 or len(raw)
        self.root = self._part(raw, start, len(raw), "", "text/plain", 0)

    def note(self, text: str) -> None:
        if text not in self.notes and len(self.notes) < 50:
            self.notes.append(text)

    def _part(self, raw: bytes, start: int, end: int, path: str, default: str, depth: int) -> Node:
        self._count += 1
        headers, body_at, whole = read_headers_of(raw, start, end)
        if not whole:
            self.note("headers were cut: too many or too long")
        node = Node(raw, headers, body_at, end, path)
        node.content = headers.value("content-type")
        first, blank, _ = node.content.what.partition(" ")
        if blank and _TYPE.match(first):  # `text/plain charset=gbk`: the semicolon is missing
            node.content = read_value(headers.raw("content-type").replace(b" ", b";", 1))
        node.kind = node.content.what
        if not node.kind:
            node.kind = default
        elif not _TYPE.match(node.kind):
            self.note("a content type that is none")
            node.kind = "text/plain" if node.kind == "text" else "application/octet-stream"
        if node.kind.startswith("multipart/"):
            self._multipart(node, depth)
        elif node.kind == "text/plain" and _is_page(node):
            self.note("HTML that says it is plain text")
            node.kind = "text/html"
        if not node.path and not node.children:
            node.path = "1"
        return node

    def _multipart(self, node: Node, depth: int) -> None:
        if depth >= MAX_DEPTH:
            self.note(f"parts are nested more than {MAX_DEPTH} deep")
            self.left_out = True
            node.kind = "application/octet-stream"
            return
        boundary = node.content.params.get("boundary", "").encode("utf-8", "replace")[:200]
        places = self._places(node, boundary) if boundary else []
        if not places:
            near = min(node.end, node.body_at + 65_536)
            guessed = _LOOKS_LIKE_BOUNDARY.search(node.raw, max(0, node.body_at - 1), near)
            if guessed is not None:
                self.note("a multipart whose boundary is missing or wrong")
                places = self._places(node, guessed[1].rstrip())
        if not places:
            self.note("a multipart without parts: read as text")
            node.kind = "text/html" if _is_page(node) else "text/plain"
            return
        default = "message/rfc822" if node.kind == "multipart/digest" else "text/plain"
        for number, (start, end) in enumerate(places, 1):
            if self._count >= MAX_MIME_PARTS:
                self.note(f"more than {MAX_MIME_PARTS} parts")
                self.left_out = True
                return
            path = f"{node.path}.{number}" if node.path else str(number)
            node.children.append(self._part(node.raw, start, end, path, default, depth + 1))

    def _places(self, node: Node, boundary: bytes) -> list[tuple[int, int]]:
        """Return where the parts between the lines of ``boundary`` begin and end.

        Parts behind the closing line are taken as well: some senders close too early.
        """
        raw, sign = node.raw, b"--" + boundary
        places: list[tuple[int, int]] = []
        begin: int | None = None
        at, looked = node.body_at, 0
        while len(places) <= MAX_MIME_PARTS:
            if at == node.body_at and raw.startswith(sign, at, node.end):
                found = at
            else:
                found = raw.find(b"\n" + sign, max(at - 1, node.body_at), node.end) + 1
                if not found:
                    break
            looked += 1
            if looked > MAX_BOUNDARIES:
                self.note("too many lines that look like a boundary")
                self.left_out = True
                break
            after = found + len(sign)
            line_end = raw.find(b"\n", after, node.end)
            line_end = node.end if line_end < 0 else line_end
            tail = raw[after : min(line_end, after + 80)].strip()
            if tail and not tail.startswith(b"--"):
                at = after
                continue
            if begin is not None:
                stop = found - 1
                stop -= stop > begin and raw[stop - 1 : stop] == b"\r"
                places.append((begin, max(stop, begin)))
            begin = None if tail else min(line_end + 1, node.end)
            at = max(line_end, after)
        if begin is not None and begin < node.end:
            places.append((begin, node.end))
        return places
