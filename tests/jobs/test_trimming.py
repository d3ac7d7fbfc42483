"""Old inbox items and feed rows are taken away by their ids, everything else stays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from hub.accounts import Switches
from hub.documents import FeedRow, InboxItem
from hub.housekeeping import TRIM_AT_ONCE, Housekeeping
from hub.ids import earliest_id
from hub.store.memory import MemoryStore
from hub.testing import FakeClock

KEPT = timedelta(days=30)


def _housekeeping(store: MemoryStore, clock: FakeClock) -> Housekeeping:
    return Housekeeping(
        store,
        cast(Any, None),
        Switches(store, {}),
        clock,
        owner="test",
        silence=timedelta(hours=72),
        inbox_kept=KEPT,
    )


async def test_routed_items_go_after_their_time_and_waiting_ones_stay() -> None:
    store, clock = MemoryStore(), FakeClock()
    old, young = clock.now() - KEPT - timedelta(days=1), clock.now() - KEPT + timedelta(days=1)

    def item(number: int, moment: Any, **more: Any) -> InboxItem:
        ident = f"{earliest_id('in', moment)[:-1]}{number}"
        return InboxItem(
            id=ident, channel="c", account="a", received_at=moment, door="webhook", **more
        )

    routed, waiting, held = item(1, old), item(2, old, open=True), item(3, old, held=True)
    fresh = item(4, young)
    await store.table(InboxItem).insert([routed, waiting, held, fresh])
    assert await _housekeeping(store, clock).trim_inbox() == 1
    left = {each.id for each in await store.table(InboxItem).find({})}
    assert left == {waiting.id, held.id, fresh.id}


async def test_old_feed_rows_go_from_the_start() -> None:
    store, clock = MemoryStore(), FakeClock()
    now = clock.now()
    count = TRIM_AT_ONCE + 10
    rows = [
        FeedRow(
            id=number,
            type="message.received",
            at=now,
            recorded_at=now,
            expire_at=now + timedelta(seconds=1 if number > count - 5 else -1),
        )
        for number in range(1, count + 1)
    ]
    await store.table(FeedRow).insert(rows)
    assert await _housekeeping(store, clock).trim_feed() == count - 5
    assert sorted(row.id for row in await store.table(FeedRow).find({})) == list(
        range(count - 4, count + 1)
    )
