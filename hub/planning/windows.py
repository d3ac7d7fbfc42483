"""When a person may be written to: which windows an address opened and closed, and when.

Only channels that declare windows pay for this. The address keeps the last opening and the last
closing of each window; the greater of two times wins, so the order in which they come in does
not matter. Of a window whose openings add up it keeps each one, until its time is over. Whether a
window is open *now*, and how many sends it has left, is asked by :mod:`hub.outbound.windows`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from msgspec.structs import replace

from hub.documents import AddressDoc
from hub.planning.rules import Rules
from hub.planning.workspace import Workspace
from normalizer.capabilities import Window

MOST_OPENINGS = 100  # of a window whose openings add up; the oldest go


def window_key(channel: str, account: str, window: Window) -> str:
    """Return under which name an address keeps a window: a phone number has several accounts."""
    return f"{channel}:{account}:{window.name}".replace(".", "%2E").replace("$", "%24")


def openings(doc: AddressDoc, key: str, window: Window) -> list[tuple[str, datetime]]:
    """Return (name, moment) of each opening of a window that the address still keeps."""
    if window.adds_up:
        return [(name, at) for name, at in doc.opened.items() if name.startswith(f"{key}@")]
    return [(key, doc.opened[key])] if key in doc.opened else []


def note_windows(
    ws: Workspace,
    rules: Rules,
    address: str,
    *,
    channel: str,
    account: str,
    at: datetime,
    did: Collection[str],
    by: str,
) -> None:
    """Note what somebody did: "message", "public_message", or the names of events.

    ``by`` is the entry that tells of it. History that is imported must not come here: it opens
    nothing.
    """
    windows = rules.capabilities(channel).windows
    if not windows:
        return
    doc = ws.need(AddressDoc, address)
    opened, closed = dict(doc.opened), dict(doc.closed)
    for window in windows:
        key = window_key(channel, account, window)
        if not window.opens_on.isdisjoint(did):
            if window.adds_up:
                opened = _with_opening(opened, key, window, at=at, by=by, now=rules.now)
            else:
                opened[key] = max(at, opened.get(key, at))
        if not window.closes_on.isdisjoint(did):
            closed[key] = max(at, closed.get(key, at))
    if (opened, closed) != (doc.opened, doc.closed):
        ws.put(replace(doc, opened=opened, closed=closed))


def _with_opening(
    opened: Mapping[str, datetime],
    key: str,
    window: Window,
    *,
    at: datetime,
    by: str,
    now: datetime,
) -> dict[str, datetime]:
    """Return what is kept with one more opening, and without those whose time is over."""
    over = now - timedelta(seconds=window.seconds)
    mine = {name: when for name, when in opened.items() if name.startswith(f"{key}@")}
    mine[f"{key}@{by}"] = at
    live = sorted((when, name) for name, when in mine.items() if when > over)[-MOST_OPENINGS:]
    others = {name: when for name, when in opened.items() if name not in mine}
    return {**others, **{name: when for when, name in live}}
