"""Calls of WeChat's API: raw UTF-8 JSON out, errcode understood on the way back.

A call has a deadline. Of a call that changes something at WeChat and has no clear answer nobody
knows whether it was carried out: that is OutcomeUnknown, and nothing here repeats it. A token
that WeChat refuses is replaced once, and the call made once more: it surely was not carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import msgspec

from connectors.wechat import errors
from connectors.wechat.settings import WechatSettings
from connectors.wechat.tokens import Tokens
from hub import ConnectorContext
from normalizer.outcomes import (
    Failure,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
)

TIMEOUT = aiohttp.ClientTimeout(total=10, connect=3)
MAX_ANSWER_BYTES = 2 * 1024 * 1024
MAX_WAIT_S = 3600.0

Said = Mapping[str, Any]
MakeForm = Callable[[], aiohttp.FormData]


class Refusal(Exception):
    """WeChat answered an errcode. ``said`` is its errmsg, without the token."""

    def __init__(self, number: int, said: str) -> None:
        super().__init__(number)
        self.number = number
        self.said = said


class Api:
    """The API of one account."""

    def __init__(self, settings: WechatSettings, context: ConnectorContext, tokens: Tokens) -> None:
        self._settings = settings
        self._context = context
        self._tokens = tokens

    async def get(self, path: str, **query: str) -> Said:
        """Ask for something. Raises a Failure; whatever has no answer is Temporary."""
        return await self._authorised("GET", path, query=query)

    async def post(self, path: str, body: Mapping[str, Any], *, sends: bool = False) -> Said:
        """Post JSON. With ``sends`` a lost answer is OutcomeUnknown, else Temporary.

        Raises :class:`Refusal` for an errcode whose meaning only the caller knows: those that
        stand for a success, and 40007, after which files can be given again.
        """
        # WeChat shows \\uXXXX to people as it stands, and refuses some of it (40033).
        return await self._authorised("POST", path, data=msgspec.json.encode(body), sends=sends)

    async def upload(self, kind: str, form: MakeForm) -> Said:
        """Give WeChat a file. It keeps it three days."""
        return await self._authorised(
            "POST", "/cgi-bin/media/upload", query={"type": kind}, form=form
        )

    async def token(self) -> str:
        return await self._tokens.current()

    # --- one call, with another token if need be -------------------------------------------------

    async def _authorised(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        data: bytes | None = None,
        form: MakeForm | None = None,
        sends: bool = False,
    ) -> Said:
        token = await self._tokens.current()
        for again in (False, True):
            try:
                return await self._call(
                    method,
                    path,
                    query={**(query or {}), "access_token": token},
                    data=form() if form is not None else data,
                    sends=sends,
                    token=token,
                )
            except Refusal as refusal:
                if refusal.number in errors.TOKEN_REFUSED and not again:
                    token = await self._tokens.replaced(token)
                    continue
                if refusal.number in (errors.MEDIA_UNKNOWN, errors.DUPLICATE):
                    raise
                raise self.failure(refusal) from None
        raise AssertionError("the second call returns or raises")

    def failure(self, refusal: Refusal) -> Failure:
        return errors.failure(refusal.number, refusal.said, self._context.clock.now())

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        data: bytes | aiohttp.FormData | None,
        sends: bool,
        token: str,
    ) -> Said:
        lost: type[Failure] = OutcomeUnknown if sends else Temporary
        headers = {"Content-Type": "application/json; charset=utf-8"}
        try:
            async with self._context.http.request(
                method,
                f"{self._settings.api_url.rstrip('/')}{path}",
                params=query,
                data=data,
                headers=headers if isinstance(data, bytes) else None,
                timeout=TIMEOUT,
                allow_redirects=False,
            ) as response:
                refuse_status(response, lost)
                return self._understood(path, await read_bounded(response), lost, token)
        # An error of the client's may quote the URL, and with it the token: its name must do.
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Temporary(f"WeChat cannot be reached: {type(error).__name__}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise lost(f"WeChat gave no answer to {path}: {type(error).__name__}") from None

    def _understood(self, path: str, body: bytes, lost: type[Failure], token: str) -> Said:
        try:
            said = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise lost(f"WeChat answered {path} with something that is no JSON object")
        number, words = said.get("errcode", 0), str(said.get("errmsg", ""))
        if not isinstance(number, int) or isinstance(number, bool):
            raise lost(f"WeChat answered {path} with an errcode that is no number")
        if number == 0:
            return said
        words = words.replace(token, "***")
        self._context.log.info("wechat_refused", path=path, errcode=number, rid=errors.rid(words))
        raise Refusal(number, words)


def refuse_status(
    response: aiohttp.ClientResponse,
    lost: type[Failure],
    *,
    whose: str = "WeChat",
    look_at: str = "api_url",
) -> None:
    """Raise for every status but 200: those that proxies and overloaded servers answer with."""
    status = response.status
    if status == 200:
        return
    if status == 429:
        wait = response.headers.get("Retry-After", "")
        seconds = float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 8 else 60.0
        raise RateLimited(f"{whose} asks to wait", retry_after=min(seconds, MAX_WAIT_S), code="429")
    if status == 503:
        raise Temporary(f"{whose} takes nothing at the moment (status 503)", code="503")
    if status >= 500:
        raise lost(f"{whose} failed with status {status}", code=str(status))
    if status in (401, 403, 404, 407):
        raise Misconfigured(
            f"{response.url.host} answered {status}: look at {look_at}, and at proxies between",
            code=str(status),
        )
    raise Rejected(f"{whose} answered with status {status}", code=str(status))


async def read_bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise aiohttp.ClientPayloadError("the answer is too long")
    return bytes(body)
