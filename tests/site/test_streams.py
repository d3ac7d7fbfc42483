"""Resume, reset, long poll, slow readers, heartbeats, and the clean end of everything."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from connectors.site import longpoll, sockets
from connectors.site.tokens import sign_cursor
from hub.store.interface import Unavailable
from tests.site.conftest import MakeSite
from tests.site.space import Running, Tab

KEY = "018bcfe5-6800-7a10-9c3e-0d6f5a1b2c3d"


async def talk(running: Running, tab: Tab, answers: int) -> str:
    """Send a message and let an agent answer; return the conversation of the agents."""
    await tab.sends("hello", KEY)
    (entry,) = await running.space.entries(kind="message")
    for number in range(answers):
        await running.space.answers(str(entry.conversation), f"answer {number}")
    return str(entry.conversation)


# --- resume --------------------------------------------------------------------------------------


async def test_a_client_resumes_where_it_was_cut_off(running: Running) -> None:
    """What happened meanwhile comes first, in order and once; then it goes on live."""
    tab = await (await running.visitor()).connect()
    conversation = await talk(running, tab, 1)
    await tab.expect("msg.new", seq="2")
    cursor = tab.cursor
    await tab.hang_up()
    for number in range(3):
        await running.space.answers(conversation, f"missed {number}")

    again = await tab.another()
    await again.connect(cursor=cursor)
    resumed = await again.expect("resumed")
    await running.space.answers(conversation, "live")
    await again.expect("msg.new", seq="6")

    assert resumed["count"] == 3
    texts = [f["parts"][0]["text"] for f in again.seen if f["t"] == "msg.new"]
    assert texts == ["missed 0", "missed 1", "missed 2", "live"]


async def test_the_cursor_of_the_session_leaves_no_gap_before_the_socket(
    running: Running,
) -> None:
    """What is said between POST /sessions and hello is there after hello."""
    tab = await running.visitor()
    await tab.post_text("by REST", KEY)
    await tab.connect(cursor=tab.cursor)

    assert (await tab.expect("resumed"))["count"] >= 1
    assert (await tab.expect("msg.new"))["client_msg_id"] == KEY


@pytest.mark.parametrize("what", ["forged", "another visitor's", "over a day old", "nonsense"])
async def test_a_cursor_that_is_not_the_visitors_resets(running: Running, what: str) -> None:
    """The client is told to fetch by REST, and goes on live from the present."""
    tab, other = await running.visitor(), await running.visitor()
    cursor = {
        "forged": tab.cursor[:-2] + "xx",
        "another visitor's": other.cursor,
        "over a day old": tab.cursor,
        "nonsense": "1.2.3.é",
    }[what]
    if what == "over a day old":
        running.clock.advance(25 * 3600)
        tab = await running.visitor(visitor_token=tab.visitor_token)
    await tab.connect(cursor=cursor)

    reset = await tab.expect("reset")
    assert reset["reason"] in ("cursor_invalid", "cursor_too_old")
    assert (await tab.sends("hello", KEY))["seq"] == "1"


async def test_more_than_500_missed_events_reset(running: Running) -> None:
    """Rather than replaying for ever, the client starts afresh."""
    tab = await (await running.visitor()).connect()
    conversation = await talk(running, tab, 0)
    cursor = tab.cursor
    await tab.hang_up()
    for number in range(251):  # two events each: written, and left
        await running.space.answers(conversation, f"answer {number}")

    again = await (await tab.another()).connect(cursor=cursor)

    reset = await again.expect("reset")
    assert reset["reason"] == "too_much_missed"
    await running.space.answers(conversation, "live")
    assert (await again.expect("msg.new"))["parts"][0]["text"] == "live"


async def test_a_cursor_names_no_position_of_another_visitor() -> None:
    """Two visitors' cursors of one position differ: nobody learns from one about the other."""
    from datetime import UTC, datetime

    now = datetime(2026, 1, 1, tzinfo=UTC)
    one, two = (sign_cursor(b"k" * 32, visitor, 7, now) for visitor in ("a", "b"))
    assert one != two


async def test_a_replay_larger_than_the_queue_is_not_a_slow_reader(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """400 missed frames through a queue of 256: the replay waits for room."""
    monkeypatch.setattr(sockets, "QUEUE", 8)
    tab = await (await running.visitor()).connect()
    conversation = await talk(running, tab, 0)
    cursor = tab.cursor
    await tab.hang_up()
    for number in range(100):
        await running.space.answers(conversation, f"answer {number}")

    again = await (await tab.another()).connect(cursor=cursor)
    await again.expect("msg.new", seq="101")


@pytest.mark.parametrize("change", ["auth.refresh", "auth.identify", "auth.logout"])
async def test_a_socket_that_cannot_go_on_as_another_session_is_closed_and_not_deaf(
    running: Running, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """The database may be away just then: a socket that follows nothing looks like silence."""
    tab = await (await running.visitor()).connect()
    conversation = await talk(running, tab, 1)
    said = {
        "auth.refresh": {"access_token": tab.token},
        "auth.identify": {"identity_token": running.identity("10086")},
        "auth.logout": {},
    }[change]

    async def away(session: object) -> None:
        raise Unavailable("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(running.site.audiences, "of", away)
        await tab.say(change, **said)
        assert await tab.closed() == 4503
    if change == "auth.logout":
        assert (await tab.call("GET", "/conversations")).code == "auth_required"
        return
    await tab.connect(cursor=tab.cursor)
    await running.space.answers(conversation, "heard again")
    assert (await tab.expect("msg.new", seq="3"))["parts"][0]["text"] == "heard again"


async def test_a_client_that_does_not_read_is_sent_away_with_4503(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is bounded; other tabs of the visitor do not notice."""
    monkeypatch.setattr(sockets, "QUEUE", 16)
    slow = await (await running.visitor()).connect()
    fine = await (await slow.another()).connect()
    conversation = await talk(running, slow, 0)
    await fine.expect("msg.new")
    assert slow.ws is not None
    stuck = next(iter(running.site.registry._listeners))  # the first that came
    blocked = asyncio.Event()
    original = stuck._ws.send_str  # type: ignore[attr-defined]

    async def never(text: str) -> None:
        await blocked.wait()
        await original(text)

    monkeypatch.setattr(stuck._ws, "send_str", never)  # type: ignore[attr-defined]
    for number in range(20):
        await running.space.answers(conversation, f"answer {number}")
    await asyncio.wait_for(asyncio.shield(stuck._ended), 5)  # type: ignore[attr-defined]
    blocked.set()

    assert await slow.closed() == 4503
    await fine.expect("msg.new", seq="21")


async def test_a_lost_connection_leaves_nothing_behind(running: Running) -> None:
    """No listener, no task: a thousand lost tabs would be a thousand leaks."""
    tabs = [await (await running.visitor()).connect() for _ in range(3)]
    before = {task.get_name() for task in asyncio.all_tasks()}
    assert "site-follower" in before
    for tab in tabs:
        assert tab.ws is not None
        tab.ws._response.close()  # type: ignore[union-attr]

    async with asyncio.timeout(5):
        while any(task.get_name().startswith("site-") for task in _tasks()):
            await asyncio.wait(_tasks(), timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
    assert not running.site.registry._listeners


def _tasks() -> list[asyncio.Task[object]]:
    names = ("site-follower", "site-writer", "site-reader")
    return [task for task in asyncio.all_tasks() if task.get_name() in names] or [
        asyncio.current_task()  # type: ignore[list-item]
    ]


async def test_the_hub_pings_sockets(make_site: MakeSite) -> None:
    """Proxies cut what is silent for a minute: the welcome says the beat, and it beats."""
    running = await make_site(heartbeat_s=1)
    tab = await running.visitor()
    await tab.dial(autoping=False)
    await tab.say("hello", access_token=tab.token)
    welcome = await tab.expect("welcome")
    assert tab.ws is not None

    ping = await tab.ws.receive(timeout=5)

    assert welcome["heartbeat_s"] == 1
    assert ping.type.name == "PING"


async def test_the_socket_speaks_the_subprotocol(running: Running) -> None:
    """omniline.v1 is agreed on; a client of another protocol is refused before it speaks."""
    tab = await (await running.visitor()).dial()
    assert tab.ws is not None
    assert tab.ws.protocol == "omniline.v1"
    headers = {"Sec-WebSocket-Protocol": "omniline.v9"}
    refused = await running.call("GET", "/ws", headers=headers)
    assert refused.code == "bad_frame"


async def test_the_token_never_stands_in_a_url(running: Running) -> None:
    """A token in the query is not looked at: it would end in logs and referrers."""
    tab = await running.visitor()
    answer = await running.call("GET", f"/conversations?access_token={tab.token}")
    assert answer.code == "auth_required"


# --- long poll -----------------------------------------------------------------------------------


async def poll(tab: Tab, *, wait: int = 5) -> list[dict[str, object]]:
    answer = await tab.call("GET", f"/events?wait={wait}&cursor={tab.cursor}")
    assert answer.status == 200, answer.body
    tab.cursor = answer.json["cursor"]
    events: list[dict[str, object]] = answer.json["events"]
    return events


async def test_a_long_poll_brings_the_frames_that_a_socket_gets(running: Running) -> None:
    """What was missed at once, what happens later when it happens, each once."""
    tab = await running.visitor()
    await tab.post_text("hello", KEY)
    missed = await poll(tab)
    (entry,) = await running.space.entries(kind="message")
    waiting = asyncio.create_task(poll(tab))
    await _until_listening(running)
    await running.space.answers(str(entry.conversation), "hi")
    later = await waiting

    assert [f["t"] for f in missed if f["t"] == "msg.new"] == ["msg.new"]
    new = [f for f in later if f["t"] == "msg.new"]
    assert [f["seq"] for f in new] == ["2"]
    assert await poll(tab, wait=0) == []


async def _until_listening(running: Running) -> None:
    async with asyncio.timeout(5):
        while not running.site.registry._listeners:
            await asyncio.sleep(0)


async def test_a_long_poll_hears_typing(running: Running) -> None:
    """What is never stored reaches a waiting poll as well."""
    tab = await running.visitor()
    await tab.post_text("hello", KEY)
    await poll(tab)
    (entry,) = await running.space.entries(kind="message")
    waiting = asyncio.create_task(poll(tab))
    await _until_listening(running)
    payload = {"address": entry.address, "thread": entry.thread, "by": "agent", "on": True}
    await running.space.signal("site/site-7/typing", payload)

    assert [f["t"] for f in await waiting] == ["typing"]


async def test_a_long_poll_ends_with_its_time(running: Running) -> None:
    """Nothing happened: an empty answer with a cursor, after the time that was asked for."""
    tab = await running.visitor()
    began = time.monotonic()
    assert await poll(tab, wait=1) == []
    assert 0.9 < time.monotonic() - began < 4


async def test_a_long_poll_with_a_bad_cursor_is_reset(running: Running) -> None:
    """The same reset frame as on the socket, and a cursor to go on with."""
    tab = await running.visitor()
    tab.cursor = "x"
    (frame,) = await poll(tab, wait=0)
    assert (frame["t"], frame["reason"]) == ("reset", "cursor_invalid")
    assert await poll(tab, wait=0) == []


async def test_a_restart_ends_waiting_polls_at_once(running: Running) -> None:
    """Nobody waits 25 seconds for a hub that is going down."""
    tab = await running.visitor()
    await tab.post_text("hello", KEY)
    await poll(tab)
    waiting = asyncio.create_task(poll(tab, wait=25))
    await _until_listening(running)
    await running.connector.drain()
    frames = await asyncio.wait_for(waiting, 2)
    assert [f["t"] for f in frames] == ["going_away"]
    assert longpoll.MAX_WAIT_S == 25


async def test_seqs_and_ids_are_strings_everywhere(running: Running) -> None:
    """JavaScript's numbers cannot hold every id: no frame has one where an id stands."""
    tab = await (await running.visitor()).connect()
    await talk(running, tab, 1)
    await tab.say("receipt", conversation_id=tab.seen[-1].get("conversation_id", ""), read_seq="2")
    await tab.settle()

    for frame in tab.seen:
        for name in ("v",):
            assert frame[name] == 1
        for name in ("seq", "rev", "id", "re", "cursor", "read_seq", "delivered_seq"):
            if name in frame:
                assert isinstance(frame[name], str), json.dumps(frame)
