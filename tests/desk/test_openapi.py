"""The desk's OpenAPI operations say truly what its routes take and answer: schemathesis tries."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
import schemathesis
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from schemathesis.specs.openapi.checks import positive_data_acceptance

from hub.testing.services import FakeServices
from plugins import desk as desk_plugin
from plugins.desk.backend import DeskBackend
from plugins.desk.settings import DeskSettings
from tests.desk.support import open_ticket

EXAMPLES = 100 if os.environ.get("OMNILINE_SCALE") == "full" else 12  # each way, per operation


def document(services: FakeServices, ticket: str = "") -> dict[str, Any]:
    """Return an OpenAPI document of the registered routes; with ``ticket`` all are about it."""
    paths: dict[str, Any] = {}
    for plugin, route in services.routes:
        operation = dict(route.operation)
        if ticket:
            operation["parameters"] = [
                {**one, "schema": {"type": "string", "enum": [ticket]}}
                if one["name"] == "id"
                else one
                for one in operation["parameters"]
            ]
        paths.setdefault(f"/api/v1/x/{plugin}{route.path}", {})[route.method.lower()] = operation
    return {"openapi": "3.1.0", "info": {"title": "desk", "version": "1"}, "paths": paths}


@pytest.fixture
async def services() -> FakeServices:
    services = FakeServices()
    await desk_plugin.plugin_started(services.context("desk"))
    return services


def test_every_schema_is_one_and_refuses_what_it_does_not_name(services: FakeServices) -> None:
    """Bodies and answers are closed; problem documents may have further members."""
    idents = set()
    for _, route in services.routes:
        idents.add(route.operation["operationId"])
        taken = route.operation.get("requestBody", {}).get("content", {})
        given_back = [answer["content"] for answer in route.operation["responses"].values()]
        for content in [taken, *given_back]:
            for kind, media in content.items():
                Draft202012Validator.check_schema(media["schema"])
                if kind == "application/json":
                    assert media["schema"]["additionalProperties"] is False
    assert len(idents) == len(services.routes) == 5


@pytest.mark.parametrize("about", ["any", "a ticket that is there"])
async def test_the_routes_do_what_the_document_says(services: FakeServices, about: str) -> None:
    """Valid requests are taken, invalid ones refused, and every answer is one of those declared."""
    backend = DeskBackend("counter", DeskSettings(), services.context("desk"))
    await backend.start()
    ticket = (await open_ticket(backend)).id if about != "any" else ""
    app = services.web_app("desk:read", "desk:write")
    async with TestServer(app) as server:
        base = str(server.make_url("/"))
        await asyncio.to_thread(_try_everything, document(services, ticket), base)
    if ticket:
        assert (await backend.desk.ticket(ticket)).entries > EXAMPLES // 2


def _try_everything(described: dict[str, Any], base: str) -> None:
    schema = schemathesis.openapi.from_dict(described)
    schema.config.update(base_url=base)
    tried = 0
    found: Any
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            strategy = operation.as_strategy(generation_mode=mode)

            @given(case=strategy)
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def attempt(case: schemathesis.Case[Any]) -> None:
                nonlocal tried
                tried += 1
                case.call_and_validate(excluded_checks=_does_not_apply(case))

            attempt()
    assert tried > 5 * EXAMPLES


def _does_not_apply(case: schemathesis.Case[Any]) -> list[Any]:
    # A cursor is signed: one that a machine made up is refused, whatever it looks like. A queue
    # has to be configured.
    made_up = "cursor" in (case.query or {})
    if isinstance(case.body, dict) and "queue" in case.body:
        made_up = True
    return [positive_data_acceptance] if made_up else []
