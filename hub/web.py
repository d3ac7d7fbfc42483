"""The HTTP server: the doors for vendors, backends and connectors' own paths, and operations.

The API below ``/api``, the feed and the console are added by their own packages.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

import structlog
from aiohttp import web
from prometheus_client import generate_latest

from hub.api.problems import problem, problem_response
from hub.backend_contract import TicketBackend
from hub.clock import Clock
from hub.contract import Connector, Refused, Request
from hub.inbox_writer import Overloaded
from hub.intake import Intake
from hub.metrics import Metrics
from hub.overload import Overload
from hub.services import HubServices
from hub.store.interface import StoreError

log = structlog.get_logger(__name__)

RETRY_AFTER_S = "5"
OVERLOADED: web.AppKey[Callable[[], None]] = web.AppKey("overloaded")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Web:
    """Builds the application; one per process."""

    def __init__(
        self,
        intake: Intake,
        overload: Overload,
        services: HubServices,
        metrics: Metrics,
        clock: Clock,
        *,
        connectors: Mapping[tuple[str, str], Connector[Any]],
        backends: Mapping[str, TicketBackend],
        ready: Callable[[], Awaitable[Sequence[str]]],
        takes: Callable[[], bool],
        overloaded: Callable[[], None] = lambda: None,
        inbound: Callable[[str, str], str],
        public_url: str = "",
        trusted_proxies: Sequence[str] = (),
        max_body_bytes: int = 1024 * 1024,
    ) -> None:
        self._intake = intake
        self._overload = overload
        self._services = services
        self._metrics = metrics
        self._clock = clock
        self._connectors = connectors
        self._backends = backends
        self._ready = ready
        self._takes = takes
        self._overloaded = overloaded
        self._inbound = inbound
        self._trusted = [ip_network(each) for each in trusted_proxies]
        self._max_body_bytes = max_body_bytes
        self.public_url = public_url

    def build(self) -> web.Application:
        app = web.Application(middlewares=[errors_as_problems], client_max_size=64 * 1024 * 1024)
        app[OVERLOADED] = self._overloaded
        app.router.add_route("*", "/in/{channel}/{account}{sub:(/.*)?}", self._vendor)
        app.router.add_post("/backends/{name}/events", self._backend)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics_page)
        for (_, key), connector in self._connectors.items():
            if connector.mount == "in":
                continue
            for route in connector.routes():
                app.router.add_route(
                    route.method,
                    f"/{connector.mount}/{key}{route.path}",
                    self._for_caller(route.handler),
                )
        app.on_shutdown.append(self._drain)
        return app

    async def _drain(self, app: web.Application) -> None:
        """Let connectors say goodbye on their open connections."""
        for connector in self._connectors.values():
            try:
                await connector.drain()
            except Exception:
                log.exception("connector_not_drained", account=connector.account.key)

    def _for_caller(self, handler: Handler) -> Handler:
        """Let a connector's own path see the caller's address behind trusted proxies."""
        if not self._trusted:
            return handler

        async def handle(request: web.Request) -> web.StreamResponse:
            return await handler(request.clone(remote=self.remote(request)))

        return handle

    # --- vendors -------------------------------------------------------------------------------

    async def _vendor(self, request: web.Request) -> web.StreamResponse:
        began = time.perf_counter()
        place = (request.match_info["channel"], request.match_info["account"])
        connector = self._connectors.get(place)
        if connector is None or connector.mount != "in" or self._inbound(*place) == "off":
            raise web.HTTPNotFound
        self._overload.admit_webhook()
        body = await read_body(request, min(connector.max_body_bytes, self._max_body_bytes))
        vendor = Request(
            method=request.method,
            url=self.public_url + request.raw_path,
            path=request.match_info["sub"],
            query_string=request.rel_url.raw_query_string,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=body,
            remote=self.remote(request),
            received_at=self._clock.now(),
        )
        answer = await self._intake.webhook(connector, vendor)
        self._metrics.ack_seconds.observe(time.perf_counter() - began)
        return web.Response(
            status=answer.status,
            body=answer.body,
            headers={"Content-Type": answer.content_type, **answer.headers},
        )

    def remote(self, request: web.Request) -> str:
        """Return the caller's address; X-Forwarded-For is believed from trusted proxies only."""
        remote = request.remote or ""
        hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",")]
        while hops and hops[-1] and self._is_trusted(remote):
            remote = hops.pop()
        return remote

    def _is_trusted(self, remote: str) -> bool:
        try:
            address = ip_address(remote)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)

    # --- backends ------------------------------------------------------------------------------

    async def _backend(self, request: web.Request) -> web.StreamResponse:
        backend = self._backends.get(request.match_info["name"])
        if backend is None:
            raise web.HTTPNotFound
        self._overload.admit_webhook()
        body = await read_body(request, self._max_body_bytes)
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            events = backend.parse_webhook(headers, body, self._clock.now())
        except Refused as refused:
            self._metrics.refused.labels("backend", backend.name, refused.reason).inc()
            if refused.status not in (401, 403):  # it was believed, and cannot be read
                return problem(refused.status, refused.reason)
            return problem_response("unauthorized", "the signature is not valid", refused.status)
        await self._services.backend_said(backend.name, events, body)
        return web.Response(status=202)

    # --- operations ----------------------------------------------------------------------------

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.StreamResponse:
        """Not ready is who cannot take a delivery: with the database away the spool still can.

        Else a load balancer would turn every process away just when each of them is needed.
        """
        problems = list(await self._ready())
        takes = self._takes()
        status = "not ready" if not takes else "degraded" if problems else "ready"
        return web.json_response(
            {"status": status, "problems": problems}, status=200 if takes else 503
        )

    async def _metrics_page(self, request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=generate_latest(self._metrics.registry),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )


async def read_body(request: web.Request, limit: int) -> bytes:
    """Read a body of at most ``limit`` bytes; a larger one is refused before it is read."""
    if request.content_length is not None and request.content_length > limit:
        raise web.HTTPRequestEntityTooLarge(limit, request.content_length)
    if not request.can_read_body:
        return b""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise web.HTTPRequestEntityTooLarge(limit, len(body))
    return bytes(body)


def shown_path(request: web.Request) -> str:
    """Return a path as logs may have it: what follows a vendor's account may be a secret."""
    place = request.match_info
    if "sub" not in place:
        return request.path
    return f"/in/{place['channel']}/{place['account']}{'/...' if place['sub'] else ''}"


@web.middleware
async def errors_as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error as a problem document; say nothing of what is inside."""
    try:
        return await handler(request)
    except Overloaded as error:
        request.app[OVERLOADED]()
        response = problem_response("unavailable", str(error), 503)
        response.headers["Retry-After"] = RETRY_AFTER_S
        return response
    except StoreError as error:
        log.warning("request_without_database", path=shown_path(request), reason=str(error))
        response = problem_response("unavailable", "the database cannot be reached", 503)
        response.headers["Retry-After"] = RETRY_AFTER_S
        return response
    except web.HTTPException as error:
        if error.status < 400 or error.content_type == "application/problem+json":
            raise
        headers = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
        response = problem(error.status, _detail(error, headers.get("Allow", "")))
        response.headers.update(headers)
        return response
    except (ConnectionResetError, json.JSONDecodeError):
        raise
    except Exception:
        log.exception("request_failed", method=request.method, path=shown_path(request))
        return problem_response("internal", "something went wrong on our side", 500)


def _detail(error: web.HTTPException, allowed: str) -> str:
    """Say what to do about an error that has no words of its own."""
    if error.status == 404:
        return "there is nothing at this path: /openapi.json lists what there is"
    if error.status == 405:
        return f"this path takes {allowed.replace(',', ', ')}"
    return error.reason
