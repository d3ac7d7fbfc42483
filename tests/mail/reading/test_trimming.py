"""What a reply repeats is folded away as its client wrote it, and nothing is lost by that."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.markup import to_text
from normalizer.quoted import trim
from tests.mail.reading.replies import HTML, TEXTS, HtmlReply, Reply


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("reply", TEXTS, ids=lambda reply: reply.name)
def test_a_reply_shows_what_its_writer_said(reply: Reply) -> None:
    visible, quoted = trim(reply.text)
    assert visible == (reply.text if reply.said is None else reply.said)
    for words in reply.below:
        assert words in quoted
    assert squeezed(visible + quoted) == squeezed(reply.text)


@pytest.mark.parametrize("reply", HTML, ids=lambda reply: reply.name)
def test_an_html_reply_shows_what_its_writer_said(reply: HtmlReply) -> None:
    read = to_text(reply.html)
    visible, quoted = trim(read.text, read.quoted)
    assert visible == (read.text if reply.said is None else reply.said)
    for words in reply.below:
        assert words in quoted
    assert squeezed(visible + quoted) == squeezed(read.text)


def test_the_table_is_as_long_as_promised() -> None:
    cut = [reply for reply in (*TEXTS, *HTML) if reply.said is not None]
    assert len(cut) >= 60
    assert len({reply.name for reply in TEXTS}) == len(TEXTS)


LINES = st.sampled_from(
    [
        "", "> 旧", ">> old", "答", "answer", "-- ", "发自我的 iPhone", "Sent from my iPhone",
        "On Wed, Support <s@example.com> wrote:", "在 2023-11-15 14:00:00，客服 写道：",
        "-----原始邮件-----", "发件人: a", "发送时间: b", "From: a", "Sent: b", "________", "---",
    ]
)  # fmt: skip


@given(st.lists(LINES, max_size=25))
def test_no_line_is_lost_or_doubled(lines: list[str]) -> None:
    text = "\n".join(lines)
    visible, quoted = trim(text)
    assert squeezed(visible + quoted) == squeezed(text)


@given(st.text(max_size=300), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300))))
def test_any_text_and_any_ranges_are_taken(text: str, ranges: list[tuple[int, int]]) -> None:
    kept = sorted({(min(pair), max(pair)) for pair in ranges if max(pair) <= len(text)})
    visible, quoted = trim(text, kept)
    assert squeezed(visible + quoted) == squeezed(text)


HOSTILE = {
    "on": "On " * 400_000,
    "on-lines": "On x\n" * 15_000,
    "zai-lines": "在 " + "写" * 390 + "\n",
    "many-zai": ("在 " + "写" * 390 + "\n") * 3_000,
    "yu": ("a" * 120 + "于2023年" + "b" * 200 + "\n") * 2_000,
    "at": ("@" * 400 + "\n") * 3_000,
    "rules": "-" * 1_000_000,
    "rule-lines": ("-" * 400 + "\n") * 3_000,
    "marks": ">" * 1_000_000,
    "mark-lines": "> x\n" * 19_000,
    "signatures": "发自我的 iPhone\n" * 19_000,
    "headers": "发件人: a\n" * 19_000,
    "attributions": "On Wed, a@b.cn wrote:\n> x\n" * 9_000,
    "blank": "\n" * 1_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_trimmed_in_bounded_time(name: str) -> None:
    began = time.process_time()
    trim(HOSTILE[name])
    assert time.process_time() - began < 3
