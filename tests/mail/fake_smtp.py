"""A submission server that checks what it is sent, and misbehaves at a step of one's choice."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import msgspec

from tests.mail.fake_imap import REFUSED_TOKEN


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A mail that the server took."""

    sender: str
    recipients: tuple[str, ...]
    data: bytes

    @property
    def mail(self) -> EmailMessage:
        parsed = message_from_bytes(self.data, policy=policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed

    @property
    def text(self) -> str:
        body = self.mail.get_body(("plain",))
        assert body is not None
        return str(body.get_content()).replace("\r\n", "\n").removesuffix("\n")


class FakeSmtp:
    """``async with FakeSmtp() as smtp:``.

    ``answers`` maps a step (``connect``, ``auth``, ``mail``, ``rcpt``, ``data``, ``end``) to
    what is said there instead; "" cuts the connection. At ``end`` the mail is taken all the same
    when the connection is cut or the answer is a 250.
    """

    def __init__(
        self, *, user: str = "shop", password: str = "secret", extensions: tuple[str, ...] = ()
    ) -> None:
        self.user = user
        self.password = password
        self.extensions = extensions or (
            "SIZE 26214400",
            "AUTH PLAIN LOGIN",
            "SMTPUTF8",
            "8BITMIME",
        )
        self.takes_token: Callable[[str], bool] = lambda token: token == password
        self.answers: dict[str, str] = {}
        self.taken: list[Taken] = []
        self.on_taken: Callable[[Taken], None] = lambda taken: None
        self.logins = 0
        self.connections = 0
        self.commands: list[str] = []
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"smtp_host": "127.0.0.1", "smtp_port": self.port, "smtp_tls": "none"}

    async def __aenter__(self) -> FakeSmtp:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        """Cut every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    # -------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        try:
            await self._session(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(step: str, usual: str) -> bool:
            answer = self.answers.get(step, usual)
            if not answer:
                writer.transport.abort()
                raise ConnectionResetError
            writer.write(answer.encode() + b"\r\n")
            await writer.drain()
            return answer[:1] in "23"

        sender: str | None = None
        recipients: list[str] = []
        known = False
        if not await say("connect", "220 fake.test ESMTP"):
            return
        while line := await reader.readline():
            assert line.endswith(b"\r\n"), f"a line ends with CR LF: {line!r}"
            text = line[:-2].decode()
            self.commands.append(text)
            command = text.split(" ", 1)[0].split(":", 1)[0].upper()
            if command == "EHLO":
                lines = ["fake.test", *self.extensions]
                told = [f"250{'-' if n < len(lines) - 1 else ' '}{x}" for n, x in enumerate(lines)]
                writer.write("\r\n".join(told).encode() + b"\r\n")
            elif command == "AUTH":
                self.logins += 1
                mechanism, _, given = text[5:].partition(" ")
                if mechanism == "XOAUTH2":
                    known = await self._xoauth2(given, reader, writer, say)
                    continue
                assert mechanism == "PLAIN", "the first mechanism offered is taken"
                good = base64.b64decode(given) == f"\0{self.user}\0{self.password}".encode()
                known = await say("auth", "235 2.7.0 ok" if good else "535 5.7.8 bad password")
            elif command == "MAIL":
                assert known or not any(each.startswith("AUTH") for each in self.extensions)
                if await say("mail", "250 2.1.0 ok"):
                    sender, recipients = _path(text), []
            elif command == "RCPT":
                assert sender is not None
                if await say("rcpt", "250 2.1.5 ok"):
                    recipients.append(_path(text))
            elif command == "DATA":
                assert recipients
                if await say("data", "354 go on"):
                    data = await reader.readuntil(b"\r\n.\r\n")
                    data = data[:-3].replace(b"\r\n..", b"\r\n.")
                    taken = Taken(sender=sender or "", recipients=tuple(recipients), data=data)
                    if self.answers.get("end", "250")[:3] in ("", "250"):
                        self.taken.append(taken)
                        self.on_taken(taken)
                    await say("end", f"250 2.0.0 queued as Q{len(self.taken)}")
                sender, recipients = None, []
            elif command == "RSET":
                sender, recipients = None, []
                writer.write(b"250 2.0.0 ok\r\n")
            elif command == "QUIT":
                writer.write(b"221 2.0.0 bye\r\n")
                return
            else:
                writer.write(b"500 5.5.1 what?\r\n")

    async def _xoauth2(
        self,
        given: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        say: Callable[[str, str], Awaitable[bool]],
    ) -> bool:
        user, bearer, *rest = base64.b64decode(given).decode().split("\1")
        assert (user, bearer[:12], rest) == (f"user={self.user}", "auth=Bearer ", ["", ""])
        if self.takes_token(bearer.removeprefix("auth=Bearer ")):
            return await say("auth", "235 2.7.0 ok")
        writer.write(f"334 {REFUSED_TOKEN}\r\n".encode())
        assert await reader.readline() == b"\r\n", "an empty line ends the exchange"
        return await say("auth", "535 5.7.8 bad token")


def _path(text: str) -> str:
    return text.partition("<")[2].partition(">")[0]
