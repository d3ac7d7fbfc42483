"""Weibo's API: answers, files, profiles. Everything raised is one of normalizer.outcomes.

The token goes into the form of an answer. Files and profiles are documented with the token in
the query, so no URL of theirs is ever told or logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urljoin

import aiohttp

from connectors.weibo.composing import Call
from connectors.weibo.errors import (
    ALARMS,
    TokenRefused,
    failure_of,
    failure_of_status,
    json_object,
    read_error,
)
from connectors.weibo.settings import WeiboSettings
from connectors.weibo.tokens import Brake
from hub import ConnectorContext, Fetched
from normalizer.media import mime_type
from normalizer.outcomes import (
    Failure,
    Gone,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
)

CONNECT_S, TOTAL_S, FILE_S = 3.0, 10.0, 120.0
SENDS_PER_SECOND = 5.0
MOST_AHEAD_S = 3.0
MOST_ANSWER_BYTES = 64 * 1024
FILE_HOSTS = ("*.weibo.com", "*.weibo.cn", "*.sinaimg.cn", "*.sina.com.cn")  # unverified
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class WeiboClient:
    """One account's calls, at most five a second."""

    def __init__(self, settings: WeiboSettings, context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context
        self._brake = Brake(context.clock)
        self._turn = 0.0  # of the event loop's clock

    # --- answers -------------------------------------------------------------------------------

    async def reply(self, uid: str, call: Call) -> None:
        """Send one message, once. Returns when Weibo took it."""
        form = {
            "access_token": self._token(),
            "type": call.type,
            "data": call.json,
            "receiver_id": uid,
            "save_sender_box": "1" if self._settings.save_sender_box else "0",
        }
        await self._wait_for_turn()
        try:
            async with self._context.http.post(
                self._settings.reply_url,
                data=form,  # encoded for the form here, and nowhere else
                timeout=_timeout(TOTAL_S),
                allow_redirects=False,
            ) as response:
                status, headers = response.status, response.headers
                body = await _read(response)
        except _NOT_SENT as error:
            raise Temporary("Weibo cannot be reached") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OutcomeUnknown("Weibo took the message and did not answer") from error
        self._raise_for(status, headers, body)
        fields = json_object(body)
        if fields is None:
            raise OutcomeUnknown("Weibo took the message, and its answer cannot be read")
        if fields.get("result") in (False, "false"):
            raise Rejected("Weibo refuses the message, and does not say why", code="result_false")

    # --- profiles ------------------------------------------------------------------------------

    async def profile(self, uid: str) -> Mapping[str, Any]:
        """Return what Weibo tells of a person (``eps/user/info``; the host is unverified)."""
        url = f"{self._settings.api_url.rstrip('/')}/2/eps/user/info.json"
        async with self._asked(url, {"access_token": self._token(), "uid": uid}) as response:
            body = await _read(response)
            self._read(response.status, response.headers, body)
        fields = json_object(body)
        if fields is None:
            raise Temporary("Weibo's answer about a profile cannot be read")
        return fields

    # --- files ---------------------------------------------------------------------------------

    async def media(self, ref: str) -> Fetched:
        """Begin to fetch a file by its ``tovfid``; an error comes as JSON in the file's place."""
        url = f"{self._settings.upload_url.rstrip('/')}/2/mss/msget"
        query = {"access_token": self._token(), "fid": ref}
        response = await self._get(url, query, FILE_S)
        try:
            if response.status in _REDIRECTS:
                place = urljoin(url, response.headers.get("Location", ""))
                response.close()
                return await self._context.fetch(place, hosts=FILE_HOSTS)
            first = await _first(response)
            if response.status != 200 or _looks_like_json(response, first):
                body = first + await _read(response)
                self._read_file_error(response, body)
        except BaseException:
            response.close()
            raise
        compressed = "Content-Encoding" in response.headers
        return Fetched(
            stream=_stream(response, first),
            mime=mime_type(response.headers.get("Content-Type", "")),
            size=None if compressed else response.content_length,
        )

    def _read_file_error(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        if read_error(body) is None and response.status in (404, 410):
            raise Gone("Weibo no longer has the file", code=str(response.status))
        self._read(response.status, response.headers, body)
        raise Rejected("Weibo sent words in the place of the file")

    # -------------------------------------------------------------------------------------------

    def _token(self) -> str:
        """Return the token. Raises Misconfigured where there is none, or it was refused."""
        token = self._settings.access_token
        if token is None:
            raise Misconfigured(
                "access_token is not set: the developer-mode page shows it once it has checked"
                " the URL"
            )
        self._brake.check()
        return token.reveal()

    async def _wait_for_turn(self) -> None:
        """Keep the account's pace. Raises RateLimited when too many wait already."""
        now = asyncio.get_running_loop().time()
        wait_s = max(0.0, self._turn - now)
        if wait_s > MOST_AHEAD_S:
            raise RateLimited("too many answers at once; they leave one by one", retry_after=wait_s)
        self._turn = now + wait_s + 1 / SENDS_PER_SECOND
        if wait_s:
            await asyncio.sleep(wait_s)

    @asynccontextmanager
    async def _asked(
        self, url: str, query: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        response = await self._get(url, query, TOTAL_S)
        try:
            yield response
        except (aiohttp.ClientError, TimeoutError):
            raise Temporary("Weibo's answer broke off") from None
        finally:
            response.close()

    async def _get(
        self, url: str, query: Mapping[str, str], total_s: float
    ) -> aiohttp.ClientResponse:
        """Ask for something. What aiohttp says of it names the URL, so it is not chained."""
        try:
            return await self._context.http.get(
                url,
                params=query,
                headers={"Accept-Encoding": "identity"},
                timeout=_timeout(total_s),
                allow_redirects=False,
            )
        except (aiohttp.ClientError, TimeoutError):
            raise Temporary("Weibo cannot be reached") from None

    def _read(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Raise for an error where asking again does no harm."""
        try:
            self._raise_for(status, headers, body)
        except OutcomeUnknown as unknown:
            raise Temporary(unknown.reason, code=unknown.code) from unknown

    def _raise_for(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        error = read_error(body)
        if error is None:
            failure = failure_of_status(status, headers.get("Retry-After", ""))
        else:
            failure = failure_of(error, self._context.clock.now())
        if failure is None:
            self._brake.worked()
            return
        self._without_token(failure)
        if failure.code in ALARMS:
            self._context.log.error("weibo_refuses_us", code=failure.code, reason=failure.reason)
        if isinstance(failure, TokenRefused):
            self._brake.refused(failure)
            self._context.log.error("weibo_token_refused", code=failure.code)
        raise failure

    def _without_token(self, failure: Failure) -> None:
        token = self._settings.access_token
        if token is not None:
            failure.reason = failure.reason.replace(token.reveal(), "***")
            failure.args = (failure.reason,)


def _timeout(total_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=total_s, connect=CONNECT_S, sock_connect=CONNECT_S)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return the start of a body, as much as any answer has."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MOST_ANSWER_BYTES:
            break
    return bytes(body[:MOST_ANSWER_BYTES])


async def _first(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.content.readany()
    except (aiohttp.ClientError, TimeoutError):
        raise Temporary("the download broke off at its start") from None


def _looks_like_json(response: aiohttp.ClientResponse, first: bytes) -> bool:
    """Say whether an answer is no file: no picture and no voice begins with a brace."""
    declared = mime_type(response.headers.get("Content-Type", ""))
    return declared == "application/json" or first.lstrip()[:1] == b"{"


async def _stream(response: aiohttp.ClientResponse, first: bytes) -> AsyncIterator[bytes]:
    try:
        yield first
        async for chunk in response.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, TimeoutError):
        raise Temporary("the download broke off") from None
    finally:
        response.close()
