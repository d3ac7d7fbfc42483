"""Calendar parts (RFC 5545): what an invitation is about. It is shown, never accepted."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from normalizer.parts import Calendar
from normalizer.text import clean_line

_MAX_LINES = 5_000
_MAX_LINE = 10_000
_LINE = re.compile(
    r"([A-Za-z-]{1,60})((?:;(?:[^:;\"]|\"[^\"]{0,300}\"){0,300}){0,20}):(.*)", re.DOTALL
)
_STAMP = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)(Z?))?\Z")
_ZONE = re.compile(r"TZID=\"?([^\";:]{1,100})", re.IGNORECASE)
_METHOD = re.compile(r"[A-Z-]{1,30}\Z")
# Outlook writes the names of Windows.
_ZONES = {
    "china standard time": "Asia/Shanghai",
    "taipei standard time": "Asia/Taipei",
    "tokyo standard time": "Asia/Tokyo",
    "korea standard time": "Asia/Seoul",
    "singapore standard time": "Asia/Singapore",
    "w. europe standard time": "Europe/Berlin",
    "gmt standard time": "Europe/London",
    "eastern standard time": "America/New_York",
    "central standard time": "America/Chicago",
    "pacific standard time": "America/Los_Angeles",
    "utc": "UTC",
}


def read_invite(text: str, method: str = "") -> Calendar | None:
    """Return the first event of a calendar, or None where there is no calendar.

    ``start`` is UTC where the zone is known, else the local time as it stands; a whole day is
    a date alone.
    """
    unfolded = re.sub(r"\r?\n[ \t]", "", text[:500_000])
    if "BEGIN:VCALENDAR" not in unfolded[:2000].upper():
        return None
    values: dict[str, tuple[str, str]] = {}
    inside: list[str] = []
    for line in unfolded.splitlines()[:_MAX_LINES]:
        found = _LINE.match(line[:_MAX_LINE])
        if found is None:
            continue
        name, params, value = found[1].upper(), found[2], found[3].strip()
        if name == "BEGIN":
            inside.append(value.upper())
        elif name == "END":
            if inside:
                inside.pop()
            if value.upper() in ("VEVENT", "VTODO"):
                break
        elif inside in (["VCALENDAR"], ["VCALENDAR", "VEVENT"], ["VCALENDAR", "VTODO"]):
            values.setdefault(name, (params, value))
    said = values.get("METHOD", ("", ""))[1].upper() or method.upper()
    return Calendar(
        method=said if _METHOD.match(said) else "PUBLISH",
        summary=_text(values.get("SUMMARY", ("", ""))[1]),
        start=_start(*values.get("DTSTART", ("", ""))),
        organizer=_organizer(*values.get("ORGANIZER", ("", ""))),
    )


def _text(value: str) -> str:
    return clean_line(re.sub(r"\\([nN,;\\])", lambda m: " " if m[1] in "nN" else m[1], value))


def _organizer(params: str, value: str) -> str:
    addr = value[7:] if value[:7].lower() == "mailto:" else value
    found = re.search(r"CN=\"?([^\";:]{1,200})", params, re.IGNORECASE)
    name = clean_line(found[1]) if found else ""
    addr = clean_line(addr)
    return f"{name} <{addr}>" if name and name != addr else addr


def _start(params: str, value: str) -> str:
    found = _STAMP.match(value)
    if found is None:
        return ""
    year, month, day, hour, minute, second, zulu = found.groups()
    try:
        moment = datetime(  # noqa: DTZ001 - its zone comes below
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0)
        )
        if hour is None:
            return moment.date().isoformat()
        zone = UTC if zulu else _zone(params)
        if zone is None:
            return moment.isoformat()
        return moment.replace(tzinfo=zone).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        return ""


def _zone(params: str) -> ZoneInfo | None:
    found = _ZONE.search(params)
    if found is None:
        return None
    name = _ZONES.get(found[1].strip().lower(), found[1].strip())
    if not re.match(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,2}\Z", name):
        return None
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return None  # no zone of that name: the local time is shown
