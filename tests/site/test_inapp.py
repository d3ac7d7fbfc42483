"""In-app messages (站內信): ordered by the site's server, kept per user, read later."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.site import assembly
from connectors.site.inapp import ItemDoc
from tests.site.conftest import MakeSite
from tests.site.space import SERVER_KEY, Answer, Running, Tab

ITEM = {
    "category": "order",
    "title": "您的订单已发货",
    "body": "运单号 SF1234567890，点击查看。",
    "actions": [{"label": "查看物流", "url": "https://www.example.com/o/77"}],
}


@pytest.fixture(autouse=True)
def _quick_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "COUNT_AFTER_S", 0.02)


async def order(running: Running, *users: str, key: str = "order-1", **more: Any) -> Answer:
    headers = {"Authorization": f"Bearer {SERVER_KEY}", "Idempotency-Key": key}
    body = {"to": {"user_ids": list(users)}, **ITEM, **more}
    return await running.call("POST", "/inbox", origin=None, headers=headers, json=body)


async def inbox(tab: Tab, query: str = "") -> dict[str, Any]:
    answer = await tab.call("GET", f"/inbox{query}")
    assert answer.status == 200, answer.body
    page: dict[str, Any] = answer.json
    return page


async def test_an_item_waits_for_users_who_are_offline_or_were_never_seen(
    running: Running,
) -> None:
    """Two users that the hub has never heard of find their item at the first login."""
    answer = await order(running, "10086", "10087")
    tab = await running.user("10086")
    page = await inbox(tab)

    assert (answer.status, answer.json["accepted"]) == (202, ["10086", "10087"])
    (item,) = page["items"]
    assert (item["title"], item["body"]) == (ITEM["title"], ITEM["body"])
    assert (item["kind"], item["category"], item["state"]) == ("personal", "order", "unread")
    assert item["actions"] == ITEM["actions"]
    assert page["unread"] == 1
    assert tab.session["inbox"]["unread"] == 1


async def test_an_item_is_an_entry_of_the_users_timeline(running: Running) -> None:
    """Agents see it as a card of the system; its id is the item's."""
    await order(running, "10086")
    (entry,) = await running.space.entries(kind="message")
    (item,) = await running.space.store.table(ItemDoc).find({})

    assert item.id == entry.id
    assert (entry.direction, entry.sender.role, entry.event) == ("out", "system", "inbox.item")
    card = entry.parts[0]
    assert (card.title, card.text) == (ITEM["title"], ITEM["body"])  # type: ignore[union-attr]
    assert entry.delivery is not None
    assert entry.delivery.state == "accepted"


async def test_a_repeated_order_makes_nothing_twice(running: Running) -> None:
    """The same Idempotency-Key: the same answer; with other content a conflict."""
    first = await order(running, "10086", "10087")
    second = await order(running, "10086", "10087")
    conflict = await order(running, "10086", "10087", title="Something else")
    other = await order(running, "10086", key="order-2")

    assert first.json == second.json
    assert (conflict.status, conflict.code) == (409, "idempotency_conflict")
    assert other.status == 202
    assert await running.space.store.table(ItemDoc).count({}) == 3


async def test_an_order_that_was_cut_off_can_be_repeated(running: Running) -> None:
    """Nothing could be stored: 503, and the same key later orders for everybody once."""
    running.space.overloaded = True
    cut = await order(running, "10086", "10087")
    running.space.overloaded = False
    done = await order(running, "10086", "10087")

    assert (cut.status, cut.code) == (503, "unavailable")
    assert done.json["accepted"] == ["10086", "10087"]
    assert await running.space.store.table(ItemDoc).count({}) == 2


async def test_sending_an_item_again_makes_no_second_row(running: Running) -> None:
    """A worker that died after the row was made comes again with the same entry."""
    from hub import Outgoing

    await order(running, "10086")
    (entry,) = await running.space.entries(kind="message")
    message = Outgoing(
        entry=entry.id,
        key="job",
        address="site:site-7:user:10086",
        parts=entry.parts,
        event="inbox.item",
        subject=entry.subject,
        data=entry.data,
        attempt=2,
    )
    await running.connector.send(message)
    assert await running.space.store.table(ItemDoc).count({}) == 1


async def test_the_count_is_pushed_to_open_tabs_in_bursts_of_one(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three items at once are one push; nobody else's tab hears of it."""
    monkeypatch.setattr(assembly, "COUNT_AFTER_S", 1.5)  # "at once" takes longer on a busy machine
    tab = await (await running.user("10086")).connect()
    other = await (await running.user("10010")).connect()
    assert (await tab.expect("inbox.count"))["unread"] == 0
    await other.expect("inbox.count")
    for number in range(3):
        await order(running, "10086", key=f"order-{number}")

    count = await tab.expect("inbox.count")

    assert count["unread"] == 3
    assert count["latest_id"]
    assert [f for f in await tab.settle() if f["t"] == "inbox.count"] == []
    assert [f for f in await other.settle() if f["t"] == "inbox.count"] == []


async def test_an_item_that_opens_a_chat_shows_up_in_the_chat(running: Running) -> None:
    """It has its place in the thread, so that no place is missing; clients know it by `event`."""
    tab = await (await running.user("10086")).connect()
    await order(running, "10086")

    new = await tab.expect("msg.new")

    assert (new["seq"], new["event"], new["sender"]["kind"]) == ("1", "inbox.item", "system")
    assert new["parts"][0]["type"] == "card"
    assert new["parts"][0]["buttons"][0]["url"] == "https://www.example.com/o/77"
    page = await inbox(tab)
    assert page["items"][0]["thread"] == new["conversation_id"]


async def test_reading_archiving_and_deleting_lead_one_way(running: Running) -> None:
    """unread -> read -> archived | deleted; repeats are harmless, nothing leads back."""
    tab = await running.user("10086")
    await order(running, "10086")
    ident = (await inbox(tab))["items"][0]["id"]

    async def move(verb: str) -> Any:
        return (await tab.call("POST", f"/inbox/{ident}/{verb}")).json.get("state")

    assert [await move("read"), await move("read")] == ["read", "read"]
    assert (await tab.call("GET", "/inbox/count")).json["unread"] == 0
    assert [await move("archive"), await move("read")] == ["archived", "archived"]
    assert (await inbox(tab))["items"][0]["state"] == "archived"
    assert await move("delete") == "deleted"
    assert (await inbox(tab))["items"] == []
    gone = await tab.call("POST", f"/inbox/{ident}/read")
    assert (gone.status, gone.code) == (404, "conversation_not_found")
    (entry,) = await running.space.entries(kind="message")
    assert entry.delivery is not None
    assert entry.delivery.state == "read"  # agents see that it was read


async def test_reading_everything_up_to_an_item_leaves_the_newer(running: Running) -> None:
    """read-all with up_to_id: what came after the page was drawn stays unread."""
    tab = await running.user("10086")
    for number in range(4):
        await order(running, "10086", key=f"order-{number}", title=f"Item {number}")
        running.clock.advance(1)
    items = (await inbox(tab))["items"]
    assert [item["title"] for item in items] == ["Item 3", "Item 2", "Item 1", "Item 0"]

    answer = await tab.call("POST", "/inbox/read-all", json={"up_to_id": items[1]["id"]})

    assert answer.json["read"] == 3
    states = [item["state"] for item in (await inbox(tab))["items"]]
    assert states == ["unread", "read", "read", "read"]


async def test_pages_of_twenty_newest_first_without_gaps(running: Running) -> None:
    """45 items, some in the same millisecond: three pages, each item once."""
    tab = await running.user("10086")
    for number in range(45):
        await order(running, "10086", key=f"order-{number}", title=f"Item {number:02}")
        if number % 3 == 0:
            running.clock.advance(1)

    seen: list[str] = []
    sizes = []
    cursor = ""
    while True:
        page = await inbox(tab, f"?cursor={cursor}" if cursor else "")
        seen += [item["title"] for item in page["items"]]
        sizes.append(len(page["items"]))
        cursor = page["cursor"]
        if not cursor:
            break

    assert sizes == [20, 20, 5]
    assert sorted(seen) == [f"Item {number:02}" for number in range(45)]
    moments = [(int(title[-2:]) + 2) // 3 for title in seen]
    assert moments == sorted(moments, reverse=True)


async def test_a_cursor_of_another_user_opens_nothing(running: Running) -> None:
    """Cursors are signed for their user; a foreign or changed one is refused."""
    tab, other = await running.user("10086"), await running.user("10010")
    for number in range(21):
        await order(running, "10086", "10010", key=f"order-{number}")
    cursor = (await inbox(tab))["cursor"]

    for bad in (cursor[:-2] + "AA", "x", "AAAA"):
        assert (await tab.call("GET", f"/inbox?cursor={bad}")).code == "bad_frame"
    assert (await other.call("GET", f"/inbox?cursor={cursor}")).code == "bad_frame"


async def test_an_item_of_somebody_else_does_not_exist(running: Running) -> None:
    """Neither reading nor deleting, and no list, reaches another user's items."""
    tab, other = await running.user("10086"), await running.user("10010")
    await order(running, "10086")
    ident = (await inbox(tab))["items"][0]["id"]

    for verb in ("read", "archive", "delete"):
        assert (await other.call("POST", f"/inbox/{ident}/{verb}")).status == 404
    body = {"up_to_id": ident}
    assert (await other.call("POST", "/inbox/read-all", json=body)).status == 404
    assert (await inbox(other))["items"] == []
    assert (await inbox(tab))["items"][0]["state"] == "unread"


async def test_anonymous_visitors_have_no_inbox(running: Running) -> None:
    """In-app messages are for users; the session has to be logged in."""
    visitor = await running.visitor()
    for method, path in (("GET", "/inbox"), ("GET", "/inbox/count"), ("POST", "/inbox/x/read")):
        assert (await visitor.call(method, path)).code == "auth_required"


async def test_an_item_that_is_over_is_neither_listed_nor_counted(running: Running) -> None:
    """expires_at takes it off the list and off the badge."""
    tab = await running.user("10086")
    await order(running, "10086", expires_at="2026-03-02T10:00:00Z")
    assert (await inbox(tab))["unread"] == 1
    running.clock.advance(3600)
    tab = await running.user("10086")
    page = await inbox(tab)
    assert (page["items"], page["unread"]) == ([], 0)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"title": "长" * 101}, "bad_frame"),
        ({"title": " "}, "bad_frame"),
        ({"body": "长" * 1800}, "too_large"),
        ({"actions": [{"label": "x", "url": "https://evil.example/"}]}, "bad_frame"),
        ({"actions": [{"label": "x", "url": "javascript:alert(1)//www.example.com"}]}, "bad_frame"),
        (
            {"actions": [{"label": "x", "url": "https://www.example.com@evil.com/"}]},
            "bad_frame",
        ),
        ({"actions": [{"label": "x", "url": "https://www.example.com\\@evil"}]}, "bad_frame"),
        ({"to": {"user_ids": []}}, "bad_frame"),
        ({"to": {"user_ids": ["x"] * 501}}, "bad_frame"),
        ({"to": {"user_ids": ["x" * 129]}}, "bad_frame"),
        ({"importance": "urgent"}, "bad_frame"),
        ({"expires_at": "2026-03-02T10:00:00"}, "bad_frame"),
    ],
)
async def test_a_bad_order_is_refused_whole(
    running: Running, more: dict[str, Any], code: str
) -> None:
    """Nothing is written for anybody."""
    answer = await order(running, "10086", **more)
    assert answer.code == code
    assert await running.space.entries(kind="message") == []


async def test_an_order_needs_an_idempotency_key(running: Running) -> None:
    """Without one a repeat could not be told from a second order."""
    headers = {"Authorization": f"Bearer {SERVER_KEY}"}
    body = {"to": {"user_ids": ["1"]}, **ITEM}
    answer = await running.call("POST", "/inbox", origin=None, headers=headers, json=body)
    assert answer.code == "bad_frame"


async def test_a_subdomain_that_is_listed_may_be_linked(make_site: MakeSite) -> None:
    """Actions may lead to whatever the origins allow, patterns included."""
    running = await make_site()
    action = [{"label": "x", "url": "https://m.shop.example/a?b=1#c"}]
    assert (await order(running, "10086", actions=action)).status == 202
