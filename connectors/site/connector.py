"""The site channel's connector: its abilities, its message door, its paths, its sends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import msgspec
import structlog

from connectors.site.assembly import Site
from connectors.site.errors import SiteError
from connectors.site.frames import (
    MAX_FRAME_BYTES,
    Ack,
    ClientId,
    Place,
    decode_body,
    error_frame,
    rfc3339,
)
from connectors.site.inapp import EVENT, ItemDoc, RequestDoc
from connectors.site.messages import build_message, read_parts
from connectors.site.origins import APP_KEY_HEADER
from connectors.site.rest import Rest, bearer
from connectors.site.settings import SiteSettings
from connectors.site.uploads import UploadDoc
from connectors.site.visitors import UserDoc, VisitorDoc
from hub import (
    Account,
    Answer,
    Clock,
    Connector,
    ConnectorContext,
    HttpRoute,
    Outgoing,
    Refused,
    Request,
    Sample,
    Verified,
)
from normalizer.capabilities import Capabilities
from normalizer.drafts import AnyDraft, Message, Profile
from normalizer.outcomes import Accepted, Unsupported

log = structlog.get_logger(__name__)

NO_CONVERSATION = "new"  # POST /conversations/new/messages: no conversation is named
SWEEP_EVERY_S = 3600.0
_SAMPLE_ID = "018bcfe5-6800-7a10-9c3e-0d6f5a1b2c"


class NewMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a message by REST; its client_msg_id is the Idempotency-Key header."""

    parts: list[dict[str, Any]]
    reply_to_seq: Place | None = None


class SiteConnector(Connector[SiteSettings]):
    """Browser chat, uploads and in-app messages of one site."""

    channel: ClassVar[str] = "site"
    settings: ClassVar[type[msgspec.Struct]] = SiteSettings
    mount: ClassVar[str] = "site"
    max_body_bytes: ClassVar[int] = MAX_FRAME_BYTES
    allowed_headers: ClassVar[frozenset[str]] = frozenset(
        {"content-type", "user-agent", "origin", "idempotency-key"}
    )
    capabilities: ClassVar[Capabilities] = Capabilities(
        sends=frozenset(
            {
                "text",
                "image",
                "audio",
                "video",
                "file",
                "location",
                "card",
                "quick_replies",
                "form",
                "link",
            }
        ),
        max_text_chars=4000,
        max_parts=10,
        max_media_bytes=50_000_000,
        threads=True,
        thread_seq=True,
        typing=True,
        read_receipts=True,
        edit_window_s=900,
        recall_window_s=120,
        profile=True,
        delivery_receipts=True,
        dedupes_sends=True,
    )

    def __init__(self, account: Account[SiteSettings], context: ConnectorContext) -> None:
        super().__init__(account, context)
        self.site = Site(account, context)
        self._rest = Rest(self.site, self.verify, self._parsed)
        self._unlisten: Sequence[Callable[[], None]] = ()
        self._sweeper: asyncio.Task[None] | None = None

    def check_settings(self) -> Sequence[str]:
        settings, insecure = self.account.settings, self.account.insecure
        problems = []
        if not settings.origins and not settings.app_keys and not insecure:
            problems.append(
                "origins is empty and there are no app_keys, so nobody could open the chat: list"
                ' the pages that embed it, such as origins = ["https://www.example.com"]'
            )
        if "*" in settings.origins and not insecure:
            problems.append(
                'origins has "*", which lets every page of the web speak for your visitors: list'
                " the pages that embed the chat, or set insecure = true for a trial"
            )
        return problems

    # --- the message door by REST: pure, and what sockets do in their own words ----------------

    def verify(self, request: Request) -> Verified:
        """Believe a listed origin (or an app key) with a session's access token."""
        try:
            self.site.origins.check(request.headers)
            access = self.site.visitors.read(bearer(request.headers), request.received_at)
            client_id = msgspec.convert(request.headers.get("idempotency-key", ""), ClientId)
            decode_body(request.body, NewMessage)
        except SiteError as error:
            raise Refused(error.code, status=error.status) from error
        except msgspec.ValidationError:
            problem = SiteError("bad_frame", "the Idempotency-Key is the client_msg_id")
            raise Refused(problem.code, status=problem.status) from problem
        facts = {
            "visitor": access.sub,
            "user": access.user,
            "client_msg_id": client_id,
            "locale": access.locale,
            **{f"page.{name}": value for name, value in access.page.items()},
        }
        return Verified(request=request, payload=request.body, facts=facts)

    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        return (self._parsed(verified),)

    def _parsed(self, verified: Verified) -> Message:
        facts = verified.facts
        body: NewMessage = decode_body(verified.payload, NewMessage)
        visitors = self.site.visitors
        user, locale = facts["user"], facts["locale"]
        thread = _thread(verified.request.path)
        return build_message(
            visitors.user_address(user) if user else visitors.visitor_address(facts["visitor"]),
            client_msg_id=facts["client_msg_id"],
            parts=read_parts(body.parts, self.account.settings.limits),
            thread=thread,
            reply_to_seq=body.reply_to_seq or "",
            level="verified" if user else "anonymous",
            page={
                name.removeprefix("page."): value
                for name, value in facts.items()
                if name.startswith("page.")
            },
            profile=Profile(locale=locale) if locale else None,
        )

    def answer(self, verified: Verified, drafts: Sequence[AnyDraft], clock: Clock) -> Answer:
        client_id = verified.facts["client_msg_id"]
        said = [draft for draft in drafts if isinstance(draft, Message)]
        ident = self.context.entry_id(said[0]) if said else ""
        ack = Ack(re=client_id, server_msg_id=ident, ts=rfc3339(clock.now()))
        return Answer(status=202, body=msgspec.json.encode(ack), content_type="application/json")

    def refusal(self, refused: Refused) -> Answer:
        cause = refused.__cause__
        error = cause if isinstance(cause, SiteError) else SiteError("auth_required", "refused")
        return Answer(
            status=refused.status,
            body=msgspec.json.encode(error_frame(error)),
            content_type="application/json",
        )

    def samples(self, clock: Clock) -> Sequence[Sample]:
        """Return messages as a listed page would send them now."""
        return [
            self._sample(clock, "text", f"{_SAMPLE_ID}3d", "在吗？我要开发票😀"),
            self._sample(clock, "user", f"{_SAMPLE_ID}3e", "我的订单到哪里了？", "10086"),
        ]

    def _sample(self, clock: Clock, name: str, client_id: str, text: str, user: str = "") -> Sample:
        now = clock.now()
        opened = self.site.visitors.sample(user)
        headers = {
            "authorization": f"Bearer {opened.access_token}",
            "content-type": "application/json",
            "idempotency-key": client_id,
        }
        signed = ["authorization"]
        origin, app_key = self._sample_origin()
        if origin:
            headers["origin"] = origin
            signed.append("origin")
        elif app_key:
            headers[APP_KEY_HEADER] = app_key
            signed.append(APP_KEY_HEADER)
        path = f"/conversations/{NO_CONVERSATION}/messages"
        return Sample(
            name=name,
            request=Request(
                method="POST",
                url=f"{self.context.public_url}{path}",
                path=path,
                headers=headers,
                body=msgspec.json.encode({"parts": [{"type": "text", "text": text}]}),
                received_at=now,
            ),
            signed_headers=tuple(signed),
            signs_body=False,
        )

    def _sample_origin(self) -> tuple[str, str]:
        settings = self.account.settings
        for origin in settings.origins:
            return origin.replace("//*.", "//www.").replace("*", "https://www.example.com"), ""
        for key in settings.app_keys:
            return "", key.reveal()
        return "", ""

    # --- everything else -----------------------------------------------------------------------

    def routes(self) -> Sequence[HttpRoute]:
        return self._rest.routes()

    async def start(self) -> None:
        kinds = (VisitorDoc, UserDoc, UploadDoc, ItemDoc, RequestDoc)
        await self.context.register_documents(*kinds)
        self._unlisten = self.site.listen()
        self._sweeper = asyncio.create_task(self._sweep(), name="site-sweep")

    async def drain(self) -> None:
        """Send everybody away with a word when to come back, while the connections are up."""
        await self.site.close()

    async def stop(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        await self.drain()
        unlisten, self._unlisten = self._unlisten, ()
        for end in unlisten:
            end()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                gone = await self.site.uploads.sweep()
                log.info("uploads_swept", account=self.account.key, count=gone)
            except Exception as error:  # noqa: BLE001 - the next round tries again
                log.warning("uploads_not_swept", account=self.account.key, reason=str(error))

    async def send(self, message: Outgoing) -> Accepted:
        """Deliver an answer: it is in the timeline, and the visitor's tabs follow that.

        An in-app message is put into the user's inbox first.
        """
        for part in message.parts:
            kind = str(part.__struct_config__.tag)
            if kind not in self.capabilities.sends:
                raise Unsupported(f"the site's chat cannot show a {kind} part")
        if message.event == EVENT:
            owner = await self.site.inapp.keep(message)
            await self.site.tell_inbox_changed(owner)
        return Accepted()

    async def find_sent(self, message: Outgoing) -> Accepted | None:
        """Nothing is ever in doubt: sending again changes nothing."""
        return None


def _thread(path: str) -> str:
    """Return the conversation that a path below the account names; empty if it names none."""
    parts = path.split("/")
    named = parts[2] if len(parts) > 2 and parts[1] == "conversations" else ""
    return "" if named == NO_CONVERSATION else named
