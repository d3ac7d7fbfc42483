"""WeChat's API, as strict as its documentation: it checks what it is sent and misbehaves on demand.

Checked: the token, raw UTF-8 without ``\\uXXXX``, content type, required and unknown fields,
sizes, the reply window and its count, media as multipart with file name and type.

Troubles for the next calls (``trouble``, first come first served): ``429``, ``500``, ``502``,
``503``, ``busy`` (-1), ``minute`` (45011), ``html``, ``timeout`` (no answer until the test ends),
``lost`` (does it and cuts the connection), ``expire`` (the token ends while the call is under
way), ``error:N`` (errcode N inside a 200).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar

from aiohttp import web

from hub.testing import FakeVendor, Got, Mood

APPID = "wx0123456789abcdef"
APP_SECRET = "the-app-secret-of-the-hub"
OPENID = "oHubUser0001"
TEMPLATE = "TPL-order-shipped-0001"
BLOCKER = "oHubUserBlock"

REQUIRED: Mapping[str, set[str]] = {
    "text": {"content"},
    "image": {"media_id"},
    "voice": {"media_id"},
    "video": {"media_id", "thumb_media_id", "title", "description"},
    "news": {"articles"},
    "msgmenu": {"head_content", "list", "tail_content"},
}
LIMITS = {"image": 2 << 20, "voice": 2 << 20, "video": 10 << 20, "thumb": 64 << 10}
MIMES = {
    "image": {"image/jpeg", "image/png", "image/gif"},
    "voice": {"audio/amr", "audio/mpeg", "audio/mp3"},
    "video": {"video/mp4"},
}
ESCAPED = re.compile(rb"(?<!\\)(?:\\\\)*\\u[0-9a-fA-F]{4}")


class Wrong(Exception):
    """An errcode is answered."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(code)
        self.code = code
        self.words = words


class FakeWechat(FakeVendor):
    """One account's API. ``calls`` counts what was called, troubled or not."""

    moods: ClassVar[frozenset[Mood]] = frozenset(Mood)

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.bodies: list[Mapping[str, Any]] = []  # of messages that were taken
        self.commands: list[str] = []  # of typing
        self.trouble: list[str] = []
        self.trouble_at = "/"  # paths that begin like this have it
        self.issued = 0
        self.expires_in = 7200
        self.forced = 0
        self.token = ""
        self.dead: set[str] = set()
        self.windows: dict[str, int] = {}  # sends left; a missing person has five
        self.closed: set[str] = set()
        self.uploads: dict[str, tuple[str, bytes, str, str]] = {}  # kind, bytes, mime, name
        self.forgets_uploads = 0
        self.files: dict[str, web.Response | Callable[[], web.Response]] = {}
        self.people: dict[str, Mapping[str, Any]] = {}
        self.no_right = False
        self.off_list = False
        self.on_call: Callable[[str], Awaitable[None]] | None = None  # before it is looked at
        self.before_answer: Callable[[str], Awaitable[None]] | None = None
        self.templates: list[Mapping[str, Any]] = [
            {
                "template_id": TEMPLATE,
                "title": "订单发货",
                "content": "{{first.DATA}}\n订单：{{order.DATA}}\n{{remark.DATA}}",
                "example": "",
            }
        ]
        self._got: list[Got] = []
        self._over = asyncio.Event()

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"api_url": self.url, "app_secret": APP_SECRET}

    def got(self) -> Sequence[Got]:
        return self._got

    # --- a server --------------------------------------------------------------------------------

    async def __aenter__(self) -> FakeWechat:
        app = web.Application(client_max_size=32 << 20)
        for method, path, handler in (
            ("POST", "/cgi-bin/stable_token", self._stable_token),
            ("POST", "/cgi-bin/message/custom/send", self._custom),
            ("POST", "/cgi-bin/message/custom/typing", self._typing),
            ("POST", "/cgi-bin/message/template/send", self._template),
            ("POST", "/cgi-bin/message/subscribe/bizsend", self._subscription),
            ("POST", "/cgi-bin/media/upload", self._upload),
            ("GET", "/cgi-bin/media/get", self._media),
            ("GET", "/cgi-bin/template/get_all_private_template", self._templates),
            ("GET", "/wxaapi/newtmpl/gettemplate", self._subscriptions),
            ("GET", "/cgi-bin/user/info", self._info),
        ):
            app.router.add_route(method, path, self._answered(path, handler))
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._over.set()
        await self._runner.cleanup()

    def _answered(
        self, path: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            self.calls[path] += 1
            if self.on_call is not None:
                await self.on_call(path)
            trouble = ""
            if path.startswith(self.trouble_at) and path != "/cgi-bin/stable_token":
                trouble = self.trouble.pop(0) if self.trouble else ""
            if self.mood is Mood.AWAY or trouble == "503":
                return web.Response(status=503)
            if trouble in ("429", "500", "502"):
                return web.Response(status=int(trouble), headers={"Retry-After": "7"})
            if trouble == "html":
                return web.Response(text="<html>a proxy</html>", content_type="text/html")
            try:
                if trouble == "timeout":
                    with contextlib.suppress(asyncio.CancelledError):
                        await self._over.wait()
                if trouble == "expire":
                    self.expire()
                if trouble.startswith("error:"):
                    raise Wrong(int(trouble[6:]), "troubled")
                if trouble in ("busy", "minute"):
                    raise Wrong(-1 if trouble == "busy" else 45011, "troubled")
                if self.off_list:
                    raise Wrong(
                        40164, "invalid ip 203.0.113.9 ipv6 ::ffff:203.0.113.9, not in list"
                    )
                response = await handler(request)
            except Wrong as wrong:
                words = f"{wrong.words} rid: 6543-abcd-{wrong.code}"
                return json_answer({"errcode": wrong.code, "errmsg": words})
            sends = path.startswith("/cgi-bin/message")
            if (trouble == "lost" or (sends and self.mood is Mood.SWALLOWS)) and request.transport:
                request.transport.abort()
            return response

        return answer

    # --- tokens ----------------------------------------------------------------------------------

    def expire(self) -> None:
        """End the token that is valid now, as time does or another system's refresh."""
        self.dead.add(self.token)
        self.token = ""

    async def _stable_token(self, request: web.Request) -> web.Response:
        body = await self._json(request)
        if set(body) - {"grant_type", "appid", "secret", "force_refresh"}:
            raise Wrong(47001, "unknown fields")
        if body.get("grant_type") != "client_credential" or body.get("appid") != APPID:
            raise Wrong(40013, "invalid appid")
        if body.get("secret") != APP_SECRET:
            raise Wrong(40125, "invalid appsecret")
        if body.get("force_refresh"):
            self.forced += 1
            self.expire()
        if not self.token:
            self.issued += 1
            self.token = f"token-{self.issued}-" + "x" * 120
        return json_answer({"access_token": self.token, "expires_in": self.expires_in})

    def _authorise(self, request: web.Request) -> None:
        given = request.query.get("access_token", "")
        if given in self.dead and given:
            raise Wrong(42001, f"access_token expired: {given}")
        if not given or given != self.token:
            raise Wrong(40001, f"invalid credential, access_token {given} is invalid")

    # --- messages --------------------------------------------------------------------------------

    async def _json(self, request: web.Request) -> dict[str, Any]:
        if not request.content_type.startswith("application/json"):
            raise Wrong(47001, "not JSON")
        raw = await request.read()
        if ESCAPED.search(raw):
            raise Wrong(40033, "invalid charset: raw UTF-8, please")
        try:
            body = json.loads(raw.decode())
        except ValueError:
            raise Wrong(47001, "data format error") from None
        if not isinstance(body, dict):
            raise Wrong(47001, "data format error")
        return body

    def _person(self, body: Mapping[str, Any]) -> str:
        to = body.get("touser")
        if not isinstance(to, str) or not re.fullmatch(r"oHubUser[0-9A-Za-z]+", to):
            raise Wrong(40003, "invalid openid")
        if self.mood is Mood.REFUSES:
            raise Wrong(43004, "require subscribe")
        return to

    async def _custom(self, request: web.Request) -> web.Response:
        self._authorise(request)
        if self.no_right:
            raise Wrong(48001, "api unauthorized")
        body = await self._json(request)
        kind = str(body.get("msgtype"))
        if kind not in REQUIRED or set(body) - {"customservice"} != {"touser", "msgtype", kind}:
            raise Wrong(40008, "invalid message type")
        content = body[kind]
        if not isinstance(content, dict) or set(content) != REQUIRED[kind]:
            raise Wrong(44004, "fields are missing")
        to = self._person(body)
        self._check_content(kind, content)
        if to in self.closed:
            raise Wrong(45015, "response out of time limit or subscription is canceled")
        left = self.windows.setdefault(to, 5)
        if not left:
            raise Wrong(45047, "out of response count limit")
        self.windows[to] = left - 1
        self.bodies.append(body)
        self._got.append(Got(to=to, text=str(content.get("content", kind))))
        return json_answer({"errcode": 0, "errmsg": "ok"})

    def _check_content(self, kind: str, content: Mapping[str, Any]) -> None:
        if kind == "text":
            if not content["content"]:
                raise Wrong(44004, "empty content")
            if len(content["content"].encode()) > 2048:
                raise Wrong(45002, "content size out of limit")
        if kind == "news" and len(content["articles"]) != 1:
            raise Wrong(45008, "article size out of limit")
        for field in ("media_id", "thumb_media_id"):
            if field in content and (
                content[field] not in self.uploads or self.uploads[content[field]][0] != kind
            ):
                raise Wrong(40007, "invalid media_id")

    async def _typing(self, request: web.Request) -> web.Response:
        self._authorise(request)
        body = await self._json(request)
        if set(body) != {"touser", "command"}:
            raise Wrong(47001, "fields")
        if body["command"] not in ("Typing", "CancelTyping"):
            raise Wrong(45072, "invalid command")
        to = self._person(body)
        if to in self.closed:
            raise Wrong(45015, "response out of time limit or subscription is canceled")
        self.commands.append(body["command"])
        return json_answer({"errcode": 0, "errmsg": "ok"})

    async def _template(self, request: web.Request) -> web.Response:
        self._authorise(request)
        body = await self._json(request)
        if set(body) - {"client_msg_id", "url"} != {"touser", "template_id", "data"}:
            raise Wrong(47001, "fields")
        return await self._approved(body, {each["template_id"] for each in self.templates})

    async def _subscription(self, request: web.Request) -> web.Response:
        self._authorise(request)
        body = await self._json(request)
        if set(body) - {"page"} != {"touser", "template_id", "data"}:
            raise Wrong(47001, "fields")
        return await self._approved(body, {"SUB-1"})

    async def _approved(self, body: Mapping[str, Any], known: set[str]) -> web.Response:
        to = self._person(body)
        if body["template_id"] not in known:
            raise Wrong(40037, "invalid template_id")
        if any(set(value) != {"value"} for value in body["data"].values()):
            raise Wrong(47003, "argument invalid")
        self.bodies.append(body)
        self._got.append(Got(to=to, text=body["template_id"]))
        msgid = 9007199254740993 + len(self._got)  # beyond what a float can count
        if self.before_answer is not None:
            await self.before_answer(str(msgid))
        return json_answer({"errcode": 0, "errmsg": "ok", "msgid": msgid})

    async def _templates(self, request: web.Request) -> web.Response:
        self._authorise(request)
        return json_answer({"template_list": self.templates})

    async def _subscriptions(self, request: web.Request) -> web.Response:
        self._authorise(request)
        listed = {"priTmplId": "SUB-1", "title": "到货", "content": "商品:{{thing1.DATA}}"}
        return json_answer({"errcode": 0, "errmsg": "ok", "data": [listed]})

    # --- files and people ------------------------------------------------------------------------

    async def _upload(self, request: web.Request) -> web.Response:
        self._authorise(request)
        kind = request.query.get("type", "")
        if kind not in LIMITS or not request.content_type.startswith("multipart/form-data"):
            raise Wrong(40004, "invalid media type")
        field = await (await request.multipart()).next()
        if field is None or getattr(field, "name", "") != "media":
            raise Wrong(41005, "media data missing")
        assert hasattr(field, "filename")
        name, mime = field.filename or "", field.headers.get("Content-Type", "")
        data = await field.read()  # type: ignore[union-attr]
        if not name or not name.isascii() or "filename*" in str(field.headers):
            raise Wrong(41005, "media data missing: no file name")
        if mime not in MIMES.get(kind, ()):
            raise Wrong(40005, "invalid file type")
        if not data or len(data) > LIMITS[kind]:
            raise Wrong(40006, "invalid media size")
        ident = f"up-{self.calls['/cgi-bin/media/upload']}"
        if self.forgets_uploads:
            self.forgets_uploads -= 1
        else:
            self.uploads[ident] = (kind, data, mime, name)
        return json_answer({"type": kind, "media_id": ident, "created_at": 1700000000})

    async def _media(self, request: web.Request) -> web.Response:
        self._authorise(request)
        found = self.files.get(request.query.get("media_id", ""))
        if found is None:
            raise Wrong(40007, "invalid media_id")
        return found() if callable(found) else found

    async def _info(self, request: web.Request) -> web.Response:
        self._authorise(request)
        if request.query.get("lang") != "zh_CN":
            raise Wrong(40035, "lang")
        openid = request.query.get("openid", "")
        if openid not in self.people:
            raise Wrong(40003, "invalid openid")
        return json_answer(self.people[openid])


def json_answer(body: Mapping[str, Any]) -> web.Response:
    return web.Response(
        body=json.dumps(body, ensure_ascii=False).encode(), content_type="application/json"
    )
