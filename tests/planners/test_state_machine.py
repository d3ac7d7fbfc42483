"""Whatever happens in whatever order, the planners come to what the model comes to.

Messages, repetitions, links, merges, their undo, closing, reopening, splits, joins and erasures, in
batches of any size, over the in-memory store. `OMNILINE_SCALE=full` tries 10 000 examples.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from hub.store.memory import MemoryStore
from tests.planners.harness import run_now
from tests.planners.machine import machine_for
from tests.support.scale import scaled

EXAMPLES = scaled(2_000, 10_000)
STEPS = scaled(20, 30)


@pytest.mark.soak
@pytest.mark.timeout(3600 if EXAMPLES > 5000 else 300)
def test_the_planners_and_the_model_agree() -> None:
    run_state_machine_as_test(
        machine_for(MemoryStore, run_now),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
