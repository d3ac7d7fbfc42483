"""From the bytes of a push to its fields, whatever form they are in.

The format is JSON; an account that was switched to ``format=xml`` gets WeiXin-shaped XML, which
is read as far as the two agree. The Content-Type says nothing reliable. A field of a wrong type
is an absent field.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from xml.parsers import expat

import msgspec

_MOST_ID_DIGITS = 20
_MOST_KEY_CHARS = 2000
_BOM = b"\xef\xbb\xbf"


class Unreadable(ValueError):
    """The body is neither JSON nor XML, or not an object."""


class Push(msgspec.Struct, frozen=True, kw_only=True):
    """One push. ``data`` is what the type brings along, ``fingerprint`` is of all that was said."""

    type: str
    receiver: str
    sender: str
    at: datetime | None
    text: str
    data: Mapping[str, Any]
    fingerprint: str


def read_push(body: bytes) -> Push:
    """Return the fields of a push. Raises :class:`Unreadable`."""
    fields = _fields(body)
    return Push(
        type=_text(fields.get("type")),
        receiver=_ident(fields.get("receiver_id")),
        sender=_ident(fields.get("sender_id")),
        at=read_time(_text(fields.get("created_at"))),
        text=_text(fields.get("text")),
        data=_table(fields.get("data")),
        fingerprint=fingerprint(fields),
    )


def receiver_of(body: bytes) -> str:
    """Return for whom a body is, "" if it does not say. Raises :class:`Unreadable`."""
    return _ident(_fields(body).get("receiver_id"))


def fingerprint(fields: Mapping[str, Any]) -> str:
    """Return 16 hex digits of SHA-256 over the canonical JSON: sorted keys, no spaces, UTF-8.

    A push has no id; a repeated one has the same bytes, and a second message of the same second
    another text.
    """
    text = json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _fields(body: bytes) -> Mapping[str, Any]:
    body = body.removeprefix(_BOM).strip()
    return _from_xml(body) if body.startswith(b"<") else _from_json(body)


# --- JSON ----------------------------------------------------------------------------------------


def _from_json(body: bytes) -> Mapping[str, Any]:
    # The standard library's reader, because it keeps halves of emoji, which others refuse.
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unreadable("the body is no JSON") from error
    if not isinstance(fields, dict):
        raise Unreadable("the body is no JSON object")
    return fields


def _table(value: Any) -> Mapping[str, Any]:
    """Return ``data`` as a table; PHP writes an empty one as [], and the pages call it a text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _ident(value: Any) -> str:
    """Return an id as text: ids pass 2^53, beyond which other readers round numbers."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value)
    good = text.isascii() and text.isdigit() and len(text) <= _MOST_ID_DIGITS
    return text if good else ""


def key_of(data: Mapping[str, Any], name: str) -> str:
    """Return a reference in ``data`` (a number or a text), "" where there is none."""
    value = data.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value)[:_MOST_KEY_CHARS]


# --- times ---------------------------------------------------------------------------------------

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TIME = re.compile(
    r"[A-Z][a-z]{2} (?P<month>[A-Z][a-z]{2}) (?P<day>[0-9]{1,2})"
    r" (?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
    r" (?P<sign>[+-])(?P<east_h>[0-9]{2})(?P<east_m>[0-9]{2}) (?P<year>[0-9]{4})\Z"
)
_UNIX = re.compile(r"[0-9]{10}\Z")


def read_time(text: str) -> datetime | None:
    """Return the moment (UTC) of ``Mon Jul 16 18:09:20 +0800 2012``, None for anything else.

    ``strptime`` would look for the month in the language of the machine.
    """
    if _UNIX.match(text):  # of the XML form
        return datetime.fromtimestamp(int(text), UTC)
    found = _TIME.match(text)
    if found is None or found["month"] not in MONTHS:
        return None
    east = timedelta(hours=int(found["east_h"]), minutes=int(found["east_m"]))
    try:
        return datetime(
            int(found["year"]),
            MONTHS.index(found["month"]) + 1,
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            int(found["second"]),
            tzinfo=timezone(-east if found["sign"] == "-" else east),
        ).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# --- XML -----------------------------------------------------------------------------------------

_TYPES = {"location": "position"}
_MOST_TAGS = 100


def _from_xml(body: bytes) -> Mapping[str, Any]:
    """Read the flat XML of ``set_format=xml`` (unverified: no page lists its tags for Weibo).

    MsgId and PicUrl are empty there, whatever the sample shows, so nothing is read from them.
    """
    tags = _flat(body)
    kind = tags.get("MsgType", "").lower()
    data = {
        "subtype": tags.get("Event", "").lower(),
        "key": tags.get("EventKey", ""),
        "ticket": tags.get("Ticket", ""),
        "tovfid": tags.get("MediaId", ""),
        "latitude": tags.get("Location_X", ""),
        "longitude": tags.get("Location_Y", ""),
    }
    return {
        "type": _TYPES.get(kind, kind),
        "receiver_id": tags.get("ToUserName", ""),
        "sender_id": tags.get("FromUserName", ""),
        "created_at": tags.get("CreateTime", ""),
        "text": tags.get("Content", ""),
        "data": {name: value for name, value in data.items() if value},
    }


def _flat(body: bytes) -> dict[str, str]:
    """Return the tags below the root and their texts; nothing that expands or nests is read."""
    path: list[str] = []
    tags: dict[str, list[str]] = {}

    def begin(name: str, attributes: dict[str, str]) -> None:
        path.append(name)
        if len(path) > 2 or len(tags) >= _MOST_TAGS:
            raise Unreadable("the XML is not flat")
        if len(path) == 2:
            tags.setdefault(name, [])

    def take(text: str) -> None:
        if len(path) == 2:
            tags[path[1]].append(text)

    def refuse(*arguments: Any) -> None:
        raise Unreadable("the XML has a DOCTYPE")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = begin
    parser.EndElementHandler = lambda name: path.pop()
    parser.CharacterDataHandler = take
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise Unreadable("the body is no XML") from error
    return {name: "".join(texts).strip() for name, texts in tags.items()}
