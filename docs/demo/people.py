"""Who plays in the demo: a customer on six channels, and an agent with an API key.

The customer's requests come through the hub's real doors, signed as the vendors sign them.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import Any
from urllib.parse import urlencode

import aiohttp
import jwt

from connectors.wechat import samples as wechat
from connectors.wechat.settings import WechatSettings
from connectors.weibo import samples as weibo
from connectors.weibo.settings import WeiboSettings
from docs.demo.vendors import Vendors
from hub import Request
from hub.clock import SystemClock
from tests.ivr.fake_twilio import Call, sign

SITE = "/site/shop"
WITHIN_S = 20.0
FORM = "application/x-www-form-urlencoded; charset=UTF-8"


def say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def until(goal: str, found: Callable[[], Awaitable[Any]]) -> Any:
    """Return what ``found`` returns as soon as that is something."""
    ends = time.monotonic() + WITHIN_S
    while not (result := await found()):
        if time.monotonic() > ends:
            raise SystemExit(f"the demo waited {WITHIN_S:.0f} s for {goal}")
        await asyncio.sleep(0.05)
    return result


class Customer:
    """李伟 Li Wei, with his browser, his mailbox, his phone, WeChat and Weibo."""

    openid = "oHubUser0001"
    fan = 5550001234
    number = "+8613800138000"
    mailbox = "li.wei@example.com"

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        vendors: Vendors,
        accounts: tuple[WechatSettings, WeiboSettings],
    ) -> None:
        self._http = http
        self._url = url
        self._vendors = vendors
        self._wechat, self._weibo = accounts
        self._clock = SystemClock()
        self._origin = {"Origin": url}
        self._token = ""

    # --- the shop's site -------------------------------------------------------------------------

    async def arrives(self, identity_token: str = "", visitor_token: str = "") -> str:
        body = {
            "page": {"url": f"{self._url}/demo", "title": "Tea shop"},
            "locale": "zh-CN",
            "identity_token": identity_token,
            "visitor_token": visitor_token,
        }
        async with self._http.post(
            f"{self._url}{SITE}/sessions", json=body, headers=self._origin
        ) as answer:
            answer.raise_for_status()
            opened = await answer.json()
        self._token = opened["access_token"]
        return str(opened.get("visitor_token", ""))

    async def writes(self, text: str) -> None:
        headers = {
            **self._origin,
            "Authorization": f"Bearer {self._token}",
            "Idempotency-Key": str(uuid.uuid4()),
        }
        body = {"parts": [{"type": "text", "text": text}]}
        async with self._http.post(
            f"{self._url}{SITE}/conversations/new/messages", json=body, headers=headers
        ) as answer:
            answer.raise_for_status()
        say(f"  site     < {text}")

    # --- mail ------------------------------------------------------------------------------------

    async def mails(self, subject: str, text: str) -> None:
        """The mail server has checked where it came from, and says so."""
        mail = EmailMessage()
        mail["Authentication-Results"] = "mx.hub.test; dmarc=pass header.from=example.com"
        mail["From"] = f"Li Wei <{self.mailbox}>"
        mail["To"] = "shop@hub.test"
        mail["Subject"] = subject
        mail["Date"] = format_datetime(datetime.now(UTC))
        mail["Message-ID"] = make_msgid(domain="example.com")
        mail.set_content(text)
        self._vendors.imap.add(mail.as_bytes())
        say(f"  mail     < {subject}: {text}")

    # --- WeChat and Weibo ------------------------------------------------------------------------

    async def wechats(self, text: str) -> None:
        ident = f"{time.time_ns()}"[:17]
        inner = (
            f"<MsgType>text</MsgType><Content><![CDATA[{text}]]></Content><MsgId>{ident}</MsgId>"
        )
        body = wechat.body_of(self._wechat, self._clock, inner, sender=self.openid)
        await self._push(
            "/in/wechat/shop", wechat.push(self._wechat, self._clock, ident, body).request
        )
        say(f"  wechat   < {text}")

    async def weibos(self, text: str) -> None:
        fields = {"text": text, "sender_id": self.fan}
        now = self._clock.now()
        query = weibo.signed_query(self._weibo, now, uuid.uuid4().hex[:8])
        body = weibo.push_body(self._weibo.uid, now, fields)
        secret = self._weibo.path_secret
        assert secret is not None
        await self._post(f"/in/weibo/shop/{secret.reveal()}?{query}", body, {})
        say(f"  weibo    < {text}")

    # --- the phone -------------------------------------------------------------------------------

    async def texts(self, text: str) -> None:
        settings = self._vendors.settings
        fields = {
            "AccountSid": settings["TWILIO_SID"],
            "MessageSid": f"SM{uuid.uuid4().hex}",
            "From": self.number,
            "To": settings["TWILIO_NUMBER"],
            "Body": text,
            "NumMedia": "0",
            "FromCity": "",
        }
        url = f"{self._url}/in/sms/shop"
        headers = {"X-Twilio-Signature": sign(url, list(fields.items())), "Content-Type": FORM}
        await self._post("/in/sms/shop", urlencode(fields).encode(), headers)
        say(f"  sms      < {text}")

    async def calls(self, keys: Sequence[str]) -> None:
        """Call the hotline, press keys, and hang up."""
        call = Call(
            self._voice,
            door=f"{self._url}/in/ivr/hotline",
            number=uuid.uuid4().int % (1 << 60),
            caller=self.number,
            now=self._clock.now,
        )
        await call.rings()
        for key in keys:
            heard = call.heard[-1] if call.heard else ""
            say(f"  phone    > {heard}")
            await call.presses(key)
            say(f"  phone    < (presses {key})")
        if not call.over:
            await call.hangs_up()
        await call.deliver()

    async def _voice(
        self, url: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, str, bytes]:
        async with self._http.post(url, data=body, headers=headers) as answer:
            return answer.status, answer.headers.get("Content-Type", ""), await answer.read()

    async def _push(self, door: str, request: Request) -> None:
        path = f"{door}{request.path}?{request.query_string}"
        await self._post(path, request.body, request.headers)

    async def _post(self, path: str, body: bytes, headers: Mapping[str, str]) -> None:
        async with self._http.post(
            f"{self._url}{path}", data=body, headers=dict(headers)
        ) as answer:
            if answer.status != 200:
                raise SystemExit(f"the hub answered {answer.status} to {path.partition('?')[0]}")


class Agent:
    """Somebody at the shop, with an API key."""

    def __init__(self, http: aiohttp.ClientSession, url: str, key: str) -> None:
        self._http = http
        self._api = f"{url}/api/v1"
        self._headers = {"Authorization": f"Bearer {key}"}

    async def newest_customer(self) -> str:
        found = await self._get("/customers", limit="1")
        return str(found["customers"][0]["id"])

    async def answers(self, customer: str, channel: str, text: str) -> None:
        """Answer on a channel, and wait until the vendor has taken it."""
        told = await self._post(
            f"/customers/{customer}/replies",
            {
                "channel": channel,
                "parts": [{"type": "text", "text": text}],
                "agent": "mei",
                "agent_name": "小梅 Mei",
            },
        )

        async def state() -> str:
            found = await self._get(f"/entries/{told['entry_id']}")
            name = (found["entry"]["delivery"] or {}).get("state", "queued")
            return "" if name in ("queued", "sending") else str(name)

        became = await until("an answer to leave", state)
        say(f"  {channel:<8} > {text}   [{became}]")

    async def notes(self, customer: str, text: str) -> None:
        await self._post(f"/customers/{customer}/notes", {"text": text})
        say(f"  (note)     {text}")

    async def code(self, customer: str) -> str:
        """Make a one-time code: whoever tells it on another channel is this customer."""
        return str((await self._post(f"/customers/{customer}/codes", {}))["code"])

    async def sees(self, customer: str, channel: str, count: int = 1) -> None:
        """Wait until the customer's timeline has entries of a channel."""

        async def there() -> bool:
            page = await self._get(f"/customers/{customer}/timeline", channel=channel, limit="50")
            return len(page["entries"]) >= count

        await until(f"{channel} in the customer's timeline", there)

    async def _get(self, path: str, **params: str) -> Any:
        async with self._http.get(
            f"{self._api}{path}", params=params, headers=self._headers
        ) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        headers = {**self._headers, "Idempotency-Key": str(uuid.uuid4())}
        async with self._http.post(f"{self._api}{path}", json=body, headers=headers) as answer:
            if answer.status >= 400:
                raise SystemExit(f"POST {path}: {answer.status} {await answer.text()}")
            return await answer.json()


def identity_token(user: str, key: str) -> str:
    """What the shop's own server signs when somebody logs in; it has verified the mailbox."""
    now = int(time.time())
    claims = {
        "iss": "demo-shop", "sub": user, "aud": "omniline", "iat": now, "exp": now + 300,
        "jti": str(uuid.uuid4()), "name": "李伟 Li Wei", "email": Customer.mailbox,
        "email_verified": True,
    }  # fmt: skip
    return jwt.encode(claims, key, algorithm="HS256", headers={"kid": "k1"})
