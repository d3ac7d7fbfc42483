"""When a person may be written to: which windows an address opened and closed, and when.

Only channels that declare windows pay for this. The address keeps the last opening and the last
closing of each window; the greater of two times wins, so the order in which they come in does
not matter. Whether a window is open *now*, and how many sends it has left, is asked by
:mod:`hub.outbound.windows`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from msgspec.structs import replace

from hub.documents import AddressDoc
from hub.planning.rules import Rules
from hub.planning.workspace import Workspace
from normalizer.capabilities import Window


def window_key(channel: str, account: str, window: Window) -> str:
    """Return under which name an address keeps a window: a phone number has several accounts."""
    return f"{channel}:{account}:{window.name}".replace(".", "%2E").replace("$", "%24")


def note_windows(
    ws: Workspace,
    rules: Rules,
    address: str,
    *,
    channel: str,
    account: str,
    at: datetime,
    did: Collection[str],
) -> None:
    """Note what somebody did: "message", or the names of events.

    History that is imported must not come here: it opens nothing.
    """
    windows = rules.capabilities(channel).windows
    if not windows:
        return
    doc = ws.need(AddressDoc, address)
    opened, closed = dict(doc.opened), dict(doc.closed)
    for window in windows:
        key = window_key(channel, account, window)
        if not window.opens_on.isdisjoint(did):
            opened[key] = max(at, opened.get(key, at))
        if not window.closes_on.isdisjoint(did):
            closed[key] = max(at, closed.get(key, at))
    if (opened, closed) != (doc.opened, doc.closed):
        ws.put(replace(doc, opened=opened, closed=closed))
