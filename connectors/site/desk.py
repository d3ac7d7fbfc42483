"""What becomes of what a session says: checked, made durable, and told once.

Sockets and REST both come here, so that a message sent by one and repeated by the other is the
same message. The order of the checks: the same thing again? may it be said here? how often?
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

import msgspec
import structlog
from msgspec.structs import replace

from connectors.site.audience import Audience, Audiences
from connectors.site.errors import SiteError
from connectors.site.frames import Edit, Rate, Recall, ReceiptIn, TypingIn
from connectors.site.limits import Limiter
from connectors.site.messages import digest, read_parts
from connectors.site.settings import SiteSettings
from connectors.site.uploads import Uploads
from connectors.site.visitors import Session, Visitors
from hub import ConnectorContext, Entry, Overloaded
from normalizer.drafts import (
    Amendment,
    AmendmentKind,
    AnyDraft,
    DeliveryState,
    Event,
    Message,
    Receipt,
    Target,
)
from normalizer.model import Direction

log = structlog.get_logger(__name__)
T = TypeVar("T")

TYPING_TTL_MS = 6000
CLOSED_FOR = timedelta(hours=24)
_RECENT = 20_000  # messages of which this process remembers what they said
_LOOKUP_S = 0.3  # how long a message waits for what it can do without
_LOOKUPS_AGAIN_S = 2.0
_OPEN_FOR_SURE = timedelta(hours=1)  # a thread that was open is not looked at again for so long


class _Conversation(Protocol):
    @property
    def state(self) -> str: ...

    @property
    def closed_at(self) -> datetime | None: ...


class _Recent(msgspec.Struct):
    """A message that is being stored or was; ``failed`` is set when it could not be.

    ``entry`` is its id: of what was said before a login, the visitor's.
    """

    entry: str
    digest: str
    done: asyncio.Event
    failed: Exception | None = None


class Desk:
    """Takes in what the sessions of one site say."""

    def __init__(
        self,
        settings: SiteSettings,
        context: ConnectorContext,
        visitors: Visitors,
        audiences: Audiences,
        uploads: Uploads,
        limiter: Limiter,
    ) -> None:
        self._settings = settings
        self._context = context
        self._clock = context.clock
        self._visitors = visitors
        self._audiences = audiences
        self._uploads = uploads
        self._limiter = limiter
        self._recent: OrderedDict[str, _Recent] = OrderedDict()
        self._open_until: OrderedDict[str, datetime] = OrderedDict()
        self._no_lookups_until = 0.0

    # --- messages ------------------------------------------------------------------------------

    async def send(
        self, session: Session, audience: Audience, draft: Message, *, raw: bytes, door: str
    ) -> str:
        """Make a message durable and return its entry's id, on every repetition the same.

        ``draft.thread`` is the conversation that the client named, if any.
        Raises :class:`SiteError`.
        """
        said = str(draft.data["digest"])
        for ident in self._idents(session, draft):
            if known := await self._said_before(ident, said):
                return known
        ident = self._context.entry_id(draft)
        recent = self._recent[ident] = _Recent(entry=ident, digest=said, done=asyncio.Event())
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        try:
            stored = await self._if_reachable(lambda: self._stored_before(session, draft, said), "")
            if stored:
                recent.entry = stored
            else:
                await self._store_message(session, audience, draft, raw, door)
        except BaseException as error:
            recent.failed = error if isinstance(error, Exception) else SiteError("internal", "")
            self._recent.pop(ident, None)
            raise
        finally:
            recent.done.set()
        return recent.entry

    def _idents(self, session: Session, draft: Message) -> list[str]:
        """Return the ids that this message may have.

        What was sent before a login and is repeated after it was said by the visitor.
        """
        ids = [self._context.entry_id(draft)]
        if session.verified:
            before = replace(draft, address=self._visitors.visitor_address(session.id))
            ids.append(self._context.entry_id(before))
        return ids

    async def _said_before(self, ident: str, said: str) -> str:
        """Return the entry of a message that this process knows, "" for one that it does not."""
        recent = self._recent.get(ident)
        if recent is None:
            return ""
        if recent.digest != said:
            raise _conflict()
        await recent.done.wait()
        if recent.failed is not None:
            raise recent.failed
        return recent.entry

    async def _stored_before(self, session: Session, draft: Message, said: str) -> str:
        for ident in self._idents(session, draft):
            entry = await self._context.entry(ident)
            if entry is not None:
                if not entry.erased and entry.data.get("digest", said) != said:
                    raise _conflict()
                return ident
        return ""

    async def _store_message(
        self, session: Session, audience: Audience, draft: Message, raw: bytes, door: str
    ) -> None:
        if draft.thread:
            audience = await self._audiences.with_thread(session, audience, draft.thread)
            await self._if_reachable(lambda: self._check_open(audience, draft.thread), None)
        self._limiter.take(session.id, "message", "message_hour")
        draft = replace(
            draft,
            parts=await self._uploads.resolved(session, draft.parts, draft.key),
            reply_to=await self._if_reachable(lambda: self._replied_to(audience, draft), None),
            # An address has one thread. What a verified user says is said by the user, also
            # when the client named the thread in which the visitor spoke before the login.
            thread="",
            profile=(session.user.profile if session.user else None) or draft.profile,
        )
        await self._if_reachable(lambda: self._visitors.remember(session), None)
        await self._deliver(draft, raw, door)

    async def _if_reachable(self, look_up: Callable[[], Awaitable[T]], otherwise: T) -> T:
        """Look up what a message can do without: with the database away it goes to the spool."""
        if self._clock.monotonic() < self._no_lookups_until:
            return otherwise
        try:
            async with asyncio.timeout(_LOOKUP_S):
                return await look_up()
        except SiteError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the message comes first
            log.warning("lookup_left_out", reason=f"{type(error).__name__}: {error}")
            self._no_lookups_until = self._clock.monotonic() + _LOOKUPS_AGAIN_S
            return otherwise

    async def _replied_to(self, audience: Audience, draft: Message) -> str | None:
        thread = draft.thread or audience.primary
        seq = str(draft.data.get("reply_to_seq", ""))
        if not seq or not thread:
            return None
        entry = await self._audiences.entry_at(audience, thread, int(seq))
        return entry.id if entry else None

    async def _check_open(self, audience: Audience, thread: str) -> None:
        """Refuse a thread whose conversation was closed more than a day ago."""
        context, now = self._context, self._clock.now()
        if self._open_until.get(thread, now) > now:
            return
        last = await self._audiences.last_entry(audience, thread)
        if last is not None and last.conversation is not None:
            conversation = await context.conversation(last.conversation)
            closed_at = conversation.closed_at if conversation else None
            if closed_at is not None and now - closed_at > CLOSED_FOR:
                raise SiteError(
                    "conversation_closed", "closed for over a day: send without conversation_id"
                )
        self._open_until[thread] = now + _OPEN_FOR_SURE
        if len(self._open_until) > _RECENT:
            self._open_until.popitem(last=False)

    async def _deliver(self, draft: AnyDraft, raw: bytes, door: str) -> None:
        try:
            await self._context.deliver([draft], door=door, raw=raw)
        except Overloaded as error:
            raise SiteError("unavailable", str(error), retry_after_s=5) from error
        except ValueError as error:
            raise SiteError("bad_frame", str(error)[:300]) from error

    # --- later changes -------------------------------------------------------------------------

    async def edit(self, session: Session, audience: Audience, frame: Edit, raw: bytes) -> None:
        entry = await self._own(session, audience, frame.conversation_id, frame.seq)
        if entry is None or entry.recalled:
            raise SiteError("conversation_not_found", "there is no such message of yours")
        parts = read_parts(frame.parts, self._settings.limits)
        if self._age(entry) > self._settings.visitor_edit_s:
            raise SiteError("edit_window_passed", "this message can no longer be changed")
        self._limiter.take(session.id, "message", "message_hour")
        parts = await self._uploads.resolved(session, parts, entry.client_id)
        await self._deliver(
            Amendment(
                key=f"edit:{entry.id}:{entry.rev}:{digest(parts)}",
                target=Target(entry=entry.id),
                kind=AmendmentKind.EDIT,
                address=audience.speaks,
                data={"parts": msgspec.to_builtins(parts)},
            ),
            raw,
            "socket",
        )

    async def recall(self, session: Session, audience: Audience, frame: Recall, raw: bytes) -> None:
        entry = await self._own(session, audience, frame.conversation_id, frame.seq)
        if entry is None or not self._settings.visitor_recall_s:
            raise SiteError("recall_unsupported", "only messages of your own can be recalled")
        if entry.recalled:
            return
        if self._age(entry) > self._settings.visitor_recall_s:
            raise SiteError("recall_window_passed", "this message can no longer be recalled")
        self._limiter.take(session.id, "recall")
        await self._deliver(
            Amendment(
                key=f"recall:{entry.id}",
                target=Target(entry=entry.id),
                kind=AmendmentKind.RECALL,
                address=audience.speaks,
            ),
            raw,
            "socket",
        )

    async def _own(
        self, session: Session, audience: Audience, thread: str, seq: str
    ) -> Entry | None:
        """Return the visitor's own message; None for somebody else's or for none at all."""
        audience = await self._audiences.with_thread(session, audience, thread)
        entry = await self._audiences.entry_at(audience, thread, int(seq))
        if entry is None or entry.erased or entry.direction is not Direction.IN:
            return None
        return entry

    def _age(self, entry: Entry) -> float:
        return (self._clock.now() - entry.received_at).total_seconds()

    async def receipt(self, session: Session, audience: Audience, frame: ReceiptIn) -> None:
        """Take in how far the visitor has received and read a thread (cumulative)."""
        thread = frame.conversation_id
        audience = await self._audiences.with_thread(session, audience, thread)
        address = dict(zip(audience.ids, audience.addresses, strict=True))[audience.threads[thread]]
        drafts = [
            Receipt(
                key=f"{thread}:{state}:{int(seq)}",
                target=Target(thread=thread, up_to_seq=int(seq)),
                state=state,
                address=address,
            )
            for state, seq in (
                (DeliveryState.DELIVERED, frame.delivered_seq),
                (DeliveryState.READ, frame.read_seq),
            )
            if seq is not None and int(seq) > 0
        ]
        if drafts:
            try:
                await self._context.deliver(drafts, door="socket")
            except Overloaded as error:
                raise SiteError("unavailable", str(error), retry_after_s=5) from error

    async def rate(self, session: Session, audience: Audience, frame: Rate, raw: bytes) -> None:
        audience = await self._audiences.with_thread(session, audience, frame.conversation_id)
        self._limiter.take(session.id, "message")
        said = digest((), f"{frame.score} {frame.comment}")
        await self._deliver(
            Event(
                key=f"rate:{frame.conversation_id}:{self._clock.now():%Y-%m-%d}:{said}",
                address=audience.speaks,
                name="conversation.rated",
                data={"score": frame.score, "thread": frame.conversation_id},
                text=frame.comment,
            ),
            raw,
            "socket",
        )

    async def typing(self, session: Session, audience: Audience, frame: TypingIn) -> None:
        """Tell the agents; at most once in three seconds, and never stored."""
        if not self._limiter.allows(session.id, "typing"):
            return
        thread = frame.conversation_id or audience.primary
        if thread:
            audience = await self._audiences.with_thread(session, audience, thread)
        await self._context.signal(
            "typing",
            {
                "address": audience.threads.get(thread, audience.ids[0]),
                "thread": thread,
                "by": "visitor",
                "on": frame.on,
                "ttl_ms": TYPING_TTL_MS,
            },
        )


def _conflict() -> SiteError:
    return SiteError("idempotency_conflict", "this client_msg_id was used for another message")
