"""Sends under windows and quotas: refused before the vendor is asked, and what a place costs.

Faked: the connector. Real: workers, ledger, both stores.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from hub.contract import Template
from hub.documents import Entry, EntrySender, Reservation
from hub.jobs import Paused
from hub.outbound import AccountGate, Sender
from hub.outbound.limits import limits_of
from hub.outbound.loading import LOOKED_AT
from hub.outbound.sender import holder
from hub.store.interface import Unavailable
from hub.testing.clock import START
from normalizer.capabilities import Capabilities, Quota, Window
from normalizer.model import Direction, Role
from normalizer.outcomes import (
    Failure,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unreachable,
    Unsupported,
)
from normalizer.parts import Text
from tests.jobs.test_outbound import ADDRESS, ANSWER, SEND, Chat
from tests.jobs.world import World

OPENED = {"chat:main:talk": START}
TALK = Window(name="talk", opens_on=frozenset({"message"}), seconds=3600, sends=2)
DAY = Quota(name="day", sends=3, period_s=86400)


class Way:
    def __init__(self, world: World) -> None:
        self.world = world
        self.chat = Chat()
        self.gate = AccountGate(world.clock)
        self.sender = Sender(
            world.store,
            lambda channel, account: self.chat,
            lambda channel, account: True,
            world.clock,
            self.gate,
        )
        world.handlers["send"] = self.sender

    def can(self, **declared: Any) -> None:
        self.chat.capabilities = Capabilities(  # type: ignore[misc]
            sends=frozenset({"text"}), **declared
        )

    async def put(self, *docs: Any) -> None:
        for doc in docs:
            await self.world.store.table(type(doc)).put([doc])

    async def taken(self) -> list[str]:
        found = await self.world.store.table(Reservation).find({})
        return sorted(f"{each.counter.split('|')[0]} {each.holder}" for each in found)


@pytest.fixture
async def way(world: World) -> Way:
    way = Way(world)
    await way.put(replace(ADDRESS, opened=OPENED), replace(ANSWER, data={}))
    return way


# --- windows -------------------------------------------------------------------------------------


async def test_a_closed_window_refuses_before_the_vendor_is_asked(way: Way) -> None:
    way.can(windows=(TALK,))
    await way.put(ADDRESS)
    with pytest.raises(Unreachable) as refused:
        await way.sender.run(SEND)
    assert refused.value.code == "window_closed"
    assert way.chat.sent == []


async def test_a_window_that_ended_meanwhile_is_closed(way: Way, world: World) -> None:
    way.can(windows=(TALK,))
    world.clock.advance(3600)
    with pytest.raises(Unreachable, match="too long ago"):
        await way.sender.run(SEND)


async def test_a_window_lets_as_many_through_as_it_has_places(way: Way) -> None:
    way.can(windows=(TALK,))
    for n in (1, 2):
        await way.sender.run(replace(SEND, id=f"job_{n}"))
    with pytest.raises(Unreachable) as refused:
        await way.sender.run(replace(SEND, id="job_3"))
    assert refused.value.code == "window_spent"
    assert len(way.chat.sent) == 2
    await way.put(
        replace(ADDRESS, opened={"chat:main:talk": START + timedelta(seconds=1)})
    )  # the customer speaks again
    await way.sender.run(replace(SEND, id="job_3"))
    assert len(way.chat.sent) == 3


async def test_a_template_passes_a_closed_window_and_costs_no_place(way: Way) -> None:
    way.can(windows=(replace(TALK, templates_pass=True),), templates=True)
    template = {"name": "hi", "language": "zh", "params": {"who": "Li"}}
    await way.put(ADDRESS, replace(ANSWER, data={"template": template}))
    await way.sender.run(SEND)
    (sent,) = way.chat.sent
    assert (sent.template, sent.language, sent.params) == ("hi", "zh", {"who": "Li"})
    assert await way.taken() == []


async def test_a_closed_window_names_the_templates_that_may_still_go(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of them, with what they say; and without any, or if they cannot be had, none."""
    listed = [Template(name=f"T{n}", preview=f"Order {n}\n{{x}}") for n in range(7)]

    async def templates() -> list[Template]:
        if not listed:
            raise Temporary("the vendor is busy")
        return listed

    monkeypatch.setattr(way.chat, "templates", templates)
    way.can(windows=(replace(TALK, templates_pass=True),), templates=True)
    await way.put(ADDRESS)
    with pytest.raises(Unreachable, match=r"may still go: T0 \(Order 0\), .* and 2 more") as told:
        await way.sender.run(SEND)
    assert told.value.code == "window_closed"
    listed.clear()
    way.world.clock.advance(61)
    with pytest.raises(Unreachable) as untold:
        await way.sender.run(SEND)
    assert "Templates" not in untold.value.reason
    way.can(windows=(TALK,), templates=True)  # where templates do not pass, none is named
    with pytest.raises(Unreachable) as shut:
        await way.sender.run(SEND)
    assert "Templates" not in shut.value.reason


async def test_a_template_is_refused_where_there_are_none(way: Way) -> None:
    way.can()
    await way.put(replace(ANSWER, data={"template": {"name": "hi"}}))
    with pytest.raises(Unsupported, match="no templates"):
        await way.sender.run(SEND)


# --- what a place costs --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "kept"),
    [
        (None, True),
        (OutcomeUnknown("no answer"), True),
        (ValueError("a bug"), True),
        (Temporary("busy"), False),
        (RateLimited("slow", retry_after=1), False),
        (Rejected("no"), False),
        (Unreachable("opted out"), False),
        (Unsupported("no"), False),
        (Misconfigured("token"), False),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_place_is_kept_unless_it_surely_was_not_sent(
    way: Way, failure: Exception | None, kept: bool
) -> None:
    way.can(windows=(TALK,), quotas=(DAY,))
    if failure is None:
        await way.sender.run(SEND)
    else:
        way.chat.before = [failure]
        told = type(failure) if isinstance(failure, Failure) else OutcomeUnknown
        with pytest.raises(told):
            await way.sender.run(SEND)
    expected = ["quota job_1|0", "window job_1|0"] if kept else []
    assert await way.taken() == expected


async def test_a_send_that_is_cut_keeps_its_place(way: Way) -> None:
    way.can(windows=(TALK,))
    reached = asyncio.Event()

    async def hangs(message: Any) -> Any:
        reached.set()
        await asyncio.Event().wait()

    way.chat.send = hangs  # type: ignore[method-assign]
    task = asyncio.create_task(way.sender.run(SEND))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await way.taken() == ["window job_1|0"]


async def test_one_send_takes_one_place_however_often_it_is_tried(way: Way) -> None:
    way.can(windows=(TALK,), quotas=(DAY,))
    for _ in range(5):  # a look-up said each time that it was not there
        await way.sender.run(SEND)
    assert await way.taken() == ["quota job_1|0", "window job_1|0"]


async def test_a_redriven_send_takes_a_place_of_its_own(way: Way) -> None:
    """The first one may have arrived: the vendor counts both."""
    way.can(windows=(TALK,))
    await way.sender.run(SEND)
    again = replace(SEND, args={"round": 1})
    await way.sender.run(again)
    assert holder(again) != holder(SEND)
    assert await way.taken() == ["window job_1|0", "window job_1|1"]


async def test_what_surely_was_not_sent_in_a_period_before_is_given_back(
    way: Way, world: World
) -> None:
    way.can(quotas=(DAY,))
    await way.sender.run(SEND)
    world.clock.advance(86400)
    await way.sender.run(SEND)
    assert await way.taken() == ["quota job_1|0"]


async def test_a_refused_quota_gives_back_the_place_in_the_window(way: Way) -> None:
    way.can(windows=(TALK,), quotas=(replace(DAY, sends=0),))
    with pytest.raises(Unreachable) as refused:
        await way.sender.run(SEND)
    assert refused.value.code == "quota_spent"
    assert await way.taken() == []


# --- quotas --------------------------------------------------------------------------------------


async def test_a_quota_whose_period_ends_soon_is_waited_for_by_the_whole_account(
    way: Way, world: World
) -> None:
    way.can(quotas=(Quota(name="minute", sends=1, period_s=60),))
    world.clock.advance(20)
    await way.sender.run(replace(SEND, id="job_1"))
    with pytest.raises(Paused) as paused:
        await way.sender.run(replace(SEND, id="job_2"))
    assert paused.value.seconds == 40
    assert way.gate.wait_s("chat:main", "job_3") == 40
    world.clock.advance(40)
    await way.sender.run(replace(SEND, id="job_2"))


async def test_a_quota_of_one_address_makes_nobody_else_wait(way: Way) -> None:
    way.can(quotas=(Quota(name="minute", sends=1, period_s=60, per="address"),))
    await way.sender.run(replace(SEND, id="job_1"))
    with pytest.raises(Paused):
        await way.sender.run(replace(SEND, id="job_2"))
    assert way.gate.wait_s("chat:main", "job_3") == 0
    await way.put(
        replace(ADDRESS, id="adr_2"), replace(ANSWER, id="ent_2", address="adr_2", data={})
    )
    await way.sender.run(replace(SEND, id="job_3", entry="ent_2"))


async def test_a_quota_of_templates_holds_up_no_answers(way: Way, world: World) -> None:
    """Neither on a day when it is used up, nor in the minutes before a new one begins."""
    for period_s, refusal in ((86_400, Unreachable), (60, Paused)):
        of_templates = Quota(name="templates", sends=1, period_s=period_s, templates=True)
        way.can(quotas=(of_templates,), templates=True)
        template = {"template": {"name": "hi", "params": {"who": "Li"}}}
        await way.put(ADDRESS, replace(ANSWER, data=template))
        await way.sender.run(replace(SEND, id=f"{period_s}_1"))
        with pytest.raises(refusal):
            await way.sender.run(replace(SEND, id=f"{period_s}_2"))
        await way.put(ADDRESS, replace(ANSWER, data={}))
        assert way.gate.wait_s("chat:main", "job_3") == 0
        await way.sender.run(replace(SEND, id=f"{period_s}_3"))
    here = replace(ADDRESS, channel="chat", account="main")
    limits = await limits_of(world.store, way.chat.capabilities, here, world.clock.now())
    assert [(each.templates, each.sends_left) for each in limits[1]] == [(True, 0)]


async def test_a_quota_wait_costs_no_attempt_and_the_send_goes_out_after_it(
    way: Way, world: World
) -> None:
    way.can(quotas=(Quota(name="minute", sends=1, period_s=60),))
    first, second = (replace(SEND, id=f"job_{n}", position=n, attempts=0) for n in (1, 2))
    await world.give(first, second)
    async with world.working(gate=way.gate):
        await world.finished("job_1", "job_2", tick_s=5.0)
    assert world.states == {"job_1": "accepted", "job_2": "accepted"}
    assert (await world.job("job_2")).attempts == 1


async def test_a_ledger_that_is_away_before_the_call_leaves_no_doubt(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    way.can(quotas=(DAY,))

    async def away(*args: Any, **options: Any) -> Any:
        raise Unavailable("an election")

    monkeypatch.setattr(way.sender._ledger, "take", away)
    with pytest.raises(Temporary, match="an election"):
        await way.sender.run(SEND)
    assert way.chat.sent == []


@pytest.mark.parametrize(
    ("broken", "failure"),
    [
        (OSError(28, "No space left on device"), Temporary("")),
        (KeyError("of a connector"), Rejected("")),
    ],
    ids=["a full disk", "a bug"],
)
async def test_what_fails_before_the_call_is_never_an_unknown_send(
    way: Way, monkeypatch: pytest.MonkeyPatch, broken: Exception, failure: Failure
) -> None:
    """Nobody has to ask the customer whether something arrived that never left."""
    way.can(quotas=(DAY,))

    def breaks(message: Any) -> int:
        raise broken

    monkeypatch.setattr(way.chat, "sends_needed", breaks)
    with pytest.raises(type(failure), match="be made ready") as raised:
        await way.sender.run(SEND)
    assert "of a connector" not in raised.value.reason
    assert way.chat.sent == []


# --- the account ---------------------------------------------------------------------------------


async def test_a_limit_of_the_account_pauses_its_other_lanes(way: Way, world: World) -> None:
    way.can()
    way.chat.before = [RateLimited("slow", retry_after=30)]
    await way.put(
        replace(ADDRESS, id="adr_2"), replace(ANSWER, id="ent_2", address="adr_2", data={})
    )
    account = {"account": "chat:main", "attempts": 0}
    await world.give(replace(SEND, **account))
    async with world.working(gate=way.gate):
        limited = await world.in_state_of("job_1", lambda job: job.reason == "slow")
        assert limited.attempts == 0
        await world.give(
            replace(SEND, id="job_2", lane="send:adr_2", entry="ent_2", position=2, **account)
        )
        await world.later(29)
        assert way.gate.room("chat:main") == 0
        assert way.chat.sent == []
        await world.finished("job_1", "job_2", tick_s=1.0)
    assert [message.entry for message in way.chat.sent].count("ent_2") == 1


async def test_a_failing_account_is_left_alone_and_loses_no_attempts(
    way: Way, world: World
) -> None:
    """Ten lanes, a vendor that is away for a minute: a few calls, not hundreds."""
    way.can()
    calls = 0
    ends = START + timedelta(seconds=60)
    send = way.chat.send

    async def away(message: Any) -> Any:
        nonlocal calls
        calls += 1
        if world.clock.now() < ends:
            raise Temporary("busy")
        return await send(message)

    way.chat.send = away  # type: ignore[method-assign]
    jobs = []
    for n in range(10):
        await way.put(
            replace(ADDRESS, id=f"adr_{n}"),
            replace(ANSWER, id=f"ent_{n}", address=f"adr_{n}", data={}),
        )
        jobs.append(
            replace(
                SEND,
                id=f"job_{n}",
                lane=f"send:adr_{n}",
                entry=f"ent_{n}",
                position=n + 1,
                account="chat:main",
                attempts=0,
            )
        )
    await world.give(*jobs)
    async with world.working(gate=way.gate):
        await world.finished(*(job.id for job in jobs), tick_s=1.0)
    assert set(world.states.values()) == {"accepted"}
    assert calls <= 10 + 5 + 6, "each once in the end, the five that tripped it, a few probes"


async def test_a_vendors_words_are_told_without_the_person(way: Way, world: World) -> None:
    way.can()
    await way.put(replace(ADDRESS, address="chat:main:user:oHub0001"))
    way.chat.before = [Rejected("oHub0001 <li@example.com> +8613912345678 blocked us")]
    await world.give(replace(SEND, attempts=0))
    async with world.working(gate=way.gate):
        await world.finished("job_1")
    assert world.told[0].result["reason"] == "*** <***> *** blocked us"
    (letter,) = await world.letters()
    assert letter.reason == "*** <***> *** blocked us"
    assert (await world.job("job_1")).reason == "rejected: *** <***> *** blocked us"


async def test_a_connectors_own_error_is_logged_and_told_without_the_person(
    way: Way, world: World
) -> None:
    way.can()
    way.chat.can_look = False
    way.chat.before = [ValueError("no li@example.com here")]
    await world.give(replace(SEND, attempts=0))
    with capture_logs() as logs:
        async with world.working(gate=way.gate):
            await world.finished("job_1", tick_s=1.0)
    assert world.told[0].result["reason"] == "ValueError: no *** here"
    (logged,) = [each for each in logs if each["event"] == "connector_failed"]
    assert "in send" in logged["where"]
    assert "li@example.com" not in str(logs)


# --- what is answered ----------------------------------------------------------------------------


def asked(ident: str, minutes: int, **fields: Any) -> Entry:
    given: dict[str, Any] = {
        "id": ident,
        "address": "adr_1",
        "position": minutes + 100,
        "at": START - timedelta(hours=1) + timedelta(minutes=minutes),
        "received_at": START,
        "channel": "chat",
        "account": "main",
        "thread": "thr_1",
        "subject": f"about {ident}",
        "data": {"message_id": ident},
        "parts": (Text(text="?"),),
    }
    return Entry(**{**given, **fields})


async def answers(way: Way, **changes: Any) -> str | None:
    await way.put(replace(ANSWER, **{"data": {}, "reply_to": None, **changes}))
    await way.sender.run(SEND)
    found = way.chat.sent.pop().answers
    if found is not None:
        assert found.data["message_id"] == found.entry
        assert found.subject == f"about {found.entry}"
    return found.entry if found is not None else None


async def test_the_message_that_is_named_is_answered_else_the_last_one(way: Way) -> None:
    way.can()
    await way.put(asked("ent_a", 1), asked("ent_b", 2), asked("ent_later", 90))
    assert await answers(way, reply_to="ent_a") == "ent_a"
    assert await answers(way) == "ent_b"
    assert await answers(way, reply_to="a vendor's id") == "ent_b"


@pytest.mark.parametrize(
    "passed_over",
    [
        {"thread": "thr_2"},
        {"direction": Direction.OUT},
        {"kind": "event"},
        {"erased": True},
        {"automatic": True},
        {"address": "adr_2"},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_what_is_no_question_here_is_passed_over(
    way: Way, passed_over: dict[str, Any]
) -> None:
    way.can()
    await way.put(asked("ent_a", 1), asked("ent_b", 2, **passed_over))
    assert await answers(way) == "ent_a"
    assert await answers(way, reply_to="ent_none") == "ent_a"


async def test_an_auto_reply_is_answered_where_there_is_nothing_else(way: Way) -> None:
    way.can()
    assert await answers(way) is None
    await way.put(asked("ent_a", 1, automatic=True))
    assert await answers(way) == "ent_a"


async def test_the_search_for_the_question_is_bounded(way: Way) -> None:
    way.can()
    ours = [
        asked(f"ent_{n}", 2, direction=Direction.OUT, position=200 + n) for n in range(LOOKED_AT)
    ]
    await way.put(asked("ent_a", 1), *ours)
    assert await answers(way) is None


@pytest.mark.parametrize(
    ("changes", "automatic"),
    [
        ({}, False),
        ({"automatic": True}, True),
        ({"sender": EntrySender(role=Role.BOT)}, True),
        ({"sender": EntrySender(role=Role.SYSTEM)}, True),
    ],
)
async def test_the_connector_is_told_whether_a_person_wrote_it(
    way: Way, changes: dict[str, Any], automatic: bool
) -> None:
    way.can()
    await way.put(replace(ANSWER, data={}, **changes))
    await way.sender.run(SEND)
    assert way.chat.sent[0].automatic is automatic


# --- an answer of several messages ---------------------------------------------------------------


async def test_an_answer_of_several_messages_takes_as_many_places_or_none(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two places for the first; the next one finds too few, and leaves the last to a third."""
    way.can(windows=(replace(TALK, sends=3),))
    monkeypatch.setattr(way.chat, "sends_needed", lambda message: 2)
    await way.sender.run(SEND)
    assert await way.taken() == [f"window {holder(SEND)}"] * 2
    with pytest.raises(Unreachable, match="takes 2 messages") as refused:
        await way.sender.run(replace(SEND, id="job_2"))
    assert refused.value.code == "window_spent"
    assert await way.taken() == [f"window {holder(SEND)}"] * 2
    monkeypatch.setattr(way.chat, "sends_needed", lambda message: 1)
    await way.sender.run(replace(SEND, id="job_3"))
    assert len(way.chat.sent) == 2


async def test_a_second_attempt_takes_only_the_places_that_it_lacks(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    way.can(windows=(TALK,), quotas=(DAY,))
    monkeypatch.setattr(way.chat, "sends_needed", lambda message: 2)
    way.chat.after = [OutcomeUnknown("no answer")]
    with pytest.raises(OutcomeUnknown):
        await way.sender.run(SEND)
    await way.sender.run(SEND)  # a person said that it did not arrive
    assert len([each for each in await way.taken() if each.startswith("window")]) == 2
    assert len([each for each in await way.taken() if each.startswith("quota")]) == 2
