"""What the poll sample makes of a vendor's errors, beyond what the contract asks."""

from __future__ import annotations

import socket

import aiohttp
import pytest

from hub.testing import FakeServices
from hub.testing.samples.poll import failure_of
from normalizer.outcomes import (
    Failure,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
)
from tests.samples import test_contract as contract


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Misconfigured),
        (403, Misconfigured),
        (404, Rejected),
        (429, RateLimited),
        (500, OutcomeUnknown),
        (503, Temporary),
    ],
)
def test_each_status_has_its_outcome(status: int, kind: type[Failure]) -> None:
    assert type(failure_of(status, {})) is kind


@pytest.mark.parametrize(("given", "waits"), [("7", 7), ("", 60), ("soon", 60), ("-1", 60)])
def test_a_rate_limit_says_how_long(given: str, waits: float) -> None:
    failure = failure_of(429, {"Retry-After": given})
    assert isinstance(failure, RateLimited)
    assert failure.retry_after == waits


async def test_a_port_where_nobody_listens_is_temporary_and_told_by_check() -> None:
    """Nothing was sent, so it may be tried again."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with aiohttp.ClientSession() as http:
            services = FakeServices(http=http)
            connector = contract.TestSamplePoll().make_connector({"url": url}, services=services)
            with pytest.raises(Temporary):
                await connector.poll("1")
            assert await connector.check() == ["the vendor cannot be reached"]
