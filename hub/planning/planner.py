"""What a draft does: the planner behind the router, one module for each kind of draft.

``plan`` is given one draft of one inbox item and changes the workspace: entries, amendments,
jobs and feed rows. It is deterministic in its ids, so planning the same item twice changes
nothing. Nothing here waits; see :mod:`hub.planning.workspace`.
"""

from __future__ import annotations

from hub.documents import InboxItem
from hub.planning import arrivals, changes, history
from hub.planning.commands import run_command
from hub.planning.outcomes import outcome
from hub.planning.rules import Route, Rules
from hub.planning.who_is_who import same_person
from hub.planning.workspace import Workspace
from normalizer.drafts import (
    Amendment,
    AnyDraft,
    Command,
    Event,
    Identity,
    Message,
    Outcome,
    Receipt,
)


def plan(
    ws: Workspace, rules: Rules, item: InboxItem, draft: AnyDraft, route: Route | None = None
) -> bool:
    """Plan one draft; return False when it was erased before, so that its raw copy has to go."""
    if item.imported:
        return history.plan_history(ws, rules, item, draft)
    match draft:
        case Message():
            return arrivals.message(ws, rules, item, draft, route)
        case Event():
            return arrivals.event(ws, rules, item, draft)
        case Amendment():
            return changes.amendment(ws, rules, item, draft)
        case Receipt():
            changes.receipt(ws, rules, item, draft)
        case Identity():
            same_person(ws, rules, item, draft)
        case Command():
            run_command(ws, rules, item, draft)
        case Outcome():
            return outcome(ws, rules, item, draft)
    return True
