"""A plugin that takes the process down when it is asked about a poisonous message."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from hub import Route, hookimpl
from normalizer.drafts import Message

omniline_api = 1

POISON = "POISON"


@hookimpl
def choose_ticket_route(messages: Sequence[Message]) -> Sequence[Route | None]:
    if any(POISON in getattr(part, "text", "") for each in messages for part in each.parts):
        os.kill(os.getpid(), signal.SIGKILL)
    return [None] * len(messages)
