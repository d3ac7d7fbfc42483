"""Profiles that a vendor tells on request: the jobs that ask for them, and what answers change.

A profile is asked for when somebody is first heard, when they follow, and when the vendor says
that it changed; at most once a day for an address, whatever it sends.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from hub.documents import AddressDoc, InboxItem, Job
from hub.planning.channel_events import FOLLOWED, PROFILE_CHANGED
from hub.planning.identity import ensure_address
from hub.planning.rules import Rules, sane, tell
from hub.planning.workspace import Workspace
from normalizer.addresses import parse_address
from normalizer.drafts import Outcome, Profile

JOB = "profile"
ASKED_ON = frozenset({FOLLOWED, PROFILE_CHANGED})
AGAIN = timedelta(days=1)


def ask_for_profile(
    ws: Workspace, rules: Rules, item: InboxItem, ident: str, event: str = ""
) -> None:
    """Make the job that asks the vendor who somebody is, if it is due.

    Nothing waits for it: the message that caused it is in the timeline, with or without a name.
    """
    if item.channel not in rules.profiles:
        return
    address = ws.need(AddressDoc, ident)
    asked = address.profile_asked_at
    if asked is not None and (event not in ASKED_ON or rules.now < asked + AGAIN):
        return
    ws.put(replace(address, profile_asked_at=rules.now))
    ws.new(
        Job(
            id=rules.key.hashed("job", f"{item.id}|{ident}|{JOB}"),
            lane=f"{JOB}:{ident}",
            kind=JOB,
            position=ws.position,
            due_at=rules.now,
            live=True,
            state="ready",
            account=f"{item.channel}:{item.account}",
            args={"address": ident, "asked_at": rules.now.isoformat()},
        )
    )


def profile_outcome(ws: Workspace, rules: Rules, item: InboxItem, draft: Outcome) -> None:
    """Take a profile over, by the rules for one that comes with a message.

    One that was asked for before the person was erased, or before it was asked for again, is
    dropped.
    """
    address = ws.get(AddressDoc, str(draft.result.get("address", "")))
    if address is None or address.erased or not is_wanted(address, draft.result):
        return
    before = address.profile
    after, customer = ensure_address(
        ws,
        rules,
        parse_address(address.address),
        channel="",
        account="",
        at=sane(draft.at, item.received_at),
        profile=msgspec.convert(draft.result["profile"], Profile),
    )
    if after.profile != before:
        tell(
            ws,
            rules,
            "customer.updated",
            customer=customer.id,
            address=after.id,
            ref=customer.id,
            channel=item.channel,
            account=item.account,
        )


def is_wanted(address: AddressDoc, asked: dict[str, object]) -> bool:
    """Whether this is what was asked last: an erasure forgets that anything was asked."""
    at = asked.get("asked_at")
    return address.profile_asked_at is not None and (
        isinstance(at, str) and datetime.fromisoformat(at) == address.profile_asked_at
    )
