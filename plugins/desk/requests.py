"""Reading what comes to the desk's routes: every doubt about it ends as a 4xx that says why."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NoReturn, TypeVar

import msgspec
from aiohttp import web

from plugins.desk.ids import TICKET
from plugins.desk.problems import Refuse

B = TypeVar("B", bound=msgspec.Struct)
E = TypeVar("E", bound=StrEnum)
IDEMPOTENCY_KEY = r"^[!-~]{1,200}$"
_MAC_BYTES = 12
_SEEN = r"[^\u0000-\u001f\u007f\ud800-\udfff]*"  # ONE_LINE, and nothing that is no character


def ticket_id(request: web.Request) -> str:
    ident = request.match_info["id"]
    if not re.fullmatch(TICKET, ident):
        raise Refuse("not-found", "there is no such ticket: an id looks like tkt_...", 404)
    return ident


async def body(request: web.Request, kind: type[B]) -> B:
    """Read a JSON body. Raises 400 for no JSON, 413, 415, 422 for JSON of another shape."""
    if request.content_type != "application/json":
        raise Refuse("unsupported-media-type", "send application/json", 415)
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise Refuse("too-large", "the body is larger than the hub takes", 413) from error
    try:
        return msgspec.convert(_whole_numbers(msgspec.json.decode(raw)), kind)
    except msgspec.ValidationError as error:
        raise Refuse("bad-request", str(error), 422) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if _has_lone_surrogate(raw):
            raise Refuse(
                "bad-request", "a text has half of a surrogate pair: send whole characters", 422
            ) from error
        raise Refuse("bad-request", "the body is not JSON in UTF-8", 400) from error


def _whole_numbers(plain: Any) -> Any:
    """Return an object with 1.0 as 1: to JSON they are the same number."""
    if not isinstance(plain, dict):
        return plain
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in plain.items()
    }


def _has_lone_surrogate(raw: bytes) -> bool:
    """Say whether this is JSON all the same; nothing else that JSON allows fails to decode."""
    try:
        json.loads(raw.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        return False
    return True


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def text_of(request: web.Request, name: str, *, max_length: int) -> str | None:
    """Return a parameter of the query; None when it is not there."""
    value = request.query.get(name)
    if value is None:
        return None
    if len(value) > max_length or not re.fullmatch(_SEEN, value):
        raise Refuse(
            "bad-request",
            f"{name} takes at most {max_length} characters and no control characters",
            400,
        )
    return value


def choice_of(request: web.Request, name: str, choices: type[E]) -> E | None:
    value = request.query.get(name)
    if value is None:
        return None
    try:
        return choices(value)
    except ValueError as error:
        raise Refuse("bad-request", f"{name} is one of: {', '.join(choices)}", 400) from error


def number_of(request: web.Request, name: str, *, default: int, most: int) -> int:
    value = request.query.get(name)
    if value is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", value) or not 1 <= int(value) <= most:
        raise Refuse("bad-request", f"{name} is a whole number from 1 to {most}", 400)
    return int(value)


def idempotency_key(request: web.Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not re.fullmatch(IDEMPOTENCY_KEY, key):
        raise Refuse("bad-request", "Idempotency-Key takes 1 to 200 visible ASCII characters", 400)
    return key


class Cursors:
    """Signed cursors, good for the list with the filters they were made for."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, place: str, filters: Mapping[str, object]) -> str:
        return base64.urlsafe_b64encode(self._mac(place, filters) + place.encode()).decode()

    def place(self, cursor: str, filters: Mapping[str, object]) -> str:
        """Return the place a cursor stands for. Raises Refuse when it is not one of ours."""
        try:
            plain = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
            place = plain[_MAC_BYTES:].decode()
        except (ValueError, binascii.Error) as error:
            raise _not_ours() from error
        if not hmac.compare_digest(plain[:_MAC_BYTES], self._mac(place, filters)):
            raise _not_ours()
        return place

    def _mac(self, place: str, filters: Mapping[str, object]) -> bytes:
        text = msgspec.json.encode([place, dict(filters)], order="deterministic")
        return hmac.new(self._secret, text, hashlib.sha256).digest()[:_MAC_BYTES]


def _not_ours() -> Refuse:
    return Refuse(
        "cursor-invalid",
        "use next_cursor as it was given, with the same filters, or start without a cursor",
        400,
    )
