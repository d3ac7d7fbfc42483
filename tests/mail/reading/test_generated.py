"""Whatever a mail is made of: no crash, no lost word, bounded time. And never another error."""

from __future__ import annotations

import contextlib
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.mail.reading import MailRefused, ReadMail, read_headers
from normalizer.drafts import Message
from normalizer.parts import Text, plain_text
from tests.mail.reading.building import BOX, NOW, read
from tests.mail.reading.generating import generated
from tests.mail.reading.mails import CASES
from tests.support.scale import scaled

pytestmark = pytest.mark.soak

MADE = [(section, seed) for section in "3456" for seed in range(scaled(30, 250))]


def haystack(mail: ReadMail) -> str:
    """Everything that somebody who opens the entry can find: text, quotation, HTML, files."""
    found = []
    for draft in mail.drafts:
        assert isinstance(draft, Message)
        found += [plain_text(draft.parts), str(draft.data.get("html", "")), str(draft.data)]
        found += [part.quoted for part in draft.parts if isinstance(part, Text)]
    found += [file.data.decode("latin-1") for file in mail.files]
    return "\n".join(found)


@pytest.mark.parametrize(("section", "seed"), MADE)
def test_a_generated_mail_loses_no_word(section: str, seed: int) -> None:
    made = generated(section, seed)
    began = time.process_time()
    mail = read(made.raw)
    assert time.process_time() - began < 2
    assert made.words
    found = haystack(mail)
    assert not [word for word in made.words if word not in found]
    refs = {file.ref for file in mail.files}
    assert len(refs) == len(mail.files)


def test_there_are_as_many_mails_as_promised() -> None:
    assert len(CASES) + len(MADE) >= 400


def mutated(data: bytes, chance: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(chance.randrange(1, 12)):
        if not out:
            break
        at = chance.randrange(len(out))
        match chance.randrange(4):
            case 0:
                out[at] = chance.randrange(256)
            case 1:
                del out[at : at + chance.randrange(1, 40)]
            case 2:
                out[at:at] = out[at : at + chance.randrange(1, 200)]
            case 3:
                out[at:at] = chance.choice(
                    [b"\r\n\r\n", b"=?gb2312?B?", b"--b1", b'"', b"\x00", b";"]
                )
    return bytes(out)


def taken(data: bytes, **more: Any) -> None:
    found = None
    with contextlib.suppress(MailRefused):
        found = read(data, **more)
    assert found is None or found.own or found.drafts


@pytest.mark.parametrize("seed", range(scaled(20, 200)))
def test_a_mutated_mail_is_read_or_refused_by_name(seed: int) -> None:
    chance = random.Random(seed)
    for case in chance.sample(CASES, 20):
        taken(mutated(case.raw, chance), internal_date=case.internal_date)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_are_read_or_refused_by_name(data: bytes) -> None:
    taken(data)


HEADERS = st.sampled_from(
    [
        b"From", b"To", b"Cc", b"Subject", b"Date", b"Message-ID", b"References", b"Content-Type",
        b"Content-Transfer-Encoding", b"Content-Disposition", b"Authentication-Results",
        b"Thread-Index", b"Auto-Submitted", b"Reply-To", b"Return-Path", b"Content-ID",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(HEADERS, st.binary(max_size=80)), max_size=12), st.binary(max_size=300))
def test_any_header_values_are_read(fields: list[tuple[bytes, bytes]], body: bytes) -> None:
    head = b"".join(name + b": " + value.replace(b"\n", b" ") + b"\n" for name, value in fields)
    taken(head + b"\n" + body)
    with contextlib.suppress(MailRefused):
        stub = read_headers(head, 50_000_000, body, box=BOX, received_at=NOW)
        assert stub.drafts or stub.own
