"""What plugin authors' tests import: contract suites, a fake hub, a clock that is set by hand.

::

    from hub.testing import ConnectorContract, FakeServices, FakeVendor

Names are loaded when they are asked for: the sample connectors below this package run in
environments without pytest.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hub.store.memory import MemoryStore
    from hub.testing.backend_contract import TicketBackendContract
    from hub.testing.backend_faults import Fault, FaultyBackend
    from hub.testing.clock import FakeClock
    from hub.testing.connector_contract import ConnectorContract
    from hub.testing.fake_vendor import FakeVendor, Got, Mood
    from hub.testing.golden import check_golden
    from hub.testing.services import FakeServices

__all__ = [
    "ConnectorContract",
    "FakeClock",
    "FakeServices",
    "FakeVendor",
    "Fault",
    "FaultyBackend",
    "Got",
    "MemoryStore",
    "Mood",
    "TicketBackendContract",
    "check_golden",
]

_HOMES = {
    "ConnectorContract": "hub.testing.connector_contract",
    "FakeClock": "hub.testing.clock",
    "FakeServices": "hub.testing.services",
    "FakeVendor": "hub.testing.fake_vendor",
    "Fault": "hub.testing.backend_faults",
    "FaultyBackend": "hub.testing.backend_faults",
    "Got": "hub.testing.fake_vendor",
    "MemoryStore": "hub.store.memory",
    "Mood": "hub.testing.fake_vendor",
    "TicketBackendContract": "hub.testing.backend_contract",
    "check_golden": "hub.testing.golden",
}
_SUITES = (
    "hub.testing.backend_contract",
    "hub.testing.backend_dispatch",
    "hub.testing.connector_checks",
)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name.endswith("Contract"):
        import pytest

        # So that a failed assertion of a suite shows its values, as those in test files do.
        pytest.register_assert_rewrite(*(suite for suite in _SUITES if suite not in sys.modules))
    return getattr(importlib.import_module(_HOMES[name]), name)
