"""Reading what callers send, strictly: unknown members, wrong types and odd characters refused."""

from __future__ import annotations

import json
import re
import secrets
from datetime import datetime
from typing import Any, NoReturn, TypeVar

import msgspec
from aiohttp import web

from hub.planning.rules import Refusal
from hub.web import read_body
from normalizer.model import milliseconds

T = TypeVar("T")

JSON_BYTES = 256 * 1024
DEPTH = 24  # objects and lists inside each other; what is stored holds a hundred
_INT64 = 2**63
_EARLIEST, _LATEST = 2000, 2199
_NO_CHARACTER = re.compile("[\x00\ud800-\udfff]")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,200}\Z")
IDEMPOTENCY_PATTERN = r"^[!-~]{1,200}$"

_BODY = "[0-7][0-9a-hjkmnp-tv-z]{25}"
# What stands in a path under each name: the pattern of its ids.
PATH_IDS = {
    "customer": f"^cus_{_BODY}$",
    "entry": f"^ent_{_BODY}$",
    "conversation": f"^cnv_{_BODY}$",
    "link": f"^lnk_{_BODY}$",
    "attachment": f"^blb_{_BODY}$",
    "operation": f"^op_{_BODY}$",
    "letter": f"^ded_{_BODY}$",
    "import": f"^imp_{_BODY}$",
    "key": f"^key_{_BODY}$",
    "account": "^[a-z][a-z0-9_-]{0,63}:[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
    "backend": r"^[a-z0-9][a-z0-9_-]{0,31}$",
    "thing": f"^(in|ent|job|evt)_{_BODY}$",
}
# What people call it, and how its id begins, where the name in the path does not say so.
_SAID = {
    "operation": ("operation", "op_..."),
    "letter": ("dead letter", "ded_..."),
    "account": ("account", "wechat:shop"),
    "backend": ("backend", "desk"),
    "thing": ("item, entry, job or event", "in_..., ent_..., job_... or evt_..."),
}
_IDS = {name: re.compile(pattern) for name, pattern in PATH_IDS.items()}


class Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything that callers send."""


def path_id(request: web.Request, name: str) -> str:
    """Return an id from the path; what cannot be one is not there."""
    ident = request.match_info[name]
    if not _IDS[name].fullmatch(ident):
        what, form = _SAID.get(name, (name, f"{PATH_IDS[name][1:5]}..."))
        article = "an" if what[0] in "aeio" else "a"
        raise Refusal("not-found", f"this is no id of {article} {what}: one is like {form}", 404)
    return ident


async def read_json(request: web.Request, kind: type[T], *, optional: bool = False) -> T:
    """Read a JSON body. Raises Refusal: 400 for no JSON, 413, 415, 422 for another shape.

    ``optional``: no body at all is an empty object.
    """
    if optional and not request.can_read_body:
        return _convert({}, kind)
    if request.content_type != "application/json":
        raise Refusal("unsupported-media-type", "send application/json", 415)
    try:
        raw = await read_body(request, JSON_BYTES)
    except web.HTTPRequestEntityTooLarge as error:
        raise Refusal("too-large", f"a body has at most {JSON_BYTES} bytes", 413) from error
    try:
        values = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_json(raw) from error
    _check(values)
    return _convert(values, kind)


def _no_json(raw: bytes) -> Refusal:
    """Tell half of a surrogate pair, which is JSON, from what is none."""
    try:
        json.loads(raw.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        return Refusal("bad-request", "the body is not JSON in UTF-8", 400)
    return Refusal("bad-request", "a text holds half of a surrogate pair, or a number is huge", 422)


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _convert(values: Any, kind: type[T], *, strict: bool = True) -> T:
    try:
        return msgspec.convert(values, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise Refusal("bad-request", str(error), 422) from error


def _check(value: Any, depth: int = 0) -> None:
    """Refuse what JSON can say and the database or the channels cannot."""
    if depth > DEPTH:
        raise Refusal("bad-request", f"objects and lists nest at most {DEPTH} deep", 422)
    match value:
        case str():
            if _NO_CHARACTER.search(value):
                raise Refusal("bad-request", "a text holds NUL or half of a surrogate pair", 422)
        case dict():
            for name, member in value.items():
                _check(name, depth + 1)
                _check(member, depth + 1)
        case list():
            for member in value:
                _check(member, depth + 1)
        case int() if not -_INT64 <= value < _INT64:
            raise Refusal("bad-request", "a whole number has at most 64 bits", 422)


def moment(at: datetime, name: str) -> datetime:
    """Return a time that somebody chose in UTC. Raises Refusal(422) for one nobody can mean."""
    try:
        chosen = milliseconds(at)
    except (ValueError, OverflowError) as error:
        raise Refusal("bad-request", f"{name} needs a time zone", 422) from error
    if not _EARLIEST <= chosen.year <= _LATEST:
        raise Refusal("bad-request", f"{name} lies between {_EARLIEST} and {_LATEST}", 422)
    return chosen


def read_query(request: web.Request, kind: type[T]) -> T:
    """Read the query's parameters. Raises Refusal(422) for unknown, repeated or wrong ones."""
    values: dict[str, str] = {}
    for name, value in request.query.items():
        if name in values:
            raise Refusal("bad-request", f"the parameter {name} is given more than once", 422)
        values[name] = value
        _check(value)
    return _convert(values, kind, strict=False)


def idempotency_key(request: web.Request, in_body: str = "") -> str:
    """Return the caller's key for doing this once, or a random one.

    Raises Refusal(422) for one with other than 1 to 200 visible ASCII characters, and when
    header and body name different ones.
    """
    key = request.headers.get("Idempotency-Key", in_body)
    if in_body and key != in_body:
        raise Refusal("bad-request", "header and body name different idempotency keys", 422)
    if not key and "Idempotency-Key" not in request.headers:
        return secrets.token_urlsafe(24)
    if not _IDEMPOTENCY_KEY.match(key):
        raise Refusal("bad-request", "Idempotency-Key has 1 to 200 visible ASCII characters", 422)
    return key


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Answer with JSON."""
    return web.Response(
        body=msgspec.json.encode(value),
        status=status,
        content_type="application/json",
        headers=headers,
    )
