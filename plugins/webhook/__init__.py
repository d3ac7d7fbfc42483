"""Tickets at a receiver of your own: signed requests out, signed events back.

Read on in ``backend`` (the operations), ``wire`` (one request, and what each failure means),
``events`` (what comes back), ``messages`` (every message) and ``signing``.
docs/backends/webhook.md is the protocol, docs/backends/webhook_receiver.py a receiver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hub import TicketBackend, hookimpl
from plugins.webhook.backend import WebhookBackend

__all__ = ["WebhookBackend"]

omniline_api = 1


@hookimpl
def register_ticket_backends(config: Mapping[str, Any]) -> Sequence[type[TicketBackend]]:
    return [WebhookBackend]
