"""What an account's vendor still has: the past behind `Connector.history`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from hub.contract import Connector
from hub.importing.found import Found, ImportProblem, Page
from normalizer.outcomes import Failure

MAX_EMPTY_PAGES = 10_000  # in a row: a connector that never ends is cut


class VendorHistory:
    name = "history"

    def __init__(self, connector: Connector[Any], since: datetime) -> None:
        channel, key = connector.account.channel, connector.account.key
        if not connector.has_history():
            raise ImportProblem(f"the channel {channel} has no history to import: use jsonl or csv")
        self._connector = connector
        self._since = since
        self.account = f"{channel}:{key}"

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"account": self.account, "since": self._since.isoformat()}

    @property
    def total(self) -> int | None:
        return None

    @property
    def ignored(self) -> frozenset[str]:
        return frozenset()

    async def pages(self, cursor: str | None) -> AsyncIterator[Page]:
        account = self._connector.account
        done = number = empty = 0
        while True:
            try:
                polled = await self._connector.history(self._since, cursor)
            except Failure as error:
                raise ImportProblem(
                    f"{self.account} does not give its history: {error.reason}. Resume it later"
                ) from error
            except Exception as error:
                raise ImportProblem(
                    f"{self.account} does not give its history: {type(error).__name__}: {error}"
                ) from error
            number += 1
            done += len(polled.items)
            empty = 0 if polled.items else empty + 1
            found = [
                Found(
                    place=f"page {number}, message {place}",
                    channel=account.channel,
                    account=account.key,
                    drafts=() if item.failed else tuple(item.drafts),
                    raw=item.raw,
                    failed=item.failed,
                )
                for place, item in enumerate(polled.items, start=1)
            ]
            yield Page(found=tuple(found), cursor=polled.cursor, done=done)
            if not polled.more:
                return
            if polled.cursor == cursor or empty > MAX_EMPTY_PAGES:
                raise ImportProblem(f"{self.account} does not get on in its history")
            cursor = polled.cursor
