"""What the webhook backend's tests have in common."""

from __future__ import annotations

from typing import Any

from hub import Clock, Secret
from hub.clock import SystemClock
from hub.testing import FakeServices
from plugins.webhook import WebhookBackend
from plugins.webhook.settings import WebhookSettings
from tests.webhook.strict import SECRET

TIMEOUT_S = 2.0  # tests wait for it, and a machine with much to do needs some of it


def made(url: str, *, clock: Clock | None = None, **settings: Any) -> WebhookBackend:
    """Return a backend that is not started. Its clock is the real one: signatures have times."""
    given: dict[str, Any] = {
        "url": url,
        "secrets": (Secret(SECRET),),
        "allow_private": True,
        "timeout_s": TIMEOUT_S,
    }
    services = FakeServices(clock=clock or SystemClock())
    return WebhookBackend(
        "erp", WebhookSettings(**{**given, **settings}), services.context("webhook")
    )
