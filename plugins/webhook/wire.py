"""One signed request and its answer, and what each way of failing means.

The table of contracts/tickets_model.md section 7 in terms of HTTP. What matters is whether the
receiver *may* have done it: only what surely was not done is Temporary; after that, silence and
unclear answers to a write are OutcomeUnknown, and are looked up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn, TypeVar

import aiohttp
import msgspec

from hub import Clock, NotPublic, PublicResolver
from normalizer.outcomes import (
    Failure,
    Gone,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Temporary,
    Unsupported,
)
from plugins.webhook.messages import Problem
from plugins.webhook.settings import WebhookSettings
from plugins.webhook.signing import Signer

T = TypeVar("T", bound=msgspec.Struct)

CONNECT_S = 5.0
KEPT_ALIVE_S = 10.0
ANSWER_BYTES = 64 * 1024
RETRY_AFTER_S = (1.0, 24 * 3600.0)
LIMITED_S = 30.0  # the pause after a 429 that does not say how long
DETAIL_CHARS = 200
NO_TICKET = "no-such-ticket"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A 2xx or a 409, its body read. ``body`` is None when it was too large or was cut."""

    status: int
    body: bytes | None


class Wire:
    """The way to one receiver. Use it between :meth:`open` and :meth:`close`."""

    def __init__(self, settings: WebhookSettings, clock: Clock, backend: str) -> None:
        self._settings = settings
        self._clock = clock
        self._backend = backend
        self._signer = Signer(settings.secrets)
        self._http: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        guarded = not self._settings.allow_private and self._settings.proxy is None
        connector = aiohttp.TCPConnector(
            resolver=PublicResolver() if guarded else None,
            use_dns_cache=False,  # it is resolved and checked anew for each connection
            limit=0,
            keepalive_timeout=KEPT_ALIVE_S,
        )
        self._http = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(
                total=self._settings.timeout_s,
                sock_connect=min(CONNECT_S, self._settings.timeout_s),
            ),
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept-Encoding",),
        )

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def call(
        self,
        operation: str,
        data: msgspec.Struct,
        ident: str,
        *,
        writes: bool = False,
        signer: Signer | None = None,
    ) -> Answer:
        """Send one operation once, and return the answer that says it is done.

        ``writes``: doing it twice would be seen, so that a doubt about it is OutcomeUnknown.
        Raises the failures of normalizer.outcomes.
        """
        body = msgspec.json.encode({"type": operation, "backend": self._backend, "data": data})
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "Omniline",
            **(signer or self._signer).headers(ident, self._clock.now(), body),
        }
        status, told, answer = await self._exchange(body, headers, writes=writes)
        if 200 <= status < 300 or (status == 409 and writes):
            return Answer(status=status, body=answer)
        raise self._failure(status, told, answer, operation, writes=writes)

    async def _exchange(
        self, body: bytes, headers: Mapping[str, str], *, writes: bool
    ) -> tuple[int, Mapping[str, str], bytes | None]:
        if self._http is None:
            raise Temporary("the backend is not started")
        try:
            async with self._http.post(
                self._settings.url,
                data=body,
                headers=headers,
                allow_redirects=False,
                proxy=self._settings.proxy,
            ) as response:
                return response.status, response.headers, await _bounded(response)
        except aiohttp.ConnectionTimeoutError as error:
            raise Temporary(f"no connection within {CONNECT_S:.0f} s") from error
        except aiohttp.ClientConnectorError as error:
            raise Temporary(_unreached(error)) from error
        except aiohttp.InvalidURL as error:
            raise Misconfigured("url is not an address that can be called") from error
        except TimeoutError as error:
            reason = f"no answer within {self._settings.timeout_s:g} s"
            raise _in_doubt(reason, writes=writes) from error
        except (aiohttp.ClientError, OSError) as error:
            reason = f"the connection broke before the answer was there ({type(error).__name__})"
            raise _in_doubt(reason, writes=writes) from error

    def _failure(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes | None,
        operation: str,
        *,
        writes: bool,
    ) -> Failure:
        problem = _problem(body)
        said = f"the receiver answered {status} to {operation}"
        if problem is not None and problem.detail:
            said += f": {problem.detail[:DETAIL_CHARS]}"
        code = problem.code if problem is not None else ""
        match status:
            case _ if 300 <= status < 400:
                return Misconfigured(
                    f"{said}: redirects are not followed. Set url to where it leads"
                )
            case 401 | 403 | 407:
                return Misconfigured(
                    f"{said}: does it have the same secret, and the right time?", code=code
                )
            case 404 | 410 if problem is not None and _is_gone(status, problem, operation):
                return Gone(said, successor=problem.successor, code=code)
            case 404 | 405 | 410:
                return Misconfigured(f"{said}: does url lead to the receiver?")
            case 425 | 429:
                return RateLimited(said, retry_after=self._pause(headers) or LIMITED_S, code=code)
            case 501:
                return Unsupported(said, code=code)
            case 503:
                pause = self._pause(headers)
                if pause is not None:
                    return RateLimited(said, retry_after=pause, code=code)
                return Temporary(said, code=code)
            case 409:
                return Temporary(said, code=code)
            case 408:
                return _in_doubt(said, writes=writes)
            case _ if status >= 500:
                return _in_doubt(said, writes=writes)
            case _:
                return Rejected(said, code=code)

    def _pause(self, headers: Mapping[str, str]) -> float | None:
        """Return how many seconds ``Retry-After`` asks for; None without one that makes sense."""
        text = headers.get("Retry-After", "").strip()
        if not text:
            return None
        number = text.isascii() and text.isdigit()
        seconds = float(text[:9]) if number else _until(text, self._clock.now())
        if seconds is None:
            return None
        shortest, longest = RETRY_AFTER_S
        return min(max(seconds, shortest), longest)


def read(answer: Answer, kind: type[T], operation: str, *, writes: bool = False) -> T:
    """Return an answer's body. Raises OutcomeUnknown or Misconfigured when it is another one."""
    if answer.body is None:
        _unreadable(operation, f"the answer is cut or has over {ANSWER_BYTES} bytes", writes=writes)
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        what = str(error) if isinstance(error, msgspec.ValidationError) else "it is not JSON"
        _unreadable(operation, what[:DETAIL_CHARS], writes=writes)


def _unreadable(operation: str, what: str, *, writes: bool) -> NoReturn:
    reason = f"the answer to {operation} is not the protocol's: {what}"
    raise OutcomeUnknown(reason) if writes else Misconfigured(reason)


def _in_doubt(reason: str, *, writes: bool) -> Failure:
    return OutcomeUnknown(reason) if writes else Temporary(reason)


async def _bounded(response: aiohttp.ClientResponse) -> bytes | None:
    """Return the body; None when it is too large, or when it broke off behind a whole header."""
    body = bytearray()
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > ANSWER_BYTES:
                response.close()
                return None
    except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError):
        return None
    return bytes(body)


def _unreached(error: aiohttp.ClientConnectorError) -> str:
    cause: Any = error.os_error
    if isinstance(cause, NotPublic) or isinstance(error.__cause__, NotPublic):
        return f"{cause}. Say allow_private = true if the receiver is in your own network"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its TLS certificate is not valid for this name, or its issuer is not known here"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"the name {error.host} cannot be resolved"
    return f"cannot connect to {error.host}:{error.port}: {type(error).__name__}: {cause}"


def _problem(body: bytes | None) -> Problem | None:
    """Return the receiver's own words; None where something else answered, such as a proxy."""
    try:
        return msgspec.json.decode(body or b"", type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is_gone(status: int, problem: Problem, operation: str) -> bool:
    """Tell a ticket that is gone from a wrong URL, where many servers answer 404 with JSON too."""
    about_a_ticket = operation.startswith("entry.") or operation in ("ticket.change", "ticket.read")
    return about_a_ticket and (status == 410 or problem.code == NO_TICKET)


def _until(text: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if moment.tzinfo is None:
        return None
    return (moment - now).total_seconds()
