"""The mail connector passes the contract that every connector has to pass."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from connectors.mail import MailConnector, imap
from hub.testing import ConnectorContract, FakeVendor, Got, Mood
from tests.mail.fake_imap import PASSWORD, USER, FakeImap, hang_up, says
from tests.mail.fake_smtp import FakeSmtp
from tests.mail.mailboxes import mail


class MailVendor(FakeVendor):
    """A provider: a mailbox by IMAP and a submission server."""

    def __init__(self, inbox: FakeImap, submission: FakeSmtp) -> None:
        self.inbox = inbox
        self.submission = submission
        self._mood = Mood.WELL

    @property
    def settings(self) -> Mapping[str, Any]:
        return {**self.inbox.settings, **self.submission.settings}

    @property
    def mood(self) -> Mood:  # type: ignore[override]
        return self._mood

    @mood.setter
    def mood(self, mood: Mood) -> None:
        self._mood = mood
        self.submission.answers = {
            Mood.WELL: {},
            Mood.REFUSES: {"rcpt": "550 5.7.1 not from you"},
            Mood.SWALLOWS: {"end": ""},
            Mood.AWAY: {"connect": "421 4.3.2 shutting down"},
        }[mood]
        self.inbox.behave = {
            Mood.WELL: {},
            Mood.REFUSES: {"LOGIN": says("TAG NO [AUTHENTICATIONFAILED] no")},
            Mood.SWALLOWS: {"SELECT": hang_up},
            Mood.AWAY: {"GREETING": says("* BYE busy")},
        }[mood]

    async def says(self, text: str, *, who: str = "ann") -> None:
        number = self.inbox.next_uid
        raw = mail(text, sender=f"{who}@example.com", ident=f"<m{number}@example.com>")
        self.inbox.add(raw)

    def got(self) -> Sequence[Got]:
        return [Got(to=taken.recipients[0], text=taken.text) for taken in self.submission.taken]

    async def hang_up(self) -> None:
        self.inbox.cut()


class TestMail(ConnectorContract):
    connector = MailConnector
    settings = {
        "address": "shop@hub.test",
        "user": USER,
        "password": PASSWORD,
        "imap_host": "127.0.0.1",
        "imap_port": 9,
        "imap_tls": "none",
        "smtp_host": "127.0.0.1",
        "smtp_port": 9,
        "smtp_tls": "none",
    }
    recipient = "mail::mailbox:ann@example.com"
    golden = Path(__file__).parent.parent / "golden" / "mail.json"
    exempt = {"webhook": "it holds a connection"}

    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(imap, "CONNECT_S", 2.0)

    @contextlib.asynccontextmanager
    async def vendor(self) -> AsyncIterator[FakeVendor]:
        async with FakeImap() as inbox, FakeSmtp(user=USER, password=PASSWORD) as submission:
            yield MailVendor(inbox, submission)
