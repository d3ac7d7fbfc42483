"""Sends: what leaves the hub is what the timeline says, once, and what became of it comes back.

Faked: the connector (it counts what it sent, and answers as it is told). Real: workers, stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import structlog
from msgspec.structs import replace

from hub.contract import Account, Connector, Outgoing, Refused, Request, Verified
from hub.documents import AddressDoc, Entry, EntrySender
from hub.jobs import Obsolete, Paused
from hub.outbound import AccountGate, Sender
from hub.plugin_context import ConnectorContext
from hub.retry import GIVE_UP
from hub.store.interface import Unavailable
from hub.testing.clock import START
from hub.testing.services import FakeServices
from normalizer.capabilities import Capabilities
from normalizer.drafts import AnyDraft, DeliveryState
from normalizer.model import Direction, Role
from normalizer.outcomes import Accepted, OutcomeUnknown, Rejected, Temporary, Unsupported
from normalizer.parts import Text
from tests.jobs.world import World, job


class NoSettings(msgspec.Struct):
    pass


class Chat(Connector[NoSettings]):
    """Keeps what it sent; ``plan`` are its next failures, raised before or after it sends."""

    channel = "chat"
    settings = NoSettings

    def __init__(self) -> None:
        context = ConnectorContext("chat", FakeServices(), structlog.get_logger(), "chat", "main")
        super().__init__(
            Account(channel="chat", key="main", label="", settings=NoSettings()), context
        )
        self.sent: list[Outgoing] = []
        self.before: list[Exception] = []
        self.after: list[Exception] = []
        self.accepted = Accepted(vendor_ids=("v1",))
        self.can_look = True

    def verify(self, request: Request) -> Verified:
        raise Refused("nobody calls")

    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        return ()

    async def send(self, message: Outgoing) -> Accepted:
        if self.before:
            raise self.before.pop(0)
        self.sent.append(message)
        if self.after:
            raise self.after.pop(0)
        return self.accepted

    async def find_sent(self, message: Outgoing) -> Accepted | None:
        if not self.can_look:
            raise Unsupported("no look-up")
        return self.accepted if any(each.key == message.key for each in self.sent) else None


ADDRESS = AddressDoc(id="adr_1", scheme="chat", address="chat:main:user:ann")
ANSWER = Entry(
    id="ent_1",
    address="adr_1",
    position=3,
    at=START,
    received_at=START,
    channel="chat",
    account="main",
    direction=Direction.OUT,
    sender=EntrySender(role=Role.AGENT, name="韩梅梅"),
    parts=(Text(text="hello"),),
    subject="about",
    event="greeting",
    data={"template": "t"},
    thread="thr_1",
    reply_to="ent_0",
)
SEND = job("job_1", "send:adr_1", entry="ent_1", attempts=1)


@pytest.fixture
def chat() -> Chat:
    return Chat()


@pytest.fixture
def switched_off() -> set[str]:
    return set()


@pytest.fixture
async def sender(world: World, chat: Chat, switched_off: set[str]) -> Sender:
    await world.store.table(AddressDoc).insert([ADDRESS])
    await world.store.table(Entry).insert([ANSWER])
    sender = Sender(
        world.store,
        lambda channel, account: chat if (channel, account) == ("chat", "main") else None,
        lambda channel, account: f"{channel}:{account}" not in switched_off,
        world.clock,
        AccountGate(world.clock),
    )
    world.handlers["send"] = sender
    return sender


async def change(world: World, doc: Any, **changes: Any) -> None:
    await world.store.table(type(doc)).put([replace(doc, **changes)])


async def test_the_connector_is_given_what_the_entry_says(sender: Sender, chat: Chat) -> None:
    assert await sender.run(SEND) == {"state": "accepted", "vendor_ids": ["v1"]}
    assert chat.sent == [
        Outgoing(
            entry="ent_1",
            key="job_1",
            address="chat:main:user:ann",
            parts=(Text(text="hello"),),
            thread="thr_1",
            subject="about",
            reply_to="ent_0",
            event="greeting",
            data={"template": "t"},
            sender_name="韩梅梅",
            attempt=1,
        )
    ]


async def test_an_answer_is_sent_and_its_outcome_told_for_its_account(
    world: World, sender: Sender, chat: Chat
) -> None:
    chat.accepted = Accepted(vendor_ids=("v1", "v2"), state=DeliveryState.DELIVERED)
    await world.give(replace(SEND, attempts=0))
    async with world.working():
        await world.finished("job_1")
    assert world.told_as == [("chat", "main")]
    (told,) = world.told
    assert (told.kind, told.entry) == ("send", "ent_1")
    assert told.result == {"state": "delivered", "vendor_ids": ["v1", "v2"]}


async def test_a_lost_answer_is_looked_up_and_nothing_is_sent_twice(
    world: World, sender: Sender, chat: Chat
) -> None:
    chat.after = [OutcomeUnknown("cut off")]
    await world.give(replace(SEND, attempts=0))
    async with world.working():
        await world.finished("job_1", tick_s=1.0)
    assert len(chat.sent) == 1
    assert world.told[0].result == {"state": "accepted", "vendor_ids": ["v1"]}


async def test_what_the_vendor_surely_does_not_have_is_sent_again(
    world: World, sender: Sender, chat: Chat
) -> None:
    chat.before = [OutcomeUnknown("cut off before")]
    await world.give(replace(SEND, attempts=0))
    async with world.working():
        await world.finished("job_1", tick_s=1.0)
    assert [message.attempt for message in chat.sent] == [2]


async def test_without_a_look_up_it_stays_unknown_and_a_person_is_shown(
    world: World, sender: Sender, chat: Chat
) -> None:
    chat.after = [OutcomeUnknown("cut off")]
    chat.can_look = False
    await world.give(replace(SEND, attempts=0), job("job_2", "send:adr_1", entry="ent_1"))
    async with world.working():
        await world.finished("job_1", "job_2", tick_s=1.0)
    assert world.states == {"job_1": "unknown", "job_2": "accepted"}
    assert world.told[0].result["code"] == "outcome_unknown"
    (letter,) = await world.letters()
    assert (letter.channel, letter.account, letter.ref) == ("chat", "main", "job_1")


async def test_where_the_vendor_drops_doubles_it_is_simply_sent_again(
    world: World, sender: Sender, chat: Chat
) -> None:
    chat.capabilities = Capabilities(dedupes_sends=True)  # type: ignore[misc]
    chat.can_look = False
    chat.after = [OutcomeUnknown("cut off")]
    await world.give(replace(SEND, attempts=0))
    async with world.working():
        await world.finished("job_1", tick_s=1.0)
    assert [message.key for message in chat.sent] == ["job_1", "job_1"]
    assert world.states == {"job_1": "accepted"}


async def test_a_final_failure_is_told_with_the_vendors_words(
    world: World, sender: Sender, chat: Chat
) -> None:
    chat.before = [Rejected("text too long", code="45002")]
    await world.give(replace(SEND, attempts=0))
    async with world.working():
        await world.finished("job_1")
    assert world.told[0].result == {
        "state": "failed",
        "code": "45002",
        "reason": "text too long",
    }


async def test_a_redriven_answer_outranks_what_was_said_of_it_before(
    sender: Sender, chat: Chat
) -> None:
    again = replace(SEND, args={"round": 2})
    done = await sender.run(again)
    assert done is not None
    assert done["round"] == 2
    failed = sender.failed(again, Rejected("no"))
    assert failed == {"state": "failed", "code": "rejected", "reason": "no", "round": 2}
    assert await sender.look_up(again) == done


async def test_nothing_is_sent_while_it_is_switched_off(
    sender: Sender, chat: Chat, switched_off: set[str]
) -> None:
    switched_off.add("chat:main")
    with pytest.raises(Paused, match="switched off for chat:main"):
        await sender.run(SEND)
    assert chat.sent == []


async def test_an_account_of_another_process_is_left_to_it(
    world: World, sender: Sender, chat: Chat
) -> None:
    await change(world, ANSWER, account="elsewhere")
    with pytest.raises(Temporary, match="chat:elsewhere is not configured here"):
        await sender.run(SEND)
    with pytest.raises(Paused, match="chat:elsewhere is not configured here"):
        await sender.look_up(SEND)


async def test_an_answer_whose_account_is_gone_for_good_is_given_up_and_told(
    world: World, sender: Sender, chat: Chat
) -> None:
    await change(world, ANSWER, account="gone")
    await world.give(replace(SEND, account="chat:gone", attempts=0))
    async with world.working():
        held = await world.in_state_of("job_1", lambda job: job.failing_since is not None)
        assert held.failing_since == START
        await world.later(GIVE_UP.total_seconds() + 1)
        await world.finished("job_1")
    (told,) = world.told
    assert told.result["state"] == "failed"
    assert told.result["reason"] == "the account chat:gone is not configured here"
    assert len(await world.letters()) == 1


@pytest.mark.parametrize(
    ("doc", "changes"),
    [(ANSWER, {"erased": True}), (ADDRESS, {"erased": True}), (ANSWER, {"address": "adr_none"})],
    ids=["entry", "address", "no address"],
)
async def test_what_was_erased_is_neither_sent_nor_looked_up(
    world: World, sender: Sender, chat: Chat, doc: Any, changes: dict[str, Any]
) -> None:
    await change(world, doc, **changes)
    for call in (sender.run, sender.look_up):
        with pytest.raises(Obsolete) as raised:
            await call(SEND)
        assert raised.value.result is None
    assert chat.sent == []


async def test_what_was_recalled_is_not_sent_and_its_entry_is_told(
    world: World, sender: Sender, chat: Chat
) -> None:
    await change(world, ANSWER, recalled=True)
    await world.give(replace(SEND, attempts=0))
    async with world.working():
        await world.finished("job_1")
    assert chat.sent == []
    assert (world.told[0].result["state"], world.told[0].result["code"]) == ("failed", "recalled")
    assert await world.letters() == []


async def test_what_was_recalled_while_in_doubt_may_have_arrived(
    world: World, sender: Sender, chat: Chat
) -> None:
    await sender.run(SEND)
    await change(world, ANSWER, recalled=True)
    assert await sender.look_up(SEND) == {"state": "accepted", "vendor_ids": ["v1"]}


async def test_a_database_that_is_away_before_the_call_leaves_no_doubt(
    world: World, sender: Sender, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away:
        async def get(self, ident: Any) -> Any:
            raise Unavailable("an election")

    monkeypatch.setattr(world.store, "table", lambda kind: Away())
    with pytest.raises(Temporary, match="an election"):
        await sender.run(SEND)
    assert chat.sent == []


async def test_an_entry_that_is_gone_has_no_account(world: World, sender: Sender) -> None:
    assert await sender.address_of(SEND) == ("chat", "main")
    assert await sender.address_of(replace(SEND, entry="ent_none")) == ("hub", "")
    assert not sender.holds_lane(SEND)
    assert sender.settle_s(SEND) == 0
