"""Jobs for ticket backends: one lane for all that a backend hears of one conversation."""

from __future__ import annotations

from typing import Any

from hub.documents import Conversation, Job
from hub.planning.rules import Rules
from hub.planning.workspace import Workspace


def ticket_lane(conversation: Conversation, backend: str) -> str:
    """Return the lane. Its key is the first entry's address, and no merge or undo changes it."""
    return f"ticket:{backend}:{conversation.root}"


def ticket_job(
    ws: Workspace,
    rules: Rules,
    conversation: Conversation,
    backend: str,
    task: str,
    cause: str,
    *,
    entry: str | None = None,
    customer: str | None = None,
    position: int | None = None,
    args: dict[str, Any] | None = None,
) -> None:
    """Make a job, due at once. Its id follows from ``cause``: made twice, it is the same one.

    ``customer`` and ``position`` are the conversation's and this moment's, unless told.
    """
    ws.new(
        Job(
            id=rules.key.hashed("job", cause),
            lane=ticket_lane(conversation, backend),
            kind="ticket",
            task=task,
            position=ws.position if position is None else position,
            due_at=rules.now,
            live=True,
            state="ready",
            entry=entry,
            conversation=conversation.id,
            customer=conversation.customer if customer is None else customer,
            backend=backend,
            args=args or {},
        )
    )
