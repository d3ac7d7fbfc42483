"""The same machine as `test_state_machine.py`, over a real MongoDB: what is stored comes back.

Conditions, arrays, missing values and the transaction are the database's here. One database for
all examples, emptied for each. `OMNILINE_SCALE=full` tries 300 examples.
"""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from hub.documents import CORE
from hub.store.codec import Codec
from hub.store.driver import open_driver
from hub.store.interface import Store
from hub.store.mongo import MongoStore
from tests.planners.machine import machine_for

FULL = os.environ.get("OMNILINE_SCALE") == "full"
EXAMPLES = 300 if FULL else 50
STEPS = 30


@pytest.mark.soak
@pytest.mark.timeout(1800 if FULL else 300)
def test_the_planners_and_the_model_agree_over_mongodb(mongo_url: str, mongo_db_name: str) -> None:
    with asyncio.Runner() as runner:

        async def opened() -> MongoStore:
            store = MongoStore(await open_driver(mongo_url, mongo_db_name), Codec())
            await store.prepare(CORE)
            return store

        async def emptied() -> None:
            await asyncio.gather(*(store.table(kind).delete({}) for kind in CORE))

        def empty_store() -> Store:
            runner.run(emptied())
            return store

        store = runner.run(opened())
        try:
            run_state_machine_as_test(
                machine_for(empty_store, runner.run),
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=STEPS,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(store.close())
