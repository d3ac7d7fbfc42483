"""May this person be written to now, and how often: pure questions about an address.

A send needs one open window with a place left. Of several the one that ends first is used, so
that a short one (three sends in the minute after a menu click) does not cost the long one.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from hub.documents import AddressDoc
from hub.outbound.ledger import Counter
from hub.planning.windows import openings, window_key
from normalizer.capabilities import Capabilities, Window

_KEPT = timedelta(days=1)  # how long the ledger outlives what it counts


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """A window of one address: when it was opened and until when it is."""

    window: Window
    until: datetime
    counter: Counter | None  # None: any number of sends


def open_windows(
    can: Capabilities, address: AddressDoc, channel: str, account: str, now: datetime
) -> list[Open]:
    """Return what is open now, what ends first in front."""
    found = []
    for window in can.windows:
        key = window_key(channel, account, window)
        closed = address.closed.get(key)
        for name, opened in openings(address, key, window):
            until = opened + timedelta(seconds=window.seconds)
            if now >= until or (closed is not None and closed >= opened):
                continue
            found.append(
                Open(window=window, until=until, counter=_counter(address, name, opened, window))
            )
    return sorted(found, key=lambda each: (each.until, each.window.name))


def passes_closed(can: Capabilities, *, template: bool) -> bool:
    """Whether a message may leave without a window: templates do where the channel says so."""
    return template and any(window.templates_pass for window in can.windows)


def _counter(address: AddressDoc, key: str, opened: datetime, window: Window) -> Counter | None:
    if window.sends is None:
        return None
    ends = opened + timedelta(seconds=window.seconds)
    return Counter(
        id=f"window|{address.id}|{key}|{round(opened.timestamp() * 1000)}",
        places=window.sends,
        ends=ends,
        kept_until=ends + _KEPT,
    )
