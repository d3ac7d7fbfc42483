"""From a row with named fields, of a CSV file or a JSON line, to a message.

============  ====================================================================================
field         what
============  ====================================================================================
channel       the channel and the key of the account it was said on: ``sms``, ``main``
account
address       the customer's: a mailbox, a phone number with ``+``, or the canonical text
              ``scheme:account:kind:id``
direction     ``in`` (the customer speaks) or ``out``
at            when: ISO 8601, ``2024/3/1 9:30``, seconds or milliseconds since 1970, or the given
              format; without a zone the given one is taken
text          what was said
name          who said it, as shown
id            the message's id at the vendor: the same as live deliveries have. Without one a row
              is told by its time, direction and words: of two equal rows one is taken
thread        the channel's own thread key
subject
attachments   paths below the folder of the file, ``;`` between them, or a list
============  ====================================================================================

``channel``, ``account``, ``address``, ``direction``, ``at`` and one of ``text`` and
``attachments`` are needed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from hub.importing.found import Found, ImportProblem, Unreadable
from normalizer.addresses import Address, AddressError, mailbox, parse_address, phone
from normalizer.drafts import Message, Profile, Sender
from normalizer.model import Direction, Role, milliseconds
from normalizer.parts import Text

FIELDS = (
    "channel",
    "account",
    "address",
    "direction",
    "at",
    "text",
    "name",
    "id",
    "thread",
    "subject",
    "attachments",
)
MAX_FILES = 50
MAX_FILE_BYTES = 25_000_000  # as for uploads
AHEAD = timedelta(days=1)  # how far a row may lie in the future, for clocks and zones
_EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)
_IN_MILLISECONDS = 100_000_000_000  # in seconds that would be the year 5138
_LOOSE = re.compile(
    r"(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?[ T]+"
    r"(\d{1,2})[:\uff1a时](\d{2})(?:[:\uff1a分](?:(\d{2})秒?)?)?"
)
_NUMBER = re.compile(r"\d{9,14}(?:\.\d+)?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """How a file's own names lead to the fields, and what its times mean."""

    map: Mapping[str, str] = {}  # field -> the file's name for it
    fixed: Mapping[str, str] = {}  # field -> one value for all rows
    time_zone: str = ""
    time_format: str = ""  # as strptime reads it

    def check(self) -> None:
        """Raise ImportProblem for what cannot be meant."""
        for name in (*self.map, *self.fixed):
            if name not in FIELDS:
                raise ImportProblem(f"there is no field {name!r}; fields: {', '.join(FIELDS)}")
        if self.time_zone:
            try:
                ZoneInfo(self.time_zone)
            except (ZoneInfoNotFoundError, ValueError) as error:
                raise ImportProblem(
                    f"there is no time zone {self.time_zone!r}: name one like Asia/Shanghai"
                ) from error

    def fields(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row's fields by our names."""
        found = {name: row.get(self.map.get(name, name)) for name in FIELDS}
        return {**found, **self.fixed}

    def unread(self, names: set[str]) -> frozenset[str]:
        """Return those of a file's names that lead to no field."""
        read = {self.map.get(name, name) for name in FIELDS if name not in self.fixed}
        return frozenset(names - read)


def read_row(
    row: Mapping[str, Any],
    place: str,
    columns: Columns,
    accounts: frozenset[str],
    folder: Path,
    now: datetime,
) -> Found:
    """Return the row's message, or why there is none. ``accounts`` are those configured."""
    fields = columns.fields(row)
    try:
        files = _files(fields["attachments"], folder)
        message = _message(fields, columns, now, has_files=bool(files))
        channel, account = _place_name(fields, "channel"), _place_name(fields, "account")
        if f"{channel}:{account}" not in accounts:
            raise Unreadable(
                f"no account {channel}:{account} is configured: add it, or correct the row"
            )
    except Unreadable as problem:
        return Found(place=place, failed=str(problem))
    return Found(place=place, channel=channel, account=account, drafts=(message,), files=files)


def _message(
    fields: Mapping[str, Any], columns: Columns, now: datetime, *, has_files: bool
) -> Message:
    at = read_time(fields["at"], columns)
    if at > now + AHEAD:
        raise Unreadable("at lies in the future: check the time's format and zone")
    text = _text(fields, "text")
    if not text.strip() and not has_files:
        raise Unreadable("it says nothing: text and attachments are empty")
    direction = _direction(_text(fields, "direction"))
    name = _text(fields, "name").strip()
    thread, subject = _text(fields, "thread"), _text(fields, "subject")
    incoming = direction is Direction.IN
    ident = _text(fields, "id").strip()
    whole = msgspec.json.encode(
        [at, direction, text, thread, subject, str(fields["attachments"] or "")]
    )
    return Message(
        key=ident or f"row:{hashlib.sha256(whole).hexdigest()[:32]}",
        at=at,
        address=_address(_text(fields, "address").strip()),
        parts=(Text(text=text),) if text.strip() else (),
        direction=direction,
        sender=None if incoming else Sender(role=Role.AGENT, name=name),
        profile=Profile(name=name) if incoming and name else None,
        thread=thread,
        subject=subject,
        vendor_ids=(ident,) if ident else (),
    )


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields[name]
    if value is None:
        return ""
    if isinstance(value, bool | float) or not isinstance(value, str | int):
        raise Unreadable(f"{name} is no text")
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Unreadable(
            f"{name} holds bytes that are none of the file's encoding: say --encoding"
        ) from error
    return text


def _place_name(fields: Mapping[str, Any], name: str) -> str:
    value = _text(fields, name).strip()
    if not value:
        raise Unreadable(f"{name} is missing: name a column for it, or say --set {name}=...")
    if not _NAME.match(value):
        raise Unreadable(f"{name} is not the name of a configured account")
    return value


def _direction(text: str) -> Direction:
    if text.strip().lower() not in ("in", "out"):
        raise Unreadable("direction is `in` (the customer speaks) or `out`")
    return Direction(text.strip().lower())


def _address(text: str) -> Address:
    if not text:
        raise Unreadable("address is missing: whose message is it?")
    try:
        if text.count(":") == 3:
            return parse_address(text)
        if "@" in text:
            return mailbox(text)
    except AddressError as error:
        raise Unreadable(f"address: {error}") from error
    number = phone(text) if text.startswith("+") else None
    if number is None:
        raise Unreadable(
            "address is no mailbox, no phone number with +, and no scheme:account:kind:id"
        )
    return number


def read_time(value: Any, columns: Columns) -> datetime:
    """Return a time in UTC. Raises Unreadable for what is none, or has no zone."""
    if isinstance(value, bool) or value is None or value == "":
        raise Unreadable("at is missing: when was it said?")
    text = str(value).strip()
    try:
        at = _written(text, columns.time_format)
        if at.tzinfo is None:
            if not columns.time_zone:
                raise Unreadable("at has no time zone: say --time-zone Asia/Shanghai or the like")
            at = at.replace(tzinfo=ZoneInfo(columns.time_zone))
        at = milliseconds(at)
    except (ValueError, OverflowError, OSError) as error:
        raise Unreadable("at is no time that can be read: say --time-format") from error
    if at < _EARLIEST:
        raise Unreadable("at lies before 1970: check the time's format")
    return at


def _written(text: str, time_format: str) -> datetime:
    """Return the time as it is written, with a zone or without. Raises ValueError."""
    if time_format:
        return datetime.strptime(text, time_format)  # noqa: DTZ007 - the caller gives the zone
    if _NUMBER.fullmatch(text):
        number = float(text)
        return datetime.fromtimestamp(number / 1000 if number >= _IN_MILLISECONDS else number, UTC)
    if loose := _LOOSE.fullmatch(text):
        year, month, day, hour, minute, second = (int(each or 0) for each in loose.groups())
        return datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - as above
    return datetime.fromisoformat(text)


def _files(value: Any, folder: Path) -> tuple[Path, ...]:
    """Return the files that a row names: nothing outside the folder, however it is spelt."""
    if value is None or value == "":
        return ()
    names = value if isinstance(value, list) else str(value).split(";")
    if len(names) > MAX_FILES:
        raise Unreadable(f"attachments: at most {MAX_FILES} of one message")
    found = []
    for number, name in enumerate(names, start=1):
        if not isinstance(name, str) or not name.strip():
            raise Unreadable(f"attachment {number} has no name")
        try:
            path = (folder / name.strip()).resolve()
            inside = path.is_relative_to(folder.resolve())
            size = path.stat().st_size if inside and path.is_file() else -1
        except (OSError, ValueError) as error:
            raise Unreadable(f"attachment {number} cannot be read") from error
        if not inside:
            raise Unreadable(f"attachment {number} lies outside the folder of the file")
        if size < 0:
            raise Unreadable(f"attachment {number} is not there: put it beside the file")
        if not 0 < size <= MAX_FILE_BYTES:
            raise Unreadable(f"attachment {number} is empty, or larger than {MAX_FILE_BYTES} bytes")
        found.append(path)
    return tuple(found)
