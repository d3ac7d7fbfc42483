"""What a text would cost, for pages that show it while an agent types.

POST /api/v1/x/sms/segments {"text": "您好"} -> {"encoding": "ucs2", "units": 2, "parts": 1, ...}
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from aiohttp import web

from connectors.sms.segments import Segments, segments
from hub import PluginContext, PluginRoute, Refusal

MAX_CHARS = 10_000
MAX_BODY_BYTES = 64 * 1024


class Typed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody has typed so far."""

    text: Annotated[str, msgspec.Meta(max_length=MAX_CHARS)]


async def count(request: web.Request) -> web.Response:
    """Answer with the segments of a text. Keeps nothing."""
    if request.content_type != "application/json":
        raise Refusal("unsupported-media-type", "send JSON: Content-Type: application/json", 415)
    body = await request.content.read(MAX_BODY_BYTES + 1)
    while len(body) <= MAX_BODY_BYTES and not request.content.at_eof():
        body += await request.content.read(MAX_BODY_BYTES + 1 - len(body))
    if len(body) > MAX_BODY_BYTES:
        raise Refusal("too-large", f"a text has at most {MAX_CHARS} characters", 413)
    try:
        typed = msgspec.json.decode(body, type=Typed)
    except msgspec.ValidationError as error:
        raise Refusal("bad-request", str(error), 422) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("bad-request", "the body is not JSON", 400) from error
    return web.Response(
        body=msgspec.json.encode(segments(typed.text)), content_type="application/json"
    )


def register(context: PluginContext) -> None:
    context.register_route(
        PluginRoute(
            method="POST",
            path="/segments",
            handler=count,
            scope="replies:write",
            operation=_operation(),
        )
    )


_PROBLEMS = {
    400: "The body is not JSON",
    401: "No key, or not a valid one",
    403: "The key lacks the scope",
    413: "The body is too large",
    415: "The body is not sent as JSON",
    422: "The body has another shape than the schema",
    429: "Too many requests",
    503: "Not now: try again later",
}


def _operation() -> dict[str, Any]:
    problem = {"type": "object", "required": ["type", "title", "status", "detail"]}
    return {
        "operationId": "sms_segments",
        "summary": "How many parts a text is billed as",
        "tags": ["sms"],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _schema(Typed)}},
        },
        "responses": {
            "200": {
                "description": "Encoding, units and parts",
                "content": {"application/json": {"schema": _schema(Segments)}},
            },
            **{
                str(code): {
                    "description": said,
                    "content": {"application/problem+json": {"schema": problem}},
                }
                for code, said in _PROBLEMS.items()
            },
        },
    }


def _schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return a struct's schema as it stands: its parts need no names of their own."""
    _, components = msgspec.json.schema_components([kind], ref_template="#/{name}")
    return dict(components[kind.__name__])
