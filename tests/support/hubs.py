"""A whole hub for tests: real MongoDB, real HTTP, the sample connector, and a key to call it.

async with running_hub(mongo_url, mongo_db_name, tmp_path) as hub:
    entry = await hub.message("hello", sender="ann")
    page = await hub.get(f"/api/v1/customers/{entry['customer']}/timeline")
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiohttp
import msgspec
from aiohttp import web

from hub.api.keys import create_key
from hub.api.routes import add_api
from hub.app import Hub
from hub.config.loader import load_text
from hub.documents import Entry
from hub.testing.samples.webhook import Push, SampleWebhook, signed_headers
from normalizer.addresses import Address, canonical

SECRET = b"a secret that the sample vendor and the hub share"
ACCOUNTS = ("main", "second")
WAIT_S = 10.0


class Answered:
    """An HTTP answer, read."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def problem(self) -> str:
        """The short name of the problem's type."""
        assert self.headers["Content-Type"].startswith("application/problem+json"), self.body
        return str(self.json["type"]).rpartition("/")[2]

    def __repr__(self) -> str:
        return f"<{self.status} {self.body[:500]!r}>"


class RunningHub:
    """A hub, a client of its API and the vendor that writes to it."""

    def __init__(
        self, hub: Hub, app: web.Application, http: aiohttp.ClientSession, key: str
    ) -> None:
        self.hub = hub
        self.app = app
        self.key = key
        self._http = http
        self._count = 0

    # --- the API -------------------------------------------------------------------------------

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        params: Mapping[str, str | int] | None = None,
        once: str = "",
    ) -> Answered:
        """Call the API. ``key`` "" = none; ``once`` is the Idempotency-Key."""
        sent = dict(headers or {})
        key = self.key if key is None else key
        if key:
            sent.setdefault("Authorization", f"Bearer {key}")
        if once:
            sent["Idempotency-Key"] = once
        if body is not None:
            data = msgspec.json.encode(body)
            sent.setdefault("Content-Type", "application/json")
        async with self._http.request(
            method,
            self.hub.url + path,
            data=None if data is None else BytesIO(data),
            headers=sent,
            params=params,
            allow_redirects=False,
        ) as answer:
            return Answered(answer.status, answer.headers, await answer.read())

    async def get(self, path: str, **more: Any) -> Any:
        """GET something that has to be there, and return its JSON."""
        answered = await self.call("GET", path, **more)
        assert answered.status == 200, answered
        return answered.json

    async def post(self, path: str, body: Any = None, **more: Any) -> Answered:
        return await self.call("POST", path, {} if body is None else body, **more)

    async def make_key(self, *scopes: str, accounts: Sequence[str] = (), **more: Any) -> str:
        _, key = await create_key(self.hub.store, self.hub.clock, "test", scopes, accounts, **more)
        return key

    # --- the vendor ----------------------------------------------------------------------------

    async def push(
        self, push: Push | bytes, *, account: str = "main", expect: int = 200
    ) -> Answered:
        """Send the hub what the sample vendor would, correctly signed."""
        body = push if isinstance(push, bytes) else msgspec.json.encode(push)
        headers = signed_headers(SECRET, int(time.time()), body)
        answered = await self.call(
            "POST", f"/in/sample/{account}", key="", headers=headers, data=body
        )
        assert answered.status == expect, answered
        return answered

    async def message(
        self,
        text: str = "hello",
        *,
        sender: str = "ann",
        ident: str = "",
        account: str = "main",
        at_ms: int = 0,
    ) -> Entry:
        """Let a customer say something and return its entry once it is in the timeline."""
        self._count += 1
        ident = ident or f"m{self._count}"
        at_ms = at_ms or int(time.time() * 1000)
        await self.push(
            Push(id=ident, sender=sender, at=at_ms, text=text, ref="named"), account=account
        )
        return await self.entry(self.entry_id(ident, sender, account))

    def entry_id(self, ident: str, sender: str, account: str = "main") -> str:
        text = canonical(self.address(sender, account))
        return self.hub.key.hashed("ent", f"entry|sample|{account}|{text}|{ident}")

    def address(self, sender: str, account: str = "main") -> Address:
        return Address(scheme="sample", account=account, kind="user", id=sender)

    def address_id(self, sender: str, account: str = "main") -> str:
        return self.hub.key.hashed("adr", canonical(self.address(sender, account)))

    async def customer(self, sender: str, account: str = "main") -> str:
        """Return the customer that this sender is by now."""
        address = str(self.address(sender, account))
        page = await self.get("/api/v1/customers", params={"address": address})
        assert len(page["customers"]) == 1, page
        return str(page["customers"][0]["id"])

    @property
    def connector(self) -> SampleWebhook:
        found = self.hub.connectors[("sample", "main")]
        assert isinstance(found, SampleWebhook)
        return found

    # --- waiting -------------------------------------------------------------------------------

    async def entry(self, ident: str) -> Entry:
        return await self.until(
            f"the entry {ident}", lambda: self.hub.store.table(Entry).get(ident)
        )

    async def until(self, goal: str, look: Callable[[], Awaitable[Any]]) -> Any:
        """Return what ``look`` finds once it finds something."""
        ends = time.monotonic() + WAIT_S
        while not (found := await look()):
            assert time.monotonic() < ends, f"waited {WAIT_S} s for {goal}"
            await asyncio.sleep(0.01)
        return found


def config_text(
    mongo_url: str,
    database: str,
    data_dir: Path,
    *,
    hub: Mapping[str, Any] | None = None,
    accounts: Sequence[str] = ACCOUNTS,
    more: str = "",
) -> str:
    """Return a configuration with accounts of the sample channel."""
    settings: dict[str, Any] = {
        "port": 0,
        "mongo_url": mongo_url,
        "database": database,
        "data_dir": str(data_dir),
        "disk_reserve_bytes": 0,
        "plugin_modules": ["hub.testing.samples.webhook"],
        **(hub or {}),
    }
    lines = ["[hub]", *(f"{name} = {_toml(value)}" for name, value in settings.items())]
    for account in accounts:
        lines += [
            "[[accounts]]",
            'channel = "sample"',
            f"key = {_toml(account)}",
            f"secrets = [{_toml(SECRET.decode())}]",
        ]
    return "\n".join([*lines, more, ""])


def _toml(value: Any) -> str:
    return msgspec.json.encode(value).decode()


@asynccontextmanager
async def running_hub(
    mongo_url: str,
    database: str,
    data_dir: Path,
    *,
    hub: Mapping[str, Any] | None = None,
    accounts: Sequence[str] = ACCOUNTS,
    more: str = "",
    **made_with: Any,
) -> AsyncIterator[RunningHub]:
    """Start a hub; ``hub`` are further settings of ``[hub]``, ``more`` is further TOML."""
    text = config_text(mongo_url, database, data_dir, hub=hub, accounts=accounts, more=more)
    built: list[web.Application] = []

    async def add(app: web.Application, hub: Hub) -> None:
        built.append(app)
        await add_api(app, hub)

    async with AsyncExitStack() as stack:
        with patch("hub.app.add_api", add):
            started = await stack.enter_async_context(Hub(load_text(text), **made_with))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        _, key = await create_key(started.store, started.clock, "tests", ["admin"])
        yield RunningHub(started, built[0], http, key)
