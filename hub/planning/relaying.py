"""The jobs that forward an account's pushes to other systems; one lane for each of them.

Jobs are made for whole items: what could not be read, and what is a repetition, is forwarded as
it came. Who gets it decides what it means.
"""

from __future__ import annotations

from hub.documents import InboxItem, Job
from hub.ids import decode128
from hub.planning.rules import Rules
from hub.planning.workspace import Workspace

JOB = "relay"
_TAIL_BITS = 20  # of an id, below its time in milliseconds: both fit into the database's integers


def relay_job_ids(rules: Rules, item: InboxItem) -> dict[str, str]:
    """Return the ids of an item's relay jobs, by the names of their targets."""
    if not rules.relays or item.door != "webhook" or item.imported:
        return {}
    names = rules.relays.get(f"{item.channel}:{item.account}", ())
    return {name: rules.key.hashed("job", f"{item.id}|{JOB}|{name}") for name in names}


def relay_jobs(ws: Workspace, rules: Rules, item: InboxItem) -> None:
    """Make a job for each target; an item that is routed again has them already."""
    for name, ident in relay_job_ids(rules, item).items():
        if ws.get(Job, ident) is not None:
            continue
        account = f"{item.channel}:{item.account}"
        ws.new(
            Job(
                id=ident,
                lane=f"{JOB}:{account}:{name}",
                kind=JOB,
                position=_place(item.id),
                due_at=rules.now,
                live=True,
                state="ready",
                account=f"{account}/{name}",
                args={"item": item.id, "relay": name},
            )
        )


def _place(item: str) -> int:
    """Return a number that sorts as items do: many of them move the feed by nothing."""
    value = decode128(item.partition("_")[2])
    return value >> 80 << _TAIL_BITS | value & (1 << _TAIL_BITS) - 1
