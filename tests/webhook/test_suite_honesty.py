"""The suite finds what is broken in the hub's hands: each backend here breaks one rule.

What it finds in a backend on its own is in tests/desk/test_suite_honesty.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pytest
from msgspec.structs import replace

from hub import Secret
from hub.store.memory import MemoryStore
from hub.testing import FakeClock, Fault
from hub.testing.backend_world import TicketWorld
from normalizer.outcomes import Failure, OutcomeUnknown, RateLimited, Rejected
from normalizer.tickets import BackendEvent, NewTicket, Requester, TicketEntry, TicketRef
from plugins.webhook import WebhookBackend
from plugins.webhook.settings import WebhookSettings
from tests.webhook.strict import OTHER_SECRET, Strict, strict_receiver
from tests.webhook.support import made
from tests.webhook.test_contract import TestWebhook as WebhookContract

_fresh = itertools.count()


class SwallowsDoubts(WebhookBackend):
    """Takes silence for success."""

    async def append(self, ticket: TicketRef, entry: TicketEntry, *, reopen: bool) -> str:
        try:
            return await super().append(ticket, entry, reopen=reopen)
        except OutcomeUnknown:
            return entry.key


class GivesDoubtsUp(WebhookBackend):
    """Takes silence for a refusal."""

    async def append(self, ticket: TicketRef, entry: TicketEntry, *, reopen: bool) -> str:
        try:
            return await super().append(ticket, entry, reopen=reopen)
        except OutcomeUnknown as error:
            raise Rejected(error.reason) from error


class NewKeysForTickets(WebhookBackend):
    async def create_ticket(self, new: NewTicket, requester: str) -> TicketRef:
        return await super().create_ticket(replace(new, key=f"k{next(_fresh)}"), requester)


class NewKeysForEntries(WebhookBackend):
    async def append(self, ticket: TicketRef, entry: TicketEntry, *, reopen: bool) -> str:
        fresh = replace(entry, key=f"k{next(_fresh)}")
        return await super().append(ticket, fresh, reopen=reopen)


class FindsNothing(WebhookBackend):
    """Says that it surely is not there, and makes it under another key then."""

    async def find_ticket(self, key: str, requester: Requester) -> TicketRef | None:
        return None


class RefusesWhenLimited(WebhookBackend):
    async def append(self, ticket: TicketRef, entry: TicketEntry, *, reopen: bool) -> str:
        try:
            return await super().append(ticket, entry, reopen=reopen)
        except RateLimited as error:
            raise Rejected(error.reason) from error


class BelievesAnybody(WebhookBackend):
    def parse_webhook(
        self, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> Sequence[BackendEvent]:
        own = self._callbacks.headers("msg_1", now, body)
        return super().parse_webhook(own, body, now)


class BelievesOldOnes(WebhookBackend):
    def parse_webhook(
        self, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> Sequence[BackendEvent]:
        seconds = headers.get("webhook-timestamp", "")
        then = datetime.fromtimestamp(int(seconds), now.tzinfo) if seconds.isdigit() else now
        return super().parse_webhook(headers, body, then)


class TellsUnderNewIds(WebhookBackend):
    def parse_webhook(
        self, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> Sequence[BackendEvent]:
        told = super().parse_webhook(headers, body, now)
        return [replace(event, dedupe_id=f"{next(_fresh)}") for event in told]


class SignsWrongly(WebhookBackend):
    def __init__(self, name: str, settings: WebhookSettings, context: Any) -> None:
        super().__init__(name, replace(settings, secrets=(Secret(OTHER_SECRET),)), context)


WRITE = "test_a_write_that_goes_wrong_doubles_and_loses_nothing"
CASES: list[tuple[type[WebhookBackend], str, dict[str, Any]]] = [
    (SwallowsDoubts, WRITE, {"call": "append", "fault": Fault.RESETS}),
    (GivesDoubtsUp, WRITE, {"call": "append", "fault": Fault.LOSES}),
    (GivesDoubtsUp, WRITE, {"call": "append", "fault": Fault.LATE}),
    (NewKeysForTickets, WRITE, {"call": "create_ticket", "fault": Fault.LOSES}),
    (NewKeysForEntries, WRITE, {"call": "append", "fault": Fault.LOSES}),
    (FindsNothing, WRITE, {"call": "create_ticket", "fault": Fault.LOSES}),
    (RefusesWhenLimited, WRITE, {"call": "append", "fault": Fault.LIMITS}),
    (
        NewKeysForEntries,
        "test_a_worker_that_dies_at_a_step_writes_each_entry_once",
        {"step": "jobs.3", "nth": 2},
    ),
    (BelievesAnybody, "test_what_was_altered_forged_or_is_old_is_refused", {}),
    (BelievesOldOnes, "test_what_was_altered_forged_or_is_old_is_refused", {}),
    (TellsUnderNewIds, "test_a_webhook_that_is_repeated_or_reordered_has_the_same_ids", {}),
    (SignsWrongly, "test_a_backend_that_is_set_up_rightly_reports_no_problem", {}),
]


async def fails(kind: type[WebhookBackend], test: str, arguments: dict[str, Any]) -> bool:
    """Say whether a test of the suite fails for a backend, at a receiver of its own."""
    async with strict_receiver() as strict:
        backend = _of(kind, strict)
        await backend.start()
        suite = WebhookContract()
        suite.strict = strict
        call = getattr(suite, test)
        wanted = call.__annotations__
        given = dict(arguments)
        if "requester" in wanted:
            given["requester"] = suite.person(backend, 1)
        if "world" in wanted:
            given["world"] = _world(suite, backend)
        try:
            await call(backend=backend, **given)
        except (AssertionError, Failure):
            return True
        finally:
            await backend.stop()
        return False


def _of(kind: type[WebhookBackend], strict: Strict) -> WebhookBackend:
    sound = made(strict.url)
    return kind(sound.name, sound.config, sound.context)


def _world(suite: WebhookContract, backend: WebhookBackend) -> TicketWorld:
    clock = FakeClock()

    async def later(seconds: float) -> None:
        clock.advance(seconds)

    return TicketWorld(MemoryStore(clock=clock), clock, suite.outside(backend), later)


@pytest.mark.parametrize(
    ("broken", "test", "arguments"), CASES, ids=lambda value: getattr(value, "__name__", None)
)
async def test_a_broken_backend_fails_the_test_of_its_rule(
    broken: type[WebhookBackend], test: str, arguments: dict[str, Any]
) -> None:
    assert await fails(broken, test, arguments)
    assert not await fails(WebhookBackend, test, arguments)
