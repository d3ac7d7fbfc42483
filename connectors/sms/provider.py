"""What the channel needs of a provider: three of them implement it.

Domestic providers push batches, so what is parsed are lists. ``verify``, ``parse_inbound`` and
``parse_status`` are pure.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

from connectors.sms.settings import SmsSettings
from hub import (
    Account,
    Answer,
    Clock,
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
from normalizer.outcomes import Accepted, Unsupported
from normalizer.parts import Media

REACHES = frozenset({"tel"})  # schemes of addresses: also of numbers that nobody texted from


class Provider(abc.ABC):
    """One account at one provider."""

    capabilities: Capabilities

    def __init__(self, account: Account[SmsSettings], context: ConnectorContext) -> None:
        self.account = account
        self.context = context

    @abc.abstractmethod
    def lacks(self) -> Sequence[str]:
        """Return what is missing for a secure start, in plain words."""

    @abc.abstractmethod
    def verify(self, request: Request) -> Verified:
        """Return the request as believed, or raise :class:`hub.Refused`."""

    @abc.abstractmethod
    def is_status(self, verified: Verified) -> bool:
        """Whether a request tells what became of our messages, and not what somebody wrote."""

    @abc.abstractmethod
    def parse_inbound(self, verified: Verified) -> Sequence[AnyDraft]: ...

    @abc.abstractmethod
    def parse_status(self, verified: Verified) -> Sequence[AnyDraft]: ...

    @abc.abstractmethod
    def answer(self, verified: Verified) -> Answer:
        """Return the provider's own way of saying that a request arrived."""

    @abc.abstractmethod
    async def send(self, message: Outgoing) -> Accepted:
        """Send once, or raise a failure."""

    @abc.abstractmethod
    def samples(self, clock: Clock) -> Sequence[Sample]: ...

    @abc.abstractmethod
    async def check(self) -> Sequence[str]: ...

    def refusal(self, refused: Refused) -> Answer:
        return Answer(status=refused.status)

    def hint(self, verified: Verified) -> str | None:
        return None

    def templates(self) -> Sequence[Template]:
        return ()

    async def find_sent(self, message: Outgoing) -> Accepted | None:
        raise Unsupported("this provider cannot look up what was sent by our key")

    async def poll(self, cursor: str | None) -> Polled:
        """There is nothing to ask: what it does not push is lost."""
        return Polled(items=(), cursor=cursor or "-")

    async def fetch_media(self, media: Media, address: str) -> Fetched:
        raise Unsupported("this provider carries no files")

    async def start(self) -> None:  # noqa: B027 - most have nothing to make ready
        """Called once before the doors open."""
