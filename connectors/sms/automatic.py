"""How often an automatic answer may leave: three in ten minutes to one number.

A carrier's or a phone's own reply ("您好，我正在开车") answers an automatic message at once, and
two machines that answer each other cost money with every round. A notification answers nobody: how
many of those somebody gets is a matter of their consent and of the caps of their purposes.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from hub import ConnectorContext, Outgoing
from normalizer.addresses import parse_address
from normalizer.outcomes import Temporary, Unreachable

WITHIN = timedelta(minutes=10)
MOST = 3
NOTIFICATION = "notification"  # the event of what POST /notifications asked for


async def reserve(context: ConnectorContext, message: Outgoing) -> None:
    """Count an automatic answer before it is sent; the same one counts once.

    Raises Unreachable when it is one too many.
    """
    if message.event == NOTIFICATION:
        return
    name = f"automatic/{context.address_id(parse_address(message.address))}"
    now = context.clock.now()
    held, rev = await context.state(name)
    recent = {
        key: at
        for key, at in dict(held.get("sent", {})).items()
        if now - datetime.fromisoformat(at) < WITHIN
    }
    if message.key in recent:
        return
    if len(recent) >= MOST:
        raise Unreachable(
            f"this number got {MOST} automatic messages within ten minutes", code="automatic"
        )
    sent = {**recent, message.key: now.isoformat()}
    if not await context.set_state(name, {"sent": sent}, rev):
        raise Temporary("another automatic message to this number is under way")
