"""The sample channel with a vendor that can be asked who somebody is.

``TOLD`` holds what it answers, by the person's id: a profile, None, or a failure to raise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hub import Connector, hookimpl
from hub.testing.samples.webhook import SampleWebhook
from normalizer.addresses import parse_address
from normalizer.capabilities import Capabilities
from normalizer.drafts import Profile

omniline_api = 1
TOLD: dict[str, list[Profile | Exception | None]] = {}
ASKED: list[str] = []


class SampleWithProfiles(SampleWebhook):
    capabilities: ClassVar[Capabilities] = Capabilities(sends=frozenset({"text"}), profile=True)

    async def fetch_profile(self, address: str) -> Profile | None:
        person = parse_address(address).id
        ASKED.append(person)
        answers = TOLD.get(person, [])
        answer = answers.pop(0) if len(answers) > 1 else answers[0] if answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[type[Connector[Any]]]:
    return [SampleWithProfiles]
