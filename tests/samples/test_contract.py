"""The sample connectors pass the contract that every connector has to pass."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from hub.testing import ConnectorContract, FakeVendor
from hub.testing.samples.form import SampleForm
from hub.testing.samples.held import SampleHeld
from hub.testing.samples.hint import SampleHint
from hub.testing.samples.poll import SamplePoll
from hub.testing.samples.webhook import WINDOW_S, SampleWebhook
from tests.samples.vendors import TOKEN, HttpVendor, LineVendor

GOLDEN = Path(__file__).parent / "golden"
ONE = {"secrets": ["the-first-secret"]}
TWO = {"secrets": ["the-second-secret"]}
BOTH = {"secrets": ["the-second-secret", "the-first-secret"]}


class TestSampleWebhook(ConnectorContract):
    connector = SampleWebhook
    settings = ONE
    other_secrets = TWO
    both_secrets = BOTH
    no_secrets = {"secrets": None}
    window_s = WINDOW_S
    golden = GOLDEN / "webhook.json"
    exempt = {"recipient": "it sends into a list"}


class TestSampleForm(ConnectorContract):
    connector = SampleForm
    settings = {"secret": "the-first-secret"}
    other_secrets = {"secret": "the-second-secret"}
    signs_url = True
    golden = GOLDEN / "form.json"
    exempt = {
        "window": "its vendor signs no time",
        "rotation": "its vendor knows a single secret",
        "refusals": "what is no form is told so",
        "unknown": "its vendor has no types of messages",
    }


class TestSamplePoll(ConnectorContract):
    connector = SamplePoll
    settings = {"url": "http://127.0.0.1:9", "token": TOKEN}
    recipient = "sample_poll:main:user:ann"
    golden = GOLDEN / "poll.json"
    exempt = {"webhook": "it is polled"}

    @contextlib.asynccontextmanager
    async def vendor(self) -> AsyncIterator[FakeVendor]:
        async with HttpVendor() as vendor:
            yield vendor


class TestSampleHeld(ConnectorContract):
    connector = SampleHeld
    settings = {"host": "127.0.0.1", "port": 9, "token": TOKEN}
    golden = GOLDEN / "held.json"
    exempt = {"webhook": "it holds a connection"}

    @contextlib.asynccontextmanager
    async def vendor(self) -> AsyncIterator[FakeVendor]:
        async with LineVendor() as vendor:
            yield vendor


class TestSampleHint(TestSamplePoll):
    connector = SampleHint
    settings = {"url": "http://127.0.0.1:9", "token": TOKEN, **ONE}
    other_secrets = TWO
    both_secrets = BOTH
    no_secrets = {"secrets": None}
    window_s = WINDOW_S
    recipient = "sample_hint:main:user:ann"
    golden = GOLDEN / "hint.json"
    exempt = {"unknown": "a hint has no types"}
