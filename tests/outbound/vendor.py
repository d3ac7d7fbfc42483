"""A strict vendor and the connector that sends through it.

The vendor counts what really arrived, by the sender's key, whatever its answers said. It counts
its own quota and every person's window, so that a hub that sends too much is caught. With
``trouble`` it misbehaves at random before a message arrives or after it did.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import aiohttp
import msgspec
from aiohttp import web

from hub import Connector, Outgoing, Secret, Template, hookimpl
from hub.testing.samples.webhook import SampleWebhook
from hub.testing.samples.webhook import Settings as SampleSettings
from normalizer.addresses import parse_address
from normalizer.capabilities import Capabilities, Quota, Window
from normalizer.outcomes import (
    Accepted,
    Failure,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unsupported,
)
from normalizer.parts import Text

omniline_api = 1

TOKEN = "the strict vendor's token"
WINDOW_SENDS = 5
FOREVER_S = 10**9
MOST_TROUBLE = 3  # times that one message meets trouble
TROUBLES = ("limited", "busy", "reset", "lost")


class StrictVendor:
    """POST /send with ``{key, to, text}``, GET /sent/{key}."""

    def __init__(self, *, seed: int = 0, trouble: float = 0.0, quota: int = 10**9) -> None:
        self.url = ""
        self.trouble = trouble
        self.quota = quota
        self.arrived: dict[str, list[str]] = defaultdict(list)  # person -> texts, in order
        self.by_key: Counter[str] = Counter()
        self.violations: list[str] = []
        self.met: Counter[str] = Counter()  # how often each trouble happened
        self.away = False  # every send is answered with 503
        self.one_window = True  # nobody speaks twice, so that it can count each window's sends
        self.lose: set[str] = set()  # texts whose answer is always lost
        self._random = random.Random(seed)
        self._troubled: Counter[str] = Counter()

    async def __aenter__(self) -> StrictVendor:
        app = web.Application()
        app.router.add_post("/send", self._send)
        app.router.add_get("/sent/{key}", self._sent)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._runner.cleanup()

    async def _send(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401)
        body = await request.json()
        if set(body) != {"key", "to", "text"} or not all(isinstance(v, str) for v in body.values()):
            self.violations.append(f"malformed: {sorted(body)}")
            return web.Response(status=400)
        if self.away:
            return web.Response(status=503)
        trouble = self._next_trouble(body["key"])
        if trouble == "limited":
            return web.Response(status=429, headers={"Retry-After": "1"})
        if trouble == "busy":
            return web.Response(status=503)
        if trouble == "reset" and request.transport is not None:
            request.transport.abort()
            return web.Response()
        if "refuse me" in body["text"]:
            return web.json_response({"error": f"{body['to']} +8613912345678"}, status=422)
        self._arrives(body)
        if (trouble == "lost" or body["text"] in self.lose) and request.transport is not None:
            request.transport.abort()
        return web.json_response({"id": f"v-{body['key']}"}, status=201)

    def _next_trouble(self, key: str) -> str:
        if self._troubled[key] >= MOST_TROUBLE or self._random.random() >= self.trouble:
            return ""
        self._troubled[key] += 1
        trouble = self._random.choice(TROUBLES)
        self.met[trouble] += 1
        return trouble

    def _arrives(self, body: Mapping[str, str]) -> None:
        self.by_key[body["key"]] += 1
        self.arrived[body["to"]].append(body["text"])
        if sum(self.by_key.values()) > self.quota:
            self.violations.append(f"over the quota: {body['text']}")
        if self.one_window and len(self.arrived[body["to"]]) > WINDOW_SENDS:
            self.violations.append(f"over the window: {body['text']}")

    async def _sent(self, request: web.Request) -> web.Response:
        if self.by_key[request.match_info["key"]]:
            return web.json_response({"id": f"v-{request.match_info['key']}"})
        return web.Response(status=404)


class Settings(SampleSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: Annotated[str, msgspec.Meta(description="The vendor's API.")]
    token: Annotated[Secret, msgspec.Meta(description="Its token.")]
    quota: Annotated[int, msgspec.Meta(description="Sends that the vendor allows.")] = 10**9


class StrictConnector(SampleWebhook):
    """Whoever's name begins with "blind" cannot be looked up."""

    channel: ClassVar[str] = "strict"
    settings: ClassVar[type[msgspec.Struct]] = Settings
    capabilities: ClassVar[Capabilities] = Capabilities(
        sends=frozenset({"text"}),
        templates=True,
        windows=(
            Window(
                name="talk",
                opens_on=frozenset({"message"}),
                seconds=48 * 3600,
                sends=WINDOW_SENDS,
                closes_on=frozenset({"contact.followed"}),
                templates_pass=True,
            ),
        ),
    )

    def __init__(self, account: Any, context: Any) -> None:
        super().__init__(account, context)
        self.capabilities = msgspec.structs.replace(  # type: ignore[misc]
            type(self).capabilities,
            quotas=(Quota(name="all", sends=account.settings.quota, period_s=FOREVER_S),),
        )

    async def templates(self) -> Sequence[Template]:
        return (Template(name="hi", params=("who",), preview="Hello {who}!"),)

    async def send(self, message: Outgoing) -> Accepted:
        settings = self.account.settings
        (part,) = message.parts
        assert isinstance(part, Text)
        body = {"key": message.key, "to": parse_address(message.address).id, "text": part.text}
        headers = {"Authorization": f"Bearer {settings.token.reveal()}"}  # type: ignore[attr-defined]
        try:
            async with self.context.http.post(
                f"{settings.url}/send",  # type: ignore[attr-defined]
                json=body,
                headers=headers,
            ) as response:
                if response.status != 201:
                    raise _failure(response.status, response.headers, await response.text())
                return Accepted(vendor_ids=((await response.json())["id"],))
        except aiohttp.ClientConnectorError as error:
            raise Temporary("the strict vendor cannot be reached") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OutcomeUnknown("the strict vendor took it and did not answer") from error

    async def find_sent(self, message: Outgoing) -> Accepted | None:
        if parse_address(message.address).id.startswith("blind"):
            raise Unsupported("nobody can say")
        url = f"{self.account.settings.url}/sent/{message.key}"  # type: ignore[attr-defined]
        async with self.context.http.get(url) as response:
            if response.status == 404:
                return None
            return Accepted(vendor_ids=((await response.json())["id"],))


def _failure(status: int, headers: Mapping[str, str], body: str) -> Failure:
    match status:
        case 401:
            return Misconfigured("the token is wrong")
        case 429:
            return RateLimited("too many", retry_after=float(headers["Retry-After"]))
        case 503:
            return Temporary("busy")
        case _:
            return Rejected(f"refused: {body}", code=str(status))


@hookimpl
def register_connectors(config: Mapping[str, Any]) -> Sequence[type[Connector[Any]]]:
    return [StrictConnector]
