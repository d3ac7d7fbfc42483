"""The documentation's receiver behind a door that checks everything and misbehaves on demand.

Every request is verified by the ``standardwebhooks`` package and held against the published JSON
Schema, and so is every answer; what is wrong is kept in ``complaints``, which a test ends by
looking at. Faults are played on the connection itself.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json
import random
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from hub.testing.backend_faults import Fault

DOCS = Path(__file__).parents[2] / "docs" / "backends"
SCHEMA = json.loads((DOCS / "webhook.schema.json").read_text("utf-8"))
SECRET = "whsec_aHViLWZlZWQtdGVzdC1rZXktMDEyMzQ1Njc4OWFiY2Q="
OTHER_SECRET = "whsec_YW5vdGhlci1rZXktb2YtdGhlLXNhbWUtcmVjZWl2ZXIh"
WITHIN_S = 10.0
TYPES = {  # the backend's methods -> the operations they send
    "ensure_requester": "requester.ensure",
    "find_ticket": "ticket.find",
    "create_ticket": "ticket.create",
    "find_entry": "entry.find",
    "append": "entry.append",
    "change": "ticket.change",
    "read": "ticket.read",
}


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("webhook_receiver", DOCS / "webhook_receiver.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


receiver = _load()


@functools.cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(
        {**SCHEMA, "$ref": f"#/$defs/{name}"}, format_checker=jsonschema.FormatChecker()
    )


def fits(name: str, value: Any) -> None:
    """Raise ``jsonschema.ValidationError`` if a message is not what the schema says."""
    _validator(name).validate(value)


class Strict:
    """``plan`` is what the next calls meet; ``seen`` are the requests that were right."""

    def __init__(self, secret: str = SECRET) -> None:
        self.inner: Any = receiver.Receiver(secret)
        self.secret = secret
        self.url = ""
        self.complaints: list[str] = []
        self.seen: list[dict[str, Any]] = []
        self.idents: list[str] = []
        self.sent: list[tuple[Mapping[str, str], bytes]] = []  # events, as the hub gets them
        self.answer_all: web.Response | None = None  # to any right request, instead of the answer
        self._plan: dict[str, deque[Fault | None]] = defaultdict(deque)
        self._bytes: dict[str, str] = {}
        self._order = random.Random(7)

    def plan(self, call: str, *faults: Fault | None) -> None:
        self._plan[TYPES.get(call, call)].extend(faults)

    @property
    def counts(self) -> Counter[str]:
        return Counter(each["type"] for each in self.seen)

    # --- one request -----------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        try:
            Webhook(self.secret).verify(body, dict(request.headers))
        except WebhookVerificationError as error:
            return web.json_response({"code": "signature", "detail": str(error)}, status=401)
        asked = json.loads(body)
        try:
            self._check(request, asked)
        except (AssertionError, jsonschema.ValidationError) as error:
            self.complaints.append(f"{asked.get('type')}: {error}")
            return web.json_response({"code": "wrong", "detail": str(error)[:100]}, status=422)
        self.seen.append(asked)
        for _ in range(self._order.randrange(4)):  # requests side by side overtake each other
            await asyncio.sleep(0)
        planned = self._plan[asked["type"]]
        fault = planned.popleft() if planned else None
        if fault is None and self.answer_all is not None:
            told = self.answer_all
            return web.Response(status=told.status, body=told.body, headers=told.headers)
        return await self._play(fault, request, asked)

    def _check(self, request: web.Request, asked: dict[str, Any]) -> None:
        assert request.method == "POST"
        assert request.content_type == "application/json"
        assert request.headers["Accept-Encoding"] == "identity"
        fits(asked["type"], asked)
        ident = request.headers["webhook-id"]
        assert "." not in ident
        data = asked["data"]
        about = json.dumps([asked["type"], data.get("ticket"), data.get("entry")])
        if asked["type"] in ("ticket.create", "entry.append"):
            assert self._bytes.setdefault(ident, about) == about, "an id was used twice"
        else:
            assert ident not in self.idents, "only writes are sent again under their id"
        self.idents.append(ident)

    async def _play(
        self, fault: Fault | None, request: web.Request, asked: dict[str, Any]
    ) -> web.StreamResponse:
        assert request.transport is not None
        match fault:
            case None:
                return self._answered(asked)
            case Fault.LOSES:
                self._answered(asked)
                request.transport.abort()
            case Fault.LATE:
                self._answered(asked)
                await self._nobody_waits(request.transport)
            case Fault.RESETS:
                request.transport.abort()
            case Fault.FAILS:
                self._answered(asked)
                return web.Response(status=500, text="<h1>Internal Server Error</h1>")
            case Fault.AWAY:
                return web.Response(status=503, text="maintenance")
            case Fault.LIMITS:
                again = formatdate(time.time() + 2, usegmt=True) if len(self.seen) % 2 else "2"
                return web.Response(status=429, headers={"Retry-After": again})
            case Fault.REFUSES:
                return web.json_response({"code": "unknown-queue", "detail": "no"}, status=422)
        return web.Response(status=200)  # to nobody

    async def _nobody_waits(self, transport: asyncio.BaseTransport) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not transport.is_closing():
                await asyncio.sleep(0.01)

    def _answered(self, asked: dict[str, Any]) -> web.Response:
        """Let the receiver act, and hold its answer against the schema."""
        try:
            status, answer = self.inner.operations()[asked["type"]](asked["data"])
        except receiver.Problem as problem:
            fits("Problem", problem.body)
            return web.json_response(problem.body, status=problem.status)
        if asked["type"] != "ping":
            fits(f"{asked['type']} answer", answer)
        return web.json_response(answer, status=status)

    # --- events ----------------------------------------------------------------------------------

    def tell(self, event: dict[str, Any]) -> tuple[Mapping[str, str], bytes]:
        fits(event["type"], event)
        signed: tuple[Mapping[str, str], bytes] = self.inner.signed(event)
        self.sent.append(signed)
        return signed


@asynccontextmanager
async def strict_receiver(secret: str = SECRET) -> AsyncIterator[Strict]:
    """Serve a strict receiver on this machine; it must have had nothing to complain about."""
    strict = Strict(secret)
    app = web.Application(client_max_size=4 * 1024 * 1024)
    app.router.add_post("/tickets", strict.handle)
    async with TestServer(app) as server:
        strict.url = str(server.make_url("/tickets"))
        yield strict
    assert strict.complaints == []
