"""Undoing a part's Content-Transfer-Encoding, also where it is wrong, unknown or cut short."""

from __future__ import annotations

import binascii
import re

_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=\s]")
_INNER_BLANK = re.compile(rb"[A-Za-z0-9][ \t][A-Za-z0-9]")
_BASE64_LINE = re.compile(rb"^[A-Za-z0-9+/]{40,}={0,2}[ \t\r]*$", re.MULTILINE)
_PADDED = re.compile(rb"=[ \t]{1,80}\r?\n")
_QUOTED = re.compile(rb"=[0-9A-Fa-f]{2}|=\r?\n")
_AS_IT_IS = frozenset({"", "7bit", "8bit", "binary", "none", "plain", "text"})


def decoded(body: bytes, encoding: str, *, is_text: bool = False) -> tuple[bytes, str]:
    """Return the bytes of a body, and a note if the declared encoding was not true.

    ``is_text``: words that a server wrote behind the encoded ones are kept with them.
    """
    encoding = encoding.strip().strip("\"'").split(" ")[0].split(";")[0].lower()
    if encoding == "base64":
        if not _may_be_base64(body):
            return body, "a part says base64 and is not"
        end = _end_of_base64(body)
        if end == len(body):
            return _base64(body), ""
        below = b"\n" + body[end:] if is_text else b""
        return _base64(body[:end]) + below, "there are words behind a part's base64"
    if encoding in ("quoted-printable", "quoted_printable", "qp"):
        return _quoted_printable(body), ""
    if encoding in ("x-uuencode", "uuencode", "uue", "x-uue"):
        return _uuencoded(body)
    if encoding in _AS_IT_IS:
        return body, ""
    note = f"unknown transfer encoding {encoding[:40]!r}"
    sample = body[:4096]
    if _surely_base64(sample):
        return _base64(body), note
    if len(_QUOTED.findall(sample)) >= 2:
        return _quoted_printable(body), note
    return body, note


def _quoted_printable(body: bytes) -> bytes:
    """Decode also where a server put blanks behind a line that goes on (RFC 2045, 6.7)."""
    return binascii.a2b_qp(_PADDED.sub(b"=\n", body))


def _may_be_base64(body: bytes) -> bool:
    sample = body[:65_536]
    strange = len(_NOT_BASE64.findall(sample)) + len(_INNER_BLANK.findall(sample))
    # Garbage behind it does not make a first line of base64 into something else.
    return strange <= len(sample) // 50 or _surely_base64(body.lstrip()[:200].split(b"\n")[0])


def _surely_base64(sample: bytes) -> bool:
    lines = sample.split()
    return (
        bool(lines)
        and not _NOT_BASE64.search(sample)
        and not _INNER_BLANK.search(sample)
        and len(lines[0]) >= 16
        and len(lines[0]) % 4 == 0
    )


def _end_of_base64(body: bytes) -> int:
    """Return where something else begins: servers write notices below what is encoded."""
    first = _NOT_BASE64.search(body)
    blank = _INNER_BLANK.search(body)
    strange = min(found.start() for found in (first, blank) if found) if first or blank else -1
    begin = body.rfind(b"\n", 0, strange) + 1 if strange >= 0 else 0
    if not body[:begin].strip() or _BASE64_LINE.search(body, begin):
        return len(body)  # all of it, or some garbage in between
    padded = body.rfind(b"=", max(0, begin - 2000), begin)
    return body.find(b"\n", padded) + 1 if padded >= 0 else begin


def _base64(body: bytes) -> bytes:
    """Decode also what several programs wrote one behind the other, and what was cut."""
    out: list[bytes] = []
    kept = re.sub(rb"[^A-Za-z0-9+/=]", b"", body)
    *pieces, last = re.split(rb"=+", kept, maxsplit=1000)
    for piece in (*pieces, last.replace(b"=", b"")):
        whole = piece[: len(piece) // 4 * 4 + (len(piece) % 4 if len(piece) % 4 > 1 else 0)]
        out.append(binascii.a2b_base64(whole + b"=" * (-len(whole) % 4)))
    return b"".join(out)


def _uuencoded(body: bytes) -> tuple[bytes, str]:
    out: list[bytes] = []
    lines = iter(body.splitlines())
    for line in lines:
        if line.startswith(b"begin "):
            break
    else:
        return body, "a part says uuencode and is not"
    for line in lines:
        if line.strip() in (b"end", b"`", b""):
            break
        try:
            out.append(binascii.a2b_uu(line))
        except binascii.Error:
            # Some programs count wrong: take what the length byte says there should be.
            count = (((line[0] - 32) & 63) * 4 + 5) // 3
            try:
                out.append(binascii.a2b_uu(line[:count]))
            except binascii.Error:
                return body, "a part says uuencode and is broken"
    return b"".join(out), ""


def unflowed(text: str, *, delsp: bool = False) -> str:
    """Join the lines that format=flowed broke (RFC 3676); the signature's line stays."""
    out: list[list[str]] = []
    open_depth = -1  # quote depth of a line that goes on
    for line in text.replace("\r\n", "\n").split("\n"):
        depth = len(line) - len(line.lstrip(">"))
        said = line[depth:]
        if said.startswith(" "):
            said = said[1:]
        flows = said.endswith(" ") and said != "-- "
        if open_depth == depth and said != "-- ":
            out[-1].append(said)
        else:
            out.append([">" * depth + " " if depth else "", said])
        if flows and delsp:
            out[-1][-1] = said[:-1]
        open_depth = depth if flows else -1
    return "\n".join(map("".join, out))
