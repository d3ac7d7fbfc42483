"""Every row of the error table: what provokes it, and what REST and the socket tell then."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from connectors.site import sockets
from connectors.site.errors import CODES
from tests.site.conftest import MakeSite
from tests.site.space import ORIGIN, SERVER_KEY, Answer, Running, Tab

KEY = "018bcfe5-6800-7a10-9c3e-0d6f5a1b2c3d"
Row = Callable[[MakeSite, pytest.MonkeyPatch], Awaitable[None]]
ROWS: dict[str, list[Row]] = {}


def row(*codes: str) -> Callable[[Row], Row]:
    """Register what provokes these codes."""

    def register(provoke: Row) -> Row:
        for code in codes:
            ROWS.setdefault(code, []).append(provoke)
        return provoke

    return register


def told(answer: Answer, code: str) -> None:
    """The answer is the error frame of this code, with the table's HTTP status."""
    assert (answer.status, answer.json["t"], answer.code) == (CODES[code].http, "error", code)
    assert answer.json["message"]


async def ends(tab: Tab, code: str) -> None:
    """The socket is told a fatal error and closed with the table's close code."""
    close = await tab.closed()
    errors = [frame for frame in tab.kept if frame["t"] == "error"]
    assert (errors[-1]["code"], errors[-1]["fatal"]) == (code, True)
    assert close == CODES[code].close


async def server_call(running: Running, path: str, body: dict[str, Any]) -> Answer:
    headers = {"Authorization": f"Bearer {SERVER_KEY}", "Idempotency-Key": "once"}
    return await running.call("POST", path, origin=None, headers=headers, json=body)


# --- what a client does wrong --------------------------------------------------------------------


@row("bad_frame")
async def three_bad_frames_close(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    tab = await (await running.visitor()).connect()
    assert tab.ws is not None
    await tab.ws.send_str("{not json")
    assert (await tab.expect("error"))["fatal"] is False
    await tab.ws.send_bytes(b"\x00\x01")
    await tab.say("receipt", conversation_id="thr_x", read_seq=7)  # a number, not a string
    await ends(tab, "bad_frame")


@row("bad_frame")
async def a_body_that_is_no_message_is_400(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    visitor = await running.visitor()
    for body in ("{", '{"parts": "text"}', '{"parts": []}', '{"parts":[{"type":"text"}]}'):
        answer = await visitor.call(
            "POST",
            "/conversations/new/messages",
            data=body,
            headers={"Idempotency-Key": KEY},
        )
        told(answer, "bad_frame")
    no_key = await visitor.call("POST", "/conversations/new/messages", json={"parts": []})
    told(no_key, "bad_frame")
    assert running.space.taken == []


@row("auth_required")
async def no_token_or_a_forged_one(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    visitor = await running.visitor()
    head, body, _ = visitor.token.split(".")
    for token in ("", "x", f"{head}.{body}.AAAA", f"eyJhbGciOiJub25lIn0.{body}."):
        told(await running.call("GET", "/conversations", token=token), "auth_required")
        tab = await visitor.dial()
        await tab.say("hello", access_token=token)
        await ends(tab, "auth_required")
        tab.kept.clear()


@row("auth_required")
async def anything_before_hello(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    tab = await (await running.visitor()).dial()
    await tab.say("ping")
    await ends(tab, "auth_required")


@row("auth_required")
async def a_token_of_another_site(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    from msgspec.structs import replace

    from connectors.site.tokens import read_access, sign_access

    secret = running.space.connector_context("site", "site-7").secret("access")
    visitor = await running.visitor()
    access = read_access(secret, visitor.token, "site:site-7", running.clock.now())
    other = sign_access(secret, replace(access, aud="site:another"))
    told(await running.call("GET", "/conversations", token=other), "auth_required")


@row("token_expired")
async def an_old_access_token(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    tab = await (await running.visitor()).connect()
    running.clock.advance(15 * 60)
    told(await tab.call("GET", "/conversations"), "token_expired")
    await tab.say("ping")  # the socket that is open notices as well
    await ends(tab, "token_expired")
    late = await tab.dial()
    late.kept.clear()
    await late.say("hello", access_token=tab.token)
    await ends(late, "token_expired")


@row("identity_invalid", "identity_expired")
async def a_refused_identity(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    old, forged = running.identity(exp=1), running.identity(key="x" * 40)
    now = int(running.clock.now().timestamp())
    old = running.identity(iat=now - 1000, exp=now - 100)
    tab = await (await running.visitor()).connect()
    for token, code in ((forged, "identity_invalid"), (old, "identity_expired")):
        told(await running.call("POST", "/sessions", json={"identity_token": token}), code)
        re = await tab.say("auth.identify", identity_token=token)
        error = await tab.expect("error")
        assert (error["re"], error["code"], error["fatal"]) == (re, code, False)


# --- who may speak -------------------------------------------------------------------------------


@row("origin_forbidden")
async def a_page_that_is_not_listed(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    for origin in ("https://evil.example", "null", "http://www.example.com", None):
        told(await running.call("POST", "/sessions", origin=origin, json={}), "origin_forbidden")
        headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
        answer = await running.call("GET", "/ws", origin=origin, headers=headers)
        told(answer, "origin_forbidden")


@row("site_disabled")
async def a_site_that_is_switched_off(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make(enabled=False)
    told(await running.call("POST", "/sessions", json={}), "site_disabled")
    told(await running.call("GET", "/ws"), "site_disabled")


@row("visitor_blocked")
async def a_blocked_visitor(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    tab = await (await running.visitor()).connect()
    await tab.sends("spam", KEY)
    answer = await server_call(running, "/server/block", {"visitor_ids": [tab.visitor]})
    assert answer.status == 204
    await ends(tab, "visitor_blocked")
    told(await tab.call("GET", "/conversations"), "visitor_blocked")
    told(
        await running.call("POST", "/sessions", json={"visitor_token": tab.visitor_token}),
        "visitor_blocked",
    )


@row("visitor_blocked")
async def a_blocked_user(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    tab = await (await running.user("42")).connect()
    await server_call(running, "/server/block", {"user_ids": ["42"]})
    await ends(tab, "visitor_blocked")
    token = running.identity("42")
    told(await running.call("POST", "/sessions", json={"identity_token": token}), "visitor_blocked")


@row("consent_required")
async def consent_to_another_version(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make(consent_version="2", consent_text="...")
    told(await running.call("POST", "/sessions", json={}), "consent_required")
    told(await running.call("POST", "/sessions", json={"consent_version": "1"}), "consent_required")
    agreed = await running.call("POST", "/sessions", json={"consent_version": "2"})
    assert agreed.status == 201


# --- messages ------------------------------------------------------------------------------------


@row("conversation_not_found")
async def foreign_conversations_do_not_exist(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    """The answer for somebody else's conversation is that for one that never was."""
    running = await make()
    owner = await (await running.visitor()).connect()
    thread = (await owner.sends("private", KEY))["conversation_id"]
    stranger = await (await running.visitor()).connect()
    answers = []
    for ident in (thread, "thr_00000000000000000000000000"):
        path = f"/conversations/{ident}"
        answers += [
            await stranger.call("GET", f"{path}/messages"),
            await stranger.post_text("hi", "intruder-message", ident),
            await stranger.call("POST", f"{path}/receipts", json={"read_seq": "1"}),
            await stranger.call("POST", f"{path}/typing", json={"on": True}),
            await stranger.call("POST", f"{path}/messages/1/recall"),
            await stranger.call(
                "POST", f"{path}/messages/1/edit", json={"parts": [{"type": "text", "text": "x"}]}
            ),
            await stranger.call("POST", f"{path}/rating", json={"score": 1}),
            await stranger.call(
                "POST",
                "/uploads",
                json={"name": "a", "mime": "image/png", "bytes": 1, "conversation_id": ident},
            ),
        ]
        await stranger.text("hi", "intruder-message", conversation_id=ident)
        rejected = await stranger.expect("msg.rejected")
        assert rejected["code"] == "conversation_not_found"
        for t, more in (
            ("receipt", {"read_seq": "1"}),
            ("typing", {"on": True}),
            ("msg.recall", {"seq": "1"}),
            ("rate", {"score": 1}),
        ):
            await stranger.say(t, conversation_id=ident, **more)
            assert (await stranger.expect("error"))["code"] == "conversation_not_found"
        running.clock.advance(60)
    for answer in answers:
        told(answer, "conversation_not_found")
        assert "private" not in answer.body.decode()
    assert len({answer.body for answer in answers}) <= 2  # the words never tell which it was
    assert len(running.space.taken) == 1


@row("idempotency_conflict")
async def the_same_id_for_something_else(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    tab = await (await running.visitor()).connect()
    await tab.sends("first", KEY)
    await tab.text("second", KEY)
    rejected = await tab.expect("msg.rejected")
    assert (rejected["code"], rejected["client_msg_id"]) == ("idempotency_conflict", KEY)
    told(await tab.post_text("third", KEY), "idempotency_conflict")
    assert len(await running.space.entries(kind="message")) == 1


@row("conversation_closed")
async def a_conversation_closed_for_over_a_day(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    tab = await running.visitor()
    thread = (await tab.post_text("hello", KEY)).json["conversation_id"]
    (entry,) = await running.space.entries(kind="message")
    await running.space.agent("close", conversation=entry.conversation)
    running.clock.advance(25 * 3600)
    tab = await running.visitor(visitor_token=tab.visitor_token)
    told(await tab.post_text("again", "after-a-day", thread), "conversation_closed")
    await tab.connect()
    await tab.text("again", "after-a-day", conversation_id=thread)
    assert (await tab.expect("msg.rejected"))["code"] == "conversation_closed"
    fresh = await tab.sends("again", "after-a-day")
    assert fresh["seq"] == "2"


@row("edit_window_passed")
async def visitors_may_not_edit_by_default(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    tab = await (await running.visitor()).connect()
    thread = (await tab.sends("hello", KEY))["conversation_id"]
    parts = [{"type": "text", "text": "other"}]
    running.clock.advance(1)
    await tab.say("msg.edit", conversation_id=thread, seq="1", parts=parts)
    assert (await tab.expect("error"))["code"] == "edit_window_passed"
    path = f"/conversations/{thread}/messages/1/edit"
    told(await tab.call("POST", path, json={"parts": parts}), "edit_window_passed")


@row("recall_window_passed")
async def a_recall_after_130_seconds(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    tab = await (await running.visitor()).connect()
    thread = (await tab.sends("hello", KEY))["conversation_id"]
    running.clock.advance(130)
    await tab.say("msg.recall", conversation_id=thread, seq="1")
    assert (await tab.expect("error"))["code"] == "recall_window_passed"
    path = f"/conversations/{thread}/messages/1/recall"
    told(await tab.call("POST", path), "recall_window_passed")


@row("recall_unsupported")
async def somebody_elses_message(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    tab = await (await running.visitor()).connect()
    thread = (await tab.sends("hello", KEY))["conversation_id"]
    (entry,) = await running.space.entries(kind="message")
    await running.space.answers(str(entry.conversation), "an agent's words")
    await tab.say("msg.recall", conversation_id=thread, seq="2")
    assert (await tab.expect("error"))["code"] == "recall_unsupported"
    told(await tab.call("POST", f"/conversations/{thread}/messages/2/recall"), "recall_unsupported")


@row("too_large")
async def texts_bodies_and_frames_over_their_limit(
    make: MakeSite, patch: pytest.MonkeyPatch
) -> None:
    running = await make()
    tab = await (await running.visitor()).connect()
    told(await tab.post_text("长" * 4001, KEY), "too_large")
    told(await tab.post_text("x" * 70_000, KEY), "too_large")
    await tab.text("长" * 4001, KEY)
    assert (await tab.expect("msg.rejected"))["code"] == "too_large"
    assert tab.ws is not None
    await tab.ws.send_str(json.dumps({"t": "ping", "padding": "x" * 70_000}))
    assert await tab.closed() == CODES["too_large"].close


@row("unsupported_type")
async def what_visitors_may_not_send(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    tab = await (await running.visitor()).connect()
    await tab.say("msg.send", client_msg_id=KEY, parts=[{"type": "card", "title": "x"}])
    assert (await tab.expect("msg.rejected"))["code"] == "unsupported_type"
    for mime in ("image/svg+xml", "text/html", "application/xml", "image/tiff"):
        asked = {"name": "x", "mime": mime, "bytes": 10}
        told(await tab.call("POST", "/uploads", json=asked), "unsupported_type")


@row("upload_rejected")
async def an_upload_of_somebody_else(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    owner, stranger = await running.visitor(), await (await running.visitor()).connect()
    asked = {"name": "a.txt", "mime": "text/plain", "bytes": 5}
    begun = await owner.call("POST", "/uploads", json=asked)
    put = await running.call("PUT", begun.json["put_url"], data=b"hello")
    assert put.status == 200
    part = {"type": "file", "upload_id": begun.json["upload_id"]}
    await stranger.say("msg.send", client_msg_id=KEY, parts=[part])
    assert (await stranger.expect("msg.rejected"))["code"] == "upload_rejected"
    answer = await stranger.call(
        "POST",
        "/conversations/new/messages",
        json={"parts": [part]},
        headers={"Idempotency-Key": KEY},
    )
    told(answer, "upload_rejected")


@row("upload_expired")
async def a_put_after_ten_minutes(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    visitor = await running.visitor()
    asked = {"name": "a.txt", "mime": "text/plain", "bytes": 5}
    begun = await visitor.call("POST", "/uploads", json=asked)
    running.clock.advance(601)
    told(await running.call("PUT", begun.json["put_url"], data=b"hello"), "upload_expired")


# --- how often, and when the hub cannot ----------------------------------------------------------


@row("rate_limited")
async def too_many_messages(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    """Five at once, then one every three seconds; the refused one may be sent again."""
    running = await make()
    tab = await (await running.visitor()).connect()
    for number in range(5):
        await tab.sends(f"text {number}", f"message-{number}")
    re = await tab.text("one too many", "message-six")
    error = await tab.expect("error")
    answer = await tab.post_text("one too many", "message-six")
    told(answer, "rate_limited")
    assert (error["re"], error["code"]) == (re, "rate_limited")
    assert 0 < error["retry_after_ms"] <= 3000
    assert answer.headers["Retry-After"] == "3"
    running.clock.advance(3)
    assert (await tab.sends("one too many", "message-six"))["seq"] == "6"


@row("rate_limited")
async def too_many_hellos_close(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    visitor = await running.visitor()
    for _ in range(10):
        tab = await (await visitor.another()).connect()
        await tab.hang_up()
    eleventh = await (await visitor.another()).dial()
    await eleventh.say("hello", access_token=visitor.token)
    await ends(eleventh, "rate_limited")


@row("rate_limited")
async def a_flood_of_frames_closes(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    tab = await (await running.visitor()).connect()
    for _ in range(60 + sockets.FLOOD):
        await tab.say("ping")
    await ends(tab, "rate_limited")


@row("hello_timeout")
async def a_socket_that_says_nothing(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    patch.setattr(sockets, "HELLO_S", 0.05)
    tab = await (await running.visitor()).dial()
    await ends(tab, "hello_timeout")


@row("replaced")
async def the_sixth_socket_replaces_the_first(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    visitor = await running.visitor()
    tabs = [await (await visitor.another()).connect() for _ in range(6)]
    await ends(tabs[0], "replaced")
    for tab in tabs[1:]:
        await tab.settle()


@row("unavailable")
async def nothing_can_be_stored(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    running = await make()
    tab = await (await running.visitor()).connect()
    running.space.overloaded = True
    await tab.text("hello", KEY)
    assert (await tab.expect("error"))["code"] == "unavailable"
    answer = await tab.post_text("hello", KEY)
    told(answer, "unavailable")
    assert int(answer.headers["Retry-After"]) >= 1


@row("draining")
async def the_hub_stops(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    """Everybody is told to go away, with a moment to come back, before the socket closes."""
    running = await make()
    tab = await (await running.visitor()).connect()
    closing = running.connector.drain()
    import asyncio

    task = asyncio.create_task(closing)
    going = await tab.expect("going_away")
    assert 1000 <= going["reconnect_after_ms"] < 2000
    await ends(tab, "draining")
    await task
    told(await running.call("POST", "/sessions", json={}), "draining")


@row("internal")
async def a_mistake_of_ours(make: MakeSite, patch: pytest.MonkeyPatch) -> None:
    """Nothing of it is told; the same message can be sent again."""
    running = await make()
    visitor = await running.visitor()
    tab = await visitor.connect()

    async def broken(*args: object, **more: object) -> str:
        raise RuntimeError("secret detail")

    patch.setattr(running.site.desk, "send", broken)
    await tab.text("hello", KEY)
    error = await tab.expect("error")
    assert (error["code"], error["fatal"]) == ("internal", False)
    answer = await tab.post_text("hello", KEY)
    told(answer, "internal")
    assert "secret" not in answer.body.decode() + json.dumps(error)

    patch.setattr(running.site.audiences, "of", broken)
    other = await (await visitor.another()).dial()
    await other.say("hello", access_token=visitor.token)
    await ends(other, "internal")


# --- the table itself ----------------------------------------------------------------------------


def test_every_code_has_a_row() -> None:
    """A code nobody provokes would be a code nobody checked."""
    assert ROWS.keys() == CODES.keys()


@pytest.mark.parametrize(
    "provoke",
    list(dict.fromkeys(each for rows in ROWS.values() for each in rows)),
    ids=lambda each: each.__name__,
)
async def test_row(provoke: Row, make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """What provokes a code is told by REST and by the socket as the table says."""
    await provoke(make_site, monkeypatch)


async def test_errors_can_be_read_by_the_page(running: Running) -> None:
    """A browser hides an answer without the page's origin: errors carry it as well."""
    answer = await running.call("GET", "/conversations")
    assert answer.status == 401
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


async def test_unknown_types_and_fields_are_ignored(running: Running) -> None:
    """A newer client is not punished: no error, no strike, and its next frame is heard."""
    tab = await (await running.visitor()).connect()
    for _ in range(5):
        await tab.say("presence", mood="curious")
    await tab.say("ping", extra={"a": 1})
    assert (await tab.settle()) == [] or all(f["t"] == "pong" for f in tab.seen[1:])
    assert [f for f in tab.seen if f["t"] == "error"] == []
