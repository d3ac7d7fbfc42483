"""Many pushes on every webhook channel: repeated ones make each entry once, broken ones do no harm.

The channels are those that give samples; a new one is here without a line of its own. No workers
run: nothing of this leaves the hub.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import aiohttp
import msgspec
import pytest
import structlog
from msgspec.structs import replace
from yarl import URL

from hub.contract import Connector, Refused, Request
from hub.documents import Entry, InboxItem
from hub.inbox_writer import InboxWriter
from hub.intake import Intake, RawRequest
from hub.metrics import Metrics
from hub.plugin_context import ConnectorContext
from hub.testing import ConnectorContract, MemoryStore
from hub.testing.connector_checks.mutations import mutations
from hub.testing.connector_checks.subject import ACCOUNT
from normalizer.drafts import Event, Identity, Message
from normalizer.keys import dedupe_key
from normalizer.pipeline import StepContext, normalize
from tests.support.contracts import contracts_of, webhook_connectors
from tests.support.hubs import RunningHub, running_hub
from tests.support.scale import scaled
from tests.support.truth import routed

PUSHES = scaled(100, 1_000)
MUTATED = scaled(2_000, 200_000)
DELIVERIES = 3
AT_ONCE = 12
MOST_GROWTH = 20 * 1024 * 1024
CHANNELS = webhook_connectors()


# --- repeated and overlapping --------------------------------------------------------------------


class _OfHub:
    """Gives connectors the contexts that the hub would give them."""

    def __init__(self, hub: RunningHub) -> None:
        self._hub = hub.hub

    def connector_context(self, channel: str, account: str, *, mount: str) -> ConnectorContext:
        log = structlog.get_logger(channel)
        return ConnectorContext(channel, self._hub.services, log, channel, account, mount=mount)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_pushes_that_come_three_times_and_overlap_are_one_entry_each(
    mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    with patch("hub.app.Hub._start_workers", lambda hub: None):
        async with running_hub(mongo_url, mongo_db_name, tmp_path, accounts=()) as hub:
            expected: dict[str, set[str]] = {channel: set() for channel in CHANNELS}
            schemes = {channel: contracts_of(kind) for channel, kind in CHANNELS.items()}
            for turn in range(max(map(len, schemes.values()))):
                deliveries: list[tuple[Connector[Any], Request]] = []
                for channel, contracts in schemes.items():
                    for contract in contracts[turn : turn + 1]:
                        connector = contract.make_trusting(cast(Any, _OfHub(hub)))
                        hub.hub.connectors[(channel, ACCOUNT)] = connector
                        hub.hub._capabilities[channel] = connector.capabilities
                        pushes = contract.many_pushes(connector, PUSHES)
                        made = {i for push in pushes for i in _entries(hub, connector, push)}
                        assert made, f"{channel}: none of its pushes makes an entry"
                        expected[channel] |= made
                        deliveries += [(connector, push) for push in _as_vendors_do(pushes)]
                statuses = await _deliver(hub, deliveries)
                assert statuses <= {200, 201, 202, 204}, statuses
            await routed(hub.hub.store, within_s=300.0)
            for channel, idents in expected.items():
                held = await hub.hub.store.table(Entry).find({"channel": channel})
                there = {entry.id for entry in held}
                assert not idents - there, f"{channel}: {len(idents - there)} entries are missing"
                assert not there - idents, f"{channel}: {len(there - idents)} entries too many"


def _entries(hub: RunningHub, connector: Connector[Any], push: Request) -> Iterator[str]:
    """Yield the ids of the entries that a push has to make."""
    channel = connector.channel
    context = StepContext(channel=channel, account=ACCOUNT)
    for raw in connector.parse(connector.verify(push)):
        draft = normalize(raw, context)
        if isinstance(draft, Identity) and draft.role_event:
            name = draft.role_event
            draft = Event(key=f"{draft.key}|{name}", address=draft.same_as, name=name)
        if isinstance(draft, Message | Event):
            yield hub.hub.key.hashed("ent", dedupe_key(channel, ACCOUNT, draft))


def _as_vendors_do(pushes: Sequence[Request]) -> list[Request]:
    """Return each push three times: a second delivery while the first is on its way, one later."""
    chance = random.Random("retries")
    order: list[tuple[float, int, Request]] = []
    for place, push in enumerate(pushes):
        for nth in range(DELIVERIES):
            late = (0.0, 0.5, chance.uniform(20, 60))[nth]
            order.append((place + late, place, push))
    return [push for _, _, push in sorted(order, key=lambda each: each[:2])]


async def _deliver(
    hub: RunningHub, deliveries: Sequence[tuple[Connector[Any], Request]]
) -> set[int]:
    """Deliver everything, some at once, in order; return the statuses."""
    waiting = iter(deliveries)
    statuses: set[int] = set()

    async def vendor(http: aiohttp.ClientSession) -> None:
        for connector, push in waiting:
            statuses.add(await _one(hub, http, connector, push))

    async with aiohttp.ClientSession() as http:
        await asyncio.gather(*(vendor(http) for _ in range(AT_ONCE)))
    return statuses


async def _one(
    hub: RunningHub, http: aiohttp.ClientSession, connector: Connector[Any], push: Request
) -> int:
    if connector.mount != "in":  # its paths were registered at start, for accounts that were there
        answer = await hub.hub.intake.webhook(connector, push)
        return answer.status
    query = f"?{push.query_string}" if push.query_string else ""
    door = f"{hub.hub.url}/in/{connector.channel}/{ACCOUNT}{push.path}{query}"
    async with http.request(
        push.method, URL(door, encoded=True), data=push.body or None, headers=dict(push.headers)
    ) as response:
        await response.read()
        return response.status


# --- broken --------------------------------------------------------------------------------------


class _Kept:
    """Stands for the inbox: what was stored last, and nothing else, so that memory can be told."""

    def __init__(self) -> None:
        self.item: InboxItem | None = None

    async def put(self, item: InboxItem, *, may_spool: bool = True, whole: bytes = b"") -> None:
        self.item = item


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("channel", CHANNELS)
async def test_broken_bodies_are_refused_or_kept_and_nothing_breaks(channel: str) -> None:
    """What is believed and cannot be read is acknowledged, and kept as failed with its bytes."""
    for contract in contracts_of(CHANNELS[channel]):
        await _try_broken_bodies(contract)


async def _try_broken_bodies(contract: ConnectorContract) -> None:
    connector = contract.make_trusting()
    channel = f"{connector.channel} ({type(contract).__name__})"
    kept = _Kept()
    store, clock = MemoryStore(), connector.context.clock
    key = contract.make_connector().context._services.key
    intake = Intake(cast(InboxWriter, kept), store.blobs, key, clock, Metrics())
    samples = [each for each in connector.samples(clock) if each.request.method != "GET"]
    believed = failed = done = base = 0
    with _errors_in_the_log() as errors:
        for sample in samples:
            verified = connector.verify(sample.request)
            bodies = mutations(
                verified.payload, MUTATED // len(samples), f"{channel}/{sample.name}"
            )
            for body in bodies:
                request = replace(sample.request, body=body)
                reads, told = _reads(connector, request)
                kept.item = None
                answer = await intake.webhook(connector, request)
                assert answer.status < 500, (sample.name, answer.status, body[:200])
                if reads is None:
                    assert answer.status >= 400, (sample.name, body[:200])
                    assert kept.item is None, "what is refused is not kept"
                else:
                    believed += 1
                    assert answer.status < 300, (sample.name, told, body[:200])
                if reads is False:
                    failed += 1
                    assert kept.item is not None, (sample.name, told, body[:200])
                    assert kept.item.failed, (sample.name, told, body[:200])
                    raw = msgspec.msgpack.decode(kept.item.raw, type=RawRequest)
                    assert raw.body == body
                done += 1
                if done == MUTATED // 10:
                    base = _memory()
        assert not errors, errors[:3]
    grown = _memory() - base
    assert believed, f"{channel}: nothing was believed, so nothing is said about what is"
    assert failed or connector.channel not in ("sample", "sample_form")
    more = f"{grown / 1024 / 1024:.1f} MiB more than after the first tenth"
    assert grown < MOST_GROWTH, f"{channel}: {more}"


def _reads(connector: Connector[Any], request: Request) -> tuple[bool | None, str]:
    """Say whether a request is read, is believed and not read (False), or is refused (None)."""
    try:
        verified = connector.verify(request)
    except Refused as refused:
        return None, refused.reason
    try:
        for draft in connector.parse(verified):
            dedupe_key(connector.channel, ACCOUNT, draft)
    except Exception as error:  # noqa: BLE001 - as the intake has it
        return False, repr(error)
    return True, ""


def _memory() -> int:
    """Return the memory that this process holds, in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@contextmanager
def _errors_in_the_log() -> Iterator[list[str]]:
    """Yield what is logged as an error meanwhile; everything else is dropped."""
    errors: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors.append(record.getMessage())

    def note(logger: Any, method: str, event: Any) -> Any:
        if method in ("error", "critical", "exception"):
            errors.append(repr(event))
        raise structlog.DropEvent

    before = structlog.get_config()["processors"]
    handler = Handler(logging.ERROR)
    logging.getLogger().addHandler(handler)
    structlog.configure(processors=[note])
    try:
        yield errors
    finally:
        structlog.configure(processors=before)
        logging.getLogger().removeHandler(handler)
