"""An IMAP server that checks what it is sent, counts what it is asked, and misbehaves on demand.

It knows one folder. ``behave`` maps a command (``LOGIN``, ``SELECT``, ``FETCH`` ...) to a
function that is given the connection and the tag instead of the usual answer; a tuple of lines
is sent as it is, and None is silence.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

USER, PASSWORD = "shop", "the-password-of-shop"
# {"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}, as Google documents it
REFUSED_TOKEN = (
    "eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIiwic2NvcGUiOiJodHRwczovL21haWwuZ29vZ2xlLmNvbS8i"
    "fQ=="
)
_HEADS = "(UID INTERNALDATE RFC822.SIZE)"
_BODY = re.compile(r"\(UID BODY\.PEEK\[(?P<section>HEADER|1|1\.MIME|)\](?:<0\.\d+>)?\)\Z")
Misbehave = Callable[["Session", str], Awaitable[None]]


class FakeImap:
    """``async with FakeImap() as imap:``"""

    def __init__(self, *capabilities: str) -> None:
        self.capabilities = capabilities or ("IDLE", "UIDPLUS", "ID", "AUTH=XOAUTH2")
        self.at_once = True  # XOAUTH2 with its command (SASL-IR), else behind a continuation
        self.takes_token: Callable[[str], bool] = lambda token: token == PASSWORD
        self.mails: dict[int, bytes] = {}
        self.uid_validity = 7
        self.next_uid = 1
        self.behave: dict[str, Misbehave] = {}
        self.commands: list[str] = []
        self.logins = 0
        self.most_uids = 0
        self.sessions: set[Session] = set()
        self.port = 0
        self._server: asyncio.Server | None = None

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "address": "shop@hub.test",
            "user": USER,
            "password": PASSWORD,
            "imap_host": "127.0.0.1",
            "imap_port": self.port,
            "imap_tls": "none",
            "watch_sent": False,
        }

    async def __aenter__(self) -> FakeImap:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**24)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        async with asyncio.timeout(5):
            while self.sessions:
                self.cut()
                await asyncio.sleep(0.01)
        await self._server.wait_closed()

    def add(self, mail: bytes) -> int:
        """Let a mail arrive; who is in IDLE is told."""
        uid, self.next_uid = self.next_uid, self.next_uid + 1
        self.mails[uid] = mail.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        for session in self.sessions:
            if session.idle:
                session.write(f"* {len(self.mails)} EXISTS")
        return uid

    def cut(self) -> None:
        for session in list(self.sessions):
            session.writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(self, reader, writer)
        self.sessions.add(session)
        try:
            await session.run()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self.sessions.discard(session)
            writer.close()


class Session:
    """One connection."""

    def __init__(
        self, server: FakeImap, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.idle = False
        self.known = False
        self.selected = False

    def write(self, *lines: str | bytes) -> None:
        for line in lines:
            self.writer.write((line if isinstance(line, bytes) else line.encode()) + b"\r\n")

    async def run(self) -> None:
        if "GREETING" in self.server.behave:
            await self.server.behave["GREETING"](self, "*")
        else:
            self.write("* OK fake.test ready")
        while line := await self.reader.readline():
            text = line.decode().removesuffix("\r\n")
            self.server.commands.append(text)
            if text == "" or text == "DONE":
                continue
            tag, _, rest = text.partition(" ")
            name, _, args = rest.partition(" ")
            if name == "UID":
                name, _, args = args.partition(" ")
            if name in self.server.behave:
                await self.server.behave[name](self, tag)
            else:
                await getattr(self, f"on_{name.lower()}")(tag, args)
            if name == "LOGOUT":
                return

    def capabilities(self) -> str:
        # As many servers do: IDLE and the others are told to who has logged in.
        before = ["AUTH=XOAUTH2", *["SASL-IR"] * self.server.at_once]
        told = self.server.capabilities if self.known else before
        return " ".join(["CAPABILITY", "IMAP4rev1", *told])

    async def on_capability(self, tag: str, args: str) -> None:
        self.write(f"* {self.capabilities()}", f"{tag} OK done")

    async def on_login(self, tag: str, args: str) -> None:
        self.server.logins += 1
        if args != f'"{USER}" "{PASSWORD}"':
            self.write(f"{tag} NO [AUTHENTICATIONFAILED] Authentication failed.")
            return
        self.known = True
        self.write(f"{tag} OK Logged in")

    async def on_authenticate(self, tag: str, args: str) -> None:
        self.server.logins += 1
        mechanism, _, given = args.partition(" ")
        assert mechanism == "XOAUTH2"
        assert bool(given) is self.server.at_once, "in one step where the server can, else in two"
        if not given:
            self.write("+ ")
            given = (await self.reader.readline()).decode().removesuffix("\r\n")
        user, bearer, *rest = base64.b64decode(given).decode().split("\1")
        assert (user, bearer[:12], rest) == (f"user={USER}", "auth=Bearer ", ["", ""])
        if not self.server.takes_token(bearer.removeprefix("auth=Bearer ")):
            self.write("+ " + REFUSED_TOKEN)
            assert await self.reader.readline() == b"\r\n", "an empty line ends the exchange"
            self.write(f"{tag} NO [AUTHENTICATIONFAILED] Invalid credentials")
            return
        self.known = True
        self.write(f"{tag} OK Success")

    async def on_id(self, tag: str, args: str) -> None:
        assert "Omniline" in args
        self.write('* ID ("name" "fake")', f"{tag} OK done")

    async def on_select(self, tag: str, args: str) -> None:
        assert self.known
        assert args.startswith('"'), "a folder's name is quoted"
        if args != '"INBOX"':
            self.write(f"{tag} NO [NONEXISTENT] Mailbox doesn't exist")
            return
        self.selected = True
        self.write(
            "* FLAGS (\\Seen)",
            f"* {len(self.server.mails)} EXISTS",
            f"* OK [UIDVALIDITY {self.server.uid_validity}] UIDs valid",
            f"* OK [UIDNEXT {self.server.next_uid}] Predicted next UID",
            f"{tag} OK [READ-WRITE] Select completed",
        )

    async def on_search(self, tag: str, args: str) -> None:
        assert self.selected
        if "CHARSET" in args:
            self.write(f"{tag} NO [BADCHARSET (US-ASCII)] no")
            return
        uids = sorted(self.server.mails)
        after = re.fullmatch(r"UID (\d+):\*", args)
        if after:
            # The highest is in every range that ends with *.
            uids = [u for u in uids if u >= int(after.group(1))] or uids[-1:]
        elif args == "UID *":
            uids = uids[-1:]
        else:
            assert args.startswith("SINCE "), args
        self.write(f"* SEARCH {' '.join(map(str, uids))}".strip(), f"{tag} OK Search completed")

    async def on_fetch(self, tag: str, args: str) -> None:
        assert self.selected
        wanted, _, what = args.partition(" ")
        uids = [int(uid) for uid in wanted.split(",")]
        self.server.most_uids = max(self.server.most_uids, len(uids))
        body = _BODY.match(what)
        assert what == _HEADS or body, f"only literals, and nothing that marks as seen: {what}"
        order = sorted(self.server.mails)
        for uid in uids:
            mail = self.server.mails.get(uid)
            if mail is None:
                continue
            number = order.index(uid) + 1
            if body is None:
                date = "22-Nov-2026 10:00:00 +0800"
                self.write(
                    f'* {number} FETCH (UID {uid} INTERNALDATE "{date}" RFC822.SIZE {len(mail)})'
                )
                continue
            section = body["section"]
            head, _, text = mail.partition(b"\r\n\r\n")
            data = {"": mail, "HEADER": head + b"\r\n\r\n", "1": text, "1.MIME": b""}[section]
            self.write(f"* {number} FETCH (UID {uid} BODY[{section}] {{{len(data)}}}")
            self.writer.write(data)
            self.write(")")
        self.write(f"{tag} OK Fetch completed")

    async def on_idle(self, tag: str, args: str) -> None:
        assert self.selected
        self.idle = True
        self.write("+ idling")
        await self.writer.drain()
        assert await self.reader.readline() in (b"DONE\r\n", b"")
        self.idle = False
        self.write(f"{tag} OK Idle completed")

    async def on_noop(self, tag: str, args: str) -> None:
        self.write(f"* {len(self.server.mails)} EXISTS", f"{tag} OK done")

    async def on_list(self, tag: str, args: str) -> None:
        assert args == '"" "*"'
        self.write('* LIST (\\HasNoChildren) "/" "INBOX"', f"{tag} OK done")

    async def on_logout(self, tag: str, args: str) -> None:
        self.write("* BYE see you", f"{tag} OK done")


def says(*lines: str) -> Misbehave:
    """Answer with these lines; TAG stands for the command's tag."""

    async def misbehave(session: Session, tag: str) -> None:
        session.write(*(line.replace("TAG", tag) for line in lines))

    return misbehave


async def hang_up(session: Session, tag: str) -> None:
    session.writer.transport.abort()


async def silence(session: Session, tag: str) -> None:
    """Say nothing at all."""
