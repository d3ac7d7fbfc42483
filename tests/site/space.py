"""A space for the site channel's tests: the real planners over the in-memory store.

What the connector delivers is normalized and routed at once (or when the test says so), sends
are carried out, and followers see what the feed would tell them. The connector, its HTTP server
and its sockets are real; nothing of them is replaced.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jwt
import structlog
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, web
from aiohttp.test_utils import TestServer
from msgspec.structs import replace

from connectors.site import SiteConnector
from connectors.site.settings import IdentityKey, Limits, SiteSettings
from hub import Account, Clock, Outgoing, Secret, Seen
from hub.documents import AddressDoc, Conversation, Entry, FeedRow, Job, Operation
from hub.planning.commands import digest, operation_id
from hub.planning.rules import Refusal, Rules
from hub.plugin_context import ConnectorContext
from hub.testing.clock import FakeClock
from hub.testing.services import FakeServices
from normalizer.drafts import Actor, AnyDraft, Command, Outcome
from normalizer.outcomes import Failure
from normalizer.pipeline import StepContext, normalize
from tests.planners.harness import PlannerHarness

ORIGIN = "https://www.example.com"
SITE = "site-7"
SECRET = "site-secret-0001-please-use-32-bytes!!"
SERVER_KEY = "server-key-for-tests"
APP_KEY = "app-key-for-tests"
WAIT_S = 5.0


class Planners(PlannerHarness):
    """The planners with the site channel's own capabilities."""

    @property
    def rules(self) -> Rules:
        return replace(
            PlannerHarness.rules.fget(self),  # type: ignore[attr-defined]
            capabilities=lambda name: SiteConnector.capabilities,
        )


class KnowingContext(ConnectorContext):
    """A context of a hub that also tells how a conversation stands."""

    async def conversation(self, ident: str) -> Conversation | None:
        return await self._services.store.table(Conversation).get(ident)


class Space(FakeServices):
    """The hub's services; what is taken in is routed while ``routing`` is set."""

    def __init__(self) -> None:
        self.fake_clock = FakeClock()
        self.planners = Planners()
        super().__init__(store=self.planners.store, key=self.planners.key, clock=self.fake_clock)
        self.routing = True
        self.sending = True
        self.waiting: list[tuple[str, str, tuple[AnyDraft, ...]]] = []
        self.connector: SiteConnector | None = None
        self._told_up_to = 0
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        await self.planners.open()

    # --- routing -------------------------------------------------------------------------------

    async def take_in(
        self,
        channel: str,
        account: str,
        drafts: Sequence[AnyDraft],
        *,
        door: str,
        raw: bytes = b"",
        may_spool: bool = True,
    ) -> str:
        ident = await super().take_in(channel, account, drafts, door=door, raw=raw)
        self.waiting.append((channel, account, tuple(drafts)))
        if self.routing:
            await self.route()
        return ident

    async def route(self) -> None:
        """Route everything that waits, carry out sends, and tell the followers."""
        async with self._lock:
            while self.waiting:
                channel, account, drafts = self.waiting.pop(0)
                await self._give(channel, account, drafts)
            await self._send_all()

    async def _give(self, channel: str, account: str, drafts: Sequence[AnyDraft]) -> None:
        context = StepContext(channel=channel)
        clean = [normalize(draft, context) for draft in drafts]
        self.planners.now = self.fake_clock.now()
        await self.planners.give(*clean, channel=channel, account=account)
        await self._tell_new_rows()

    async def _tell_new_rows(self) -> None:
        rows = await self.store.table(FeedRow).find(
            {"_id": {"$gt": self._told_up_to}}, sort=[("_id", 1)]
        )
        for row in rows:
            self._told_up_to = int(row.id)
            if row.address:
                seen = Seen(
                    position=int(row.id),
                    type=row.type,
                    entry=await self.store.table(Entry).get(row.ref),
                    data=row.data,
                )
                await self.tell(row.address, seen)

    async def changes(self, addresses: Sequence[str], after: int, limit: int) -> list[Seen]:
        """Entries are rendered on reading, as the hub does."""
        found = await super().changes(addresses, after, limit)
        table = self.store.table(Entry)
        return [
            replace(seen, entry=await table.get(seen.entry.id)) if seen.entry else seen
            for seen in found
        ]

    async def position(self) -> int:
        return self._told_up_to

    # --- sending -------------------------------------------------------------------------------

    async def _send_all(self) -> None:
        jobs = await self.store.table(Job).find(
            {"kind": "send", "live": True}, sort=[("position", 1)]
        )
        for job in jobs if self.sending else ():
            await self.store.table(Job).put([replace(job, live=False, state="done")])
            result = await self._send(job)
            outcome = Outcome(
                key=f"{job.id}|1", job=job.id, kind="send", entry=job.entry, result=result
            )
            await self._give("site", SITE, [outcome])

    async def _send(self, job: Job) -> dict[str, Any]:
        entry = await self.store.table(Entry).get(job.entry)
        assert entry is not None
        assert self.connector is not None
        address = await self.store.table(AddressDoc).get(entry.address)
        assert address is not None
        message = Outgoing(
            entry=entry.id,
            key=job.id,
            address=address.address,
            parts=entry.parts,
            thread=entry.thread or "",
            subject=entry.subject,
            event=entry.event,
            data=entry.data,
            sender_name=entry.sender.name,
        )
        try:
            accepted = await self.connector.send(message)
        except Failure as failure:
            return {"state": "failed", "reason": failure.reason}
        return {"state": str(accepted.state)}

    # --- commands ------------------------------------------------------------------------------

    async def run_command(
        self,
        name: str,
        args: Mapping[str, Any],
        *,
        key: str,
        actor: str,
        channel: str = "",
        account: str = "",
        wait_s: float | None = None,
    ) -> Mapping[str, Any]:
        self._refuse_if_overloaded()
        kind, _, ident = actor.partition(":")
        draft = Command(key=key, name=name, actor=Actor(kind=kind, id=ident), args=dict(args))
        self.waiting.append((channel or "hub", account, (draft,)))
        await self.route()
        done = await self.store.table(Operation).get(operation_id(self.key, key))
        assert done is not None
        if done.digest != digest(name, dict(args)):
            raise Refusal("idempotency-conflict", "this key was used for another request", 409)
        return {"state": done.state, "result": done.result, "detail": done.detail}

    async def agent(self, name: str, **args: Any) -> Mapping[str, Any]:
        """Let an agent do something; it has to succeed."""
        numbers = self.__dict__.setdefault("_numbers", itertools.count())
        done = await self.run_command(
            name, args, key=f"agent-{next(numbers)}", actor="agent:wang", channel="api"
        )
        assert done["state"] == "done", done
        result: Mapping[str, Any] = done["result"]
        return result

    async def answers(self, conversation: str, text: str, **more: Any) -> str:
        """Let an agent answer; return the entry."""
        parts = [{"type": "text", "text": text}]
        done = await self.agent(
            "reply", conversation=conversation, parts=parts, agent_name="小王", **more
        )
        return str(done["entry"])

    async def entries(self, kind: str = "", **where: Any) -> list[Entry]:
        found = await self.store.table(Entry).find(where, sort=[("position", 1)])
        return [entry for entry in found if kind in ("", entry.kind)]


def settings(**more: Any) -> SiteSettings:
    """Settings with everything on; ``limits`` may be a dict."""
    limits = more.pop("limits", {})
    given: dict[str, Any] = {
        "origins": (ORIGIN, "https://*.shop.example"),
        "site_id": SITE,
        "identity_keys": (IdentityKey(kid="k1", alg="HS256", key=Secret(SECRET)),),
        "app_keys": (Secret(APP_KEY),),
        "server_keys": (Secret(SERVER_KEY),),
        "limits": Limits(**{"receipts_every_s": 0.05, **limits}),
    }
    return SiteSettings(**{**given, **more})


class Browsers:
    """Browsers of visitors, and the site's own server, in front of a hub at ``base``."""

    def __init__(self, base: str, http: ClientSession, clock: Clock) -> None:
        self.base = base
        self.http = http
        self.clock = clock
        self.sockets: list[ClientWebSocketResponse] = []

    async def close(self) -> None:
        await asyncio.gather(*(ws.close() for ws in self.sockets if not ws.closed))

    async def call(
        self,
        method: str,
        path: str,
        *,
        token: str = "",
        origin: str | None = ORIGIN,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Answer:
        """Call a path below the account, as a browser of the listed origin unless told else."""
        sent = dict(headers or {})
        if origin is not None:
            sent["Origin"] = origin
        if token:
            sent["Authorization"] = f"Bearer {token}"
        url = path if path.startswith("http") else self.base + path
        async with self.http.request(method, url, headers=sent, **more) as response:
            body = await response.read()
            return Answer(response.status, response.headers.copy(), body)

    async def visitor(self, **body: Any) -> Tab:
        """Open a session and return a tab that has not connected yet."""
        answer = await self.call("POST", "/sessions", json={"locale": "zh-CN", **body})
        assert answer.status == 201, answer.body
        return Tab(self, answer.json)

    async def user(self, user: str = "10086", **body: Any) -> Tab:
        return await self.visitor(identity_token=self.identity(user), **body)

    def identity(self, user: Any = "10086", *, key: Any = SECRET, **more: Any) -> str:
        """Return an identity token as the site's server makes it."""
        now = int(self.clock.now().timestamp())
        alg, kid = more.pop("alg", "HS256"), more.pop("kid", "k1")
        claims = {
            "iss": SITE,
            "sub": user,
            "aud": "omniline",
            "iat": now,
            "exp": now + 300,
            "jti": f"j-{user}",
            **more,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, key, algorithm=alg, headers={"kid": kid})


class Running(Browsers):
    """One site account behind a real HTTP server, over a space in memory."""

    def __init__(self, space: Space, made: SiteSettings, *, insecure: bool = False) -> None:
        self.space = space
        account = Account(channel="site", key=SITE, label="Shop", settings=made, insecure=insecure)
        context = KnowingContext("site", space, structlog.get_logger("site"), "site", SITE)
        self.connector = SiteConnector(account, context)
        space.connector = self.connector
        self.site = self.connector.site

    async def __aenter__(self) -> Running:
        await self.space.open()
        await self.connector.start()
        app = web.Application()
        for route in self.connector.routes():
            app.router.add_route(route.method, f"/site/{SITE}{route.path}", route.handler)
        self.server = TestServer(app)
        await self.server.start_server()
        base = str(self.server.make_url(f"/site/{SITE}"))
        super().__init__(base, ClientSession(), self.space.fake_clock)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
        await self.connector.stop()
        await self.http.close()
        await self.server.close()

    clock: FakeClock


class Answer:
    """An HTTP answer, read whole."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["code"])


class Tab:
    """A browser tab: its session and its socket. Frames that were not asked for are kept."""

    _ids = itertools.count(1)

    def __init__(self, running: Browsers, session: dict[str, Any]) -> None:
        self.running = running
        self.session = session
        self.token: str = session["access_token"]
        self.visitor: str = session["visitor_id"]
        self.cursor: str = session["cursor"]
        self.visitor_token: str = session.get("visitor_token", "")
        self.kept: list[dict[str, Any]] = []
        self.seen: list[dict[str, Any]] = []
        self.ws: ClientWebSocketResponse | None = None

    async def another(self) -> Tab:
        """Return a second tab of the same browser, not connected."""
        return Tab(self.running, {**self.session, "visitor_token": self.visitor_token})

    # --- REST ----------------------------------------------------------------------------------

    async def call(self, method: str, path: str, **more: Any) -> Answer:
        return await self.running.call(method, path, token=self.token, **more)

    async def post_text(self, text: str, key: str, conversation: str = "new") -> Answer:
        return await self.call(
            "POST",
            f"/conversations/{conversation}/messages",
            json={"parts": [{"type": "text", "text": text}]},
            headers={"Idempotency-Key": key},
        )

    # --- the socket ----------------------------------------------------------------------------

    async def dial(self, **more: Any) -> Tab:
        """Open the socket and say nothing yet."""
        headers = {"Origin": ORIGIN, **more.pop("headers", {})}
        self.ws = await self.running.http.ws_connect(
            self.running.base.replace("http", "ws", 1) + "/ws",
            protocols=("omniline.v1",),
            headers=headers,
            **more,
        )
        self.running.sockets.append(self.ws)
        return self

    async def connect(self, **hello: Any) -> Tab:
        """Open the socket and say hello; return after the welcome."""
        if self.ws is None or self.ws.closed:
            await self.dial()
        await self.say("hello", access_token=self.token, **hello)
        self.welcome = await self.expect("welcome")
        return self

    async def say(self, t: str, **fields: Any) -> str:
        assert self.ws is not None
        ident = f"f{next(self._ids)}"
        await self.ws.send_json({"v": 1, "t": t, "id": ident, **fields})
        return ident

    async def text(self, text: str, key: str, **fields: Any) -> str:
        parts = [{"type": "text", "text": text}]
        return await self.say("msg.send", client_msg_id=key, parts=parts, **fields)

    async def sends(self, text: str, key: str, **fields: Any) -> dict[str, Any]:
        """Send a text and return it as it comes back."""
        await self.text(text, key, **fields)
        return await self.expect("msg.new", client_msg_id=key)

    async def expect(self, t: str, **fields: Any) -> dict[str, Any]:
        """Return the next frame of a type with these fields; others are kept for later."""

        def fits(frame: dict[str, Any]) -> bool:
            return frame["t"] == t and all(frame.get(k) == v for k, v in fields.items())

        for index, frame in enumerate(self.kept):
            if fits(frame):
                return self.kept.pop(index)
        async with asyncio.timeout(WAIT_S):
            while True:
                frame = await self._next()
                if fits(frame):
                    return frame
                self.kept.append(frame)

    async def _next(self) -> dict[str, Any]:
        assert self.ws is not None
        message = await self.ws.receive()
        if message.type is not WSMsgType.TEXT:
            raise AssertionError(
                f"the socket closed with {self.ws.close_code}; unread: {self.kept}"
            )
        frame: dict[str, Any] = message.json()
        self.seen.append(frame)
        if frame.get("cursor"):
            self.cursor = frame["cursor"]
        return frame

    async def closed(self) -> int:
        """Wait until the hub closes the socket; return the close code."""
        assert self.ws is not None
        async with asyncio.timeout(WAIT_S):
            while True:
                message = await self.ws.receive()
                if message.type is WSMsgType.TEXT:
                    self.kept.append(message.json())
                    continue
                assert self.ws.close_code is not None
                return self.ws.close_code

    async def settle(self) -> list[dict[str, Any]]:
        """Ask and wait for a pong: everything that was on its way before it is here now."""
        await self.expect("pong", re=await self.say("ping"))
        kept, self.kept = self.kept, []
        return kept

    async def hang_up(self) -> None:
        assert self.ws is not None
        await self.ws.close()
