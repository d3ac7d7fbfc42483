"""An answer that takes several calls: each goes out once, whatever happens between two of them.

Weibo knows no key that would make a repeated call harmless, so how far an answer has come is
written down after each call; an attempt that surely failed goes on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar

from connectors.weibo.client import WeiboClient
from connectors.weibo.composing import Call
from hub import ConnectorContext, Doc, Index, StoreError
from normalizer.outcomes import Failure, OutcomeUnknown, Temporary

_KEPT = timedelta(days=30)  # longer than anybody can have a dead letter sent again


class SentDoc(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """How many calls of an answer Weibo took."""

    collection: ClassVar[str] = "x_weibo_sent"
    indexes: ClassVar[tuple[Index, ...]] = (Index((("expire_at", 1),), expires=True),)

    calls: int
    expire_at: datetime


async def deliver(
    client: WeiboClient, context: ConnectorContext, *, key: str, uid: str, calls: Sequence[Call]
) -> None:
    """Make all calls of the answer ``key`` that were not made before. Raises one of outcomes."""
    if len(calls) == 1:
        await client.reply(uid, calls[0])
        return
    done = await _done(context, key)
    written = done
    for number, call in enumerate(calls[done:], done + 1):
        try:
            await client.reply(uid, call)
        except Failure as failure:
            if failure.retry and written < number - 1:
                raise OutcomeUnknown(
                    f"{number - 1} of its {len(calls)} messages arrived, which could not be written"
                    f" down; then: {failure.reason}",
                    code=failure.code,
                ) from failure
            if number > 1:
                failure.reason = (
                    f"{number - 1} of its {len(calls)} messages arrived; then: {failure.reason}"
                )
                failure.args = (failure.reason,)
            raise
        if number < len(calls):
            written = number if await _write(context, key, number) else written


async def _done(context: ConnectorContext, key: str) -> int:
    try:
        found = await context.documents(SentDoc).get(key)
    except StoreError as error:
        raise Temporary(f"how far the answer has come cannot be read: {error}") from error
    return found.calls if found is not None else 0


async def _write(context: ConnectorContext, key: str, calls: int) -> bool:
    doc = SentDoc(id=key, calls=calls, expire_at=context.clock.now() + _KEPT)
    try:
        await context.documents(SentDoc).put([doc])
    except StoreError as error:
        context.log.warning("weibo_progress_not_written", key=key, reason=str(error))
        return False
    return True
