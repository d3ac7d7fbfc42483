"""The OpenAPI document, made from the very routes that are mounted and structs that are used.

A route says what it takes and answers by :func:`operation`. Where a schema belongs, the struct
itself stands; :func:`document` puts references in their place, so that nothing can drift apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, get_origin

import msgspec

from hub.api.access import PUBLIC
from hub.api.bodies import IDEMPOTENCY_PATTERN, PATH_IDS
from hub.api.keys import SCOPES
from hub.api.problems import TYPE_BASE, TYPES, Problem
from hub.plugin_context import PluginRoute

_MEANING = {
    400: "The request cannot be read",
    401: "No key, or not a valid one",
    403: "The key lacks the scope",
    404: "There is no such thing",
    409: "Something stands against it",
    410: "It was erased",
    413: "The body is too large",
    415: "The body is in another format",
    422: "The request has another shape than this document says",
    429: "Too many requests",
    503: "Not now: come again after Retry-After seconds",
}
_ALWAYS = (429, 503)
_BEHIND_KEYS = (401, 403)
_REF = "#/components/schemas/{name}"
_VARIABLE = re.compile(r"\{(\w+)\}")


def operation(
    summary: str,
    *,
    tag: str,
    answer: Any = None,
    status: int = 200,
    also: Mapping[int, Any] | None = None,
    query: type[msgspec.Struct] | None = None,
    body: Any = None,
    body_required: bool = True,
    problems: Sequence[int] = (),
    once: bool = False,
    description: str = "",
) -> dict[str, Any]:
    """Return an OpenAPI operation object.

    ``answer``, ``also``, ``query`` and ``body`` are types: what is answered with ``status``, with
    other statuses, and what is taken. ``once``: the route heeds Idempotency-Key.
    """
    told: dict[str, Any] = {
        str(code): _answer(summary, kind) for code, kind in {status: answer, **(also or {})}.items()
    }
    codes = {*problems, *_ALWAYS}
    if query is not None:
        codes.add(422)
    if body is not None:
        codes |= {400, 413, 415, 422}
    told |= {str(code): _problem(code) for code in sorted(codes)}
    described: dict[str, Any] = {
        "summary": summary,
        "tags": [tag],
        "parameters": _query_parameters(query) if query is not None else [],
        "responses": told,
    }
    if description:
        described["description"] = description
    if once:
        described["parameters"].append(_IDEMPOTENCY_KEY)
    if body is not None:
        described["requestBody"] = {
            "required": body_required,
            "content": {"application/json": {"schema": body}},
        }
    return described


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same request under the same key is carried out once.",
    "schema": {"type": "string", "pattern": IDEMPOTENCY_PATTERN},
}


def _answer(summary: str, kind: Any) -> dict[str, Any]:
    if kind is None:
        return {"description": summary}
    return {"description": summary, "content": {"application/json": {"schema": kind}}}


def _problem(code: int) -> dict[str, Any]:
    return {
        "description": _MEANING[code],
        "content": {"application/problem+json": {"schema": Problem}},
    }


def _query_parameters(query: type[msgspec.Struct]) -> list[dict[str, Any]]:
    """Return the members of a struct as parameters, bounds and descriptions included."""
    _, components = msgspec.json.schema_components([query], ref_template=_REF)
    schema = components[query.__name__]
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "description": member.pop("description", ""),
            "schema": member,
        }
        for name, member in schema["properties"].items()
    ]


def document(routes: Iterable[PluginRoute], server: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of these routes, mounted below ``server``."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _described(route)
    kinds = list(_kinds(paths))
    schemas, components = msgspec.json.schema_components([*kinds, Problem], ref_template=_REF)
    told = {_key(kind): schema for kind, schema in zip(kinds, schemas, strict=False)}
    if "Media" in components:  # only the hub and its connectors see it: hub/api/views.py
        components["Media"]["properties"].pop("vendor_ref")
    components["Problem"]["properties"]["type"]["enum"] = [TYPE_BASE + name for name in TYPES]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Omniline",
            "version": _version(),
            "description": "Every channel in one customer timeline, any ticketing backend.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server}],
        "paths": _resolved(paths, told),
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, made by `omniline keys create`.",
                },
                "session": {"type": "apiKey", "in": "cookie", "name": "omniline_session"},
            },
        },
        "security": [{"key": []}, {"session": []}],
    }


def _described(route: PluginRoute) -> dict[str, Any]:
    """Add what follows from the route itself: its id, its scope, its path's parameters."""
    described = dict(route.operation)
    described.setdefault("operationId", _operation_id(route))
    described["responses"] = dict(described.get("responses", {}))
    described["parameters"] = [*described.get("parameters", ()), *_path_parameters(route)]
    if _VARIABLE.search(route.path):
        described["responses"].setdefault("404", _problem(404))
    if route.scope == PUBLIC:
        described["security"] = []
        return described
    for code in (*_BEHIND_KEYS, *_ALWAYS):
        described["responses"].setdefault(str(code), _problem(code))
    described["x-scope"] = route.scope
    needs = f"Scope: `{route.scope}`. {SCOPES.get(route.scope, '')}".strip()
    said = described.get("description", "")
    described["description"] = f"{said}\n\n{needs}" if said else needs
    return described


def _path_parameters(route: PluginRoute) -> Iterable[dict[str, Any]]:
    """Yield the parameters of the path that the operation itself does not describe."""
    given = {
        each.get("name")
        for each in route.operation.get("parameters", ())
        if each.get("in") == "path"
    }
    for name in _VARIABLE.findall(route.path):
        if name in given:
            continue
        schema: dict[str, Any] = {"type": "string"}
        if name in PATH_IDS and not route.path.startswith("/api/v1/x/"):
            schema["pattern"] = PATH_IDS[name]
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _operation_id(route: PluginRoute) -> str:
    words = re.sub(r"^/(api|feed)/v1/|[{}]", "", route.path)
    return f"{route.method.lower()}_" + re.sub(r"\W+", "_", words).strip("_")


def _is_kind(value: Any) -> bool:
    return isinstance(value, type) or get_origin(value) is not None


def _kinds(value: Any) -> Iterable[Any]:
    """Yield every type that stands where a schema belongs, once."""
    seen: set[str] = set()
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if _is_kind(each):
            if _key(each) not in seen:
                seen.add(_key(each))
                yield each
        elif isinstance(each, Mapping):
            waiting += each.values()
        elif isinstance(each, list | tuple):
            waiting += each


def _key(kind: Any) -> str:
    return f"{getattr(kind, '__module__', '')}.{kind!r}"


def _resolved(value: Any, told: Mapping[str, Any]) -> Any:
    if _is_kind(value):
        return told[_key(value)]
    if isinstance(value, Mapping):
        return {name: _resolved(member, told) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved(each, told) for each in value]
    return value


def _version() -> str:
    try:
        return version("omniline")
    except PackageNotFoundError:
        return "0"
