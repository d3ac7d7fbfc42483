"""Asking a token endpoint for an access token, and what its refusals mean.

One POST, no redirects, at most 64 KiB back (RFC 6749, sections 4.4, 5 and 6). The table below
holds the errors of section 5.2 and those that Microsoft adds; whatever is quoted of an answer is
short, and holds none of our secrets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec

from connectors.mail.oauth_settings import OAuth
from normalizer.outcomes import Failure, Misconfigured, RateLimited, Temporary
from normalizer.text import clean_line

TIMEOUT = aiohttp.ClientTimeout(total=10, connect=4)
MAX_ANSWER_BYTES = 64 * 1024
LEAST_LIFE_S, LONGEST_LIFE_S = 60.0, 24 * 3600.0
UNTOLD_LIFE_S = 3600.0  # where expires_in is left out; a refused token is renewed before its time
BUSY_S, LONGEST_BUSY_S = 60.0, 3600.0

_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}\Z")

_CONSENT = (
    "the refresh token does not hold any more: it ended, was taken back, or the password was"
    " changed. Let the mailbox's owner consent again, and put the new one into oauth.refresh_token"
)
_APP = (
    "the app is not known, or its secret is wrong or has ended: look at oauth.client_id and"
    " oauth.client_secret (the secret's value, not its id)"
)
_RIGHTS = (
    "the app may not have such a token: give it the rights for IMAP and SMTP, let an administrator"
    " consent, and look at oauth.scope"
)
_REQUEST = "the request does not fit: look at oauth.token_url, tenant and scope"
REMEDIES: Mapping[str, str] = {
    "invalid_grant": _CONSENT,
    "interaction_required": _CONSENT,
    "login_required": _CONSENT,
    "consent_required": _RIGHTS,
    "access_denied": _RIGHTS,
    "unauthorized_client": _RIGHTS,
    "invalid_scope": _RIGHTS,
    "invalid_resource": _RIGHTS,
    "invalid_client": _APP,
    "invalid_request": _REQUEST,
    "unsupported_grant_type": _REQUEST,
}
_PASSING = frozenset({"temporarily_unavailable", "server_error", "slow_down"})


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint gave. ``refresh`` is "" where the refresh token stays what it was."""

    access: str
    refresh: str
    expires_in: float  # seconds

    def __repr__(self) -> str:
        return "Granted(***)"


async def ask(
    http: aiohttp.ClientSession, oauth: OAuth, *, refresh_token: str, scope: str
) -> Granted:
    """Fetch an access token: with ``refresh_token``, or by the app's own rights where it is "".

    Raises Misconfigured, RateLimited or Temporary; none of them holds a secret.
    """
    form = {"client_id": oauth.client_id}
    if oauth.client_secret is not None:
        form["client_secret"] = oauth.client_secret.reveal()
    if refresh_token:
        form |= {"grant_type": "refresh_token", "refresh_token": refresh_token}
    else:
        form["grant_type"] = "client_credentials"
    if scope:
        form["scope"] = scope
    try:
        async with http.post(
            oauth.url,
            data=form,
            headers={"Accept": "application/json"},
            timeout=TIMEOUT,
            allow_redirects=False,
        ) as response:
            status, headers = response.status, response.headers
            body = await _bounded(response)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Temporary(
            f"no access token can be fetched, {_host(oauth)} gives no answer:"
            f" {type(error).__name__}"
        ) from None
    said = _decoded(body)
    if status == 200 and said is not None and "access_token" in said:
        return _granted(said, oauth)
    raise _refusal(oauth, status, headers.get("Retry-After", ""), said, (refresh_token,))


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise aiohttp.ClientPayloadError("the answer is too long")
    return bytes(body)


def _decoded(body: bytes) -> Mapping[str, Any] | None:
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _granted(said: Mapping[str, Any], oauth: OAuth) -> Granted:
    access, refresh = said["access_token"], said.get("refresh_token")
    kind = said.get("token_type", "Bearer")
    if not isinstance(access, str) or not _TOKEN.match(access):
        raise Temporary(f"{_host(oauth)} answered with an access token that no login can carry")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise Misconfigured(
            f"{_host(oauth)} gives tokens of another kind than Bearer, which mail servers do not"
            " take: look at oauth.token_url"
        )
    return Granted(
        access=access,
        refresh=refresh if isinstance(refresh, str) and _TOKEN.match(refresh) else "",
        expires_in=_life(said.get("expires_in")),
    )


def _life(told: Any) -> float:
    """Return the seconds that a token lives; some endpoints write the number as a text."""
    if isinstance(told, str) and re.fullmatch(r"[0-9]{1,9}", told):
        told = int(told)
    if not isinstance(told, int | float) or isinstance(told, bool) or not told > 0:
        return UNTOLD_LIFE_S
    return min(max(float(told), LEAST_LIFE_S), LONGEST_LIFE_S)


def _refusal(
    oauth: OAuth,
    status: int,
    retry_after: str,
    said: Mapping[str, Any] | None,
    secrets: tuple[str, ...],
) -> Failure:
    host = _host(oauth)
    error = _word(said, "error")
    quoted = ""
    if said is not None:
        quoted = ": ".join(filter(None, (error, _word(said, "error_description"))))
        for secret in filter(None, (*oauth.secrets, *secrets)):
            quoted = quoted.replace(secret, "***")
        quoted = clean_line(quoted, 300)  # cut last: a secret's half would not be found
    told = f" ({quoted})" if quoted else ""
    if status == 429:
        return RateLimited(
            f"{host} has had enough of asking for tokens{told}",
            retry_after=_wait_s(retry_after),
            code="429",
        )
    if status >= 500 or status == 408 or error in _PASSING:
        return Temporary(f"{host} gives no access token now, status {status}{told}")
    if error in REMEDIES:
        return Misconfigured(f"{host} refuses an access token{told}: {REMEDIES[error]}", code=error)
    if error:
        return Misconfigured(
            f"{host} refuses an access token{told}: look at the settings in oauth", code=error
        )
    if 300 <= status < 400:
        return Misconfigured(
            f"{host} sends us elsewhere, status {status}: set oauth.token_url to the place itself"
        )
    return Misconfigured(
        f"{host} does not answer like a token endpoint, status {status}: look at oauth.token_url"
        " and tenant"
    )


def _word(said: Mapping[str, Any] | None, name: str) -> str:
    value = (said or {}).get(name)
    return value if isinstance(value, str) else ""


def _wait_s(told: str) -> float:
    if re.fullmatch(r"[0-9]{1,9}", told):
        return min(max(float(told), 1.0), LONGEST_BUSY_S)
    return BUSY_S


def _host(oauth: OAuth) -> str:
    # The whole URL may hold a tenant's name, which says nothing here.
    return oauth.url.partition("//")[2].partition("/")[0]
