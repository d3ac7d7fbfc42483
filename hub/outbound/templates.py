"""The templates that a vendor lists, and what one of them will say."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog

from hub.clock import Clock
from hub.contract import Connector, Template
from hub.planning.rules import Refusal

log = structlog.get_logger(__name__)

KEPT_S = 60.0
ASKED_FOR_S = 5.0
MOST = 1000
SHOWN = 50  # in a refusal
_BLANK = re.compile(r"\{([^{}]{1,100})\}")


class Templates:
    """Asks each account at most once a minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, tuple[float, Sequence[Template]]] = {}

    async def of(self, connector: Connector[Any]) -> Sequence[Template]:
        """Return what can be sent now. Raises Refusal(unavailable) while the vendor cannot say."""
        if not connector.capabilities.templates:
            return ()
        account = f"{connector.account.channel}:{connector.account.key}"
        now = self._clock.monotonic()
        held = self._held.get(account)
        if held is not None and now - held[0] < KEPT_S:
            return held[1]
        try:
            async with asyncio.timeout(ASKED_FOR_S):
                found = list(await connector.templates())[:MOST]
        except Exception as error:
            log.warning("templates_not_listed", account=account, reason=type(error).__name__)
            raise Refusal(
                "unavailable", f"{account} does not list its templates now: try again later", 503
            ) from error
        self._held[account] = (now, found)
        return found

    async def refuse_free_text(self, connector: Connector[Any]) -> None:
        """Raise Refusal(template-needed) with the templates where only those leave."""
        if connector.capabilities.free_text:
            return
        account = f"{connector.account.channel}:{connector.account.key}"
        listed = [msgspec.to_builtins(each) for each in (await self.of(connector))[:SHOWN]]
        raise Refusal(
            "template-needed",
            f"{account} carries approved templates only: answer by one of them,"
            " or take another channel",
            422,
            templates=listed,
        )

    async def preview(
        self, connector: Connector[Any], name: str, language: str, params: Mapping[str, str]
    ) -> str:
        """Return what the vendor will say, "" where it lists no texts.

        Raises Refusal(422) for a template that is not there, and for blanks that do not fit it.
        """
        listed = await self.of(connector)
        if not listed:
            return ""
        named = [each for each in listed if each.name == name]
        if language:
            named = [each for each in named if each.language == language]
        if not named:
            known = ", ".join(sorted({each.name for each in listed})[:20])
            said = f"{name} in {language}" if language else name
            raise Refusal("unsupported", f"there is no template {said}; there are {known}", 422)
        template = named[0]
        if wrong := sorted(set(template.params) ^ params.keys()):
            raise Refusal(
                "bad-request",
                f"the template {name} has the blanks {', '.join(template.params) or 'none'};"
                f" look at {', '.join(wrong)}",
                422,
            )
        return _BLANK.sub(lambda blank: params.get(blank[1], blank[0]), template.preview)
