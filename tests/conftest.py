"""Fixtures for a real MongoDB: one server per run (and xdist worker), one database per test."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Generator, Iterator

import pytest

from tests.support.databases import Databases
from tests.support.mongo import OwnMongod, sockets_of_cancelled_connections_closed

# Long runs that say nothing about which lines are tested: watching every line of them would only
# make them two or three times as long.
UNWATCHED = (
    "accounts/test_processes.py",
    "accounts/test_rhythm.py::test_a_healthy",
    "accounts/test_rhythm.py::test_independent",
    "api/test_schemathesis.py",
    "desk/test_openapi.py",
    "e2e/",
    "faults/",
    "feed/test_mounted.py",
    "importing/test_kills.py",
    "mail/reading/test_bounds.py",
    "mail/reading/test_generated.py",
    "mail/test_end_to_end.py",
    "mail/test_one_timeline.py",
    "mail/test_two_hubs.py",
    "media/test_kills.py",
    "outbound/test_kills.py",
    "outbound/test_mix.py",
    "planners/test_identity.py::test_people_with_many",
    "planners/test_state_machine",
    "test_bench.py",
    "test_browser.py",
    "test_docs_samples.py",
    "vendors/test_bulk.py",
    "webhook/test_contract.py",
    "::TestDesk::test_many_conversations",
)

# Where a test looks at the collections themselves, or kills processes that may write belatedly.
FRESH = (
    "store/",
    "faults/",
    "importing/",
    "outbound/",
    "test_kills.py",
    "test_processes.py",
    "test_two_hubs.py",
)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Thousands of tests stay for the whole run: going through them again and again stalls it."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let nothing trace the long runs: pytest-cov's own marker has no effect in a worker."""
    if not any(place in item.nodeid for place in UNWATCHED):
        return (yield)
    tracing, in_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]
    try:
        return (yield)
    finally:
        sys.settrace(tracing)
        threading.settrace(in_threads)  # type: ignore[arg-type]


@pytest.fixture(scope="session", autouse=True)
def _no_sockets_left_by_pymongo() -> Iterator[None]:
    with sockets_of_cancelled_connections_closed():
        yield


@pytest.fixture(autouse=True)
def _logs_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that a test runs in its own process must not set up logging for the others."""
    for module in ("hub.cli", "hub.account_commands", "hub.importing.command"):
        monkeypatch.setattr(f"{module}.configure_logs", lambda *level_and_form: None)


@pytest.fixture(scope="session")
def mongod() -> Iterator[OwnMongod]:
    """The run's MongoDB. Do not kill or freeze it: others use it too (take an `OwnMongod`).

    Nothing expires by itself: many tests have clocks that are months behind the server's.
    """
    with OwnMongod(parameters={"ttlMonitorEnabled": "false"}) as server:
        yield server


@pytest.fixture(scope="session")
def mongod_url(mongod: OwnMongod) -> str:
    """The URL of the run's MongoDB."""
    return mongod.url


@pytest.fixture(scope="session")
def _databases(mongod: OwnMongod) -> Iterator[Databases]:
    with Databases(mongod.url) as databases:
        yield databases


@pytest.fixture
def mongo_db_name(request: pytest.FixtureRequest, _databases: Databases) -> Iterator[str]:
    """The name of a database of the test's own: empty, and emptied or dropped after it."""
    fresh = any(place in request.node.nodeid for place in FRESH)
    with _databases.fresh() if fresh else _databases.lent() as name:
        yield name


@pytest.fixture
def mongo_url(mongod_url: str, mongo_db_name: str) -> str:
    """The URL of the run's MongoDB, for a test that uses `mongo_db_name` on it."""
    return mongod_url
