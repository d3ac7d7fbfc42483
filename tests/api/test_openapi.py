"""The OpenAPI document and the mounted routes are the same thing."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import hub as hub_package
from hub.api.keys import SCOPES
from hub.api.problems import TYPE_BASE, TYPES
from hub.api.routes import ROUTES, plugin_routes
from hub.plugin_context import PluginRoute
from tests.support.hubs import RunningHub

# What is no part of the API: vendors, backends, people's pages, operations.
ELSEWHERE = (
    "/in/",
    "/site/",
    "/backends/",
    "/console",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
)


def mounted(api: RunningHub) -> set[tuple[str, str]]:
    """Return (method, path) of everything that the application answers."""
    return {
        (route.method, route.resource.canonical)
        for route in api.app.router.routes()
        if route.resource is not None and not route.resource.canonical.startswith(ELSEWHERE)
    }


async def document(api: RunningHub) -> dict[str, Any]:
    found: dict[str, Any] = await api.get("/openapi.json", key="")
    return found


async def test_what_is_mounted_is_described_and_the_reverse(api: RunningHub) -> None:
    described = {
        (method.upper(), path)
        for path, item in (await document(api))["paths"].items()
        for method in item
    }
    assert described == mounted(api)
    assert ("POST", "/api/v1/customers/{customer}/replies") in described
    assert any(path.startswith("/feed/v1/") for _, path in described)


async def test_every_operation_says_its_scope_its_errors_and_a_name_of_its_own(
    api: RunningHub,
) -> None:
    names = []
    for path, item in (await document(api))["paths"].items():
        for method, operation in item.items():
            where = f"{method} {path}"
            names.append(operation["operationId"])
            assert operation["summary"], where
            assert {"429", "503"} <= operation["responses"].keys(), where
            if operation.get("security") != []:
                assert {"401", "403"} <= operation["responses"].keys(), where
                assert operation["x-scope"], where
            variables = set(re.findall(r"\{(\w+)\}", path))
            given = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert variables == given, where
    assert len(names) == len(set(names))


async def test_every_reference_leads_somewhere(api: RunningHub) -> None:
    found = await document(api)

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for member in value.values():
                yield from references(member)
        elif isinstance(value, list):
            for member in value:
                yield from references(member)

    for reference in set(references(found)):
        assert reference.removeprefix("#/components/schemas/") in found["components"]["schemas"]


async def test_schemas_are_the_structs_own(api: RunningHub) -> None:
    """An answer that lost a member, or got another type, does not fit the document."""
    entry = await api.message("hello")
    found = await document(api)
    schema = {
        "$ref": "#/components/schemas/EntryDetail",
        "components": found["components"],
    }
    detail = await api.get(f"/api/v1/entries/{entry.id}")
    jsonschema.validate(detail, schema)
    for broken in ({**detail["entry"], "direction": "sideways"}, {"id": entry.id}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**detail, "entry": broken}, schema)


async def test_every_problem_type_is_listed(api: RunningHub) -> None:
    schema = (await document(api))["components"]["schemas"]["Problem"]
    assert schema["properties"]["type"]["enum"] == [TYPE_BASE + name for name in TYPES]


def test_every_refusal_of_the_hub_has_a_problem_type() -> None:
    """What the code refuses with is a type of problems.py, so that callers can rely on it."""
    used = {name for path in Path(hub_package.__path__[0]).rglob("*.py") for name in _refused(path)}
    assert "conversation-moved-on" in used
    assert used <= TYPES.keys()


def _refused(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
            "Refusal",
            "problem_response",
        ):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant):
                yield str(first.value)


async def test_every_scope_of_a_route_can_be_given_to_a_key(api: RunningHub) -> None:
    scopes = {route.scope for route in api.app[ROUTES]} - {"public", "anybody"}
    plugins = {route.scope for route in plugin_routes(api.hub)}
    assert scopes - plugins <= SCOPES.keys()


async def test_a_plugins_route_is_mounted_behind_its_scope_and_described(
    api: RunningHub,
) -> None:
    """Bundled plugins' routes stand below /api/v1/x/<plugin>."""
    described = (await document(api))["paths"]
    routes = plugin_routes(api.hub)
    assert routes, "no bundled plugin registers a route: then this test needs one of its own"
    for route in routes:
        assert route.path.startswith("/api/v1/x/")
        assert route.method.lower() in described[route.path]
        assert described[route.path][route.method.lower()]["x-scope"] == route.scope
        path = re.sub(r"\{\w+\}", "tkt_0000000000000000000000000", route.path)
        stranger = await api.make_key("feed:read")
        assert (await api.call(route.method, path, key=stranger)).status == 403
        assert (await api.call(route.method, path, key="")).status == 401


async def test_a_plugin_cannot_open_a_route_to_everybody(api: RunningHub) -> None:
    async def handler(request: Any) -> Any:
        raise AssertionError("nobody asks")

    for scope in ("", "public", "anybody"):
        route = PluginRoute(method="GET", path="/all", handler=handler, scope=scope, operation={})
        api.hub.services.add_route("acme", route)
        with pytest.raises(ValueError, match="without a scope"):
            plugin_routes(api.hub)
        api.hub.services.routes.pop()


async def test_the_document_is_json_of_openapi_31(api: RunningHub) -> None:
    answered = await api.call("GET", "/openapi.json", key="")
    found = json.loads(answered.body)
    assert found["openapi"] == "3.1.0"
    assert found["servers"] == [{"url": api.hub.url}]
