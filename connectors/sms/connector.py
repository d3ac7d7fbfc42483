"""The SMS channel's connector: one account at one of three providers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from connectors.sms import automatic
from connectors.sms.aliyun import AliyunProvider
from connectors.sms.provider import Provider
from connectors.sms.settings import SmsSettings
from connectors.sms.tencent import TencentProvider
from connectors.sms.twilio_provider import TwilioProvider
from hub import (
    Account,
    Answer,
    Clock,
    Connector,
    ConnectorContext,
    Fetched,
    Outgoing,
    Polled,
    Refused,
    Request,
    Sample,
    Template,
    Verified,
)
from normalizer.capabilities import Capabilities
from normalizer.drafts import AnyDraft
from normalizer.outcomes import Accepted
from normalizer.parts import Media


class SmsConnector(Connector[SmsSettings]):
    """One account. What it can do is its provider's."""

    channel: ClassVar[str] = "sms"
    settings: ClassVar[type[msgspec.Struct]] = SmsSettings
    # All that any account of the channel can do; an object's own are its provider's.
    capabilities: ClassVar[Capabilities] = msgspec.structs.replace(
        TwilioProvider.capabilities, templates=True
    )
    poll_every_s: ClassVar[float] = 300.0

    def __init__(self, account: Account[SmsSettings], context: ConnectorContext) -> None:
        super().__init__(account, context)
        self.provider = provider_of(account, context)
        self.capabilities = self.provider.capabilities  # type: ignore[misc] # of this account

    # --- in --------------------------------------------------------------------------------------

    def verify(self, request: Request) -> Verified:
        return self.provider.verify(request)

    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        if self.provider.is_status(verified):
            return self.provider.parse_status(verified)
        return self.provider.parse_inbound(verified)

    def answer(self, verified: Verified, drafts: Sequence[AnyDraft], clock: Clock) -> Answer:
        return self.provider.answer(verified)

    def refusal(self, refused: Refused) -> Answer:
        return self.provider.refusal(refused)

    def hint(self, verified: Verified) -> str | None:
        return self.provider.hint(verified)

    async def poll(self, cursor: str | None) -> Polled:
        return await self.provider.poll(cursor)

    async def fetch_media(self, media: Media, address: str) -> Fetched:
        return await self.provider.fetch_media(media, address)

    # --- out -------------------------------------------------------------------------------------

    async def send(self, message: Outgoing) -> Accepted:
        if message.automatic:
            await automatic.reserve(self.context, message)
        return await self.provider.send(message)

    async def find_sent(self, message: Outgoing) -> Accepted | None:
        return await self.provider.find_sent(message)

    async def templates(self) -> Sequence[Template]:
        return self.provider.templates()

    # --- life ------------------------------------------------------------------------------------

    def check_settings(self) -> Sequence[str]:
        return self.provider.lacks()

    async def check(self) -> Sequence[str]:
        return await self.provider.check()

    def samples(self, clock: Clock) -> Sequence[Sample]:
        return self.provider.samples(clock)

    async def start(self) -> None:
        await self.provider.start()


def provider_of(account: Account[SmsSettings], context: ConnectorContext) -> Provider:
    """Return the provider that the settings choose; their check saw that its table is there."""
    settings = account.settings
    match settings.provider:
        case "twilio" if settings.twilio is not None:
            return TwilioProvider(account, settings.twilio, context)
        case "aliyun" if settings.aliyun is not None:
            return AliyunProvider(account, settings.aliyun, context)
        case "tencent" if settings.tencent is not None:
            return TencentProvider(account, settings.tencent, context)
    raise ValueError(f"the provider {settings.provider} has no settings")
