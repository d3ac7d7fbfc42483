"""The one place that speaks IMAP: aioimaplib behind an adapter that fences its traps.

aioimaplib 2.0.3 (GPL-3.0-only) does tags, literals, IDLE and XOAUTH2. What it does not do, and
what stands here instead:

==================================================  ============================================
the trap                                            the fence
==================================================  ============================================
a stack frame for each line of a read: about a      reads are handed on in pieces, and at most
thousand untagged lines end in RecursionError       200 UIDs are asked for at a time
EXISTS beside another command is dropped            noted, and asked for before IDLE
a lost connection fails no pending command          every wait also waits for the loss
a command that timed out blocks all later ones      the client is closed after any timeout
FETCH is refused after EXAMINE                      SELECT, and BODY.PEEK
SEARCH says CHARSET utf-8, which some refuse        ``charset=None``
NO and BAD are answers like any other               ``_ok`` raises what they mean
a quoted parenthesis in ENVELOPE glues answers      literals only: BODY.PEEK[...]
user and folder are sent unquoted                   quoted here
a refused XOAUTH2 waits for an empty line, and its  sent here, and the reason told
reason is dropped
XOAUTH2 is sent with its command, which some        in two steps where SASL-IR is not announced
servers do not take (no SASL-IR)
log lines hold whole mails, and a password with     its logger is kept above DEBUG and INFO
a quotation mark in clear
LOGOUT leaves the transport open                    ``close`` closes it
==================================================  ============================================
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import msgspec
from aioimaplib import aioimaplib as library

from connectors.mail.logins import Login
from connectors.mail.names import decode_folder, encode_folder, quoted
from connectors.mail.outcomes import LoginRefused, imap_failure
from connectors.mail.settings import MailSettings
from connectors.mail.xoauth2 import MAX_CHALLENGE, initial_response, reason_in
from normalizer.outcomes import Misconfigured, Temporary
from normalizer.text import clean_line

T = TypeVar("T")

CONNECT_S = 10.0
CLOSE_S = 2.0
AT_ONCE = 200  # UIDs of one command
PIECE_BYTES = 4096  # of a read, handed on at a time: some 300 of the shortest lines
SLOWEST_BYTES_PER_S = 50_000  # a large literal may take its time
MAX_FOLDERS = 2000
MAX_LITERAL_BYTES = 110_000_000
KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
CLIENT_ID = {"name": "Omniline", "vendor": "Omniline"}

_UID = re.compile(rb"\bUID (\d{1,10})\b")
_SIZE = re.compile(rb"\bRFC822\.SIZE (\d{1,12})\b")
_DATE = re.compile(rb'\bINTERNALDATE "([^"]{1,40})"')
_CODE = re.compile(rb"\[(UIDVALIDITY|UIDNEXT) (\d{1,10})\]")
_LIST = re.compile(
    rb'\((?P<flags>[^)]{0,500})\) (?:"(?:\\.|[^"\\]){1,2}"|NIL) (?P<name>.{1,8000})\Z', re.DOTALL
)
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


class Selected(msgspec.Struct, frozen=True, kw_only=True):
    """A folder as SELECT found it. ``uid_next`` is 0 where the server does not say."""

    uid_validity: int
    uid_next: int
    exists: int


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a mail before its bytes are fetched."""

    uid: int
    size: int
    internal_date: datetime | None


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """A folder in the server's list; ``uses`` are flags such as ``\\sent`` (RFC 6154)."""

    name: str
    uses: frozenset[str]


class _Protocol(library.IMAP4ClientProtocol):  # type: ignore[misc] # it has no type information
    """The library's protocol, fed with small pieces, its unasked-for news noted."""

    news = False  # EXISTS came since the folder was last searched
    sasl_next = b""  # what the next challenge of AUTHENTICATE is answered with
    challenge = b""  # the last one

    def data_received(self, d: bytes) -> None:
        for start in range(0, len(d), PIECE_BYTES):
            super().data_received(d[start : start + PIECE_BYTES])

    def _untagged_response(self, line: bytes) -> Any:
        # Beside another command's answer EXISTS is dropped, and IDLE does not repeat it.
        if line.upper().endswith(b" EXISTS"):
            self.news = True
        return super()._untagged_response(line)

    def _continuation(self, line: bytes) -> None:
        command = self.pending_sync_command
        if command is not None and command.name == "AUTHENTICATE":
            # Behind the token what comes is the reason of a refusal, and an empty line answers it.
            self.challenge = bytes(line[1 : MAX_CHALLENGE + 3]).strip()
            answer, self.sasl_next = self.sasl_next, b""
            self.transport.write(answer + b"\r\n")
            return
        super()._continuation(line)


class _Client(library.IMAP4):  # type: ignore[misc] # it has no type information
    def create_client(
        self,
        host: str,
        port: int,
        loop: asyncio.AbstractEventLoop | None,
        conn_lost_cb: Callable[[Exception | None], None] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        running = asyncio.get_running_loop()
        self.protocol = _Protocol(running, conn_lost_cb)
        self._client_task = running.create_task(
            running.create_connection(lambda: self.protocol, host, port, ssl=ssl_context)
        )


class Imap:
    """One connection to one IMAP server, logged in. After any failure only ``close`` is left."""

    def __init__(self, client: _Client, host: str, answer_s: float) -> None:
        self._client = client
        self._host = host
        self._answer_s = answer_s
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closed = False
        self._stuck = False  # a command did not end: nothing behind it would

    # --- connecting ----------------------------------------------------------------------------

    @classmethod
    async def open(
        cls, settings: MailSettings, tls: ssl.SSLContext | None, login: Login | None = None
    ) -> Imap:
        """Connect and log in: with ``login``, or with the password or token of the settings.

        Raises Temporary, Misconfigured or LoginRefused with the reason.
        """
        for name in ("aioimaplib", "aioimaplib.aioimaplib"):
            logging.getLogger(name).setLevel(logging.WARNING)
        host, port = settings.imap_host, settings.imap_port
        lost: list[Callable[[], None]] = []
        client = _Client(
            host,
            port,
            timeout=settings.limits.answer_s,
            conn_lost_cb=lambda _: [tell() for tell in lost] and None,
            ssl_context=tls,
        )
        imap = cls(client, host, settings.limits.answer_s)
        lost.append(imap._is_lost)
        try:
            await imap._greeting(host, port)
            imap._keep_alive()
            await imap._log_in(
                login
                or Login(
                    user=settings.login,
                    password=settings.password,
                    token=settings.access_token,
                )
            )
        except BaseException:
            await imap.close()
            raise
        return imap

    async def _greeting(self, host: str, port: int) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._client._client_task
                await self._or_lost(self._client.protocol.wait("AUTH|NONAUTH"))
                # The greeting's own CAPABILITY has to be answered before the next command.
                if self._client.protocol.pending_async_commands:
                    await self._or_lost(self._client.protocol.wait_async_pending_commands())
        except ssl.SSLCertVerificationError as error:
            raise Misconfigured(
                f"the certificate of {host} is not valid for it ({error.verify_message}): it may"
                " be the wrong host, or somebody in between; a private authority goes into ca_file"
            ) from error
        except TimeoutError as error:
            raise Temporary(f"{host}:{port} does not answer") from error
        except OSError as error:
            raise Temporary(f"no connection to {host}:{port}: {type(error).__name__}") from error

    def _keep_alive(self) -> None:
        """Let the system notice a peer that is gone within half a minute."""
        sock = self._client.protocol.transport.get_extra_info("socket")
        if sock is None:
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    async def _log_in(self, login: Login) -> None:
        client = self._client
        try:
            if login.token is not None:
                await self._xoauth2(login.user, login.token.reveal())
            else:
                secret = login.password.reveal() if login.password is not None else ""
                self._ok(
                    "LOGIN",
                    await self._call(lambda: client.login(quoted(login.user), secret)),
                )
        except ValueError as error:
            raise LoginRefused(
                "user, password or token hold a character that IMAP cannot carry"
            ) from error
        # Many servers tell of IDLE and UIDPLUS only now.
        await self._call(client.protocol.capability)
        if self.can("ID"):
            # NetEase refuses SELECT ("Unsafe Login") to clients that do not say who they are.
            await self._call(lambda: client.id(**CLIENT_ID))

    async def _xoauth2(self, user: str, token: str) -> None:
        """Log in with an access token: in one step where the server can, else in two."""
        protocol, response = self._client.protocol, initial_response(user, token)
        words = ["XOAUTH2"]
        if self.can("SASL-IR"):
            words.append(response.decode())
        else:
            protocol.sasl_next = response
        command = library.Command("AUTHENTICATE", protocol.new_tag(), *words)
        answer = await self._call(lambda: protocol.execute(command))
        if answer.result == "OK":
            protocol.state = library.AUTH
        elif not self.can("AUTH=XOAUTH2"):
            raise Misconfigured(
                "the IMAP server takes no access tokens here (it offers no XOAUTH2): look at"
                " imap_host, imap_port and imap_tls"
            )
        elif said := reason_in(protocol.challenge):
            answer.lines.append(bytes(answer.lines[-1]) + b"; " + said.encode())
        self._ok("AUTHENTICATE", answer)

    async def close(self) -> None:
        """Say goodbye if the server listens, and close the transport in any case."""
        if self._closed:
            return
        self._closed = True
        client, protocol = self._client, self._client.protocol
        if protocol.transport is not None and not self.lost.done() and not self._stuck:
            with suppress(TimeoutError, OSError, library.AioImapException):
                async with asyncio.timeout(CLOSE_S):
                    await self._or_lost(client.logout())
        if client._idle_waiter is not None:
            client._idle_waiter.cancel()
        if protocol.transport is not None:
            protocol.transport.abort()
        for command in (protocol.pending_sync_command, *protocol.pending_async_commands.values()):
            if command is not None:
                command._timer.cancel()
        tasks = [client._client_task, *client.tasks, *protocol.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- what the rest of the connector asks ----------------------------------------------------

    @property
    def broken(self) -> bool:
        """Whether this connection is of no more use."""
        return self._stuck or self.lost.done()

    def can(self, capability: str) -> bool:
        """Say whether the server announced a capability: IDLE, UIDPLUS, ..."""
        return capability in {each.upper() for each in self._client.protocol.capabilities}

    async def folders(self) -> list[Folder]:
        """Return the server's folders, at most 2000."""
        answer = await self._call(lambda: self._client.list('""', '"*"'))
        self._ok("LIST", answer)
        found: list[Folder] = []
        lines = iter(answer.lines)
        for line in lines:
            listed = _LIST.match(bytes(line))
            if listed is None:
                continue
            name = listed["name"]
            if re.fullmatch(rb"\{\d+\}", name):
                name = bytes(next(lines, b""))
            elif name.startswith(b'"') and name.endswith(b'"'):
                name = re.sub(rb"\\(.)", rb"\1", name[1:-1])
            uses = listed["flags"].decode("ascii", "replace").lower().split()
            found.append(Folder(name=decode_folder(name), uses=frozenset(uses)))
        return found[:MAX_FOLDERS]

    async def select(self, folder: str) -> Selected:
        """Open a folder. Nothing read from it is marked as seen."""
        name = quoted(encode_folder(folder))
        answer = await self._call(lambda: self._client.select(name))
        self._ok("SELECT", answer)
        codes: dict[bytes, int] = {}
        exists = 0
        for line in answer.lines:
            for key, value in _CODE.findall(bytes(line)):
                codes[key] = int(value)
            count = re.match(rb"(\d{1,10}) EXISTS", bytes(line))
            if count:
                exists = int(count.group(1))
        if b"UIDVALIDITY" not in codes:
            raise Misconfigured(f"the IMAP server gives no UIDVALIDITY for the folder {folder}")
        return Selected(
            uid_validity=codes[b"UIDVALIDITY"], uid_next=codes.get(b"UIDNEXT", 0), exists=exists
        )

    async def uids_after(self, last: int) -> list[int]:
        """Return the UIDs behind ``last``, in order."""
        self._client.protocol.news = False
        # "n:*" always brings the highest message, even one below n.
        return [uid for uid in await self._search(f"UID {last + 1}:*") if uid > last]

    async def last_uid(self) -> int:
        """Return the highest UID of the folder, 0 if it is empty."""
        return max(await self._search("UID *"), default=0)

    async def uids_since(self, day: date) -> list[int]:
        """Return the UIDs of what arrived on ``day`` (the server's) or later, in order."""
        return await self._search(f"SINCE {day.day}-{_MONTHS[day.month - 1]}-{day.year}")

    async def uids_with_id(self, message_id: str) -> list[int]:
        """Return the UIDs of mails with this Message-ID."""
        return await self._search(f"HEADER Message-ID {quoted(message_id)}")

    async def _search(self, criteria: str) -> list[int]:
        answer = await self._call(lambda: self._client.uid_search(criteria, charset=None))
        self._ok("SEARCH", answer)
        uids: set[int] = set()
        for line in answer.lines[:-1]:  # the last is the tagged line's text
            if re.fullmatch(rb"[\d ]*", bytes(line)):
                uids.update(int(word) for word in bytes(line).split())
        return sorted(uids)

    async def heads(self, uids: Sequence[int]) -> dict[int, Head]:
        """Return size and arrival of at most 200 mails; one that is gone is not in it."""
        if len(uids) > AT_ONCE:
            raise ValueError(f"at most {AT_ONCE} UIDs at a time")
        wanted = ",".join(map(str, uids))
        lines = await self._fetch(wanted, "(UID INTERNALDATE RFC822.SIZE)", len(uids) * 200)
        found = {}
        for line in lines:
            uid, size = _UID.search(bytes(line)), _SIZE.search(bytes(line))
            if uid and size:
                found[int(uid.group(1))] = Head(
                    uid=int(uid.group(1)),
                    size=int(size.group(1)),
                    internal_date=_internal_date(bytes(line)),
                )
        return {uid: head for uid, head in found.items() if uid in set(uids)}

    async def body(self, uid: int, size: int) -> bytes | None:
        """Return a mail's bytes, or None if it is gone. Raises Temporary if it cannot be had."""
        return await self._literal(uid, "BODY.PEEK[]", size)

    async def headers(self, uid: int) -> bytes | None:
        """Return the head of a mail too large to fetch."""
        return await self._literal(uid, "BODY.PEEK[HEADER]", 1_000_000)

    async def beginning(self, uid: int, size: int) -> bytes:
        """Return the first bytes of a large mail's first text."""
        text = await self._literal(uid, f"BODY.PEEK[1]<0.{size}>", size)
        return text or b""

    async def beginning_headers(self, uid: int) -> bytes:
        """Return the headers of a mail's first part; none where the mail is one part."""
        return await self._literal(uid, "BODY.PEEK[1.MIME]", 10_000) or b""

    async def _literal(self, uid: int, what: str, size: int) -> bytes | None:
        lines = await self._fetch(str(uid), f"(UID {what})", size)
        current = 0
        for index, line in enumerate(lines):
            if isinstance(line, bytearray):
                # The UID may stand before the literal or behind it.
                around = bytes(lines[index - 1]) + b" "
                if index + 1 < len(lines):
                    around += bytes(lines[index + 1])
                found = _UID.search(around)
                current = int(found.group(1)) if found else 0
                if current == uid:
                    return bytes(line)
            else:
                short = re.search(rb'BODY\[[^\]]*\](?:<\d+>)? (NIL|"((?:\\.|[^"\\])*)")', line)
                found = _UID.search(line)
                if short and found and int(found.group(1)) == uid:
                    return re.sub(rb"\\(.)", rb"\1", short.group(2) or b"")
        return None

    async def _fetch(self, uids: str, what: str, size: int) -> list[Any]:
        allowed_s = self._answer_s + size / SLOWEST_BYTES_PER_S
        answer = await self._call(
            # The library's own limit is for the time between two pieces.
            lambda: self._client.protocol.fetch(uids, what, by_uid=True, timeout=None),
            within_s=allowed_s,
        )
        self._ok("FETCH", answer)
        lines: list[Any] = list(answer.lines[:-1])
        return lines

    async def append(self, folder: str, mail: bytes) -> None:
        """Put a copy into a folder, as read."""
        name = quoted(encode_folder(folder))
        answer = await self._call(
            lambda: self._client.append(mail, name, r"(\Seen)"),
            within_s=self._answer_s + len(mail) / SLOWEST_BYTES_PER_S,
        )
        self._ok("APPEND", answer)

    async def noop(self) -> None:
        self._ok("NOOP", await self._call(self._client.noop))

    async def wait_for_news(self, longest_s: float) -> bool:
        """IDLE until something may have arrived or the time is up; say whether it was news.

        Raises Temporary as soon as the connection is lost or the server says BYE.
        """
        client = self._client
        if client.protocol.news:
            return True
        while not client.protocol.idle_queue.empty():
            client.protocol.idle_queue.get_nowait()
        # Its own timer would end the wait by itself: it is set to never come.
        idle = await self._call(lambda: client.idle_start(timeout=24 * 3600.0))
        news = False
        try:
            async with asyncio.timeout(longest_s):
                while not news:
                    pushed = await self._or_lost(client.protocol.idle_queue.get())
                    if any(bytes(line).upper().startswith(b"BYE") for line in pushed):
                        raise Temporary(f"{self._host} said goodbye")
                    # OK Still here, EXPUNGE and FETCH tell of nothing new.
                    news = any(
                        bytes(line).upper().endswith((b" EXISTS", b" RECENT")) for line in pushed
                    )
        except TimeoutError:
            news = False
        except BaseException:
            self._stuck = True  # still in IDLE: a LOGOUT would wait for its end
            raise
        await self._call(lambda: self._done(idle))
        return news

    async def _done(self, idle: Awaitable[Any]) -> None:
        self._client.idle_done()
        self._ok("IDLE", await idle)

    # --- waiting --------------------------------------------------------------------------------

    def _is_lost(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    async def _call(self, ask: Callable[[], Awaitable[T]], *, within_s: float | None = None) -> T:
        """Ask the server. After a timeout this connection is of no more use."""
        try:
            async with asyncio.timeout(within_s or self._answer_s):
                return await self._or_lost(ask())
        except (TimeoutError, library.CommandTimeout) as error:
            self._stuck = True
            raise Temporary(f"{self._host} does not answer any more") from error
        except asyncio.CancelledError:
            self._stuck = True
            raise
        except (library.AioImapException, OSError) as error:
            self._stuck = True
            text = clean_line(str(error), 200)
            raise Temporary(f"the connection to {self._host} is of no use: {text}") from error

    async def _or_lost(self, waiting: Awaitable[T]) -> T:
        """Wait for an answer, and no longer than the connection lasts."""
        task: asyncio.Future[T] = asyncio.ensure_future(waiting)
        both: set[asyncio.Future[Any]] = {task, self.lost}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Temporary(f"the connection to {self._host} was lost")
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def _ok(self, command: str, answer: Any) -> None:
        if answer.result == "OK":
            return
        said = bytes(answer.lines[-1]).decode("utf-8", "replace") if answer.lines else ""
        raise imap_failure(command, str(answer.result), said)


def _internal_date(line: bytes) -> datetime | None:
    found = _DATE.search(line)
    if found is None:
        return None
    try:
        at = datetime.strptime(found.group(1).decode("ascii").strip(), "%d-%b-%Y %H:%M:%S %z")
    except ValueError:
        return None
    return at.astimezone(UTC)


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Return a context that verifies host and certificate. Raises ``OSError`` for a bad file."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    if ca_file:
        context.load_verify_locations(ca_file)
    return context
