"""Hint, then pull: a signed webhook says only that something is new, and ``poll`` fetches it.

The made-up vendor signs as the webhook's and is asked as the poll's. A hint that never came is
repaired by the interval, so it may be a long one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import msgspec

from hub import (
    Account,
    Clock,
    Connector,
    ConnectorContext,
    Request,
    Sample,
    Secret,
    Verified,
    hookimpl,
)
from hub.testing.samples.poll import PollSettings, SamplePoll
from hub.testing.samples.webhook import check_signature, signed_sample
from normalizer.drafts import AnyDraft

omniline_api = 1


class HintSettings(PollSettings, frozen=True, kw_only=True):
    secrets: Annotated[
        list[Secret],
        msgspec.Meta(description="Secrets that sign the hints; several while rotating."),
    ] = []


class SampleHint(SamplePoll):
    channel: ClassVar[str] = "sample_hint"
    settings: ClassVar[type[msgspec.Struct]] = HintSettings
    poll_every_s: ClassVar[float] = 60.0

    def __init__(self, account: Account[Any], context: ConnectorContext) -> None:
        super().__init__(account, context)
        self._keys = [secret.reveal().encode() for secret in account.settings.secrets]

    def check_settings(self) -> Sequence[str]:
        return () if self._keys else ("the sample_hint channel needs a secret for its hints",)

    def verify(self, request: Request) -> Verified:
        if self._keys or not self.account.insecure:
            check_signature(request, self._keys)
        return request.verified()

    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        return ()  # a hint says nothing itself

    def hint(self, verified: Verified) -> str | None:
        # Whatever the vendor signed is reason enough: a poll too many does no harm.
        return "the vendor said that there is something"

    def samples(self, clock: Clock) -> Sequence[Sample]:
        return [signed_sample("news", b'{"type":"news"}', self._keys, clock, drafts=0)]


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[type[Connector[Any]]]:
    return [SampleHint]
