"""Requests read and answers written: headers, numbers, JSON, and errors as the ``error`` frame."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from aiohttp import web

from connectors.site.errors import SiteError
from connectors.site.frames import error_frame
from hub import Refused, Request

PAGE_LIMIT = 100
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Routes = list[tuple[str, str, Handler]]
_encode = msgspec.json.Encoder().encode


def json_response(told: Any, *, status: int = 200) -> web.Response:
    return web.Response(
        body=_encode(told),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def error_response(error: SiteError) -> web.Response:
    response = json_response(error_frame(error), status=error.status)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    return response


def cors(origin: str | None) -> dict[str, str]:
    if origin is None:
        return {"Vary": "Origin"}
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def bearer(headers: Mapping[str, str]) -> str:
    """Return the bearer token. Raises :class:`SiteError` (auth_required)."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise SiteError("auth_required", "an Authorization header with a bearer token is needed")
    return token.strip()


def refused_as_error(refused: Refused) -> SiteError:
    cause = refused.__cause__
    return cause if isinstance(cause, SiteError) else SiteError("auth_required", refused.reason)


def hub_request(request: web.Request, body: bytes, now: datetime) -> Request:
    """Return the request as connectors see vendors' requests."""
    prefix, sep, rest = request.path.partition("/conversations/")
    return Request(
        method=request.method,
        url=str(request.url),
        path=sep + rest if sep else prefix,
        query_string=request.rel_url.raw_query_string,
        headers=lower(request.headers),
        body=body,
        remote=request.remote or "",
        received_at=now,
    )


def number(request: web.Request, name: str, otherwise: int) -> int:
    text = request.query.get(name, "")
    if not text:
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise SiteError("bad_frame", f"{name} is a whole number")
    return int(text)


def place(request: web.Request) -> tuple[str, str]:
    seq = request.match_info["seq"]
    if not (seq.isascii() and seq.isdigit() and len(seq) <= 15):
        raise SiteError("conversation_not_found", "there is no such message")
    return request.match_info["id"], seq
