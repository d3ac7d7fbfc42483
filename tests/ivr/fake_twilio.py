"""Twilio's voice side, as strict as Twilio: it plays a caller through the hub's documents.

It checks what it is told: that a document is XML with the right content type and status, that
every verb, attribute, value and nesting is in Twilio's schema (contracts: voice.md section 4), that
URLs are absolute and of the hub, that a Record has an action. It signs what it sends like Twilio,
follows Gather, Redirect, Record, Dial and Enqueue, and keeps callbacks until a test delivers them,
in whatever order. Whether it records at this moment is known, so that a test can look.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from xml.etree import ElementTree

import msgspec
from aiohttp import web

ACCOUNT_SID = "AC" + "0" * 31 + "1"
TOKEN = "hubAuthToken0001"
NUMBER = "+15005550006"
CALLER = "+8613800138000"
DOOR = "https://hub.example/in/ivr/main"

_URL = r"https?://\S+"
_NUMBER = r"[0-9]{1,5}"
_BOOL = r"true|false"
_EVENTS = r"(initiated|ringing|answered|completed)( (initiated|ringing|answered|completed))*"
SCHEMA: dict[str, dict[str, str]] = {
    "Say": {"language": r"[a-zA-Z-]{2,20}", "voice": r"[A-Za-z0-9.-]+"},
    "Play": {},
    "Pause": {"length": _NUMBER},
    "Gather": {
        "input": r"dtmf|speech|dtmf speech",
        "numDigits": _NUMBER,
        "timeout": _NUMBER,
        "speechTimeout": r"auto|[0-9]+",
        "speechModel": r"[a-z0-9_-]+",
        "finishOnKey": r"[0-9#*]?",
        "language": r"[a-zA-Z-]{2,20}",
        "hints": r".{1,1000}",
        "action": _URL,
        "method": "POST",
        "actionOnEmptyResult": _BOOL,
    },
    "Dial": {
        "action": _URL,
        "method": "POST",
        "timeout": _NUMBER,
        "timeLimit": _NUMBER,
        "answerOnBridge": _BOOL,
        "callerId": r"\+[0-9]{6,15}",
        "record": "record-from-answer-dual",
        "recordingStatusCallback": _URL,
        "recordingStatusCallbackEvent": r"(in-progress|completed|absent)( (completed|absent))*",
    },
    **{
        noun: {"url": _URL, "statusCallback": _URL, "statusCallbackEvent": _EVENTS}
        for noun in ("Number", "Client", "Sip")
    },
    "Record": {
        "action": _URL,
        "method": "POST",
        "maxLength": _NUMBER,
        "timeout": _NUMBER,
        "finishOnKey": r"[0-9#*]?",
        "playBeep": _BOOL,
        "recordingStatusCallback": _URL,
        "recordingStatusCallbackEvent": r"(in-progress|completed|absent)( (completed|absent))*",
    },
    "Enqueue": {"action": _URL, "method": "POST", "waitUrl": _URL, "waitUrlMethod": "POST"},
    "Redirect": {"method": "POST"},
    "Reject": {"reason": "busy|rejected"},
    "Hangup": {},
    "Leave": {},
}
INSIDE = {"Gather": {"Say", "Play", "Pause"}, "Dial": {"Number", "Client", "Sip"}}
MAX_SAY = 4096

Post = Callable[[str, bytes, dict[str, str]], Awaitable[tuple[int, str, bytes]]]
"""Sends one request (URL, body, headers); returns status, content type and body."""


class Broken(AssertionError):
    """The hub told Twilio something that Twilio would not take."""


def sign(url: str, fields: Sequence[tuple[str, str]], token: str = TOKEN) -> str:
    """Return X-Twilio-Signature, written a second time, so that one alone can be wrong."""
    text = url
    for name in sorted({name for name, _ in fields}):
        for value in sorted({value for other, value in fields if other == name}):
            text += name + value
    made = hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(made).decode()


def read_document(status: int, content_type: str, body: bytes) -> list[ElementTree.Element]:
    """Return the verbs of a document. Raises Broken for what Twilio would not take."""
    if status != 200:
        raise Broken(f"11200: status {status}")
    if content_type.partition(";")[0].strip() not in ("text/xml", "application/xml"):
        raise Broken(f"12300: content type {content_type}")
    if len(body) > 64 * 1024:
        raise Broken("11750: the document has more than 64 KB")
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise Broken(f"12100: {error}: {body[:300]!r}") from error
    if root.tag != "Response" or root.attrib:
        raise Broken(f"12100: the root is {root.tag}")
    for verb in root:
        _check(verb, inside="")
    return list(root)


def _check(verb: ElementTree.Element, inside: str) -> None:
    if verb.tag not in SCHEMA or (inside and verb.tag not in INSIDE.get(inside, set())):
        raise Broken(f"12200: <{verb.tag}> in <{inside or 'Response'}>")
    if not inside and verb.tag in ("Number", "Client", "Sip"):
        raise Broken(f"12200: <{verb.tag}> stands alone")
    for name, value in verb.attrib.items():
        pattern = SCHEMA[verb.tag].get(name)
        if pattern is None:
            raise Broken(f"12200: <{verb.tag} {name}>")
        if not re.fullmatch(pattern, value):
            raise Broken(f"12200: <{verb.tag} {name}={value!r}>")
        if pattern == _URL and "_" in (urlsplit(value).hostname or ""):
            raise Broken(f"a host with an underscore: {value}")
    text = verb.text or ""
    if verb.tag == "Say" and not 0 < len(text) <= MAX_SAY:
        raise Broken(f"13520: a text of {len(text)} characters")
    if verb.tag in ("Play", "Redirect") and not re.fullmatch(_URL, text):
        raise Broken(f"11100: {text!r}")
    if verb.tag == "Number" and not re.fullmatch(r"\+[1-9][0-9]{6,14}", text):
        raise Broken(f"13223: {text!r}")
    if verb.tag == "Record" and "action" not in verb.attrib:
        raise Broken("a Record without an action asks for its own document for ever")
    if verb.tag == "Dial" and len(verb) == 0:
        raise Broken("a Dial without anybody")
    for below in verb:
        _check(below, inside=verb.tag)


class Callback(msgspec.Struct, kw_only=True):
    """A notification that Twilio has not delivered yet."""

    name: str
    url: str
    fields: dict[str, str]


class Call:
    """One call, as its caller lives it.

    ``waits`` is the verb that Twilio stands at; ``heard`` what the caller heard, in order.
    """

    def __init__(
        self,
        post: Post,
        *,
        door: str = DOOR,
        number: int = 1,
        caller: str = CALLER,
        now: Callable[[], datetime],
        **fields: str,
    ) -> None:
        self._post = post
        self._door = door
        self._now = now
        self.sid = f"CA{number:032x}"
        self.child = f"CA{number + 0xC0000:032x}"
        self.fields = {
            "AccountSid": ACCOUNT_SID,
            "ApiVersion": "2010-04-01",
            "CallSid": self.sid,
            "From": caller,
            "To": NUMBER,
            "Caller": caller,
            "Called": NUMBER,
            "Direction": "inbound",
            "CallerCity": "",
            **fields,
        }
        self.heard: list[str] = []
        self.waits: ElementTree.Element | None = None
        self.rest: list[ElementTree.Element] = []
        self.callbacks: list[Callback] = []
        self.over = ""  # how it ended: completed, busy, ...
        self.recording = False
        self.recorded_during: list[str] = []  # what was heard or typed while it recorded
        self.recordings = 0
        self.sent: list[tuple[str, dict[str, str]]] = []
        self.documents: list[bytes] = []
        self._legs = 0

    # --- what the caller does ------------------------------------------------------------------

    async def rings(self) -> Call:
        await self._ask(self._door, {"CallStatus": "ringing"})
        return self

    async def presses(self, keys: str) -> Call:
        gather = self._at("Gather")
        if self.recording:
            self.recorded_during.append(keys)
        longest = int(gather.get("numDigits", "0"))
        finish = gather.get("finishOnKey", "#")
        taken = ""
        for key in keys:
            if finish and key == finish:
                break
            taken += key
            if longest and len(taken) == longest:
                break
        await self._continue(gather, {"Digits": taken})
        return self

    async def speaks(self, words: str, confidence: str = "0.91") -> Call:
        gather = self._at("Gather")
        assert "speech" in gather.get("input", "dtmf"), "this question takes keys only"
        assert gather.get("language"), "speech in no language"
        await self._continue(gather, {"SpeechResult": words, "Confidence": confidence})
        return self

    async def says_nothing(self) -> Call:
        """Wait out a question: Twilio asks only where actionOnEmptyResult is set."""
        gather = self._at("Gather")
        if gather.get("actionOnEmptyResult") == "true":
            await self._continue(gather, {"Digits": ""})
        else:
            await self._run(self.rest)
        return self

    async def leaves_a_message(self, seconds: int, *, hangs_up: bool = False) -> Call:
        """Speak after the tone; the file is told of later, by a callback."""
        record = self._at("Record")
        self.recordings += 1
        sid = f"RE{self.recordings:032x}"
        url = f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT_SID}/Recordings/{sid}"
        told = record.get("recordingStatusCallback")
        if told:
            self._recorded(told, sid, url, seconds, "RecordVerb")
        if hangs_up:
            return await self.hangs_up()
        fields = {"RecordingUrl": url, "RecordingDuration": str(seconds), "Digits": "#"}
        await self._continue(record, fields)
        return self

    async def hangs_up(self) -> Call:
        """End the call: no action is asked any more, callbacks tell it."""
        if self.waits is not None and self.waits.tag == "Dial":
            self._leg(self.waits, "canceled", 9)
        self._ended("completed")
        return self

    # --- what the other side does --------------------------------------------------------------

    async def nobody_answers(self, status: str = "no-answer") -> Call:
        dial = self._at("Dial")
        self._leg(dial, "ringing", 1)
        self._leg(dial, status, 2)
        await self._continue(
            dial,
            {"DialCallStatus": status, "DialCallSid": self.child, "DialBridged": "false"},
        )
        return self

    async def is_answered(self, *, accepts: str | None = "1", talks_s: int = 60) -> Call:
        """Somebody, or a mailbox, picks up; ``accepts`` is what they press when screened."""
        dial = self._at("Dial")
        noun = dial[0]
        self._leg(dial, "ringing", 1)
        self._leg(dial, "in-progress", 2)
        bridged = True
        if noun.get("url"):
            bridged = await self._screened(noun, accepts)
        if not bridged:
            self._leg(dial, "completed", 3, duration=4)
            fields = {"DialCallStatus": "completed", "DialBridged": "false"}
            await self._continue(dial, {**fields, "DialCallSid": self.child})
            return self
        if dial.get("record"):
            self.recording = True
            self.recorded_during.append("conversation")
            self.recordings += 1
            sid = f"RE{self.recordings:032x}"
            url = f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT_SID}/Recordings/{sid}"
            self._recorded(dial.attrib["recordingStatusCallback"], sid, url, talks_s, "DialVerb")
        self._leg(dial, "completed", 3, duration=talks_s)
        self.recording = False
        await self._continue(
            dial,
            {
                "DialCallStatus": "completed",
                "DialCallSid": self.child,
                "DialCallDuration": str(talks_s),
                "DialBridged": "true",
            },
        )
        return self

    async def leaves_the_queue(self, result: str, waited_s: int) -> Call:
        enqueue = self._at("Enqueue")
        await self._continue(enqueue, {"QueueResult": result, "QueueTime": str(waited_s)})
        return self

    async def waits_in_queue(self, waited_s: int | None) -> list[str]:
        """Return the verbs of what is heard after so long; None: Twilio does not say how long."""
        url = self._at("Enqueue").attrib["waitUrl"]
        told = {} if waited_s is None else {"QueueTime": str(waited_s)}
        fields = {**self.fields, "CallStatus": "in-progress", **told}
        verbs = await self._document(url, fields)
        return [verb.tag for verb in verbs]

    # --- callbacks -------------------------------------------------------------------------------

    async def deliver(self, *, order: Callable[[list[Callback]], None] | None = None) -> None:
        """Deliver every callback; ``order`` changes the list in place before."""
        waiting, self.callbacks = self.callbacks, []
        if order is not None:
            order(waiting)
        for each in waiting:
            await self.notify(each)

    async def notify(self, callback: Callback) -> None:
        status, _, _ = await self.send(callback.url, callback.fields)
        if not 200 <= status < 300:
            raise Broken(f"11200: {callback.name}: status {status}")

    async def send(self, url: str, fields: dict[str, str]) -> tuple[int, str, bytes]:
        pairs = list(fields.items())
        self.sent.append((url, fields))
        headers = {
            "content-type": "application/x-www-form-urlencoded; charset=UTF-8",
            "x-twilio-signature": sign(url, pairs),
            "i-twilio-idempotency-token": hashlib.sha256(repr(pairs).encode()).hexdigest(),
        }
        return await self._post(url, urlencode(pairs).encode(), headers)

    # ---------------------------------------------------------------------------------------------

    def _at(self, tag: str) -> ElementTree.Element:
        assert not self.over, f"the call is over: {self.over}"
        assert self.waits is not None, "the call waits for nothing"
        assert self.waits.tag == tag, f"the call is at <{self.waits.tag}>, not at <{tag}>"
        return self.waits

    async def _continue(self, verb: ElementTree.Element, fields: dict[str, str]) -> None:
        await self._ask(verb.attrib["action"], {"CallStatus": "in-progress", **fields})

    async def _ask(self, url: str, fields: dict[str, str]) -> None:
        await self._run(await self._document(url, {**self.fields, **fields}))

    async def _document(self, url: str, fields: dict[str, str]) -> list[ElementTree.Element]:
        status, content_type, body = await self.send(url, fields)
        self.documents.append(body)
        return read_document(status, content_type, body)

    async def _run(self, verbs: list[ElementTree.Element]) -> None:
        self.waits = None
        for place, verb in enumerate(verbs):
            self.rest = verbs[place + 1 :]
            match verb.tag:
                case "Say" | "Play":
                    self.heard.append(verb.text or "")
                case "Pause":
                    pass
                case "Gather":
                    self.heard += [below.text or "" for below in verb if below.tag != "Pause"]
                    self.waits = verb
                    return
                case "Record" | "Dial" | "Enqueue":
                    self._legs += verb.tag == "Dial"
                    self.waits = verb
                    return
                case "Redirect":
                    await self._ask(verb.text or "", {"CallStatus": "in-progress"})
                    return
                case "Reject":
                    self._ended("busy")
                    return
                case "Hangup":
                    self._ended("completed")
                    return
                case _:
                    raise Broken(f"<{verb.tag}> cannot stand here")
        self._ended("completed")

    async def _screened(self, noun: ElementTree.Element, accepts: str | None) -> bool:
        """Play the document for whoever picked up; True if the caller is let through to them."""
        leg = {
            **self.fields,
            "CallSid": self.child,
            "ParentCallSid": self.sid,
            "Direction": "outbound-dial",
            "CallStatus": "in-progress",
        }
        verbs = await self._document(noun.attrib["url"], leg)
        gathers = [verb for verb in verbs if verb.tag == "Gather"]
        if not gathers:
            return all(verb.tag not in ("Hangup", "Reject") for verb in verbs)
        answer = {**leg, "Digits": accepts or ""}
        verbs = await self._document(gathers[0].attrib["action"], answer)
        return all(verb.tag not in ("Hangup", "Reject") for verb in verbs)

    def _leg(
        self, dial: ElementTree.Element, status: str, sequence: int, duration: int | None = None
    ) -> None:
        noun = dial[0]
        fields = {
            "AccountSid": ACCOUNT_SID,
            "CallSid": f"CA{int(self.child[2:], 16) + self._legs:032x}",
            "ParentCallSid": self.sid,
            "CallStatus": status,
            "Direction": "outbound-dial",
            "From": NUMBER,
            "To": noun.text or "",
            "SequenceNumber": str(sequence),
            "CallbackSource": "call-progress-events",
            "Timestamp": format_datetime(self._now()),
        }
        if duration is not None:
            fields["CallDuration"] = str(duration)
        self.callbacks.append(
            Callback(name=f"leg {status}", url=noun.attrib["statusCallback"], fields=fields)
        )

    def _recorded(self, url: str, sid: str, at: str, seconds: int, source: str) -> None:
        fields = {
            "AccountSid": ACCOUNT_SID,
            "CallSid": self.sid,
            "RecordingSid": sid,
            "RecordingUrl": at,
            "RecordingStatus": "completed",
            "RecordingDuration": str(seconds),
            "RecordingChannels": "1",
            "RecordingSource": source,
        }
        self.callbacks.append(Callback(name="recording", url=url, fields=fields))

    def _ended(self, status: str) -> None:
        self.over = status
        self.waits = None
        self.recording = False
        fields = {
            **self.fields,
            "CallStatus": status,
            "SequenceNumber": "3",
            "CallbackSource": "call-progress-events",
            "Timestamp": format_datetime(self._now()),
        }
        if status == "completed":
            fields["CallDuration"] = "126"
        self.callbacks.append(Callback(name="ended", url=f"{self._door}/status", fields=fields))


class FakeApi:
    """Twilio's REST API: numbers, calls, recordings. Every request needs the credentials."""

    def __init__(self) -> None:
        self.numbers: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.recordings: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}  # RecordingSid: sound
        self.not_yet: dict[str, int] = {}  # so many 404s before a file is there
        self.deleted: list[str] = []
        self.user, self.password = ACCOUNT_SID, TOKEN
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.trouble = 0  # a status that everything is answered with; -1: the line is cut
        self.url = ""

    async def __aenter__(self) -> FakeApi:
        app = web.Application()
        base = f"/2010-04-01/Accounts/{ACCOUNT_SID}"
        app.router.add_get(f"{base}/IncomingPhoneNumbers.json", self._numbers)
        app.router.add_get(f"{base}/Calls.json", self._calls)
        app.router.add_get(f"{base}/Recordings.json", self._recordings)
        app.router.add_get(f"{base}/Recordings/{{name}}", self._recording)
        app.router.add_delete(f"{base}/Recordings/{{name}}", self._delete)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._runner.cleanup()

    def _authorize(self, request: web.Request) -> None:
        self.asked.append((request.path, dict(parse_qsl(request.query_string))))
        pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {pair}":
            body = '{"code": 20003, "message": "Authenticate", "status": 401}'
            raise web.HTTPUnauthorized(text=body, content_type="application/json")
        if self.trouble < 0:
            assert request.transport is not None
            request.transport.abort()
        if self.trouble == 429:
            body = '{"code": 20429, "message": "Too many requests"}'
            raise web.HTTPTooManyRequests(text=body, headers={"Retry-After": "7"})
        if self.trouble > 0:
            raise web.HTTPServiceUnavailable(text="<html>busy</html>", content_type="text/html")

    async def _numbers(self, request: web.Request) -> web.Response:
        self._authorize(request)
        return web.json_response({"incoming_phone_numbers": self.numbers})

    async def _calls(self, request: web.Request) -> web.Response:
        self._authorize(request)
        wanted = request.query.get("To")
        since = request.query.get("StartTime>", "")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", since), "StartTime> takes a day"
        found = [call for call in self.calls if call["to"] == wanted]
        return web.json_response({"calls": found, "next_page_uri": None})

    async def _recordings(self, request: web.Request) -> web.Response:
        self._authorize(request)
        since = request.query.get("DateCreated>", "")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", since), "DateCreated> takes a day"
        return web.json_response({"recordings": self.recordings, "next_page_uri": None})

    async def _recording(self, request: web.Request) -> web.Response:
        self._authorize(request)
        sid, _, suffix = request.match_info["name"].partition(".")
        if suffix != "mp3" or sid not in self.files:
            raise web.HTTPNotFound
        if self.not_yet.get(sid, 0) > 0:
            self.not_yet[sid] -= 1
            raise web.HTTPNotFound
        return web.Response(body=self.files[sid], content_type="audio/mpeg")

    async def _delete(self, request: web.Request) -> web.Response:
        self._authorize(request)
        sid, _, suffix = request.match_info["name"].partition(".")
        assert suffix == "json"
        if self.files.pop(sid, None) is None:
            raise web.HTTPNotFound(
                text='{"code": 20404, "message": "not found"}', content_type="application/json"
            )
        self.deleted.append(sid)
        return web.Response(status=204)
