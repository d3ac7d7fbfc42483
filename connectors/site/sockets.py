"""One browser tab's socket: hello, frames one after the other, and what is pushed to it.

Three things run side by side: the reader, which works through the client's frames in order; the
follower, which turns changes of the timeline into frames; and the writer with its bounded queue.
A client that does not read is sent away and resumes from its cursor.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import structlog
from aiohttp import ClientConnectionResetError, WSMsgType, web

from connectors.site.assembly import Site
from connectors.site.audience import Audience
from connectors.site.errors import CODES, FATAL, SiteError
from connectors.site.frames import (
    MAX_FRAME_BYTES,
    SUBPROTOCOL,
    Ack,
    AnyClientFrame,
    AvailabilityOut,
    BadFrame,
    Edit,
    ErrorOut,
    Frame,
    Hello,
    Identify,
    Logout,
    MessageFrame,
    Ping,
    Pong,
    Rate,
    Recall,
    ReceiptIn,
    ReceiptOut,
    Refresh,
    Rejected,
    Reset,
    Resumed,
    Send,
    TypingIn,
    Welcome,
    decode_frame,
    encode_frame,
    error_frame,
    rfc3339,
)
from connectors.site.messages import build_message, read_parts
from connectors.site.receipts import ReceiptsIn, ReceiptsOut
from connectors.site.visitors import Opened, Session
from hub import Overloaded
from normalizer.drafts import Profile

log = structlog.get_logger(__name__)

HELLO_S = 5.0
QUEUE = 256
BAD_FRAMES = 3
FLOOD = 20  # frames over the limit after which a client is sent away
FLUSH_S = 2.0

# Refusals after which the client gives the message up; after others it sends it again.
_FINAL = frozenset(
    {
        "bad_frame",
        "idempotency_conflict",
        "conversation_not_found",
        "conversation_closed",
        "too_large",
        "unsupported_type",
        "upload_rejected",
        "upload_expired",
    }
)


class Socket:
    """One connection; :meth:`run` returns when it is closed."""

    def __init__(self, site: Site, base: str) -> None:
        self._site = site
        self._base = base
        self._ws = web.WebSocketResponse(
            heartbeat=site.settings.heartbeat_s,
            max_msg_size=MAX_FRAME_BYTES,
            protocols=(SUBPROTOCOL,),
            timeout=FLUSH_S / 2,
        )
        self._queue: asyncio.Queue[str | None] = asyncio.Queue(QUEUE)
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._gone = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._strikes = 0
        self._floods = 0
        self._told_availability = False
        self._position = 0
        self._receipts_in = ReceiptsIn(site.settings.limits.receipts_every_s, self._deliver_receipt)
        self._receipts_out = ReceiptsOut(site.settings.limits.receipts_every_s, self._enqueue)
        self._session: Session | None = None
        self._audience: Audience | None = None
        self.visitor = ""
        self.addresses: tuple[str, ...] = ()

    # --- life ----------------------------------------------------------------------------------

    async def run(self, request: web.Request) -> web.WebSocketResponse:
        await self._ws.prepare(request)
        writer = asyncio.create_task(self._write_all(), name="site-writer")
        reader = asyncio.create_task(self._read_all(), name="site-reader")
        try:
            either: list[asyncio.Future[Any]] = [reader, self._ended]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # the server is being shut, or the connection was lost
            self._close(CODES["draining"].close)
            raise
        finally:
            self._site.registry.remove(self)
            await _cancel(reader, self._follower)
            if self._expiry is not None:
                self._expiry.cancel()
            self._receipts_out.cancel()
            try:
                await self._receipts_in.close()
                await self._finish(writer, request)
            finally:
                self._gone.set()
        return self._ws

    async def _finish(self, writer: asyncio.Task[None], request: web.Request) -> None:
        """Let what was said last go out, then close; a client that does not read is cut off."""
        code = self._ended.result() if self._ended.done() else 1000
        try:
            async with asyncio.timeout(FLUSH_S):
                await self._queue.put(None)
                await writer
                await self._ws.close(code=code)
        except (TimeoutError, ClientConnectionResetError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            await _cancel(writer)

    def end(self, error: SiteError) -> None:
        """Tell the client why and close, once."""
        self._close(error.close, error_frame(error, fatal=True))

    def _close(self, code: int, last: ErrorOut | None = None) -> None:
        if self._ended.done():
            return
        if last is not None:
            with suppress(asyncio.QueueFull):
                self._queue.put_nowait(encode_frame(last))
        self._ended.set_result(code)

    async def closed(self) -> None:
        await self._gone.wait()

    # --- writing -------------------------------------------------------------------------------

    def push(self, frame: Frame) -> None:
        """Queue a frame. A full queue is a client that does not read: it is closed with 4503."""
        if isinstance(frame, ReceiptOut):
            self._receipts_out.add(frame)
            return
        if isinstance(frame, MessageFrame):  # its cursor leads past the receipts before it
            self._receipts_out.flush()
        self._enqueue(frame)

    def _enqueue(self, frame: Frame) -> None:
        if self._ended.done():
            return
        try:
            self._queue.put_nowait(encode_frame(frame))
        except asyncio.QueueFull:
            self._close(CODES["unavailable"].close)

    async def _write_all(self) -> None:
        while (text := await self._queue.get()) is not None:
            try:
                await self._ws.send_str(text)
            except (ClientConnectionResetError, ConnectionError):
                self._close(1001)
                return

    # --- reading -------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        try:
            async with asyncio.timeout(HELLO_S):
                first = await self._first()
        except TimeoutError:
            self.end(SiteError("hello_timeout", f"no hello within {HELLO_S:.0f} s"))
            return
        if first is None:
            return
        try:
            await self._hello(first)
        except SiteError as error:
            self.end(error)
            return
        except Exception:
            log.exception("hello_failed", account=self._site.key)
            self.end(SiteError("internal", "something went wrong on our side", retry_after_s=2))
            return
        while (text := await self._text()) is not None:
            await self._frame(text)

    async def _text(self) -> str | None:
        """Return the next text, or None when the connection is over."""
        while not self._ended.done():
            message = await self._ws.receive()
            if message.type is WSMsgType.TEXT:
                return str(message.data)
            if message.type is not WSMsgType.BINARY:
                return None  # closed; after an oversized frame with 1009
            self._strike(SiteError("bad_frame", "frames are JSON text"))
        return None

    async def _first(self) -> Hello | None:
        while (text := await self._text()) is not None:
            try:
                frame = decode_frame(text)
            except BadFrame as error:
                self._strike(error, error.re)
                continue
            if isinstance(frame, Hello):
                return frame
            if frame is not None:
                self.end(SiteError("auth_required", "the first frame is hello"))
                return None
        return None

    async def _frame(self, text: str) -> None:
        """Work through one frame; whatever it does wrong, the next one gets its turn."""
        session, audience = self._who()
        re = ""
        frame: AnyClientFrame | None = None
        try:
            self._check_time(session)
            self._check_flood()
            frame = decode_frame(text)
            if frame is not None:
                re = frame.id
                await self._handle(session, audience, frame, text.encode())
        except BadFrame as error:
            self._strike(error, error.re)
        except SiteError as error:
            self._refuse(error, frame, re)
        except Overloaded as error:
            self._refuse(SiteError("unavailable", str(error), retry_after_s=5), frame, re)
        except Exception:
            log.exception("frame_failed", account=self._site.key)
            self._refuse(SiteError("internal", "something went wrong on our side"), frame, re)

    def _refuse(self, error: SiteError, frame: AnyClientFrame | None, re: str) -> None:
        if error.code in FATAL:
            self._close(error.close, error_frame(error, re, fatal=True))
        elif isinstance(frame, Send) and error.code in _FINAL:
            self.push(
                Rejected(
                    re=re,
                    client_msg_id=frame.client_msg_id,
                    code=error.code,
                    message=error.message,
                )
            )
        else:
            self.push(error_frame(error, re))

    def _strike(self, error: SiteError, re: str = "") -> None:
        self._strikes += 1
        if self._strikes >= BAD_FRAMES:
            self._close(error.close, error_frame(error, re, fatal=True))
        else:
            self.push(error_frame(error, re))

    def _check_time(self, session: Session) -> None:
        if session.access.exp <= self._site.clock.now().timestamp():
            raise SiteError("token_expired", "the access token is over: refresh it in time")

    def _check_flood(self) -> None:
        try:
            self._site.limiter.take(f"socket:{id(self)}", "frame")
        except SiteError as error:
            self._floods += 1
            if self._floods >= FLOOD:
                self._close(error.close, error_frame(error, fatal=True))
            raise
        self._floods = 0

    # --- hello ---------------------------------------------------------------------------------

    async def _hello(self, hello: Hello) -> None:
        site = self._site
        site.admit()
        access = site.visitors.read(hello.access_token, site.clock.now())
        site.limiter.take(access.sub, "hello")
        session = await site.visitors.check(access)
        audience = await site.audiences.of(session)
        now_at = await site.context.position()
        after, reset = now_at, ""
        if hello.cursor:
            try:
                after = site.read_cursor(session, hello.cursor)
            except ValueError as error:
                reset = str(error)
        self._become(session, audience)
        site.registry.add(self)
        self.push(
            Welcome(
                re=hello.id,
                session_id=access.sid,
                cursor=site.cursor(session, after),
                heartbeat_s=site.settings.heartbeat_s,
                limits=site.limits_told(),
                availability=site.settings.availability,
            )
        )
        if hello.cursor:
            after = await self._resume(session, audience, after, now_at, reset)
        self._follow(after)
        if session.verified:
            self.push(await site.inapp.count(audience.ids[0]))

    async def _resume(
        self, session: Session, audience: Audience, after: int, now_at: int, reset: str
    ) -> int:
        """Tell what was missed, or that there is too much of it; return where to go on."""
        site = self._site
        renderer = site.renderer(session, audience, self._base)
        missed = None if reset else await site.missed(renderer, audience, after)
        if missed is None:
            cursor = site.cursor(session, now_at)
            self.push(Reset(reason=reset or "too_much_missed", cursor=cursor))
            return now_at
        frames, position = missed
        await self._queue.put(
            encode_frame(Resumed(count=len(frames), cursor=site.cursor(session, position)))
        )
        for frame in frames:
            await self._queue.put(encode_frame(frame))
        return position

    def _become(self, session: Session, audience: Audience) -> None:
        self._session, self._audience = session, audience
        self.visitor, self.addresses = session.id, audience.ids
        if self._expiry is not None:
            self._expiry.cancel()
        left_s = session.access.exp - self._site.clock.now().timestamp()
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_later(max(left_s, 0), self._expired)

    def _expired(self) -> None:
        self.end(SiteError("token_expired", "the access token is over: refresh it in time"))

    def _who(self) -> tuple[Session, Audience]:
        assert self._session is not None
        assert self._audience is not None
        return self._session, self._audience

    # --- following -----------------------------------------------------------------------------

    def _follow(self, after: int) -> None:
        self._position = after
        self._follower = asyncio.create_task(self._follow_on(), name="site-follower")

    async def _follow_on(self) -> None:
        session, audience = self._who()
        renderer = self._site.renderer(session, audience, self._base)
        changes = self._site.context.follow(audience.ids, self._position)
        try:
            async for seen in changes:
                if not audience.primary:  # its thread was made by what comes now
                    audience = await self._site.audiences.of(session)
                    self._audience = audience
                    renderer.see(audience)
                for frame in await renderer.frames(seen):
                    self.push(frame)
                self._position = seen.position
                if self._queue.qsize() > QUEUE // 2:
                    await asyncio.sleep(0)  # a burst is no slow reader: let the writer have a go
        except Exception:
            log.exception("follower_failed", account=self._site.key)
            self.end(SiteError("unavailable", "the timeline cannot be read", retry_after_s=2))
        finally:
            if isinstance(changes, AsyncGenerator):
                await changes.aclose()

    async def _switch(self, opened: Opened) -> Audience:
        """Go on as another session, from the same place; where that fails the client comes back.

        The session has changed by then: to follow the former one would be wrong, and to follow
        none would be silence on a socket that looks open.
        """
        await _cancel(self._follower)
        try:
            audience = await self._site.audiences.of(opened.session)
        except Exception:
            self.end(SiteError("unavailable", "the timeline cannot be read", retry_after_s=2))
            raise
        self._become(opened.session, audience)
        self._follow(self._position)
        return audience

    # --- frames --------------------------------------------------------------------------------

    async def _handle(
        self, session: Session, audience: Audience, frame: AnyClientFrame, raw: bytes
    ) -> None:
        site = self._site
        match frame:
            case Send():
                await self._send(session, audience, frame, raw)
            case ReceiptIn():
                site.limiter.take(session.id, "receipt")
                await site.audiences.with_thread(session, audience, frame.conversation_id)
                await self._receipts_in.add(frame)
            case TypingIn():
                await site.desk.typing(session, audience, frame)
            case Edit():
                await site.desk.edit(session, audience, frame, raw)
                self._ack(frame.id)
            case Recall():
                await site.desk.recall(session, audience, frame, raw)
                self._ack(frame.id)
            case Rate():
                await site.desk.rate(session, audience, frame, raw)
                self._ack(frame.id)
            case Ping():
                self.push(Pong(re=frame.id, ts=rfc3339(site.clock.now())))
            case Refresh():
                refreshed = await site.session(frame.access_token)
                await self._switch(Opened(session=refreshed, access_token=frame.access_token))
                self._ack(frame.id)
            case Identify():
                await self._identify(session, frame)
            case Logout():
                opened = await site.visitors.logout(session)
                try:
                    await self._switch(opened)
                finally:  # the other tabs are logged out in any case
                    await site.tell_ended(visitor=session.id)
                self._told(frame.id, opened, [])
            case Hello():
                raise SiteError("bad_frame", "hello is said once")

    async def _send(self, session: Session, audience: Audience, frame: Send, raw: bytes) -> None:
        site = self._site
        site.admit()
        draft = build_message(
            site.visitors.speaks_as(session.access),
            client_msg_id=frame.client_msg_id,
            parts=read_parts(frame.parts, site.settings.limits),
            thread=frame.conversation_id,
            reply_to_seq=frame.reply_to_seq or "",
            level=session.level,
            page=session.access.page,
            profile=_spoken(session),
        )
        ident = await site.desk.send(session, audience, draft, raw=raw, door="socket")
        self._ack(frame.id, ident)
        if site.settings.availability != "online" and not self._told_availability:
            self._told_availability = True
            self.push(
                AvailabilityOut(state=site.settings.availability, next_open=site.settings.next_open)
            )

    def _ack(self, re: str, server_msg_id: str = "") -> None:
        ts = rfc3339(self._site.clock.now())
        self.push(Ack(re=re, server_msg_id=server_msg_id, ts=ts))

    async def _identify(self, session: Session, frame: Identify) -> None:
        site = self._site
        site.limiter.take(session.id, "identify")
        claims = site.claims(frame.identity_token, frame.user_id, frame.user_hash)
        if claims is None:
            raise SiteError("identity_invalid", "there is no identity token")
        opened = await site.visitors.identify(session, claims)
        audience = await self._switch(opened)
        self._told(frame.id, opened, await site.audiences.conversations(audience))
        self.push(await site.inapp.count(audience.ids[0]))

    def _told(self, re: str, opened: Opened, conversations: list[dict[str, Any]]) -> None:
        """Answer a change of the session with what the client has to keep of it."""
        self.push(
            Ack(
                re=re,
                ts=rfc3339(self._site.clock.now()),
                access_token=opened.access_token,
                visitor_id=opened.session.id,
                visitor_token=opened.visitor_token,
                user=self._site.user_told(opened.session),
                conversations=conversations,
            )
        )

    async def _deliver_receipt(self, receipt: ReceiptIn) -> None:
        session, audience = self._who()
        await self._site.desk.receipt(session, audience, receipt)


def _spoken(session: Session) -> Profile | None:
    """Return what an anonymous visitor's browser says of it."""
    return Profile(locale=session.access.locale) if session.access.locale else None


async def _cancel(*tasks: asyncio.Task[None] | None) -> None:
    running = [task for task in tasks if task is not None and task is not asyncio.current_task()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
