"""Whole hubs with real mailboxes: MongoDB, dovecot and postfix; nothing is faked but a cut.

What an agent and a customer see: mail comes in by a real MTA, an answer lands in the customer's
mailbox under their question, a bounce is told, and two machines do not talk for ever.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from hub import Answered, Outgoing
from hub.documents import AddressDoc, Conversation, Entry, Job, State
from normalizer.model import Direction
from normalizer.outcomes import Failure
from normalizer.parts import Text, plain_text
from tests.mail.conftest import MakeBox
from tests.mail.fake_smtp import FakeSmtp
from tests.mail.mailboxes import Mailbox, mail, until
from tests.support.hubs import RunningHub, running_hub
from tests.support.scale import scaled

pytestmark = pytest.mark.real_mongo
KICKED_S = 5.0


def account(box: Mailbox, **more: Any) -> str:
    lines = ["[[accounts]]", 'channel = "mail"', f'key = "{box.user}"']
    for name, value in {**box.settings, **more}.items():
        shown = str(value).lower() if isinstance(value, bool) else value
        shown = shown if isinstance(value, bool | int) else f'"{value}"'
        lines.append(f"{name} = {shown}")
    return "\n".join(lines) + "\n"


class Space:
    """A hub with one mailbox of its own, and the customer Ann with one of hers."""

    def __init__(self, hub: RunningHub, box: Mailbox, ann: Mailbox) -> None:
        self.hub = hub
        self.box = box
        self.ann = ann
        self._asked = 0

    async def connected(self) -> Space:
        """Wait until the mailbox's present end is stored: what comes from now on is new."""
        name = f"mail:{self.box.user}"

        async def look() -> bool:
            return await self.hub.hub.store.table(State).get(f"cursor/hold/{name}") is not None

        await until("the mailbox's cursor", look)
        return self

    async def entries(self, count: int, direction: Direction | None = None) -> list[Entry]:
        table = self.hub.hub.store.table(Entry)

        async def look() -> list[Entry]:
            found = await table.find(
                {"channel": "mail", "account": self.box.user}, sort=[("position", 1)]
            )
            found = [entry for entry in found if direction in (None, entry.direction)]
            return found if len(found) >= count else []

        found: list[Entry] = await until(f"{count} entries", look)
        return found

    async def asks(self, text: str, **headers: str) -> Entry:
        """Let Ann write by her mail program, and wait for the entry."""
        raw = mail(text, sender=self.ann.address, to=self.box.address, **headers)
        self._asked += 1
        self.ann.server.submit(raw, sender=self.ann.address, to=self.box.address)
        return (await self.entries(self._asked, direction=Direction.IN))[-1]

    async def answers(self, entry: Entry, text: str, once: str = "one") -> str:
        """Let an agent answer through the API; return the answer's entry."""
        page = await self.hub.get(f"/api/v1/entries/{entry.id}")
        done = await self.hub.post(
            f"/api/v1/customers/{page['customer']}/replies",
            {"conversation": entry.conversation, "parts": [{"type": "text", "text": text}]},
            once=once,
        )
        assert done.status in (200, 202), done
        ident: str = done.json["entry"]["id"]
        return ident

    async def state(self, ident: str, *wanted: str) -> Entry:
        async def look() -> Entry | None:
            entry = await self.hub.hub.store.table(Entry).get(ident)
            reached = entry is not None and entry.delivery and entry.delivery.state in wanted
            return entry if reached else None

        found: Entry = await until(f"the state {' or '.join(wanted)}", look, within_s=30)
        return found


@pytest.fixture
async def space(
    mongo_url: str, mongo_db_name: str, tmp_path: Path, make_box: MakeBox
) -> AsyncIterator[Space]:
    box, ann = await make_box(), await make_box()
    async with running_hub(
        mongo_url, mongo_db_name, tmp_path, accounts=("main",), more=account(box, name="Shop")
    ) as hub:
        yield await Space(hub, box, ann).connected()


def read(raw: bytes) -> EmailMessage:
    parsed = message_from_bytes(raw, policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


async def test_a_question_and_its_answer_are_one_thread_in_the_customers_mailbox(
    space: Space,
) -> None:
    """Asked by a real MTA, answered through the API, read back over IMAP, and asked again."""
    question = await space.asks("还没收到😀", subject="订单问题", ident="<q1@example.com>")
    assert plain_text(question.parts) == "还没收到😀"
    answer = await space.answers(question, "您好，明天到")
    await space.state(answer, "accepted")
    (raw,) = await space.ann.mails_in(1)
    got = read(raw)
    assert got["In-Reply-To"] == "<q1@example.com>"
    assert got["References"].split()[-1] == "<q1@example.com>"
    assert str(got["Subject"]) == "Re: 订单问题"
    body = got.get_body(("plain",))
    assert body is not None
    assert body.get_content().strip() == "您好，明天到"
    assert "Auto-Submitted" not in got

    again = mail(
        "谢谢",
        sender=space.ann.address,
        to=space.box.address,
        subject="Re: 订单问题",
        In_Reply_To=str(got["Message-ID"]),
        References=f"<q1@example.com> {got['Message-ID']}",
    )
    space.ann.server.submit(again, sender=space.ann.address, to=space.box.address)
    entries = await space.entries(3)
    assert [entry.direction for entry in entries] == [Direction.IN, Direction.OUT, Direction.IN]
    assert len({entry.conversation for entry in entries}) == 1
    assert len({entry.thread for entry in entries}) == 1


async def test_a_bounce_turns_the_answer_to_failed_with_its_reason(space: Space) -> None:
    gone = f"gone-{space.box.user}@hub.test"
    raw = mail("hello", sender=gone, to=space.box.address)
    space.box.server.submit(raw, sender=gone, to=space.box.address)
    (question,) = await space.entries(1)
    answer = await space.answers(question, "are you there?")
    failed = await space.state(answer, "failed")
    assert failed.delivery is not None
    assert failed.delivery.code == "5.1.1"
    assert failed.delivery.reason
    assert len(await space.entries(2)) == 2, "a bounce is no message of anybody's"


async def test_a_kicked_connection_delays_the_next_mail_by_seconds(space: Space) -> None:
    await space.asks("first")
    space.box.server.kick(space.box.user)
    started = time.monotonic()
    await space.asks("second", subject="another")
    assert time.monotonic() - started < KICKED_S


@pytest.mark.soak
async def test_connecting_a_full_mailbox_makes_nothing(
    mongo_url: str, mongo_db_name: str, tmp_path: Path, make_box: MakeBox
) -> None:
    """Old mails are history: no entry, no conversation, no ticket job."""
    box, ann = await make_box(), await make_box()
    box.has(*(f"old {number}" for number in range(scaled(2_000, 50_000))), age_s=86_400)
    async with running_hub(
        mongo_url, mongo_db_name, tmp_path, accounts=("main",), more=account(box)
    ) as hub:
        space = await Space(hub, box, ann).connected()
        new = await space.asks("new")
        store = hub.hub.store
        assert [entry.id for entry in await space.entries(1)] == [new.id]
        assert await store.table(Conversation).count({}) == 1
        jobs = await store.table(Job).find({})
        assert {job.entry for job in jobs} <= {new.id, ""}


async def test_two_hubs_that_write_to_each_other_stop(
    mongo_url: str, mongo_db_name: str, tmp_path: Path, make_box: MakeBox
) -> None:
    """Each answers by itself whatever a person writes: after one exchange there is silence."""
    first, second = await make_box(), await make_box()
    async with running_hub(
        mongo_url,
        mongo_db_name,
        tmp_path,
        accounts=("main",),
        more=account(first) + account(second),
    ) as hub:
        spaces = [
            await Space(hub, first, second).connected(),
            await Space(hub, second, first).connected(),
        ]
        raw = mail("hello", sender=first.address, to=second.address)
        first.server.submit(raw, sender=first.address, to=second.address)
        (asked,) = await spaces[1].entries(1, direction=Direction.IN)
        assert not asked.automatic
        answered = await automatic(spaces[1], asked)
        (echo,) = await spaces[0].entries(1, direction=Direction.IN)
        assert echo.automatic
        refused = await automatic(spaces[0], echo)
        assert (answered, refused) == ("accepted", "unreachable")


async def automatic(space: Space, entry: Entry) -> str:
    """Let the account answer an entry by itself, as a vacation notice would."""
    connector = space.hub.hub.connectors[("mail", space.box.user)]
    address = await space.hub.hub.store.table(AddressDoc).get(entry.address)
    assert address is not None
    message = Outgoing(
        entry=f"ent_auto_{space.box.user}",
        key=f"auto_{space.box.user}",
        address=address.address,
        parts=(Text(text="we got it"),),
        thread=entry.thread or "",
        answers=Answered(entry=entry.id, at=entry.at, subject=entry.subject, data=entry.data),
        automatic=True,
    )
    try:
        await connector.send(message)
    except Failure as failure:
        return str(failure.verdict)
    return "accepted"


async def test_a_lost_answer_after_the_data_is_unknown_and_never_sent_again(
    mongo_url: str, mongo_db_name: str, tmp_path: Path, make_box: MakeBox
) -> None:
    """The customer has the mail; a person decides what the state says."""
    box, ann = await make_box(), await make_box()
    async with FakeSmtp(user=box.user, password=box.server.password) as smtp:
        smtp.answers["end"] = ""
        async with running_hub(
            mongo_url,
            mongo_db_name,
            tmp_path,
            accounts=("main",),
            more=account(box, **smtp.settings, watch_sent=False),
        ) as hub:
            space = await Space(hub, box, ann).connected()
            question = await space.asks("hello")
            with settling_for(1.0):
                answer = await space.answers(question, "perhaps")
                entry = await space.state(answer, "unknown")
            smtp.answers.clear()
            second = await space.answers(question, "surely", once="two")
            await space.state(second, "accepted")
            assert entry.delivery is not None
            assert [taken.text for taken in smtp.taken] == ["perhaps", "surely"]


def settling_for(seconds: float) -> Any:
    return patch("hub.jobs.SETTLE_FOR", timedelta(seconds=seconds))


async def test_an_answer_from_a_mail_program_is_in_the_timeline(space: Space) -> None:
    """Taken in from the Sent folder; the hub's own copies there are not doubled."""
    question = await space.asks("hello", ident="<q1@example.com>")
    imap = await space.box.imap()
    raw = mail(
        "answered elsewhere",
        sender=space.box.address,
        to=space.ann.address,
        In_Reply_To="<q1@example.com>",
        References="<q1@example.com>",
    )
    await imap.append("Sent", raw)
    await imap.close()
    entries = await space.entries(2)
    assert entries[1].direction is Direction.OUT
    assert entries[1].address == question.address
    assert entries[1].thread == question.thread
