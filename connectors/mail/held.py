"""The held door: a connection for each folder, IDLE in each, one delivery at a time.

The inbox decides: when its connection fails, the door ends with the reason and the hub opens it
again. The Sent and Junk folders come back by themselves, so that a missing folder never keeps
customers' mail out.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable

import structlog

from connectors.mail.folders import Follower, Tried
from connectors.mail.imap import Imap
from connectors.mail.logins import Logins
from connectors.mail.outcomes import LoginBrake
from connectors.mail.positions import Position, Positions
from connectors.mail.settings import MailSettings
from connectors.mail.taking import Taker
from hub import Deliver, Incoming
from normalizer.outcomes import Failure, Misconfigured

log = structlog.get_logger(__name__)

AGAIN_FIRST_S = 1.0
AGAIN_LONGEST_S = 300.0
WITHOUT_IDLE_S = 30.0  # how often a server without IDLE is asked
FOLLOWED_S = 60.0  # after so long a connection that is lost is no failure of the folder

# As providers without RFC 6154's flags call it: QQ the first, Courier those below INBOX.
_SENT_NAMES = frozenset(
    {"sent messages", "sent", "sent items", "sent mail", "已发送", "已发送邮件", "寄件备份",
     "寄件備份", "inbox.sent", "inbox.sent items", "inbox.sent messages", "inbox/sent"}
)  # fmt: skip

Tls = Callable[[], ssl.SSLContext | None]


class Mailbox:
    """Opens connections to one account's IMAP server."""

    def __init__(self, settings: MailSettings, tls: Tls, logins: Logins, brake: LoginBrake) -> None:
        self.settings = settings
        self._tls = tls
        self._logins = logins
        self._brake = brake
        self.tried: Tried = {}

    async def open(self) -> Imap:
        """Return a connection that is logged in. Raises what keeps it from being one."""
        return await self._logins.log_in(
            self._brake, lambda login: Imap.open(self.settings, self._tls(), login)
        )

    async def sent_folder(self, imap: Imap) -> str:
        r"""Return the Sent folder: the setting, what the server flags \Sent or calls so, or ""."""
        if self.settings.sent:
            return self.settings.sent
        closed = {"\\noselect", "\\nonexistent"}
        folders = [each for each in await imap.folders() if closed.isdisjoint(each.uses)]
        flagged = [each.name for each in folders if "\\sent" in each.uses]
        named = [each.name for each in folders if each.name.lower() in _SENT_NAMES]
        return next(iter([*flagged, *named]), "")


class Holding:
    """One run of the held door."""

    def __init__(
        self, mailbox: Mailbox, taker: Taker, cursor: str | None, deliver: Deliver
    ) -> None:
        self._mailbox = mailbox
        self._settings = mailbox.settings
        self._taker = taker
        self._positions = Positions.decode(cursor)
        self._deliver = deliver
        self._one_at_a_time = asyncio.Lock()
        self._inbox_is_open = asyncio.Event()

    async def run(self) -> None:
        """Hold the connections until the inbox's is lost. Raises the reason."""
        others = [asyncio.ensure_future(self._keep("junk"))] if self._settings.junk else []
        if self._settings.watch_sent:
            others.append(asyncio.ensure_future(self._keep("sent")))
        inbox = asyncio.ensure_future(self._follow("inbox"))
        try:
            # A delivery that failed in another folder ends the door as well: the cursor is one.
            done, _ = await asyncio.wait({inbox, *others}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            tasks = [inbox, *others]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, which: str) -> None:
        """Follow a folder beside the inbox for as long as the inbox is followed."""
        await self._inbox_is_open.wait()
        failed = 0
        clock = self._taker.clock
        while True:
            began = clock.monotonic()
            try:
                await self._follow(which)
            except Failure as failure:
                failed = 1 if clock.monotonic() - began > FOLLOWED_S else failed + 1
                wait_s = min(AGAIN_LONGEST_S, AGAIN_FIRST_S * 2.0 ** min(failed - 1, 10))
                if isinstance(failure, Misconfigured):
                    wait_s = AGAIN_LONGEST_S
                log.warning("mail_folder_not_followed", folder=which, reason=failure.reason)
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
            except _NotStored as error:
                raise error.reason from error

    async def _follow(self, which: str) -> None:
        imap = await self._mailbox.open()
        try:
            folder = await self._folder(which, imap)

            async def deliver(item: Incoming | None, position: Position) -> None:
                await self._store(which, folder, item, position)

            follower = Follower(
                folder,
                "sent" if which == "sent" else "inbox",
                imap,
                self._taker,
                self._settings.limits,
                self._positions.at(folder),
                deliver,
                self._mailbox.tried,
            )
            await follower.open()
            if which == "inbox":
                self._inbox_is_open.set()
            while True:
                await follower.look()
                if imap.can("IDLE"):
                    # Whatever it heard: a push may have been lost, so there is a look after it.
                    await imap.wait_for_news(self._settings.limits.look_every_s)
                else:
                    await asyncio.sleep(min(WITHOUT_IDLE_S, self._settings.limits.look_every_s))
                    await imap.noop()
        finally:
            await imap.close()

    async def _folder(self, which: str, imap: Imap) -> str:
        if which != "sent":
            return self._settings.inbox if which == "inbox" else self._settings.junk
        folder = await self._mailbox.sent_folder(imap)
        if not folder:
            raise Misconfigured(
                "the server names no Sent folder: set `sent`, or watch_sent = false"
            )
        return folder

    async def _store(
        self, which: str, folder: str, item: Incoming | None, position: Position
    ) -> None:
        async with self._one_at_a_time:
            moved = self._positions.moved(folder, position)
            try:
                await self._deliver([item] if item is not None else (), moved.encode())
            except Exception as error:
                if which == "inbox":
                    raise
                raise _NotStored(error) from error
            self._positions = moved


class _NotStored(Exception):
    """A delivery failed: the whole door has to start again from the stored cursor."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason
