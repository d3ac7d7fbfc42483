"""Named consumers: the hub keeps their place, moves it only when told, and says how far it is."""

from __future__ import annotations

import asyncio

import pytest

from hub.documents import FeedRow
from hub.feed import consumers
from tests.feed.world import World

PATH = "/feed/v1/consumers/helpdesk"


async def test_a_cursor_is_compared_and_set(here: World) -> None:
    key = await here.key()
    for _ in range(4):
        await here.say("ann")
    await here.routed()
    first = (await here.page(key, limit=1))["next_cursor"]
    second = (await here.page(key, limit=2))["next_cursor"]
    assert (await here.request("GET", PATH, key))[0] == 404
    new = {"cursor": first, "if_cursor": None}
    status, told = await here.request("PUT", PATH, key, json=new)
    assert (status, told["cursor"]) == (200, first)
    assert (await here.request("PUT", PATH, key, json=new))[0] == 200  # its answer was lost
    moved = {"cursor": second, "if_cursor": first}
    assert (await here.request("PUT", PATH, key, json=moved))[0] == 200
    status, problem = await here.request(
        "PUT", PATH, key, json={"cursor": first, "if_cursor": first}
    )
    assert (status, problem["cursor"]) == (409, second)
    status, problem = await here.request(
        "PUT", PATH, key, json={"cursor": first, "if_cursor": None}
    )
    assert (status, problem["cursor"]) == (409, second)
    back = {"cursor": first}
    assert (await here.request("PUT", PATH, key, json=back))[0] == 200
    assert (await here.request("GET", PATH, key))[1]["cursor"] == first


async def test_of_many_who_move_it_at_once_one_wins(here: World) -> None:
    key = await here.key()
    for _ in range(8):
        await here.say("ann")
    await here.routed()
    cursors = [(await here.page(key, limit=n))["next_cursor"] for n in range(1, 9)]
    await here.request("PUT", PATH, key, json={"cursor": cursors[0]})
    answers = await asyncio.gather(
        *(
            here.request("PUT", PATH, key, json={"cursor": each, "if_cursor": cursors[0]})
            for each in cursors[1:]
        )
    )
    assert sorted(status for status, _ in answers) == [200] + [409] * 6
    (won,) = (told["cursor"] for status, told in answers if status == 200)
    assert (await here.request("GET", PATH, key))[1]["cursor"] == won
    fresh = await asyncio.gather(
        *(
            here.request(
                "PUT", "/feed/v1/consumers/new", key, json={"cursor": c, "if_cursor": None}
            )
            for c in cursors
        )
    )
    assert sorted(status for status, _ in fresh) == [200] + [409] * 7


async def test_the_lag_is_counted_and_reading_does_not_move_it(here: World) -> None:
    key = await here.key()
    await here.request("PUT", PATH, key, json={"cursor": "tail"})
    _, told = await here.request("GET", PATH, key)
    assert (told["lag_events"], told["lag_seconds"], told["expired"]) == (0, 0, False)
    await here.say("ann")
    end = await here.routed()
    await here.page(key, cursor=told["cursor"])
    _, told = await here.request("GET", PATH, key)
    assert told["lag_events"] == end
    (row,) = await here.hub.store.table(FeedRow).find({"_id": 1})
    age = (here.hub.clock.now() - row.recorded_at).total_seconds()
    assert 0 <= told["lag_seconds"] <= age
    assert told["seen_by"].startswith("key_")
    await here.hub.store.table(FeedRow).delete({"_id": 1})
    assert (await here.request("GET", PATH, key))[1]["expired"] is True


async def test_consumers_are_listed_and_forgotten(here: World) -> None:
    key = await here.key()
    for name in ("b", "a", "c.d-e_f"):
        await here.request("PUT", f"/feed/v1/consumers/{name}", key, json={"cursor": "tail"})
    _, told = await here.request("GET", "/feed/v1/consumers", key)
    assert [each["name"] for each in told["consumers"]] == ["a", "b", "c.d-e_f"]
    assert (await here.request("DELETE", "/feed/v1/consumers/a", key))[0] == 403
    admin = await here.key("feed:read", "feed:write")
    assert (await here.request("DELETE", "/feed/v1/consumers/a", admin))[0] == 204
    assert (await here.request("DELETE", "/feed/v1/consumers/a", admin))[0] == 404
    _, told = await here.request("GET", "/feed/v1/consumers", key)
    assert [each["name"] for each in told["consumers"]] == ["b", "c.d-e_f"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (PATH, {"cursor": "nonsense"}, 400),
        (PATH, {}, 422),
        (PATH, {"cursor": "tail", "more": 1}, 422),
        (PATH, {"cursor": 5}, 422),
        ("/feed/v1/consumers/-x", {"cursor": "tail"}, 400),
        ("/feed/v1/consumers/" + "x" * 65, {"cursor": "tail"}, 400),
    ],
)
async def test_what_is_not_understood_is_refused(
    here: World, path: str, body: dict[str, object], status: int
) -> None:
    assert (await here.request("PUT", path, await here.key(), json=body))[0] == status


async def test_there_is_a_bound_to_their_number(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "MAX_CONSUMERS", 2)
    key = await here.key()
    for name, status in (("a", 200), ("b", 200), ("c", 409), ("a", 200)):
        told = {"cursor": "tail"}
        assert (await here.request("PUT", f"/feed/v1/consumers/{name}", key, json=told))[
            0
        ] == status
