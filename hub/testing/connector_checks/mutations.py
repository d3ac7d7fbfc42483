"""Bodies that no vendor sends: mutated with a fixed seed, so that a failure can be repeated."""

from __future__ import annotations

import contextlib
import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any
from urllib.parse import parse_qsl, urlencode

VALUES: tuple[Any, ...] = (
    None,
    True,
    "",
    " ",
    "0",
    0,
    -1,
    1.5,
    2**31,
    2**64,
    10**400,
    float("nan"),
    [],
    {},
    [[]],
    {"a": {"b": None}},
    "\x00\x1b\u202e",
    "\ud800",
    "a\u0301\u0300" * 50,
    "x" * 5000,
    "9" * 5000,
    "<b>&amp;]]>",
    "2026-02-30T25:61:61Z",
    "../../etc/passwd",
    "http://169.254.169.254/",
    "👩🏽‍💻" * 20,
)
HOSTILE = (
    b"",
    b"\x00",
    b"\xff\xfe\x00",
    b"null",
    b"0",
    b'""',
    b"[]",
    b"{}",
    b"[{}]",
    b"=",
    b"&&&",
    b"a=1&" * 2000,
    b"[" * 50_000,
    b'{"a":' * 20_000,
    b"<a>" * 20_000,
    b'"' + b"\\u0000" * 5000 + b'"',
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;">]><xml><Content>&c;</Content></xml>',
    b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><xml><Content>&e;</Content></xml>',
    b'<?xml version="1.0" encoding="utf-7"?><xml/>',
    b"\xef\xbb\xbf{}",
    b"x" * 200_000,
)


def mutations(body: bytes, count: int, seed: str) -> Iterator[bytes]:
    """Yield ``count`` bodies: hostile ones first, then what chance makes of ``body``."""
    chance = random.Random(seed)
    yield from HOSTILE[:count]
    kinds = [_bytes, *(kind for kind in (_json, _xml, _form) if kind(body, chance) is not None)]
    for _ in range(count - len(HOSTILE)):
        mutated = body
        for _ in range(chance.randint(1, 3)):
            mutated = chance.choice(kinds)(mutated, chance) or mutated
        yield mutated


def _bytes(body: bytes, chance: random.Random) -> bytes | None:
    at = chance.randrange(len(body) + 1)
    upto = min(len(body), at + chance.randint(1, 16))
    match chance.randrange(5):
        case 0:
            return body[:at] + bytes([chance.randrange(256)]) + body[at + 1 :]
        case 1:
            return body[:at] + body[upto:]
        case 2:
            return body[:upto] + body[at:]
        case 3:
            return body[:at] + chance.randbytes(chance.randint(1, 8)) + body[at:]
        case _:
            return body[:at]


def _json(body: bytes, chance: random.Random) -> bytes | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    holder: dict[str, Any] = {"": value}
    places = list(_places(holder))
    inside, key = chance.choice(places)
    if chance.random() < 0.2 and inside is not holder:
        del inside[key]
    else:
        inside[key] = chance.choice(VALUES)
    return json.dumps(holder[""], ensure_ascii=True).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _xml(body: bytes, chance: random.Random) -> bytes | None:
    texts = list(re.finditer(rb">([^<>]*)<|CDATA\[([^\]]*)\]", body))
    if not body.lstrip().startswith(b"<") or not texts:
        return None
    found = chance.choice(texts)
    start, end = found.span(1) if found.group(1) is not None else found.span(2)
    value = str(chance.choice(VALUES)).encode(errors="replace")
    return body[:start] + value + body[end:]


def _form(body: bytes, chance: random.Random) -> bytes | None:
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True)
    except ValueError:
        return None
    if not pairs or body[:1] in b"{[<":
        return None
    at = chance.randrange(len(pairs))
    match chance.randrange(3):
        case 0:
            del pairs[at]
        case 1:
            pairs.insert(at, pairs[at])
        case _:
            pairs[at] = (pairs[at][0], str(chance.choice(VALUES)))
    return urlencode(pairs, errors="replace").encode()


class TooManySteps(BaseException):
    """Not an Exception: what is being counted must not be able to catch it."""


def counted(work: Callable[[], Any], most: int) -> Any:
    """Return what ``work`` returns. Raises TooManySteps after ``most`` lines of Python.

    Steps are counted and not timed, so that a busy machine changes nothing.
    """
    left = most

    def step(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise TooManySteps(f"more than {most} lines of Python were executed")
        return step

    with _traced(step):
        return work()


@contextlib.contextmanager
def _traced(step: Callable[[FrameType, str, Any], Any]) -> Iterator[None]:
    before = sys.gettrace()
    sys.settrace(step)
    try:
        yield
    finally:
        sys.settrace(before)
