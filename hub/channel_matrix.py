"""`python -m hub.channel_matrix` prints the page of what each channel can do.

It is made of what the connectors declare, so that nobody has to keep it up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hub.contract import Connector
from hub.plugin_host import PluginHost
from normalizer.capabilities import Capabilities, Quota, Window

Kind = type[Connector[Any]]
Row = tuple[str, Callable[[Kind, Capabilities], str]]

_SPANS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_SIZES = ((1024 * 1024, "MiB"), (1_000_000, "MB"), (1024, "KiB"), (1000, "kB"), (1, "bytes"))


class NotAllHere(Exception):
    """A bundled connector cannot be loaded, so the page would lack it."""


def bundled_connectors() -> Mapping[str, Kind]:
    """Return the connector of each bundled channel, by name. Raises :class:`NotAllHere`."""
    host = PluginHost()
    host.discover(entry_points=False)
    away = [f"{info.name}: {info.reason}" for info in host.installed() if not info.available]
    if away:
        raise NotAllHere("\n".join(["install omniline[all] first; these cannot be loaded:", *away]))
    return dict(sorted(host.connectors().items()))


def channels_page(kinds: Mapping[str, Kind]) -> str:
    """Return the page `docs/channels/README.md`. A test holds the file equal to this text."""
    names = list(kinds)
    lines = [_HEAD]
    for heading, rows in _TABLES.items():
        lines.append(f"## {heading}\n")
        lines.append(f"| | {' | '.join(f'[{name}]({name}.md)' for name in names)} |")
        lines.append(f"|---|{'---|' * len(names)}")
        for title, cell in rows:
            cells = [_escaped(cell(kinds[name], kinds[name].capabilities)) for name in names]
            lines.append(f"| {title} | {' | '.join(cells)} |")
        lines.append("")
    blind = [name for name, kind in kinds.items() if not kind.capabilities.sees_foreign_answers]
    if blind:
        lines.append(_BLIND.format(channels=", ".join(blind)))
    return "\n".join(lines)


# --- the cells -----------------------------------------------------------------------------------


def _doors(kind: Kind, can: Capabilities) -> str:
    doors = {
        "webhook": kind.samples is not Connector.samples,
        "poll": kind.polls(),
        "held connection": kind.holds(),
    }
    return _listed(name for name, there in doors.items() if there)


def _history(kind: Kind, can: Capabilities) -> str:
    ways = {"from the vendor": kind.has_history(), "from archives": kind.reads_history()}
    return _listed(name for name, there in ways.items() if there) or "no"


def _sent_files(kind: Kind, can: Capabilities) -> str:
    told = [f"{_size(can.max_media_bytes)} each"] if can.max_media_bytes is not None else []
    if can.max_image_bytes is not None:
        told.append(f"pictures {_size(can.max_image_bytes)}")
    told += [_listed(sorted(can.image_types))] if can.image_types else []
    told += [_listed(sorted(can.media_types))] if can.media_types else []
    return "; ".join(told)


def _windows(kind: Kind, can: Capabilities) -> str:
    return "<br>".join(map(_window, can.windows)) or "at any time"


def _window(window: Window) -> str:
    how_often = "any number" if window.sends is None else f"{window.sends}"
    told = f"{how_often} within {_span(window.seconds)} of {_listed(sorted(window.opens_on))}"
    if window.closes_on:
        told += f", until {_listed(sorted(window.closes_on))}"
    return f"{told}; templates at any time" if window.templates_pass else told


def _quotas(kind: Kind, can: Capabilities) -> str:
    return "<br>".join(map(_quota, can.quotas)) or "none declared"


def _quota(quota: Quota) -> str:
    what = " templates" if quota.templates else ""
    return f"{quota.sends}{what} in {_span(quota.period_s)} for each {quota.per}"


def _pace(kind: Kind, can: Capabilities) -> str:
    return "" if can.sends_per_second is None else f"{can.sends_per_second:g} a second"


def _doubt(kind: Kind, can: Capabilities) -> str:
    if can.dedupes_sends:
        return "sent again: the vendor drops a second one"
    looks = kind.find_sent is not Connector.find_sent
    return "looked up" if looks else "shown to a person"


def _later(seconds: int | None) -> str:
    return "no" if seconds is None else f"for {_span(seconds)}"


def _yes(there: bool) -> str:
    return "yes" if there else "no"


def _count(most: int | None) -> str:
    return "" if most is None else str(most)


_TABLES: Mapping[str, tuple[Row, ...]] = {
    "What comes in": (
        ("doors", _doors),
        ("files are fetched from the vendor", lambda kind, can: _yes(kind.fetches_media())),
        ("profile is known", lambda kind, can: _yes(can.profile)),
        ("threads", lambda kind, can: _yes(can.threads)),
        ("one conversation for each", lambda kind, can: can.conversation),
        ("old messages can be imported", _history),
        (
            "answers given outside the hub are visible",
            lambda kind, can: _yes(can.sees_foreign_answers),
        ),
    ),
    "What can be sent": (
        ("parts", lambda kind, can: _listed(sorted(can.sends)) or "nothing"),
        ("characters of a text", lambda kind, can: _count(can.max_text_chars)),
        ("also writes to who never wrote", lambda kind, can: _listed(sorted(can.reaches)) or "no"),
        ("stops after what came back", lambda kind, can: _count(can.returns) or "no"),
        ("parts of a message", lambda kind, can: _count(can.max_parts if can.sends else None)),
        ("files", _sent_files),
        ("templates", lambda kind, can: _yes(can.templates)),
        ("edit", lambda kind, can: _later(can.edit_window_s)),
        ("recall", lambda kind, can: _later(can.recall_window_s)),
        ("typing is shown", lambda kind, can: _yes(can.typing)),
    ),
    "When, and what is known of it": (
        ("windows", _windows),
        ("quotas", _quotas),
        ("pace of an account", _pace),
        ("delivered is reported", lambda kind, can: _yes(can.delivery_receipts)),
        ("read is reported", lambda kind, can: _yes(can.read_receipts)),
        ("a send without an answer is", _doubt),
    ),
}


# --- words ---------------------------------------------------------------------------------------


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _span(seconds: int) -> str:
    for length, name in _SPANS:
        if seconds % length == 0 and (seconds >= 2 * length or length == 1):
            return f"{seconds // length} {name}s"
        if seconds == length:
            return f"1 {name}"
    raise AssertionError("every whole number of seconds is a multiple of one")


def _size(count: int) -> str:
    for length, name in _SIZES:
        if count >= length and count % length == 0:
            return f"{count // length} {name}"
    return "0 bytes"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


_HEAD = """\
# What each channel can do

This page is made from what the connectors declare:
`python -m hub.channel_matrix > docs/channels/README.md`.

An account may be able to do less, where its vendor gives it fewer rights: `omniline check` says so,
and the API shows each address with what it can (`capabilities`) and may now (`limits`).
An empty cell says that the connector knows of no limit.
"""

_BLIND = """\
## Answers given outside the hub

On {channels} nobody tells the hub what was answered in the vendor's own console or by another
system. Such answers are not in the timeline. The API says so beside it (`remarks`), and the console
below it.
"""

if __name__ == "__main__":
    sys.stdout.write(channels_page(bundled_connectors()))
