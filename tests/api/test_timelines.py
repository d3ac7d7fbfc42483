"""Timelines over HTTP: order, pages, filters, and the cursor's honesty."""

from __future__ import annotations

from tests.support.hubs import RunningHub


async def test_a_message_is_read_back_from_the_timeline(api: RunningHub) -> None:
    entry = await api.message("你好 Omniline")
    customer = await api.customer("ann")
    page = await api.get(f"/api/v1/customers/{customer}/timeline")
    assert [each["id"] for each in page["entries"]] == [entry.id]
    assert page["entries"][0]["text"] == "你好 Omniline"
    assert page["next_cursor"] is None
