"""Following one folder: what is new, in order, and nothing twice, whatever a single mail does.

The folder's position moves only with a delivery. A mail that cannot be fetched is tried again
in its place once, then set aside; the others go on. Set-aside mails are tried again at a look,
at most once a minute, and become dead letters after five failures.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import structlog
from msgspec.structs import replace

from connectors.mail.imap import AT_ONCE, Head, Imap
from connectors.mail.positions import MAX_GAPS, TRIES, Position
from connectors.mail.settings import Limits
from connectors.mail.taking import Stub, Taker
from hub import Incoming
from normalizer.outcomes import Failure, Misconfigured, Temporary

log = structlog.get_logger(__name__)

BEGINNING_BYTES = 16_384  # of the text of a mail that is too large
IN_PLACE = 2  # failures of a mail before the next ones go first
AGAIN_S = 60.0  # a server that is out of order for a while must not cost a mail all its tries


async def stub(imap: Imap, head: Head) -> Stub:
    """Fetch the head of a mail that is too large, and the beginning of its first text."""
    headers = await imap.headers(head.uid)
    if headers is None:
        raise Temporary("the server lists the mail and does not give its head")
    found = Stub(headers=headers, size=head.size, internal_date=head.internal_date)
    with suppress(Failure):  # its head is worth having without it
        beginning = await imap.beginning(head.uid, BEGINNING_BYTES)
        found = replace(found, beginning=beginning)
        found = replace(found, beginning_headers=await imap.beginning_headers(head.uid))
    return found


Delivered = Callable[[Incoming | None, Position], Awaitable[None]]
"""Stores an item, if there is one, and then the folder's position behind it."""
Tried = dict[tuple[str, int, int], float]
"""When a mail (folder, UIDVALIDITY, UID) could not be fetched, on the clock's seconds. It outlives
connections: one mail that ends each of them is not to end one a second."""


class Follower:
    """Reads what is new in one folder over a connection that has it open."""

    def __init__(
        self,
        folder: str,
        role: str,
        imap: Imap,
        taker: Taker,
        limits: Limits,
        position: Position | None,
        deliver: Delivered,
        tried: Tried,
    ) -> None:
        self._folder = folder
        self._role = role  # "inbox" or "sent": which side wrote what is in it
        self._imap = imap
        self._taker = taker
        self._limits = limits
        self._position = position
        self._deliver = deliver
        self._tried = tried

    async def open(self) -> None:
        """Select the folder; find the present end, or where a renumbered folder goes on."""
        selected = await self._imap.select(self._folder)
        here = self._position
        if here is not None and here.validity == selected.uid_validity:
            await self._move(None, here)
            return
        end = selected.uid_next - 1 if selected.uid_next else await self._imap.last_uid()
        end = max(0, end)
        now = self._taker.clock.now()
        if here is None:
            await self._move(None, Position(validity=selected.uid_validity, uid=end, since=now))
            return
        # Every UID we know is void. What came meanwhile lies within the last days; what was
        # taken in before is recognised by its Message-ID.
        log.warning("mailbox_renumbered", folder=self._folder, days=self._limits.rescan_days)
        since = max(here.since, now - timedelta(days=self._limits.rescan_days))
        # A server's day may begin up to half a day before ours.
        day = (since - timedelta(days=1)).date()
        recent = [uid for uid in await self._imap.uids_since(day) if uid <= end]
        start = min(recent, default=end + 1) - 1
        await self._move(
            None,
            Position(validity=selected.uid_validity, uid=start, since=since, doubtful=end),
        )

    async def look(self) -> None:
        """Take in everything behind the position, then what was set aside."""
        while uids := await self._imap.uids_after(self._here.uid):
            for start in range(0, len(uids), AT_ONCE):
                await self._take(uids[start : start + AT_ONCE])
        now = self._taker.clock.monotonic()
        for uid in self._here.waiting:
            if now - self._tried.get(self._name(uid), now - AGAIN_S) >= AGAIN_S:
                await self._take([uid])

    def _name(self, uid: int) -> tuple[str, int, int]:
        return self._folder, self._here.validity, uid

    @property
    def _here(self) -> Position:
        assert self._position is not None, "the folder was not opened"
        return self._position

    async def _take(self, uids: list[int]) -> None:
        heads = await self._imap.heads(uids)
        for uid in uids:
            head = heads.get(uid)
            if head is None or self._is_history(head):  # or deleted since it was listed
                await self._move(None, self._here.passed(uid))
                continue
            try:
                item = await self._fetched(head)
            except Misconfigured:
                raise
            except Failure as failure:
                if not self._imap.broken and uid not in await self._imap.heads([uid]):
                    await self._move(None, self._here.passed(uid))  # deleted since it was listed
                else:
                    await self._failed(uid, failure)
                continue
            await self._move(item, self._here.passed(uid))
            self._tried.pop(self._name(uid), None)

    def _is_history(self, head: Head) -> bool:
        if head.uid > self._here.doubtful or head.internal_date is None:
            return False
        return head.internal_date < self._here.since.replace(microsecond=0)  # it has seconds only

    async def _fetched(self, head: Head) -> Incoming | None:
        if head.size > self._limits.mail_bytes:
            return await self._taker.take_stub(await stub(self._imap, head), folder=self._role)
        raw = await self._imap.body(head.uid, head.size)
        if not raw:  # no answer, or NIL as Dovecot says of what another session has deleted
            raise Temporary("the server lists the mail and does not give it")
        return await self._taker.take(raw, folder=self._role, internal_date=head.internal_date)

    async def _failed(self, uid: int, failure: Failure) -> None:
        """Note a mail that could not be fetched; raise if the connection is of no more use."""
        after = self._here.failed(uid)
        tries = after.tries(uid)
        self._tried[self._name(uid)] = self._taker.clock.monotonic()
        log.warning("mail_not_fetched", folder=self._folder, tries=tries, reason=failure.reason)
        if tries >= TRIES or len(after.gaps) > MAX_GAPS:
            reason = f"a mail in {self._folder} (UID {uid}) cannot be fetched: {failure.reason}"
            await self._move(Incoming(drafts=(), failed=reason), after.passed(uid))
            del self._tried[self._name(uid)]
        elif tries >= IN_PLACE or not self._imap.broken:
            await self._move(None, after.set_aside(uid))
        else:
            await self._move(None, after)
        if self._imap.broken:
            raise failure

    async def _move(self, item: Incoming | None, position: Position) -> None:
        if item is None and position == self._position:
            return
        await self._deliver(item, position)
        self._position = position
