"""Every row of the sheet's sections 2 to 7: what becomes of such a mail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from connectors.mail.reading import ReadMail
from normalizer.addresses import canonical
from normalizer.drafts import Event, Message, Receipt
from normalizer.parts import Calendar, Text, plain_text
from normalizer.pipeline import StepContext, normalize
from tests.mail.reading.building import BOX, read
from tests.mail.reading.mails import CASES, Case


def message(mail: ReadMail) -> Message:
    draft = mail.drafts[0]
    assert isinstance(draft, Message)
    return draft


def receipt(mail: ReadMail) -> tuple[str, str, str, bool]:
    draft = mail.drafts[0]
    assert isinstance(draft, Receipt)
    target = draft.target.entry or draft.target.vendor_id or ""
    assert draft.gone == (draft.permanent and draft.code in ("5.1.1", "5.1.10"))
    return draft.state.value, target, draft.code, draft.permanent


def event(mail: ReadMail) -> str:
    draft = mail.drafts[0]
    assert isinstance(draft, Event)
    return draft.name


def texts(mail: ReadMail) -> list[str]:
    return [part.text for part in message(mail).parts if isinstance(part, Text) and part.text]


def quoted(mail: ReadMail) -> str:
    return "\n".join(part.quoted for part in message(mail).parts if isinstance(part, Text))


def calendar(mail: ReadMail) -> tuple[str, str, str, str]:
    part = next(part for part in message(mail).parts if isinstance(part, Calendar))
    return part.method, part.summary, part.start, part.organizer


def hint(mail: ReadMail) -> str | None:
    hints = message(mail).data.get("thread_hints", [])
    return hints[-1] if hints else None


# What a case may name, and how it is found.
FACETS: dict[str, Callable[[ReadMail], Any]] = {
    "address": lambda mail: canonical(mail.drafts[0].address),  # type: ignore[union-attr, arg-type]
    "auth": lambda mail: message(mail).data["auth"],
    "automatic": lambda mail: message(mail).automatic,
    "calendar": calendar,
    "direction": lambda mail: message(mail).direction.value,
    "drafts": lambda mail: len(mail.drafts),
    "event": event,
    "files": lambda mail: [file.media.name for file in mail.files],
    "hint": hint,
    "kinds": lambda mail: [
        type(part).__struct_config__.tag for part in message(mail).parts if part != Text(text="")
    ],
    "last_file": lambda mail: mail.files[-1].media.name,
    "name": lambda mail: getattr(message(mail).profile, "name", ""),
    "own": lambda mail: mail.own,
    "reason": lambda mail: mail.drafts[0].reason,  # type: ignore[union-attr]
    "receipt": receipt,
    "references": lambda mail: len(message(mail).data["references"]),
    "reply_to": lambda mail: message(mail).reply_to,
    "sender": lambda mail: (message(mail).sender.role.value, message(mail).sender.name),  # type: ignore[union-attr]
    "sent": lambda mail: message(mail).at,
    "subject": lambda mail: message(mail).subject,
    "texts": texts,
    "thread": lambda mail: message(mail).thread,
    "unnamed": lambda mail: message(mail).address.kind == "unnamed",
    "vendor_ids": lambda mail: message(mail).vendor_ids,
}
# What has to be in something larger.
CONTAINED: dict[str, Callable[[ReadMail], Any]] = {
    "attached": lambda mail: message(mail).data["attached_mails"][0],
    "data": lambda mail: message(mail).data,
    "html_has": lambda mail: message(mail).data["html"],
    "noted": lambda mail: "; ".join(mail.notes),
    "own_id_ends": lambda mail: message(mail).data["message_id"],
    "quoted_has": quoted,
    "text_has": lambda mail: plain_text(message(mail).parts),
    "words": lambda mail: plain_text(message(mail).parts),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.row)
def test_a_mail_becomes_what_its_row_says(case: Case) -> None:
    box = replace(BOX, folder=case.folder)
    mail = read(case.raw, box, internal_date=case.internal_date)
    assert case.expect
    for name, expected in case.expect.items():
        if name in FACETS:
            assert FACETS[name](mail) == expected, name
        elif name == "html_lacks":
            html = message(mail).data["html"]
            assert not [word for word in expected if word in html]
        elif isinstance(expected, dict):
            found = CONTAINED[name](mail)
            assert {key: found.get(key) for key in expected} == expected
        else:
            found = CONTAINED[name](mail)
            for word in [expected] if isinstance(expected, str) else expected:
                assert word in found, name
    for draft in mail.drafts:  # and the hub takes it without changing what it is
        taken = normalize(draft, StepContext(channel="mail", account="a"))
        assert taken.key == draft.key
        if isinstance(draft, Message) and isinstance(taken, Message):
            assert canonical(taken.address) == canonical(draft.address)
            assert len(taken.parts) == len(draft.parts)


def test_every_section_has_its_rows() -> None:
    sections = {case.row.partition("/")[0] for case in CASES}
    assert sections == {"2", "3", "4", "5", "6", "7"}
    assert len({case.row for case in CASES}) == len(CASES) >= 200
