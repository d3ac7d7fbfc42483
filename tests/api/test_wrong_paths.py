"""What a caller is told about a path that leads nowhere: what there is instead."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from hub.api.bodies import PATH_IDS, path_id
from hub.planning.rules import Refusal
from tests.support.hubs import RunningHub

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


async def test_paths_and_methods_that_are_not_there_say_where_to_look(api: RunningHub) -> None:
    nowhere = await api.call("GET", "/api/v1/customer")
    assert (nowhere.status, nowhere.problem) == (404, "not-found")
    assert "/openapi.json" in nowhere.json["detail"]
    method = await api.call("PUT", "/api/v1/customers")
    assert (method.status, method.problem) == (405, "method-not-allowed")
    assert "this path takes GET" in method.json["detail"]
