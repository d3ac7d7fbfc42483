"""Twilio's messages API, as strict as the real one where a connector can go wrong.

It checks credentials, encoding, parameter names, numbers, the sender, lengths and its opt-out
list. It shares no code with the connector. ``mood``, ``script`` and ``before_answer`` let it
misbehave.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from hub.testing import FakeVendor, Got, Mood
from hub.testing.clock import START

SID = "AC00000000000000000000000000000001"
TOKEN = "hubAuthToken0001"
KEY, KEY_SECRET = "SK00000000000000000000000000000001", "the-secret-of-the-api-key"
NUMBER = "+15005550006"
ALLOWED = {
    "To", "From", "MessagingServiceSid", "Body", "MediaUrl", "StatusCallback", "ValidityPeriod",
    "SmartEncoded",
}  # fmt: skip
E164 = re.compile(r"(?:whatsapp:)?\+[1-9]\d{1,14}\Z")
Answer = tuple[int, Any]


class FakeTwilio(FakeVendor):
    def __init__(self, *, numbers: Sequence[str] = (NUMBER,)) -> None:
        self.numbers = tuple(numbers)
        self.posts: list[list[tuple[str, str]]] = []  # every POST that came, good or bad
        self.messages: list[dict[str, Any]] = []  # the account's list, oldest first
        self.deleted: list[str] = []  # files: message and name
        self.opted_out: set[tuple[str, str]] = set()  # (our number, theirs)
        self.files: dict[str, tuple[bytes, str]] = {}
        self.redirect_to = ""  # where files really are
        self.seen_authorization: list[str] = []
        self.script: list[Answer | str] = []  # for the next POSTs: an answer, "hang" or "lose"
        self.before_answer: Callable[[dict[str, Any]], Awaitable[None]] | None = None
        self.forever = asyncio.Event()
        self.now: Callable[[], datetime] = lambda: START
        self.sms_url = ""
        self.url = ""
        self._ids = itertools.count(1)

    # --- hub.testing.FakeVendor -----------------------------------------------------------------

    @property
    def table(self) -> dict[str, Any]:
        return {
            "account_sid": SID,
            "auth_tokens": [TOKEN],
            "api_key": KEY,
            "api_key_secret": KEY_SECRET,
            "numbers": list(self.numbers),
            "api_url": self.url,
        }

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"provider": "twilio", "twilio": self.table}

    async def says(self, text: str, *, who: str = "ann") -> None:
        number = {"ann": "+8613800138000", "bob": "+8613900139000"}[who]
        self.receives(text, number)

    def got(self) -> Sequence[Got]:
        return [Got(to=each["to"], text=each["body"]) for each in self.sent]

    @property
    def sent(self) -> list[dict[str, Any]]:
        return [each for each in self.messages if each["direction"] == "outbound-api"]

    # --- the vendor's side ----------------------------------------------------------------------

    def receives(self, text: str, number: str, *, files: Sequence[str] = ()) -> dict[str, Any]:
        """Put a message into the list as if its webhook had failed."""
        message = self._made(number, self.numbers[0], text, "inbound", "received")
        message["num_media"] = str(len(files))
        message["files"] = list(files)
        self.messages.append(message)
        return message

    def _made(self, sender: str, to: str, body: str, direction: str, status: str) -> dict[str, Any]:
        at = format_datetime(self.now().astimezone(UTC))
        return {
            "sid": f"SM{next(self._ids):032x}",
            "account_sid": SID,
            "messaging_service_sid": None,
            "from": sender,
            "to": to,
            "body": body,
            "direction": direction,
            "status": status,
            "num_media": "0",
            "num_segments": "1",
            "error_code": None,
            "date_sent": None if status == "queued" else at,
            "date_created": at,
        }

    async def __aenter__(self) -> FakeTwilio:
        app = web.Application()
        base = "/2010-04-01/Accounts/{account}"
        app.router.add_get(f"{base}.json", self._account)
        app.router.add_post(f"{base}/Messages.json", self._post)
        app.router.add_get(f"{base}/Messages.json", self._list)
        app.router.add_get(f"{base}/Messages/{{sid}}/Media.json", self._media_list)
        app.router.add_get(f"{base}/Messages/{{sid}}/Media/{{name}}", self._media)
        app.router.add_delete(f"{base}/Messages/{{sid}}/Media/{{name}}.json", self._delete)
        app.router.add_get(f"{base}/IncomingPhoneNumbers.json", self._number)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.forever.set()
        await self._runner.cleanup()

    def _refused(self, request: web.Request) -> web.Response | None:
        good = {
            base64.b64encode(f"{user}:{secret}".encode()).decode()
            for user, secret in ((KEY, KEY_SECRET), (SID, TOKEN))
        }
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic" or given not in good or request.match_info["account"] != SID:
            return problem(401, 20003, "Authenticate")
        if self.mood is Mood.AWAY:
            return problem(429, 20429, "Too Many Requests")
        if self.mood is Mood.REFUSES and request.method == "GET":
            return problem(403, 20003, "Forbidden")
        if self.mood is Mood.SWALLOWS and request.method == "GET":
            assert request.transport is not None
            request.transport.abort()
        return None

    async def _account(self, request: web.Request) -> web.Response:
        return self._refused(request) or web.json_response({"sid": SID, "status": "active"})

    async def _number(self, request: web.Request) -> web.Response:
        found = [
            {"phone_number": each, "capabilities": {"sms": True}, "sms_url": self.sms_url}
            for each in self.numbers
            if each == request.query.get("PhoneNumber")
        ]
        return self._refused(request) or web.json_response({"incoming_phone_numbers": found})

    async def _post(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        form = parse_qsl(raw.decode(), keep_blank_values=True, strict_parsing=True)
        self.posts.append(form)
        if refused := self._refused(request):
            return refused
        if request.content_type != "application/x-www-form-urlencoded":
            return problem(415, 20001, "Unsupported Media Type")
        scripted = self.script.pop(0) if self.script else None
        if isinstance(scripted, tuple):
            status, body = scripted
            if isinstance(body, str):
                return web.Response(status=status, text=body, content_type="text/html")
            return web.json_response(body, status=status)
        if scripted == "hang":
            await self.forever.wait()
            return web.Response()
        if self.mood is Mood.REFUSES:
            return problem(400, 21612, "This To and From cannot be combined")
        if wrong := self._wrong(form):
            return problem(400, *wrong)
        fields = dict(form)
        made = self._made(
            fields.get("From", "") or self.numbers[0],
            fields["To"],
            fields.get("Body", ""),
            "outbound-api",
            "queued",
        )
        made["callback"] = fields.get("StatusCallback", "")
        made["num_media"] = str(sum(1 for name, _ in form if name == "MediaUrl"))
        self.messages.append(made)
        if self.before_answer is not None:
            await self.before_answer(made)
        if self.mood is Mood.SWALLOWS or scripted == "lose":
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(shown(made), status=201)

    def _wrong(self, form: Sequence[tuple[str, str]]) -> tuple[int, str] | None:
        fields = dict(form)
        names = [name for name, _ in form]
        if unknown := set(names) - ALLOWED:
            return 20001, f"unknown parameters {unknown}"
        if len(set(names) - {"MediaUrl"}) != len([name for name in names if name != "MediaUrl"]):
            return 20001, "a parameter is given twice"
        if not E164.match(fields.get("To", "")):
            return 21211, "Invalid 'To' Phone Number"
        if ("From" in fields) == ("MessagingServiceSid" in fields):
            return 21603, "A 'From' or a MessagingServiceSid is required"
        ours = fields.get("From", self.numbers[0])
        if ours.removeprefix("whatsapp:") not in self.numbers:
            return 21606, "The From phone number is not a valid, SMS-capable number"
        if ours.startswith("whatsapp:") != fields["To"].startswith("whatsapp:"):
            return 21612, "From and To are of different channels"
        if not fields.get("Body") and "MediaUrl" not in fields:
            return 21602, "Message body is required"
        if len(fields.get("Body", "")) > 1600:
            return 21617, "The concatenated message body exceeds the 1600 character limit"
        if names.count("MediaUrl") > 10:
            return 21623, "Number of media files exceeds allowed limit"
        host = re.match(r"https?://([^/:]+)", fields.get("StatusCallback", "http://x"))
        if host is None or "_" in host[1]:
            return 21609, "Invalid 'StatusCallback' URL"
        if not 1 <= int(fields.get("ValidityPeriod", "36000")) <= 36000:
            return 20001, "ValidityPeriod out of range"
        if (ours, fields["To"]) in self.opted_out:
            return 21610, "Attempt to send to unsubscribed recipient"
        return None

    async def _list(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        query = request.query
        assert set(query) <= {"To", "DateSent>", "PageSize", "Page"}, sorted(query)
        found = [each for each in self.messages if each["to"] == query["To"]]
        if "DateSent>" in query:  # what is queued has not been sent on any day
            since = datetime.strptime(query["DateSent>"], "%Y-%m-%d").replace(tzinfo=UTC)
            dated = [each for each in found if each["date_sent"]]
            found = [each for each in dated if self._day(each) >= since]
        found.reverse()  # newest first
        size, page = int(query["PageSize"]), int(query.get("Page", "0"))
        more = len(found) > size * (page + 1)
        following = request.rel_url.update_query(Page=str(page + 1))
        return web.json_response(
            {
                "messages": [shown(each) for each in found[size * page : size * (page + 1)]],
                "next_page_uri": following.raw_path_qs if more else None,
            }
        )

    def _day(self, message: Mapping[str, Any]) -> datetime:
        at = datetime.strptime(message["date_sent"], "%a, %d %b %Y %H:%M:%S %z")
        return at.replace(hour=0, minute=0, second=0)

    async def _media_list(self, request: web.Request) -> web.Response:
        sid = request.match_info["sid"]
        message = next(each for each in self.messages if each["sid"] == sid)
        uri = f"/2010-04-01/Accounts/{SID}/Messages/{sid}/Media"
        listed = [
            {"sid": name, "uri": f"{uri}/{name}.json", "content_type": self.files[name][1]}
            for name in message["files"]
        ]
        return self._refused(request) or web.json_response({"media_list": listed})

    async def _media(self, request: web.Request) -> web.Response:
        self.seen_authorization.append(request.headers.get("Authorization", ""))
        if refused := self._refused(request):
            return refused
        if self.redirect_to:
            return web.Response(status=307, headers={"Location": self.redirect_to})
        if request.match_info["name"] not in self.files:
            return problem(404, 20404, "Not found")
        body, mime = self.files[request.match_info["name"]]
        return web.Response(body=body, content_type=mime)

    async def _delete(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        if self.files.pop(request.match_info["name"], None) is None:
            return problem(404, 20404, "Not found")
        self.deleted.append(f"{request.match_info['sid']}/{request.match_info['name']}")
        return web.Response(status=204)


def shown(message: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name not in ("files", "callback")}


def problem(status: int, code: int, message: str) -> web.Response:
    body = {"code": code, "message": message, "status": status}
    return web.json_response(body, status=status)
