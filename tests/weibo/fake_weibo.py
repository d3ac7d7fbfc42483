"""Weibo as far as the connector speaks to it, and stricter than the vendor may be.

It checks the token, that a form is encoded once, each field and each limit of the sheet, and who
may be written to; whatever is wrong is answered as Weibo would, and noted in ``violations``.
``mood`` is one of the contract suite's; ``next_answer`` makes the next answer anything else.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from hub.testing import FakeVendor, Got, Mood

TOKEN = "2.00the_one_year_token"
REPLY = "/2/messages/reply.json"
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
_REQUIRED = ("access_token", "type", "data", "receiver_id")
_TYPES = {"text", "articles", "position"}


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What the next call is answered instead; ``acts``: it is done all the same."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}
    acts: bool = False
    hangs: bool = False
    cuts: bool = False
    breaks_off: bool = False  # after the body, of which more was promised


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A message that Weibo took."""

    to: str
    type: str
    data: Mapping[str, Any]
    saved: str


def error(code: int | str, text: str, status: int = 400) -> Answers:
    """Return one of Weibo's errors."""
    body = {"request": REPLY, "error_code": code, "error": text}
    return Answers(status=status, body=json.dumps(body).encode())


class FakeWeibo(FakeVendor):
    """``async with FakeWeibo() as weibo:``"""

    def __init__(self) -> None:
        self.token = TOKEN
        self.taken: list[Taken] = []
        self.violations: list[str] = []
        self.calls: Counter[str] = Counter()
        self.next_answer: list[Answers] = []
        self.unfollowed: set[str] = set()
        self.one_each: Counter[str] | None = None  # whom it may be sent how often; None: anybody
        self.files: dict[str, tuple[str, bytes]] = {}
        self.fans: dict[str, Mapping[str, Any]] = {}
        self.let_go = asyncio.Event()
        self._url = ""

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "reply_url": f"{self._url}{REPLY}",
            "api_url": self._url,
            "upload_url": self._url,
            "access_token": TOKEN,
        }

    @property
    def host(self) -> str:
        return self._url.partition("://")[2]

    def got(self) -> Sequence[Got]:
        return [Got(to=each.to, text=str(each.data.get("text", ""))) for each in self.taken]

    async def __aenter__(self) -> FakeWeibo:
        app = web.Application(client_max_size=10 * 1024 * 1024)
        app.router.add_route("*", REPLY, self._reply)
        app.router.add_get("/2/eps/user/info.json", self._profile)
        app.router.add_get("/2/mss/msget", self._file)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.let_go.set()
        await self._runner.cleanup()

    # --- answers -------------------------------------------------------------------------------

    async def _reply(self, request: web.Request) -> web.StreamResponse:
        self.calls["reply"] += 1
        raw = await request.read()
        if self.mood is Mood.AWAY:
            return web.Response(status=503)
        planned = self.next_answer.pop(0) if self.next_answer else None
        if planned is not None and not planned.acts:
            return await self._play(request, planned)
        wrong = self._wrong(request, raw)
        if wrong is not None:
            return await self._play(request, wrong)
        if self.mood is Mood.REFUSES:
            return await self._play(request, error(20302, "you are in the blacklist"))
        form = dict(parse_qsl(raw.decode()))
        self.taken.append(
            Taken(
                to=form["receiver_id"],
                type=form["type"],
                data=json.loads(form["data"]),
                saved=form.get("save_sender_box", "1"),
            )
        )
        if self.one_each is not None:
            self.one_each[form["receiver_id"]] -= 1
        if self.mood is Mood.SWALLOWS:
            planned = Answers(cuts=True)
        return await self._play(request, planned or Answers(body=b'{"result":true}'))

    def _wrong(self, request: web.Request, raw: bytes) -> Answers | None:
        """Return what Weibo answers to a request that it does not take."""
        if request.method != "POST":
            return self._note(error(10021, "HTTP method is not suported for this request!", 403))
        if request.content_type != "application/x-www-form-urlencoded":
            return self._note(error(10007, "Unsupport mediatype!"))
        if request.query_string:
            return self._note(error(10012, "Illegal request!", 403))
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, strict_parsing=True)
        form = dict(pairs)
        if len(form) != len(pairs) or set(form) - {*_REQUIRED, "save_sender_box"}:
            return self._note(error(10008, "Param error, see doc for more info"))
        if "access_token" not in form:
            return self._note(error(10006, "Source paramter (appkey) is missing!"))
        if form["access_token"] != self.token:
            return error(21332, "invalid_access_token", 403)
        missing = [name for name in _REQUIRED if not form.get(name)]
        if missing:
            return self._note(error(10016, f"Miss required parameter ({missing[0]})"))
        if not re.fullmatch(r"[0-9]{1,20}", form["receiver_id"]):
            return self._note(error(10017, "Parameter (receiver_id)'s value invalid"))
        if form.get("save_sender_box", "1") not in ("0", "1") or form["type"] not in _TYPES:
            return self._note(error(10017, "Parameter's value invalid"))
        wrong = _wrong_data(form["type"], form["data"])
        if wrong:
            return self._note(error(10017, f"Parameter (data)'s value invalid: {wrong}"))
        if form["receiver_id"] in self.unfollowed:
            return error("20301", "not your fans", 403)
        if self.one_each is not None and self.one_each[form["receiver_id"]] < 1:
            return self._note(error(20309, "out of quota", 403))
        return None

    def _note(self, answers: Answers) -> Answers:
        self.violations.append(answers.body.decode())
        return answers

    # --- profiles and files --------------------------------------------------------------------

    async def _profile(self, request: web.Request) -> web.StreamResponse:
        self.calls["profile"] += 1
        if self.next_answer:
            return await self._play(request, self.next_answer.pop(0))
        if request.query.get("access_token") != self.token:
            return await self._play(request, error(21327, "expired_token", 403))
        assert set(request.query) == {"access_token", "uid"}
        return web.json_response(self.fans.get(request.query["uid"], {"follow": "0"}))

    async def _file(self, request: web.Request) -> web.StreamResponse:
        self.calls["file"] += 1
        if self.next_answer:
            return await self._play(request, self.next_answer.pop(0))
        if request.query.get("access_token") != self.token:
            return await self._play(request, error(21327, "expired_token", 200))
        assert set(request.query) == {"access_token", "fid"}
        found = self.files.get(request.query["fid"])
        if found is None:
            return await self._play(request, error(10017, "Parameter (fid)'s value invalid", 200))
        mime, body = found
        return web.Response(body=body, headers={"Content-Type": mime} if mime else {})

    # -------------------------------------------------------------------------------------------

    async def _play(self, request: web.Request, answers: Answers) -> web.StreamResponse:
        if answers.hangs:
            await self.let_go.wait()
        if answers.cuts and request.transport is not None:
            request.transport.abort()
        headers = {"Content-Type": "application/json", **answers.headers}
        if answers.breaks_off:
            promised = {**headers, "Content-Length": str(len(answers.body) + 1)}
            response = web.StreamResponse(status=answers.status, headers=promised)
            await response.prepare(request)
            await response.write(answers.body)
            assert request.transport is not None
            request.transport.close()
            return response
        return web.Response(status=answers.status, body=answers.body, headers=headers)


def _wrong_data(kind: str, text: str) -> str:
    """Return what is wrong with the data of a message, "" if nothing is."""
    if _PERCENT.match(text):
        return "encoded twice"
    try:
        data = json.loads(text)
    except ValueError:
        return "no JSON"
    if kind == "text":
        return _wrong_text(data)
    if kind == "position":
        good = set(data) == {"longitude", "latitude"}
        good = good and all(isinstance(each, str) and float(each) for each in data.values())
        return "" if good else "position"
    if set(data) != {"articles"} or not 1 <= len(data["articles"]) <= 8:
        return "articles"
    for article in data["articles"]:
        if set(article) != {"display_name", "summary", "image", "url"}:
            return "article"
        if not all(isinstance(each, str) for each in article.values()) or not article["url"]:
            return "article"
    return ""


def _wrong_text(data: Any) -> str:
    if set(data) != {"text"} or not isinstance(data["text"], str) or not data["text"]:
        return "text"
    characters = len(data["text"].encode("utf-16-le")) // 2
    return "too long" if characters >= 300 else ""
