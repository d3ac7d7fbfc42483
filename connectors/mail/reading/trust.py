"""Whether the receiving server believes the sender (RFC 8601), and whether we believe that.

Only the topmost Authentication-Results header with one of our own servers' names counts: anybody
can write others into a mail.

======  ==========================================================================================
fail    DMARC failed; or no DMARC, and SPF or DKIM of the sender's own domain failed with none
        that passed; or the sender is ambiguous
pass    DMARC passed for the sender's domain, or SPF or DKIM did that is aligned with it
none    our server said nothing of it
======  ==========================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

PASS, NONE, FAIL = "pass", "none", "fail"

_RESULT = re.compile(r"([a-z0-9-]{1,30})(?:\s*/\s*\d{1,4})?\s*=\s*([a-z]{1,20})\b(.*)", re.DOTALL)
_PROPERTY = re.compile(r"\b([a-z]{1,20}\.[a-z0-9-]{1,40})\s*=\s*(\"[^\"]*\"|[^\s;]+)")
_MAX_RESULTS = 50


class Result(NamedTuple):
    method: str
    value: str
    properties: dict[str, str]


def verdict(
    results: Sequence[bytes], authserv_ids: Collection[str], domain: str, *, ambiguous: bool = False
) -> str:
    """Return ``pass``, ``none`` or ``fail`` for a sender at ``domain``.

    ``results`` are the Authentication-Results headers from the top; ``ambiguous`` says that the
    mail names several senders, so that ours need not be the one who was checked.
    """
    if ambiguous:
        return FAIL
    for raw in results:
        server, found = read_results(raw)
        if server in authserv_ids:
            return _judged(found, domain)
    return NONE


def read_results(raw: bytes) -> tuple[str, list[Result]]:
    """Return the server's name and what it found, in lower case; comments are left out."""
    text = _without_comments(raw[:16_384].decode("utf-8", "replace").lower())
    server, *items = _split(text)
    found: list[Result] = []
    for item in items[:_MAX_RESULTS]:
        match = _RESULT.match(item.strip())
        if match is not None:
            properties = {name: value.strip('"') for name, value in _PROPERTY.findall(match[3])}
            found.append(Result(match[1], match[2], properties))
    return (server.split() or [""])[0].strip('"'), found


def _judged(found: Sequence[Result], domain: str) -> str:
    dmarc = [each for each in found if each.method == "dmarc"]
    for each in dmarc:
        if each.value in ("fail", "permerror"):
            return FAIL
        if each.value in ("pass", "bestguesspass"):
            checked = each.properties.get("header.from", domain).rpartition("@")[2]
            return PASS if checked and _aligned(checked, domain) else FAIL
    passed = failed = False
    for each in found:
        if each.method not in ("spf", "dkim"):
            continue
        about = _domain_of(each)
        if each.value == "pass" and about and _aligned(about, domain):
            passed = True
        elif each.value in ("fail", "hardfail", "policy"):
            failed |= not about or _aligned(about, domain)
    return PASS if passed else FAIL if failed else NONE


def _domain_of(result: Result) -> str:
    names = ("smtp.mailfrom", "smtp.helo") if result.method == "spf" else ("header.d", "header.i")
    for name in names:
        if result.properties.get(name):
            return result.properties[name].rpartition("@")[2].rstrip(".")
    return ""


def _aligned(one: str, other: str) -> bool:
    """Whether two domains are the same or one lies in the other, as relaxed alignment asks."""
    one, other = one.lower(), other.lower()
    if "." not in one or "." not in other:
        return one == other
    return one == other or one.endswith("." + other) or other.endswith("." + one)


def _without_comments(text: str) -> str:
    kept: list[str] = []
    depth = 0
    quoted = False
    for char in text:
        if char == '"' and not depth:
            quoted = not quoted
        if not quoted and char == "(":
            depth += 1
        elif depth and char == ")":
            depth -= 1
        elif not depth:
            kept.append(char)
    return "".join(kept)


def _split(text: str) -> list[str]:
    pieces = [""]
    quoted = False
    for char in text:
        quoted ^= char == '"'
        if char == ";" and not quoted:
            pieces.append("")
        else:
            pieces[-1] += char
    return pieces
