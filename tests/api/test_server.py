"""What a caller is told about a path that leads nowhere, and a balancer about the process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from hub.api.bodies import PATH_IDS, path_id
from hub.planning.rules import Refusal
from hub.web import Web

TOLD = {
    "customer": "no id of a customer: one is like cus_...",
    "entry": "no id of an entry: one is like ent_...",
    "letter": "no id of a dead letter: one is like ded_...",
    "operation": "no id of an operation: one is like op_...",
    "import": "no id of an import: one is like imp_...",
    "account": "no id of an account: one is like wechat:shop",
    "thing": "no id of an item, entry, job or event: one is like in_..., ent_...",
}


@pytest.mark.parametrize("name", PATH_IDS)
def test_what_cannot_be_an_id_is_told_with_what_one_looks_like(name: str) -> None:
    request = make_mocked_request("GET", "/", match_info={name: "!"})
    with pytest.raises(Refusal) as refusal:
        path_id(request, name)
    assert TOLD.get(name, "one is like ") in refusal.value.detail


async def test_paths_and_methods_that_are_not_there_say_where_to_look() -> None:
    async with _client() as client:
        nowhere = await client.get("/api/v1/customer")
        assert nowhere.status == 404
        assert "/openapi.json" in (await nowhere.json())["detail"]
        method = await client.put("/readyz")
        assert method.status == 405
        assert "this path takes GET" in (await method.json())["detail"]


@pytest.mark.parametrize(
    ("problems", "takes", "status", "told"),
    [
        ([], True, 200, "ready"),
        (["database: no answer within 1 s"], True, 200, "degraded"),
        (["full: 1000000 items wait for the router"], False, 503, "not ready"),
    ],
)
async def test_a_process_is_ready_as_long_as_it_keeps_deliveries(
    problems: list[str], takes: bool, status: int, told: str
) -> None:
    """With the database away the spool takes them: no balancer may turn all processes away."""
    async with _client(problems, takes=takes) as client:
        answer = await client.get("/readyz")
        assert answer.status == status
        assert await answer.json() == {"status": told, "problems": problems}


def _client(problems: Sequence[str] = (), *, takes: bool = True) -> TestClient[Any, Any]:
    """The hub's HTTP server by itself: no database, no accounts."""
    nothing: Any = None

    async def wrong() -> Sequence[str]:
        return problems

    app = Web(
        *(nothing, nothing, nothing, nothing, nothing),
        connectors={},
        backends={},
        ready=wrong,
        takes=lambda: takes,
        inbound=lambda channel, account: "on",
    ).build()
    return TestClient(TestServer(app))
