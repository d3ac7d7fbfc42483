"""kill -9 at every step of a send: each answer leaves at most once or is unknown, none is lost.

Real: the hub as a process, MongoDB, HTTP to a strict vendor that outlives the hub.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest

from hub.api.keys import create_key
from hub.clock import SystemClock
from hub.documents import AddressDoc, DeadLetter, Entry, Job, Reservation
from hub.steps import STEPS
from hub.store.interface import StoreError
from hub.store.mongo import MongoStore
from hub.testing.samples.webhook import Push, signed_headers
from normalizer.model import Direction
from tests.outbound.vendor import TOKEN, StrictVendor
from tests.support.processes import SECRET, HubProcess
from tests.support.scale import scaled
from tests.support.truth import routed, store_of

JOB_STEPS = sorted(step for step in STEPS if step.startswith("jobs."))
PEOPLE = ("ann", "blind-bob", "carl")
EACH = 3
WITHIN_S = 90.0


class Killed:
    """A hub that is killed and started again, and answers that are asked of it meanwhile."""

    def __init__(self, hub: HubProcess, store: MongoStore, key: str) -> None:
        self.hub = hub
        self.store = store
        self._headers = {"Authorization": f"Bearer {key}"}
        self.asked: dict[str, str] = {}  # entry -> person

    async def open_windows(self) -> dict[str, str]:
        """Let everybody speak; return the customer of each."""
        async with aiohttp.ClientSession() as session:
            for who in PEOPLE:
                push = Push(id=f"m-{time.time_ns()}", sender=who, at=_now_ms(), text="help")
                body = msgspec.json.encode(push)
                headers = signed_headers(SECRET.encode(), int(time.time()), body)
                url = f"{self.hub.url}/in/strict/main"
                async with session.post(url, data=body, headers=headers) as told:
                    assert told.status == 200
        await routed(self.store)
        found = await self.store.table(AddressDoc).find({"scheme": "strict"})
        by_name = {doc.address.rpartition(":")[2]: doc.customer or "" for doc in found}
        return {who: by_name[who] for who in PEOPLE}

    async def ask(self, customers: dict[str, str]) -> None:
        """Ask for all answers; one whose hub dies is asked again under its key by the next."""
        for n in range(EACH):
            for who, customer in customers.items():
                await self._ask(who, customer, f"{who}-{n}-{time.time_ns()}")

    async def _ask(self, who: str, customer: str, once: str) -> None:
        body = {"parts": [{"type": "text", "text": once}]}
        headers = {**self._headers, "Idempotency-Key": once}
        ends = time.monotonic() + WITHIN_S
        while True:
            assert time.monotonic() < ends, "the hub takes no answer"
            try:
                async with aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=10)
                ) as session:
                    url = f"{self.hub.url}/api/v1/customers/{customer}/replies"
                    async with session.post(url, json=body, headers=headers) as told:
                        if told.status == 202:
                            self.asked[(await told.json())["entry_id"]] = who
                            return
                        assert told.status == 503, await told.text()
            except (aiohttp.ClientError, TimeoutError):
                pass  # it was killed: the same answer is asked of its successor
            await asyncio.sleep(0.05)

    async def ended(self) -> None:
        """Wait until every answer and its outcome are done."""
        async with asyncio.timeout(WITHIN_S):
            while await self._open():
                await asyncio.sleep(0.05)
        await routed(self.store)

    async def _open(self) -> bool:
        try:
            await routed(self.store)
            return bool(await self.store.table(Job).count({"live": True, "kind": "send"}))
        except StoreError:
            return True

    async def assert_each_at_most_once(self, vendor: StrictVendor) -> None:
        entries = await self.store.table(Entry).find({"direction": str(Direction.OUT)})
        jobs = {job.entry: job for job in await self.store.table(Job).find({"kind": "send"})}
        places = {
            each.holder.split("|")[0] for each in await self.store.table(Reservation).find({})
        }
        letters = {each.ref for each in await self.store.table(DeadLetter).find({})}
        assert {entry.id for entry in entries} >= self.asked.keys(), "an answer was forgotten"
        assert vendor.violations == []
        for entry in entries:
            job, delivery = jobs[entry.id], entry.delivery
            assert delivery is not None
            arrived = vendor.by_key[job.id]
            match delivery.state:
                case "accepted":
                    assert arrived == 1, entry
                case "unknown":
                    assert arrived <= 1, entry
                    assert self.asked[entry.id].startswith("blind")
                    assert job.id in letters, "nobody is shown that it is unknown"
                case _:  # answers of the cycle before used the new window up
                    assert (delivery.state, delivery.code) == ("failed", "window_spent"), entry
                    assert arrived == 0, entry
            if delivery.state == "unknown" and not arrived:
                continue  # killed before it took its place, or after
            assert (job.id in places) is (delivery.state != "failed"), entry
        for who, texts in vendor.arrived.items():
            ordered = [int(text.rpartition("-")[2]) for text in texts]
            assert ordered == sorted(set(ordered)), f"{who} got {texts}"


def _now_ms() -> int:
    return int(time.time() * 1000)


@asynccontextmanager
async def killed(
    folder: Path, mongo_url: str, database: str, vendor: StrictVendor
) -> AsyncIterator[Killed]:
    more = f"""
[[accounts]]
channel = "strict"
key = "main"
secrets = ["{SECRET}"]
url = "{vendor.url}"
token = "{TOKEN}"
"""
    hub = HubProcess(
        folder,
        mongo_url,
        database,
        modules=("hub.testing.samples.webhook", "tests.outbound.vendor"),
        more=more,
    )
    try:
        await hub.start()
        async with store_of(mongo_url, database) as store:
            _, key = await create_key(store, SystemClock(), "test", ["admin"])
            yield Killed(hub, store, key)
        assert await hub.stop() == 0
    finally:
        await hub.close()


@pytest.mark.parametrize("step", JOB_STEPS)
async def test_a_stop_at_a_step_of_a_send_sends_nothing_twice_and_forgets_nothing(
    step: str, tmp_path: Path, mongod_url: str, mongo_db_name: str
) -> None:
    async with (
        StrictVendor() as vendor,
        killed(tmp_path, mongod_url, mongo_db_name, vendor) as world,
    ):
        customers = await world.open_windows()
        assert await world.hub.stop() == 0
        await world.hub.start({"OMNILINE_STOP_AT": f"{step}:{scaled(3, 5)}"})
        asking = asyncio.create_task(world.ask(customers))
        assert await world.hub.died() == -9, "the hub never reached the step"
        await world.hub.start()
        await asking
        await world.ended()
        await world.assert_each_at_most_once(vendor)


@pytest.mark.soak
@pytest.mark.timeout(scaled(240, 3600))
async def test_random_kills_while_answers_leave_send_nothing_twice_and_forget_nothing(
    tmp_path: Path, mongod_url: str, mongo_db_name: str
) -> None:
    """Ten cycles (200 in full): a kill at any moment while a slow, troubled vendor is called."""
    random_ = random.Random(11)
    async with (
        StrictVendor(seed=3, trouble=0.2) as vendor,
        killed(tmp_path, mongod_url, mongo_db_name, vendor) as world,
    ):
        vendor.one_window = False
        for _ in range(scaled(10, 200)):
            customers = await world.open_windows()
            asking = asyncio.create_task(world.ask(customers))
            await asyncio.sleep(random_.uniform(0.05, 0.6))  # the moment is the test
            world.hub.kill()
            await world.hub.died()
            await world.hub.start()
            await asking
        await world.ended()
        await world.assert_each_at_most_once(vendor)
