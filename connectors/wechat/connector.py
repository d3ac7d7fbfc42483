"""The WeChat channel's connector: one Official Account (服务号 or 订阅号)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from connectors.wechat import checking, composing, events, passive, people, samples, templates
from connectors.wechat.admission import QueryDoc, admit
from connectors.wechat.api import Api
from connectors.wechat.common import CHANNEL
from connectors.wechat.fetching import TokenSource
from connectors.wechat.hints import TypingHints
from connectors.wechat.media import MediaDoor
from connectors.wechat.parsing import read_drafts
from connectors.wechat.sending import Sending
from connectors.wechat.serving import TokenRoutes
from connectors.wechat.settings import WechatSettings, lacking
from connectors.wechat.texts import MAX_CHARS
from connectors.wechat.tokens import Tokens
from connectors.wechat.verifying import Verifier
from connectors.wechat.wire import MAX_BYTES
from hub import (
    Account,
    Answer,
    Clock,
    Connector,
    ConnectorContext,
    Fetched,
    Outgoing,
    Request,
    Sample,
    SignedOnce,
    Template,
    Verified,
)
from normalizer.addresses import parse_address
from normalizer.capabilities import Capabilities, Window
from normalizer.drafts import AnyDraft, Profile
from normalizer.outcomes import Accepted
from normalizer.parts import Media

# How often, and for how long, somebody may be written to after they did something (since 2023).
WINDOWS = (
    Window(
        name="message",
        opens_on=frozenset({"message"}),
        closes_on=frozenset({events.UNFOLLOWED}),
        seconds=48 * 3600,
        sends=5,
        templates_pass=True,
    ),
    Window(
        name="action",
        opens_on=events.OPENS_A_MINUTE,
        closes_on=frozenset({events.UNFOLLOWED}),
        seconds=60,
        sends=3,
        templates_pass=True,
    ),
)


class WechatConnector(Connector[WechatSettings]):
    """One Official Account."""

    channel: ClassVar[str] = CHANNEL
    settings: ClassVar[type[msgspec.Struct]] = WechatSettings
    max_body_bytes: ClassVar[int] = MAX_BYTES
    capabilities: ClassVar[Capabilities] = Capabilities(
        sends=composing.SENDS,
        max_text_chars=MAX_CHARS,
        max_parts=composing.MAX_CALLS,
        max_image_bytes=composing.MAX_IMAGE_BYTES,
        image_types=composing.IMAGE_TYPES,  # other files that do not fit go as links
        templates=True,
        typing=True,
        profile=True,
        windows=WINDOWS,
        # Answers given in WeChat's own console are not pushed; kf_* events tell that it took over.
        sees_foreign_answers=False,
    )

    def __init__(self, account: Account[WechatSettings], context: ConnectorContext) -> None:
        super().__init__(account, context)
        settings = account.settings
        if settings.rights == "passive":
            # Of this account alone: the class says what the channel can do.
            self.capabilities = msgspec.structs.replace(  # type: ignore[misc]
                type(self).capabilities, sends=frozenset({"text"}), free_text=False, typing=False
            )
        if settings.templates_per_day:
            self.capabilities = msgspec.structs.replace(  # type: ignore[misc]
                self.capabilities, quotas=(templates.quota(settings.templates_per_day),)
            )
        self._verifier = Verifier(settings, insecure=account.insecure)
        self._signed_once = SignedOnce(context, QueryDoc, settings.window_s)
        self._tokens = Tokens(
            context,
            TokenSource(settings, context).fetch,
            may_force=settings.token_server is None,
        )
        self._api = Api(settings, context, self._tokens)
        self._sending = Sending(settings, context, self._api)
        self._media = MediaDoor(settings, context, self._tokens, self._api)
        self._typing = TypingHints(self._api, context.clock)

    # --- in ------------------------------------------------------------------------------------

    def verify(self, request: Request) -> Verified:
        return self._verifier.verify(request)

    async def admit(self, verified: Verified) -> None:
        await admit(self._signed_once, verified)

    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        if verified.request.method == "GET":
            return ()  # the console tries the address
        return read_drafts(verified.payload, self.account.settings, self.account.key)

    def answer(self, verified: Verified, drafts: Sequence[AnyDraft], clock: Clock) -> Answer:
        return passive.answer_of(self.account.settings, verified, drafts, clock)

    def check_settings(self) -> Sequence[str]:
        return tuple(lacking(self.account.settings))

    # --- out -----------------------------------------------------------------------------------

    async def send(self, message: Outgoing) -> Accepted:
        return await self._sending.send(message)

    def sends_needed(self, message: Outgoing) -> int:
        return composing.calls_for(message)

    async def show_typing(self, address: str, on: bool) -> None:
        await self._typing.show(parse_address(address).id, on)

    async def templates(self) -> Sequence[Template]:
        settings = self.account.settings
        return await templates.listed(self._api, subscriptions=settings.subscription_templates)

    # --- files and people ----------------------------------------------------------------------

    async def fetch_media(self, media: Media, address: str) -> Fetched:
        return await self._media.fetch(media)

    async def fetch_profile(self, address: str) -> Profile | None:
        """Return what WeChat says of the person at a canonical address. Raises a Failure."""
        return await people.profile_of(self._api, parse_address(address).id)

    # --- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        if self.account.settings.passive_reply:
            passive.load()
        await self.context.register_documents(QueryDoc)
        if self.account.settings.serve_token:
            TokenRoutes(self.account.key, self.context, self._tokens).register()

    async def check(self) -> Sequence[str]:
        return await checking.problems(self.account.settings, self._tokens, self._api)

    async def stop(self) -> None:
        await self._tokens.close()

    def samples(self, clock: Clock) -> Sequence[Sample]:
        return samples.signed(self.account.settings, clock)
