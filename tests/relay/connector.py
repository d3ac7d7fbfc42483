"""The sample channel with pushes that are for the account's other system and say nothing to us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hub import Connector, Verified, hookimpl
from hub.testing.samples.webhook import SampleWebhook
from normalizer.drafts import AnyDraft

omniline_api = 1


class SampleForTwo(SampleWebhook):
    def parse(self, verified: Verified) -> Sequence[AnyDraft]:
        if b'"type":"heartbeat"' in verified.payload:
            return ()
        return super().parse(verified)


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[type[Connector[Any]]]:
    return [SampleForTwo]
