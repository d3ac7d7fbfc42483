"""Reading in a process of its own: what hangs or dies there is given up, the next mail is read."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from connectors.mail import parsing
from connectors.mail.parse_child import Task
from connectors.mail.parsing import ParseError, Parser
from connectors.mail.reading import Box, ReadMail
from normalizer.drafts import Message
from normalizer.parts import plain_text
from tests.mail.mailboxes import mail

BOX = Box(own=frozenset({"shop@hub.test"}), authserv_ids=frozenset(), reply_key=b"k", instance="i")
AT = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)
CHILD = "tests.mail.poisoned_child"


@pytest.fixture
async def parser() -> AsyncIterator[Parser]:
    made = Parser(2.0, child=CHILD)
    yield made
    await made.close()


async def read(parser: Parser, raw: bytes) -> ReadMail:
    return await parser.read(Task(raw=raw, box=BOX, received_at=AT, internal_date=AT))


def text(read: ReadMail) -> str:
    (draft,) = read.drafts
    assert isinstance(draft, Message)
    return plain_text(draft.parts)


async def test_mails_are_read_in_one_child(parser: Parser) -> None:
    for number in range(5):
        assert text(await read(parser, mail(f"text {number} 你好"))) == f"text {number} 你好"
        child = parser._child
    assert child is parser._child


@pytest.mark.parametrize("poison", ["HANG", "EXIT", "SEGFAULT", "MEMORY"])
async def test_a_poison_mail_is_tried_twice_and_given_up(parser: Parser, poison: str) -> None:
    assert text(await read(parser, mail("before"))) == "before"
    before = parser._child
    with pytest.raises(ParseError) as caught:
        await read(parser, mail(f"POISON-{poison}"))
    assert "POISON" not in str(caught.value)
    assert parser._child is not before
    assert text(await read(parser, mail("after"))) == "after"


async def test_an_error_is_told_without_the_mails_words(parser: Parser) -> None:
    with pytest.raises(ParseError) as caught:
        await read(parser, mail("POISON-RAISE of a private text"))
    assert "ValueError" in str(caught.value)
    assert "private" not in str(caught.value)
    assert text(await read(parser, mail("after"))) == "after"


async def test_many_at_once_keep_their_own_answers(parser: Parser) -> None:
    found = await asyncio.gather(*(read(parser, mail(f"text {n}")) for n in range(30)))
    assert [text(each) for each in found] == [f"text {n}" for n in range(30)]


async def test_one_that_is_cancelled_takes_nobody_elses_answer(parser: Parser) -> None:
    task = asyncio.ensure_future(read(parser, mail("POISON-HANG")))
    await asyncio.wait({task}, timeout=0.5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert text(await read(parser, mail("after"))) == "after"


async def test_a_killed_child_is_replaced(parser: Parser) -> None:
    await read(parser, mail("one"))
    assert parser._child is not None
    os.kill(parser._child.pid, signal.SIGKILL)
    assert text(await read(parser, mail("two"))) == "two"


async def test_an_idle_child_ends(parser: Parser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "IDLE_S", 0.05)
    await read(parser, mail("one"))
    async with asyncio.timeout(10):
        while parser._child is not None:
            await asyncio.sleep(0.01)
    assert text(await read(parser, mail("two"))) == "two"


async def test_the_real_child_reads_mails_and_heads() -> None:
    parser = Parser(10.0)
    try:
        assert text(await read(parser, mail("你好"))) == "你好"
        head = mail("x", subject="a large one").partition(b"\n\n")[0] + b"\n\n"
        task = Task(raw=head, box=BOX, received_at=AT, size=99_000_000, beginning=b"the beginning")
        stub = await parser.read(task)
        (draft,) = stub.drafts
        assert isinstance(draft, Message)
        assert draft.subject == "a large one"
    finally:
        await parser.close()
