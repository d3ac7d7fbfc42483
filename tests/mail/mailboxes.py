"""A mailbox on the real server with a connector, what it delivers, and mails to write to it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any

import msgspec

from connectors.mail.connector import MailConnector
from connectors.mail.imap import Imap, tls_context
from connectors.mail.settings import MailSettings
from hub import Account, Answered, Incoming, Outgoing, RawTable, parse_settings
from hub.clock import SystemClock
from hub.testing.services import FakeServices
from normalizer.drafts import AnyDraft, Message
from normalizer.parts import AnyPart, Text, plain_text
from tests.support.mailserver import DOMAIN, MailServer

WAIT_S = 15.0


def mail(
    text: str = "hello",
    *,
    sender: str = "ann@example.com",
    to: str = f"shop@{DOMAIN}",
    subject: str = "a question",
    ident: str = "",
    **headers: str,
) -> bytes:
    """Return a customer's mail; ``headers`` have _ where the name has -."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, to, subject
    message["Message-ID"] = ident or f"<{uuid.uuid4().hex}@example.com>"
    message["Date"] = "Sun, 22 Nov 2026 10:00:00 +0800"
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.set_content(text)
    return message.as_bytes()


def connector(settings: dict[str, Any], services: FakeServices, key: str) -> MailConnector:
    given = {name: value for name, value in settings.items() if value is not None}
    parsed = parse_settings(MailSettings, RawTable.of(given), f"mail:{key}")
    account = Account(channel="mail", key=key, label=key, settings=parsed)
    return MailConnector(account, services.connector_context("mail", key))


class Held:
    """A hold under way: what it delivered, and its cursor. ``broken`` makes deliveries fail."""

    def __init__(self, made: MailConnector, cursor: str | None) -> None:
        self.items: list[Incoming] = []
        self.cursor = cursor
        self.broken = False
        self.changed = asyncio.Event()
        self.task = asyncio.ensure_future(made.hold(cursor, self.deliver))

    async def deliver(self, items: Sequence[Incoming], cursor: str) -> None:
        if self.broken:
            raise OSError("this test says that nothing can be stored")
        self.items += items
        self.cursor = cursor
        self.changed.set()

    @property
    def drafts(self) -> list[AnyDraft]:
        return [draft for item in self.items for draft in item.drafts]

    @property
    def texts(self) -> list[str]:
        return [plain_text(each.parts) for each in self.drafts if isinstance(each, Message)]

    async def until(self, holds: Callable[[], object], what: str, within_s: float = WAIT_S) -> None:
        """Wait for a condition; fails when the hold ends before, or the time is up."""
        async with asyncio.timeout(within_s):
            while not holds():
                assert not self.task.done(), f"waiting for {what}: {self.task.exception()!r}"
                self.changed.clear()
                waiting = asyncio.ensure_future(self.changed.wait())
                await asyncio.wait({waiting, self.task}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()

    async def open(self) -> Held:
        await self.until(lambda: self.cursor is not None, "the connection")
        return self

    async def ended(self) -> BaseException | None:
        done, _ = await asyncio.wait({self.task}, timeout=WAIT_S)
        assert done, "hold() goes on"
        return self.task.exception()

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Mailbox:
    """One user of the real server, with a connector."""

    def __init__(self, server: MailServer, **more: Any) -> None:
        self.server = server
        self.user = user = server.user()
        self.address = f"{user}@{DOMAIN}"
        self.settings = server.settings(user, **more)
        self.services = FakeServices(clock=SystemClock())
        self.connector = connector(self.settings, self.services, user)
        self._held: list[Held] = []

    def hold(self, cursor: str | None = None) -> Held:
        held = Held(self.connector, cursor)
        self._held.append(held)
        return held

    def gets(self, text: str = "hello", **more: str) -> bytes:
        """Let a customer's mail come in by the real MTA."""
        raw = mail(text, to=self.address, **more)
        self.server.submit(raw, sender="ann@example.com", to=self.address)
        return raw

    def has(self, *texts: str, folder: str = "INBOX", age_s: float = 0.0, **more: str) -> None:
        """Put mails into a folder straight away."""
        raws = [mail(text, to=self.address, **more) for text in texts]
        self.server.write(self.user, raws, folder, age_s=age_s)

    async def imap(self) -> Imap:
        settings = parse_settings(MailSettings, RawTable.of(self.settings), "mail:test")
        return await Imap.open(settings, tls_context(self.server.ca_file))

    async def mails(self, folder: str = "INBOX") -> list[bytes]:
        """Return what is in a folder, read over IMAP."""
        imap = await self.imap()
        try:
            await imap.select(folder)
            uids = await imap.uids_after(0)
            found = [await imap.body(uid, 100_000) for uid in uids]
            return [raw for raw in found if raw is not None]
        finally:
            await imap.close()

    async def mails_in(
        self, count: int, folder: str = "INBOX", within_s: float = WAIT_S
    ) -> list[bytes]:
        """Wait until a folder has so many mails; return them."""
        return await until(f"{count} mails in {folder}", lambda: self._at_least(count, folder))

    async def _at_least(self, count: int, folder: str) -> list[bytes]:
        found = await self.mails(folder)
        return found if len(found) >= count else []

    async def close(self) -> None:
        for held in self._held:
            await held.close()
        await self.connector.stop()


@asynccontextmanager
async def made(server: MailServer, **settings: Any) -> AsyncIterator[Mailbox]:
    box = Mailbox(server, **settings)
    try:
        yield box
    finally:
        await box.close()


async def until(what: str, look: Callable[[], Awaitable[Any]], within_s: float = WAIT_S) -> Any:
    """Return what ``look`` finds once it finds something."""
    async with asyncio.timeout(within_s):
        while not (found := await look()):
            await asyncio.sleep(0.05)
        return found


def outgoing(to: str, *parts: AnyPart | str, **more: Any) -> Outgoing:
    made_of = tuple(Text(text=part) if isinstance(part, str) else part for part in parts)
    given: dict[str, Any] = {"entry": "ent_1", "key": "job_1", "thread": "thr_1", **more}
    answers = given.get("answers")
    if isinstance(answers, dict):
        given["answers"] = msgspec.convert(
            {"entry": "ent_0", "at": "2026-11-22T10:00:00Z", **answers}, Answered
        )
    return Outgoing(address=f"mail::mailbox:{to}", parts=made_of, **given)
