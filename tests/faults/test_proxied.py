"""A hub whose database or vendor is behind a bad line: acknowledgements go on, nothing is doubled.

Real: hub, MongoDB and HTTP, with the fault proxy between them (tests/support/fault_proxy.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hub.documents import Entry
from normalizer.drafts import DeliveryState
from tests.samples.vendors import TOKEN, HttpVendor
from tests.support.fault_proxy import FaultProxy, Faults
from tests.support.hubs import RunningHub, running_hub
from tests.support.load import Writers, percentile
from tests.support.mongo import OwnMongod
from tests.support.processes import HubProcess
from tests.support.scale import scaled
from tests.support.truth import assert_in_order, assert_nothing_lost_or_doubled, routed, store_of

DATABASE = "proxied"
BAD_S = scaled(4.0, 30.0)
SLACK = scaled(2.0, 1.0)  # beside other tests on few cores the bar is looser

BAD_LINES = {
    "slow to answer": Faults(latency_s=0.4),  # a commit takes longer than its budget of 500 ms
    "a black hole": Faults(blackhole=True),
    "losing every answer": Faults(lose_answer=b""),
}


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", BAD_LINES)
async def test_acknowledgements_go_on_while_the_line_to_mongodb_is(
    how: str, tmp_path: Path
) -> None:
    """Through the spool, within a second, in order; and all of it is routed once it is well."""
    with OwnMongod() as mongod:
        line = urlsplit(mongod.url)
        assert line.hostname is not None
        assert line.port is not None
        async with FaultProxy(line.hostname, line.port) as proxy:
            url = f"mongodb://{proxy.host}:{proxy.port}/?directConnection=true"
            hub = HubProcess(tmp_path, url, DATABASE)
            try:
                await hub.start()
                async with Writers(lambda: [hub.url], connections=4, pause_s=0.01) as writers:
                    await writers.reached(50)
                    began = time.monotonic()
                    proxy.set(BAD_LINES[how])
                    before = len(writers.acknowledged)
                    await asyncio.sleep(BAD_S)
                    during = len(writers.acknowledged) - before
                    ended = time.monotonic()
                    proxy.set()
                    await proxy.drop_all()  # what was open while it was bad is not used again
                    await writers.reached(len(writers.acknowledged) + 20)
                assert during > BAD_S * 10, f"only {during} acknowledged in {BAD_S} s"
                took = sorted(
                    each.acked_at - each.sent_at
                    for each in writers.acknowledged
                    if began <= each.sent_at and each.acked_at <= ended
                )
                # The first of each connection may be in the group that finds out (it is free).
                p99 = percentile(took[: -len(writers._tasks)], 0.99)
                assert p99 < 1.0 * SLACK, f"p99 of acknowledging was {p99:.2f} s"
                async with store_of(mongod.url, DATABASE) as store:
                    await hub.drained()
                    await routed(store, 120)
                    await assert_nothing_lost_or_doubled(
                        store, writers.acknowledged, writers.attempted
                    )
                    await assert_in_order(store, writers.acknowledged)
                assert await hub.stop() == 0
            finally:
                await hub.close()


# --- a vendor over HTTP --------------------------------------------------------------------------


@asynccontextmanager
async def _hub_and_vendor(
    mongo_url: str, database: str, folder: Path
) -> AsyncIterator[tuple[RunningHub, HttpVendor, FaultProxy]]:
    async with HttpVendor() as vendor:
        there = urlsplit(str(vendor.settings["url"]))
        assert there.hostname is not None
        assert there.port is not None
        async with FaultProxy(there.hostname, there.port) as proxy:
            account = f"""
[[accounts]]
channel = "sample_poll"
key = "main"
url = "{proxy.url}{there.path}"
token = "{TOKEN}"
"""
            modules = {"plugin_modules": ["hub.testing.samples.poll"]}
            async with running_hub(
                mongo_url, database, folder, hub=modules, accounts=(), more=account
            ) as hub:
                yield hub, vendor, proxy


async def _somebody_wrote(hub: RunningHub, vendor: HttpVendor) -> Entry:
    """Let a customer write and return the entry that the poll brought."""
    async with vendor.asked:
        await vendor.asked.wait_for(lambda: "position" in vendor.calls)
    await vendor.says("hello")
    hub.hub.doors.hint(hub.hub.connectors[("sample_poll", "main")])

    async def come() -> Entry | None:
        found = await hub.hub.store.table(Entry).find({"channel": "sample_poll"})
        return found[0] if found else None

    entry = await hub.until("the customer's message", come)
    assert isinstance(entry, Entry)
    return entry


async def test_a_vendors_answer_lost_after_it_sent_our_message_doubles_nothing(
    mongo_url: str, mongo_db_name: str, tmp_path: Path
) -> None:
    """The vendor has the message once, and the timeline says in the end that it has."""
    async with _hub_and_vendor(mongo_url, mongo_db_name, tmp_path) as (hub, vendor, proxy):
        entry = await _somebody_wrote(hub, vendor)
        proxy.set(Faults(lose_answer=b"POST /api/messages"))
        page = await hub.get("/api/v1/customers")
        answered = await hub.post(
            f"/api/v1/customers/{page['customers'][0]['id']}/replies",
            {"address": entry.address, "parts": [{"type": "text", "text": "hi"}]},
            once="one",
        )
        assert answered.status == 202, answered
        await proxy.until(lambda counts: counts.answers_lost >= 1)
        assert [each.text for each in vendor.got()] == ["hi"]
        proxy.set()
        ident = answered.json["entry"]["id"]

        async def told() -> bool:
            sent = await hub.hub.store.table(Entry).get(ident)
            assert sent is not None
            assert sent.delivery is not None
            return sent.delivery.state is DeliveryState.ACCEPTED

        await hub.until("the answer to be accepted", told)
        assert [each.text for each in vendor.got()] == ["hi"]


async def test_a_vendor_that_refuses_connections_is_down_until_it_takes_them_again(
    mongo_url: str, mongo_db_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.doors.backoff_s", lambda _: 0.05)
    async with _hub_and_vendor(mongo_url, mongo_db_name, tmp_path) as (hub, vendor, proxy):
        await _somebody_wrote(hub, vendor)

        async def state() -> str:
            page = await hub.get("/api/v1/accounts")
            return f"{page['accounts'][0]['state']}: {page['accounts'][0]['reason']}"

        async def is_down() -> bool:
            return await state() == "down: the vendor cannot be reached"

        async def is_ok() -> bool:
            return await state() == "ok: "

        await proxy.refuse()
        await proxy.drop_all()
        hub.hub.doors.hint(hub.hub.connectors[("sample_poll", "main")])
        await hub.until("the account to be down", is_down)
        await proxy.accept()
        await hub.until("the account to be ok", is_ok)
