"""A strict receiver, and the backend that speaks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, MutableSequence

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from hub import steps
from plugins.webhook import WebhookBackend
from tests.webhook.strict import Strict, strict_receiver
from tests.webhook.support import made


@pytest.fixture
async def strict() -> AsyncIterator[Strict]:
    async with strict_receiver() as strict:
        yield strict


@pytest.fixture
async def backend(strict: Strict) -> AsyncIterator[WebhookBackend]:
    backend = made(strict.url)
    await backend.start()
    yield backend
    await backend.stop()


@pytest.fixture(autouse=True)
def logs() -> Iterator[MutableSequence[EventDict]]:
    with capture_logs() as captured:
        yield captured


@pytest.fixture(autouse=True)
def _no_watchers_left() -> Iterator[None]:
    yield
    steps.watchers.clear()
