"""Twilio's REST API: a form is posted, JSON comes back, and every call has a deadline.

Twilio's own async client ignores its timeout, posts again after an error if it is asked to retry,
and drops the headers of a 429, so it is not used. Whatever goes wrong is raised as one of
normalizer.outcomes' failures; what cannot have reached Twilio is never told as in doubt, and what
may have is never told as safe to repeat.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import msgspec

from connectors._twilio import codes
from hub import Secret
from normalizer.outcomes import OutcomeUnknown, Rejected, Temporary

API = "https://api.twilio.com"
VERSION = "2010-04-01"
DEADLINE_S = 15.0  # of one call, from the first byte out to the last byte in
MAX_ANSWER_BYTES = 4 * 1024 * 1024

Form = Sequence[tuple[str, str]]
"""Fields in order; a repeated name is a list (``MediaUrl``, ``StatusCallbackEvent``)."""


class TwilioRest:
    """Calls for one Twilio account. ``user`` is the AccountSid or, better, an API key (``SK...``).

    ``http`` is the context's client. Paths are below the account: ``Messages.json``.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        account_sid: str,
        user: str,
        password: Secret,
        api_url: str = API,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._http = http
        self._base = api_url.rstrip("/")
        self._account_path = f"/{VERSION}/Accounts/{account_sid}"
        self._user = user
        self._password = password
        self._deadline_s = deadline_s

    def authorization(self) -> dict[str, str]:
        """Return the header for this account's own files; never send it to another host."""
        pair = f"{self._user}:{self._password.reveal()}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}

    async def get(self, path: str, query: Form = ()) -> dict[str, Any]:
        """Return what a resource or a list says. Raises a failure; a 5xx is worth another try."""
        return await self._call("GET", path, query=query)

    async def post(self, path: str, form: Form) -> dict[str, Any]:
        """Create or change something, once.

        Raises ``OutcomeUnknown`` when Twilio may have done it: look it up, do not post again.
        """
        return await self._call("POST", path, form=form)

    async def delete(self, path: str) -> None:
        """Delete a resource; that it is gone already is fine."""
        try:
            await self._call("DELETE", path)
        except Rejected as error:
            if error.code not in ("20404", "404"):
                raise

    async def next_page(self, page: dict[str, Any]) -> dict[str, Any] | None:
        """Return the page behind one that ``get`` returned, or None after the last."""
        uri = page.get("next_page_uri")
        if not isinstance(uri, str) or not uri:
            return None
        prefix = f"{self._account_path}/"
        if not uri.startswith(prefix):
            raise Rejected("Twilio's list leads to another account; nothing was read there")
        return await self._call("GET", uri.removeprefix(prefix))

    async def _call(
        self, method: str, path: str, *, query: Form = (), form: Form = ()
    ) -> dict[str, Any]:
        changing = method != "GET"
        url = f"{self._base}{self._account_path}/{path}"
        if query:
            url += f"?{urlencode(query)}"
        headers = {"Accept": "application/json", **self.authorization()}
        body = None
        if method == "POST":
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(form).encode()
        try:
            async with (
                asyncio.timeout(self._deadline_s),
                self._http.request(
                    method, url, data=body, headers=headers, allow_redirects=False
                ) as answer,
            ):
                said = await answer.content.read(MAX_ANSWER_BYTES)
                while not answer.content.at_eof() and len(said) < MAX_ANSWER_BYTES:
                    said += await answer.content.read(MAX_ANSWER_BYTES - len(said))
                status, retry_after = answer.status, answer.headers.get("Retry-After", "")
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Temporary(f"{self._host} cannot be reached: {_kind(error)}") from error
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            if changing:
                raise OutcomeUnknown(
                    f"{self._host} was asked and gave no answer: {_kind(error)}"
                ) from error
            raise Temporary(f"{self._host} gave no answer: {_kind(error)}") from error
        decoded = _json(said)
        if 200 <= status < 300:
            if status != 204 and decoded is None:
                unclear = f"{self._host} answered {status} with something that is no JSON"
                raise OutcomeUnknown(unclear) if changing else Temporary(unclear)
            return decoded or {}
        raise codes.failure(
            status,
            _code(decoded),
            words=str((decoded or {}).get("message", "")),
            retry_after=retry_after,
            changing=changing,
        )

    @property
    def _host(self) -> str:
        return urlsplit(self._base).hostname or "the API"


def _json(said: bytes) -> dict[str, Any] | None:
    try:
        decoded = msgspec.json.decode(said)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return decoded if isinstance(decoded, dict) else None


def _code(decoded: dict[str, Any] | None) -> int | None:
    code = (decoded or {}).get("code")
    return code if isinstance(code, int) else None


def _kind(error: BaseException) -> str:
    """Return what kind of error it was. Its words may hold a URL with a phone number in it."""
    return type(error).__name__
