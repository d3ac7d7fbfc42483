"""The parts of one site account, put together: what sockets, long polls and REST work with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.site.audience import Audience, Audiences
from connectors.site.desk import Desk
from connectors.site.errors import SiteError
from connectors.site.frames import Frame
from connectors.site.inapp import InApp
from connectors.site.limits import Limiter
from connectors.site.origins import Origins
from connectors.site.registry import Registry
from connectors.site.settings import SiteSettings
from connectors.site.timeline import Renderer
from connectors.site.tokens import (
    Claims,
    check_user_hash,
    read_cursor,
    read_identity,
    sign_cursor,
)
from connectors.site.uploads import Uploads
from connectors.site.visitors import Session, Visitors
from hub import Account, ConnectorContext

REPLAYED = 500  # events after which a client starts afresh instead
COUNT_AFTER_S = 1.0  # inbox counts are pushed at most so often


class Site:
    """One site account at run time."""

    def __init__(self, account: Account[SiteSettings], context: ConnectorContext) -> None:
        settings = account.settings
        self.key = account.key
        self.settings = settings
        self.context = context
        self.clock = context.clock
        self.origins = Origins(settings, insecure=account.insecure)
        self.limiter = Limiter(settings.limits, context.clock.monotonic)
        self.visitors = Visitors(account.key, context)
        self.audiences = Audiences(self.visitors, context)
        self.uploads = Uploads(account.key, context, settings.limits, self.limiter, self.visitors)
        self.desk = Desk(
            settings, context, self.visitors, self.audiences, self.uploads, self.limiter
        )
        self.inapp = InApp(account.key, context, self.visitors, self.origins)
        self.registry = Registry(settings.limits.sockets_per_visitor)
        self.draining = False
        self._cursor_secret = context.secret("cursor")
        self._counting: dict[str, asyncio.Task[None]] = {}

    # --- sessions ------------------------------------------------------------------------------

    def admit(self) -> None:
        """Raises :class:`SiteError` while nobody is served."""
        if not self.settings.enabled:
            raise SiteError("site_disabled", "this site is switched off")
        if self.draining:
            raise SiteError("draining", "the hub is restarting", retry_after_s=2)

    def claims(self, identity_token: str, user: str, user_hash: str) -> Claims | None:
        """Return who the site says this is, or None if it says nothing."""
        if identity_token:
            issuer = self.settings.site_id or self.key
            now = self.clock.now()
            return read_identity(identity_token, self.settings.identity_keys, issuer, now)
        if user_hash:
            check_user_hash(self.settings.user_hash_secret, user, user_hash)
            return Claims(iss="", sub=user, iat=0, exp=0)
        return None

    def claims_of(
        self, caller: str, identity_token: str, user: str, user_hash: str
    ) -> Claims | None:
        """The same for a caller who has no session yet: who guesses is soon not heard any more."""
        guesses = f"guesses:{caller}"
        if identity_token or user_hash:
            self.limiter.wait(guesses, "identify")
        try:
            return self.claims(identity_token, user, user_hash)
        except SiteError as error:
            if error.code == "identity_invalid":  # one that is only too old was the site's
                self.limiter.take(guesses, "identify")
            raise

    async def session(self, access_token: str) -> Session:
        """Return the session of an access token, if it still holds. Raises :class:`SiteError`."""
        return await self.visitors.check(self.visitors.read(access_token, self.clock.now()))

    async def tell_ended(
        self, *, visitor: str = "", address: str = "", code: str = "auth_required"
    ) -> None:
        """Close the sockets of a visitor or a user in every process."""
        payload = {"visitor": visitor, "address": address, "code": code}
        await self.context.signal("ended", payload)

    def limits_told(self) -> dict[str, Any]:
        limits = self.settings.limits
        return {
            "text_chars": limits.text_chars,
            "parts": limits.parts_per_message,
            "messages_per_minute": limits.messages_per_minute,
            "image_bytes": limits.image_bytes,
            "audio_bytes": limits.audio_bytes,
            "video_bytes": limits.video_bytes,
            "file_bytes": limits.file_bytes,
            "recall_s": self.settings.visitor_recall_s,
            "edit_s": self.settings.visitor_edit_s,
        }

    def user_told(self, session: Session) -> dict[str, Any] | None:
        user = session.access.user
        return {"id": user, "verified": True} if user else None

    # --- streams -------------------------------------------------------------------------------

    def cursor(self, session: Session, position: int) -> str:
        return sign_cursor(self._cursor_secret, session.id, position, self.clock.now())

    def read_cursor(self, session: Session, cursor: str) -> int:
        """Return the position behind a cursor. Raises ``ValueError`` with the reason if none."""
        return read_cursor(self._cursor_secret, session.id, cursor, self.clock.now())

    def renderer(self, session: Session, audience: Audience, base: str) -> Renderer:
        """``base`` is where the client reaches this account, for links to files."""

        def link(thread: str, entry: str, index: int) -> str:
            return self.uploads.link(base, thread, entry, index)

        def cursor(position: int) -> str:
            return self.cursor(session, position)

        return Renderer(self.settings, self.context, audience, link, cursor)

    async def missed(
        self, renderer: Renderer, audience: Audience, after: int
    ) -> tuple[list[Frame], int] | None:
        """Return what happened behind a position, and the position after it; None = too much."""
        changes = await self.context.changes(audience.ids, after, REPLAYED + 1)
        if len(changes) > REPLAYED:
            return None
        frames: list[Frame] = []
        for seen in changes:
            frames += await renderer.frames(seen)
        return frames, changes[-1].position if changes else after

    # --- hints between processes ---------------------------------------------------------------

    def listen(self) -> Sequence[Any]:
        """Take hints from all processes; return what ends that, one for each."""
        return [
            self.context.on_signal("typing", self.registry.typing),
            self.context.on_signal("ended", self.registry.ended),
            self.context.on_signal("inbox", self._inbox_changed),
        ]

    async def tell_inbox_changed(self, owner: str) -> None:
        await self.context.signal("inbox", {"address": owner})

    def _inbox_changed(self, payload: Mapping[str, Any]) -> None:
        owner = str(payload.get("address", ""))
        if owner not in self._counting and self.registry.watches(owner):
            task = asyncio.create_task(self._count_later(owner), name="inbox-count")
            self._counting[owner] = task
            task.add_done_callback(lambda done: self._counting.pop(owner, None))

    async def _count_later(self, owner: str) -> None:
        """Gather changes for a moment, so that a burst of items is one push."""
        await asyncio.sleep(COUNT_AFTER_S)
        self.registry.tell(owner, await self.inapp.count(owner))

    async def close(self) -> None:
        self.draining = True
        for task in list(self._counting.values()):
            task.cancel()
        await asyncio.gather(*self._counting.values(), return_exceptions=True)
        await self.registry.close()
