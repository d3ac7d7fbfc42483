"""What a channel allows to one address now, shown to agents before they type."""

from __future__ import annotations

from datetime import datetime

import msgspec

from hub.documents import AddressDoc
from hub.outbound.ledger import Ledger
from hub.outbound.quotas import counters
from hub.outbound.windows import open_windows
from hub.store.interface import Store
from normalizer.capabilities import Capabilities


class WindowNow(msgspec.Struct, frozen=True, kw_only=True):
    """``sends`` and ``sends_left`` are None where any number may be sent while it is open."""

    name: str
    open: bool
    open_until: datetime | None
    sends: int | None
    sends_left: int | None
    templates_pass: bool


class QuotaNow(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    per: str
    sends: int
    sends_left: int
    resets_at: datetime
    templates: bool


async def limits_of(
    store: Store, can: Capabilities, address: AddressDoc, now: datetime
) -> tuple[list[WindowNow], list[QuotaNow]]:
    """Return the windows and the quotas of an address, as they are now. Raises StoreError."""
    ledger = Ledger(store)
    opened = open_windows(can, address, address.channel, address.account, now)
    windows = []
    for window in can.windows:
        mine = [each for each in opened if each.window.name == window.name]
        counters_open = [each.counter for each in mine if each.counter is not None]
        places = sum(each.places for each in counters_open)
        used = [await ledger.used(each) for each in counters_open]
        windows.append(
            WindowNow(
                name=window.name,
                open=bool(mine),
                open_until=max((each.until for each in mine), default=None),
                sends=None if window.sends is None else places or window.sends,
                sends_left=None if window.sends is None else places - sum(used),
                templates_pass=window.templates_pass,
            )
        )
    quotas = [
        QuotaNow(
            name=each.quota.name,
            per=each.quota.per,
            sends=each.quota.sends,
            sends_left=each.counter.places - await ledger.used(each.counter),
            resets_at=each.counter.ends,
            templates=each.quota.templates,
        )
        for each in counters(can, address.channel, address.account, address.id, now)
    ]
    return windows, quotas
