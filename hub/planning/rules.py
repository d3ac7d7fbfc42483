"""What the planners have to know beside the documents: settings, capabilities, the moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import msgspec

from hub.documents import FeedRow
from hub.ids import SpaceKey
from hub.notifications.policy import DEFAULT, Policy
from hub.planning.workspace import Workspace
from normalizer.capabilities import Capabilities

FUTURE = timedelta(seconds=60)  # how far a vendor's clock may be ahead of ours
PAST = timedelta(days=7)  # how late a vendor may deliver


class Refusal(Exception):
    """A command cannot be done.

    ``error`` is a problem type of the API, ``detail`` says what to do about it.
    """

    def __init__(self, error: str, detail: str, status: int = 409, **more: object) -> None:
        super().__init__(detail)
        self.error = error
        self.detail = detail
        self.status = status
        self.more = more


class Route(msgspec.Struct, frozen=True):
    """To which ticket backends a conversation goes, decided when it opens."""

    backends: tuple[str, ...] = ()
    queue: str = ""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Fixed for one batch. ``now`` is the router's clock when the batch began."""

    key: SpaceKey
    now: datetime
    capabilities: Callable[[str], Capabilities]
    policies: Mapping[str, str] = {}  # "channel" or "channel:account" -> policy
    route: Route = Route()  # where conversations go that no plugin decided about
    silence: timedelta = timedelta(hours=72)
    reopen: timedelta = timedelta(hours=24)
    feed_kept: timedelta = timedelta(days=30)
    operations_kept: timedelta = timedelta(days=7)
    notifications: Policy = DEFAULT
    relays: Mapping[str, tuple[str, ...]] = {}  # names of other systems, by "channel:account"
    profiles: frozenset[str] = frozenset()  # channels whose connectors can be asked who somebody is

    def policy(self, channel: str, account: str) -> str:
        """Return which messages share a conversation: customer, thread or channel."""
        return (
            self.policies.get(f"{channel}:{account}")
            or self.policies.get(channel)
            or self.capabilities(channel).conversation
        )


def sane(at: datetime | None, received_at: datetime) -> datetime:
    """Return the vendor's time if it can be true, else when we received it."""
    if at is None or at > received_at + FUTURE or at < received_at - PAST:
        return received_at
    return min(at, received_at)


def tell(ws: Workspace, rules: Rules, kind: str, **fields: object) -> int:
    """Put an event into the feed and return its position."""
    at = fields.pop("at", rules.now)
    channel = fields.get("channel")
    row = FeedRow(
        id=0,
        type=kind,
        at=at,  # type: ignore[arg-type]
        recorded_at=rules.now,
        followed=bool(channel) and rules.capabilities(str(channel)).thread_seq,
        expire_at=rules.now + rules.feed_kept,
        **fields,  # type: ignore[arg-type]
    )
    return ws.emit(row)
