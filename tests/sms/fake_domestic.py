"""Aliyun's and Tencent Cloud's SMS APIs, strict about what the vendors are strict about.

Signatures are checked by code of the fakes' own, written from the vendors' pages; so are dates,
action, version, numbers, signature name, template and its values.
"""

from __future__ import annotations

import abc
import asyncio
import hashlib
import hmac
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, quote

from aiohttp import web

from hub.testing import FakeVendor, Got, Mood
from hub.testing.clock import START

PUSH_SECRET = "k7Qp2Lw9Zt4Xc8Vb"
TEMPLATES = [
    {"code": "SMS_1", "params": ["content"], "preview": "您的客服回复：{content}"},
    {"code": "SMS_2", "params": ["order", "day"], "preview": "订单{order}将于{day}送达"},
    {"code": "SMS_3", "params": [], "preview": "请到网站查看回复"},
]
BLANKS = {each["code"]: each["params"] for each in TEMPLATES}


class FakeDomestic(FakeVendor):
    """What both have in common: moods, a script, and what they took."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.asked = 0
        self.wrong: list[str] = []  # what was wrong with requests
        self.script: list[Any] = []  # (status, answer) or "hang" or "lose", for the next calls
        self.before_answer: Callable[[dict[str, Any]], Awaitable[None]] | None = None
        self.forever = asyncio.Event()
        self.now: Callable[[], datetime] = lambda: START
        self.url = ""

    def got(self) -> Sequence[Got]:
        return [Got(to=each["to"], text=json.dumps(each["params"])) for each in self.taken]

    async def __aenter__(self) -> Any:
        app = web.Application()
        app.router.add_route("*", "/{any:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.forever.set()
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        body = await request.read()
        scripted = self.script.pop(0) if self.script else None
        if scripted == "hang":
            await self.forever.wait()
            return web.Response()
        if isinstance(scripted, tuple):
            status, answer = scripted
            text = answer if isinstance(answer, str) else json.dumps(answer)
            return web.Response(status=status, text=text, content_type="application/json")
        status, answer = self.judge(request, body)
        if self.taken and self.taken[-1].get("new"):
            taken = self.taken[-1]
            taken["new"] = False
            if self.before_answer is not None:
                await self.before_answer(taken)
            if self.mood is Mood.SWALLOWS or scripted == "lose":
                assert request.transport is not None
                request.transport.abort()
        return web.json_response(answer, status=status)

    @abc.abstractmethod
    def judge(self, request: web.Request, body: bytes) -> tuple[int, Any]: ...

    def take(self, number: str, template: str, params: Mapping[str, str], key: str) -> str:
        ident = f"9327{len(self.taken):014d}^0"
        self.taken.append(
            {"to": number, "template": template, "params": dict(params), "key": key, "id": ident,
             "new": True}
        )  # fmt: skip
        return ident


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class FakeAliyun(FakeDomestic):
    KEY_ID, KEY_SECRET, SIGN = "LTAI1", "the-secret-of-the-access-key", "某品牌"

    @property
    def table(self) -> dict[str, Any]:
        return {
            "access_key_id": self.KEY_ID,
            "access_key_secret": self.KEY_SECRET,
            "sign_name": self.SIGN,
            "templates": TEMPLATES,
            "push_secrets": [PUSH_SECRET],
            "allowed_ips": ["203.0.113.0/24"],
            "api_url": self.url or "http://127.0.0.1:9",
        }

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"provider": "aliyun", "aliyun": self.table}

    def judge(self, request: web.Request, body: bytes) -> tuple[int, Any]:
        if problem := self._unsigned(request, body):
            self.wrong.append(problem)
            return 400, {"Code": problem, "Message": problem, "RequestId": "r"}
        if self.mood is Mood.AWAY:
            return 429, {"Code": "Throttling.User", "Message": "slow down", "RequestId": "r"}
        query = dict(parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True))
        if request.headers["x-acs-action"] == "QuerySmsTemplateList":
            return 200, {"Code": "OK", "SmsTemplateList": [], "RequestId": "r"}
        if self.mood is Mood.REFUSES:
            code = "isv.SMS_TEMPLATE_ILLEGAL"
            return 200, {"Code": code, "Message": "模板不合法", "RequestId": "r"}
        if problem := self._wrong(query):
            self.wrong.append(problem)
            return 200, {"Code": problem, "Message": problem, "RequestId": "r"}
        params = json.loads(query.get("TemplateParam", "{}"))
        ident = self.take(query["PhoneNumbers"], query["TemplateCode"], params, query["OutId"])
        return 200, {"Code": "OK", "Message": "OK", "BizId": ident, "RequestId": "r"}

    def _unsigned(self, request: web.Request, body: bytes) -> str:
        headers = request.headers
        found = re.match(
            r"ACS3-HMAC-SHA256 Credential=([^,]+),SignedHeaders=([^,]+),Signature=([0-9a-f]{64})\Z",
            headers.get("Authorization", ""),
        )
        if found is None:
            return "MissingAuthorization"
        key_id, names, given = found.groups()
        if key_id != self.KEY_ID:
            return "InvalidAccessKeyId.NotFound"
        needed = {"host", "x-acs-action", "x-acs-content-sha256", "x-acs-date",
                  "x-acs-signature-nonce", "x-acs-version"}  # fmt: skip
        if not needed <= set(names.split(";")) or names.split(";") != sorted(names.split(";")):
            return "IncompleteSignature"
        if headers["x-acs-content-sha256"] != _sha256(body):
            return "IncompleteSignature"
        at = datetime.strptime(headers["x-acs-date"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        if abs((at - self.now()).total_seconds()) > 900:
            return "InvalidTimeStamp.Expired"
        pairs = parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True)
        query = "&".join(
            f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
            for name, value in sorted(pairs)
        )
        lines = "".join(f"{name}:{headers[name].strip()}\n" for name in names.split(";"))
        canonical = f"{request.method}\n/\n{query}\n{lines}\n{names}\n{_sha256(body)}"
        text = f"ACS3-HMAC-SHA256\n{_sha256(canonical.encode())}"
        made = hmac.new(self.KEY_SECRET.encode(), text.encode(), "sha256").hexdigest()
        return "" if made == given else "SignatureDoesNotMatch"

    def _wrong(self, query: Mapping[str, str]) -> str:
        if not re.fullmatch(r"1[3-9]\d{9}|[1-9]\d{6,14}", query.get("PhoneNumbers", "")):
            return "isv.MOBILE_NUMBER_ILLEGAL"
        if query.get("SignName") != self.SIGN:
            return "isv.SMS_SIGNATURE_ILLEGAL"
        if query.get("TemplateCode") not in BLANKS:
            return "isv.SMS_TEMPLATE_ILLEGAL"
        params = json.loads(query.get("TemplateParam", "{}"))
        if set(params) != set(BLANKS[query["TemplateCode"]]):
            return "isv.TEMPLATE_MISSING_PARAMETERS"
        if any(not isinstance(value, str) or len(value) > 35 for value in params.values()):
            return "isv.PARAM_LENGTH_LIMIT"
        return ""


class FakeTencent(FakeDomestic):
    SECRET_ID, SECRET_KEY = "AKID1", "the-secret-key-of-tencent"
    APP, SIGN = "1400006666", "某品牌"
    ids = {"449739": "SMS_1", "449740": "SMS_2", "449741": "SMS_3"}

    @property
    def table(self) -> dict[str, Any]:
        codes = {ours: theirs for theirs, ours in self.ids.items()}
        return {
            "secret_id": self.SECRET_ID,
            "secret_key": self.SECRET_KEY,
            "sdk_app_id": self.APP,
            "sign_name": self.SIGN,
            "templates": [{**each, "code": codes[str(each["code"])]} for each in TEMPLATES],
            "push_secrets": [PUSH_SECRET],
            "allowed_ips": ["203.0.113.0/24", "2001:db8::/32"],
            "api_url": self.url or "http://127.0.0.1:9",
        }

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"provider": "tencent", "tencent": self.table}

    def judge(self, request: web.Request, body: bytes) -> tuple[int, Any]:
        """Every answer is a 200: errors are inside."""
        if problem := self._unsigned(request, body):
            self.wrong.append(problem)
            return 200, _error(problem)
        if self.mood is Mood.AWAY:
            return 200, _error("RequestLimitExceeded")
        if request.headers["X-TC-Action"] == "DescribeSmsTemplateList":
            return 200, {"Response": {"DescribeTemplateStatusSet": [], "RequestId": "r"}}
        asked = json.loads(body)
        number = asked["PhoneNumberSet"][0]
        if problem := self._wrong(asked):
            self.wrong.append(problem)
            return 200, _status(number, problem)
        if self.mood is Mood.REFUSES:
            return 200, _status(number, "FailedOperation.TemplateIncorrectOrUnapproved")
        template = self.ids[asked["TemplateId"]]
        params = dict(zip(BLANKS[template], asked["TemplateParamSet"], strict=True))
        ident = self.take(number, asked["TemplateId"], params, asked["SessionContext"])
        return 200, _status(number, "Ok", ident)

    def _unsigned(self, request: web.Request, body: bytes) -> str:
        headers = request.headers
        found = re.match(
            r"TC3-HMAC-SHA256 Credential=([^/]+)/(\d{4}-\d\d-\d\d)/sms/tc3_request,"
            r" SignedHeaders=([a-z;-]+), Signature=([0-9a-f]{64})\Z",
            headers.get("Authorization", ""),
        )
        if found is None:
            return "AuthFailure.SignatureFailure"
        secret_id, day, names, given = found.groups()
        if secret_id != self.SECRET_ID:
            return "AuthFailure.SecretIdNotFound"
        if not {"content-type", "host"} <= set(names.split(";")):
            return "AuthFailure.SignatureFailure"
        stamp = int(headers["X-TC-Timestamp"])
        if abs(stamp - self.now().timestamp()) > 300:
            return "AuthFailure.SignatureExpire"
        if datetime.fromtimestamp(stamp, UTC).strftime("%Y-%m-%d") != day:
            return "AuthFailure.SignatureFailure"
        if headers["X-TC-Version"] != "2021-01-11" or not headers.get("X-TC-Region"):
            return "InvalidParameter"
        lines = "".join(f"{name}:{headers[name].strip().lower()}\n" for name in names.split(";"))
        canonical = f"{request.method}\n/\n\n{lines}\n{names}\n{_sha256(body)}"
        text = f"TC3-HMAC-SHA256\n{stamp}\n{day}/sms/tc3_request\n{_sha256(canonical.encode())}"
        key = f"TC3{self.SECRET_KEY}".encode()
        for word in (day, "sms", "tc3_request"):
            key = hmac.new(key, word.encode(), "sha256").digest()
        made = hmac.new(key, text.encode(), "sha256").hexdigest()
        return "" if made == given else "AuthFailure.SignatureFailure"

    def _wrong(self, asked: Mapping[str, Any]) -> str:
        known = {"PhoneNumberSet", "SmsSdkAppId", "TemplateId", "TemplateParamSet", "SignName",
                 "SessionContext", "ExtendCode"}  # fmt: skip
        if set(asked) - known:
            return "UnknownParameter"
        if not re.fullmatch(r"\+[1-9]\d{6,14}", asked["PhoneNumberSet"][0]):
            return "InvalidParameterValue.IncorrectPhoneNumber"
        if asked.get("SmsSdkAppId") != self.APP:
            return "UnauthorizedOperation.SmsSdkAppIdVerifyFail"
        if asked.get("SignName") != self.SIGN:
            return "FailedOperation.SignatureIncorrectOrUnapproved"
        if asked.get("TemplateId") not in self.ids:
            return "FailedOperation.TemplateIncorrectOrUnapproved"
        blanks = BLANKS[self.ids[asked["TemplateId"]]]
        if len(asked["TemplateParamSet"]) != len(blanks):
            return "FailedOperation.TemplateParamSetNotMatchApprovedTemplate"
        return ""


def _error(code: str) -> dict[str, Any]:
    return {"Response": {"Error": {"Code": code, "Message": code}, "RequestId": "r"}}


def _status(number: str, code: str, ident: str = "") -> dict[str, Any]:
    status = {
        "SerialNo": ident, "PhoneNumber": number, "Fee": 1, "SessionContext": "", "Code": code,
        "Message": code, "IsoCode": "CN",
    }  # fmt: skip
    return {"Response": {"SendStatusSet": [status], "RequestId": "r"}}
