"""What a visitor says and is told: sockets, REST, order, repeats, several tabs, answers.

The connector and its server are real, behind them the real planners over the in-memory store.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from connectors.site.tokens import uuid7
from tests.site.conftest import MakeSite
from tests.site.space import Running

KEY = "018bcfe5-6800-7a10-9c3e-0d6f5a1b2c3d"


async def test_a_message_is_acknowledged_then_comes_back_with_its_place(running: Running) -> None:
    """ack (durable) first, then msg.new with conversation, seq and the sender's own id."""
    tab = await (await running.visitor()).connect()

    re = await tab.text("在吗？我要开发票😀", KEY)
    ack = await tab.expect("ack")
    new = await tab.expect("msg.new")

    assert ack["re"] == re
    assert new["server_msg_id"] == ack["server_msg_id"]
    assert new["client_msg_id"] == KEY
    assert (new["seq"], new["rev"]) == ("1", "0")
    assert new["conversation_id"].startswith("thr_")
    assert new["sender"] == {"kind": "visitor"}
    assert new["parts"] == [{"type": "text", "text": "在吗？我要开发票😀", "format": "plain"}]
    (entry,) = await running.space.entries(kind="message")
    assert entry.id == ack["server_msg_id"]
    assert entry.data["level"] == "anonymous"


async def test_nothing_is_stored_about_a_visitor_before_the_first_message(
    running: Running,
) -> None:
    """A bot that opens a session and a socket leaves no row, no address, no conversation."""
    tab = await (await running.visitor()).connect()
    await tab.settle()

    assert running.space.taken == []
    assert await running.space.store.table(_visitor_doc()).count({}) == 0

    await tab.sends("hello", KEY)
    assert await running.space.store.table(_visitor_doc()).count({}) == 1


def _visitor_doc() -> type:
    from connectors.site.visitors import VisitorDoc

    return VisitorDoc


async def test_a_repeat_gets_the_same_ack_and_changes_nothing(running: Running) -> None:
    """Over the same socket, another one, and REST: one entry, one id."""
    tab = await (await running.visitor()).connect()
    await tab.text("hello", KEY)
    first = await tab.expect("ack")
    await tab.text("hello", KEY)
    second = await tab.expect("ack")

    other = await (await tab.another()).connect()
    await other.text("hello", KEY)
    third = await other.expect("ack")
    by_rest = await tab.post_text("hello", KEY)

    ids = {ack["server_msg_id"] for ack in (first, second, third)}
    assert ids == {by_rest.json["server_msg_id"]}
    assert len(await running.space.entries(kind="message")) == 1
    assert len(running.space.taken) == 1


async def test_a_repeat_is_known_from_the_timeline_when_the_process_is_new(
    make_site: MakeSite, running: Running
) -> None:
    """Without the memory of recent messages the stored entry tells the repeat and the conflict."""
    tab = await (await running.visitor()).connect()
    first = await tab.sends("hello", KEY)
    running.site.desk._recent.clear()

    await tab.text("hello", KEY)
    ack = await tab.expect("ack", server_msg_id=first["server_msg_id"])
    running.site.desk._recent.clear()
    await tab.text("something else", KEY)
    rejected = await tab.expect("msg.rejected")

    assert ack["server_msg_id"] == first["server_msg_id"]
    assert rejected["code"] == "idempotency_conflict"
    assert len(running.space.taken) == 1


async def test_two_repeats_at_once_are_one_message(running: Running) -> None:
    """The second waits for the first's commit instead of making a commit of its own."""
    visitor = await running.visitor()

    answers = await asyncio.gather(*(visitor.post_text("hello", KEY) for _ in range(5)))

    assert {answer.json["server_msg_id"] for answer in answers} == {
        answers[0].json["server_msg_id"]
    }
    assert len(running.space.taken) == 1


async def test_a_failed_commit_can_be_tried_again_with_the_same_id(running: Running) -> None:
    """No acknowledgement without storage; the client's repeat is the first that counts."""
    tab = await (await running.visitor()).connect()
    running.space.overloaded = True
    re = await tab.text("hello", KEY)
    error = await tab.expect("error")
    running.space.overloaded = False
    new = await tab.sends("hello", KEY)

    assert (error["re"], error["code"], error["fatal"]) == (re, "unavailable", False)
    assert error["retry_after_ms"] > 0
    assert new["seq"] == "1"


async def test_all_tabs_of_a_visitor_see_each_message_once(running: Running) -> None:
    """The sender's other tab gets the echo, a second visitor gets nothing."""
    one = await (await running.visitor()).connect()
    two = await (await one.another()).connect()
    stranger = await (await running.visitor()).connect()

    await one.sends("from one", KEY)
    await two.expect("msg.new", client_msg_id=KEY)
    await two.sends("from two", uuid7(running.clock.now()))
    await one.expect("msg.new", seq="2")

    assert [f for f in await stranger.settle() if f["t"] == "msg.new"] == []
    for tab in (one, two):
        await tab.settle()
        assert [f["seq"] for f in tab.seen if f["t"] == "msg.new"] == ["1", "2"]


async def test_seqs_are_given_in_order_without_gaps(make_site: MakeSite) -> None:
    """Two tabs sending at once: every place once, the same order in both."""
    running = await make_site(limits={"message_burst": 100})
    one = await (await running.visitor()).connect()
    two = await (await one.another()).connect()

    for number in range(10):
        await one.text(f"one {number}", f"one-{number:04}")
        await two.text(f"two {number}", f"two-{number:04}")
    for tab in (one, two):
        await tab.expect("msg.new", seq="20")

    orders = [[f["seq"] for f in tab.seen if f["t"] == "msg.new"] for tab in (one, two)]
    assert orders == [[str(n) for n in range(1, 21)]] * 2
    texts = [[f["parts"][0]["text"] for f in t.seen if f["t"] == "msg.new"] for t in (one, two)]
    assert texts[0] == texts[1]


async def test_an_answer_is_shown_when_it_has_left_and_not_before(running: Running) -> None:
    """A queued answer has no place in the thread; msg.new comes with the delivery."""
    tab = await (await running.visitor()).connect()
    new = await tab.sends("hello", KEY)
    conversation = (await running.space.entries(kind="message"))[0].conversation
    assert conversation is not None

    running.space.sending = False
    await running.space.answers(conversation, "您好，我是小王")
    assert [f for f in await tab.settle() if f["t"] == "msg.new"] == []
    running.space.sending = True
    await running.space.route()

    answer = await tab.expect("msg.new")
    assert answer["sender"] == {"kind": "agent", "name": "小王"}
    assert (answer["seq"], answer["conversation_id"]) == ("2", new["conversation_id"])


async def test_receipts_go_both_ways_and_only_upwards(running: Running) -> None:
    """The visitor's reading reaches the answer; the agent's reading reaches the visitor."""
    tab = await (await running.visitor()).connect()
    new = await tab.sends("hello", KEY)
    (entry,) = await running.space.entries(kind="message")
    ident = await running.space.answers(str(entry.conversation), "hi")
    await tab.expect("msg.new", seq="2")

    await tab.say("receipt", conversation_id=new["conversation_id"], read_seq="2")
    told = await tab.expect("receipt", by="visitor", read_seq="2")
    await tab.say("receipt", conversation_id=new["conversation_id"], delivered_seq="2")
    await tab.settle()
    answer = (await running.space.entries(_id=ident))[0]
    assert told["conversation_id"] == new["conversation_id"]
    assert answer.delivery is not None
    assert answer.delivery.state == "read"

    await _agent_reads(running, new["conversation_id"], 1)
    assert (await tab.expect("receipt", by="agent"))["read_seq"] == "1"


async def _agent_reads(running: Running, thread: str, seq: int) -> None:
    from normalizer.drafts import DeliveryState, Receipt, Target
    from normalizer.model import Role

    receipt = Receipt(
        key=f"agent:{thread}:{seq}",
        target=Target(thread=thread, up_to_seq=seq),
        state=DeliveryState.READ,
        by=Role.AGENT,
    )
    await running.space.take_in("site", "site-7", [receipt], door="test")


async def test_many_receipts_become_one(make_site: MakeSite) -> None:
    """A cumulative receipt over twenty answers is pushed as one frame, not as twenty."""
    running = await make_site(limits={"message_burst": 100, "receipts_every_s": 0.2})
    tab = await (await running.visitor()).connect()
    new = await tab.sends("hello", KEY)
    (entry,) = await running.space.entries(kind="message")
    for number in range(20):
        await running.space.answers(str(entry.conversation), f"answer {number}")
    await tab.expect("msg.new", seq="21")

    await tab.say("receipt", conversation_id=new["conversation_id"], read_seq="21")
    await tab.expect("receipt", by="visitor", read_seq="21")

    assert len([f for f in tab.seen if f["t"] == "receipt"]) <= 2


async def test_the_agents_reading_can_be_kept_from_visitors(make_site: MakeSite) -> None:
    """With read_receipts_to_visitor off, "read" is told as "delivered"."""
    running = await make_site(read_receipts_to_visitor=False)
    tab = await (await running.visitor()).connect()
    new = await tab.sends("hello", KEY)

    await _agent_reads(running, new["conversation_id"], 1)

    told = await tab.expect("receipt", by="agent")
    assert (told["delivered_seq"], told.get("read_seq")) == ("1", None)


async def test_typing_passes_both_ways_and_is_never_stored(running: Running) -> None:
    """Agents hear of the visitor, the visitor's tabs of the agent, nobody else of either."""
    tab = await (await running.visitor()).connect()
    stranger = await (await running.visitor()).connect()
    new = await tab.sends("hello", KEY)
    (entry,) = await running.space.entries(kind="message")

    await tab.say("typing", conversation_id=new["conversation_id"], on=True)
    await tab.settle()
    payload = {
        "address": entry.address,
        "thread": new["conversation_id"],
        "by": "agent",
        "on": True,
    }
    await running.space.signal("site/site-7/typing", payload)

    topic, told = running.space.signals[0]
    assert topic == "site/site-7/typing"
    assert (told["by"], told["on"], told["address"]) == ("visitor", True, entry.address)
    frame = await tab.expect("typing")
    assert (frame["by"], frame["on"], frame["ttl_ms"]) == ("agent", True, 6000)
    assert [f for f in await stranger.settle() if f["t"] == "typing"] == []
    assert len(running.space.taken) == 1


async def test_typing_is_passed_on_at_most_once_in_three_seconds(running: Running) -> None:
    """A client that types at every key tells the agents twice at once, then every 3 s."""
    tab = await (await running.visitor()).connect()
    for _ in range(10):
        await tab.say("typing", on=True)
    await tab.settle()
    assert len(running.space.signals) == 2

    running.clock.advance(3)
    await tab.say("typing", on=True)
    await tab.settle()
    assert len(running.space.signals) == 3


async def test_an_agents_edit_and_recall_reach_the_tabs(running: Running) -> None:
    """msg.edited carries the new parts and rev, msg.recalled takes the parts away."""
    tab = await (await running.visitor()).connect()
    await tab.sends("hello", KEY)
    (entry,) = await running.space.entries(kind="message")
    ident = await running.space.answers(str(entry.conversation), "tpyo")

    await running.space.agent("edit", entry=ident, parts=[{"type": "text", "text": "typo"}])
    edited = await tab.expect("msg.edited")
    await running.space.agent("recall", entry=ident)
    recalled = await tab.expect("msg.recalled")

    assert (edited["seq"], edited["rev"], edited["edited"]) == ("2", "1", True)
    assert edited["parts"][0]["text"] == "typo"
    assert (recalled["seq"], recalled["parts"], recalled["recalled"]) == ("2", [], True)


async def test_a_visitor_recalls_its_message_within_two_minutes(running: Running) -> None:
    """Recall makes a tombstone, repeating it is harmless, and the window is the server's."""
    tab = await (await running.visitor()).connect()
    new = await tab.sends("oops", KEY)
    place = {"conversation_id": new["conversation_id"], "seq": "1"}

    re = await tab.say("msg.recall", **place)
    await tab.expect("ack", re=re)
    await tab.expect("msg.recalled", seq="1")
    again = await tab.say("msg.recall", **place)
    await tab.expect("ack", re=again)

    listed = await tab.call("GET", f"/conversations/{new['conversation_id']}/messages")
    assert listed.json["messages"][0]["recalled"] is True
    assert listed.json["messages"][0]["parts"] == []
    assert "oops" not in listed.body.decode()


async def test_a_visitor_may_edit_where_the_site_allows_it(make_site: MakeSite) -> None:
    """visitor_edit_s opens the window; the edit shows as a revision."""
    running = await make_site(visitor_edit_s=60)
    tab = await (await running.visitor()).connect()
    new = await tab.sends("helo", KEY)

    await tab.say(
        "msg.edit",
        conversation_id=new["conversation_id"],
        seq="1",
        parts=[{"type": "text", "text": "hello"}],
    )

    edited = await tab.expect("msg.edited")
    assert (edited["rev"], edited["parts"][0]["text"]) == ("1", "hello")


async def test_an_answer_names_what_it_answers(running: Running) -> None:
    """reply_to_seq becomes the entry that is answered, and comes back as the place."""
    tab = await (await running.visitor()).connect()
    first = await tab.sends("hello", KEY)
    new = await tab.sends(
        "and this", "second-message", conversation_id=first["conversation_id"], reply_to_seq="1"
    )

    assert new["reply_to_seq"] == "1"
    entries = await running.space.entries(kind="message")
    assert entries[1].reply_to == entries[0].id


async def test_a_rating_becomes_an_event_of_the_timeline(running: Running) -> None:
    """Agents see it; the visitor's tabs are not told an entry without a place."""
    tab = await (await running.visitor()).connect()
    new = await tab.sends("hello", KEY)

    re = await tab.say("rate", conversation_id=new["conversation_id"], score=5, comment="很好")
    await tab.expect("ack", re=re)

    (event,) = await running.space.entries(event="conversation.rated")
    assert (event.data["score"], event.data["text"]) == (5, "很好")
    assert [f for f in await tab.settle() if f["t"] == "msg.new"] == []


async def test_rest_answers_with_the_message_or_with_the_ack_when_routing_is_late(
    running: Running,
) -> None:
    """201 with msg.new once it has its place, 202 with the ack after two seconds without."""
    visitor = await running.visitor()
    done = await visitor.post_text("hello", KEY)
    running.space.routing = False
    late = await visitor.post_text("slow", "slow-message")
    running.space.routing = True

    assert done.status == 201
    assert (done.json["t"], done.json["seq"], done.json["client_msg_id"]) == ("msg.new", "1", KEY)
    assert late.status == 202
    assert (late.json["t"], late.json["re"]) == ("ack", "slow-message")
    await running.space.route()
    page = await visitor.call("GET", f"/conversations/{done.json['conversation_id']}/messages")
    assert [m["server_msg_id"] for m in page.json["messages"]][1] == late.json["server_msg_id"]


async def test_rest_pages_through_a_thread(make_site: MakeSite) -> None:
    """after_seq and limit walk the thread in order; the session says where it ends."""
    running = await make_site(limits={"message_burst": 1000, "messages_per_hour": 1000})
    visitor = await running.visitor()
    for number in range(7):
        answer = await visitor.post_text(f"text {number}", f"message-{number:04}")
    path = f"/conversations/{answer.json['conversation_id']}/messages"

    first = await visitor.call("GET", f"{path}?limit=3")
    rest = await visitor.call("GET", f"{path}?after_seq=3&limit=100")
    again = await running.visitor(visitor_token=visitor.visitor_token)

    assert [m["seq"] for m in first.json["messages"]] == ["1", "2", "3"]
    assert first.json["more"] is True
    assert [m["seq"] for m in rest.json["messages"]] == ["4", "5", "6", "7"]
    assert rest.json["more"] is False
    assert again.session["conversations"] == [
        {
            "conversation_id": answer.json["conversation_id"],
            "last_seq": "7",
            "primary": True,
        }
    ]


async def test_the_last_place_of_a_long_thread_is_found(make_site: MakeSite) -> None:
    """Threads longer than a page are searched by doubling: every length comes out right."""
    running = await make_site(limits={"message_burst": 1000, "messages_per_hour": 1000})
    visitor = await running.visitor()
    for number in range(331):
        await running.site.desk.send(
            await running.site.session(visitor.token),
            await running.site.audiences.of(await running.site.session(visitor.token)),
            _draft(running, visitor.visitor, f"message-{number:04}"),
            raw=b"",
            door="test",
        )
        if number + 1 in (99, 100, 101, 199, 201, 300, 331):
            again = await running.visitor(visitor_token=visitor.visitor_token)
            assert again.session["conversations"][0]["last_seq"] == str(number + 1)
            running.clock.advance(60)


def _draft(running: Running, visitor: str, key: str):  # type: ignore[no-untyped-def]
    from connectors.site.messages import build_message
    from normalizer.parts import Text

    return build_message(
        running.site.visitors.visitor_address(visitor),
        client_msg_id=key,
        parts=(Text(text=key),),
        level="anonymous",
        page={},
        profile=None,
    )


async def test_the_page_is_kept_without_its_secrets(running: Running) -> None:
    """Query parameters but the allowed ones, credentials and fragments never reach storage."""
    tab = await running.visitor(
        page={
            "url": "https://me:pw@www.example.com/cart?reset=s3cret&utm_source=mail#frag",
            "title": "购物车",
            "referrer": "https://search.example/?q=private",
        }
    )
    await (await tab.connect()).sends("hello", KEY)

    (entry,) = await running.space.entries(kind="message")
    assert entry.data["page"] == {
        "url": "https://www.example.com/cart?utm_source=mail",
        "referrer": "https://search.example/",
        "title": "购物车",
    }


async def test_parts_of_all_kinds_reach_the_timeline(running: Running) -> None:
    """Text, locations and form answers; in the order in which they were said."""
    tab = await (await running.visitor()).connect()
    await tab.say(
        "msg.send",
        client_msg_id=KEY,
        parts=[
            {"type": "text", "text": "我在这里"},
            {"type": "location", "lat": 39.9, "lon": 116.4, "label": "北京"},
            {"type": "form", "answers": {"email": "li@example.com"}},
        ],
    )

    new = await tab.expect("msg.new")
    assert [part["type"] for part in new["parts"]] == ["text", "location", "form"]
    assert new["parts"][2]["answers"] == {"email": "li@example.com"}


async def test_a_family_emoji_counts_as_one_character(make_site: MakeSite) -> None:
    """The limit is in graphemes: ten families pass a limit of ten, eleven do not."""
    running = await make_site(limits={"text_chars": 10})
    tab = await (await running.visitor()).connect()

    await tab.sends("👨‍👩‍👧‍👦" * 10, KEY)
    await tab.text("👨‍👩‍👧‍👦" * 11, "too-long-one")

    assert (await tab.expect("msg.rejected"))["code"] == "too_large"


async def test_offline_sites_take_messages_and_say_so(make_site: MakeSite) -> None:
    """The message is stored, the conversation queued, the visitor told when agents are back."""
    running = await make_site(availability="offline", next_open="2023-11-16T01:00:00Z")
    tab = await (await running.visitor()).connect()
    assert tab.welcome["availability"] == "offline"

    await tab.sends("hello", KEY)

    told = await tab.expect("availability")
    assert (told["state"], told["next_open"]) == ("offline", "2023-11-16T01:00:00Z")
    state = await tab.expect("conv.state")
    assert state["state"] == "queued_offline"


async def test_closing_and_reopening_reach_the_tabs(running: Running) -> None:
    """conv.state says opened, closed with its reason, and reopened."""
    tab = await (await running.visitor()).connect()
    new = await tab.sends("hello", KEY)
    (entry,) = await running.space.entries(kind="message")
    opened = await tab.expect("conv.state")
    await running.space.agent("close", conversation=entry.conversation, reason="agent")
    closed = await tab.expect("conv.state")
    await tab.sends("one more thing", "another-message")
    reopened = await tab.expect("conv.state")

    assert opened["state"] == "opened"
    assert (closed["state"], closed["closed"]["reason"]) == ("closed", "agent")
    assert reopened["state"] == "reopened"
    assert {f["conversation_id"] for f in (opened, closed, reopened)} == {new["conversation_id"]}


async def test_a_message_is_taken_while_the_database_is_away(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spool stands in for the inbox: a look-up that fails or hangs must not refuse it."""
    tab = await (await running.visitor()).connect()
    first = await tab.sends("before", KEY)
    context = running.connector.context
    asked = 0

    async def hangs(ident: str) -> None:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()

    monkeypatch.setattr(context, "entry", hangs)
    began = time.monotonic()
    for number in range(3):
        re = await tab.text(
            f"away {number}",
            f"message-{number}",
            conversation_id=first["conversation_id"],
            reply_to_seq="1",
        )
        await tab.expect("ack", re=re)

    assert time.monotonic() - began < 10
    assert asked == 1  # the next ones do not wait again
    assert len(running.space.taken) == 4
