"""How often an automatic answer may leave: once a day to an address, ten times in a thread.

Two machines that answer each other stop here at the latest, whatever their mails say.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from hub import ConnectorContext, Outgoing
from normalizer.addresses import parse_address
from normalizer.outcomes import Temporary, Unreachable

EVERY = timedelta(hours=24)
IN_THREAD = 10


async def reserve(context: ConnectorContext, message: Outgoing) -> None:
    """Count an automatic answer before it is sent; the same message counts once.

    Raises Unreachable when it is one too many.
    """
    address = context.address_id(parse_address(message.address))
    now = context.clock.now()
    seen, rev = await context.state(f"automatic/{address}")
    if seen.get("key") == message.key:
        return
    last = seen.get("at")
    if last is not None and now - datetime.fromisoformat(last) < EVERY:
        raise Unreachable("this address got an automatic answer within the last 24 hours")
    threads = dict(seen.get("threads", {}))
    count = int(threads.get(message.thread, 0))
    if count >= IN_THREAD:
        raise Unreachable(f"this thread had {IN_THREAD} automatic answers already")
    threads = dict(list({**threads, message.thread: count + 1}.items())[-50:])
    value = {"key": message.key, "at": now.isoformat(), "threads": threads}
    if not await context.set_state(f"automatic/{address}", value, rev):
        raise Temporary("another automatic answer to this address is under way")
