"""The feed as server-sent events: resuming, the seam between log and live, and slow readers."""

from __future__ import annotations

import asyncio
import socket
import time
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pytest

from hub.documents import FeedRow, State
from hub.feed import stream as stream_module
from hub.feed import tickets
from hub.feed.access import Selection
from hub.feed.cursors import Cursors
from hub.feed.stream import Timing
from tests.feed.world import World, until


async def streams(here: World, count: int) -> None:
    """Wait until so many streams are open."""

    async def reached() -> bool:
        return here.feed.streams.count == count

    await until(reached)


def cursor(here: World, position: int) -> str:
    return Cursors(here.hub.key).text(here.hub.tail.generation, position, Selection())


async def test_a_stream_has_the_form_that_browsers_and_proxies_want(here: World) -> None:
    key = await here.key()
    await here.say("ann", "你好\n\r\n😀")
    await here.routed()
    async with here.stream(key, types="message.*") as events:
        headers = events.answer.headers
        assert headers["Content-Type"] == "text/event-stream"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Accel-Buffering"] == "no"
        first = await events.block()
        assert first is not None
        assert first.retry == "3000"
        (event,) = await events.take(1)
        assert event.event == "omniline.message.received.v1"
        assert msgspec.json.decode(event.data)["data"]["entry"]["text"] == "你好\n\n😀"
    page = await here.page(key, types="message.*")
    assert msgspec.json.decode(event.data) == page["events"][0]


async def test_a_stream_resumes_at_every_position_and_goes_on_live(here: World) -> None:
    key = await here.key()
    for number in range(4):
        await here.say("ann", str(number))
    end = await here.routed()
    for position in range(end + 1):
        async with here.stream(key, cursor=cursor(here, position)) as events:
            replayed = await events.take(end - position)
            assert [each.position for each in replayed] == list(range(position + 1, end + 1))
    async with here.stream(key, last=cursor(here, end)) as events:
        await events.block()
        await here.say("ann", "live")
        (live,) = await events.take(1)
        assert live.position == end + 1


async def test_the_id_of_each_event_is_the_cursor_behind_it(here: World) -> None:
    key = await here.key()
    for number in range(3):
        await here.say("ann", str(number))
    end = await here.routed()
    async with here.stream(key) as events:
        for block in await events.take(end):
            assert block.id == cursor(here, block.position)
            page = await here.page(key, cursor=block.id)
            assert len(page["events"]) == end - block.position


async def test_the_last_event_id_wins_over_the_cursor(here: World) -> None:
    key = await here.key()
    for _ in range(3):
        await here.say("ann")
    end = await here.routed()
    last = cursor(here, end - 1)
    async with here.stream(key, cursor=cursor(here, 0), last=last) as events:
        (event,) = await events.take(1)
        assert event.position == end


@pytest.mark.parametrize("buffer", [1, 256])
async def test_the_seam_between_log_and_live_has_no_gap_and_nothing_twice(
    here: World, monkeypatch: pytest.MonkeyPatch, buffer: int
) -> None:
    """Streams that begin at any moment of a flood see 1, 2, 3 ..., with a tiny buffer as well."""
    monkeypatch.setattr(stream_module, "BUFFER", buffer)
    key = await here.key()
    count = 300

    async def write(sender: int) -> None:
        for _ in range(count // 10):
            await here.say(f"s{sender}")

    async def follow(after: int) -> list[int]:
        async with asyncio.timeout(60):
            while here.hub.tail.position < after:
                await asyncio.sleep(0.001)
            async with here.stream(key) as events:
                seen: list[int] = []
                while not seen or seen[-1] < count:
                    seen += [each.position for each in await events.take(1)]
                return seen

    readers = [asyncio.create_task(follow(after)) for after in (0, 1, 40, 120, 200, 280)]
    await asyncio.gather(*(write(sender) for sender in range(10)))
    for reader in readers:
        assert await reader == list(range(1, count + 1))


async def test_a_reader_that_loses_its_connection_again_and_again_misses_nothing(
    here: World,
) -> None:
    """It comes back with the last id it saw, as browsers do, while others write."""
    key = await here.key()
    writer = asyncio.create_task(_flood(here, 200))
    seen: list[int] = []
    last = ""
    while len(seen) < 200:
        async with here.stream(key, last=last) as events:
            for block in await events.take(7):
                seen.append(block.position)
                last = block.id
    await writer
    end = await here.routed()
    async with here.stream(key, last=last) as events:
        seen += [block.position for block in await events.take(end - len(seen))]
    assert seen == list(range(1, end + 1))


async def _flood(here: World, count: int) -> None:
    for number in range(count):
        await here.say(f"s{number % 5}", str(number))


async def test_a_bad_or_expired_cursor_is_refused_before_the_stream_starts(here: World) -> None:
    key = await here.key()
    await here.say("ann")
    end = await here.routed()
    for headers, query, status, kind in (
        ({"Last-Event-ID": "nonsense"}, {}, 400, "cursor-invalid"),
        ({}, {"cursor": "nonsense"}, 400, "cursor-invalid"),
        ({"Last-Event-ID": cursor(here, 0)}, {"types": "message.*"}, 400, "cursor-invalid"),
        ({}, {"type": "message.*"}, 400, "bad-request"),
    ):
        async with here.session.get(
            f"{here.url}/feed/v1/stream", params=query, headers={**key, **headers}
        ) as answer:
            assert answer.status == status
            assert (await answer.json(content_type=None))["type"].endswith(kind)
    await here.hub.store.table(FeedRow).delete({"_id": {"$lt": end}})
    status, problem = await here.request("GET", f"/feed/v1/stream?cursor={cursor(here, 0)}", key)
    assert (status, problem["type"].rpartition("/")[2]) == (410, "cursor-expired")
    async with here.stream(key, cursor=problem["earliest_cursor"]) as events:
        (event,) = await events.take(1)
        assert event.position == end


class TestQuickly:
    """With short times."""

    @pytest.fixture
    def timing(self) -> Timing:
        return Timing(heartbeat_s=0.05, skipped_s=0.02, life_s=0.6, send_s=0.3, goodbye_s=0.3)

    async def test_a_quiet_stream_has_a_heartbeat_and_ends_when_it_is_old(
        self, here: World
    ) -> None:
        began = time.monotonic()
        async with here.stream(await here.key(), cursor="tail") as events:
            comments = []
            while (block := await events.block()) is not None:
                comments.append(block.comment)
        assert comments[0] == ""
        assert set(comments[1:]) == {"hb"}
        assert 3 <= len(comments) <= 20
        assert 0.5 < time.monotonic() - began < 5
        await streams(here, 0)

    async def test_what_is_filtered_out_moves_the_id_without_an_event(self, here: World) -> None:
        async with here.stream(await here.key(), cursor="tail", types="ticket.*") as events:
            await events.block()
            await here.say("ann")
            end = await here.routed()
            while (block := await events.block()) is not None:
                assert not block.data
                if block.id and Cursors(here.hub.key).read(block.id).position == end:
                    return
        pytest.fail("the last id did not follow")


class TestSlowly:
    """With a short limit for what a reader takes, and a long life."""

    @pytest.fixture
    def timing(self) -> Timing:
        return Timing(send_s=0.3, goodbye_s=5.0)

    async def test_who_takes_nothing_is_told_to_come_back_and_disconnected(
        self, here: World, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Some 40 MB do not fit into any socket; what was sent before the overflow is whole."""
        key = await here.key()
        await here.say("ann", "字" * 8_000)
        end = await here.routed()
        await _many(here, end, 1500)
        reader = _lazy_reader(here, key)

        async def given_up() -> bool:
            return "feed_stream_too_slow" in capsys.readouterr().out

        await until(given_up)
        rest = await asyncio.to_thread(_everything, reader)
        assert rest.count(b"event: overflow") == 1
        assert rest.endswith(b"event: overflow\ndata: {}\n\n\r\n0\r\n\r\n"), rest[-200:]
        await streams(here, 0)
        ids = [line[4:] for line in rest.split(b"\n") if line.startswith(b"id: ")]
        async with here.stream(key, last=ids[-1].decode()) as events:
            (event,) = await events.take(1)
            before = Cursors(here.hub.key).read(ids[-1].decode()).position
            assert event.position == before + 1

    async def test_who_never_comes_back_is_cut_off(self, here: World) -> None:
        key = await here.key()
        await here.say("ann", "字" * 8_000)
        end = await here.routed()
        await _many(here, end, 1500)
        reader = _lazy_reader(here, key)
        await streams(here, 1)
        await streams(here, 0)
        reader.close()


async def _many(here: World, end: int, count: int) -> None:
    """Tell the last event so many times more, behind the router's back."""
    rows = here.hub.store.table(FeedRow)
    (last,) = await rows.find({"_id": end})
    await rows.insert(
        [msgspec.structs.replace(last, id=end + number) for number in range(1, count + 1)]
    )
    await here.hub.store._driver.collection("router").update_one(  # type: ignore[attr-defined]
        {"_id": "router"}, {"$set": {"position": end + count}}
    )


def _lazy_reader(here: World, key: dict[str, str]) -> socket.socket:
    """Ask for the stream by a bare socket with small buffers."""
    place = urlsplit(here.url)
    assert place.hostname
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.settimeout(20)
    reader.connect((place.hostname, place.port))
    lines = ["GET /feed/v1/stream HTTP/1.1", "Host: hub", f"Authorization: {key['Authorization']}"]
    reader.sendall("\r\n".join([*lines, "", ""]).encode())
    return reader


def _everything(reader: socket.socket) -> bytes:
    got = bytearray()
    with reader:
        while chunk := reader.recv(1 << 20):
            got += chunk
    return bytes(got)


async def test_streams_and_long_polls_do_not_keep_the_hub_from_stopping(here: World) -> None:
    """Idle streams, one whose reader takes nothing, and long polls all end at once."""
    key = await here.key()
    await here.say("ann", "字" * 8_000)
    end = await here.routed()
    await _many(here, end, 1500)
    lazy = _lazy_reader(here, key)
    await streams(here, 1)
    polls = [asyncio.create_task(here.page(key, cursor="tail", wait=25)) for _ in range(3)]
    sessions = []
    for _ in range(5):
        answer = await here.session.get(
            f"{here.url}/feed/v1/stream", params={"cursor": "tail"}, headers=key
        )
        await answer.content.readuntil(b"\n\n")
        sessions.append(answer)
    began = time.monotonic()
    await here.stop()
    assert time.monotonic() - began < 4.0  # the HTTP server alone would wait for five
    for poll in polls:
        assert (await poll)["events"] == []
    for answer in sessions:
        assert await answer.content.read() == b""
    lazy.close()


async def test_a_key_has_a_bounded_number_of_streams_and_those_it_left_do_not_count(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "PER_KEY", 2)
    key, other = await here.key(), await here.key()
    async with here.stream(key, cursor="tail"):
        async with here.stream(key, cursor="tail"):
            async with here.session.get(f"{here.url}/feed/v1/stream", headers=key) as answer:
                assert answer.status == 429
                assert int(answer.headers["Retry-After"]) > 0
            async with here.stream(other, cursor="tail"):
                await streams(here, 3)

        async def again() -> bool:
            async with here.session.get(f"{here.url}/feed/v1/stream", headers=key) as answer:
                return answer.status == 200

        await until(again)


async def test_a_ticket_opens_one_stream_and_nothing_else(here: World) -> None:
    key = await here.key()
    await here.say("ann")
    end = await here.routed()
    status, told = await here.request("POST", "/feed/v1/stream-tickets", key)
    assert status == 201
    ticket = told["ticket"]
    for path in ("/feed/v1/events", "/feed/v1/consumers"):
        status, _ = await here.request("GET", f"{path}?ticket={ticket}", {})
        assert status == 401
    async with here.stream({}, ticket=ticket) as events:
        assert len(await events.take(end)) == end
    for used in (ticket, "tkt_" + "x" * 32, ""):
        status, problem = await here.request("GET", f"/feed/v1/stream?ticket={used}", {})
        assert (status, problem["type"].rpartition("/")[2]) == (401, "unauthorized")


async def test_of_two_who_come_with_one_ticket_only_one_gets_in(here: World) -> None:
    _, told = await here.request("POST", "/feed/v1/stream-tickets", await here.key())
    url = f"{here.url}/feed/v1/stream?cursor=tail&ticket={told['ticket']}"
    answers = await asyncio.gather(*(here.session.get(url) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [200, 401, 401, 401, 401]
    for answer in answers:
        answer.close()


async def test_an_old_ticket_is_worth_nothing_and_is_swept_away(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await here.key()
    monkeypatch.setattr(tickets, "LIFE_S", -1)
    _, told = await here.request("POST", "/feed/v1/stream-tickets", key)
    await here.request("POST", "/feed/v1/stream-tickets", key)
    where = {"_id": {"$regex": "^feed/ticket/"}}
    assert await here.hub.store.table(State).count(where) == 1
    status, _ = await here.request("GET", f"/feed/v1/stream?ticket={told['ticket']}", {})
    assert status == 401


async def test_without_a_key_there_is_no_stream(here: World) -> None:
    for path in ("/feed/v1/stream", "/feed/v1/events"):
        assert (await here.request("GET", path, {}))[0] == 401
        assert (await here.request("GET", path, await here.key("customers:read")))[0] == 403
    timeout = aiohttp.ClientTimeout(total=5)
    async with here.session.get(
        f"{here.url}/feed/v1/stream?api_key=omk_x", timeout=timeout
    ) as answer:
        assert answer.status == 401
